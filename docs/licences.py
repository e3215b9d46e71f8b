"""Prints the licences of what xkd_ros depends on, from the metadata of the installed packages, as the table of docs/security.md."""

from __future__ import annotations

import re
import sys
from importlib import metadata


def requirements(name: str, extras: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """List (package, extra) that a package asks for; the extra is empty for what it always needs."""
    found = []
    for text in metadata.requires(name) or ():
        package = re.match(r"[A-Za-z0-9._-]+", text)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", text)
        if package and (extra is None or extra[1] in extras):
            found.append((package[0], extra[1] if extra else ""))
    return found


def licence_of(name: str) -> str:
    """Read the licence that a package states: the SPDX expression, its classifier, or its first line."""
    facts = metadata.metadata(name)
    classifiers = [text.rpartition(" :: ")[2] for text in facts.get_all("Classifier") or () if text.startswith("License ::")]
    stated = (facts.get("License") or "").strip().splitlines()
    return facts.get("License-Expression") or "; ".join(classifiers) or (stated[0][:60] if stated else "not stated")


def main() -> int:
    """Print the table; packages that are not installed here are named below it."""
    extras = ("bags", "train", "teach", "sim", "view", "ros")
    sys.stdout.write("| package | version | licence | needed for |\n|---|---|---|---|\n")
    absent = []
    for name, extra in sorted(set(requirements("xkd_ros", extras)), key=lambda item: (item[1], item[0].lower())):
        try:
            row = f"| {name} | {metadata.version(name)} | {licence_of(name)} | {extra or 'every robot'} |\n"
        except metadata.PackageNotFoundError:
            absent.append(name)
            continue
        sys.stdout.write(row)
    if absent:
        sys.stdout.write(f"\nNot installed here: {', '.join(absent)}.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

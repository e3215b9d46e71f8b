"""Texts of launch arguments → what the launch files need, with errors that name the argument. Knows nothing of launch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

Given = Mapping[str, str]
"""Launch arguments by name."""


def true(given: Given, name: str) -> bool:
    """Read true or false.

    Raises:
        RuntimeError: it is neither; launch shows that as one line.
    """
    try:
        value = yaml.safe_load(given[name])
    except yaml.YAMLError:
        value = None
    if not isinstance(value, bool):
        raise RuntimeError(f"launch argument {name} got '{given[name]}', expected true or false")
    return value


def number(given: Given, name: str, kind: type[int] | type[float] = float) -> float:
    """Read a number.

    Raises:
        RuntimeError: it is none, or none of this kind.
    """
    try:
        return kind(given[name])
    except ValueError as error:
        raise RuntimeError(f"launch argument {name} got '{given[name]}', expected {'a whole' if kind is int else 'a'} number") from error


def parameter_file(given: Given, name: str) -> str:
    """Read the path of a parameter file; launch itself goes on with defaults where there is none.

    Raises:
        RuntimeError: there is no such file.
    """
    if not Path(given[name]).is_file():
        raise RuntimeError(f"launch argument {name} got '{given[name]}', which is no file")
    return given[name]


def log_level(given: Given, node: str) -> list[str]:
    """Write the arguments that set the level of a node's logger, which carries the namespace in its name."""
    parts = [part for part in given.get("namespace", "").split("/") if part]
    return ["--log-level", f"{'.'.join([*parts, node])}:={given['log_level']}"]

"""Gathers the findings, prints them as one page, and says by the exit status whether something is wrong."""

from __future__ import annotations

import json as json_module
from itertools import groupby
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from xkd_ros.core.files import write_atomic
from xkd_ros.core.share import find_model
from xkd_ros.pipeline.doctor.finding import Finding
from xkd_ros.pipeline.doctor.machine import examine_machine, examine_packages
from xkd_ros.pipeline.doctor.models import examine_models, list_models
from xkd_ros.pipeline.doctor.ros import examine_ros, find_place, remove_leaked_segments
from xkd_ros.pipeline.progress import console

_SIGNS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "wrong": "[bold red]wrong[/]"}


def run_doctor(model: str | None, json: Path | None, run: bool = False, clean: bool = False) -> int:
    """Examine this machine and print the page.

    Args:
        model: A model to look at besides those that come with the package; None for those alone.
        json: File for the findings.
        run: Let every backend label a scan.
        clean: First remove shared memory that killed processes left.
    Returns:
        1 when something is wrong, else 0.
    Raises:
        ModelError: there is no such model.
    """
    if clean:
        console.print(f"removed {remove_leaked_segments() / 1e6:.0f} MB that killed processes left in shared memory")
    folders = list_models() if model is None else [find_model(model)]
    with console.status("looking around"):
        findings = [*examine_machine(), *examine_ros(), *examine_models(folders, run), *examine_packages(find_place()[0])]
    console.print(_render(findings))
    wrong = sum(finding.level == "wrong" for finding in findings)
    console.print(f"{wrong} wrong" if wrong else "nothing is wrong", style="bold red" if wrong else "bold green")
    if json is not None:
        write_atomic(json, json_module.dumps([finding.as_dict() for finding in findings], indent=1) + "\n")
    return min(wrong, 1)


def _render(findings: list[Finding]) -> Table:
    table = Table(title="xkd doctor", title_justify="left")
    for column in ("", "what", "found", "to do"):
        table.add_column(column, overflow="fold")
    for area, group in groupby(sorted(findings, key=lambda finding: _ORDER.index(finding.area)), lambda finding: finding.area):
        table.add_section()
        table.add_row("", f"[bold]{area}[/]", "", "")
        for finding in group:
            table.add_row(_SIGNS[finding.level], escape(finding.what), escape(finding.found), escape(finding.remedy))
    return table


_ORDER = ("machine", "ROS", "models", "packages")

"""What `xkd inspect` and `xkd calib` print and write; the work is in `bags/`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xkd_ros.bags.calibration import calib
from xkd_ros.bags.inspection import inspect
from xkd_ros.bags.overlay import calib_check
from xkd_ros.bags.report import BagReport, Need
from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.progress import console

_PICTURES = (".png", ".jpg", ".jpeg")


def print_inspection(bag: Path, points: str | None = None, rig: Path | None = None) -> None:
    """Print what a recording holds, what pairs, what is missing and what to do.

    Raises:
        BagError: the recording cannot be opened.
    """
    with console.status(f"reading {bag}"):
        report = inspect(bag, points, rig)
    console.print(_render(report))


def write_rig(bag: Path, out: Path, points: str | None = None, rig: Path | None = None) -> None:
    """Write the rig of a recording and say what is in it.

    Raises:
        CalibrationError: no camera of the recording is calibrated.
        ConfigError: the file exists: it may hold a calibration that somebody made with care.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already; choose another name with -o, or remove it")
    found = calib(bag, out, points, rig)
    cameras = ", ".join(f"{camera.name} ({camera.model}, {camera.width}x{camera.height})" for camera in found.cameras)
    console.print(f"wrote {out}: lidar {found.lidar.topic}, cameras: {cameras or 'none'}")
    console.print(f"look at it: xkd calib {bag} --check --rig {out} -o overlay.png")


def write_overlay(bag: Path, rig: Path | None, out: Path, points: str | None = None) -> None:
    """Write the picture that shows whether a calibration is right.

    Raises:
        CalibrationError: nothing to project with.
        ConfigError: the file to write is no picture.
    """
    if out.suffix.lower() not in _PICTURES:
        raise ConfigError(f"{out} is no name of a picture; write one that ends in {' or '.join(_PICTURES)}")
    for check in calib_check(bag, rig, out, points=points):
        inside = ", ".join(f"{seen} ({hidden} hidden)" for seen, hidden in zip(check.in_image, check.hidden))
        turn = (
            "too few edges to tell"
            if check.yaw_error_deg is None
            else f"edges fit best turned by {check.yaw_error_deg:+.2f} deg (0 is right)"
        )
        console.print(f"{check.camera}: {check.pairs} pairs, points in the drawn images: {inside}; {turn}")
        if check.problem:
            console.print(check.problem, style="red", markup=False)
    console.print(f"wrote {out}: depth edges must fall on image edges")


def _render(report: BagReport) -> Group:
    head = Text(f"{report.path}: {report.size_bytes / 1e6:.1f} MB, {report.duration_s:.1f} s", style="bold")
    topics = Table(title="topics", title_justify="left")
    for column in ("topic", "type", "messages", "Hz"):
        topics.add_column(column, justify="right" if column in ("messages", "Hz") else "left", overflow="fold")
    for row in report.topics:
        topics.add_row(row.name, row.type, str(row.count), "-" if row.hz is None else f"{row.hz:.1f}")
    lines: list[Text | Table] = [head, topics]
    for lidar in report.lidars:
        few, middle, many = lidar.points
        intensity = f"intensity in '{lidar.intensity_field}'" if lidar.intensity_field else "no intensity"
        beams = f", {lidar.beams} beams" if lidar.beams else ""
        text = f"lidar {lidar.topic}: {few}-{many} points per scan (median {middle}), {lidar.valid_share:.0%} valid{beams}, {intensity}"
        lines.append(Text((lidar.problem and f"lidar {lidar.topic}: {lidar.problem}") or text, style="red" if lidar.problem else ""))
        lines.append(Text(f"  fields: {', '.join(lidar.fields)}", style="dim"))
    for camera in report.cameras:
        dt = f", |dt| p50/p95 {camera.dt_ms[0]:.1f}/{camera.dt_ms[1]:.1f} ms" if camera.dt_ms else ""
        pairs = f"{camera.pairs} of {camera.scans} scans pair within {report.max_dt_ms:.0f} ms{dt}"
        lines.append(Text(f"camera {camera.topic}: {camera.width}x{camera.height} {camera.encoding}, {camera.calibration}; {pairs}"))
        if camera.pairing_problem:
            lines.append(Text(f"  {camera.pairing_problem}", style="yellow"))
    lines += [_needs("for segmentation (lidar only)", report.segmentation), _needs("for training (lidar and camera)", report.training)]
    lines += [Text(f"note: {note}", style="dim") for note in report.notes]
    return Group(*lines)


def _needs(title: str, needs: list[Need]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("", "needed", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for need in needs:
        table.add_row("[green]ok[/]" if need.ok else "[red]missing[/]", need.what, escape(need.found), escape(need.todo))
    return table

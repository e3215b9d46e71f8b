"""The report of `xkd inspect` for the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xkd_ros.bags.report import BagReport, CameraReport, LidarReport, Need


def render(report: BagReport) -> Group:
    """Build what `rich.print` shows."""
    head = Text.assemble(
        (report.path, "bold"),
        f"  {report.duration_s:.1f} s, {report.size_bytes / 1e6:.1f} MB, {sum(row.count for row in report.topics)} messages",
    )
    parts: list[Text | Table] = [head, _topics(report)]
    parts += [Text(line) for lidar in report.lidars for line in _lidar_lines(lidar)]
    parts += [Text(line) for camera in report.cameras for line in _camera_lines(camera, report)]
    parts.append(_needs("Segmentation", report.can_segment, report.segmentation))
    parts.append(_needs("Training", report.can_train, report.training))
    parts += [Text(f"note: {note}") for note in report.notes]
    return Group(*parts)


def _topics(report: BagReport) -> Table:
    table = Table(show_edge=False, pad_edge=False, box=None)
    for title, justify in (("topic", "left"), ("type", "left"), ("messages", "right"), ("Hz", "right")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for row in report.topics:
        table.add_row(escape(row.name), row.type.replace("/msg/", "/"), str(row.count), "" if row.hz is None else f"{row.hz:.1f}")
    return table


def _lidar_lines(lidar: LidarReport) -> list[str]:
    lines = [f"lidar {lidar.topic}  frame '{lidar.frame_id}'  {', '.join(lidar.fields)}  step {lidar.point_step}"]
    if lidar.problem:
        return [*lines, f"  cannot be read: {lidar.problem}"]
    fewest, median, most = lidar.points
    span = f"{median}" if fewest == most else f"{fewest} .. {most}"
    details = [
        f"{span} points per scan",
        f"{lidar.valid_share:.0%} returns",
        f"range p50 {lidar.range_m[0]:.1f} p95 {lidar.range_m[1]:.1f} m",
    ]
    details.append(
        "no intensity"
        if lidar.intensity is None
        else "{} {:.3g} / {:.3g} / {:.3g} (p1/p50/p99)".format(lidar.intensity_field, *lidar.intensity)
    )
    details += [f"{lidar.beams} beams"] if lidar.beams else []
    details += ["time per point"] if lidar.has_time else []
    return [*lines, "  " + ", ".join(details)]


def _camera_lines(camera: CameraReport, report: BagReport) -> list[str]:
    pairs = f"{camera.pairs} of {camera.scans} scans paired within {report.max_dt_ms:g} ms"
    if camera.dt_ms is not None:
        pairs += f", |dt| p50 {camera.dt_ms[0]:.1f} p95 {camera.dt_ms[1]:.1f} ms"
    if camera.pairing_problem:
        pairs += f" ({camera.pairing_problem})"
    return [
        f"camera {camera.topic}  frame '{camera.frame_id}'  {camera.width}x{camera.height} {camera.encoding}",
        f"  calibration: {camera.calibration or 'incomplete'}; {pairs}",
    ]


def _needs(title: str, ok: bool, needs: list[Need]) -> Table:
    table = Table(
        title=f"{title}: {'ready' if ok else 'not possible yet'}",
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
    )
    for need in needs:
        mark = "[green]yes[/green]" if need.ok else "[red]no[/red]"
        table.add_row(mark, need.what, escape(need.found + (f"  ->  {need.todo}" if need.todo else "")))
    return table

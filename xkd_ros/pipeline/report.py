"""`xkd report RUN`: the page about a run, and what it had to leave out."""

from __future__ import annotations

from pathlib import Path

from xkd_ros.evaluate.report import write_report
from xkd_ros.evaluate.run_files import RunFiles
from xkd_ros.pipeline.progress import console

REPORT_NAME = "report.html"


def run_report(run: Path, out: Path | None = None) -> Path:
    """Write the page and say where it is.

    Args:
        run: Folder that `xkd learn` worked in.
        out: HTML file; None writes report.html into the run folder.
    Returns:
        The file.
    Raises:
        ConfigError: no such run folder.
        MissingPackageError: matplotlib is not installed.
    """
    files = RunFiles(run)
    page = out or run / REPORT_NAME
    with console.status("drawing the report"):
        missing = write_report(files, page)
    for line in missing:
        console.print(line, style="yellow", markup=False)
    console.print(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB); it needs no other file", markup=False)
    return page

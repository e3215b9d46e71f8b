"""A table of a study, for the terminal and for its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.markup import escape
from rich.table import Table

from xkd_ros.pipeline.studies.paired import Spread

BAR_COLUMNS = ("paired difference, mIoU", "mean ± 95 %", "seeds", "bar", "verdict")


@dataclass(frozen=True)
class StudyTable:
    """Text cells, already formatted."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def rich(self) -> Table:
        """Draw for the terminal."""
        table = Table(title=escape(self.title), title_justify="left", caption="\n".join(map(escape, self.notes)), caption_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(escape(column), justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def markdown(self) -> str:
        """Write for the page."""
        lines = [f"### {self.title}", "", _row(self.columns), "|---" + "|---:" * (len(self.columns) - 1) + "|"]
        return "\n".join([*lines, *map(_row, self.rows), "", *(f"{note}  " for note in self.notes)]).rstrip() + "\n"


def bar_row(what: str, difference: Spread, bar: float | None) -> list[str]:
    """Fill `BAR_COLUMNS`."""
    verdict, remark = difference.verdict(bar), difference.remark(bar)
    return [
        what,
        signed(difference),
        str(difference.count),
        "-" if bar is None else f">= {bar:g}",
        f"{verdict} ({remark})" if remark else verdict,
    ]


def signed(difference: Spread) -> str:
    """Write a difference with its sign."""
    return str(difference) if difference.count == 0 or difference.mean < 0 else f"+{difference}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

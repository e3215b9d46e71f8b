"""How many points of each class were seen, kept, dropped and for which reason, gained from other frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.pseudo_config import Reason

DROPS = tuple(reason for reason in Reason if Reason.UNSEEN < reason < Reason.KEPT and reason != Reason.IGNORED)


@dataclass(frozen=True)
class ClassRow:
    """One class.

    Attributes:
        name: Of the class.
        seen: Points that the teacher's images call so, right or wrong, sure or not.
        kept: Those that keep this label.
        dropped: Those that do not, by reason.
        gained: Points in view that other frames call so, where their own image said nothing sure or something else.
        propagated: Points out of view that other frames call so.
    """

    name: str
    seen: int
    kept: int
    dropped: dict[Reason, int]
    gained: int
    propagated: int

    @property
    def labelled(self) -> int:
        """Points with this label."""
        return self.kept + self.gained + self.propagated


class LabelStatistics:
    """Counts over frames.

    Args:
        names: Of the K classes.
    Attributes:
        counts: (K + 1, R) int64. Columns up to KEPT count by what the frame's own image says (last row: it names no class or does
            not see the point), so that they sum to all points; GAINED and PROPAGATED count by the final label.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self.counts = np.zeros((len(self._names) + 1, len(Reason)), np.int64)

    def add(self, own_label: np.ndarray, own_reason: np.ndarray, label: np.ndarray, reason: np.ndarray) -> None:
        """Count the points of a frame; the arrays are those of `FrameLabels`, (N,) uint8."""
        more = reason > Reason.KEPT
        rows = np.concatenate([own_label, label[more]]).astype(np.int64)
        rows[rows == UNKNOWN] = len(self._names)
        columns = np.concatenate([own_reason, reason[more]]).astype(np.int64)
        self.counts += np.bincount(rows * len(Reason) + columns, minlength=self.counts.size).reshape(self.counts.shape)

    @property
    def points(self) -> int:
        """All points, seen or not."""
        return int(self.counts[:, : Reason.KEPT + 1].sum())

    @property
    def unseen(self) -> int:
        """Points in no view."""
        return int(self.counts[:, Reason.UNSEEN].sum())

    def rows(self) -> list[ClassRow]:
        """Return one row per class."""
        return [
            ClassRow(
                name=name,
                seen=int(counts[Reason.LATE : Reason.KEPT + 1].sum()),
                kept=int(counts[Reason.KEPT]),
                dropped={reason: int(counts[reason]) for reason in DROPS},
                gained=int(counts[Reason.GAINED]),
                propagated=int(counts[Reason.PROPAGATED]),
            )
            for name, counts in zip(self._names, self.counts)
        ]

    def lines(self) -> list[str]:
        """Format as a table: counts of points, dropped ones in percent of the seen ones."""
        rows = self.rows()
        shown = [reason for reason in DROPS if any(row.dropped[reason] for row in rows)]
        heads = ["seen", "kept", *(reason.name.lower() for reason in shown), "gained", "out of view", "labelled"]
        table = [
            [
                f"{row.seen}",
                _percent(row.kept, row.seen),
                *(_percent(row.dropped[reason], row.seen) for reason in shown),
                f"{row.gained}",
                f"{row.propagated}",
                f"{row.labelled}",
            ]
            for row in rows
        ]
        widths = [max(len(cell) for cell in column) for column in zip(heads, *table)]
        first = max(len("class"), *(len(name) for name in self._names))
        lines = [
            f"{name:<{first}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths))
            for name, cells in zip(("class", *self._names), [heads, *table])
        ]
        labelled = sum(row.labelled for row in rows)
        ignored = int(self.counts[:, Reason.IGNORED].sum())
        lines.append(
            f"{self.points} points: {_percent(labelled, self.points)} labelled, {_percent(self.unseen, self.points)} in no view, "
            f"{_percent(ignored, self.points)} of no class (ignored by the class map)"
        )
        return lines


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"

"""What a study is: cells that follow from its definition, a way to run one, and tables that are read from results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.paired import Spread, spread
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.table import StudyTable
from xkd_ros.pipeline.studies.trial import Outcome, Trial
from xkd_ros.pipeline.studies.workshop import Workshop

REAL_ALL = ("real", "all points", "miou")


class Study(Protocol):
    """One comparison.

    Attributes:
        name: On the command line and in file names.
        claim: The published claim that it mirrors, in a sentence.
        protocol: How it is done here, in a few sentences for the page.
    """

    name: str
    claim: str
    protocol: str

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List all cells in the order in which they are worth doing.

        Args:
            scale: Sizes.
            teachers: Names; the first gives the labels.
        """
        ...

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Do one cell."""
        ...

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Make the tables from what is done."""
        ...


def make_cell(study: str, name: str, seed: int, scale: Scale, **parameters: Any) -> Cell:
    """Define a cell; its name is completed by the seed."""
    return Cell(study=study, name=f"{name}-seed{seed}", seed=seed, parameters=parameters, scale=scale.content())


def figure(metrics: dict[str, Any], path: Iterable[str]) -> float | None:
    """Read a figure from nested metrics; None where it is undefined or was not measured."""
    value: Any = metrics
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return None if value is None else float(value)


def by_seed(results: Sequence[CellResult], path: Sequence[str], **parameters: Any) -> dict[int, float]:
    """Collect a figure of the cells with these parameters: seed → value."""
    return by_seed_of(results, lambda metrics: figure(metrics, path), **parameters)


def by_seed_of(results: Sequence[CellResult], read: Callable[[dict[str, Any]], float | None], **parameters: Any) -> dict[int, float]:
    """Collect what `read` finds in the metrics of the cells with these parameters: seed → value."""
    chosen = [result for result in results if all(result.cell.parameters.get(key) == value for key, value in parameters.items())]
    found = {result.cell.seed: read(result.metrics) for result in chosen}
    return {seed: value for seed, value in found.items() if value is not None}


def mean_of(values: dict[int, float]) -> Spread:
    """Summarise seed → value."""
    return spread(list(values.values()))


def notes_on(results: Sequence[CellResult]) -> list[str]:
    """Say what makes results less comparable than they look: other teachers, frames of other bytes, other machines."""
    notes = []
    for key, words in (
        ("teacher", "teachers of different weights"),
        ("frames", "frames that differ in bytes between machines or versions"),
    ):
        groups: dict[str, set[str]] = {}
        for result in results:
            places = ("teacher",) if key == "teacher" else ("tested_on", "buildings")
            place = str([result.cell.parameters.get(name) for name in places])
            groups.setdefault(place, set()).add(result.inputs.get(key, ""))
        if any(len(hashes) > 1 for hashes in groups.values()):
            notes.append(f"Cells of one kind were done with {words}: repeat the older ones before trusting small differences.")
    return notes

"""The folder of finished cells: one small JSON each, made to be committed, so that a study goes on elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from xkd_ros.core.config import describe
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import write_atomic
from xkd_ros.pipeline.studies.cell import Cell, CellResult

_LARGEST_BYTES = 2_000_000


class Results:
    """Results of the cells of one study at one scale.

    Attributes:
        folder: Where they lie, as `<cell>.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, cell: Cell) -> CellResult | None:
        """Read the result of a cell; None when it is not done.

        Raises:
            ConfigError: damaged, or made when the cell meant something else.
        """
        path = self._place(cell)
        if not path.is_file():
            return None
        try:
            if path.stat().st_size > _LARGEST_BYTES:
                raise ConfigError(f"{path} has {path.stat().st_size} bytes, too large for a result; delete it, the cell is done again")
            result = CellResult.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            raise ConfigError(f"{path} is no result ({describe(error, CellResult)}); delete it, the cell is done again") from error
        if result.key != cell.key or result.cell.key != cell.key:
            raise ConfigError(
                f"{path} was made with {_difference(result.cell, cell)}; move the folder away to begin the study anew, or go back to those"
            )
        return result

    def of(self, cells: Sequence[Cell]) -> list[CellResult]:
        """Read the results of those cells that are done; they may be compared.

        Raises:
            ConfigError: as for `find`, or results of different class maps.
        """
        found = [result for cell in cells if (result := self.find(cell)) is not None]
        for result in found:
            if result.class_hash != found[0].class_hash:
                raise ConfigError(
                    f"{self._place(found[0].cell)} (classes {found[0].class_hash}) and {self._place(result.cell)} (classes "
                    f"{result.class_hash}) must not be compared: their classes mean different things; delete those of the older class map"
                )
        return found

    def save(self, result: CellResult) -> Path:
        """Write a result, whole or not at all."""
        path = self._place(result.cell)
        write_atomic(path, result.model_dump_json(indent=1) + "\n")
        return path

    def _place(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"


def _difference(old: Cell, new: Cell) -> str:
    """Name what a cell was defined by then and is not now."""
    changed = [
        f"{key} {kept.get(key)!r} instead of {wanted.get(key)!r}"
        for kept, wanted in ((old.parameters, new.parameters), (old.scale, new.scale))
        for key in sorted({*kept, *wanted})
        if kept.get(key) != wanted.get(key)
    ]
    return ", ".join(changed[:3]) or "another definition of the cell"

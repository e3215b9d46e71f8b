"""How far a student agrees with the masks that image teachers made, per class: a report on the quality of the teacher's labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xkd_ros.core.config import load_yaml
from xkd_ros.core.errors import XkdError

Agreement = Literal["probability", "argmax"]
REPORT_NAME = "unit_report.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassQuality(_Strict):
    """Units that claim one class: how many, their points, their mean score, and how many the student drops."""

    label: int = Field(ge=0, lt=255)
    units: int = Field(ge=1)
    points: int = Field(ge=0)
    score: float = Field(ge=0, le=1)
    dropped: int = Field(ge=0)

    @model_validator(mode="after")
    def _drops_its_own(self) -> ClassQuality:
        if self.dropped > self.units:
            raise ValueError(f"{self.dropped} of {self.units} units dropped")
        return self


class UnitReport(_Strict):
    """Quality of the units by kind of teacher, one row per class that has units.

    Attributes:
        agreement: What a score is: the student's probability of the claimed class over that of its own choice, or the share of the
            points that it gives the claimed class ("argmax").
    """

    agreement: Agreement = "probability"
    origins: dict[str, tuple[ClassQuality, ...]]

    def check_classes(self, names: Sequence[str]) -> None:
        """Do nothing, unless a row is of a class that there is not.

        Raises:
            XkdError: says which.
        """
        highest = max((row.label for rows in self.origins.values() for row in rows), default=-1)
        if highest >= len(names):
            raise XkdError(f"the report on units speaks of class {highest} of {len(names)}: it belongs to another run; train again")

    def lines(self, names: Sequence[str]) -> list[str]:
        """Lay out for people.

        Args:
            names: Of the classes.
        Raises:
            XkdError: a row of a class that has no name.
        """
        self.check_classes(names)
        return [
            f"{origin}: {names[row.label]}: {row.units} units with {row.points} points, agreement {100 * row.score:.0f} %, "
            f"{row.dropped} dropped"
            for origin, rows in self.origins.items()
            for row in rows
        ]


def load_unit_report(folder: Path) -> UnitReport:
    """Read the report.

    Raises:
        XkdError: missing or damaged.
    """
    if not (folder / REPORT_NAME).is_file():
        raise XkdError(f"{folder} holds no {REPORT_NAME}: it was not trained by partdistill with backward scoring")
    return load_yaml(folder / REPORT_NAME, UnitReport)

"""One line of the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What was looked at and found.

    Attributes:
        area: Part of the page, such as "ROS".
        what: What was looked at.
        level: ok; note, which limits something that not everybody needs; wrong, which should be put right.
        found: What is there.
        remedy: What to do, as a command where there is one; empty where nothing need be done.
    """

    area: str
    what: str
    level: Level
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields, for JSON."""
        return asdict(self)

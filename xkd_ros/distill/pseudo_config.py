"""Settings of the pseudo-labels, and the reasons for which a point has a label or has none."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Reason(IntEnum):
    """Why a point is labelled or is not.

    Up to KEPT the order is that of the tests: of several views of one point the one that got furthest speaks for it.
    """

    UNSEEN = 0
    """In no camera's view."""
    LATE = 1
    """Image and scan are too far apart in time."""
    TURNING = 2
    """The robot turned too fast."""
    EDGE = 3
    """Beside a jump in depth, where a small calibration error changes the object."""
    BORDER = 4
    """Beside the border of a segment of the image."""
    IGNORED = 5
    """The teacher sees what is no class of ours (a mirror, the sky)."""
    GLASS = 6
    """Called a window, but the beam went on behind the pane."""
    MARGIN = 7
    """Two classes are nearly equally likely."""
    THRESHOLD = 8
    """Below its class's own confidence threshold."""
    CONTESTED = 9
    """The images of the same place do not agree."""
    OVERRULED = 10
    """The other images of the same place agree on another class."""
    DOUBTFUL = 11
    """The final confidence is too small."""
    KEPT = 12
    """Labelled by its own image."""
    GAINED = 13
    """In view and labelled by other images of the same place."""
    PROPAGATED = 14
    """Out of view and labelled by other images of the same place."""


LABELLED = Reason.KEPT
"""This reason and all after it: the point has a label."""


class VoteConfig(BaseModel):
    """How the frames of one place vote on its labels.

    Source: METHODS 7.2; `reach_frames` is ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    voxel_m: float = Field(0.1, gt=0.005, le=2.0, description="size of a place")
    radius_frames: int = Field(10, ge=0, description="frames before and after that vote on a point with a label of its own")
    reach_frames: int = Field(
        50,
        ge=0,
        le=2000,
        description="frames before and after that vote on a point without one, such as one out of view; more than radius_frames, because a "
        "camera that looks ahead saw what is behind the robot some time ago. Odometry must not drift by a voxel in this time",
    )
    min_observations: int = Field(3, ge=1, description="frames that must have seen a place")
    majority: float = Field(0.6, ge=0.5, le=1, description="share of the votes that the best class of a place must have")
    min_confidence: float = Field(0.5, ge=0, lt=1, description="final confidence below which a point has no label")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.reach_frames < self.radius_frames:
            raise ValueError(f"reach_frames {self.reach_frames} must be at least radius_frames {self.radius_frames}")
        return self


class PseudoConfig(VoteConfig):
    """What a label must pass before the student may learn from it.

    Source: METHODS 7.2 (filters and consolidation), 8.3 (glass).
    """

    keep_share: float = Field(0.7, gt=0, le=1, description="share of each class that is kept, the most confident points")
    min_margin: float = Field(0.2, ge=0, lt=1, description="between the best and the second best class of a point")
    max_dt_ms: float = Field(50.0, gt=0, description="largest time between image and scan")
    max_turn_rate_radps: float = Field(1.5, gt=0, description="frames of faster turns give no label themselves")
    drop_edges: bool = Field(True, description="drop points near a jump in depth")
    drop_borders: bool = Field(True, description="drop points near the border of an image segment")
    glass_depth_m: float = Field(0.5, ge=0, description="window points this far behind the wall around them are dropped; 0 = off")
    threshold_frames: int = Field(1000, ge=1, description="the class thresholds come from so many training frames, evenly spaced")
    consolidate: bool = Field(True, description="let the frames of one place vote where poses exist")
    movers: tuple[str, ...] = Field(("person",), description="classes that do not stay: never carried from one frame to another")
    frames_per_part: int = Field(200, ge=1, description="frames per file; an interrupted job goes on after the last whole file")

    def moving(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return which of the classes do not stay."""
        return tuple(place for place, name in enumerate(names) if name in self.movers)

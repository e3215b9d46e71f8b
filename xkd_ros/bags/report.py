"""What `xkd inspect` found out about a recording, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class TopicRow:
    """One topic; `hz` is None with fewer than two messages."""

    name: str
    type: str
    count: int
    hz: float | None


@dataclass(frozen=True)
class LidarReport:
    """The scans of one PointCloud2 topic, from a few of them.

    Attributes:
        fields: As `name TYPE@offset`.
        points: Fewest, median and most points per scan.
        valid_share: Part of the points that are returns (finite, not zero).
        intensity_field: Its name, or None.
        intensity: 1st, 50th and 99th percentile, or None.
        beams: Number of different rings, or None.
        has_time: A time per point can be read.
        range_m: Median and 95th percentile of the distance.
        problem: Why the clouds cannot be read; empty when they can.
    """

    topic: str
    frame_id: str
    fields: tuple[str, ...]
    point_step: int
    points: tuple[int, int, int] = (0, 0, 0)
    valid_share: float = 0.0
    intensity_field: str | None = None
    intensity: tuple[float, float, float] | None = None
    beams: int | None = None
    has_time: bool = False
    range_m: tuple[float, float] = (0.0, 0.0)
    problem: str = ""


@dataclass(frozen=True)
class CameraReport:
    """One camera.

    Attributes:
        encoding: Of Image, or format of CompressedImage.
        info: Topic of its CameraInfo, or None.
        calibration: Model and horizontal field of view in words; empty when there is none.
        calibrated: Intrinsics and extrinsics are complete.
        pairs, scans: Scans with an image within the limit, of all scans that were looked at.
        dt_ms: 50th and 95th percentile of |dt|, or None without pairs.
        pairing_problem: Why pairs are missing; empty when none is.
    """

    name: str
    topic: str
    frame_id: str
    width: int
    height: int
    encoding: str
    info: str | None
    calibration: str
    calibrated: bool
    pairs: int = 0
    scans: int = 0
    dt_ms: tuple[float, float] | None = None
    pairing_problem: str = ""


@dataclass(frozen=True)
class Need:
    """One thing a use needs: whether it is there, what was found, and what to do about it when not."""

    what: str
    ok: bool
    found: str
    todo: str = ""


@dataclass
class BagReport:
    """Everything about one recording.

    Attributes:
        looked_at_s: Stamps and pairs are from this many seconds from the start.
        segmentation, training: What each use needs.
        notes: Further things a person should know.
    """

    path: str
    size_bytes: int
    duration_s: float
    looked_at_s: float
    max_dt_ms: float
    topics: list[TopicRow] = field(default_factory=list)
    lidars: list[LidarReport] = field(default_factory=list)
    cameras: list[CameraReport] = field(default_factory=list)
    segmentation: list[Need] = field(default_factory=list)
    training: list[Need] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def can_segment(self) -> bool:
        """Whether scans can be labelled."""
        return all(need.ok for need in self.segmentation)

    @property
    def can_train(self) -> bool:
        """Whether a student can learn from it."""
        return all(need.ok for need in self.training)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {**asdict(self), "can_segment": self.can_segment, "can_train": self.can_train}

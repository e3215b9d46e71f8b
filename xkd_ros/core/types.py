"""The frozen data types that rooms hand to each other.

Letters used everywhere: N points, M pixels or raw points, K neighbours, C classes or channels.
Shapes are checked here, once, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.errors import ShapeError

UNKNOWN = 255
"""Label of a point that nobody can name; never a class."""


def _check(name: str, array: np.ndarray | None, shape: tuple[int | None, ...]) -> None:
    if array is None:
        return
    if array.ndim != len(shape) or any(want is not None and got != want for got, want in zip(array.shape, shape)):
        wanted = "(" + ", ".join("N" if want is None else str(want) for want in shape) + ")"
        raise ShapeError(f"{name} has shape {array.shape}, expected {wanted}")


@dataclass(frozen=True, eq=False)
class Scan:
    """One lidar revolution.

    Attributes:
        points_m: (N, 3) float32, metres, lidar frame; non-returns may be NaN or (0, 0, 0).
        intensity: (N,) float32 in the sensor's own unit, or None where the sensor has none.
        stamp_ns: Time of the header stamp.
        frame_id: Name of the lidar frame.
        ring: (N,) uint16 beam number, or None.
        time_s: (N,) float32 seconds after the stamp, or None.
    """

    points_m: np.ndarray
    intensity: np.ndarray | None = None
    stamp_ns: int = 0
    frame_id: str = ""
    ring: np.ndarray | None = None
    time_s: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check("points_m", self.points_m, (None, 3))
        count = len(self.points_m)
        for name in ("intensity", "ring", "time_s"):
            _check(name, getattr(self, name), (count,))

    def __len__(self) -> int:
        return len(self.points_m)


@dataclass(frozen=True, eq=False)
class CameraImage:
    """One camera picture: rgb (H, W, 3) uint8 with its stamp and optical frame."""

    rgb: np.ndarray
    stamp_ns: int = 0
    frame_id: str = ""

    def __post_init__(self) -> None:
        _check("rgb", self.rgb, (None, None, 3))


@dataclass(frozen=True, eq=False)
class ScanRequest:
    """A raw scan and how its points are to be labelled.

    Attributes:
        points_m: (M, 3) metres, lidar frame; NaN and (0, 0, 0) are no measurements.
        intensity: (M,) in the sensor's unit, or None.
        rotation: (3, 3) levelled_from_lidar.
        statistics: That intensities are normalised with.
        inside_only: Points outside the field of view stay unknown.
        headings: In which the scan is labelled, to be averaged.
        groups: (C,) classes that are one to whoever asks have the same number, 0 to C - 1; None: each is one of its own.
    """

    points_m: np.ndarray
    intensity: np.ndarray | None
    rotation: np.ndarray
    statistics: IntensityConfig
    inside_only: bool = False
    headings: int = 1
    groups: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the student says about every input point, in input order.

    Attributes:
        labels: (N,) uint8 class ids; 255 where unknown.
        probability: (N,) float32 of the named class and those that are one with it; 0 where unknown.
        entropy: (N,) float32, entropy of the class distribution divided by log(C): 0 certain, 1 clueless.
        stage_ms: Wall time per stage in milliseconds.
    """

    labels: np.ndarray
    probability: np.ndarray
    entropy: np.ndarray
    stage_ms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("labels", self.labels, (None,))
        for name in ("probability", "entropy"):
            _check(name, getattr(self, name), (len(self.labels),))


@dataclass(frozen=True, eq=False)
class NetInput:
    """One scan as the network sees it.

    Attributes:
        features: (N, 5) float32: intensity (normalised), x, y, z, range of the levelled voxel points.
        cells: (3, N) int64, flat index into the cropped grids of the planes (x, y), (x, z), (y, z).
        grids: (H, W) of each cropped plane.
        neighbours: (N, K) int64 nearest other points.
        kept: (N,) int64 raw index of each voxel point.
        undo: (M,) int64 voxel point that labels each raw point; -1 where the raw point is invalid.
        rotation: (3, 3) float64 levelled_from_lidar that was applied.

    Source: METHODS 1.1 (WaffleIron input contract, here points-major and with self removed from the neighbours).
    """

    features: np.ndarray
    cells: np.ndarray
    grids: tuple[tuple[int, int], ...]
    neighbours: np.ndarray
    kept: np.ndarray
    undo: np.ndarray
    rotation: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.features)
        _check("features", self.features, (None, 5))
        _check("cells", self.cells, (len(self.grids), count))
        _check("neighbours", self.neighbours, (count, None))
        _check("kept", self.kept, (count,))

    def __len__(self) -> int:
        return len(self.features)

"""From a stored frame to what the student sees in training: levelled, augmented, sampled, preprocessed.

In: a frame, and which of its points may be shown. Out: the network's input, and the frame's point behind each of its points.
Next: pairs or labels are looked up by those, in `frame_samples` and `labelled_frames`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from xkd_ros.core.card import GeometryConfig, IntensityConfig
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import NetInput
from xkd_ros.distill.augment import AugmentConfig, augment, limit_points, nearest_to_one, paper_pose, top_intensity
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.points.voxels import voxel_sample

IntensityMode = Literal["per_rig", "per_scan"]
_PAPER_SCALE = 0.1


class InputConfig(BaseModel):
    """What happens to a scan before the student sees it.

    `paper`: one point per voxel, then any yaw, mirror and scale (METHODS 2.1); features follow the coordinates.
    `paper_double`: the supervised variant (METHODS 1.7); the x, y, z features get a yaw and scale of their own, so cells and features
    disagree. On the robot they agree, so it is for reproducing the papers.
    `robust`: what a real lidar might have seen instead (`AugmentConfig`), before one point per voxel is taken as on the robot.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    augmentation: Literal["paper", "paper_double", "robust"] = "robust"
    robust: AugmentConfig = AugmentConfig()
    max_points: int = Field(20_000, ge=64, description="larger scans are cropped around a random point")
    no_intensity: float = Field(0.0, ge=0, le=1, description="share of scans without intensity in the paper variants")


class StudentConfig(BaseModel):
    """How the student reads a scan; fixed from distillation to the robot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    geometry: GeometryConfig = GeometryConfig()
    intensity: IntensityMode = Field("per_scan", description="per_rig: by the statistics of the frame store, as in the papers")

    def statistics(self, rig: str, rigs: dict[str, IntensityConfig]) -> IntensityConfig:
        """Choose the statistics that intensities of a rig are normalised with."""
        return IntensityConfig(per_scan=True) if self.intensity == "per_scan" else rigs[rig]

    def whole(self, frame: StoredFrame, rigs: dict[str, IntensityConfig], threads: int) -> NetInput:
        """Prepare a whole frame as on the robot, without augmentation.

        Args:
            frame: Stored scan.
            rigs: Intensity statistics of each rig.
            threads: Of the search for neighbours.
        """
        preprocess = Preprocessor(self.geometry, self.statistics(frame.rig, rigs), threads)
        return preprocess(frame.points_m, frame.intensity, frame.levelled_from_lidar)


class StoredFrame(Protocol):
    """What training needs of a `bags.frame.Frame`."""

    @property
    def rig(self) -> str:
        """Name of the rig."""

    @property
    def points_m(self) -> np.ndarray:
        """(N, 3) float32."""

    @property
    def intensity(self) -> np.ndarray | None:
        """(N,) float32."""

    @property
    def levelled_from_lidar(self) -> np.ndarray:
        """(3, 3) float64."""


class StudentInput:
    """Frame → (network input of n points, (n,) index of each into the frame's points)."""

    def __init__(self, config: InputConfig, student: StudentConfig, rigs: dict[str, IntensityConfig], seek: bool = False) -> None:
        """Configure.

        Args:
            config: Augmentation.
            student: Geometry and kind of intensity statistics.
            rigs: Intensity statistics of each rig.
            seek: Where a scan is cropped or thinned, the points of the upper half of preference are sought: few
                labels would hardly be met otherwise.
        """
        self._config, self._student, self._rigs, self._seek = config, student, rigs, seek
        self._preprocessors: dict[str, Preprocessor] = {}

    @property
    def least_points(self) -> int:
        """Fewest points that make a scan: each needs its neighbours."""
        return self._student.geometry.neighbours + 1

    def __call__(
        self, frame: StoredFrame, rng: np.random.Generator, shown: np.ndarray | None = None, preferred: np.ndarray | None = None
    ) -> tuple[NetInput, np.ndarray]:
        """Prepare one frame.

        Args:
            frame: Stored scan.
            rng: The only source of randomness.
            shown: (V,) int64 points the student may see; None for all.
            preferred: (N,) bool or small numbers, the larger the rather a point is kept in its voxel; the paper variants choose blindly.
        """
        raw = np.arange(len(frame.points_m)) if shown is None else shown
        points = frame.points_m[raw] @ frame.levelled_from_lidar.T.astype(np.float32)
        intensity = None if frame.intensity is None else frame.intensity[raw]
        preprocess = self._preprocessor(frame.rig)
        if self._config.augmentation == "robust":
            item, kept = self._robust(points, intensity, None if preferred is None else preferred[raw], preprocess, rng)
        else:
            item, kept = self._paper(points, intensity, preprocess, rng)
        return item, raw[kept]

    def _paper(
        self, points: np.ndarray, intensity: np.ndarray | None, preprocess: Preprocessor, rng: np.random.Generator
    ) -> tuple[NetInput, np.ndarray]:
        """Follow METHODS 2.1 steps 2, 5, 6, 8, or 1.2 and 1.7."""
        kept = voxel_sample(points, self._student.geometry.voxel_m, rng.permutation(len(points)))
        if len(kept) > self._config.max_points:
            kept = kept[np.sort(nearest_to_one(points[kept], self._config.max_points, rng))]
        points = points[kept]
        intensity = None if intensity is None or rng.random() < self._config.no_intensity else intensity[kept]
        double = self._config.augmentation == "paper_double"
        pose = paper_pose(rng, 0.0 if double else _PAPER_SCALE).astype(np.float32)
        item = preprocess(points @ pose.T, intensity, undo=False, sampled=True)
        return _own_pose(item, points[item.kept], rng) if double else item, kept[item.kept]

    def _robust(
        self,
        points: np.ndarray,
        intensity: np.ndarray | None,
        preferred: np.ndarray | None,
        preprocess: Preprocessor,
        rng: np.random.Generator,
    ) -> tuple[NetInput, np.ndarray]:
        raw = np.zeros(len(points), np.float32) if intensity is None else intensity
        points, dimmed, kept = augment(points, raw, np.arange(len(points)), self._config.robust, rng)
        if intensity is None:
            dimmed = None
        elif dimmed is not None:
            # `augment` returns 0 to 1; statistics of the rig are in the sensor's own unit.
            dimmed = dimmed * np.float32(top_intensity(intensity))
        order = wanted = None
        if preferred is not None:
            order = np.argsort(-preferred[kept].astype(np.int8), kind="stable")
            if self._seek:
                wanted = preferred[kept] > int(preferred.max()) // 2

        def limit(sampled: np.ndarray, raw: np.ndarray) -> np.ndarray:
            return limit_points(sampled, self._config.max_points, rng, None if wanted is None else wanted[raw])

        item = preprocess(points, dimmed, order=order, undo=False, limit=limit)
        return item, kept[item.kept]

    def _preprocessor(self, rig: str) -> Preprocessor:
        if rig not in self._preprocessors:
            intensity = self._student.statistics(rig, self._rigs)
            self._preprocessors[rig] = Preprocessor(self._student.geometry, intensity, threads=1)
        return self._preprocessors[rig]


class HasScan(Protocol):
    """A training item."""

    @property
    def scan(self) -> NetInput:
        """What the student sees."""


def points_of(item: HasScan) -> int:
    """Count the points of a training item: what it costs."""
    return len(item.scan)


def _own_pose(item: NetInput, points: np.ndarray, rng: np.random.Generator) -> NetInput:
    """Give the x, y, z and range features of (n, 3) points a yaw and a scale independent of the coordinates."""
    size = np.float32(1 + rng.uniform(-_PAPER_SCALE, _PAPER_SCALE))
    turned = points @ rotation_from_rpy(0, 0, rng.uniform(-np.pi, np.pi)).T.astype(np.float32)
    features = item.features.copy()
    features[:, 1:4] = size * turned
    features[:, 4] = size * np.linalg.norm(points, axis=1)
    return replace(item, features=features)

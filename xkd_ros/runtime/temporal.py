"""What earlier scans said about the same places, joined with what this scan says: labels that do not flicker.

In: the sampled points of a scan, their logits, and where the lidar was. Out: logits again, for `segmenter`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from xkd_ros.core.errors import ConfigError
from xkd_ros.kernels.evidence import fill_table, find_rows, fuse_scan, voxel_distances
from xkd_ros.pairing.pose_track import is_possible_motion


class FusionConfig(BaseModel):
    """How long and how firmly places are remembered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    voxel_m: float = Field(0.1, gt=0, description="edge of a voxel")
    decay: float = Field(0.97, ge=0, le=1, description="share of the evidence that each scan leaves")
    movable: tuple[str, ...] = Field(("person",), description="classes that do not stay in place")
    movable_decay: float = Field(0.7, ge=0, le=1, description="as decay, of evidence for and against these")
    strength: float = Field(0.5, gt=0, description="weight of a scan whose entropy is zero")
    limit: float = Field(6.0, gt=0, description="of the log-odds against the likeliest class that stays in place")
    forget_s: float = Field(30.0, gt=0, description="voxels that were not seen for so long are forgotten")
    radius_m: float = Field(40.0, gt=0, description="when memory runs out, voxels farther away than this go first")
    max_voxels: int = Field(1 << 18, ge=1, description="memory: about 90 bytes each with twelve classes")


class TemporalFusion:
    """Evidence on voxels of the odometry frame. One scan at a time, in order: not for several threads at once.

    With p the network's probabilities of a point, H their entropy divided by log(C), and l and m the evidence and the mass of its
    voxel, of which each scan that has passed has left the share `decay` (l of movable classes: `movable_decay`):

        p' = softmax((l + log p) / (1 + min(1, m)))
        l <- l + mean of w log p over the scan's points in the voxel, w = strength (1 - H); m <- m + mean of w
        l <- clip(l - max of l over the classes that stay in place, +-limit)

    Nothing is fused without a pose. Time that goes back, or a motion that no robot makes, begins anew.

    Attributes:
        voxels: Voxels in memory.
        points: Sampled points of the last scan.
        fused_share: Share of the last scan's sampled points whose place was known; 0 without a pose.

    Source: [DES] METHODS 7.2, our own reconstruction. Differs: l is limited against the best class, not around the mean of all
    classes, where one look at a sure point puts every plausible class at the limit and their order is lost; scans that follow each
    other repeat each other's errors, so a scan counts half and sums are taken at temperature 2. docs/temporal_fusion.md has figures.
    """

    def __init__(self, classes: Sequence[str], config: FusionConfig | None = None) -> None:
        """Begin with nothing known.

        Args:
            classes: Names of the model's classes.
            config: Settings.
        Raises:
            ConfigError: a movable class that the model does not have, or no class that stays in place.
        """
        self.config = config = config or FusionConfig()
        strangers = [name for name in config.movable if name not in classes]
        if strangers:
            raise ConfigError(f"movable class '{strangers[0]}' is unknown to the model; its classes are {', '.join(classes)}")
        self._movable = np.array([name in config.movable for name in classes])
        if self._movable.all():
            raise ConfigError(f"all classes of the model are movable ({', '.join(classes)}): at least one must stay in place")
        rows, slots = config.max_voxels, 1 << (2 * config.max_voxels - 1).bit_length()
        self._table = np.zeros(slots, np.int64), np.empty(slots, np.int32)
        self._place_of, self._seen, self._number = np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.empty(rows, np.int64)
        self._evidence = np.zeros((rows, len(classes) + 1), np.float32)
        self.reset()
        self._compile(len(classes))

    def reset(self) -> None:
        """Forget everything."""
        self.voxels, self.points, self.fused_share = 0, 0, 0.0
        self._scan = 0
        self._stamps: deque[int] = deque()
        self._pose = np.eye(4)
        fill_table(*self._table, self._place_of, 0)

    def __call__(self, points_m: np.ndarray, logits: np.ndarray, world_from_lidar: np.ndarray | None, stamp_ns: int) -> np.ndarray:
        """Join one scan with those before it.

        Args:
            points_m: (N, 3) float32, metres, lidar frame, finite.
            logits: (N, C) float32, divided by the temperature.
            world_from_lidar: (4, 4) in a frame that never jumps, such as the odometry's; None where nobody knows it.
            stamp_ns: Time of the scan.
        Returns:
            (N, C) float32 logits; those given where there is no pose, or where a scan has more points than fit in memory.
        """
        self.points, self.fused_share = len(points_m), 0.0
        if world_from_lidar is None or not np.isfinite(world_from_lidar).all() or len(points_m) > self.config.max_voxels:
            return logits
        pose = np.ascontiguousarray(world_from_lidar, np.float64)
        oldest = self._begin_scan(pose, stamp_ns)
        if self.voxels + len(points_m) > self.config.max_voxels:
            self._make_room(len(points_m), oldest, pose)
        config, used, rows = self.config, self.voxels, np.empty(len(points_m), np.int64)
        points_m, logits = np.ascontiguousarray(points_m, np.float32), np.ascontiguousarray(logits, np.float32)
        self.voxels = find_rows(points_m, pose, config.voxel_m, *self._table, self._place_of, used, rows)
        self._seen[used : self.voxels] = -1
        fused = np.empty_like(logits)
        factors = config.decay, config.movable_decay, np.float32(config.strength), np.float32(config.limit)
        memory = self._seen, self._evidence, self._number
        known = fuse_scan(logits, rows, self._scan, oldest, self._movable, *factors, *memory, fused)
        self.fused_share = known / max(1, len(points_m))
        return fused

    def _compile(self, classes: int) -> None:
        """Run one point through, so that no scan has to wait for the compiler."""
        self(np.zeros((1, 3), np.float32), np.zeros((1, classes), np.float32), np.eye(4), 0)
        self._make_room(0, 0, np.eye(4))
        self.reset()

    def _begin_scan(self, pose: np.ndarray, stamp_ns: int) -> int:
        """Count the scan; return the number of the oldest one that is not forgotten."""
        if self._stamps:
            seconds = 1e-9 * (stamp_ns - self._stamps[-1])
            if seconds < 0 or not is_possible_motion(self._pose, pose, seconds):
                self.reset()
        self._scan += 1
        self._stamps.append(stamp_ns)
        self._pose = pose
        while self._stamps[0] < stamp_ns - 1e9 * self.config.forget_s:
            self._stamps.popleft()
        return self._scan - len(self._stamps) + 1

    def _make_room(self, points: int, oldest: int, pose: np.ndarray) -> None:
        """Forget what is old or far, and of the rest what was not seen for longest."""
        seen, places = self._seen[: self.voxels], self._place_of[: self.voxels]
        near = voxel_distances(places, pose, self.config.voxel_m) <= self.config.radius_m
        kept = np.flatnonzero((seen >= oldest) & near)
        # Half, so that there is room for more than one scan.
        most = min(self.config.max_voxels // 2, self.config.max_voxels - points)
        if len(kept) > most:
            kept = np.sort(kept[np.argsort(seen[kept], kind="stable")[len(kept) - most :]])
        for memory in (self._place_of, self._seen, self._evidence):
            memory[: len(kept)] = memory[kept]
        self.voxels = len(kept)
        fill_table(*self._table, self._place_of, self.voxels)

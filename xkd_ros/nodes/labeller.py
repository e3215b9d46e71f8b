"""PointCloud2 in, labelled PointCloud2 out: decoding, levelling, intensity, network and encoding in one call, timed.

Knows messages but no node; next: `labelling_stream`, which owns the topics.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from xkd_ros.core.card import ModelCard
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.share import find_model
from xkd_ros.core.types import Scan, Segmentation
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.nodes.debug_topics import STAGES
from xkd_ros.nodes.label_info import describe_labels
from xkd_ros.nodes.output_layout import OutputLayout, make_layout
from xkd_ros.nodes.segmenter_parameters import chosen_classes
from xkd_ros.pipeline.fused_labels import FusedLabels, ViewsAt
from xkd_ros.points.intensity import OnlineIntensity, scale_problem
from xkd_ros.points.levelling import Levelling
from xkd_ros.points.levelling_filter import LevellingFilter
from xkd_ros.runtime.segmenter import Fuse, Segmenter
from xkd_ros.runtime.temporal import FusionConfig, TemporalFusion

_INTENSITY_CHECK_S = 1.0
PoseAt = Callable[[int, str], np.ndarray | None]
"""(stamp of a scan in ns, its frame) → world_from_lidar (4, 4), None where nobody knows it."""
_TYPES = {"sensor_msgs/msg/PointCloud2": PointCloud2, "sensor_msgs/msg/PointField": PointField}


class Labeller:
    """One model with the settings of one lidar.

    Attributes:
        layout: What becomes of its answers, as of the last scan.
    """

    def __init__(self, segmenter: Segmenter, values: SimpleNamespace, fused: FusedLabels | None = None) -> None:
        """Take a loaded model.

        Args:
            segmenter: The model.
            values: Parameters of the segmenter node.
            fused: The same model with its fused head, where pictures are to have their say.
        Raises:
            ConfigError: a class_remap or movable_classes that do not fit the model's classes.
        """
        self._segmenter, self._fused = segmenter, fused
        self._fusion = _make_fusion(values, segmenter.card.labels.names) if values.temporal_fusion else None
        self._online = OnlineIntensity(segmenter.card.intensity)
        self._mounting: tuple[Any, ...] = ()
        self._state: Levelling | None = None
        self._levelled_s = 0.0
        self._intensity_problem = ""
        self._intensity_checked_s = float("-inf")
        self.configure(values)
        self._apply(self._settings)

    @classmethod
    def load(cls, values: SimpleNamespace) -> Labeller:
        """Load the model that the parameters name, and run it once so that the first cloud is not late.

        Raises:
            XkdError: no such model, no backend that works, or settings that do not fit it.
        """
        model, threads = find_model(values.model), values.num_threads or None
        fused = None
        if values.fused:
            fused = FusedLabels.load(model, values.fused_teacher, values.backend, threads, values.outside, 1e3 * values.fused_max_dt_s)
        segmenter = fused.fused.segmenter if fused is not None else Segmenter.load(model, values.backend, threads, values.outside)
        labeller = cls(segmenter, values, fused)
        segmenter.segment(np.random.default_rng(0).uniform(-3, 3, (4000, 3)).astype(np.float32), None)
        return labeller

    def configure(self, values: SimpleNamespace) -> None:
        """Take the parameters that need no reload, from the next scan on: levelling, intensity, output layout.

        Raises:
            ConfigError: parameters that do not fit the model, see `make_layout`.
        """
        self._settings = values, make_layout(values, self.card)

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        return self._segmenter.card

    @property
    def values(self) -> SimpleNamespace:
        """The parameters that were taken last."""
        return self._settings[0]

    def _apply(self, settings: tuple[SimpleNamespace, OutputLayout]) -> None:
        """Change over between two scans: set from another thread while one is in work, half of it would be of each kind."""
        self._applied = settings
        self._values, self.layout = values, layout = settings
        self._segmenter.headings, self._segmenter.groups = layout.headings, layout.groups
        mounting = (values.levelling, values.roll_deg, values.pitch_deg)
        if mounting != self._mounting:
            self._mounting = mounting
            self._levelling = _make_levelling(*mounting)
            self._state = None

    def label(
        self, cloud: PointCloud2, pose_at: PoseAt | None = None, views_at: ViewsAt | None = None
    ) -> tuple[PointCloud2, Segmentation, dict[str, float]]:
        """Label one cloud.

        Args:
            cloud: The cloud.
            pose_at: Asked after the network, by when the odometry of a scan has mostly arrived, and only for temporal fusion.
            views_at: Asked before the network, by when a picture that is published with the scan has mostly arrived.
        Returns:
            The labelled cloud, valid until the next call; the labels; and milliseconds per stage.
        Raises:
            CloudError: a cloud that cannot be read.
            XkdError: a backend that failed.
        """
        begun = time.perf_counter()
        settings = self._settings
        if settings is not self._applied:
            self._apply(settings)
        scan = decode_cloud(cloud)
        decoded = time.perf_counter()
        levelling = self._level(scan)
        intensity = self._intensity(scan)
        prepared = time.perf_counter()
        infer = self._fused.infer_with(scan, views_at) if self._fused is not None and views_at is not None else None
        segmentation = self._segmenter.segment(scan.points_m, intensity, levelling.rotation, self._fuse(scan, pose_at), infer)
        segmented = time.perf_counter()
        parts = self.layout.format.encode(cloud, segmentation, self._segmenter.card.labels.palette)
        labelled = parts.to_message(cloud.header, _TYPES)
        encoded = time.perf_counter()

        inner = segmentation.stage_ms
        stage_ms = {stage: inner.get(stage, 0.0) for stage in STAGES[:4]}
        stage_ms["decode"] = 1e3 * (decoded - begun)
        stage_ms["preprocess"] += 1e3 * (prepared - decoded)
        if self._fusion is not None:
            stage_ms["fusion"] = inner.get("fusion", 0.0)
        # Encoding, and what the segmenter does around the stages it names.
        named = sum(inner.get(stage, 0.0) for stage in ("preprocess", "inference", "fusion"))
        stage_ms["postprocess"] = 1e3 * (encoded - prepared) - named if named else 1e3 * (encoded - segmented)
        return labelled, segmentation, stage_ms

    def _fuse(self, scan: Scan, pose_at: PoseAt | None) -> Fuse | None:
        fusion = self._fusion
        if fusion is None or pose_at is None:
            return None
        return lambda points_m, logits: fusion(points_m, logits, pose_at(scan.stamp_ns, scan.frame_id), scan.stamp_ns)

    def _level(self, scan: Scan) -> Levelling:
        """Keep the last levelling for a while once it is trusted: a mounting changes slowly, and looking costs time."""
        now = time.monotonic()
        state = self._state
        if state is None or not state.trusted or now - self._levelled_s >= self._values.levelling_period_s:
            state = self._state = self._levelling.update(scan.points_m)
            self._levelled_s = now
        return state

    def _intensity(self, scan: Scan) -> np.ndarray | None:
        """Choose the intensities the network sees, and keep their statistics."""
        if scan.intensity is None or self._values.intensity == "off":
            self._intensity_problem = ""
            return None
        if self._values.intensity == "online":
            self._segmenter.intensity = self._online.update(_measured(scan))
        else:
            self._segmenter.intensity = self._segmenter.card.intensity
        now = time.monotonic()
        if now - self._intensity_checked_s >= _INTENSITY_CHECK_S:
            self._intensity_checked_s = now
            self._intensity_problem = scale_problem(_measured(scan), self._segmenter.intensity)
        return scan.intensity

    def describe_labels(self) -> dict[str, Any]:
        """Describe the ids in the output, for the latched topic."""
        values, layout = self._settings
        field = {"full": values.label_field, "autoware": "class_id"}.get(values.output_profile, "intensity")
        return describe_labels(self.card, layout.remap, field)

    def describe(self) -> str:
        """Say in one line what was loaded and why not something faster."""
        card = self._segmenter.card
        size = f"{card.network.depth} layers x {card.network.width}, {len(card.labels)} classes"
        return f"model {card.name} ({size}) on {self._segmenter.backend_name}{self._why()}"

    def _why(self) -> str:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self._segmenter.why.items())
        return f" (not used: {reasons})" if reasons else ""

    @property
    def share(self) -> float:
        """Share of the voxels that the network looks at, see `Segmenter.share`."""
        return self._segmenter.share

    @share.setter
    def share(self, share: float) -> None:
        self._segmenter.share = share

    @property
    def usual_entropy(self) -> float | None:
        """Mean entropy on the ground of the model's training; None where the card has none."""
        return self._segmenter.card.usual_entropy

    def complaints(self) -> tuple[str, ...]:
        """Say what is wrong with backend and input though every cloud goes through; empty when all is well."""
        intensity = f"{self._intensity_problem}; set intensity to online or off" if self._intensity_problem else ""
        alone = self._fused.problem if self._fused is not None else ""
        return tuple(filter(None, (self._segmenter.trouble, intensity, alone)))

    def facts(self) -> dict[str, str]:
        """Rows for /diagnostics."""
        card, online = self._segmenter.card, self._online.config
        known = "each scan by its own" if card.intensity.per_scan else f"{card.intensity.mean:.3g} / {card.intensity.std:.3g}"
        return {
            "model": card.name,
            "card hash": card.hash,
            "backend": self._segmenter.backend_name,
            **{f"backend not used: {name}": reason for name, reason in self._segmenter.why.items()},
            "voxels labelled directly": f"{100 * self.share:.0f} %",
            "levelling": self._describe_levelling(),
            "temporal fusion": self._describe_fusion(),
            **(self._fused.facts() if self._fused is not None else {}),
            "intensity": self._values.intensity,
            "intensity mean/std of this sensor": f"{online.mean:.3g} / {online.std:.3g}",
            "intensity mean/std of the model": known,
        }

    def _describe_fusion(self) -> str:
        fusion = self._fusion
        if fusion is None:
            return "off"
        return f"{100 * fusion.fused_share:.0f} % of the last scan was known, {fusion.voxels} voxels kept"

    def _describe_levelling(self) -> str:
        mode, state = self._values.levelling, self._state
        if state is None:
            return f"{mode}: no scan yet"
        if not state.trusted:
            return f"{mode}: not levelled, {state.reason}"
        floor = "" if state.floor_height_m is None else f", floor {state.floor_height_m:.2f} m"
        return f"{mode}: tilt {state.tilt_deg:.1f} deg, support {state.support:.2f}{floor}"


def _measured(scan: Scan) -> np.ndarray:
    """Return the intensities of real returns: the others carry an intensity of nothing."""
    assert scan.intensity is not None
    return scan.intensity[np.isfinite(scan.points_m).all(axis=1) & scan.points_m.any(axis=1)]


def _make_levelling(mode: str, roll_deg: float, pitch_deg: float) -> LevellingFilter:
    """Build the filter: estimated on top of the nominal mounting, given by it alone, or nothing."""
    mounting = rotation_from_rpy(np.radians(roll_deg), np.radians(pitch_deg), 0.0)
    if mode == "auto":
        return LevellingFilter(mounting=mounting)
    return LevellingFilter(rotation=mounting if mode == "fixed" else np.eye(3))


def _make_fusion(values: SimpleNamespace, classes: tuple[str, ...]) -> TemporalFusion:
    movable = chosen_classes(values, "movable_classes", classes)
    return TemporalFusion(classes, FusionConfig(movable=tuple(classes[number] for number in movable)))

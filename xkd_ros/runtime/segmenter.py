"""Scan in, one label per point out: levelling, preprocessing, network, and back to every raw point.

Next rooms: nodes, evaluate. The frame of the caller is the lidar's; levelled coordinates stay inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from xkd_ros.core.card import IntensityConfig, ModelCard, load_card
from xkd_ros.core.errors import ConfigError, ShapeError
from xkd_ros.core.types import UNKNOWN, NetInput, ScanRequest, Segmentation
from xkd_ros.points.grid import inside_field_of_view
from xkd_ros.points.levelling import estimate_levelling
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.backend import Backend
from xkd_ros.runtime.headings import average_headings, check_headings
from xkd_ros.runtime.selection import choose_backend, make_backend, next_backend
from xkd_ros.runtime.watched_backend import WatchedBackend

Outside = Literal["nearest", "unknown"]
Fuse = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(points_m (N, 3) float32 sampled points, lidar frame; logits (N, C), divided by the temperature) → logits (N, C) that know more."""

Infer = Callable[[NetInput], np.ndarray]
"""The network's input → (N, C) logits."""


class Segmenter:
    """A model with the backend that runs it. One scan at a time: not for several threads at once.

    Attributes:
        card: The model's card.
        why: For each backend that was not taken, the reason; filled by `load(backend="auto")`.
        share: Of the voxels, those that the network looks at; the others get the label of the nearest. 1 is all, less is faster.
    """

    def __init__(self, card: ModelCard, backend: Backend, threads: int | None = None, outside: Outside = "nearest") -> None:
        """Join a card and a backend.

        Args:
            card: Says how scans are preprocessed and what the classes are.
            backend: Runs the network.
            threads: CPU threads of the neighbour search; None takes all.
            outside: Label of points outside the field of view: that of the nearest point inside, or 255.
        Raises:
            ConfigError: unknown `outside`.
        """
        if outside not in get_args(Outside):
            raise ConfigError(f"outside '{outside}' is unknown; use {' or '.join(get_args(Outside))}")
        self.card = card
        self.why: dict[str, str] = {}
        self.share = 1.0
        self._headings = 1
        self._groups: np.ndarray | None = None
        self._backend = backend if isinstance(backend, WatchedBackend) else WatchedBackend(backend)
        self._outside = outside
        self._preprocess = Preprocessor(card.geometry, card.intensity, threads or -1)

    @classmethod
    def load(cls, folder: str | Path, backend: str = "auto", threads: int | None = None, outside: Outside = "nearest") -> Segmenter:
        """Load a model folder.

        Args:
            folder: Holds card.json and the weights.
            backend: numba, torch, torch-bf16, onnxruntime, tensorrt or cuda; auto tries them on three scans and keeps the fastest.
            threads: CPU threads; None takes all.
            outside: As for the constructor.
        Raises:
            ModelError: unusable folder or backend.
            ConfigError: unknown `outside`.
        """
        folder = Path(folder)
        card = load_card(folder)
        if backend == "auto":
            first, why = choose_backend(folder, card, threads)
            chosen: Backend = WatchedBackend(first, lambda failed: next_backend(folder, card, threads, failed))
        else:
            chosen, why = make_backend(backend, folder, card, threads), {}
        segmenter = cls(card, chosen, threads, outside)
        segmenter.why = why
        return segmenter

    @property
    def backend_name(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    @property
    def trouble(self) -> str:
        """Which backend failed at work and what goes on in its place; empty while the first one works."""
        return self._backend.trouble

    @property
    def headings(self) -> int:
        """Headings in which a scan is labelled, 1, 2 or 4, to be averaged: better labels for as many times the work.

        Raises:
            ConfigError: another number is set, or several where the field of view is not square.
        """
        return self._headings

    @headings.setter
    def headings(self, headings: int) -> None:
        check_headings(headings, self.card.geometry)
        self._headings = headings

    @property
    def groups(self) -> np.ndarray | None:
        """(C,) classes that are one to whoever asks have the same number; None: each is one of its own.

        What is one is named by the sum of its probabilities, and by its likeliest class: where wall and column are one, a point that may
        be either is that before it is furniture.

        Raises:
            ShapeError: something else than one number from 0 to C - 1 for each class is set.
        """
        return self._groups

    @groups.setter
    def groups(self, groups: np.ndarray | None) -> None:
        classes = len(self.card.labels)
        if groups is not None and (groups.shape != (classes,) or groups.min() < 0 or groups.max() >= classes):
            raise ShapeError(f"groups are {groups.tolist()}, expected one number from 0 to {classes - 1} for each of {classes} classes")
        self._groups = groups

    @property
    def intensity(self) -> IntensityConfig:
        """Statistics that intensities are normalised with; a node that learns them online sets them here."""
        return self._preprocess.intensity

    @intensity.setter
    def intensity(self, config: IntensityConfig) -> None:
        self._preprocess.intensity = config

    def segment(
        self,
        points_m: np.ndarray,
        intensity: np.ndarray | None = None,
        rotation: np.ndarray | None = None,
        fuse: Fuse | None = None,
        infer: Infer | None = None,
    ) -> Segmentation:
        """Label every point.

        Args:
            points_m: (M, 3) metres, lidar frame; NaN and (0, 0, 0) are no measurements.
            intensity: (M,) in the sensor's unit, or None.
            rotation: (3, 3) levelled_from_lidar; None estimates it from this scan.
            fuse: Called when the network is done, to join its answer with what else is known; `temporal.TemporalFusion` with a pose.
            infer: Asked instead of the backend, such as a fused head that also sees a picture.
        Returns:
            Labels in input order with milliseconds per stage (level, preprocess, inference, fusion, postprocess, total; where a backend
            goes the whole way, level, inference, total). What is no measurement, and everything when no point lies in the field of view,
            is 255 with probability 0 and entropy 1.
        Raises:
            ShapeError: points are not (M, 3), or there is not one intensity per point.
        """
        if points_m.ndim != 2 or points_m.shape[1] != 3:
            raise ShapeError(f"points_m has shape {points_m.shape}, expected (M, 3)")
        if intensity is not None and intensity.shape != (len(points_m),):
            raise ShapeError(f"intensity has shape {intensity.shape}, expected ({len(points_m)},)")
        clock = [time.perf_counter()]
        rotation = self._level(points_m) if rotation is None else rotation
        clock.append(time.perf_counter())
        if fuse is None and infer is None and self.share == 1:
            inside_only = self._outside == "unknown"
            request = ScanRequest(points_m, intensity, rotation, self.intensity, inside_only, self._headings, self._groups)
            whole = self._backend.label_scan(request)
            if whole is not None:
                return _timed(whole, clock, ("level", "inference"))
        net_input = self._preprocess(points_m, intensity, rotation, limit=self._limit)
        clock.append(time.perf_counter())
        logits = self._look(points_m, intensity, rotation, net_input) if infer is None else infer(net_input)
        logits = logits / np.float32(self.card.temperature)
        clock.append(time.perf_counter())
        if fuse is not None:
            logits = fuse(np.asarray(points_m[net_input.kept], np.float32), logits)
        clock.append(time.perf_counter())
        return _timed(self._answer(points_m, net_input, logits), clock, ("level", "preprocess", "inference", "fusion", "postprocess"))

    def logits(
        self, points_m: np.ndarray, intensity: np.ndarray | None = None, rotation: np.ndarray | None = None
    ) -> tuple[NetInput, np.ndarray]:
        """Return the network's input and its (N, C) logits, for calibration and comparison; arguments as for `segment`."""
        rotation = self._level(points_m) if rotation is None else rotation
        net_input = self._preprocess(points_m, intensity, rotation)
        return net_input, self._look(points_m, intensity, rotation, net_input)

    def prepare(self, points_m: np.ndarray, intensity: np.ndarray | None = None, rotation: np.ndarray | None = None) -> NetInput:
        """Return the network's input; arguments as for `segment`."""
        return self._preprocess(points_m, intensity, self._level(points_m) if rotation is None else rotation)

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return the (N, C) logits of the network's input; none of an empty one."""
        return self._backend.infer(net_input) if len(net_input) else np.empty((0, len(self.card.labels)), np.float32)

    def _look(self, points_m: np.ndarray, intensity: np.ndarray | None, rotation: np.ndarray, net_input: NetInput) -> np.ndarray:
        """Return (N, C) logits of a prepared scan, averaged over as many headings as are wanted."""
        if self._headings == 1 or not len(net_input):
            return self.infer(net_input)

        def prepare(turned: np.ndarray) -> NetInput:
            return self._preprocess(points_m, intensity, turned, limit=self._limit)

        return average_headings(prepare, self.infer, net_input, rotation, self.card.temperature, self._headings)

    @property
    def _limit(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
        return self._thin if self.share < 1 else None

    def _thin(self, points: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """Choose evenly: voxels come sorted by place."""
        count = min(len(points), max(1, round(self.share * len(points))))
        return (np.arange(count) / self.share).astype(np.int64).clip(max=len(points) - 1)

    def _level(self, points_m: np.ndarray) -> np.ndarray:
        levelling = estimate_levelling(points_m)
        return levelling.rotation if levelling.trusted else np.eye(3)

    def _answer(self, points_m: np.ndarray, net_input: NetInput, logits: np.ndarray) -> Segmentation:
        """Turn (N, C) logits of the sampled points, divided by the temperature, into labels of the M raw ones."""
        label, probability, entropy = describe_logits(logits, 1.0, self._groups)
        known = net_input.undo >= 0
        if self._outside == "unknown":
            with np.errstate(invalid="ignore", over="ignore"):
                levelled = points_m.astype(np.float32) @ net_input.rotation.T.astype(np.float32)
                known &= inside_field_of_view(levelled, self.card.geometry)
        chosen = net_input.undo[known]
        labels = np.full(len(points_m), UNKNOWN, np.uint8)
        probabilities = np.zeros(len(points_m), np.float32)
        entropies = np.ones(len(points_m), np.float32)
        labels[known], probabilities[known], entropies[known] = label[chosen], probability[chosen], entropy[chosen]
        return Segmentation(labels, probabilities, entropies, {})


def _timed(result: Segmentation, clock: list[float], stages: tuple[str, ...]) -> Segmentation:
    """Note how long each stage took, of which the last one ends now."""
    spans = [1e3 * (after - before) for before, after in pairwise([*clock, time.perf_counter()])]
    result.stage_ms.update(zip(stages, spans), total=sum(spans))
    return result


def describe_logits(logits: np.ndarray, temperature: float, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Name the likeliest class and say how sure that is.

    Args:
        logits: (N, C) float32; rows that are not finite (an overflow of reduced precision) become unknown.
        temperature: Divides the logits.
        groups: As for `Segmenter.groups`.
    Returns:
        labels (N,) uint8, probability (N,) float32 of that label and those that are one with it, entropy (N,) float32 divided by log(C).
    """
    if not len(logits):
        return np.empty(0, np.uint8), np.empty(0, np.float32), np.empty(0, np.float32)
    with np.errstate(invalid="ignore"):
        scaled = (logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature)
        share = np.exp(scaled)
        total = share.sum(axis=1)
        # With p = share / total: -sum p log p = log total - sum share * scaled / total.
        entropy = (np.log(total) - np.einsum("nc,nc->n", share, scaled) / total) / np.float32(max(np.log(logits.shape[1]), 1e-9))
        if groups is None:
            label, best = logits.argmax(axis=1).astype(np.uint8), np.float32(1)
        else:
            together = (share @ (groups[:, None] == np.arange(len(groups))).astype(np.float32))[:, groups]  # (N, C)
            best = together.max(axis=1)
            label = np.where(together == best[:, None], share, -1).argmax(axis=1).astype(np.uint8)
        probability = best / total
    broken = ~np.isfinite(total + entropy)
    label[broken], probability[broken], entropy[broken] = UNKNOWN, 0.0, 1.0
    return label, probability, entropy

"""Scan in, one label per point out: levelling, preprocessing, network, and back to every raw point.

Next rooms: nodes, evaluate. The frame of the caller is the lidar's; levelled coordinates stay inside.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from xkd_ros.core.card import IntensityConfig, ModelCard, load_card
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.types import UNKNOWN, NetInput, Segmentation
from xkd_ros.points.grid import inside_field_of_view
from xkd_ros.points.levelling import estimate_levelling
from xkd_ros.points.preprocessor import Preprocessor

Outside = Literal["nearest", "unknown"]


class Backend(Protocol):
    """Runs the network on one preprocessed scan."""

    name: str

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits."""
        ...


class Segmenter:
    """A model with the backend that runs it."""

    def __init__(self, card: ModelCard, backend: Backend, threads: int | None = None, outside: Outside = "nearest") -> None:
        if outside not in ("nearest", "unknown"):
            raise ConfigError(f"outside '{outside}' is unknown; use nearest or unknown")
        self.card = card
        self.why: dict[str, str] = {}
        self._backend = backend
        self._outside = outside
        self._preprocess = Preprocessor(card.geometry, card.intensity, threads or -1)

    @classmethod
    def load(cls, folder: str | Path, backend: str = "auto", threads: int | None = None, outside: Outside = "nearest") -> Segmenter:
        """Load a model folder.

        Args:
            folder: Holds card.json and the weights.
            backend: torch.
            threads: CPU threads; None takes all.
            outside: Label of points outside the field of view: that of the nearest point inside, or 255.
        Raises:
            ModelError: unusable folder or backend.
        """
        card = load_card(folder)
        if backend not in ("auto", "torch"):
            raise ModelError(f"backend '{backend}' is unknown; use auto or torch")
        from xkd_ros.runtime.torch_backend import TorchBackend

        return cls(card, TorchBackend.load(folder, threads), threads, outside)

    @property
    def backend_name(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    @property
    def intensity(self) -> IntensityConfig:
        """Statistics that intensities are normalised with; a node that learns them online sets them here."""
        return self._preprocess.intensity

    @intensity.setter
    def intensity(self, config: IntensityConfig) -> None:
        self._preprocess.intensity = config

    def segment(self, points_m: np.ndarray, intensity: np.ndarray | None = None, rotation: np.ndarray | None = None) -> Segmentation:
        """Label every point.

        Args:
            points_m: (M, 3) metres, lidar frame; NaN and (0, 0, 0) are no measurements.
            intensity: (M,) in the sensor's unit, or None.
            rotation: (3, 3) levelled_from_lidar; None estimates it from this scan.
        Returns:
            Labels in input order; no measurement is 255 with probability 0 and entropy 1.
        """
        clock = [time.perf_counter()]
        rotation = self._level(points_m) if rotation is None else rotation
        clock.append(time.perf_counter())
        net_input = self._preprocess(points_m, intensity, rotation)
        clock.append(time.perf_counter())
        logits = self._backend.infer(net_input) if len(net_input) else np.zeros((0, len(self.card.labels)), np.float32)
        clock.append(time.perf_counter())
        result = self._answer(points_m, net_input, logits)
        clock.append(time.perf_counter())
        spans = [1e3 * (after - before) for before, after in zip(clock, clock[1:])]
        result.stage_ms.update(zip(("level", "preprocess", "inference", "postprocess"), spans), total=sum(spans))
        return result

    def logits(self, points_m: np.ndarray, intensity: np.ndarray | None = None) -> tuple[NetInput, np.ndarray]:
        """Return the network's input and its (N, C) logits, for calibration and comparison."""
        net_input = self._preprocess(points_m, intensity, self._level(points_m))
        return net_input, self._backend.infer(net_input)

    def _level(self, points_m: np.ndarray) -> np.ndarray:
        levelling = estimate_levelling(points_m)
        return levelling.rotation if levelling.trusted else np.eye(3)

    def _answer(self, points_m: np.ndarray, net_input: NetInput, logits: np.ndarray) -> Segmentation:
        scaled = logits / np.float32(self.card.temperature)
        scaled -= scaled.max(axis=1, keepdims=True) if len(scaled) else 0
        share = np.exp(scaled)
        total = share.sum(axis=1, keepdims=True)
        # sum p log p = sum p (s - log total)
        entropy = (np.log(total[:, 0]) - (share * scaled).sum(axis=1) / total[:, 0]) / max(np.log(logits.shape[1]), 1e-9)
        label = logits.argmax(axis=1).astype(np.uint8) if len(logits) else np.zeros(0, np.uint8)
        probability = 1.0 / total[:, 0]
        undo = net_input.undo
        known = undo >= 0
        if self._outside == "unknown":
            with np.errstate(invalid="ignore", over="ignore"):
                known = known & inside_field_of_view(points_m.astype(np.float32) @ net_input.rotation.T.astype(np.float32), self.card.geometry)
        chosen = undo[known]
        labels = np.full(len(points_m), UNKNOWN, np.uint8)
        probabilities = np.zeros(len(points_m), np.float32)
        entropies = np.ones(len(points_m), np.float32)
        labels[known], probabilities[known], entropies[known] = label[chosen], probability[chosen], entropy[chosen]
        return Segmentation(labels, probabilities, entropies, {})

"""How good is a student that is still being trained? On building styles it never saw, and on real scans where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xkd_ros.core.card import ModelCard
from xkd_ros.core.labels import INDOOR12_TO_STRUCT4
from xkd_ros.core.types import Scan
from xkd_ros.evaluate.scores import EntropyTable
from xkd_ros.evaluate.validation import LabelledScan, score, score_variants
from xkd_ros.metrics.reliability import expected_calibration_error, fit_temperature
from xkd_ros.nets.student import Student
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.torch_backend import run_in_memory
from xkd_ros.worlds.scan_shards import ScanStore


class Validation:
    """Scores the averaged student with the code that runs on the robot."""

    def __init__(self, card: ModelCard, shifted: ScanStore, real: Sequence[LabelledScan] = (), threads: int | None = None) -> None:
        self._card, self._real, self._threads = card, real, threads
        self._shifted = []
        for index in range(len(shifted)):
            points, intensity, labels, _ = shifted.as_mounted(index)
            self._shifted.append(LabelledScan(Scan(points, intensity), labels, INDOOR12_TO_STRUCT4[labels]))

    def _segmenter(self, student: Student, card: ModelCard) -> Segmenter:
        return Segmenter(card, run_in_memory(student, card, self._threads), threads=self._threads)

    def quick(self, student: Student) -> dict[str, Any]:
        """Return mIoU over twelve and four classes, in percent, simulated and real."""
        segmenter = self._segmenter(student, self._card)
        sets = {"shifted": self._shifted, **({"real": self._real} if self._real else {})}
        facts: dict[str, Any] = {}
        for name, scans in sets.items():
            result = score(segmenter.segment, scans)
            facts[f"{name}_miou12"], facts[f"{name}_miou4"] = (round(100 * c.miou, 1) for c in (result.indoor12, result.struct4))
        return facts

    def complete(self, student: Student, card: ModelCard) -> ModelCard:
        """Calibrate the temperature on the first half of the shifted scans, score everything, and return the card with both.

        Scans of a building follow each other: the halves, of which the second measures the calibration, show different ones.
        """
        half = len(self._shifted) // 2
        logits, truth = self._logits(student, self._shifted[:half])
        card = card.model_copy(update={"temperature": round(fit_temperature(logits, truth), 3)})
        segmenter = self._segmenter(student, card)
        metrics: dict[str, Any] = {"classes": list(card.labels.names)}
        shifted = score(segmenter.segment, self._shifted)
        metrics["shifted_buildings"] = {**shifted.summary(), "ece": self._ece(segmenter, self._shifted[half:])}
        metrics["entropy"] = EntropyTable.of(shifted.entropy).model_dump(mode="json")
        if self._real:
            metrics["real"] = {name: result.summary() for name, result in score_variants(segmenter.segment, self._real).items()}
        return card.model_copy(update={"metrics": metrics})

    def _logits(self, student: Student, scans: Sequence[LabelledScan]) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, C) and truth (N,) of every tenth labelled point: enough for one number."""
        segmenter = self._segmenter(student, self._card)
        rows, truths = [], []
        for item in scans:
            net_input, logits = segmenter.logits(item.scan.points_m, item.scan.intensity)
            assert item.indoor12 is not None
            truth = item.indoor12[net_input.kept]
            chosen = np.flatnonzero(truth < logits.shape[1])[::10]
            rows.append(logits[chosen])
            truths.append(truth[chosen].astype(np.int64))
        return np.concatenate(rows), np.concatenate(truths)

    def _ece(self, segmenter: Segmenter, scans: Sequence[LabelledScan]) -> float:
        probability, correct = [], []
        for item in scans:
            result = segmenter.segment(item.scan.points_m, item.scan.intensity)
            assert item.indoor12 is not None
            known = item.indoor12 < len(segmenter.card.labels)
            probability.append(result.probability[known])
            correct.append(result.labels[known] == item.indoor12[known])
        return round(expected_calibration_error(np.concatenate(probability), np.concatenate(correct)), 4)

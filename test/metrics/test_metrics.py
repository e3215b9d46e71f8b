"""Scores against slow plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xkd_ros.core.errors import ShapeError
from xkd_ros.metrics.confusion import Confusion
from xkd_ros.metrics.reliability import expected_calibration_error, fit_temperature

LABELS = arrays(np.uint8, 60, elements=st.sampled_from([0, 1, 2, 3, 255]))


@settings(max_examples=50)
@given(LABELS, LABELS)
def test_iou_and_accuracy_by_definition(truth: np.ndarray, predicted: np.ndarray) -> None:
    confusion = Confusion(4)
    confusion.add(truth[:30], predicted[:30])
    confusion.add(truth[30:], predicted[30:])
    known = truth != 255
    for c in range(4):
        hit = np.sum((truth == c) & (predicted == c))
        union = np.sum(known & ((truth == c) | (predicted == c)))
        assert np.isnan(confusion.iou[c]) if union == 0 else np.isclose(confusion.iou[c], hit / union)
        total = np.sum(truth == c)
        assert np.isnan(confusion.accuracy[c]) if total == 0 else np.isclose(confusion.accuracy[c], hit / total)
    if known.any():
        assert np.isclose(confusion.oacc, np.mean(truth[known] == predicted[known]))
        assert np.isclose(confusion.miou, np.nanmean(confusion.iou))


def test_no_label_at_all_is_nan_not_a_crash() -> None:
    confusion = Confusion(3)
    confusion.add(np.full(5, 255, np.uint8), np.zeros(5, np.uint8))
    assert np.isnan(confusion.miou) and np.isnan(confusion.oacc)


def test_length_mismatch() -> None:
    with pytest.raises(ShapeError):
        Confusion(3).add(np.zeros(4, np.uint8), np.zeros(5, np.uint8))


def test_calibration_error_by_loop() -> None:
    rng = np.random.default_rng(0)
    probability, correct = rng.random(500), rng.random(500) < 0.6
    slow = 0.0
    for b in range(15):
        inside = (probability >= b / 15) & (probability < (b + 1) / 15)
        if inside.any():
            slow += inside.mean() * abs(probability[inside].mean() - correct[inside].mean())
    assert np.isclose(expected_calibration_error(probability, correct), slow)


def test_temperature_recovers_a_known_one() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (20000, 5))
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (probability.cumsum(1) > rng.random((20000, 1))).argmax(1)
    assert fit_temperature(logits * 1.8, truth) == pytest.approx(1.8, rel=0.05)

"""Scores against slow plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xkd_ros.core.errors import ShapeError
from xkd_ros.core.labels import INDOOR12_TO_STRUCT4
from xkd_ros.metrics.confusion import Confusion
from xkd_ros.metrics.entropy import BINS, EntropyHistogram
from xkd_ros.metrics.reliability import Reliability, expected_calibration_error, fit_temperature
from xkd_ros.metrics.separation import roc_auc

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


def test_absent_class_is_skipped_and_one_only_predicted_counts_as_zero() -> None:
    confusion = Confusion(4)
    confusion.add(np.array([0, 0, 1, 1], np.uint8), np.array([0, 2, 1, 1], np.uint8))
    assert confusion.iou[:3].tolist() == [0.5, 1.0, 0.0] and np.isnan(confusion.iou[3])
    assert confusion.miou == pytest.approx(0.5) and confusion.macc == pytest.approx(0.75) and confusion.oacc == 0.75


@settings(max_examples=30)
@given(*[arrays(np.uint8, 40, elements=st.sampled_from([*range(12), 255]))] * 2)
def test_merged_classes_equal_merged_labels(truth: np.ndarray, predicted: np.ndarray) -> None:
    fine, coarse = Confusion(12), Confusion(4)
    fine.add(truth, predicted)
    coarse.add(INDOOR12_TO_STRUCT4[truth], INDOOR12_TO_STRUCT4[predicted])
    assert np.array_equal(fine.merged(INDOOR12_TO_STRUCT4, 4).counts, coarse.counts)
    assert np.array_equal(Confusion.from_counts(fine.counts).counts, fine.counts)


def test_a_merged_away_truth_is_left_out_and_a_merged_away_prediction_is_no_class() -> None:
    confusion = Confusion(3)
    confusion.add(np.array([0, 1, 2], np.uint8), np.array([2, 1, 0], np.uint8))
    mapping = np.full(256, 255, np.uint8)
    mapping[:2] = [0, 1]
    assert confusion.merged(mapping, 2).counts.tolist() == [[0, 0, 1], [0, 1, 0]]


def test_counts_of_another_shape() -> None:
    with pytest.raises(ShapeError):
        Confusion.from_counts(np.zeros((3, 3), np.int64))


def test_reliability_gathers_scan_by_scan() -> None:
    rng = np.random.default_rng(3)
    probability, correct = rng.random(300).astype(np.float32), rng.random(300) < 0.5
    probability[:2] = [0.0, 1.0]
    parts = Reliability()
    for part in np.array_split(np.arange(300), 4):
        parts.add(probability[part], correct[part])
    assert parts.points.sum() == 300 and parts.hits.sum() == correct.sum()
    assert parts.ece == pytest.approx(expected_calibration_error(probability, correct))
    assert np.isnan(Reliability().ece)


def test_temperature_mends_overconfidence_and_keeps_the_labels() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 1.5, (20000, 6))
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (probability.cumsum(1) > rng.random((20000, 1))).argmax(1)
    loud = 2.5 * logits
    temperature = fit_temperature(loud[::2], truth[::2])

    def ece(values: np.ndarray) -> float:
        shares = np.exp(values) / np.exp(values).sum(1, keepdims=True)
        return expected_calibration_error(shares.max(1)[1::2], (shares.argmax(1) == truth)[1::2])

    assert ece(loud) > 0.1 and ece(loud / temperature) < 0.02
    assert np.array_equal(loud.argmax(1), (loud / temperature).argmax(1))


def test_entropy_histogram() -> None:
    rng = np.random.default_rng(5)
    values = np.append(rng.random(500), [0.0, 1.0]).astype(np.float32)
    histogram = EntropyHistogram()
    assert np.isnan(histogram.mean)
    histogram.add(values[:100])
    histogram.add(np.append(values[100:], np.float32(np.nan)))
    assert np.array_equal(histogram.counts, np.histogram(values, BINS, (0, 1))[0]) and len(histogram.edges) == BINS + 1
    assert histogram.mean == pytest.approx(values.mean(), rel=1e-6)
    twice = histogram + histogram
    assert np.array_equal(twice.counts, 2 * histogram.counts) and twice.mean == pytest.approx(histogram.mean)


def test_the_area_under_the_roc_curve_is_a_count_of_pairs():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, positive = rng.integers(0, 6, 40) / 6, rng.random(40) < 0.4
        pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
        assert roc_auc(scores, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(roc_auc(scores, np.ones(40, bool)))


def test_a_prediction_that_is_no_class_is_no_neighbour_of_one() -> None:
    confusion = Confusion(3)
    confusion.add(np.array([1, 2, 0]), np.array([-1, 7, 255]))
    assert confusion.counts[:, 3].tolist() == [1, 1, 1] and confusion.counts[:, :3].sum() == 0


@pytest.mark.parametrize("temperature", [0.3, 0.9, 3.6])
def test_temperature_is_found_to_a_hundredth(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    found = fit_temperature(temperature * logits, truth := (logits + rng.gumbel(size=logits.shape)).argmax(1))
    near = [_nll(temperature * logits / (found * factor), truth) for factor in (0.99, 1, 1.01)]
    assert near[1] < min(near[0], near[2]) and found == pytest.approx(temperature, rel=0.1)


def _nll(logits: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(truth)), truth]))

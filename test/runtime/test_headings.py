"""Several headings of one scan: averaged probabilities, at the points of the first."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import NetInput
from xkd_ros.nets.student import seeded_student
from xkd_ros.runtime.headings import average_headings
from xkd_ros.runtime.probe import make_room_scan
from xkd_ros.runtime.segmenter import Segmenter, describe_logits
from xkd_ros.runtime.torch_backend import TorchBackend

CARD = ModelCard(
    geometry=GeometryConfig(fov_min_m=(-9.0, -9.0, -1.5), fov_max_m=(9.0, 9.0, 2.5), neighbours=8),
    intensity=IntensityConfig(per_scan=True),
    network=NetworkConfig(depth=3, width=16),
    temperature=1.3,
)
POINTS, RAW = make_room_scan(1, 16, 150, 12.0)
LEVEL = rotation_from_rpy(0.05, -0.03, 0.4)


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(CARD, TorchBackend(seeded_student(CARD.network, 5).eval(), CARD, device="cpu"))


@pytest.mark.parametrize("headings", [2, 4])
def test_answers_are_the_mean_of_the_headings(segmenter: Segmenter, headings: int) -> None:
    first, said = segmenter.prepare(POINTS, RAW, LEVEL), []
    for number in range(headings):
        turned = rotation_from_rpy(0, 0, 2 * np.pi * number / headings) @ LEVEL
        item, logits = segmenter.logits(POINTS, RAW, turned)
        share = np.exp(logits.astype(np.float64) / CARD.temperature)
        said.append((share / share.sum(1, keepdims=True))[item.undo[first.kept]])
    mean = np.mean(said, axis=0)
    segmenter.headings = headings
    result = segmenter.segment(POINTS, RAW, LEVEL)
    known = first.undo >= 0
    np.testing.assert_array_equal(result.labels[known], mean.argmax(1)[first.undo[known]])
    np.testing.assert_allclose(result.probability[known], mean.max(1)[first.undo[known]], atol=1e-5)
    assert result.stage_ms["inference"] > 0 and (result.labels[~known] == 255).all()


def test_one_heading_is_the_scan_as_it_is(segmenter: Segmenter) -> None:
    alone = segmenter.segment(POINTS, RAW, LEVEL)
    segmenter.headings = 4
    averaged = segmenter.segment(POINTS, RAW, LEVEL)
    segmenter.headings = 1
    again = segmenter.segment(POINTS, RAW, LEVEL)
    assert np.array_equal(alone.probability, again.probability) and not np.array_equal(alone.probability, averaged.probability)


def test_what_asks_pictures_or_fuses_gets_one_answer_per_point(segmenter: Segmenter) -> None:
    segmenter.headings = 2
    seen: list[tuple[int, ...]] = []
    segmenter.segment(POINTS, RAW, LEVEL, fuse=lambda points, logits: seen.append((len(points), *logits.shape)) or logits)
    assert seen[0][0] == seen[0][1] and seen[0][2] == len(CARD.labels)


def test_rows_that_are_no_numbers_stay_so(segmenter: Segmenter) -> None:
    item = segmenter.prepare(POINTS, RAW, LEVEL)

    def infer(prepared: NetInput) -> np.ndarray:
        logits = np.zeros((len(prepared), 3), np.float32)
        logits[0, 1] = np.nan
        logits[1, 0] = -4000
        return logits

    averaged = average_headings(lambda rotation: item, infer, item, LEVEL, 1.0, 2)
    label, probability, _ = describe_logits(averaged, 1.0)
    assert label[0] == 255 and probability[0] == 0 and np.isfinite(averaged[1:]).all() and (label[1:] < 3).all()


def test_what_cannot_be_is_refused(segmenter: Segmenter) -> None:
    with pytest.raises(ConfigError, match="headings 3 is none of 1, 2, 4"):
        segmenter.headings = 3
    wide = CARD.model_copy(update={"geometry": CARD.geometry.model_copy(update={"fov_max_m": (12.0, 9.0, 2.5)})})
    other = Segmenter(wide, TorchBackend(seeded_student(CARD.network, 5).eval(), wide, device="cpu"))
    other.headings = 1
    with pytest.raises(ConfigError, match="square around the sensor"):
        other.headings = 2


def test_empty_scans_have_no_answer(segmenter: Segmenter) -> None:
    segmenter.headings = 4
    assert (segmenter.segment(np.full((20, 3), np.nan, np.float32), None, LEVEL).labels == 255).all()
    assert len(segmenter.segment(np.zeros((0, 3), np.float32), None, LEVEL).labels) == 0

"""Strokes: on the surfaces of their class alone, and as many on a wall far from the sensor as on one beside it."""

import numpy as np
import pytest

from xkd_ros.core.types import UNKNOWN
from xkd_ros.worlds.scribbles import Scribbles

SHARE = 0.08


def wall(count, start_m, length_m, rng):
    return np.stack([start_m + length_m * rng.random(count), np.zeros(count), 3 * rng.random(count)], axis=1).astype(np.float32)


@pytest.fixture
def place():
    """A wall whose first 4 m were seen twenty times as densely as the other 16, and a floor a metre away."""
    rng = np.random.default_rng(0)
    floor = np.concatenate([20 * rng.random((8000, 2)), np.full((8000, 1), -1.0)], axis=1).astype(np.float32)
    points = np.concatenate([wall(20000, 0, 4, rng), wall(4000, 4, 16, rng), floor])
    return points, np.repeat([0, 1], [24000, 8000]).astype(np.uint8)


def test_the_share_is_kept_and_dense_parts_do_not_use_it_up(place):
    points, true = place
    far = []
    for seed in range(6):
        scribbles = Scribbles(points, true, SHARE, seed)
        labels = scribbles.label(points, true)
        known = labels != UNKNOWN
        assert np.array_equal(labels[known], true[known]) and known.mean() == pytest.approx(scribbles.share)
        assert SHARE <= scribbles.share < 1.5 * SHARE
        far.append(known[20000:24000].mean())
    assert np.mean(far) > SHARE / 2


def test_strokes_label_no_point_of_another_class(place):
    points, true = place
    scribbles = Scribbles(points, true, SHARE, 0)
    asked = np.repeat(points[true == 0], 2, axis=0)
    claimed = np.tile([0, 1], (true == 0).sum()).astype(np.uint8)
    labels = scribbles.label(asked, claimed)
    assert (labels == 0).any() and not (labels == 1).any()
    assert set(np.unique(labels[claimed == 0])) == {0, UNKNOWN}

"""Turning a choice of points around."""

import numpy as np

from xkd_ros.points.places import places


def test_a_place_leads_back_to_the_point():
    chosen = np.random.default_rng(0).permutation(50)[:20]
    place = places(chosen, 50)
    assert all(place[point] == number for number, point in enumerate(chosen)) and (place >= 0).sum() == 20
    assert places(np.zeros(0, np.int64), 3).tolist() == [-1, -1, -1]

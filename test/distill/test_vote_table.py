"""Votes on places: keys of voxels, one vote per frame, and a table that forgets what left it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from xkd_ros.distill.vote_table import NOWHERE, VoteTable, cast, voxel_keys


def test_voxels_have_one_key_each_also_far_from_zero_and_below_it() -> None:
    rng = np.random.default_rng(0)
    origin = np.array([4.1e6, -3.3e5, 120.0])
    index = rng.integers(-30, 30, (4000, 3))
    keys = voxel_keys(origin + (index + rng.uniform(0.01, 0.99, index.shape)) * 0.1, origin, 0.1)
    same_place = {tuple(row) for row in index}
    assert len(np.unique(keys)) == len(same_place) and (keys >= 0).all()
    again = voxel_keys(origin + (index + 0.5) * 0.1, origin, 0.1)
    assert np.array_equal(keys, again)
    lost = voxel_keys(np.array([[np.nan, 0, 0], [2e5, 0, 0], [0, -np.inf, 0]]), np.zeros(3), 0.1)
    assert (lost == NOWHERE).all()


def test_a_frame_has_one_vote_per_voxel() -> None:
    ballot = cast(np.array([7, 5, 7, NOWHERE, 7]), np.array([[1, 0], [0.4, 0.6], [0, 1], [1, 0], [0, 1]], float))
    assert ballot.keys.tolist() == [5, 7] and ballot.votes.tolist() == [[400, 600], [333, 667]]
    assert cast(np.zeros(0, np.int64), np.zeros((0, 2))).votes.shape == (0, 2)


def test_the_table_is_a_dictionary_of_sums() -> None:
    rng = np.random.default_rng(3)
    table, inside = VoteTable(3), []
    for step in range(30):
        if inside and rng.random() < 0.45:
            table.remove(inside.pop(0))
        else:
            inside.append(cast(rng.integers(0, 40 if step < 10 else 90_000, 700), rng.dirichlet([1, 1, 1], 700)))
            table.add(inside[-1])
        sums: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(3, int))
        frames: dict[int, int] = defaultdict(int)
        for ballot in inside:
            for key, votes in zip(ballot.keys.tolist(), ballot.votes):
                sums[key] = sums[key] + votes
                frames[key] += 1
        asked = np.append(rng.integers(0, 90_000, 50), NOWHERE)
        votes, counts = table.look_up(asked)
        assert all((votes[row] == sums[key]).all() and counts[row] == frames[key] for row, key in enumerate(asked.tolist()))
        assert len(table) == sum(count > 0 for count in frames.values())


def test_places_that_nobody_votes_on_are_forgotten() -> None:
    table, window = VoteTable(2), []
    for step in range(60):
        window.append(cast(np.arange(step * 1000, step * 1000 + 1000), np.full((1000, 2), 0.5)))
        table.add(window[-1])
        if len(window) > 3:
            table.remove(window.pop(0))
        assert len(table) == 1000 * len(window) and len(table._frames) < 12_000
    votes, frames = table.look_up(np.array([59_999, 1]))
    assert votes.tolist() == [[500, 500], [0, 0]] and frames.tolist() == [1, 0]

"""A student's labels put to the vote: what frames of one place agree on stays, a single error goes, and nobody else has a say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.pseudo_config import VoteConfig
from xkd_ros.distill.retraining.place_votes import vote_on_places

CLASSES, MOVER = 4, 3
CONFIG = VoteConfig(voxel_m=0.5, radius_frames=9, reach_frames=9, min_observations=2, majority=0.6, min_confidence=0)
PLACES = np.array([[0.2, 0.2, 0.2], [5.2, 0.2, 0.2], [0.2, 5.2, 0.2], [9.2, 9.2, 0.2]], np.float32)


class Drive:
    """A robot that drives on by a metre a frame, and what a student says about the four places in each of them."""

    def __init__(self, said: list[list[int]], posed: bool = True, empty: tuple[int, ...] = ()) -> None:
        self.said, self.posed, self.empty = said, posed, empty

    def numbers(self, split: str | None = None) -> np.ndarray:
        return np.arange(len(self.said))

    def scan(self, number: int) -> Any:
        pose = np.eye(4)
        pose[0, 3] = number
        points = PLACES - np.array([number, 0, 0], np.float32)
        return SimpleNamespace(
            number=number,
            rig="lidar",
            source="drive",
            split="train",
            stamp_ns=number * 10**9,
            world_from_lidar=pose if self.posed else None,
            points_m=points[:0] if number in self.empty else points,
        )

    def ask(self, frame: Any) -> tuple[np.ndarray, np.ndarray]:
        if not len(frame.points_m):
            return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
        logits = np.zeros((len(PLACES), CLASSES), np.float32)
        for row, label in enumerate(self.said[frame.number]):
            logits[row, label] = 4 if label >= 0 else np.nan
        # Rows of the network come in an order of their own.
        return logits[::-1].copy(), np.arange(len(PLACES))[::-1].copy()


def vote(drive: Drive, numbers: list[int] | None = None, config: VoteConfig | None = CONFIG) -> dict[int, tuple[list[int], np.ndarray]]:
    chosen = drive.numbers() if numbers is None else np.array(numbers)
    said = vote_on_places(drive, chosen, drive.ask, CLASSES, (MOVER,), config)  # type: ignore[arg-type]
    return {number: (labels.tolist(), confidence) for number, labels, confidence in said}


def test_what_most_frames_say_stays_and_a_single_error_goes() -> None:
    found = vote(Drive([[0, 1, 2, 0], [0, 1, 2, 1], [0, 2, 2, 0], [0, 1, 2, 1]]))
    assert list(found) == [0, 1, 2, 3]
    for labels, confidence in found.values():
        assert labels == [0, 1, 2, UNKNOWN], "the second place is settled, on the fourth they contradict each other"
        assert (confidence[:3] > 0).all() and confidence[0] > confidence[1] and confidence[3] == 0


def test_without_poses_or_votes_each_frame_is_labelled_alone() -> None:
    said = [[0, 1, 2, 0], [0, 1, 2, 1], [0, 2, 2, 0]]
    for drive, config in ((Drive(said, posed=False), CONFIG), (Drive(said), None)):
        found = vote(drive, config=config)
        assert [found[number][0] for number in range(3)] == said
        sure = np.exp(4) / (np.exp(4) + CLASSES - 1)
        assert all(confidence == pytest.approx(sure, rel=1e-5) for _, confidence in found.values())


def test_nobody_votes_on_what_moves() -> None:
    found = vote(Drive([[MOVER, 1, 1, 1]] + [[0, 1, 1, MOVER]] * 4))
    assert found[0][0] == [MOVER, 1, 1, 1] and found[1][0] == [0, 1, 1, MOVER]


def test_frames_that_are_not_asked_for_do_not_vote() -> None:
    drive = Drive([[0, 0, 0, 0]] * 2 + [[1, 1, 1, 1]] * 5)
    assert vote(drive, [0, 1])[0][0] == [0] * 4 and list(vote(drive, [0, 1])) == [0, 1]
    assert vote(drive)[0][0] == [1] * 4


def test_frames_without_points_and_logits_that_are_no_numbers_say_nothing() -> None:
    found = vote(Drive([[0, 1, 2, 0], [-1, 1, 2, 0], [0, 1, 2, 0]], empty=(2,)))
    assert found[2][0] == [] and found[0][0] == [0, 1, 2, 0]
    labels, confidence = found[1]
    assert labels[1:] == [1, 2, 0] and labels[0] in (UNKNOWN, 0) and np.isfinite(confidence).all()
    alone = vote(Drive([[-1, 1, 2, 0]]), config=None)[0]
    assert alone[0] == [UNKNOWN, 1, 2, 0] and alone[1][0] == 0

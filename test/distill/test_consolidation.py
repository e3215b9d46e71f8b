"""Frames of one place vote: against a plain reference, rule by rule, and on a room whose labels were spoilt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from xkd_ros.core import se3
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.confidence import Opinion
from xkd_ros.distill.consolidation import Consolidator, FrameLabels, Witness, make_witness
from xkd_ros.distill.pseudo_config import PseudoConfig, Reason
from xkd_ros.distill.vote_table import WHOLE

HERE = np.zeros(3)


def opinion(
    points: Sequence[int], labels: Sequence[int], confidence: float = 0.9, reason: int | Sequence[int] = Reason.KEPT, classes: int = 4
) -> Opinion:
    labels = np.array(labels, np.uint8)
    known = labels != UNKNOWN
    probability = np.zeros((len(labels), classes))
    probability[known] = (1 - confidence) / (classes - 1)
    probability[np.flatnonzero(known), labels[known]] = confidence
    reasons = np.broadcast_to(np.array(reason, np.uint8), len(labels)).copy()
    return Opinion(np.array(points, np.int64), probability, labels, reasons)


def run(witnesses: list[Witness], config: PseudoConfig, movers: list[int] | None = None, first: int = 0) -> list[FrameLabels]:
    asked: list[int] = []

    def load(position: int) -> Witness:
        asked.append(position)
        return witnesses[position]

    found = dict(Consolidator(4, movers or [], config).run(load, len(witnesses), first))
    assert list(found) == list(range(first, len(witnesses)))
    assert asked == list(range(max(0, first - config.reach_frames), len(witnesses)))
    return list(found.values())


def still(opinions: list[Opinion], count: int = 3) -> list[Witness]:
    """Frames without motion whose points lie in different voxels."""
    metres = np.arange(count)[:, None] * np.array([1.0, 0, 0]) + 0.05
    return [make_witness(metres.astype(np.float32), np.eye(4), HERE, one, 0.1) for one in opinions]


def plain(
    points: list[np.ndarray], poses: list[np.ndarray], opinions: list[Opinion], config: PseudoConfig, movers: list[int]
) -> list[tuple[list[int], list[float], list[int]]]:
    """The same rules, point by point, with dictionaries."""

    def place(frame: int, point: int) -> tuple[int, ...]:
        world = poses[frame][:3, :3] @ points[frame][point].astype(np.float64) + poses[frame][:3, 3]
        return tuple(np.floor(world / config.voxel_m).astype(int))

    ballots = []
    for frame, one in enumerate(opinions):
        heap = defaultdict(list)
        for point, probability, reason in zip(one.point, one.probability, one.reason):
            if reason == Reason.KEPT:
                heap[place(frame, point)].append([*probability, 0.0])
            elif reason in (Reason.IGNORED, Reason.GLASS):
                heap[place(frame, point)].append([0.0] * len(probability) + [1.0])
        ballots.append({key: np.rint(WHOLE * np.mean(votes, axis=0)) for key, votes in heap.items()})

    results = []
    for frame, one in enumerate(opinions):
        rows = {int(point): row for row, point in enumerate(one.point)}
        labels, confidence, reasons = [], [], []
        for point in range(len(points[frame])):
            row = rows.get(point)
            reason = Reason.UNSEEN if row is None else Reason(int(one.reason[row]))
            valid = reason in (Reason.KEPT, Reason.MARGIN, Reason.THRESHOLD)
            window = config.radius_frames if valid else config.reach_frames
            voters = [b for b in ballots[max(0, frame - window) : frame + window + 1] if place(frame, point) in b]
            total = sum((b[place(frame, point)] for b in voters), np.zeros(5))
            winner, share = int(total.argmax()), min(1.0, total.max() / (WHOLE * max(1, len(voters))))
            observed = len(voters) >= config.min_observations
            settled = observed and share >= config.majority
            own = UNKNOWN if row is None else int(one.label[row])
            label, sure, outcome = UNKNOWN, 0.0, reason
            mine = one.probability[row][winner] if valid and winner < 4 else None
            joint = share if mine is None else (mine * share) ** 0.5
            wins = settled and winner < 4 and winner not in movers
            if reason == Reason.KEPT:
                label, sure = own, float(one.probability[row].max())
                if own not in movers:
                    if observed and not settled:
                        outcome = Reason.CONTESTED
                    elif settled and winner == 4:
                        outcome = Reason.OVERRULED
                    elif wins and winner == own:
                        sure = joint
                    elif wins:
                        label, sure, outcome = winner, joint, Reason.GAINED if joint >= config.min_confidence else Reason.OVERRULED
                if outcome == Reason.KEPT and sure < config.min_confidence:
                    outcome = Reason.DOUBTFUL
            elif reason not in (Reason.IGNORED, Reason.GLASS) and own not in movers and wins and joint >= config.min_confidence:
                label, sure, outcome = winner, joint, Reason.PROPAGATED if reason == Reason.UNSEEN else Reason.GAINED
            if outcome < Reason.KEPT:
                label, sure = UNKNOWN, 0.0
            labels.append(label)
            confidence.append(sure)
            reasons.append(int(outcome))
        results.append((labels, confidence, reasons))
    return results


@pytest.mark.parametrize(("radius", "reach"), [(2, 2), (2, 5), (0, 3)])
def test_equal_to_a_plain_reference(radius: int, reach: int) -> None:
    rng = np.random.default_rng(radius * 10 + reach)
    config = PseudoConfig(radius_frames=radius, reach_frames=reach, voxel_m=0.5, min_observations=2)
    points, poses, opinions = [], [], []
    reasons = [Reason.KEPT] * 6 + [Reason.MARGIN, Reason.THRESHOLD, Reason.EDGE, Reason.LATE, Reason.IGNORED, Reason.GLASS]
    for frame in range(12):
        points.append(rng.uniform(0, 2, (60, 3)).astype(np.float32))
        poses.append(se3.make_transform(se3.rotation_from_rpy(*rng.uniform(-0.4, 0.4, 3)), [0.1 * frame, 0, 0]))
        seen = np.sort(rng.choice(60, 40, replace=False))
        reason = rng.choice(reasons, 40)
        probability = rng.dirichlet([0.15] * 4, 40)
        probability[reason == Reason.IGNORED] = 0
        label = np.where(reason == Reason.IGNORED, UNKNOWN, probability.argmax(1)).astype(np.uint8)
        opinions.append(Opinion(seen, probability, label, reason.astype(np.uint8)))
    witnesses = [make_witness(*one, HERE, say, 0.5) for *one, say in zip(points, poses, opinions)]
    found = run(witnesses, config, [3])
    wanted = plain(points, poses, opinions, config, [3])
    for mine, (labels, confidence, reason) in zip(found, wanted):
        assert mine.labels.tolist() == labels and mine.reason.tolist() == reason
        assert np.allclose(mine.confidence, confidence, atol=1e-6)
    seen_reasons = {value for _, _, reason in wanted for value in reason}
    assert {Reason.KEPT, Reason.GAINED, Reason.PROPAGATED} | ({Reason.CONTESTED} if radius else set()) <= seen_reasons
    # What was interrupted goes on with the same result.
    for first in (1, 5, 11):
        again = run(witnesses, config, [3], first)
        assert all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for a, b in zip(found[first:], again)
            for name in ("labels", "confidence", "reason", "own_label", "own_reason")
        )


def test_enough_observations_and_a_majority() -> None:
    config = PseudoConfig(min_observations=3, majority=0.6, radius_frames=10)
    two = still([opinion([0], [1]), opinion([0], [1]), opinion([], [])])
    assert [frame.labels[0] for frame in run(two, config)] == [1, 1, UNKNOWN]
    three = still([opinion([0], [1])] * 3 + [opinion([], [])])
    result = run(three, config)[3]
    assert result.labels.tolist() == [1, UNKNOWN, UNKNOWN] and result.reason[0] == Reason.PROPAGATED
    assert result.confidence[0] == pytest.approx(0.9)
    split = still([opinion([0], [1], 0.99)] * 3 + [opinion([0], [2], 0.99)] * 3 + [opinion([], [])])
    assert [frame.reason[0] for frame in run(split, config)] == [Reason.CONTESTED] * 6 + [Reason.UNSEEN]


def test_confidence_is_the_geometric_mean() -> None:
    witnesses = still([opinion([0], [1], 0.96)] * 3 + [opinion([0], [1], 0.72)])
    result = run(witnesses, PseudoConfig())[3]
    assert result.reason[0] == Reason.KEPT and result.confidence[0] == pytest.approx(np.sqrt(0.72 * 0.9), abs=1e-4)


def test_a_lone_error_is_overruled() -> None:
    witnesses = still([opinion([0], [1], 0.95)] * 9 + [opinion([0], [2], 0.95)])
    result = run(witnesses, PseudoConfig())[9]
    assert result.labels[0] == UNKNOWN and result.reason[0] == result.own_reason[0] == Reason.OVERRULED
    # A less certain error gives way and takes the label of the others.
    probability = np.array([[0.0, 0.42, 0.58, 0.0]])
    unsure = Opinion(np.array([0]), probability, np.array([2], np.uint8), np.array([Reason.KEPT], np.uint8))
    result = run(still([opinion([0], [1], 0.95)] * 9 + [unsure]), PseudoConfig())[9]
    assert result.labels[0] == 1 and result.reason[0] == Reason.GAINED and result.own_reason[0] == Reason.OVERRULED


@pytest.mark.parametrize("reason", [Reason.EDGE, Reason.BORDER, Reason.LATE, Reason.TURNING, Reason.THRESHOLD, Reason.MARGIN])
def test_a_rejected_opinion_does_not_vote_and_may_gain(reason: Reason) -> None:
    witnesses = still([opinion([0], [1], 0.9)] * 4 + [opinion([0], [1], 0.6, reason)] * 8)
    result = run(witnesses, PseudoConfig())[11]
    assert result.labels[0] == 1 and result.reason[0] == Reason.GAINED and result.own_reason[0] == reason
    weak = reason in (Reason.THRESHOLD, Reason.MARGIN)
    assert result.confidence[0] == pytest.approx(np.sqrt(0.6 * 0.9) if weak else 0.9, abs=1e-4)


@pytest.mark.parametrize("reason", [Reason.IGNORED, Reason.GLASS])
def test_mirrors_and_panes_stay_unlabelled(reason: Reason) -> None:
    label = UNKNOWN if reason == Reason.IGNORED else 1
    ignored = opinion([0], [label], reason=reason)
    assert run(still([opinion([0], [1])] * 6 + [ignored]), PseudoConfig())[6].labels[0] == UNKNOWN
    mostly = run(still([opinion([0], [1])] * 3 + [ignored] * 9 + [opinion([], [])]), PseudoConfig())
    assert [frame.labels[0] for frame in mostly] == [UNKNOWN] * 13 and mostly[0].reason[0] == Reason.OVERRULED


def test_movers_keep_their_own_label_and_leave_no_trail() -> None:
    config = PseudoConfig()
    person, floor, nobody = opinion([0], [3]), opinion([0], [1]), opinion([], [])
    # Standing still for long: labelled where the camera sees them, carried nowhere.
    result = run(still([person] * 9 + [nobody]), config, [3])
    assert [frame.labels[0] for frame in result] == [3] * 9 + [UNKNOWN]
    assert result[0].confidence[0] == pytest.approx(0.9)
    # Passing over the floor: neither becomes the other.
    result = run(still([floor] * 9 + [person] + [nobody]), config, [3])
    assert [frame.labels[0] for frame in result] == [1] * 9 + [3, 1]
    # Where mostly a person was seen, what was seen below stays as it is and is not carried.
    result = run(still([floor] * 3 + [person] * 9 + [nobody]), config, [3])
    assert [frame.labels[0] for frame in result] == [1] * 3 + [3] * 9 + [UNKNOWN]
    # A half-sure person does not turn into what is usually there.
    half = opinion([0], [3], 0.5, Reason.BORDER)
    assert run(still([floor] * 9 + [half]), config, [3])[9].labels[0] == UNKNOWN


def test_small_confidence_is_no_label() -> None:
    weak = still([opinion([0, 1], [1, 2], 0.45)])
    result = run(weak, PseudoConfig())[0]
    assert result.labels.tolist() == [UNKNOWN] * 3 and result.reason.tolist() == [Reason.DOUBTFUL, Reason.DOUBTFUL, Reason.UNSEEN]
    assert run(weak, PseudoConfig(min_confidence=0.4))[0].labels.tolist() == [1, 2, UNKNOWN]


def test_without_a_pose_a_frame_stands_alone() -> None:
    metres = np.full((3, 3), 0.05, np.float32)
    witnesses = [make_witness(metres, None, HERE, opinion([0], [label]), 0.1) for label in (1, 1, 1, 2)]
    result = run(witnesses, PseudoConfig())
    assert [frame.labels[0] for frame in result] == [1, 1, 1, 2] and all((frame.labels[1:] == UNKNOWN).all() for frame in result)


def test_labels_reach_what_was_seen_before_the_robot_turned() -> None:
    """A robot turns on the spot and drives; its camera sees 90 degrees ahead."""
    rng = np.random.default_rng(5)
    places = np.floor(rng.uniform(-3, 3, (2500, 3)) / 0.1) * 0.1 + 0.05
    places = places[np.linalg.norm(places[:, :2], axis=1) > 0.7]
    truth = (places[:, 1] > 0).astype(np.uint8) + 1
    tilt = se3.make_transform(se3.rotation_from_rpy(0.2, -0.1, 0.0), [0, 0, 0.4])
    witnesses, hidden = [], []
    for step in range(40):
        base = se3.make_transform(se3.rotation_from_rpy(0, 0, step * 0.16), [100 + 0.01 * step, -50, 3])
        world_from_lidar = base @ tilt
        local = se3.apply(se3.invert(world_from_lidar), places + [100, -50, 3])
        ahead = se3.apply(tilt, local)
        seen = np.flatnonzero(np.abs(np.arctan2(ahead[:, 1], ahead[:, 0])) < np.pi / 4)
        witnesses.append(
            make_witness(local.astype(np.float32), world_from_lidar, np.array([100.0, -50, 3]), opinion(seen, truth[seen]), 0.1)
        )
        hidden.append(np.setdiff1d(np.arange(len(places)), seen))
    near = run(witnesses, PseudoConfig(radius_frames=10, reach_frames=10))
    far = run(witnesses, PseudoConfig(radius_frames=10, reach_frames=40))
    for results, share in ((near, 0.4), (far, 0.97)):
        labels = np.concatenate([frame.labels[rows] for frame, rows in zip(results, hidden)])
        wanted = np.concatenate([truth[rows] for rows in hidden])
        assert np.mean(labels != UNKNOWN) > share
        assert np.mean(labels[labels != UNKNOWN] == wanted[labels != UNKNOWN]) > 0.995
        reasons = np.concatenate([frame.reason[rows] for frame, rows in zip(results, hidden)])
        assert np.array_equal(labels != UNKNOWN, reasons == Reason.PROPAGATED)


def test_voting_mends_spoilt_labels() -> None:
    """A static room seen from many poses; every image calls a quarter of its points something else."""
    rng = np.random.default_rng(11)
    places = np.concatenate([
        np.stack([rng.uniform(-3, 3, 1500), rng.uniform(-3, 3, 1500), np.full(1500, z)], 1) for z in (0.03, 2.53)
    ] + [np.stack([np.full(1500, 3.03), rng.uniform(-3, 3, 1500), rng.uniform(0.2, 2.4, 1500)], 1)])  # fmt: skip
    truth = np.repeat([1, 2, 0], 1500).astype(np.uint8)
    witnesses, spoilt_labels = [], []
    for step in range(25):
        pose = se3.make_transform(se3.rotation_from_rpy(0.03, 0.02, step * 0.1), [0.05 * step, 0.02 * step, 1.0])
        local = se3.apply(se3.invert(pose), places) + rng.normal(0, 0.005, places.shape)
        seen = np.flatnonzero(rng.random(len(places)) < 0.6)
        spoilt = rng.random(len(seen)) < 0.25
        labels = np.where(spoilt, (truth[seen] + rng.integers(1, 4, len(seen))) % 4, truth[seen])
        confidence = np.where(spoilt, rng.uniform(0.55, 0.95, len(seen)), rng.uniform(0.7, 0.99, len(seen)))
        probability = np.repeat((1 - confidence)[:, None] / 3, 4, axis=1)
        probability[np.arange(len(seen)), labels] = confidence
        say = Opinion(seen, probability, labels.astype(np.uint8), np.full(len(seen), Reason.KEPT, np.uint8))
        witnesses.append(make_witness(local.astype(np.float32), pose, HERE, say, 0.1))
        spoilt_labels.append((seen, labels))
    results = run(witnesses, PseudoConfig())
    single = np.mean([np.mean(labels == truth[seen]) for seen, labels in spoilt_labels])
    named = np.concatenate([frame.labels for frame in results])
    right = named == np.tile(truth, len(results))
    voted = np.mean(right[named != UNKNOWN])
    share = 100 * np.mean(named != UNKNOWN)
    print(f"\nsingle image {100 * single:.1f} % right on 60 % of the points; voted {100 * voted:.1f} % on {share:.1f} %")
    assert single < 0.77 and voted > 0.97 and np.mean(named != UNKNOWN) > 0.6

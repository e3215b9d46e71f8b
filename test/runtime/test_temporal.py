"""Temporal fusion against a slow dictionary written from the formula, and what must and must not change it."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.se3 import apply, make_transform, rotation_from_rpy
from xkd_ros.runtime.temporal import FusionConfig, TemporalFusion

CLASSES = ("wall", "floor", "door", "person")
WALL, FLOOR, PERSON = 0, 1, 3
SCAN_NS = 100_000_000


def softmax(logits: np.ndarray) -> np.ndarray:
    share = np.exp(logits - logits.max(1, keepdims=True))
    return share / share.sum(1, keepdims=True)


class Plain:
    """The formula of METHODS 7.2 with the changes that `TemporalFusion` names, one voxel and one class at a time."""

    def __init__(self, config: FusionConfig) -> None:
        self.config, self.known, self.scans = config, {}, []

    def __call__(self, points_m: np.ndarray, logits: np.ndarray, pose: np.ndarray, stamp_ns: int) -> np.ndarray:
        config, now = self.config, len(self.scans)
        self.scans.append(stamp_ns)
        static = [c for c, name in enumerate(CLASSES) if name not in config.movable]
        decay = np.array([config.decay if c in static else config.movable_decay for c in range(len(CLASSES))])
        probability, said = [], {}
        for point, row in zip(apply(pose, points_m.astype(np.float64)), logits.astype(np.float64)):
            if not np.isfinite(row).all():
                probability.append(np.full(len(CLASSES), np.nan))
                continue
            place = tuple(np.floor(point / config.voxel_m).astype(int))
            evidence, mass = np.zeros(len(CLASSES)), 0.0
            if place in self.known:
                last, kept, weight = self.known[place]
                if stamp_ns - self.scans[last] <= config.forget_s * 1e9:
                    evidence, mass = kept * decay ** (now - last), weight * config.decay ** (now - last)
            p = softmax(row[None])[0]
            log_p = np.log(p)
            probability.append(softmax((evidence + log_p)[None] / (1 + min(1.0, mass)))[0])
            w = config.strength * (1 + (p * log_p).sum() / np.log(len(CLASSES)))
            said.setdefault(place, (evidence, mass, []))[2].append((w * log_p, w))
        for place, (evidence, mass, votes) in said.items():
            evidence = evidence + np.mean([vote for vote, _ in votes], axis=0)
            evidence = np.clip(evidence - evidence[static].max(), -config.limit, config.limit)
            self.known[place] = now, evidence, mass + np.mean([weight for _, weight in votes])
        return np.array(probability)


def turned(x_m: float, yaw_rad: float) -> np.ndarray:
    return make_transform(rotation_from_rpy(0.02, -0.03, yaw_rad), (x_m, -0.4, 0.9))


def test_equals_the_formula() -> None:
    rng = np.random.default_rng(0)
    config = FusionConfig(forget_s=2.0)
    fusion, plain = TemporalFusion(CLASSES, config), Plain(config)
    stamp = 0
    for scan in range(40):
        # Some scans are missing, and once there is a gap after which everything is forgotten.
        stamp += SCAN_NS * (30 if scan == 25 else int(rng.integers(1, 4)))
        points = rng.uniform(-0.3, 0.3, (300, 3)).astype(np.float32)
        logits = rng.normal(0, 4, (300, len(CLASSES))).astype(np.float32)
        logits[7, 1] = np.nan if scan % 2 else np.inf
        pose = turned(0.05 * scan, 0.03 * scan)
        given = logits.copy()
        fused = fusion(points, logits, pose, stamp)
        np.testing.assert_array_equal(logits, given)
        expected = plain(points, logits, pose, stamp)
        fine = np.arange(300) != 7
        np.testing.assert_allclose(softmax(fused[fine]), expected[fine], atol=2e-4)
        assert not np.isfinite(fused[7]).all()
        assert fusion.fused_share > 0.3 or scan in (0, 25)
    # A place of which nothing but NaN was said takes a row too.
    assert 0 <= fusion.voxels - len(plain.known) <= 40


def test_order_of_points_and_whole_voxels_change_nothing() -> None:
    rng = np.random.default_rng(1)
    config = FusionConfig(voxel_m=0.125)
    fusions = [TemporalFusion(CLASSES, config) for _ in range(3)]
    far = make_transform(np.eye(3), (125.0 * 3200, -125.0 * 41000, 0.125 * 7))  # as in the coordinates of a map
    for scan in range(8):
        points = (rng.integers(-24, 24, (500, 3)) / 64 + 1 / 128).astype(np.float32)
        logits = rng.normal(0, 3, (500, len(CLASSES))).astype(np.float32)
        pose = make_transform(np.eye(3), (0.125 * scan, 0.0, 0.0))
        order = rng.permutation(500)
        first = fusions[0](points, logits, pose, scan * SCAN_NS)
        shuffled = fusions[1](points[order], logits[order], pose, scan * SCAN_NS)
        moved = fusions[2](points, logits, far @ pose, scan * SCAN_NS)
        np.testing.assert_allclose(shuffled, first[order], atol=1e-4)
        np.testing.assert_array_equal(moved, first)
    assert fusions[0].fused_share > 0.7


def walls(pose: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scan two kinds of surface from somewhere; return points in the lidar frame, logits that are often wrong, and the truth."""
    world = rng.uniform((-1.5, -1.5, 0), (1.5, 1.5, 0), (2000, 3))
    truth = np.where(np.floor(2 * world[:, 0]) % 2 == 0, WALL, FLOOR)
    logits = rng.normal(0, 2.0, (2000, len(CLASSES)))
    logits[np.arange(2000), truth] += 2.5
    return apply(np.linalg.inv(pose), world).astype(np.float32), logits.astype(np.float32), truth


def accuracy_of_drive(told: bool) -> tuple[float, float]:
    """Share of right labels in the last scan of a drive, alone and fused, with the right pose or one that stands still."""
    rng, fusion = np.random.default_rng(2), TemporalFusion(CLASSES)
    for scan in range(25):
        pose = turned(0.08 * scan, 0.05 * scan)
        points, logits, truth = walls(pose, rng)
        fused = fusion(points, logits, pose if told else np.eye(4), scan * SCAN_NS)
    return float((logits.argmax(1) == truth).mean()), float((fused.argmax(1) == truth).mean())


def test_scans_from_several_places_sharpen_labels_only_with_their_poses() -> None:
    alone, fused = accuracy_of_drive(told=True)
    assert alone < 0.65 and fused > 0.85
    assert accuracy_of_drive(told=False)[1] < 0.75


def test_without_a_pose_nothing_is_fused_and_nothing_forgotten() -> None:
    rng, fusion = np.random.default_rng(3), TemporalFusion(CLASSES)
    points, logits = rng.uniform(-1, 1, (50, 3)).astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(softmax(fusion(points, logits, np.eye(4), 0)), softmax(logits), atol=1e-6)
    for unknown in (None, np.full((4, 4), np.nan)):
        assert fusion(points, logits, unknown, SCAN_NS) is logits
        assert fusion.fused_share == 0
    assert (fusion(points, logits, np.eye(4), 2 * SCAN_NS) != logits).any() and fusion.fused_share == 1


def test_time_that_goes_back_and_jumps_begin_anew() -> None:
    rng = np.random.default_rng(4)
    points, logits = rng.uniform(-1, 1, (50, 3)).astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32)
    start = make_transform(np.eye(3), (5.0, 5.0, 0.0))

    def share(pose: np.ndarray, stamp_ns: int) -> float:
        fusion = TemporalFusion(CLASSES)
        fusion(points, logits, start, 10 * SCAN_NS)
        fusion(points, logits, pose, stamp_ns)
        back = fusion(points, logits, pose, stamp_ns)
        assert fusion.fused_share == 1 and np.isfinite(back).all()
        return fusion.voxels

    kept = share(start, 11 * SCAN_NS)
    # In other voxels: those of the first scan remain after a motion, and are gone after a jump.
    aside = make_transform(np.eye(3), (5.0, 6.0, 0.05))
    assert share(aside, 11 * SCAN_NS) > 1.5 * kept
    assert share(start, 9 * SCAN_NS) == kept
    far, spun = make_transform(np.eye(3), (5.0, 9.0, 0.05)), make_transform(rotation_from_rpy(0, 0, 2.5), (5.0, 5.0, 0.05))
    for jump in (far, spun):
        assert share(jump, 11 * SCAN_NS) < 1.1 * kept
        assert share(jump, 30 * SCAN_NS) > 1.3 * kept


def labels_after_leaving(movable_decay: float) -> list[int]:
    """A person stands at a wall for three seconds and leaves; the network then finds the wall, not very surely."""
    fusion = TemporalFusion(CLASSES, FusionConfig(movable_decay=movable_decay))
    point = np.full((1, 3), 0.05, np.float32)
    person, wall = np.log([[0.02, 0.02, 0.02, 0.94]], dtype=np.float32), np.log([[0.5, 0.05, 0.15, 0.3]], dtype=np.float32)
    seen = [fusion(point, person if scan < 30 else wall, np.eye(4), scan * SCAN_NS) for scan in range(60)]
    return [int(fused.argmax()) for fused in seen]


def test_a_person_who_left_does_not_stay_on_the_wall() -> None:
    labels = labels_after_leaving(FusionConfig().movable_decay)
    assert set(labels[:30]) == {PERSON}
    assert labels[30:].count(PERSON) <= 6 and labels[36:] == [WALL] * 24
    assert labels_after_leaving(FusionConfig().decay)[30:].count(PERSON) > 10


def test_a_person_is_seen_where_the_floor_was_sure() -> None:
    fusion = TemporalFusion(CLASSES)
    point = np.full((1, 3), 0.05, np.float32)
    floor, person = np.log([[1e-4, 0.9997, 1e-4, 1e-4]], dtype=np.float32), np.log([[0.01, 0.04, 0.01, 0.94]], dtype=np.float32)
    seen = [fusion(point, floor if scan < 50 else person, np.eye(4), scan * SCAN_NS).argmax() for scan in range(56)]
    assert set(seen[:50]) == {FLOOR} and seen[52:] == [PERSON] * 4


def test_memory_is_bounded_and_keeps_what_was_seen_last() -> None:
    rng = np.random.default_rng(5)
    most, config = 3000, FusionConfig(max_voxels=3000, radius_m=3.0)
    fusion, roomy = TemporalFusion(CLASSES, config), TemporalFusion(CLASSES)
    for scan in range(60):
        pose = make_transform(np.eye(3), (0.3 * scan, 0.0, 0.0))
        points = rng.uniform((-2, -2, 0), (2, 2, 0.1), (700, 3)).astype(np.float32)
        logits = rng.normal(size=(700, 4)).astype(np.float32)
        small, large = (each(points, logits, pose, scan * SCAN_NS) for each in (fusion, roomy))
        assert fusion.voxels <= most
    assert roomy.voxels > most
    assert fusion.fused_share > 0.8 * roomy.fused_share > 0
    same = np.isclose(small, large, atol=1e-5).all(1)
    assert same.mean() > 0.8
    many = np.zeros((most + 1, 4), np.float32)
    assert fusion(np.zeros((most + 1, 3), np.float32), many, pose, 60 * SCAN_NS) is many


def test_an_empty_scan_is_a_scan() -> None:
    fusion = TemporalFusion(CLASSES)
    assert fusion(np.empty((0, 3), np.float32), np.empty((0, 4), np.float32), np.eye(4), 0).shape == (0, 4)
    assert fusion.fused_share == 0 and fusion.voxels == 0


def test_classes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="movable class 'cat' is unknown to the model; its classes are wall"):
        TemporalFusion(CLASSES, FusionConfig(movable=("cat",)))
    with pytest.raises(ConfigError, match="at least one must stay in place"):
        TemporalFusion(CLASSES, FusionConfig(movable=CLASSES))

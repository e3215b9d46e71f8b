"""Units with mistakes: each fault does what its name says, and what is false is known."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from xkd_ros.worlds.noisy_units import Fault, NoisyUnitConfig, find_things, make_noisy_units

SOUND = {"missed": 0.0, "shifted": 0.0, "wrong_class": 0.0, "merged": 0.0, "leaking": 0.0, "least_points": 3}
CLASSES = 12
WALL, TABLE, CHAIR = 0, 7, 8


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wall at 5 m, a table at 3 m before it, two chairs at 2 m: points (x right, z depth), pixels, labels; some unknown."""
    rng = np.random.default_rng(0)
    parts = [(WALL, (-3, -1.5, 5), (3, 1.5, 5), 600), (TABLE, (-0.6, 0.2, 3), (0.6, 0.6, 3.2), 120)]
    parts += [(CHAIR, (-1.3, 0.3, 2), (-0.9, 0.9, 2.1), 60), (CHAIR, (0.9, 0.3, 2), (1.3, 0.9, 2.1), 60)]
    points = np.concatenate([rng.uniform(low, high, (count, 3)) for _, low, high, count in parts]).astype(np.float32)
    truth = np.concatenate([np.full(count, label, np.uint8) for label, *_, count in parts])
    truth[::50] = 255
    uv = (points[:, :2] / points[:, 2:] * 200 + (240, 180)).astype(np.float32)
    return points, uv, truth


POINTS, UV, TRUTH = scene()


def make(seed: int = 0, **changes):
    return make_noisy_units(POINTS, UV, TRUTH, CLASSES, NoisyUnitConfig(**{**SOUND, **changes}), (seed, 1))


def test_things_are_what_hangs_together() -> None:
    things = find_things(POINTS, TRUTH, NoisyUnitConfig(**SOUND))
    assert [label for label, _ in things] == [WALL, TABLE, CHAIR, CHAIR]
    assert np.array_equal(np.sort(np.concatenate([members for _, members in things])), np.flatnonzero(TRUTH != 255))
    left, right = things[2][1], things[3][1]
    assert {np.sign(POINTS[left, 0]).max(), np.sign(POINTS[right, 0]).max()} == {-1, 1}
    (joined,) = [members for label, members in find_things(POINTS, TRUTH, NoisyUnitConfig(**SOUND, reach_m=2.0)) if label == CHAIR]
    assert len(joined) == len(left) + len(right)


def test_without_faults_units_are_the_things_and_boxes_only_around_objects() -> None:
    units = make()
    assert [(unit.label, unit.box) for unit in units] == [(0, False), (7, False), (7, True), (8, False), (8, True), (8, False), (8, True)]
    assert all(unit.fault is Fault.NONE and unit.right == 1 and not unit.false for unit in units)
    assert all((TRUTH[unit.member] == unit.label).all() for unit in units)


def test_the_seed_decides_everything() -> None:
    noise = {"wrong_class": 0.4, "shifted": 0.3, "leaking": 0.2}
    first, again, other = make(**noise), make(**noise), make(1, **noise)
    assert all(np.array_equal(a.member, b.member) and a.score == b.score and a.label == b.label for a, b in zip(first, again, strict=True))
    assert [unit.score for unit in first] != [unit.score for unit in other]


@pytest.mark.parametrize("fault", ["shifted", "wrong_class", "merged", "leaking"])
def test_each_fault(fault) -> None:
    sound = {(unit.label, unit.box, int(unit.member[0])): unit for unit in make()}
    for seed in range(4):
        units = make(seed, **{fault: 1.0})
        assert units and all(unit.fault is Fault[fault.upper()] for unit in units)
        for unit in units:
            assert unit.right == pytest.approx((TRUTH[unit.member] == unit.label).mean()) and unit.false == (unit.right < 0.5)
        if fault == "wrong_class":
            assert [unit.member.tolist() for unit in units] == [unit.member.tolist() for unit in sound.values()]
            assert all(unit.right == 0 and 0 <= unit.label < CLASSES for unit in units)
        if fault == "leaking":
            table = next(unit for unit in units if unit.label == TABLE)
            low, high = UV[TRUTH == TABLE].min(0), UV[TRUTH == TABLE].max(0)
            inside = [place for place, uv in enumerate(UV) if (low <= uv).all() and (uv <= high).all()]
            assert table.member.tolist() == inside and {WALL, TABLE} <= set(TRUTH[table.member].tolist())
        if fault == "merged":
            table = next(unit for unit in units if unit.label == TABLE)
            assert len(set(TRUTH[table.member].tolist())) == 2
        if fault == "shifted":
            kept = [sound.get((unit.label, unit.box, int(unit.member[0]))) for unit in units]
            assert not any(old is not None and np.array_equal(old.member, unit.member) for old, unit in zip(kept, units))
            assert any(unit.false for unit in units if unit.box) and any(unit.right > 0 for unit in units)


def test_as_many_are_missed_and_faulty_as_asked() -> None:
    config = {"missed": 0.3, "wrong_class": 0.25}
    drawn = [unit for seed in range(150) for unit in make(seed, **config)]
    assert len(drawn) / (150 * 7) == pytest.approx(0.7, abs=0.05)
    assert np.mean([unit.fault is Fault.WRONG_CLASS for unit in drawn]) == pytest.approx(0.25, abs=0.05)
    with pytest.raises(ValidationError, match="more than 1"):
        NoisyUnitConfig(shifted=0.6, wrong_class=0.6)


def test_nothing_seen_is_no_unit() -> None:
    none = np.zeros(0, np.int64)
    assert make_noisy_units(POINTS[none], UV[none], TRUTH[none], CLASSES, NoisyUnitConfig(), (0,)) == []

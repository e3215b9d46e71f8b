"""Scoring on labelled recordings: labels find their scans, variants change what they say, errors name the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError
from xkd_ros.core.labels import INDOOR12_TO_STRUCT4
from xkd_ros.core.rig import LidarConfig, RigConfig, save_rig
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import Scan, Segmentation
from xkd_ros.evaluate.validation import VARIANTS, LabelledScan, load_labelled_bag, score, score_variants
from xkd_ros.msgs.build import make_cloud

STAMP_NS = 1_700_000_000_000_000_000


def _scan(number: int, count: int = 200) -> Scan:
    rng = np.random.default_rng(number)
    points = rng.uniform([-5, -5, -1], [5, 5, 2], (count, 3)).astype(np.float32)
    ring = (np.arange(count) % 16).astype(np.uint16)
    return Scan(points, rng.random(count).astype(np.float32), STAMP_NS + number, "lidar", ring)


def _labelled(number: int) -> LabelledScan:
    truth = np.random.default_rng(number + 50).integers(0, 12, 200).astype(np.uint8)
    truth[:20] = 255
    return LabelledScan(_scan(number), truth, INDOOR12_TO_STRUCT4[truth])


@pytest.fixture
def recording(tmp_path: Path, typestore: Any) -> tuple[Path, Path]:
    labels = tmp_path / "labels"
    labels.mkdir()
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(3):
            writer.write("/points", make_cloud(_scan(number), typestore.types), STAMP_NS + number)
    truth = _labelled(1)
    np.savez(labels / f"{STAMP_NS + 1}.npz", indoor12=truth.indoor12, struct4=truth.struct4)
    return tmp_path / "bag", labels


def test_labels_join_the_scan_of_their_stamp(recording: tuple[Path, Path]) -> None:
    (only,) = load_labelled_bag(*recording)
    assert only.scan.stamp_ns == STAMP_NS + 1
    assert np.array_equal(only.indoor12, _labelled(1).indoor12) and np.array_equal(only.scan.points_m, _scan(1).points_m)


def test_a_lidar_on_its_side_is_asked_as_it_is_mounted(recording: tuple[Path, Path], tmp_path: Path) -> None:
    lying = rotation_from_rpy(np.pi / 2, 0, 0)
    save_rig(RigConfig(name="lying", lidar=LidarConfig(topic="/points", rpy_deg=(90.0, 0.0, 0.0))), tmp_path / "rig.yaml")
    asked = []

    def segment(points_m: np.ndarray, intensity: np.ndarray | None) -> Segmentation:
        asked.append(points_m)
        return Segmentation(*(np.zeros(len(points_m), kind) for kind in (np.uint8, np.float32, np.float32)))

    score(segment, load_labelled_bag(*recording, tmp_path / "rig.yaml"))
    score(segment, load_labelled_bag(*recording))
    np.testing.assert_allclose(asked[0], _scan(1).points_m @ lying.T, atol=1e-5)
    assert np.array_equal(asked[1], _scan(1).points_m)


def test_labels_of_another_recording_are_refused(recording: tuple[Path, Path]) -> None:
    bag, labels = recording
    np.savez(labels / f"{STAMP_NS}.npz", struct4=np.zeros(7, np.uint8))
    with pytest.raises(BagError, match=r"labels \(7,\) points, its scan has 200"):
        load_labelled_bag(bag, labels)


def test_no_label_fits(recording: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BagError, match="stamp"):
        load_labelled_bag(recording[0], tmp_path)


def test_perfect_labels_score_a_hundred() -> None:
    items = [_labelled(n) for n in range(3)]
    answers = iter([np.where(item.indoor12 == 255, 0, item.indoor12).astype(np.uint8) for item in items])
    zeros = np.zeros(200, np.float32)
    result = score(lambda points, intensity: Segmentation(next(answers), zeros, zeros), items)
    assert result.summary()["indoor12"]["miou"] == result.summary()["struct4"]["oacc"] == 100.0


def test_variants_change_what_they_say() -> None:
    item = _labelled(0)
    tilted, blind, halved = (VARIANTS[name](item) for name in ("tilted 10 deg", "no intensity", "half the beams"))
    lengths = np.linalg.norm(tilted.scan.points_m, axis=1) - np.linalg.norm(item.scan.points_m, axis=1)
    assert np.abs(lengths).max() < 1e-4
    ratio = np.linalg.lstsq(item.scan.points_m, tilted.scan.points_m, rcond=None)[0]
    assert np.isclose(np.degrees(np.arccos((np.trace(ratio) - 1) / 2)), 10, atol=0.1)
    assert blind.scan.intensity is None and len(halved.scan) == 100
    assert halved.indoor12 is not None and np.array_equal(halved.indoor12, item.indoor12[item.scan.ring % 2 == 0])


def test_a_tilt_leans_the_robot_however_its_lidar_is_mounted() -> None:
    lying = rotation_from_rpy(np.pi / 2, 0.3, 0)
    item = _labelled(0)
    mounted = replace(item, scan=replace(item.scan, points_m=item.scan.points_m @ lying.astype(np.float32)), mounting=lying)
    np.testing.assert_allclose(VARIANTS["tilted 10 deg"](mounted).mounted_m(), VARIANTS["tilted 10 deg"](item).mounted_m(), atol=1e-5)


def test_every_variant_is_scored() -> None:
    zeros = lambda points, intensity: Segmentation(*(np.zeros(len(points), t) for t in (np.uint8, np.float32, np.float32)))  # noqa: E731
    assert set(score_variants(zeros, [_labelled(0)])) == set(VARIANTS)

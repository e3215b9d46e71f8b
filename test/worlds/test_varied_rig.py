"""Varied rigs differ from each other, are the same for the same number, and can be walked."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.rig import load_rig, save_rig
from xkd_ros.worlds.sensors import SENSORS
from xkd_ros.worlds.varied_rig import varied_rig
from xkd_ros.worlds.walkthrough import Walkthrough


def test_numbers_decide_and_rigs_differ(tmp_path) -> None:
    rigs = [varied_rig(number) for number in range(40)]
    assert rigs[7] == varied_rig(7)
    assert len({rig.simulation.lidar for rig in rigs}) > 8 and len({rig.rig.lidar.height_m for rig in rigs}) > 25
    tilts = np.array([rig.rig.lidar.rpy_deg for rig in rigs])
    assert 3 < tilts[:, :2].std() < 9 and np.abs(tilts).max() <= 15
    for rig in rigs:
        assert len(SENSORS[rig.simulation.lidar].elevations_deg) * SENSORS[rig.simulation.lidar].columns <= 66_000
        save_rig(rig.rig, tmp_path / "rig.yaml")
        assert load_rig(tmp_path / "rig.yaml") == rig.rig


@pytest.mark.parametrize("number", [0, 5])
def test_a_scan_has_the_height_that_the_rig_says(number: int) -> None:
    rig = varied_rig(number)
    walk = Walkthrough(number, rig, 0.5)
    scan, labels = walk.scan(0)
    levelled = scan.points_m @ rig.base_from_lidar()[:3, :3].T.astype(np.float32)
    floor = levelled[labels == 1, 2]
    assert len(floor) > 50 and np.median(floor) == pytest.approx(-rig.rig.lidar.height_m, abs=0.12)

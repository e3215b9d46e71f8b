from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from xkd_ros.bags.calibration import rig_from_bag
from xkd_ros.bags.overlay import calib_check, draw_overlay
from xkd_ros.core.errors import CalibrationError
from xkd_ros.core.rig import save_rig
from xkd_ros.core.se3 import apply, make_transform, rotation_from_rpy
from xkd_ros.core.types import CameraImage, Scan


def test_points_are_drawn_where_they_project_and_nowhere_else(drive: Any) -> None:
    """One near point ahead, one far point hidden behind it, one non-return, one behind the camera."""
    points = np.array([[2.0, 0.3, 0.2], [6.0, 0.9, 0.8], [0, 0, 0], [np.nan, 1, 1], [-3, 0, 0]], np.float32)
    image = CameraImage(np.zeros((drive.camera.height, drive.camera.width, 3), np.uint8))
    canvas, inside, hidden = draw_overlay(Scan(points), image, drive.camera, drive.cam_from_lidar)
    assert (inside, hidden) == (2, 1)
    uv, _ = drive.camera.project(apply(drive.cam_from_lidar, points[:1].astype(float)))
    drawn = np.argwhere(canvas[8:].any(axis=2)) + [8, 0]  # below the caption
    assert len(drawn) and np.abs(drawn - np.rint(uv[0, ::-1])).max() <= 1


def test_a_picture_is_written_for_every_camera(tmp_path: Path, bags: dict[str, Path]) -> None:
    rig = rig_from_bag(bags["mcap"])
    twin = rig.cameras[0].model_copy(update={"name": "twin"})
    rig.cameras.append(twin)
    save_rig(rig, tmp_path / "rig.yaml")
    checks = calib_check(bags["mcap"], tmp_path / "rig.yaml", tmp_path / "deep" / "overlay.png", pairs=2)
    assert [check.camera for check in checks] == ["cam", "twin"]
    assert checks[0].pairs == 5 and len(checks[0].in_image) == 2 and min(checks[0].in_image) > 50 and max(checks[0].dt_ms) <= 8
    assert checks[0].yaw_error_deg is None  # noise has no edges
    assert cv2.imread(str(tmp_path / "deep" / "overlay.png")).shape == (48, 64, 3)


def test_what_cannot_be_drawn_is_named(tmp_path: Path, bags: dict[str, Path], drive: Any) -> None:
    out = tmp_path / "overlay.png"
    rig = rig_from_bag(bags["mcap"])
    rig.cameras[0].width = 64
    with pytest.raises(CalibrationError, match=r"rig says 64x24 for /cam/image_raw, the images are 32x24"):
        calib_check(bags["mcap"], rig, out)
    rig = rig_from_bag(bags["mcap"])
    rig.cameras[0].cam_from_lidar = (make_transform(np.diag([1.0, -1, -1]), [0, 0, -100]) @ drive.cam_from_lidar).reshape(-1).tolist()
    with pytest.raises(CalibrationError, match=r"camera cam of .*: all points are behind it; its frame must be optical"):
        calib_check(bags["mcap"], rig, out)
    with pytest.raises(CalibrationError, match=r"give no pair within 1 ms: 0 pairs of 5 scans: image stamps are 6 ms ahead of"):
        calib_check(bags["mcap"], None, out, max_dt_ms=1)
    rig.cameras = []
    with pytest.raises(CalibrationError, match="has no camera"):
        calib_check(bags["mcap"], rig, out)
    assert not out.exists()


@pytest.mark.parametrize(("name", "turn_deg"), [("ouster_classroom", 0.0), ("ouster_classroom", 1.5), ("vlp16_workshop_fisheye", 0.0)])
def test_depth_edges_of_the_real_bags_fall_on_image_edges(tmp_path: Path, real_data: Path, name: str, turn_deg: float) -> None:
    """The recorded calibrations are right to a quarter of a degree, and one that was turned is found out."""
    rig = rig_from_bag(real_data / name)
    turn = make_transform(rotation_from_rpy(0.0, np.radians(turn_deg), 0.0), np.zeros(3))
    rig.cameras[0].cam_from_lidar = (turn @ rig.cameras[0].transform()).reshape(-1).tolist()
    (check,) = calib_check(real_data / name, rig, tmp_path / "overlay.png", pairs=7)
    assert check.yaw_error_deg is not None and check.yaw_error_deg == pytest.approx(-turn_deg, abs=0.26)
    assert min(check.in_image) > 3000 and all(0.01 < hidden / seen < 0.35 for hidden, seen in zip(check.hidden, check.in_image))

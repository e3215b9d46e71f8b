from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xkd_ros.bags.calibration import rig_from_bag
from xkd_ros.bags.inspection import inspect
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError
from xkd_ros.core.rig import save_rig
from xkd_ros.msgs.build import make_cloud, make_image


@pytest.mark.parametrize("kind", ["sqlite3", "mcap", "ros1", "bare mcap"])
def test_a_complete_bag_is_ready_for_both_uses(bags: dict[str, Path], kind: str) -> None:
    report = inspect(bags[kind])
    assert report.can_segment and report.can_train
    assert {row.name: row.count for row in report.topics}["/points"] == 5
    (lidar,) = report.lidars
    assert lidar.points == (1500, 1500, 1500) and lidar.valid_share == 1 and lidar.intensity_field == "intensity"
    assert lidar.fields == ("x FLOAT32@0", "y FLOAT32@4", "z FLOAT32@8", "intensity FLOAT32@12")
    (camera,) = report.cameras
    assert (camera.width, camera.height, camera.encoding, camera.info) == (32, 24, "rgb8", "/cam/camera_info")
    assert camera.calibrated and camera.calibration.startswith("plumb_bob, ")
    assert (camera.pairs, camera.scans) == (5, 5) and camera.dt_ms == pytest.approx((6.0, 7.8))
    json.dumps(report.to_dict())


def needs(report: Any) -> dict[str, tuple[bool, str]]:
    return {need.what: (need.ok, f"{need.found} -> {need.todo}") for need in report.training}


def test_what_is_missing_and_what_to_do(tmp_path: Path, drive: Any, typestore: Any) -> None:
    report = inspect(drive.write_bag(tmp_path, "mcap", "no_info", info=False))
    assert report.can_segment and not report.can_train
    assert needs(report)["calibration"] == (False, "none complete -> record camera_info and tf_static, or write a rig file and pass --rig")
    assert any("no camera_info in the bag" in note for note in report.notes)
    report = inspect(drive.write_bag(tmp_path, "mcap", "no_tf", tf=False))
    assert not needs(report)["calibration"][0] and any("no transform from 'lidar' to 'camera_optical'" in note for note in report.notes)
    report = inspect(drive.write_bag(tmp_path, "mcap", "whole"), max_dt_ms=5)
    assert needs(report)["pairs within 5 ms"] == (True, "2 of 5 scans with cam, |dt| p50 4.5 p95 5.0 ms -> ")
    assert report.cameras[0].pairing_problem == "3 of 5 scans have no image (3 too far)"
    report = inspect(tmp_path / "whole", max_dt_ms=1)
    ok, text = needs(report)["pairs within 1 ms"]
    assert not ok and text.startswith("0 pairs of 5 scans: image stamps are 6 ms ahead of the scans; raise the |dt| limit")
    rig = rig_from_bag(tmp_path / "whole")
    save_rig(rig, tmp_path / "rig.yaml")
    assert inspect(tmp_path / "no_info", rig=tmp_path / "rig.yaml").can_train


def test_bags_without_scans(tmp_path: Path, drive: Any, typestore: Any) -> None:
    with BagWriter(tmp_path / "images") as writer:
        writer.write("/cam/image_raw", make_image(drive.picture(0), typestore.types), 1)
    report = inspect(tmp_path / "images")
    assert not report.can_segment and not report.can_train and report.cameras[0].calibrated is False
    assert report.segmentation[0].todo == "record a sensor_msgs/PointCloud2 topic"
    with BagWriter(tmp_path / "nothing"):
        pass
    assert not inspect(tmp_path / "nothing").can_segment
    with BagWriter(tmp_path / "two") as writer:
        for topic in ("/left", "/right"):
            writer.write(topic, make_cloud(drive.scan(0), typestore.types), 1)
    report = inspect(tmp_path / "two")
    assert not report.can_segment and "several lidar topics: /left, /right" in report.segmentation[0].found
    assert inspect(tmp_path / "two", points="/left").can_segment
    with pytest.raises(BagError, match="no topic /middle"):
        inspect(tmp_path / "two", points="/middle")


def test_clouds_that_cannot_be_read_and_clouds_of_few_points(tmp_path: Path, drive: Any, typestore: Any) -> None:
    broken = make_cloud(drive.scan(0), typestore.types)
    broken.fields[0].datatype = 5
    with BagWriter(tmp_path / "broken") as writer:
        writer.write("/points", broken, 1)
    report = inspect(tmp_path / "broken")
    assert not report.can_segment and "'x' is INT32" in report.lidars[0].problem and "'x' is INT32" in report.segmentation[0].found
    with BagWriter(tmp_path / "few") as writer:
        writer.write("/points", make_cloud(drive.scan(0, 20), typestore.types), 1)
    report = inspect(tmp_path / "few")
    assert not report.can_segment and "use the unfiltered topic" in report.segmentation[0].todo


def test_a_folder_of_clouds_can_be_segmented(tmp_path: Path) -> None:
    (tmp_path / "a.pcd").write_bytes(b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 2000\nDATA ascii\n" + b"1 2 3\n" * 2000)
    report = inspect(tmp_path)
    assert report.can_segment and not report.can_train and report.lidars[0].points == (2000, 2000, 2000)


def test_the_real_bags(real_data: Path) -> None:
    classroom = inspect(real_data / "ouster_classroom")
    assert classroom.can_train and classroom.lidars[0].intensity is None
    assert classroom.cameras[0].pairs == 7 and classroom.cameras[0].dt_ms == pytest.approx((5, 5))
    assert any("no intensity" in note for note in classroom.notes)
    office = inspect(real_data / "vlp16_office")
    assert office.can_segment and not office.can_train and office.lidars[0].has_time and office.lidars[0].beams == 15
    workshop = inspect(real_data / "vlp16_workshop_fisheye")
    assert workshop.can_train and workshop.cameras[0].calibration == "equidistant, 99 deg wide" and workshop.lidars[0].point_step == 18

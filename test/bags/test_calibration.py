from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.bags.calibration import calib, read_calibration, rig_from_bag
from xkd_ros.bags.cameras import find_cameras
from xkd_ros.bags.reader import Bag
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import CalibrationError
from xkd_ros.core.rig import load_rig, save_rig
from xkd_ros.core.se3 import invert, make_transform, rotation_from_rpy
from xkd_ros.core.types import CameraImage
from xkd_ros.msgs.build import make_camera_info, make_cloud, make_image, make_transforms


@pytest.mark.parametrize("kind", ["sqlite3", "mcap", "ros1"])
def test_a_rig_comes_out_of_camera_info_and_transforms(tmp_path: Path, bags: dict[str, Path], drive: Any, kind: str) -> None:
    rig = calib(bags[kind], tmp_path / "rig.yaml")
    assert load_rig(tmp_path / "rig.yaml") == rig
    assert (rig.lidar.topic, rig.lidar.frame_id, rig.lidar.rpy_deg) == ("/points", "lidar", None)
    (camera,) = rig.cameras
    assert (camera.name, camera.topic, camera.frame_id, camera.model) == ("cam", "/cam/image_raw", "camera_optical", "plumb_bob")
    np.testing.assert_allclose(camera.transform(), drive.cam_from_lidar, atol=1e-12)
    np.testing.assert_array_equal(camera.camera().K, drive.camera.K)
    np.testing.assert_array_equal(camera.camera().D, drive.camera.D)


def write_drive(path: Path, types: Any, drive: Any, **changes: Any) -> Path:
    """Write one scan and one image whose parts can be changed: transforms, info, picture, topics; None leaves a part out."""
    lidar_frame = changes.get("lidar_frame", "lidar")
    default = {("lidar", "camera_optical"): invert(drive.cam_from_lidar)}
    with BagWriter(path) as writer:
        for number, transforms in enumerate(changes.get("tf", [default])):
            writer.write(changes.get("tf_topic", "/tf_static"), make_transforms(transforms, 1, types), number + 1)
        scan = drive.scan(0)
        cloud = make_cloud(scan, types)
        cloud.header.frame_id = lidar_frame
        writer.write("/points", cloud, 10)
        for topic, message in changes.get("cameras", {"/cam/image_raw": make_image(drive.picture(0), types)}).items():
            writer.write(topic, message, 11)
        info = changes.get("info", make_camera_info(drive.camera, 1, "camera_optical", types))
        if info is not None:
            writer.write(changes.get("info_topic", "/cam/camera_info"), info, 12)
    return path


def test_each_thing_that_is_missing_is_named(tmp_path: Path, typestore: Any, drive: Any) -> None:
    types = typestore.types
    empty = make_camera_info(drive.camera, 1, "camera_optical", types)
    empty.k = np.zeros(9)
    cropped = make_camera_info(drive.camera, 1, "camera_optical", types)
    cropped.height = 20
    for number, (changes, text) in enumerate(
        [
            ({"info": None}, "/cam/image_raw: no camera_info in the bag"),
            ({"info": empty}, r"K all zero"),
            ({"tf": []}, r"no transform from 'lidar' to 'camera_optical' \(known frames: none\)"),
            ({"tf": [{("base_link", "lidar"): np.eye(4)}]}, r"known frames: base_link, lidar"),
            ({"info": cropped}, r"the intrinsics are for 32x20, the images are 32x24: not the same shape"),
            ({"cameras": {}}, "it has no camera"),
        ]
    ):
        path = write_drive(tmp_path / str(number), types, drive, **changes)
        with pytest.raises(CalibrationError, match=rf"no calibrated camera in .*: .*{text}"):
            rig_from_bag(path)


def test_transforms_of_old_drivers_on_tf_count_while_they_stand_still(tmp_path: Path, typestore: Any, drive: Any) -> None:
    still = {("lidar", "mount"): np.eye(4), ("mount", "camera_optical"): invert(drive.cam_from_lidar)}
    turned = {**still, ("odom", "lidar"): make_transform(rotation_from_rpy(0, 0, 1), [5, 0, 0])}
    path = write_drive(tmp_path / "still", typestore.types, drive, tf_topic="/tf", tf=[still, turned, still])
    np.testing.assert_allclose(rig_from_bag(path).cameras[0].transform(), drive.cam_from_lidar, atol=1e-12)
    moving = {**still, ("lidar", "mount"): make_transform(rotation_from_rpy(0, 0, 0.2), [0, 0, 0])}
    path = write_drive(tmp_path / "moving", typestore.types, drive, tf_topic="/tf", tf=[still, moving])
    with pytest.raises(CalibrationError, match="no transform"):
        rig_from_bag(path)


def test_a_joint_that_first_moves_late_is_no_part_of_the_rig(tmp_path: Path, typestore: Any, drive: Any) -> None:
    still = {("lidar", "mount"): np.eye(4), ("mount", "camera_optical"): invert(drive.cam_from_lidar)}
    turned = {("lidar", "mount"): make_transform(rotation_from_rpy(0, 0, 0.2), [0, 0, 0])}
    with pytest.raises(CalibrationError, match="no transform"):
        rig_from_bag(write_drive(tmp_path / "late", typestore.types, drive, tf_topic="/tf", tf=[still] * 2500 + [turned]))


def test_a_bad_transform_is_named_once(tmp_path: Path, typestore: Any, drive: Any) -> None:
    still = {("lidar", "camera_optical"): invert(drive.cam_from_lidar)}
    messages = [
        make_transforms({**still, ("base_link", "wheel"): make_transform(np.eye(3), [k, 0, 0])}, 1, typestore.types) for k in range(4)
    ]
    for message in messages:
        message.transforms[1].transform.rotation.w = 0.0
    path = write_drive(tmp_path / "bad", typestore.types, drive, tf=[])
    with BagWriter(tmp_path / "both") as writer, Bag(path) as bag:
        for record in bag.records():
            writer.copy(record)
        for message in messages:
            writer.write("/tf", message, 20)
    with Bag(tmp_path / "both") as bag:
        calibration = read_calibration(bag)
    assert len(calibration.problems) == 1 and "transform base_link -> wheel" in calibration.problems[0]
    np.testing.assert_allclose(calibration.rig.cameras[0].transform(), drive.cam_from_lidar, atol=1e-12)


def test_the_mounting_comes_from_the_base_where_it_is_tilted(tmp_path: Path, typestore: Any, drive: Any) -> None:
    camera = {("lidar", "camera_optical"): invert(drive.cam_from_lidar)}
    tilt = rotation_from_rpy(*np.radians([3.0, -7.0, 20.0]))
    edges = {
        **camera,
        ("base_link", "lidar"): make_transform(tilt, [0, 0, 0.4]),
        ("base_footprint", "base_link"): make_transform(np.eye(3), [0, 0, 0.1]),
    }
    lidar = rig_from_bag(write_drive(tmp_path / "tilted", typestore.types, drive, tf=[edges])).lidar
    assert lidar.rpy_deg == pytest.approx((3, -7, 20)) and lidar.height_m == pytest.approx(0.5)
    edges = {**camera, ("base_link", "lidar"): make_transform(np.eye(3), [0, 0, 0.4])}
    lidar = rig_from_bag(write_drive(tmp_path / "level", typestore.types, drive, tf=[edges])).lidar
    assert lidar.rpy_deg is None and lidar.height_m is None


def test_smaller_images_scale_the_camera_and_say_so(tmp_path: Path, typestore: Any, drive: Any) -> None:
    half = make_image(CameraImage(drive.picture(0).rgb[::2, ::2], 1, "camera_optical"), typestore.types)
    path = write_drive(tmp_path / "half", typestore.types, drive, cameras={"/cam/image_raw": half})
    with Bag(path) as bag:
        calibration = read_calibration(bag)
    camera = calibration.rig.cameras[0]
    assert (camera.width, camera.height) == (16, 12) and camera.K[0] == pytest.approx(15)
    assert any("images are 16x12; scaled" in problem for problem in calibration.problems)


def test_a_camera_matrix_of_another_image_size_is_noticed(tmp_path: Path, typestore: Any, drive: Any) -> None:
    info = make_camera_info(drive.camera, 1, "camera_optical", typestore.types)
    assert not any("principal point" in problem for problem in rig_problems(tmp_path / "right", typestore, drive, info))
    info.k = np.asarray(info.k) * np.array([3, 1, 3, 1, 3, 3, 1, 1, 1])
    assert any("principal point lies outside" in problem for problem in rig_problems(tmp_path / "wrong", typestore, drive, info))


def rig_problems(path: Path, typestore: Any, drive: Any, info: Any) -> list[str]:
    with Bag(write_drive(path, typestore.types, drive, info=info)) as bag:
        return list(read_calibration(bag).problems)


def test_a_body_frame_in_place_of_an_optical_one_is_noticed(tmp_path: Path, typestore: Any, drive: Any) -> None:
    path = write_drive(tmp_path / "body", typestore.types, drive, tf=[{("lidar", "camera_optical"): np.eye(4)}])
    with Bag(path) as bag:
        problems = read_calibration(bag).problems
    assert any("is a body frame; use the optical frame" in problem for problem in problems)


def test_rectified_topics_use_p(tmp_path: Path, typestore: Any, drive: Any) -> None:
    info = make_camera_info(drive.camera, 1, "camera_optical", typestore.types)
    info.p = np.array([20.0, 0, 16, 0, 0, 21, 12, 0, 0, 0, 1, 0])
    info.r = rotation_from_rpy(0.0, 0.1, 0.0).reshape(-1)
    image = make_image(drive.picture(0), typestore.types)
    path = write_drive(tmp_path / "rectified", typestore.types, drive, cameras={"/cam/image_rect_color": image}, info=info)
    camera = rig_from_bag(path).cameras[0]
    assert camera.K[:2] == [20, 0] and camera.D == []
    expected = make_transform(rotation_from_rpy(0.0, 0.1, 0.0), [0, 0, 0]) @ drive.cam_from_lidar
    np.testing.assert_allclose(camera.transform(), expected, atol=1e-12)


def test_a_rig_file_wins_and_fills_gaps(tmp_path: Path, typestore: Any, bags: dict[str, Path], drive: Any) -> None:
    rig = rig_from_bag(bags["mcap"])
    rig.cameras[0].K[0] = 77.0
    rig.cameras[0].name = "mine"
    rig.lidar.rpy_deg = (1.0, 2.0, 3.0)
    save_rig(rig, tmp_path / "rig.yaml")
    path = write_drive(tmp_path / "bare", typestore.types, drive, info=None, tf=[])
    merged = rig_from_bag(path, rig=tmp_path / "rig.yaml")
    assert [camera.K[0] for camera in merged.cameras] == [77.0] and merged.lidar.rpy_deg == (1.0, 2.0, 3.0)
    rig.cameras[0].topic = "/elsewhere"
    save_rig(rig, tmp_path / "rig.yaml")
    with Bag(bags["mcap"]) as bag:
        calibration = read_calibration(bag, override=load_rig(tmp_path / "rig.yaml"))
    assert [camera.name for camera in calibration.rig.cameras] == ["mine", "cam"]
    assert any("camera /elsewhere of rig" in problem for problem in calibration.problems)


def test_cameras_are_found_by_their_names_and_depth_is_none(tmp_path: Path, typestore: Any, drive: Any) -> None:
    import cv2

    types = typestore.types
    header = make_image(drive.picture(0), types).header
    jpeg = cv2.imencode(".jpg", drive.picture(0).rgb)[1].reshape(-1)
    compressed = types["sensor_msgs/msg/CompressedImage"](header=header, format="jpeg", data=jpeg)
    image = make_image(drive.picture(0), types)
    depth = types["sensor_msgs/msg/Image"](
        header=header, height=1, width=1, encoding="16UC1", is_bigendian=0, step=2, data=np.zeros(2, np.uint8)
    )
    cameras = {
        "/front/color/image_raw": image,
        "/front/color/image_raw/compressed": compressed,
        "/front/depth/image_rect_raw": depth,
        "/rear/left/image_raw/compressed": compressed,
        "/rear/left/image_mono": image,
    }
    path = write_drive(tmp_path / "many", types, drive, cameras=cameras, info_topic="/front/color/camera_info")
    with Bag(path) as bag:
        found = {camera.image: camera for camera in find_cameras(bag)}
    assert sorted(found) == ["/front/color/image_raw", "/rear/left/image_mono", "/rear/left/image_raw/compressed"]
    assert found["/front/color/image_raw"].info == "/front/color/camera_info" and found["/front/color/image_raw"].name == "front_color"
    assert len({camera.name for camera in found.values()}) == 3
    # The only CameraInfo with the frame of the picture is taken for its own.
    assert found["/rear/left/image_mono"].info == "/front/color/camera_info"


def test_the_real_bags_carry_their_calibration(real_data: Path) -> None:
    classroom = rig_from_bag(real_data / "ouster_classroom").cameras[0]
    assert (classroom.model, classroom.width, classroom.height) == ("plumb_bob", 640, 360) and classroom.K[0] == pytest.approx(490.3265647)
    workshop = rig_from_bag(real_data / "vlp16_workshop_fisheye").cameras[0]
    assert (workshop.model, workshop.width, workshop.name) == ("equidistant", 1920, "gmsl_A0")
    # Its polynomial folds back; points beyond must not come back into the image.
    assert 1.1 < workshop.camera().max_angle_rad < 1.25
    with pytest.raises(CalibrationError, match=r"no calibrated camera in .*vlp16_office: it has no camera"):
        rig_from_bag(real_data / "vlp16_office")

"""The carried rig and the pair of lidars: calibration that fits while they sway, drivers' formats, one walk for both lidars of the pair."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.se3 import apply, invert, make_transform, rotation_from_rpy
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.image import decode_image
from xkd_ros.worlds.motion import Motion, Track
from xkd_ros.worlds.simulate import simulate
from xkd_ros.worlds.simulated_rig import load_simulated_rig, rig_names
from xkd_ros.worlds.walkthrough import SCAN_PERIOD_S, Walkthrough

SEED = 61
RIGS = ("xt32_handheld", "dual_ouster16_horizontal", "dual_ouster16_vertical")


@cache
def walk(name: str) -> Walkthrough:
    return Walkthrough(SEED, load_simulated_rig(name), 3.0)


def read(folder: Path, typestore: Any) -> dict[str, list[Any]]:
    from rosbags.highlevel import AnyReader

    found: dict[str, list[Any]] = {}
    with AnyReader([folder], default_typestore=typestore) as reader:
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(raw, connection.msgtype))
    return found


@pytest.mark.parametrize("name", RIGS)
def test_points_fall_where_every_camera_sees_them(name: str) -> None:
    """Each point is taken from its own moment to the moment of the picture with the true poses, as deskewing with odometry does."""
    tour, index = walk(name), 12
    scan, labels = tour.scan(index)
    world = np.empty((len(scan), 3))
    for moment in np.unique(scan.time_s):
        here = scan.time_s == moment
        world[here] = apply(tour.world_from_lidar(index * SCAN_PERIOD_S + float(moment)), scan.points_m[here].astype(float))
    floor = world[labels == 1, 2]
    assert len(floor) > 200 and np.abs(np.median(floor)) < 0.02 and np.percentile(np.abs(floor), 90) < 0.05
    for number, config in enumerate(tour.rig.rig.cameras):
        picture = tour.picture(number, index)
        lidar_then = tour.world_from_lidar(tour.picture_time_s(number, index))
        points = apply(config.transform() @ invert(lidar_then), world)
        uv, inside = config.camera().project(points)
        solid = inside & (labels != 255) & (labels != 4)
        column, row = np.rint(uv[solid]).astype(int).T
        error = np.abs(np.linalg.norm(points[solid], axis=1) - picture.distance_m[row, column])
        assert solid.sum() > 700 and np.median(error) < 0.03
        near = error < 0.1  # the lidar sees through the glass of doors
        assert near.mean() > 0.6 and (picture.labels[row, column] == labels[solid])[near].mean() > 0.97


def test_the_two_lidars_of_a_pair_share_walk_and_pictures() -> None:
    one, other = (walk(f"dual_ouster16_{side}") for side in ("horizontal", "vertical"))
    assert np.array_equal(one.trajectory.values, other.trajectory.values)
    places = [tour.world_from_lidar(1.0) @ invert(tour.rig.rig.cameras[0].transform()) for tour in (one, other)]
    assert np.allclose(*places, atol=1e-6)
    assert np.allclose(one.rig.base_from_lidar()[:3, 2], [0, 0, 1]) and np.allclose(other.rig.base_from_lidar()[:3, 2], [0, -1, 0])
    rgb = one.picture(0, 3).rgb
    assert np.array_equal(rgb[..., 0], rgb[..., 2]) and rgb.std() > 10  # grey


def test_hands_sway_more_than_wheels() -> None:
    carried, driven = walk("xt32_handheld"), Walkthrough(SEED, load_simulated_rig("ouster16"), 3.0)
    for column in (2, 3, 4):  # height, roll, pitch
        assert carried.trajectory.values[:, column].std() > 2 * driven.trajectory.values[:, column].std()
    assert np.degrees(np.abs(carried.trajectory.values[:, 3:5])).max() < 15
    assert len(list(carried.odometry())) == 151


def test_a_track_of_constant_turning_is_a_motion() -> None:
    rays = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    times = np.random.default_rng(1).uniform(0, 0.1, 500).astype(np.float32)
    motion = Motion((1.0, -0.5, 0.1), 0.9, 0.1)
    knots = np.linspace(0, 0.1, 6)
    track = Track(knots, np.stack([make_transform(rotation_from_rpy(0, 0, 0.9 * t), np.array(motion.velocity_mps) * t) for t in knots]))
    assert track.period_s == motion.period_s
    for one, other in zip(motion.moved(rays, times), track.moved(rays, times)):
        assert np.allclose(one, other, atol=1e-5)


def test_a_track_passes_through_its_poses() -> None:
    rng = np.random.default_rng(2)
    poses = np.stack([make_transform(rotation_from_rpy(*rng.normal(0, 0.3, 3)), rng.normal(0, 1, 3)) for _ in range(4)])
    rays = rng.normal(size=(4, 3)).astype(np.float32)
    origins, turned = Track(np.arange(4.0), poses).moved(rays, np.arange(4.0, dtype=np.float32))
    assert np.allclose(origins, poses[:, :3, 3], atol=1e-5) and np.allclose(
        turned, np.einsum("kij,kj->ki", poses[:, :3, :3], rays), atol=1e-5
    )


def test_a_rig_of_ones_own_speaks_as_its_sensor_does(tmp_path: Path, typestore: Any) -> None:
    rig, companion = tmp_path / "mine.yaml", tmp_path / "mine.simulation.yaml"
    rig.write_text("name: mine\nlidar: {topic: /points, frame_id: lidar}\n")
    companion.write_text("lidar: vlp16\n")
    simulate(SEED, str(rig), 0.2, tmp_path / "bag")
    (cloud, *_) = read(tmp_path / "bag", typestore)["/points"]
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "intensity", "ring", "time"] and cloud.width > 1000
    companion.write_text("lidar: vlp16\ncloud: ouster\n")
    with pytest.raises(ConfigError, match="vlp16 leaves out missing returns"):
        simulate(SEED, str(rig), 0.2, tmp_path / "other")


def test_bags_hold_what_the_drivers_write(tmp_path: Path, typestore: Any) -> None:
    assert set(RIGS) < set(rig_names())
    summary = simulate(SEED, "xt32_handheld", 0.2, tmp_path / "hand")
    messages = read(tmp_path / "hand", typestore)
    cloud = messages["/hesai/pandar"][0]
    assert [(f.name, f.datatype) for f in cloud.fields] == [("x", 7), ("y", 7), ("z", 7), ("intensity", 7), ("ring", 4), ("timestamp", 8)]
    scan = decode_cloud(cloud)
    assert scan.time_s is not None and scan.time_s.min() >= 0 and 0.09 < scan.time_s.max() < 0.101
    assert summary.images == 4 and all(len(messages[f"/camera/{side}/image_raw/compressed"]) == 2 for side in ("left", "right"))
    assert len(messages["/odom"]) > 8
    simulate(SEED, "dual_ouster16_vertical", 0.2, tmp_path / "pair")
    messages = read(tmp_path / "pair", typestore)
    image = messages["/left/image_raw"][0]
    assert image.encoding == "mono8" and image.step == 376 and decode_image(image).rgb.shape == (240, 376, 3)
    assert decode_image(image).rgb.std() > 10 and messages["/os1_cloud_node2/points"][0].height == 16

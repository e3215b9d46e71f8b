"""The lidar model against scenes whose answer is known, and the ray caster against arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xkd_ros.worlds.lidar import Flaws, LidarModel, Motion, Sectors
from xkd_ros.worlds.materials import Material, Slot, make_materials
from xkd_ros.worlds.mesh import Mesh, MeshBuilder
from xkd_ros.worlds.raycaster import Raycaster
from xkd_ros.worlds.sensors import SENSORS, Sensor

IDEAL = Flaws(dropout=0, dark_loss=1e-3, mixed=0, glass_return=0, ghosts=0, noise=0, beam_bias_m=0)
SENSOR = replace(SENSORS["vlp16"], columns=360, min_range_m=0.1, range_step_m=1e-6)


@pytest.fixture(scope="module")
def materials() -> tuple[Material, ...]:
    return make_materials(np.random.default_rng(0))


def _room(half: float = 3.0, height: float = 3.0, glass: bool = False) -> Mesh:
    b = MeshBuilder()
    b.frame()
    b.box(0, 0, 0, 2 * half, 2 * half, height, 0, Slot.WALL)
    if glass:
        b.quad((1, -9, 0), (1, 9, 0), (1, 9, 3), (1, -9, 3), 4, Slot.GLASS)
    return b.build()


def _pose(z: float = 1.5) -> np.ndarray:
    pose = np.eye(4)
    pose[2, 3] = z
    return pose


def test_ideal_scan_of_a_box_is_exact(materials: tuple[Material, ...]) -> None:
    scan, labels = LidarModel(SENSOR, IDEAL).scan(Raycaster(_room()), materials, _pose(), np.random.default_rng(0))
    assert len(scan) == 360 * 16 and (labels == 0).all()
    on_wall = np.abs(np.abs(scan.points_m[:, :2]).max(axis=1) - 3) < 1e-3
    on_cap = np.abs(np.abs(scan.points_m[:, 2]) - 1.5) < 1e-3
    assert (on_wall | on_cap).all()
    elevation = np.degrees(np.arcsin(scan.points_m[:, 2] / np.linalg.norm(scan.points_m, axis=1)))
    assert scan.ring is not None and np.allclose(elevation, np.asarray(SENSOR.elevations_deg)[scan.ring], atol=1e-3)


def test_points_are_in_the_frame_of_the_sensor(materials: tuple[Material, ...]) -> None:
    pose = _pose()
    pose[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    pose[0, 3] = 1.0
    scan, _ = LidarModel(SENSOR, IDEAL).scan(Raycaster(_room()), materials, pose, np.random.default_rng(0))
    world = scan.points_m @ pose[:3, :3].T + pose[:3, 3]
    assert np.abs(world[:, 0]).max() == pytest.approx(3, abs=1e-3) and world[:, 2].min() >= -1e-3


def test_glass_lets_rays_through_unless_it_returns(materials: tuple[Material, ...]) -> None:
    caster = Raycaster(_room(glass=True))
    _, through = LidarModel(SENSOR, IDEAL).scan(caster, materials, _pose(), np.random.default_rng(0))
    dirty = replace(IDEAL, glass_return=0.9)
    _, blocked = LidarModel(SENSOR, dirty).scan(caster, materials, _pose(), np.random.default_rng(0))
    assert (through == 4).mean() < 0.1 < (blocked == 4).mean()
    assert (through == 0).mean() > 0.9


def test_noise_and_losses_have_the_asked_size(materials: tuple[Material, ...]) -> None:
    sensor = replace(SENSOR, noise_m=0.02, noise_per_m=0.0, columns=1800)
    clean, _ = LidarModel(sensor, IDEAL).scan(Raycaster(_room()), materials, _pose(), np.random.default_rng(0))
    noisy, _ = LidarModel(sensor, replace(IDEAL, noise=1.0)).scan(Raycaster(_room()), materials, _pose(), np.random.default_rng(0))
    error = np.linalg.norm(noisy.points_m, axis=1) - np.linalg.norm(clean.points_m, axis=1)
    assert error.std() == pytest.approx(0.02, rel=0.1)
    lossy, _ = LidarModel(sensor, replace(IDEAL, dropout=0.3)).scan(Raycaster(_room()), materials, _pose(), np.random.default_rng(0))
    assert len(lossy) / len(clean) == pytest.approx(0.7, abs=0.02)


def test_sectors_and_range_limits_leave_gaps(materials: tuple[Material, ...]) -> None:
    model = LidarModel(SENSOR, IDEAL, Sectors(((-0.5, 1.0),)))
    scan, _ = model.scan(Raycaster(_room()), materials, _pose(), np.random.default_rng(0))
    azimuth = np.arctan2(scan.points_m[:, 1], scan.points_m[:, 0])
    assert not ((azimuth > -0.49) & (azimuth < 0.99)).any() and len(scan) > 3000
    far = replace(SENSOR, max_range_m=3.2)
    near, _ = LidarModel(far, IDEAL).scan(Raycaster(_room()), materials, _pose(), np.random.default_rng(0))
    assert np.linalg.norm(near.points_m, axis=1).max() <= 3.2


def test_mixed_pixels_lie_between_and_have_no_label(materials: tuple[Material, ...]) -> None:
    b = MeshBuilder()
    b.frame()
    b.box(0, 0, 0, 6, 6, 3, 0, Slot.WALL)
    b.cylinder(1.5, 0, 0, 0.2, 3, 5, Slot.COLUMN, sides=24)
    scan, labels = LidarModel(SENSOR, replace(IDEAL, mixed=1.0)).scan(Raycaster(b.build()), materials, _pose(), np.random.default_rng(0))
    strays = scan.points_m[labels == 255]
    assert len(strays) > 3
    reach = np.linalg.norm(strays[:, :2], axis=1)
    assert reach.min() > 1.3 and reach.max() < 4.3


def test_mixed_pixels_at_a_surface_have_its_label(materials: tuple[Material, ...]) -> None:
    b = MeshBuilder()
    b.frame()
    b.box(0, 0, 0, 6, 6, 3, 0, Slot.WALL)
    places = [(2.6, 0.6 * k) for k in range(-4, 5)]
    for x, y in places:
        b.cylinder(x, y, 0, 0.1, 3, 5, Slot.COLUMN, sides=24)
    scan, labels = LidarModel(SENSOR, replace(IDEAL, mixed=1.0)).scan(Raycaster(b.build()), materials, _pose(), np.random.default_rng(0))
    x, y, z = scan.points_m.T
    to_column = np.abs(np.min([np.hypot(x - cx, y - cy) for cx, cy in places], axis=0) - 0.1)
    to_box = np.minimum(np.abs(3 - np.maximum(np.abs(x), np.abs(y))), np.abs(1.5 - np.abs(z)))
    moved = np.minimum(to_column, to_box) > 0.02
    assert (labels[moved] == 5).sum() > 3 and (labels[moved] == 0).sum() > 3 and (labels[moved] == 255).any()
    # Measured along the ray, which meets neither at a right angle.
    assert to_column[labels == 5].max() < 0.125 and to_box[labels == 0].max() < 0.125


def test_own_rig_hides_and_has_no_label(materials: tuple[Material, ...]) -> None:
    b = MeshBuilder()
    b.frame()
    b.box(0.5, 0, -1, 0.1, 0.3, 2, 255, Slot.METAL)
    scan, labels = LidarModel(SENSOR, IDEAL).scan(
        Raycaster(_room()), materials, _pose(), np.random.default_rng(0), rig=Raycaster(b.build())
    )
    hidden = (np.abs(scan.points_m[:, 1]) < 0.14) & (scan.points_m[:, 0] > 0)
    assert hidden.any() and (labels[hidden] == 255).all() and np.linalg.norm(scan.points_m[hidden], axis=1).max() < 0.7


def test_motion_bends_the_scan_and_time_tells_when(materials: tuple[Material, ...]) -> None:
    motion = Motion((1.0, 0.0, 0.0), 0.0, 0.1)
    caster = Raycaster(_room())
    scan, _ = LidarModel(SENSOR, IDEAL).scan(caster, materials, _pose(), np.random.default_rng(0), motion)
    assert scan.time_s is not None
    front = (scan.points_m[:, 0] > 2.5) & (np.abs(scan.points_m[:, 1]) < 2.0)
    assert np.allclose(scan.points_m[front, 0] + scan.time_s[front], 3.0, atol=2e-3)
    assert scan.time_s.min() >= 0 and scan.time_s.max() < 0.1


def test_fixed_size_cloud_marks_missing_returns(materials: tuple[Material, ...]) -> None:
    for empty in ("zero", "nan"):
        sensor = replace(SENSOR, empty=empty)
        scan, labels = LidarModel(sensor, replace(IDEAL, dropout=0.5)).scan(
            Raycaster(_room()), materials, _pose(), np.random.default_rng(0), keep_empty=True
        )
        assert len(scan) == 360 * 16
        missing = np.isnan(scan.points_m[:, 0]) if empty == "nan" else (scan.points_m == 0).all(axis=1)
        assert 0.4 < missing.mean() < 0.6 and (labels[missing] == 255).all() and (labels[~missing] == 0).all()


def test_intensity_follows_reflectivity(materials: tuple[Material, ...]) -> None:
    def mean_intensity(reflectivity: float) -> float:
        slots = list(materials)
        slots[Slot.WALL] = replace(slots[Slot.WALL], reflectivity=reflectivity)
        scan, _ = LidarModel(SENSOR, IDEAL).scan(Raycaster(_room()), tuple(slots), _pose(), np.random.default_rng(0))
        assert scan.intensity is not None
        return float(scan.intensity.mean())

    assert mean_intensity(0.9) > 2 * mean_intensity(0.2) > 0


def test_same_generator_same_scan(materials: tuple[Material, ...]) -> None:
    model, caster = LidarModel(SENSORS["os1_32"]), Raycaster(_room(glass=True))
    first, labels = model.scan(caster, materials, _pose(), np.random.default_rng(3))
    again, labels_again = model.scan(caster, materials, _pose(), np.random.default_rng(3))
    assert np.array_equal(first.points_m, again.points_m) and np.array_equal(labels, labels_again)


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=list(SENSORS))
def test_sensor_tables_ascend_and_fit(sensor: Sensor) -> None:
    angles = np.asarray(sensor.elevations_deg)
    assert (np.diff(angles) > 0).all() and -60 < angles.min() < angles.max() < 90 and sensor.columns >= 512


def test_dynamic_mesh_is_seen_in_front_of_the_fixed_one() -> None:
    b = MeshBuilder()
    b.frame()
    b.sphere(1.0, 0, 1.5, 0.2, 0.2, 0.2, 10, Slot.CLOTH)
    fixed = Raycaster(_room())
    caster = fixed.with_meshes([b.build()])
    ray, origin = np.float32([[1, 0, 0], [0, 1, 0]]), np.tile(np.float32([0, 0, 1.5]), (2, 1))
    hits = caster.cast(origin, ray)
    assert hits.face_class.tolist() == [10, 0] and hits.distance_m[0] < 0.9 and hits.distance_m[1] == pytest.approx(3)
    assert fixed.cast(origin, ray).face_class.tolist() == [0, 0]
    assert np.allclose(hits.normal[1], [0, -1, 0]) and hits.cos_incidence[1] == pytest.approx(1)

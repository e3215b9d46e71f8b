"""Buildings: reproducible, closed, labelled, with doors and windows that a lidar can see."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.worlds.building import Building, make_building
from xkd_ros.worlds.layout import PLANS, make_plan
from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder, concatenate
from xkd_ros.worlds.people import make_person
from xkd_ros.worlds.raycaster import Raycaster


@pytest.fixture(scope="module")
def buildings() -> list[Building]:
    return [make_building(seed) for seed in range(24)]


def test_same_seed_same_building_other_seed_another() -> None:
    first, again, other = make_building(7), make_building(7), make_building(8)
    assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)
    assert np.array_equal(first.face_class, again.face_class) and first.materials == again.materials
    assert first.vertices.shape != other.vertices.shape or not np.array_equal(first.vertices, other.vertices)


def test_arrays_are_consistent(buildings: list[Building]) -> None:
    for building in buildings:
        count = len(building.faces)
        assert building.vertices.dtype == np.float32 and np.isfinite(building.vertices).all()
        assert building.faces.dtype == np.int32 and building.faces.min() >= 0 and building.faces.max() < len(building.vertices)
        assert building.face_class.shape == building.face_material.shape == building.face_object.shape == (count,)
        assert set(np.unique(building.face_class)) <= {*range(12), 255}
        assert len(building.materials) == len(Slot) and building.face_material.max() < len(Slot)


def test_all_classes_occur(buildings: list[Building]) -> None:
    seen = np.zeros(256, bool)
    for building in buildings:
        seen[building.with_people().face_class] = True
    assert seen[:12].all()


def test_doors_and_windows_mostly_show_to_a_lidar(buildings: list[Building]) -> None:
    doors = [door.has_lidar_cue for building in buildings for door in building.doors]
    windows = np.concatenate([building.window_cues for building in buildings])
    assert len(doors) > 50 and 0.7 <= np.mean(doors) < 1.0
    assert len(windows) > 50 and windows.mean() >= 0.7


def test_free_floor_is_floor_with_nothing_above_the_ankle(buildings: list[Building]) -> None:
    rng = np.random.default_rng(0)
    for building in buildings[:8]:
        xy = building.sample_free(rng, 200)
        assert building.is_free(xy).all()
        origins = np.c_[xy, np.full(len(xy), 1.5)].astype(np.float32)
        hits = Raycaster(building.mesh).cast(origins, np.tile(np.float32([0, 0, -1]), (len(xy), 1)))
        assert np.isfinite(hits.distance_m).mean() > 0.99
        assert np.mean(hits.distance_m > 1.35) > 0.9


def test_rooms_are_closed_to_the_sides() -> None:
    """From inside a room, level rays end on something of the building or leave through a window, a door or a gate."""
    building = make_building(3)
    caster = Raycaster(building.mesh)
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    rays = np.stack([np.cos(angle), np.sin(angle), np.zeros(360)], 1).astype(np.float32)
    for x, y in building.sample_free(np.random.default_rng(1), 10):
        hits = caster.cast(np.tile(np.float32([x, y, 0.3]), (360, 1)), rays)
        assert np.mean(hits.face_class < 12) > 0.95


def test_every_plan_and_the_shifted_family_can_be_made() -> None:
    for name in PLANS:
        assert make_building(11, name).style == name
    assert make_building(11, "shifted").style.startswith("shifted-")


def test_cells_of_a_plan_do_not_overlap() -> None:
    for seed in range(40):
        plan = make_plan(np.random.default_rng(seed))
        for i, a in enumerate(plan.cells):
            for b in plan.cells[i + 1 :]:
                wide, deep = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
                assert wide < 1e-6 or deep < 1e-6, (plan.name, seed)


def test_with_people_adds_person_faces_with_objects_of_their_own() -> None:
    building = make_building(5)
    person = make_person(np.random.default_rng(0), 1.0, 2.0, 0.5, "standing")
    peopled = building.with_people((person,))
    added = peopled.face_class[len(building.faces) :]
    assert (added == 10).all() and len(added) > 100
    assert peopled.face_object[len(building.faces) :].min() > building.face_object.max()
    body = peopled.vertices[len(building.vertices) :]
    assert abs(body[:, 0].mean() - 1.0) < 0.3 and 1.0 < body[:, 2].max() < 2.2 and body[:, 2].min() > -0.02


def test_people_have_a_plausible_size() -> None:
    rng = np.random.default_rng(4)
    for pose in ("standing", "walking", "sitting", "crouching"):
        size = np.ptp(make_person(rng, 0, 0, 0, pose).mesh.vertices, axis=0)
        assert 0.3 < size[1] < 1.2 and 0.7 < size[2] < 2.2, pose


def test_builder_places_solids_in_their_frame() -> None:
    builder = MeshBuilder()
    first = builder.frame(10.0, 0.0, 1.0, np.pi / 2)
    builder.box(1.0, 0.0, 0.0, 0.2, 0.4, 0.6, 7, 3)
    second = builder.frame()
    builder.limb((0, 0, 0), (0, 0, 2), 0.1, 5, 2)
    mesh = builder.build()
    box = mesh.vertices[:8]
    assert np.allclose(box.mean(axis=0), [10.0, 1.0, 1.3], atol=1e-6) and np.allclose(np.ptp(box, axis=0), [0.4, 0.2, 0.6], atol=1e-6)
    assert set(mesh.face_object) == {first, second} and first != second
    assert mesh.vertices[8:, 2].max() == pytest.approx(2.0) and np.abs(mesh.vertices[8:, :2]).max() == pytest.approx(0.1, abs=1e-6)
    joined = concatenate([mesh, mesh])
    assert len(np.unique(joined.face_object)) == 4 and joined.faces.max() == 2 * len(mesh.vertices) - 1

"""Pictures of buildings: families, true labels, light, and that a door can be told from the wall it is in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.worlds.building import Building, Door, Room, make_building
from xkd_ros.worlds.camera import CameraRenderer
from xkd_ros.worlds.exposure import Exposure, SensorModel
from xkd_ros.worlds.materials import Slot, make_materials
from xkd_ros.worlds.mesh import MeshBuilder
from xkd_ros.worlds.motifs import MOTIFS
from xkd_ros.worlds.patterns import FAMILIES, PATTERNS
from xkd_ros.worlds.people import make_person
from xkd_ros.worlds.raycaster import Raycaster
from xkd_ros.worlds.shading import Shader
from xkd_ros.worlds.textures import TextureAtlas, atlas_of

CAMERA = Camera(160, 120, np.array([[95.0, 0, 80.2], [0, 95.0, 60.1], [0, 0, 1]]), "plumb_bob", np.array([-0.28, 0.07, 1e-3, -2e-4]))
# Optical frame (x right, y down, z forward) of a camera that looks along +y of the world.
LOOK_NORTH = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def one_room(seed: int = 3) -> Building:
    """Make a room of 4 x 5 m whose north wall holds a door that is flush with it and has the wall's own reflectivity."""
    b = MeshBuilder()
    b.frame()
    b.quad((0, 0, 0), (4, 0, 0), (4, 5, 0), (0, 5, 0), 1, Slot.FLOOR)
    b.quad((0, 0, 2.6), (4, 0, 2.6), (4, 5, 2.6), (0, 5, 2.6), 2, Slot.CEILING)
    for a, c in (((0, 0), (4, 0)), ((4, 0), (4, 5)), ((0, 5), (0, 0))):
        b.frame()
        b.quad((*a, 0), (*c, 0), (*c, 2.6), (*a, 2.6), 0, Slot.WALL)
    b.frame()
    for low, high, z0, z1 in ((0.0, 1.5, 0.0, 2.6), (2.5, 4.0, 0.0, 2.6), (1.5, 2.5, 2.1, 2.6)):
        b.quad((low, 5, z0), (high, 5, z0), (high, 5, z1), (low, 5, z1), 0, Slot.WALL)
    b.frame()
    b.quad((1.5, 5, 0), (2.5, 5, 0), (2.5, 5, 2.1), (1.5, 5, 2.1), 3, Slot.DOOR)
    b.frame()
    b.box(2.0, 2.5, 2.5, 0.6, 0.6, 0.05, 2, Slot.LAMP)
    mesh = b.build()
    materials = list(make_materials(np.random.default_rng(seed)))
    wall = materials[Slot.WALL]
    materials[Slot.DOOR] = replace(materials[Slot.DOOR], base_rgb=wall.base_rgb, reflectivity=wall.reflectivity)
    polygon = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 5.0), (0.0, 5.0)])
    door = Door(np.array([2.0, 5.0, 0.0]), np.array([0.0, 1.0]), 1.0, 2.1, 0.0, False, (0, -1))
    room = Room("office", polygon, 2.6, "flat")
    return Building(
        mesh.vertices,
        mesh.faces,
        mesh.face_class,
        mesh.face_material,
        mesh.face_object,
        tuple(materials),
        (room,),
        (door,),
        np.zeros(0, bool),
        (),
        np.ones((50, 40), bool),
        np.zeros(2),
        0.1,
        seed,
        "test",
    )


@pytest.fixture(scope="module")
def room() -> Building:
    return one_room()


def test_families_share_no_picture() -> None:
    for name, (_, patterns) in PATTERNS.items():
        assert len(set(patterns)) == len(FAMILIES), name
    atlases = [atlas_of(3, family) for family in FAMILIES]
    every = np.concatenate([a.mean_rgb for a in atlases])
    assert every.min() > 0.02 and every.max() < 1.1
    for kind, (_, motif) in MOTIFS.items():
        pictures = [motif(np.random.default_rng(1), family) for family in range(3)]
        assert np.abs(pictures[0] - pictures[1]).mean() > 0.01 and np.abs(pictures[1] - pictures[2]).mean() > 0.01, kind


def test_unknown_family_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="teach2d, train, test"):
        TextureAtlas(1, "trainn")


def test_far_pixels_read_the_mean_of_a_picture() -> None:
    atlas = atlas_of(3, "train")
    layer = np.arange(len(atlas.mean_rgb), dtype=np.int32)
    u = np.full(len(layer), 0.3, np.float32)
    seen = np.stack(atlas.look_up(layer, u, u, np.full(len(layer), 2.0, np.float32)), 1)
    np.testing.assert_allclose(seen, atlas.mean_rgb, atol=0.02)


def test_a_picture_stands_upright_and_is_not_mirrored_in_u() -> None:
    atlas = atlas_of(3, "train")
    layer = np.full(2, atlas.layers["screen"][0], np.int32)
    dark = np.array(atlas.look_up(layer, np.array([0.01, 0.5], np.float32), np.array([0.5, 0.5], np.float32), np.zeros(2, np.float32)))
    assert dark[:, 0].max() < 0.1  # the bezel on the left edge


def test_labels_and_distances_follow_the_ray_caster(room: Building) -> None:
    place = np.array([2.1, 1.0, 1.3])
    picture = CameraRenderer(CAMERA, Shader(room, "train")).render(make_transform(LOOK_NORTH, place), np.random.default_rng(0))
    uv = np.array([[80, 60], [5, 60], [80, 118], [80, 3]])
    rays = (CAMERA.unproject(uv) @ LOOK_NORTH.T).astype(np.float32)
    hits = Raycaster(room.mesh).cast(np.tile(place.astype(np.float32), (4, 1)), rays)
    np.testing.assert_array_equal(picture.labels[uv[:, 1], uv[:, 0]], hits.face_class)
    np.testing.assert_allclose(picture.distance_m[uv[:, 1], uv[:, 0]], hits.distance_m, rtol=1e-5)
    assert set(np.unique(picture.labels)) == {0, 1, 2, 3}
    assert picture.rgb.shape == (120, 160, 3) and picture.rgb.std() > 15


def test_the_same_seed_gives_the_same_picture(room: Building) -> None:
    pose = make_transform(LOOK_NORTH, (2.0, 1.0, 1.2))
    person = make_person(np.random.default_rng(1), 2.8, 3.5, 0.3, "walking")
    first, second = (CameraRenderer(CAMERA, Shader(room, "test")).render(pose, np.random.default_rng(7), (person,)).rgb for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flush_door_shows_in_the_image_only(room: Building, family: str) -> None:
    """Door and wall have one plane, colour and reflectivity; the picture still draws leaf, gap and lock."""
    pose = make_transform(LOOK_NORTH, (2.0, 3.2, 1.2))
    renderer = CameraRenderer(CAMERA.scaled(480, 360), Shader(room, family), SensorModel(noise=0.0))
    picture = renderer.render(pose, np.random.default_rng(0))
    gap, leaf, wall = [], [], []
    for row in range(120, 240, 4):
        door = np.flatnonzero(picture.labels[row] == 3)
        grey = picture.rgb[row].astype(float).mean(1)
        for edge, inwards in ((door[0], 1), (door[-1], -1)):
            gap.append(grey[[edge, edge + inwards, edge + 2 * inwards]].min())
            leaf.append(grey[edge + 25 * inwards])
            wall.append(grey[edge - 12 * inwards])
        assert np.ptp(picture.distance_m[row, door[0] - 6 : door[0] + 6]) < 0.1
    assert np.median(gap) < min(np.median(leaf), np.median(wall)) - 25


def test_people_are_drawn_where_they_stand(room: Building) -> None:
    renderer = CameraRenderer(CAMERA, Shader(room, "train"))
    pose = make_transform(LOOK_NORTH, (2.0, 0.5, 1.2))
    person = make_person(np.random.default_rng(1), 2.0, 3.5, 0.0, "standing")
    without = renderer.render(pose, np.random.default_rng(0))
    present = renderer.render(pose, np.random.default_rng(0), (person,))
    body = present.labels == 10
    assert 100 < body.sum() < 4000 and not (without.labels == 10).any()
    assert np.median(present.distance_m[body]) == pytest.approx(3.0, abs=0.3)
    np.testing.assert_array_equal(present.labels[~body], without.labels[~body])


def test_glass_shows_what_is_behind_it_and_keeps_its_label() -> None:
    room = one_room()
    slots = room.face_material.copy()
    labels = room.face_class.copy()
    pane = slots == Slot.DOOR
    slots[pane], labels[pane] = Slot.GLASS, 4
    glazed = replace(room, face_material=slots, face_class=labels)
    pose = make_transform(LOOK_NORTH, (2.0, 2.0, 1.2))
    picture = CameraRenderer(CAMERA, Shader(glazed, "train"), SensorModel(noise=0)).render(pose, np.random.default_rng(0))
    window = picture.labels == 4
    assert window.sum() > 500 and picture.distance_m[window].max() < 4.0
    # Daylight behind the pane outshines the room.
    assert picture.rgb[window].mean() > picture.rgb[picture.labels == 0].mean() + 40


def test_exposure_adapts_to_dark_rooms() -> None:
    exposure = Exposure(CAMERA, SensorModel(noise=0.0, adaptation=0.5))
    bright = exposure.develop(np.full((3, 160 * 120), 1.0, np.float32), np.random.default_rng(0)).mean()
    sudden = exposure.develop(np.full((3, 160 * 120), 0.1, np.float32), np.random.default_rng(0)).mean()
    for _ in range(12):
        settled = exposure.develop(np.full((3, 160 * 120), 0.1, np.float32), np.random.default_rng(0)).mean()
    assert sudden < settled - 20
    assert settled == pytest.approx(bright, abs=4)


def test_fisheye_renders_beyond_ninety_degrees() -> None:
    matrix = np.array([[67.6, 0, 78], [0, 67.6, 65], [0, 0, 1]])
    fisheye = Camera(160, 128, matrix, "equidistant", np.array([-0.07, 0.0086, -0.022, 0.0074]))
    building = make_building(80)
    place = building.sample_free(np.random.default_rng(0), 1)[0]
    pose = make_transform(rotation_from_rpy(0, 0, 0.4) @ LOOK_NORTH, (*place, 1.0))
    picture = CameraRenderer(fisheye, Shader(building, "test")).render(pose, np.random.default_rng(0))
    assert (picture.labels != 255).mean() > 0.8 and picture.rgb.std() > 10

"""Frames of a simulated building: projection at the time of the picture beats the plain one, and true labels come along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.se3 import apply
from xkd_ros.worlds.simulate import simulate
from xkd_ros.worlds.simulated_rig import load_simulated_rig
from xkd_ros.worlds.walkthrough import Walkthrough

SEED, SECONDS = 3, 0.4
CONFIG = FrameConfig(shares=(1.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def building() -> Walkthrough:
    return Walkthrough(SEED, load_simulated_rig("ouster16"), SECONDS)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, building: Walkthrough) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "walk"
    with pytest.MonkeyPatch.context() as patch:
        # Building it takes most of the time, and this one is the same.
        patch.setattr("xkd_ros.worlds.simulate.Walkthrough", lambda *_: building)
        simulate(SEED, "ouster16", SECONDS, folder)
    return folder


@pytest.fixture(scope="module")
def store(walk: Path, tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_frames([walk], tmp_path_factory.mktemp("stores") / "frames", CONFIG)


def test_true_labels_and_the_name_of_the_rig_come_along(store: FrameStore, walk: Path) -> None:
    (source,) = store.manifest.sources
    assert source.rig == "ouster16" and source.truth == INDOOR12.names and source.truth_hash == INDOOR12.hash
    assert source.truth_frames == len(store) == 4
    frame = store.scan(0)
    assert frame.truth is not None and len(frame.truth) == len(frame) and (frame.truth != 255).mean() > 0.8
    heights = frame.points_m @ frame.levelled_from_lidar.T[:, 2]
    assert np.median(heights[frame.truth == 2]) > np.median(heights[frame.truth == 1]) + 1.5


def test_points_fall_on_what_the_camera_saw(store: FrameStore, walk: Path, building: Walkthrough, tmp_path: Path) -> None:
    """Distances along the camera's rays agree with the rendered ones better than without poses."""
    plain = write_frames([walk], tmp_path / "plain", CONFIG.model_copy(update={"deskew": False}))
    errors: dict[str, list[float]] = {"motion": [], "plain": []}
    for number in range(3):
        picture = building.picture(0, number)
        moved, still = store[number], plain[number]
        extrinsic = store.manifest.rigs["ouster16"].cameras[0].transform()
        for name, frame, transform in (("motion", moved, moved.views[0].cam_from_lidar), ("plain", still, extrinsic)):
            points = apply(transform, frame.points_m.astype(float))
            uv, inside = frame.views[0].camera.project(points)
            solid = inside & (frame.truth != 255) & (frame.truth != 4)
            column, row = np.rint(uv[solid]).astype(int).T
            errors[name].append(float(np.median(np.abs(np.linalg.norm(points[solid], axis=1) - picture.distance_m[row, column]))))
    assert np.mean(errors["motion"]) < 0.02, errors
    assert np.mean(errors["motion"]) < 0.6 * np.mean(errors["plain"]), errors

"""The frame store on real sensors: fields, encodings, lens and hand-made labels as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_writer import write_frames

pytestmark = pytest.mark.data


def test_workshop_and_classroom_in_one_store(real_data: Path, tmp_path: Path) -> None:
    bags = [real_data / "vlp16_workshop_fisheye", real_data / "ouster_classroom"]
    store = write_frames(bags, tmp_path / "frames", FrameConfig(), labels=real_data / "vlp16_workshop_labels")
    assert len(store) == 12 and len(store.numbers(rig="vlp16_workshop_fisheye")) == 5
    workshop, classroom = store.manifest.sources
    assert workshop.truth_frames == 3 and workshop.truth[3] == "door" and not classroom.truth
    for number in range(len(store)):
        frame = store[number]
        _, visible = frame.views[0].see(frame.points_m)
        assert 0.05 < visible.mean() < 0.6, (number, visible.mean())
        assert np.degrees(np.arccos(frame.levelled_from_lidar[2, 2])) < 15
        assert (frame.intensity is None) == (frame.rig == "ouster_classroom")
        assert frame.world_from_lidar is None
    assert store[0].views[0].rgb().shape == (1208, 1920, 3)
    for number in store.numbers(rig="vlp16_workshop_fisheye"):
        frame = store.scan(int(number))
        path = real_data / "vlp16_workshop_labels" / f"{frame.stamp_ns}.npz"
        assert (frame.truth is not None) == path.is_file()
        if frame.truth is not None:
            with np.load(path) as arrays:
                assert np.count_nonzero(frame.truth != 255) >= 0.99 * np.count_nonzero(arrays["indoor12"] != 255)


def test_scans_without_camera_are_kept_on_request(real_data: Path, tmp_path: Path) -> None:
    store = write_frames([real_data / "vlp16_office"], tmp_path / "frames", FrameConfig(keep_unpaired=True))
    assert len(store) == 4 and all(store[number].views == () for number in range(4))

"""Labelling a recording with its pictures: the same labels as those of the stored frames, and the lidar alone where none is near."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xkd_ros.bags.calibration import read_calibration
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.bags.reader import Bag
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import CalibrationError, ModelError
from xkd_ros.core.types import Scan
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.layout import CloudLayout
from xkd_ros.pipeline.fused_segmenter import FusedSegmenter
from xkd_ros.pipeline.labelling import OUTPUT_TOPIC, label_bag
from xkd_ros.points.levelling_filter import LevellingFilter
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.worlds.simulate import simulate


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scans of a walk, with pictures and poses."""
    folder = tmp_path_factory.mktemp("walk") / "walk"
    simulate(61, "ouster16", 1.0, folder, every=2)
    return folder


@pytest.fixture(scope="module")
def halved(walk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of which the pictures stop in the middle."""
    folder = tmp_path_factory.mktemp("halved") / "walk"
    with Bag(walk) as bag, BagWriter(folder) as writer:
        middle = (bag.start_ns + bag.end_ns) // 2
        for record in bag.records():
            if not (record.type.endswith("Image") and record.stamp_ns > middle):
                writer.copy(record)
    return folder


def labelled(path: Path) -> list[tuple[Scan, np.ndarray]]:
    """Scans and labels of a labelled recording."""
    with Bag(path) as bag:
        clouds = [message for _, _, message in bag.messages([OUTPUT_TOPIC])]
        layouts = [CloudLayout.read(cloud) for cloud in clouds]
        return [(decode_cloud(cloud), np.asarray(layout.values(layout.find("label"))).ravel()) for cloud, layout in zip(clouds, layouts)]


def test_labels_are_fused_while_there_are_pictures(halved, fused_model, tiny_teacher, tmp_path, capsys):
    label_bag(halved, tmp_path / "out", fused_model, backend="torch", threads=1, teacher=str(tiny_teacher))
    alone = Segmenter.load(fused_model, "torch", 1)
    with Bag(halved) as bag:
        levelling = LevellingFilter(mounting=read_calibration(bag).rig.lidar.rotation())
    changed = []
    for scan, labels in labelled(tmp_path / "out"):
        said = alone.segment(scan.points_m, scan.intensity, levelling.update(scan.points_m).rotation).labels
        changed.append((said != labels).mean())
    fused = sum(share > 0.01 for share in changed)
    assert len(changed) == 5 and 0 < fused < 5 and changed[-1] == 0 and changed[0] > 0.01
    said = " ".join(capsys.readouterr().out.split())
    assert f"scans fused with a picture: {100 * fused // 5} % of the last 5, {fused} in all" in said
    assert f"lidar alone: no picture within 50 ms of the scan: {5 - fused}" in said


def test_a_scan_gets_the_labels_of_its_stored_frame(walk, fused_model, tiny_teacher, tmp_path):
    label_bag(walk, tmp_path / "out", fused_model, backend="torch", threads=1, teacher=str(tiny_teacher))
    frames = write_frames([walk], tmp_path / "frames", FrameConfig(learn_body_m=0, deskew=False))
    segmenter = FusedSegmenter.load(fused_model, str(tiny_teacher), "torch", "cpu", 1)
    found = {scan.stamp_ns: (scan, labels) for scan, labels in labelled(tmp_path / "out")}
    assert len(frames) >= 2
    for number in range(len(frames)):
        frame = frames[number]
        scan, labels = found[frame.stamp_ns]
        # Stored points are the measurements of the scan, in order and in whole millimetres: some fall into another voxel.
        kept = (scan.points_m != 0).any(1) & np.isfinite(scan.points_m).all(1)
        expected = segmenter.segment(frame).labels
        assert kept.sum() == len(expected) and not segmenter.why
        alone = segmenter.segmenter.segment(frame.points_m, frame.intensity, frame.levelled_from_lidar).labels
        assert (labels[kept] == expected).mean() > 0.9 and (alone == expected).mean() < 0.5
        assert frame.world_from_lidar is not None  # poses were there, and used for both


def test_what_cannot_be_fused_is_refused_before_anything_is_written(small_bag, walk, tiny_model, fused_model, tiny_teacher, tmp_path):
    with pytest.raises(ModelError, match="holds no fused head"):
        label_bag(walk, tmp_path / "out", tiny_model, backend="torch", teacher=str(tiny_teacher))
    with pytest.raises(CalibrationError, match="no calibrated camera in"):
        label_bag(small_bag, tmp_path / "out", fused_model, backend="torch", teacher=str(tiny_teacher))
    assert not (tmp_path / "out").exists()

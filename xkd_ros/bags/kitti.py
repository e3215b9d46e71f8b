"""Labelled scans as a sequence of SemanticKITTI, for the tools that read its folders.

Scans and labels come in, one by one; a folder with sequences/00 and the class map as YAML appears when all are in.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import yaml

from xkd_ros.core.errors import BagError
from xkd_ros.core.files import atomic_path
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.se3 import invert
from xkd_ros.core.types import Scan
from xkd_ros.pairing.pose_track import PoseTrack

CONFIG_NAME = "xkd.yaml"
# What drivers count intensity in: a share, a byte, 16 bits.
_UNITS = (1.0, 255.0, 65535.0)
_SPLIT_NOTE = "# The one sequence stands for training and for validation; divide them when there are more.\n"


class KittiWriter:
    """A SemanticKITTI folder in the making; until the block ends well it lies in a temporary sibling, then it is whole.

    Files:
        sequences/00/velodyne/%06d.bin: (N, 4) float32 x, y, z in metres, intensity 0 to 1; zeros where there is none.
        sequences/00/labels/%06d.label: (N,) uint32 class id + 1, 0 is unlabelled; the upper 16 bits, the instance, are 0.
        sequences/00/times.txt: seconds since the first scan.
        sequences/00/calib.txt: Tr, the camera from the lidar, as the identity: the poses are those of the lidar itself.
        sequences/00/poses.txt: 3 x 4 row by row, from the lidar at the first scan; only when every scan has one.
        xkd.yaml: names, colours (BGR), shares and maps of the ids.

    Source: PRBonn/semantic-kitti-api: auxiliary/laserscan.py at 4ada856 (points, labels), generate_sequential.py at 53c4d83
        (calibration, poses), evaluate_semantics.py at 2d0b5c4 and config/semantic-kitti-mos.yaml at 0d808e4 (configuration).
    """

    def __init__(self, folder: Path, labels: LabelSet, track: PoseTrack | None = None) -> None:
        """Choose the target.

        Args:
            folder: Folder to write.
            labels: Names and colours of the class ids.
            track: world_from_lidar over time, where it is known.
        Raises:
            BagError: the folder exists.
        """
        if folder.exists():
            raise BagError(f"{folder} exists already; choose another name or remove it")
        self.folder = folder
        self.notes: list[str] = []
        self._labels, self._track = labels, track
        self._stack = ExitStack()
        self._stamps: list[int] = []
        self._counts = np.zeros(len(labels) + 1, np.int64)
        self._highest = 0.0
        # Every id without a class is unlabelled.
        self._ids = np.zeros(256, "<u4")
        self._ids[: len(labels)] = np.arange(1, len(labels) + 1)

    def __enter__(self) -> KittiWriter:
        self._part = self._stack.enter_context(atomic_path(self.folder))
        self._sequence = self._part / "sequences" / "00"
        for name in ("velodyne", "labels"):
            (self._sequence / name).mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._scale()
            self._describe()

    def add(self, scan: Scan, labels: np.ndarray, stamp_ns: int) -> None:
        """Append the measured points of a scan; non-returns are left out, as SemanticKITTI has none.

        Args:
            scan: Points of the lidar.
            labels: (N,) uint8 class ids, 255 unknown.
            stamp_ns: Its time.
        """
        measured = np.isfinite(scan.points_m).all(axis=1) & scan.points_m.any(axis=1)
        rows = np.zeros((np.count_nonzero(measured), 4), "<f4")
        rows[:, :3] = scan.points_m[measured]
        if scan.intensity is not None:
            rows[:, 3] = np.nan_to_num(scan.intensity[measured], nan=0.0, posinf=0.0, neginf=0.0).clip(0)
            self._highest = max(self._highest, float(rows[:, 3].max(initial=0)))
        ids = self._ids[labels[measured]]
        rows.tofile(self._sequence / "velodyne" / f"{len(self._stamps):06d}.bin")
        ids.tofile(self._sequence / "labels" / f"{len(self._stamps):06d}.label")
        self._counts += np.bincount(ids, minlength=len(self._counts))
        self._stamps.append(stamp_ns)

    def _unit(self) -> float:
        return next((unit for unit in _UNITS if self._highest <= unit), self._highest)

    def _scale(self) -> None:
        """Bring the intensities to 0..1 by one factor for all scans, which is known only now."""
        if self._unit() == 1.0:
            return
        for file in (self._sequence / "velodyne").iterdir():
            rows = np.fromfile(file, "<f4").reshape(-1, 4)
            rows[:, 3] /= self._unit()
            rows.tofile(file)

    def _describe(self) -> None:
        stamps = np.array(self._stamps, np.int64)
        times = [f"{(stamp - self._stamps[0]) * 1e-9:.9f}\n" for stamp in self._stamps]
        (self._sequence / "times.txt").write_text("".join(times))
        (self._sequence / "calib.txt").write_text(f"Tr: {_row(np.eye(4))}")
        self._write_poses(stamps)
        text = f"# Intensities were divided by {self._unit():g}.\n{_SPLIT_NOTE}" + yaml.safe_dump(self._config(), sort_keys=False)
        (self._part / CONFIG_NAME).write_text(text)

    def _write_poses(self, stamps: np.ndarray) -> None:
        if self._track is None:
            self.notes.append("no poses.txt: the recording has no odometry of the lidar")
        elif missing := sum(not self._track.covers(stamp, stamp) for stamp in self._stamps):
            self.notes.append(f"no poses.txt: {missing} of {len(stamps)} scans have no pose in {self._track.name}")
        elif len(stamps):
            poses = self._track.at(stamps)
            (self._sequence / "poses.txt").write_text("".join(_row(invert(poses[0]) @ pose) for pose in poses))

    def _config(self) -> dict[str, object]:
        names = ("unlabeled", *self._labels.names)
        colours = ((0, 0, 0), *self._labels.colours)
        shares = self._counts / max(1, self._counts.sum())
        same = {number: number for number in range(len(names))}
        return {
            "name": "xkd",
            "labels": dict(enumerate(names)),
            "color_map": {number: list(colour[::-1]) for number, colour in enumerate(colours)},
            "content": {number: float(share) for number, share in enumerate(shares)},
            "learning_map": dict(same),
            "learning_map_inv": dict(same),
            "learning_ignore": {number: number == 0 for number in same},
            "split": {"train": [0], "valid": [0], "test": []},
        }


def _row(pose: np.ndarray) -> str:
    return " ".join(f"{value:.9e}" for value in pose[:3].ravel()) + "\n"

"""Training scans on disk, as plain .npy files. Points are millimetres in int16, which holds the network's whole field of view; farther
points are left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import atomic_path
from xkd_ros.worlds.shards import ShardJob, ShardList

_LIMIT_MM = 32767
LabelledScan = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def write_scan_shard(path: Path, job: ShardJob) -> None:
    """Write the shard of a job, whole or not at all: scans of `stream.sample_scan`; its stream is the split, train or shifted."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from xkd_ros.worlds.stream import sample_scan

    points, intensity, labels, rotations, metas, offsets = [], [], [], [], [], [0]
    for seed in range(job.first_seed, job.first_seed + job.count):
        points_m, values, names, meta = sample_scan(seed, job.stream, job.per_building)
        near = np.abs(points_m).max(axis=1) * 1000 < _LIMIT_MM
        points.append(np.round(points_m[near] * 1000).astype(np.int16))
        intensity.append(np.minimum(values[near], 65000).astype(np.float16))
        labels.append(names[near])
        rotations.append(meta.pop("rotation"))
        metas.append({"seed": seed, **meta})
        offsets.append(offsets[-1] + int(near.sum()))
    with atomic_path(path) as temporary:
        temporary.mkdir()
        np.save(temporary / "points_mm.npy", np.concatenate(points))
        np.save(temporary / "intensity.npy", np.concatenate(intensity))
        np.save(temporary / "labels.npy", np.concatenate(labels))
        np.save(temporary / "rotation.npy", np.stack(rotations).astype(np.float64))
        np.save(temporary / "offsets.npy", np.array(offsets, np.int64))
        (temporary / "meta.json").write_text(json.dumps(metas))


class ScanShard:
    """One shard, mapped into memory.

    Args:
        path: Folder written by `write_scan_shard`.
    Raises:
        XkdError: the folder is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        folder = Path(path)
        try:
            self._points = np.load(folder / "points_mm.npy", mmap_mode="r")
            self._intensity = np.load(folder / "intensity.npy", mmap_mode="r")
            self._labels = np.load(folder / "labels.npy", mmap_mode="r")
            self._rotation = np.load(folder / "rotation.npy")
            self._offsets = np.load(folder / "offsets.npy")
            self.meta = json.loads((folder / "meta.json").read_text())
        except (OSError, ValueError) as error:
            raise XkdError(f"{folder} is not a whole shard ({error}); delete it and write it again") from error

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> LabelledScan:
        """Return points_m (N, 3) float32, intensity (N,) float32, labels (N,) uint8, rotation (3, 3) levelled_from_lidar."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = slice(self._offsets[index], self._offsets[index + 1])
        return (
            self._points[part].astype(np.float32) / 1000,
            self._intensity[part].astype(np.float32),
            np.array(self._labels[part]),
            self._rotation[index],
        )


class ScanStore:
    """Labelled scans by number, levelled by their true rotation.

    Item: points (N, 3) float32, raw intensity (N,) float32, labels (N,) uint8.
    """

    def __init__(self, shards: Sequence[Path], limit: int | None = None) -> None:
        """Open shards.

        Args:
            shards: What `write_shards` returned.
            limit: Use only the first so many scans.
        Raises:
            XkdError: there is none, or one is damaged.
        """
        self._scans = ShardList([ScanShard(path) for path in shards], limit)

    def __len__(self) -> int:
        return len(self._scans)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        points, intensity, labels, rotation = self._scans[index]
        return points @ rotation.T.astype(np.float32), intensity, labels

    def as_mounted(self, index: int) -> LabelledScan:
        """Return points in the sensor's tilted frame, intensity, labels, and levelled_from_lidar (3, 3)."""
        return self._scans[index]

"""Training scans on disk: folders of plain .npy files that many processes can map into memory.

`write_shards` fills a folder from `stream.sample_scan`; `Shard` reads one back. Points are millimetres in int16, which holds the network's
whole field of view; farther points are left out.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import atomic_path
from xkd_ros.core.progress import Report

_LIMIT_MM = 32767
_log = logging.getLogger(__name__)


def write_shards(
    out: str | Path,
    first_seed: int,
    count: int,
    scans_per_building: int = 4,
    split: str = "train",
    shard_size: int = 256,
    processes: int = 2,
    progress: Report | None = None,
) -> list[Path]:
    """Write scans first_seed .. first_seed + count - 1; shards that exist are skipped, so the call can be repeated after an interruption.

    Args:
        out: Folder; shards are its sub-folders `<split>-<first seed of the shard>`.
        first_seed: First scan.
        count: Number of scans.
        scans_per_building: Consecutive scans that share a building.
        split: "train" or "shifted".
        shard_size: Scans per shard.
        processes: Worker processes.
        progress: Called with (scans done, scans wanted) after every shard.
    Returns:
        Paths of all shards, in order of seed.
    Raises:
        XkdError: the folder cannot be written.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise XkdError(f"cannot make the shard folder {folder}: {error.strerror}; choose a writable one") from error
    jobs = [(first, min(shard_size, first_seed + count - first)) for first in range(first_seed, first_seed + count, shard_size)]
    paths = [folder / f"{split}-{first:010d}-{size}" for first, size in jobs]
    missing = [(path, first, size) for path, (first, size) in zip(paths, jobs, strict=True) if not path.exists()]
    done = count - sum(size for _, _, size in missing)
    if progress:
        progress(done, count, {})
    if not missing:
        return paths
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting = {pool.submit(_write_one, path, first, size, split, scans_per_building): size for path, first, size in missing}
        for future in as_completed(waiting):
            future.result()
            done += waiting[future]
            if progress:
                progress(done, count, {})
    return paths


def _write_one(path: Path, first: int, size: int, split: str, scans_per_building: int) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from xkd_ros.worlds.stream import sample_scan

    points, intensity, labels, rotations, metas, offsets = [], [], [], [], [], [0]
    for seed in range(first, first + size):
        points_m, values, names, meta = sample_scan(seed, split, scans_per_building)
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
    _log.debug("wrote %s", path)


class Shard:
    """One shard, mapped into memory.

    Args:
        path: Folder written by `write_shards`.
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

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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

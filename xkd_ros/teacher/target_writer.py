"""Asks the teachers about every frame and writes what they say, shard by shard; next: `target_store`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.core.files import atomic_path, write_atomic
from xkd_ros.core.progress import Report
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.overlap import check_overlap, mean_seen_points
from xkd_ros.teacher.target_manifest import TargetManifest, describe_targets, read_manifest
from xkd_ros.teacher.target_store import MANIFEST_NAME, TargetStore, shard_folder
from xkd_ros.teacher.targets import Frames, TeacherPair, ViewTargets, frame_targets
from xkd_ros.teacher.teacher import Teacher

_PLAN = "plan.json"
_WAIT_S = 0.5


def estimate_target_bytes(frames: Frames, teachers: Sequence[Teacher], config: TargetConfig | None = None) -> int:
    """Estimate the size of the targets on disk from a few frames, without running a teacher."""
    settings = config or TargetConfig()
    pair = TeacherPair(teachers)
    points, views = mean_seen_points(frames, settings)
    per_point = 4 + 8 + 1 + 2 * pair.feature_width + 2 * pair.classes + (pair.classes > 0)
    return int(len(frames) * (points * per_point + views * 4 * 8))


def write_targets(
    frames: Frames,
    teachers: Sequence[Teacher],
    out: str | Path,
    config: TargetConfig | None = None,
    progress: Report | None = None,
    rank: int = 0,
    world: int = 1,
) -> TargetStore:
    """Ask the teachers about every frame and keep the answers; what exists is kept, so the call can be repeated after an interruption.

    Args:
        frames: Frame store.
        teachers: One for features, one for scores, or one for both.
        out: Folder to fill.
        config: Which points.
        progress: Called with (frames done, frames, {samples_per_s, points}) after every frame.
        rank, world: Of this process among those that work at the same folder at the same time; the call ends when all are done.
    Raises:
        CalibrationError: no point falls into an image; the message says why.
        ConfigError: the folder holds other targets, or the teachers do not fit together.
        XkdError: the disk is too small, or the folder cannot be written.
    """
    settings = config or TargetConfig()
    folder = Path(out)
    manifest = describe_targets(frames, teachers, settings)
    if _is_done(folder, manifest):
        return TargetStore(folder, frames)
    check_overlap(frames, settings)
    starts = range(0, len(frames), settings.frames_per_shard)
    shards = [shard_folder(folder, place) for place in range(len(starts))]
    missing = [place for place, shard in enumerate(shards) if not shard.is_dir()]
    _check_space(folder, estimate_target_bytes(frames, teachers, settings) * len(missing) // max(1, len(shards)))
    if not (folder / _PLAN).exists():
        write_atomic(folder / _PLAN, manifest.model_dump_json(indent=1))
    pair, before, started, points = TeacherPair(teachers), _done(shards, frames, settings), time.monotonic(), 0
    # By place, not by what is missing: each process looks at another moment.
    for place in (place for place in missing if place % world == rank):
        rows: list[tuple[int, ViewTargets]] = []
        done = _done(shards, frames, settings)
        for number in range(starts[place], min(len(frames), starts[place] + settings.frames_per_shard)):
            targets = frame_targets(frames[number], pair, settings)
            rows += [(number, target) for target in targets]
            points += sum(len(target) for target in targets)
            done += 1
            if progress:
                progress(done, len(frames), {"samples_per_s": (done - before) / max(time.monotonic() - started, 1e-9), "points": points})
        with atomic_path(shards[place]) as temporary:
            _save_shard(temporary, rows, pair)
    if rank:
        _wait_for([folder / MANIFEST_NAME])
        return TargetStore(folder, frames)
    _wait_for(shards)
    total = sum(len(np.load(shard / "point.npy", mmap_mode="r", allow_pickle=False)) for shard in shards)
    write_atomic(folder / MANIFEST_NAME, manifest.model_copy(update={"points": total}).model_dump_json(indent=1))
    return TargetStore(folder, frames)


def _done(shards: Sequence[Path], frames: Frames, settings: TargetConfig) -> int:
    """Count the frames of the shards that are whole."""
    size = settings.frames_per_shard
    return sum(min(size, len(frames) - place * size) for place, shard in enumerate(shards) if shard.is_dir())


def _wait_for(paths: Sequence[Path]) -> None:
    # Not a collective: a teacher may look for hours, longer than those wait.
    while not all(path.exists() for path in paths):
        time.sleep(_WAIT_S)


def _is_done(folder: Path, manifest: TargetManifest) -> bool:
    """Tell whether the folder is whole; refuse it when what it holds was made from other things."""
    for name in (MANIFEST_NAME, _PLAN):
        if (folder / name).exists():
            difference = read_manifest(folder / name).difference(manifest)
            if difference:
                raise ConfigError(f"{folder} holds targets of {difference}: choose another folder, or delete it to make them anew")
            return name == MANIFEST_NAME
    return False


def _check_space(folder: Path, wanted: int) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if wanted > free:
        raise XkdError(
            f"the targets need about {wanted / 1e9:.3g} GB and {existing} has {free / 1e9:.3g} GB free: choose another disk, set "
            "max_points_per_view, or compute targets while training (no cache)"
        )


def _save_shard(folder: Path, rows: Sequence[tuple[int, ViewTargets]], pair: TeacherPair) -> None:
    """Write one shard; every array has a row per point, index.npy a row (frame, view, first, last + 1) per view."""
    ends = np.cumsum([0, *(len(target) for _, target in rows)])
    index = [(number, target.view, ends[place], ends[place + 1]) for place, (number, target) in enumerate(rows)]
    arrays: dict[str, tuple[tuple[int, ...], Any]] = {"point": ((0,), np.int32), "uv_px": ((0, 2), np.float32), "edge": ((0,), bool)}
    if pair.feature_width:
        arrays["features"] = ((0, pair.feature_width), np.float16)
    if pair.classes:
        arrays |= {"scores": ((0, pair.classes), np.float16), "interior": ((0,), bool)}
    folder.mkdir()
    np.save(folder / "index.npy", np.array(index, np.int64).reshape(-1, 4))
    for name, (empty, dtype) in arrays.items():
        parts = [np.zeros(empty, dtype), *(getattr(target, name) for _, target in rows)]
        np.save(folder / f"{name}.npy", np.concatenate(parts).astype(dtype, copy=False))

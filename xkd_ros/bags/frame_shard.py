"""Some consecutive frames in one folder of plain arrays: points as whole millimetres, pictures as the files they are.

`save_shard` writes what `frame_source` decoded, `FrameShard` reads it back; next: `frame_store`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xkd_ros.bags.array_file import open_array
from xkd_ros.bags.frame_manifest import ShardEntry
from xkd_ros.core.errors import BagError
from xkd_ros.core.files import atomic_path, sha256
from xkd_ros.core.types import UNKNOWN

SUMMARY_NAME = "shard.json"
FARTHEST_M = 10_000.0
"""No lidar measures farther; it keeps millimetres within 32 bits."""
_POINTS, _INTENSITY, _TRUTH = "points_mm.npy", "intensity.npy", "truth.npy"
_FRAMES, _VIEWS, _PICTURES = "frames.npy", "views.npy", "pictures.npy"

_FRAME_TYPE = np.dtype([
    ("stamp_ns", "<i8"), ("first", "<i8"), ("count", "<i8"), ("intensity", "?"), ("truth", "?"),
    ("levelled_from_lidar", "<f8", (3, 3)), ("world_from_lidar", "<f8", (4, 4)), ("turn_rate_radps", "<f8"),
])  # fmt: skip
_VIEW_TYPE = np.dtype([
    ("frame", "<i4"), ("camera", "<i4"), ("dt_ns", "<i8"), ("first", "<i8"), ("size", "<i8"), ("cam_from_lidar", "<f8", (4, 4)),
])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Picture:
    """One view to be stored: camera by its index in the rig; see `frame.View` for the rest."""

    camera: int
    cam_from_lidar: np.ndarray
    dt_ns: int
    encoded: bytes


@dataclass(eq=False)
class Draft:
    """One frame to be stored, as `frame.Frame` describes it, and facts about how it was made."""

    stamp_ns: int
    points_mm: np.ndarray
    intensity: np.ndarray | None
    truth: np.ndarray | None
    levelled_from_lidar: np.ndarray
    world_from_lidar: np.ndarray | None
    turn_rate_radps: float | None
    pictures: tuple[Picture, ...]
    deskewed: bool = False
    body_points: int = 0


def to_millimetres(points_m: np.ndarray) -> np.ndarray:
    """Round (N, 3) metres, all within FARTHEST_M, to whole millimetres, int32."""
    return np.rint(points_m.astype(np.float64) * 1000).astype(np.int32)


def save_shard(folder: Path, drafts: Sequence[Draft], facts: dict[str, object]) -> None:
    """Write a shard; it appears when it is whole.

    Args:
        folder: To make.
        drafts: Frames in order.
        facts: Kept beside them in `shard.json`, for the manifest.
    Raises:
        XkdError: the disk is full or not writable.
    """
    counts = [len(draft.points_mm) for draft in drafts]
    firsts = np.cumsum([0, *counts])
    frames = np.zeros(len(drafts), _FRAME_TYPE)
    for row, draft in zip(frames, drafts):
        row["stamp_ns"], row["levelled_from_lidar"] = draft.stamp_ns, draft.levelled_from_lidar
        row["intensity"], row["truth"] = draft.intensity is not None, draft.truth is not None
        row["world_from_lidar"] = np.nan if draft.world_from_lidar is None else draft.world_from_lidar
        row["turn_rate_radps"] = np.nan if draft.turn_rate_radps is None else draft.turn_rate_radps
    frames["first"], frames["count"] = firsts[:-1], counts
    pictures = [(index, picture) for index, draft in enumerate(drafts) for picture in draft.pictures]
    views = np.zeros(len(pictures), _VIEW_TYPE)
    place = 0
    for row, (index, picture) in zip(views, pictures):
        row["frame"], row["camera"], row["dt_ns"] = index, picture.camera, picture.dt_ns
        row["first"], row["size"], row["cam_from_lidar"] = place, len(picture.encoded), picture.cam_from_lidar
        place += len(picture.encoded)
    arrays = {
        _POINTS: _narrow(np.concatenate([np.zeros((0, 3), np.int32), *(draft.points_mm for draft in drafts)])),
        _FRAMES: frames,
        _VIEWS: views,
        _PICTURES: np.frombuffer(b"".join(picture.encoded for _, picture in pictures), np.uint8),
    }
    if any(draft.intensity is not None for draft in drafts):
        columns = [np.zeros(len(d.points_mm), np.float32) if d.intensity is None else d.intensity for d in drafts]
        arrays[_INTENSITY] = _short(np.concatenate(columns))
    if any(draft.truth is not None for draft in drafts):
        columns = [np.full(len(d.points_mm), UNKNOWN, np.uint8) if d.truth is None else d.truth for d in drafts]
        arrays[_TRUTH] = np.concatenate(columns)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, values in arrays.items():
            np.save(temporary / name, values)
        files = {name: ((temporary / name).stat().st_size, sha256(temporary / name)) for name in sorted(arrays)}
        summary = {"shard": ShardEntry(frames=len(drafts), files=files).model_dump(mode="json"), **facts}
        (temporary / SUMMARY_NAME).write_text(json.dumps(summary), encoding="utf-8")


def _narrow(points_mm: np.ndarray) -> np.ndarray:
    """Store as int16 where no point is 32 m away along an axis: half the size."""
    fits = not len(points_mm) or np.abs(points_mm).max() <= np.iinfo(np.int16).max
    return points_mm.astype(np.int16) if fits else points_mm


def _short(values: np.ndarray) -> np.ndarray:
    """Store as float16 where that loses nothing, as for 8-bit intensities."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), values, equal_nan=True) else values.astype(np.float32)


@dataclass(frozen=True, eq=False)
class StoredScan:
    """What a shard holds of one frame besides its pictures; see `frame.Frame`."""

    stamp_ns: int
    points_m: np.ndarray
    intensity: np.ndarray | None
    truth: np.ndarray | None
    levelled_from_lidar: np.ndarray
    world_from_lidar: np.ndarray | None
    turn_rate_radps: float | None


class FrameShard:
    """One shard, mapped into memory."""

    def __init__(self, folder: Path, entry: ShardEntry) -> None:
        """Map the files.

        Args:
            folder: Written by `save_shard`.
            entry: What the manifest says about it.
        Raises:
            BagError: a file is missing, cut off, or points outside of another one.
        """
        # Copied: each array that stays mapped costs a file handle.
        self._frames = np.array(open_array(folder / _FRAMES, _FRAME_TYPE, (entry.frames,)))
        self._views = np.array(open_array(folder / _VIEWS, _VIEW_TYPE, (-1,)))
        self._points = open_array(folder / _POINTS, ("<i2", "<i4"), (-1, 3))
        count = len(self._points)
        self._intensity = open_array(folder / _INTENSITY, ("<f2", "<f4"), (count,)) if _INTENSITY in entry.files else None
        self._truth = open_array(folder / _TRUTH, ("u1",), (count,)) if _TRUTH in entry.files else None
        self._pictures = open_array(folder / _PICTURES, ("u1",), (-1,))
        ends = self._frames["first"] + self._frames["count"]
        view_ends = self._views["first"] + self._views["size"]
        lies = [
            (self._frames["first"] < 0).any() or (self._frames["count"] < 0).any() or (ends > count).any(),
            (self._views["first"] < 0).any() or (self._views["size"] < 0).any() or (view_ends > len(self._pictures)).any(),
            bool(self._frames["intensity"].any()) and self._intensity is None,
            bool(self._frames["truth"].any()) and self._truth is None,
        ]
        if any(lies):
            raise BagError(f"{folder} points outside of its own files: damaged; write the frames again")
        self._view_starts = np.searchsorted(self._views["frame"], np.arange(entry.frames + 1))

    def scan(self, row: int) -> StoredScan:
        """Read the scan of a frame."""
        record = self._frames[row]
        part = slice(int(record["first"]), int(record["first"] + record["count"]))
        world, rate = record["world_from_lidar"], float(record["turn_rate_radps"])
        return StoredScan(
            stamp_ns=int(record["stamp_ns"]),
            points_m=self._points[part].astype(np.float32) / np.float32(1000),
            intensity=self._intensity[part].astype(np.float32) if self._intensity is not None and record["intensity"] else None,
            truth=np.array(self._truth[part]) if self._truth is not None and record["truth"] else None,
            levelled_from_lidar=np.array(record["levelled_from_lidar"]),
            world_from_lidar=None if np.isnan(world).any() else np.array(world),
            turn_rate_radps=None if np.isnan(rate) else rate,
        )

    def pictures(self, row: int) -> list[Picture]:
        """Read the pictures of a frame, still encoded."""
        found = []
        for view in self._views[self._view_starts[row] : self._view_starts[row + 1]]:
            encoded = self._pictures[int(view["first"]) : int(view["first"] + view["size"])].tobytes()
            found.append(Picture(int(view["camera"]), np.array(view["cam_from_lidar"]), int(view["dt_ns"]), encoded))
        return found

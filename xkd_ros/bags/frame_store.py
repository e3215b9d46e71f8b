"""Scans, pictures, calibration and poses of any number of recordings, by number, fast enough to train from.

`write_frames` makes the folder that a `FrameStore` reads; next rooms: teacher, distill, evaluate.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from functools import lru_cache
from pathlib import Path

import numpy as np

from xkd_ros.bags.frame import Frame, View
from xkd_ros.bags.frame_manifest import FrameManifest, load_manifest
from xkd_ros.bags.frame_shard import FrameShard
from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import BagError
from xkd_ros.core.files import sha256
from xkd_ros.core.rig import CameraConfig

SHARDS_FOLDER = "shards"

# Open shards; more would only cost file handles.
_KEPT_OPEN = 32


def shard_folder(folder: Path, number: int) -> Path:
    """Name the folder of a shard."""
    return folder / SHARDS_FOLDER / f"{number:05d}"


class FrameStore:
    """Frames by number; safe to hand to worker processes, each of which maps the files for itself.

    Attributes:
        folder: Where it lies.
        manifest: What is in it.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open a store and check that its files are there in full size; contents are checked by `verify`.

        Raises:
            BagError: no store, an unfinished one, or one with files missing or cut off.
        """
        self.folder = Path(folder)
        self.manifest: FrameManifest = load_manifest(self.folder)
        for number, shard in enumerate(self.manifest.shards):
            for name, (size, _) in shard.files.items():
                path = shard_folder(self.folder, number) / name
                found = path.stat().st_size if path.is_file() else None
                if found != size or Path(name).name != name:
                    what = "is missing" if found is None else f"has {found} bytes, {size} were written"
                    raise BagError(f"{path} {what}: the store is damaged; delete {self.folder} and write the frames again")
        self._starts = np.cumsum([0, *(shard.frames for shard in self.manifest.shards)]).tolist()
        self._shard = lru_cache(maxsize=_KEPT_OPEN)(self._open)
        self._cameras: dict[str, list[tuple[CameraConfig, Camera]]] = {
            name: [(config, config.camera()) for config in rig.cameras] for name, rig in self.manifest.rigs.items()
        }
        self._rig_of = {source.name: source.rig for source in self.manifest.sources}
        frames = self.manifest.frames
        self._splits = np.array([frame.split for frame in frames], dtype="U8")
        self._rigs = np.array([self._rig_of[frame.source] for frame in frames], dtype=object)

    def __reduce__(self) -> tuple[type[FrameStore], tuple[Path]]:
        return FrameStore, (self.folder,)

    @property
    def hash(self) -> str:
        """Identify the content."""
        return self.manifest.hash

    def __len__(self) -> int:
        return len(self.manifest.frames)

    def __getitem__(self, number: int) -> Frame:
        """Return a frame with its views; pictures are decoded when asked for."""
        number = self._known(number)
        cameras = self._cameras[self._rig_of[self.manifest.frames[number].source]]
        shard, row = self._place(number)
        views = []
        for picture in shard.pictures(row):
            if not 0 <= picture.camera < len(cameras):
                raise BagError(f"frame {number} of {self.folder} names camera {picture.camera} of {len(cameras)}: damaged; write it again")
            config, camera = cameras[picture.camera]
            views.append(View(config.name, camera, picture.cam_from_lidar, picture.dt_ns, picture.encoded))
        return self._frame(number, shard, row, tuple(views))

    def scan(self, number: int) -> Frame:
        """Return a frame without its views."""
        number = self._known(number)
        return self._frame(number, *self._place(number), ())

    def numbers(self, split: str | None = None, rig: str | None = None) -> np.ndarray:
        """Return the numbers (n,) int64 of the frames of a split and of a rig, ascending; None is any.

        Raises:
            BagError: no such split or rig; names those that exist.
        """
        for kind, wanted, known in (("split", split, ("train", "val", "test")), ("rig", rig, tuple(self.manifest.rigs))):
            if wanted is not None and wanted not in known:
                raise BagError(f"{self.folder} has no {kind} '{wanted}'; it has {', '.join(known)}")
        chosen = np.ones(len(self), bool)
        if split is not None:
            chosen &= self._splits == split
        if rig is not None:
            chosen &= self._rigs == rig
        return np.flatnonzero(chosen)

    def verify(self) -> None:
        """Read every file and compare its hash with the manifest.

        Raises:
            BagError: names the first file that differs.
        """
        for number, shard in enumerate(self.manifest.shards):
            for name, (_, digest) in shard.files.items():
                path = shard_folder(self.folder, number) / name
                if sha256(path) != digest:
                    raise BagError(f"{path} changed since it was written; delete {self.folder} and write the frames again")

    def _known(self, number: int) -> int:
        index = operator.index(number)
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return index

    def _place(self, number: int) -> tuple[FrameShard, int]:
        index = bisect_right(self._starts, number) - 1
        return self._shard(index), number - self._starts[index]

    def _open(self, index: int) -> FrameShard:
        return FrameShard(shard_folder(self.folder, index), self.manifest.shards[index])

    def _frame(self, number: int, shard: FrameShard, row: int, views: tuple[View, ...]) -> Frame:
        entry, stored = self.manifest.frames[number], shard.scan(row)
        return Frame(
            number=number,
            stamp_ns=stored.stamp_ns,
            source=entry.source,
            rig=self._rig_of[entry.source],
            split=entry.split,
            points_m=stored.points_m,
            intensity=stored.intensity,
            levelled_from_lidar=stored.levelled_from_lidar,
            world_from_lidar=stored.world_from_lidar,
            truth=stored.truth,
            views=views,
            turn_rate_radps=stored.turn_rate_radps,
        )

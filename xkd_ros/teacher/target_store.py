"""Targets on disk: folders of plain .npy files that many processes can map into memory; next: `distill`.

<out>/plan.json                     what is being written; a continuation must agree with it
<out>/shards/00000/{index,point,uv_px,features,scores,interior,edge}.npy
<out>/manifest.json                 written last: without it the folder is not whole
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.teacher.target_manifest import read_manifest
from xkd_ros.teacher.targets import Frames, ViewTargets

MANIFEST_NAME = "manifest.json"
# Open shards; more would only cost file handles.
_KEPT_OPEN = 32


def shard_folder(folder: Path, place: int) -> Path:
    """Name the folder of a shard."""
    return folder / "shards" / f"{place:05d}"


class TargetStore:
    """Stored targets by frame number.

    Attributes:
        manifest: What they were made from.
    """

    def __init__(self, folder: str | Path, frames: Frames | None = None) -> None:
        """Open a whole folder.

        Args:
            folder: Filled by `write_targets`.
            frames: The frames it should belong to; None does not check.
        Raises:
            ModelError: it is not whole, or damaged.
            ConfigError: it was made from other frames.
        """
        self._folder = Path(folder)
        if not (self._folder / MANIFEST_NAME).is_file():
            raise ModelError(f"{folder} holds no whole targets (no {MANIFEST_NAME}): make them with `xkd targets`, or let it finish")
        self.manifest = read_manifest(self._folder / MANIFEST_NAME)
        if frames is not None and frames.hash != self.manifest.frames_hash:
            raise ConfigError(f"{folder} was made from other frames than these: make the targets anew")
        self._per_shard = self.manifest.config.frames_per_shard
        self._shard = lru_cache(maxsize=_KEPT_OPEN)(self._open)

    def __len__(self) -> int:
        return self.manifest.frames

    @property
    def hash(self) -> str:
        """Identify the targets."""
        return self.manifest.hash

    def __getitem__(self, number: int) -> list[ViewTargets]:
        """Return the targets of a frame, one entry per view that sees a point; features stay mapped into memory."""
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of {len(self)}")
        shard = self._shard(number // self._per_shard)
        found = []
        for _, view, first, last in shard["index"][shard["index"][:, 0] == number].tolist():
            part = {name: array[first:last] for name, array in shard.items() if name != "index"}
            scores = part.get("scores")
            found.append(
                ViewTargets(
                    view=view,
                    point=np.asarray(part["point"]),
                    uv_px=np.asarray(part["uv_px"]),
                    features=part.get("features"),
                    scores=None if scores is None else scores.astype(np.float32),
                    interior=None if scores is None else np.asarray(part["interior"]),
                    edge=np.asarray(part["edge"]),
                )
            )
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Travel to worker processes without open files."""
        return {name: value for name, value in self.__dict__.items() if name != "_shard"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shard = lru_cache(maxsize=_KEPT_OPEN)(self._open)

    def _open(self, place: int) -> dict[str, np.ndarray]:
        folder = shard_folder(self._folder, place)
        names = ["index", "point", "uv_px", "edge"]
        names += ["features"] if self.manifest.feature_width else []
        names += ["scores", "interior"] if self.manifest.label_set else []
        try:
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} is damaged ({error}): delete {self._folder} and make the targets anew") from error
        index = arrays["index"]
        fits = index.ndim == 2 and index.shape[1] == 4 and all(array.ndim for array in arrays.values())
        count = int(index[-1, 3]) if fits and len(index) else 0
        if not fits or any(len(array) != count for name, array in arrays.items() if name != "index"):
            raise ModelError(f"{folder} is damaged (arrays of different lengths): delete {self._folder} and make the targets anew")
        return arrays

"""All shards of a folder as one list of labelled scans, for training and validation."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np

from xkd_ros.core.errors import BagError
from xkd_ros.worlds.shards import Shard


class ShardStore:
    """Labelled scans by number, levelled by their true rotation.

    Item: points (N, 3) float32, raw intensity (N,) float32, labels (N,) uint8.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        """Open the shards of a folder in order of seed.

        Args:
            folder: Filled by `write_shards`.
            limit: Use only the first so many scans.
        Raises:
            BagError: there is no shard.
            XkdError: one is damaged.
        """
        self._shards = [Shard(path) for path in sorted(folder.glob("*-*-*")) if path.is_dir()]
        if not self._shards:
            raise BagError(f"{folder} holds no shards of simulated scans; render them first")
        self._starts = np.cumsum([0, *map(len, self._shards)]).tolist()
        self._count = self._starts[-1] if limit is None else min(limit, self._starts[-1])

    def __len__(self) -> int:
        return int(self._count)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        points, intensity, labels, rotation = self.as_mounted(index)
        return points @ rotation.T.astype(np.float32), intensity, labels

    def as_mounted(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return points in the sensor's tilted frame, intensity, labels, and levelled_from_lidar (3, 3)."""
        number = bisect_right(self._starts, index) - 1
        return self._shards[number][index - self._starts[number]]

"""Training pictures on disk: folders in which every picture is a JPEG and its labels a PNG, packed into two mapped arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import atomic_path
from xkd_ros.worlds.shards import ShardJob, ShardList

_JPEG_QUALITY = 93


def write_picture_shard(path: Path, job: ShardJob) -> None:
    """Write the shard of a job, whole or not at all: pictures of `picture_stream.sample_picture`; its stream is the texture family."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import cv2

    from xkd_ros.worlds.picture_stream import sample_picture

    pictures, labels, ends = [], [], [(0, 0)]
    for seed in range(job.first_seed, job.first_seed + job.count):
        rgb, names = sample_picture(seed, job.stream, job.per_building)
        good, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        also_good, png = cv2.imencode(".png", names, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        if not (good and also_good):
            raise XkdError(f"picture {seed} of {rgb.shape} could not be compressed; is OpenCV built with JPEG and PNG?")
        pictures.append(jpeg.reshape(-1))
        labels.append(png.reshape(-1))
        ends.append((ends[-1][0] + len(pictures[-1]), ends[-1][1] + len(labels[-1])))
    with atomic_path(path) as temporary:
        temporary.mkdir()
        np.save(temporary / "jpeg.npy", np.concatenate(pictures))
        np.save(temporary / "png.npy", np.concatenate(labels))
        np.save(temporary / "ends.npy", np.array(ends, np.int64))


class PictureShard:
    """One shard, mapped into memory.

    Args:
        path: Folder written by `write_picture_shard`.
    Raises:
        XkdError: the folder is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = Path(path)
        try:
            self._jpeg = np.load(self._folder / "jpeg.npy", mmap_mode="r")
            self._png = np.load(self._folder / "png.npy", mmap_mode="r")
            self._ends = np.load(self._folder / "ends.npy")
        except (OSError, ValueError) as error:
            raise XkdError(f"{self._folder} is not a whole picture shard ({error}); delete it and render it again") from error

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rgb (H, W, 3) uint8 and labels (H, W) uint8.

        Raises:
            XkdError: the stored picture cannot be decoded.
        """
        import cv2

        if not 0 <= index < len(self):
            raise IndexError(index)
        (a, c), (b, d) = self._ends[index], self._ends[index + 1]
        bgr = cv2.imdecode(np.array(self._jpeg[a:b]), cv2.IMREAD_COLOR)
        labels = cv2.imdecode(np.array(self._png[c:d]), cv2.IMREAD_GRAYSCALE)
        if bgr is None or labels is None or bgr.shape[:2] != labels.shape:
            raise XkdError(f"picture {index} of {self._folder} is damaged; delete the folder and render it again")
        return np.ascontiguousarray(bgr[..., ::-1]), np.asarray(labels, np.uint8)


class PictureStore(ShardList[tuple[np.ndarray, np.ndarray]]):
    """Several shards as one list of labelled pictures.

    Item: rgb (H, W, 3) uint8, labels (H, W) uint8.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        """Open shards, in the order given.

        Args:
            shards: What `write_shards` returned.
        Raises:
            XkdError: there is none, or one is damaged.
        """
        super().__init__([PictureShard(path) for path in shards])

"""Training pictures on disk: folders in which every picture is a JPEG and its labels a PNG, packed into two mapped arrays.

`write_picture_shards` fills a folder from `picture_stream.sample_picture`; `PictureShard` reads one back, `PictureStore` all of them.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import atomic_path
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.progress import Report
from xkd_ros.worlds.picture_stream import PICTURES_PER_BUILDING

_JPEG_QUALITY = 93
_ABOUT = "pictures.json"
_log = logging.getLogger(__name__)


def write_picture_shards(
    out: str | Path,
    first_seed: int,
    count: int,
    family: str = "teach2d",
    pictures_per_building: int = PICTURES_PER_BUILDING,
    shard_size: int = 60,
    processes: int = 2,
    progress: Report | None = None,
) -> list[Path]:
    """Write pictures first_seed .. first_seed + count - 1; shards that exist are skipped, so an interrupted call can be repeated.

    Args:
        out: Folder; shards are its sub-folders `<family>-<first seed of the shard>-<pictures>`.
        first_seed: First picture.
        count: Number of pictures.
        family: Texture family.
        pictures_per_building: Consecutive pictures that share a building.
        shard_size: Pictures per shard.
        processes: Worker processes; 1 renders in this process.
        progress: Called with (pictures done, pictures wanted) after every shard.
    Returns:
        Paths of all shards, in order of seed.
    Raises:
        XkdError: the folder cannot be written, or holds pictures of another number per building.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise XkdError(f"cannot make the picture folder {folder}: {error.strerror}; choose a writable one") from error
    jobs = [(first, min(shard_size, first_seed + count - first)) for first in range(first_seed, first_seed + count, shard_size)]
    paths = [folder / f"{family}-{first:012d}-{size}" for first, size in jobs]
    missing = [(path, first, size) for path, (first, size) in zip(paths, jobs, strict=True) if not path.exists()]
    for path in paths:
        if path.exists() and PictureShard(path).about.get("pictures_per_building") != pictures_per_building:
            raise XkdError(
                f"{path} was not rendered with {pictures_per_building} pictures per building; choose another folder or delete it"
            )
    done = count - sum(size for _, _, size in missing)

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, count, {})

    report(0)
    if processes == 1:
        for path, first, size in missing:
            _write_one(path, first, size, family, pictures_per_building)
            report(size)
    elif missing:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            waiting = {pool.submit(_write_one, path, first, size, family, pictures_per_building): size for path, first, size in missing}
            for future in as_completed(waiting):
                future.result()
                report(waiting[future])
    return paths


def _write_one(path: Path, first: int, size: int, family: str, pictures_per_building: int) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import cv2

    from xkd_ros.worlds.picture_stream import sample_picture

    pictures, labels, ends = [], [], [(0, 0)]
    for seed in range(first, first + size):
        rgb, names = sample_picture(seed, family, pictures_per_building)
        good, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        also_good, png = cv2.imencode(".png", names, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        if not (good and also_good):
            raise XkdError(f"picture {seed} of {rgb.shape} could not be compressed; is OpenCV built with JPEG and PNG?")
        pictures.append(jpeg.reshape(-1))
        labels.append(png.reshape(-1))
        ends.append((ends[-1][0] + len(pictures[-1]), ends[-1][1] + len(labels[-1])))
    about = {"family": family, "first_seed": first, "count": size, "pictures_per_building": pictures_per_building, "labels": INDOOR12.names}
    with atomic_path(path) as temporary:
        temporary.mkdir()
        np.save(temporary / "jpeg.npy", np.concatenate(pictures))
        np.save(temporary / "png.npy", np.concatenate(labels))
        np.save(temporary / "ends.npy", np.array(ends, np.int64))
        (temporary / _ABOUT).write_text(json.dumps(about))
    _log.debug("wrote %s", path)


class PictureShard:
    """One shard, mapped into memory.

    Args:
        path: Folder written by `write_picture_shards`.
    Raises:
        XkdError: the folder is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = Path(path)
        try:
            self._jpeg = np.load(self._folder / "jpeg.npy", mmap_mode="r")
            self._png = np.load(self._folder / "png.npy", mmap_mode="r")
            self._ends = np.load(self._folder / "ends.npy")
            self.about = json.loads((self._folder / _ABOUT).read_text())
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


class PictureStore:
    """Several shards as one list of labelled pictures.

    Item: rgb (H, W, 3) uint8, labels (H, W) uint8.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        """Open shards, in the order given.

        Args:
            shards: What `write_picture_shards` returned.
        Raises:
            XkdError: there is none, or one is damaged.
        """
        if not shards:
            raise XkdError("no shards of rendered pictures were given; render some with write_picture_shards")
        self._shards = [PictureShard(path) for path in shards]
        self._starts = np.cumsum([0, *map(len, self._shards)]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._starts, index) - 1
        return self._shards[number][index - self._starts[number]]

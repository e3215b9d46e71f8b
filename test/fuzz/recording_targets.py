"""Targets: recordings, and files of points and labels beside them."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from message_targets import MAX_ANSWER
from model_targets import clear
from mutation import mutate_bytes
from rosbags.typesys import Stores, get_typestore

from xkd_ros.bags.folder import open_recording
from xkd_ros.bags.inspection import inspect
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import XkdError
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.evaluate.validation import load_labelled_bag
from xkd_ros.msgs.build import make_cloud, make_image


@cache
def typestore() -> Any:
    return get_typestore(Stores.ROS2_JAZZY)


@cache
def sample_bags(folder: Path) -> tuple[Path, ...]:
    """Small recordings of each kind: mcap folder, mcap file, sqlite3."""
    rng = np.random.default_rng(0)
    targets = (folder / "bag_mcap", folder / "single.mcap", folder / "bag_db3")
    for target, storage in zip(targets, ("mcap", "mcap", "sqlite3")):
        if target.exists():
            continue
        with BagWriter(target, storage) as writer:  # type: ignore[arg-type]
            for number in range(3):
                stamp = 10**9 * (number + 1)
                scan = Scan(rng.uniform(-3, 3, (30, 3)).astype(np.float32), rng.random(30).astype(np.float32), stamp, "lidar")
                writer.write("/points", make_cloud(scan, typestore().types), stamp)
                picture = CameraImage(rng.integers(0, 255, (6, 8, 3), np.uint8), stamp, "camera")
                writer.write("/image", make_image(picture, typestore().types), stamp)
    return targets


def bag(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """A recording with changed bytes, in its data or its metadata."""
    source = sample_bags(scratch)[rng.integers(0, 3)]
    copy = scratch / "mutated" / source.name
    clear(copy.parent)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    files = sorted(copy.iterdir()) if copy.is_dir() else [copy]
    victim = files[rng.integers(0, len(files))]
    victim.write_bytes(mutate_bytes(rng, victim.read_bytes(), 3))
    try:
        with open_recording(copy) as recording:
            for scan in recording.scans(on_error="skip"):
                assert len(scan) <= MAX_ANSWER
        if rng.random() < 0.2:
            inspect(copy)
    except XkdError as error:
        return error
    return None


PLY = b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nproperty uchar label\n"
PLY += b"end_header\n1 2 3 4\n5 6 7 8\n"
PLY_BINARY = PLY.partition(b"end_header\n")[0].replace(b"ascii", b"binary_little_endian") + b"end_header\n" + bytes(range(26))
PCD = b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA ascii\n1 2 3\n4 5 6\n"
PCD_BINARY = PCD.partition(b"DATA")[0] + b"DATA binary\n" + bytes(range(24))
PCD_PACKED = PCD.partition(b"DATA")[0] + b"DATA binary_compressed\n" + bytes([26, 0, 0, 0, 24, 0, 0, 0, 23, *range(24), 0])


def points_file(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """A folder of PLY or PCD files."""
    folder = scratch / "files"
    clear(folder)
    content, suffix = ((PLY, "ply"), (PLY_BINARY, "ply"), (PCD, "pcd"), (PCD_BINARY, "pcd"), (PCD_PACKED, "pcd"))[rng.integers(0, 5)]
    (folder / f"scan.{suffix}").write_bytes(mutate_bytes(rng, content))
    try:
        with open_recording(folder) as recording:
            for scan in recording.scans():
                assert len(scan) <= MAX_ANSWER
    except XkdError as error:
        return error
    return None


def label_file(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """An npz file with true labels beside a recording."""
    folder = scratch / "labels"
    clear(folder)
    np.savez(folder / "1000000000.npz", struct4=np.zeros(30, np.uint8), indoor12=np.zeros(30, np.uint8))
    file = folder / "1000000000.npz"
    file.write_bytes(mutate_bytes(rng, file.read_bytes()))
    try:
        load_labelled_bag(sample_bags(scratch)[0], folder)
    except XkdError as error:
        return error
    return None

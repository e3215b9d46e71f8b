"""PLY files that we write: read back bit by bit, a header that viewers know, refusals in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xkd_ros.bags.ply import read_ply, write_ply
from xkd_ros.core.errors import ShapeError


@pytest.mark.parametrize("count", [0, 1, 500])
def test_round_trip_of_every_type(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    codes = ("f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", ">f4")
    columns = {f"c{number}": rng.integers(0, 100, count).astype(code) for number, code in enumerate(codes)}
    columns["c0"] = np.full(count, np.nan, np.float32)
    write_ply(tmp_path / "cloud.ply", columns)
    found = read_ply(tmp_path / "cloud.ply")
    assert list(found) == list(columns)
    for name, values in columns.items():
        assert found[name].dtype == values.dtype.newbyteorder("=") and np.array_equal(found[name], values, equal_nan=name == "c0")


def test_header_is_the_one_of_the_format(tmp_path: Path) -> None:
    columns = {axis: np.float32([number]) for number, axis in enumerate("xyz")} | {"red": np.uint8([7]), "label": np.uint8([255])}
    write_ply(tmp_path / "cloud.ply", columns)
    header, _, body = (tmp_path / "cloud.ply").read_bytes().partition(b"end_header\n")
    assert header.decode().splitlines() == [
        "ply", "format binary_little_endian 1.0", "element vertex 1", "property float x", "property float y", "property float z",
        "property uchar red", "property uchar label",
    ]  # fmt: skip
    assert body == np.float32([0, 1, 2]).tobytes() + b"\x07\xff"


def test_what_is_no_cloud_is_refused(tmp_path: Path) -> None:
    for columns in ({}, {"x": np.zeros(3, np.float32), "y": np.zeros(2, np.float32)}, {"x": np.zeros(3, np.int64)}, {"x": np.array(["a"])}):
        with pytest.raises(ShapeError, match="are no points"):
            write_ply(tmp_path / "cloud.ply", columns)
    assert not list(tmp_path.iterdir())

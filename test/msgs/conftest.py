"""PointCloud2 messages of any layout, written number by number with `struct`: slow, plain, and no code of the package."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}


@dataclass
class PlainCloud:
    """Rows of points, each a dict of numbers, and where each field lies."""

    fields: list[tuple[str, int, int]]
    rows: list[list[dict[str, Any]]]
    point_step: int
    row_padding: int = 0
    bigendian: bool = False
    stamp_ns: int = 12_000_000_345
    frame_id: str = "lidar"
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.width = len(self.rows[0]) if self.rows else 0

    def message(self, container: Any = bytes) -> SimpleNamespace:
        order = ">" if self.bigendian else "<"
        row_step = self.width * self.point_step + self.row_padding
        data = bytearray(b"\xa5" * (row_step * len(self.rows)))
        for r, row in enumerate(self.rows):
            for c, point in enumerate(row):
                for name, offset, datatype in self.fields:
                    struct.pack_into(order + CODES[datatype], data, r * row_step + c * self.point_step + offset, point[name])
        return SimpleNamespace(
            header=SimpleNamespace(
                stamp=SimpleNamespace(sec=self.stamp_ns // 10**9, nanosec=self.stamp_ns % 10**9), frame_id=self.frame_id
            ),
            height=len(self.rows),
            width=self.width,
            fields=[SimpleNamespace(name=name, offset=offset, datatype=kind, count=1) for name, offset, kind in self.fields],
            is_bigendian=self.bigendian,
            point_step=self.point_step,
            row_step=row_step,
            data=container(data),
            is_dense=False,
        )

    def column(self, name: str) -> list[Any]:
        return [point[name] for row in self.rows for point in row]


def read_plain(parts: Any, data: bytes, name: str) -> list[Any]:
    """Read one field of an encoded cloud, point by point."""
    ((offset, datatype),) = [(offset, kind) for field_name, offset, kind, _ in parts.fields if field_name == name]
    order = ">" if parts.is_bigendian else "<"
    return [
        struct.unpack_from(order + CODES[datatype], data, r * parts.row_step + c * parts.point_step + offset)[0]
        for r in range(parts.height)
        for c in range(parts.width)
    ]


@pytest.fixture(scope="session")
def plain_cloud() -> type[PlainCloud]:
    return PlainCloud


@pytest.fixture(scope="session")
def read_field() -> Any:
    return read_plain


@pytest.fixture(scope="session")
def simple_message(plain_cloud: type[PlainCloud]) -> Any:
    """Make a small cloud of x y z intensity ring, as Velodyne drivers lay it out."""

    def make(count: int = 5) -> SimpleNamespace:
        fields = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 12, 7), ("ring", 16, 4)]
        points = [{"x": float(i), "y": -float(i), "z": 0.5, "intensity": 10.0 * i, "ring": i % 16} for i in range(count)]
        return plain_cloud(fields, [points], 18).message()

    return make

"""Point Cloud Library files (.pcd): ascii, binary and binary_compressed.

Source: https://pointclouds.org/documentation/tutorials/pcd_file_format.html; LZF as in Marc Lehmann's liblzf (`lzf_d.c`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xkd_ros.bags.columns import Columns, check_size, split_lines
from xkd_ros.core.errors import BagError

_HEADER_BYTES = 65_536
_KINDS = {"I": "i", "U": "u", "F": "f"}


@dataclass(frozen=True)
class _Header:
    fields: list[tuple[str, np.dtype, int]]
    points: int
    data: str
    body: int

    @property
    def point_bytes(self) -> int:
        return sum(dtype.itemsize * count for _, dtype, count in self.fields)


def read_pcd(path: Path) -> Columns:
    """Read the single-valued columns of a PCD file.

    Raises:
        BagError: not a PCD file, or one that is cut off or contradicts itself.
    """
    check_size(path)
    content = path.read_bytes()
    header = _read_header(path, content)
    body = content[header.body :]
    if header.data == "ascii":
        names = [f"{name} {item}" if count > 1 else name for name, _, count in header.fields for item in range(count)]
        columns = split_lines(path, body, header.points, names)
        # ascii numbers come as doubles; give each column the type that its header names.
        return {name: _cast(columns[name], dtype) for name, dtype, count in header.fields if count == 1}
    needed = header.points * header.point_bytes
    if header.data == "binary":
        if len(body) < needed:
            raise BagError(f"{path} promises {header.points} points of {header.point_bytes} bytes but holds {len(body)} bytes: cut off")
        # Names may repeat for padding, so fields are numbered.
        layout = np.dtype([(str(i), dtype, (count,)) for i, (_, dtype, count) in enumerate(header.fields)])
        cloud = np.frombuffer(body, layout, header.points)
        return {name: cloud[str(i)][:, 0].copy() for i, (name, _, count) in enumerate(header.fields) if count == 1}
    return _split_planes(header, _decompress(path, body, needed))


def _read_header(path: Path, content: bytes) -> _Header:
    start = content[:_HEADER_BYTES]
    entries: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in entries:
        end = start.find(b"\n", position)
        if end < 0:
            raise BagError(f"{path} is not a PCD file: no DATA line in its header")
        line = start[position:end].decode("ascii", "replace").strip()
        position = end + 1
        if line and not line.startswith("#"):
            key, *values = line.split()
            entries[key.upper()] = values
    try:
        names, sizes, kinds = entries["FIELDS"], entries["SIZE"], entries["TYPE"]
        counts = entries.get("COUNT", ["1"] * len(names))
        fields = [
            (name, np.dtype(f"<{_KINDS[kind]}{int(size)}"), int(count))
            for name, size, kind, count in zip(names, sizes, kinds, counts, strict=True)
        ]
        points = int(entries["POINTS"][0]) if "POINTS" in entries else int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0])
        data = entries["DATA"][0]
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise BagError(f"{path} has a damaged PCD header ({type(error).__name__}: {error})") from error
    if data not in ("ascii", "binary", "binary_compressed"):
        raise BagError(f"{path} has DATA {data}; known are ascii, binary, binary_compressed")
    if points < 0 or not fields or any(not 0 < count < 100_000 for _, _, count in fields):
        raise BagError(f"{path} has a damaged PCD header: {points} points of {len(fields)} fields")
    return _Header(fields, points, data, position)


def _decompress(path: Path, body: bytes, needed: int) -> bytes:
    packed, unpacked = (int(size) for size in np.frombuffer(body[:8].ljust(8, b"\0"), "<u4"))
    # Three bytes of LZF give at most 264: a promise beyond that is damage, and is not allocated.
    if packed > len(body) - 8 or unpacked != needed or unpacked > packed * 88 + 32:
        raise BagError(f"{path} promises {needed} bytes packed in {packed}, but holds {max(0, len(body) - 8)}: cut off or damaged")
    try:
        data = decompress_lzf(body[8 : 8 + packed], unpacked)
    except (IndexError, ValueError) as error:
        raise BagError(f"{path} has damaged compressed data ({error})") from error
    return data


def decompress_lzf(packed: bytes, size: int) -> bytes:
    """Unpack liblzf data.

    Args:
        packed: Compressed bytes.
        size: Number of bytes that must come out.
    Raises:
        ValueError, IndexError: the data is damaged.
    """
    output = bytearray()
    position = 0
    while position < len(packed):
        control = packed[position]
        position += 1
        if control < 32:
            output += packed[position : position + control + 1]
            position += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[position]
            position += 1
        start = len(output) - ((control & 31) << 8) - packed[position] - 1
        position += 1
        length += 2
        if start < 0 or len(output) + length > size:
            raise ValueError("a reference leaves the data")
        piece = output[start : start + length]
        # A reference may reach into what it is just writing, and then repeats.
        output += (piece * (length // len(piece) + 1))[:length] if len(piece) < length else piece
    if len(output) != size:
        raise ValueError(f"{len(output)} bytes came out of {size}")
    return bytes(output)


def _split_planes(header: _Header, data: bytes) -> Columns:
    """Compressed files store field after field instead of point after point."""
    columns: Columns = {}
    offset = 0
    for name, dtype, count in header.fields:
        values = np.frombuffer(data, dtype, header.points * count, offset)
        if count == 1:
            columns[name] = values.copy()
        offset += values.nbytes
    return columns


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype)

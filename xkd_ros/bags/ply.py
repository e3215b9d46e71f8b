"""Stanford polygon files (.ply): ascii and both binary byte orders are read, vertices only; binary little-endian is written.

Source: http://paulbourke.net/dataformats/ply/
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xkd_ros.bags.columns import Columns, check_size, split_lines
from xkd_ros.core.errors import BagError, ShapeError
from xkd_ros.core.files import write_atomic

_HEADER_BYTES = 65_536
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
# The names that every reader knows, which come first above.
_NAMES = {code: name for name, code in reversed(_TYPES.items())}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


def read_ply(path: Path) -> Columns:
    """Read the vertex columns of a PLY file.

    Raises:
        BagError: not a PLY file, or one that is cut off or contradicts itself.
    """
    check_size(path)
    content = path.read_bytes()
    order, count, properties, body = _read_header(path, content)
    names = [name for name, _ in properties]
    if order == "":
        columns = split_lines(path, content[body:], count, names)
        with np.errstate(over="ignore", invalid="ignore"):
            return {name: columns[name].astype(code) for name, code in properties}
    point = np.dtype([(name, order + code) for name, code in properties])
    if len(content) - body < count * point.itemsize:
        raise BagError(f"{path} promises {count} points of {point.itemsize} bytes but holds {len(content) - body} bytes: cut off")
    cloud = np.frombuffer(content, point, count, body)
    return {name: cloud[name].astype(code) for name, code in properties}


def write_ply(path: Path, columns: Columns) -> None:
    """Write points as a binary PLY file, whole or not at all.

    Args:
        path: File to write.
        columns: Name to (N,) numbers; x, y, z first, and red, green, blue as uint8, is what viewers look for.
    Raises:
        ShapeError: columns of several lengths, or of a type that PLY does not have.
        XkdError: the folder is not writable or the disk is full.
    """
    codes = {name: values.dtype.str[1:] for name, values in columns.items()}
    if len({np.shape(values) for values in columns.values()}) != 1 or not set(codes.values()) <= set(_NAMES):
        described = ", ".join(f"{name} {values.dtype} {np.shape(values)}" for name, values in columns.items())
        raise ShapeError(f"columns {described or 'none'} are no points; PLY takes one length and numbers of 1, 2 or 4 bytes or float64")
    rows = np.empty(len(next(iter(columns.values()))), [(name, "<" + code) for name, code in codes.items()])
    for name, values in columns.items():
        rows[name] = values
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [f"property {_NAMES[code]} {name}" for name, code in codes.items()]
    write_atomic(path, "\n".join([*header, "end_header\n"]).encode() + rows.tobytes())


def _read_header(path: Path, content: bytes) -> tuple[str, int, list[tuple[str, str]], int]:
    """Return byte order, number of vertices, their (name, numpy code), and where the numbers start."""
    end = content.find(b"end_header", 0, _HEADER_BYTES)
    newline = content.find(b"\n", end)
    if not content.startswith(b"ply") or end < 0 or newline < 0:
        raise BagError(f"{path} is not a PLY file: it does not start with 'ply' or has no end_header")
    order, count, properties, element = None, 0, [], None
    try:
        for line in content[:end].decode("ascii", "replace").splitlines():
            word = line.split()
            if word[:1] == ["format"]:
                order = _ORDERS[word[1]]
            elif word[:1] == ["element"]:
                if element is None and word[1] != "vertex" and int(word[2]):
                    raise BagError(f"{path} has its {word[1]} before its vertex; write the vertices first")
                element = word[1]
                count = int(word[2]) if element == "vertex" else count
            elif word[:1] == ["property"] and element == "vertex":
                properties.append((word[2], _TYPES[word[1]]))
    except (KeyError, ValueError, IndexError) as error:
        raise BagError(f"{path} has a damaged PLY header ({type(error).__name__}: {error})") from error
    if order is None or count < 0 or not properties or len({name for name, _ in properties}) < len(properties):
        raise BagError(f"{path} has a damaged PLY header: format, vertex element or distinct properties are missing")
    return order, count, properties, newline + 1

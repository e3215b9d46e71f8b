"""Points as text, one line each: what CloudCompare writes as ASCII cloud (.txt, .csv, .asc, .xyz), with or without a header."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from xkd_ros.bags.columns import Columns, check_size
from xkd_ros.core.errors import BagError

# Commas after semicolons and tabs: between those they are decimal commas.
_SEPARATORS = (";", "\t", ",", " ")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")


def read_delimited(path: Path) -> Columns:
    """Read a table of numbers, separated by commas, semicolons, tabs or blanks; decimal commas between semicolons or tabs.

    Column names come from a header line (`//X Y Z label`, `x,y,z,label`); without one they are x, y, z, column4, column5 and so on.

    Raises:
        BagError: no table of numbers, or lines of different length.
    """
    check_size(path)
    content = path.read_bytes()
    try:
        lines = [_with_decimal_points(line) for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise BagError(f"{path} is not a text file: {error.reason} at byte {error.start}") from error
    first = next((number for number, line in enumerate(lines) if _is_row(line)), len(lines))
    header = _split(lines[first - 1].strip().lstrip("/#").strip()) if first else None
    told, lines = "".join(lines[first - 1 : first])[:60], lines[first:]
    # CloudCompare may write the number of points on a line of its own.
    if len(lines) > 1 and len(_split(lines[0])) == 1 and len(_split(lines[1])) > 1:
        lines.pop(0)
    if not lines:
        raise BagError(f"{path} holds no line of numbers" + (f"; the last of its lines is '{told}'" if told else ""))
    width = len(_split(lines[0]))
    if width < 3:
        raise BagError(f"{path} has {width} numbers a line; x, y, z and a label are needed")
    names = header if header is not None else ["x", "y", "z", *(f"column{index}" for index in range(4, width + 1))]
    if len(names) != width or len(set(names)) != len(names):
        raise BagError(f"{path} names {len(names)} columns ({', '.join(names[:12])}) but has {width} numbers a line")
    separator = _separator(lines[0])
    try:
        table = np.loadtxt(lines, np.float64, comments=None, delimiter=None if separator == " " else separator, ndmin=2)
    except ValueError as error:
        raise BagError(f"{path} has a line that is not {width} numbers: {' '.join(str(error).split())}") from error
    return {name: table[:, index] for index, name in enumerate(names)}


def _with_decimal_points(line: str) -> str:
    return _DECIMAL_COMMA.sub(".", line) if _separator(line) in ";\t" else line


def _separator(line: str) -> str:
    return next(separator for separator in (*_SEPARATORS, " ") if separator in line.strip() or separator == " ")


def _split(line: str) -> list[str]:
    separator = _separator(line)
    parts = line.split() if separator == " " else line.split(separator)
    return [part.strip().strip('"') for part in parts if part.strip() or separator != " "]


def _is_row(line: str) -> bool:
    return all(re.fullmatch(r"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf)", part, re.IGNORECASE) for part in _split(line))

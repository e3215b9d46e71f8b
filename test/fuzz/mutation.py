"""Mutators: bytes, trees of JSON or YAML, and messages. Everything follows from the random generator that is handed in."""

from __future__ import annotations

import copy
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np

INTEGERS = (0, 1, 2, 3, 4, 7, 8, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1000, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, -1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e-3, 0.5, 100.0, 1e6, 1e15, 1e30, 3e38, 1e300, float("nan"), float("inf"), float("-inf"))
TEXTS = ("", " ", "x", "z", "intensity", "label", "ring", "time", "../..", "/etc/passwd", "\x00", "ä€😀", "a" * 3000, "%s%n", "null", "-1")


def mutate_bytes(rng: np.random.Generator, data: bytes, times: int = 4) -> bytes:
    """Flip, insert, cut, repeat or overwrite up to `times` places."""
    content = bytearray(data)
    for _ in range(int(rng.integers(1, times + 1))):
        size = len(content)
        at = int(rng.integers(0, size + 1))
        length = int(min(size - at, 2 ** rng.integers(0, 10)))
        kind = rng.integers(0, 8)
        if kind == 0 and size:
            content[min(at, size - 1)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            content[at:at] = rng.bytes(int(rng.integers(1, 20)))
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = content[at : at + length]
        elif kind == 4:
            number = INTEGERS[rng.integers(0, len(INTEGERS))]
            code = ("<i", ">i", "<q", ">q", "<h", ">h")[rng.integers(0, 6)]
            bits = 8 * struct.calcsize(code)
            packed = struct.pack(code.upper(), number % 2**bits)
            content[at : at + len(packed)] = packed
        elif kind == 5:
            content[at : at + length] = bytes(length)
        elif kind == 6:
            content[at : at + length] = b"\xff" * length
        else:
            del content[at:]
    return bytes(content)


def nasty(rng: np.random.Generator) -> Any:
    """Any value that a parser may not expect."""
    kind = rng.integers(0, 9)
    if kind < 3:
        return INTEGERS[rng.integers(0, len(INTEGERS))]
    if kind < 5:
        return FLOATS[rng.integers(0, len(FLOATS))]
    if kind < 6:
        return TEXTS[rng.integers(0, len(TEXTS))]
    return ([], {}, None, True, [[]], {"x": None}, [1] * 200, 10**40, [float("nan")] * 9)[rng.integers(0, 9)]


def mutate_tree(rng: np.random.Generator, tree: Any, times: int = 3) -> Any:
    """Change values, keys and lengths of nested dicts and lists."""
    tree = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, times + 1))):
        places: list[tuple[Any, Any]] = []
        _collect(tree, places)
        if not places:
            return nasty(rng)
        parent, key = places[rng.integers(0, len(places))]
        kind = rng.integers(0, 5)
        if kind < 3:
            parent[key] = nasty(rng)
        elif kind == 3:
            del parent[key]
        elif isinstance(parent, dict):
            parent[TEXTS[rng.integers(0, len(TEXTS))]] = parent[key]
        else:
            parent.insert(key, nasty(rng))
    return tree


def _collect(tree: Any, places: list[tuple[Any, Any]]) -> None:
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()):
        places.append((tree, key))
        _collect(value, places)


def mutate_message(rng: np.random.Generator, message: SimpleNamespace, times: int = 3) -> SimpleNamespace:
    """Change attributes of a message and of the messages in it; `data` as bytes, numbers within their ROS type mostly."""
    message = copy.deepcopy(message)
    for _ in range(int(rng.integers(1, times + 1))):
        owners = [message, *(value for value in vars(message).values() if isinstance(value, SimpleNamespace))]
        lists = [value for value in vars(message).values() if isinstance(value, list)]
        owners += [item for value in lists for item in value if isinstance(item, SimpleNamespace)]
        owner = owners[rng.integers(0, len(owners))]
        names = [name for name, value in vars(owner).items() if not isinstance(value, SimpleNamespace)]
        if not names:
            continue
        name = names[rng.integers(0, len(names))]
        setattr(owner, name, _changed(rng, getattr(owner, name)))
    return message


def _changed(rng: np.random.Generator, value: Any) -> Any:
    if isinstance(value, bytes):
        return mutate_bytes(rng, value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return (value + int(rng.integers(-2, 3)), INTEGERS[rng.integers(0, len(INTEGERS) - 1)])[rng.integers(0, 2)]
    if isinstance(value, float):
        return FLOATS[rng.integers(0, len(FLOATS))]
    if isinstance(value, str):
        return TEXTS[rng.integers(0, len(TEXTS))]
    if isinstance(value, list) and value:
        at = int(rng.integers(0, len(value)))
        kind = rng.integers(0, 3)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return value + [copy.deepcopy(value[at])]
        if isinstance(value[at], float):
            return [*value[:at], FLOATS[rng.integers(0, len(FLOATS))], *value[at + 1 :]]
    return value

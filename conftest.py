"""Order and choice of tests: room by room from the lowest floor up; rooms whose packages are absent here are left out and named."""

from __future__ import annotations

import importlib.util
import logging
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
TESTS = ROOT / "test"

# What the tests of a room cannot do without, beyond the packages of a robot; a place without them runs the other rooms.
NEEDS = {
    "bags": ("rosbags", "cv2"),
    "nets": ("torch",),
    "device": ("torch",),
    "train": ("torch", "lightning_fabric"),
    "teacher": ("torch",),
    "worlds": ("embreex", "cv2", "rosbags"),
    "distill": ("torch",),
    "evaluate": ("matplotlib", "cv2"),
    "export": ("torch", "onnx"),
    "pipeline": ("torch", "rosbags"),
    "cli": ("typer",),
    "nodes": ("rclpy", "torch", "rosbags"),
}


# ROS 2's launch, loaded as a pytest plugin, makes every later logger one that hides its records from `caplog`.
logging.setLoggerClass(logging.Logger)


def absent_packages(room: str) -> list[str]:
    return [package for package in NEEDS.get(room, ()) if importlib.util.find_spec(package) is None]


def floors() -> dict[str, int]:
    """Floor of each room, counted from the bottom; the import contracts hold the table."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return {room.strip(" ()"): floor for floor, layer in enumerate(reversed(layers)) for room in layer.split("|")}


def pytest_report_header() -> list[str]:
    left_out = {room: absent_packages(room) for room in NEEDS if (TESTS / room).is_dir() and absent_packages(room)}
    return [f"not run: test/{room} (not installed here: {', '.join(packages)})" for room, packages in left_out.items()]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path.parent == TESTS and absent_packages(collection_path.name) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    floor = floors()
    top = len(floor)

    def height(item: pytest.Item) -> int:
        return floor.get(item.path.relative_to(TESTS).parts[0], top) if item.path.is_relative_to(TESTS) else top

    items.sort(key=height)

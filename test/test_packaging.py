"""What is installed: pip and colcon read setup.py, rosdep reads package.xml, make reads constraints.txt; they must agree."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import pytest
import setuptools

import xkd_ros

ROOT = Path(__file__).resolve().parents[1]
SHORT_NAMES = ("segmenter", "synchronizer", "replayer", "trainer")

# Imported where used, with a way to go on without them: rosdep need not install them.
OPTIONAL_ROS = {"vision_msgs"}
# Needed at run time without being imported by us.
SILENT_ROS = {"ros2launch"}


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    setuptools = pytest.importorskip("setuptools")
    caught: dict[str, Any] = {}
    original, setuptools.setup = setuptools.setup, lambda **arguments: caught.update(arguments)
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        setuptools.setup = original
    return caught


@pytest.fixture(scope="module")
def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def test_one_version(setup_arguments, manifest):
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert {setup_arguments["version"], manifest.findtext("version"), newest.group(1)} == {xkd_ros.__version__}


def test_every_data_file_is_there(setup_arguments):
    listed = {name for _, names in setup_arguments["data_files"] for name in names}
    assert all((ROOT / name).is_file() for name in listed)
    wanted = [*(ROOT / "launch").glob("*.launch.py"), *(ROOT / "models").rglob("*.onnx"), *(ROOT / "config").rglob("*.yaml")]
    assert wanted
    assert {path.relative_to(ROOT).as_posix() for path in wanted} <= listed


def test_programs_exist(setup_arguments):
    pytest.importorskip("rclpy", reason="needs rclpy")
    pytest.importorskip("typer", reason="needs typer")
    programs = dict(entry.split(" = ") for entry in setup_arguments["entry_points"]["console_scripts"])
    assert set(programs) == {"xkd", *(f"xkd_{name}" for name in SHORT_NAMES)}
    for target in programs.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_ros2_run_starts_the_same_program(name, setup_arguments):
    programs = dict(entry.split(" = ") for entry in setup_arguments["entry_points"]["console_scripts"])
    script = ROOT / "scripts" / name
    module, _, function = programs[f"xkd_{name}"].partition(":")
    assert f"from {module} import {function}" in script.read_text()
    assert script.stat().st_mode & 0o111, f"{script} is not executable; colcon installs it as it is"
    assert any(f"scripts/{name}" in names for folder, names in setup_arguments["data_files"] if folder == "lib/xkd_ros")


def test_constraints_pin_every_requirement(setup_arguments):
    requirements = pytest.importorskip("packaging.requirements")
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    versions = {normalised(name): version for name, version in pinned}
    wanted = [*setup_arguments["install_requires"], *setup_arguments["extras_require"]["all"]]
    for text in wanted:
        requirement = requirements.Requirement(text)
        assert requirement.specifier.contains(versions[normalised(requirement.name)]), text


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_manifest_names_what_is_used(manifest):
    declared = {element.text or "" for element in manifest.iter("exec_depend")}
    ros = {key for key in declared if not key.startswith("python3-")} - SILENT_ROS
    sources = [path.read_text() for folder in ("xkd_ros/nodes", "launch") for path in (ROOT / folder).glob("*.py")]
    imported = {name for source in sources for name in imported_packages(source)}
    looks_like_ros = {name for name in imported if name.endswith(("_msgs", "_srvs", "_interfaces")) or name in ros}
    assert looks_like_ros - OPTIONAL_ROS <= ros, "imported but not in package.xml"
    unused = {key for key in ros if not any(re.search(rf"\b{key}\b", source) for source in sources)}
    assert not unused, "in package.xml but never named in nodes or launch files"


def imported_packages(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_the_wheel_holds_what_the_sources_hold(tmp_path):
    """Build it as pip does: programs, launch files, configuration and data files inside the package arrive."""
    if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1):
        pytest.importorskip("wheel", reason="this setuptools needs the package wheel")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "xkd_ros", "launch", "config", "resource", "scripts"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    wheel = next(tmp_path.glob("*.whl"))
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "xkd_ros").rglob("*") if path.suffix in (".py", ".yaml", ".typed")}
    data = f"xkd_ros-{xkd_ros.__version__}.data/data"
    expected |= {f"{data}/lib/xkd_ros/{name}" for name in SHORT_NAMES}
    expected |= {f"{data}/share/xkd_ros/launch/{path.name}" for path in (ROOT / "launch").glob("*.py")}
    expected |= {f"{data}/share/xkd_ros/package.xml", f"{data}/share/ament_index/resource_index/packages/xkd_ros"}
    assert not expected - inside

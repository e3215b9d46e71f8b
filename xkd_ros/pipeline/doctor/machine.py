"""Python, processor, GPU, the cache of compiled loops, and the optional packages: what each is for and how it is installed."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from xkd_ros import __version__
from xkd_ros.core.processor import cpu_lines, has_bf16
from xkd_ros.pipeline.doctor.finding import Finding
from xkd_ros.runtime.machine import cache_folder, has_nvidia_gpu, installed
from xkd_ros.runtime.tensorrt_builder import INSTALL

_OLDEST, _NEWEST = (3, 11), (3, 13)
_OLDEST_TENSORRT, _TYPED_TENSORRT = 10, 11


class _Optional(NamedTuple):
    module: str
    purpose: str
    install: str
    places: str = "abc"
    """Where it can be installed at all."""


_PACKAGES = (
    _Optional("rosbags", "reading and writing recordings", "pip install 'xkd_ros[bags]'"),
    _Optional("cv2", "images of recordings, calibration, simulated cameras", "pip install 'xkd_ros[bags]'"),
    _Optional("torch", "learning, the torch backends", "pip install 'xkd_ros[train]'"),
    _Optional("onnx", "exporting models", "pip install 'xkd_ros[train]'"),
    _Optional("lightning_fabric", "learning", "pip install 'xkd_ros[train]'"),
    _Optional("tensorboard", "training curves", "pip install 'xkd_ros[train]'"),
    _Optional("transformers", "image teachers such as DINOv2 and OneFormer", "pip install 'xkd_ros[teach]'"),
    _Optional("embreex", "xkd simulate, xkd demo", "pip install 'xkd_ros[sim]'"),
    _Optional("matplotlib", "reports and pictures", "pip install 'xkd_ros[view]'"),
    _Optional("rerun", "the 3D viewer", "pip install 'xkd_ros[view]'"),
    _Optional("onnxruntime", "the onnxruntime backend", "pip install onnxruntime"),
    _Optional("tf2_ros", "extrinsics from TF", "sudo apt install ros-jazzy-tf2-ros-py", "b"),
    _Optional("message_filters", "policies approximate and exact", "sudo apt install ros-jazzy-message-filters", "b"),
    _Optional("vision_msgs", "vision_msgs/LabelInfo", "sudo apt install ros-jazzy-vision-msgs", "b"),
    _Optional("launch_ros", "ros2 launch", "sudo apt install ros-jazzy-launch-ros", "b"),
)


def examine_machine() -> list[Finding]:
    """Look at Python, processor, GPU and caches."""
    return [_python(), _processor(), *_gpu(), _kernel_cache(), _choice_cache()]


def examine_packages(place: str) -> Iterator[Finding]:
    """List the optional packages that this place can have; `place` as `ros.find_place` tells it."""
    for package in _PACKAGES:
        if place not in package.places:
            continue
        if installed(package.module):
            yield Finding("packages", package.module, "ok", f"{_version_of(package.module)}: {package.purpose}".lstrip(": "))
        else:
            yield Finding("packages", package.module, "note", f"not installed: {package.purpose}", package.install)


def _python() -> Finding:
    version = sys.version_info[:2]
    found = f"{platform.python_version()} at {sys.executable}, xkd_ros {__version__}"
    if not _OLDEST <= version <= _NEWEST:
        return Finding("machine", "Python", "wrong", found, "use Python 3.11, 3.12 or 3.13")
    return Finding("machine", "Python", "ok", found)


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = cpu_lines().get("model name", platform.machine())
    return Finding("machine", "processor", "ok", f"{name}, {cores} cores usable, bfloat16 {'yes' if has_bf16() else 'no'}")


def _gpu() -> Iterator[Finding]:
    if not has_nvidia_gpu():
        yield Finding("machine", "GPU", "ok", "none of NVIDIA: the network runs on the CPU")
        found = "not looked at without a GPU: whether it builds an engine, whether that one's labels are torch's, how fast it is"
        yield Finding(
            "machine", "TensorRT", "ok", found, f"on a robot with a GPU: {INSTALL}, xkd export MODEL --tensorrt, xkd doctor --run"
        )
        return
    lines = [line for path in Path("/proc/driver/nvidia/gpus").glob("*/information") for line in path.read_text().splitlines()]
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    yield Finding("machine", "GPU", "ok", ", ".join(names) or "an NVIDIA device")
    version = _version_of("tensorrt")
    if not version:
        yield Finding("machine", "TensorRT", "note", "not installed: torch runs the network on the GPU", INSTALL)
    elif int(version.split(".")[0]) < _OLDEST_TENSORRT:
        yield Finding("machine", "TensorRT", "wrong", f"{version}: wrong labels without an error", INSTALL)
    elif int(version.split(".")[0]) >= _TYPED_TENSORRT:
        yield Finding("machine", "TensorRT", "note", f"{version} builds only float32 engines of our graphs", INSTALL)
    else:
        yield Finding("machine", "TensorRT", "ok", version)


def _kernel_cache() -> Finding:
    if not installed("numba"):
        found = "numba is not installed: preprocessing cannot run"
        return Finding("machine", "compiled loops", "wrong", found, "pip install 'numba>=0.58'")
    from xkd_ros.kernels.compiler import cache_path

    folder = cache_path()
    if folder is None:
        found = "no folder can be written, so every start compiles for half a minute"
        return Finding("machine", "compiled loops", "note", found, "export NUMBA_CACHE_DIR=/a/folder/that/can/be/written")
    return Finding("machine", "compiled loops", "ok", f"numba {_version_of('numba')}, kept in {folder}")


def _choice_cache() -> Finding:
    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(existing, os.W_OK):
        return Finding("machine", "cache", "ok", f"{folder}: choice of backends, engines")
    found = f"{folder} cannot be written: backends are timed anew at every start"
    return Finding("machine", "cache", "note", found, "export XDG_CACHE_HOME=/a/folder/that/can/be/written")


def _version_of(module: str) -> str:
    """Version of what a module belongs to; empty where that is not known."""
    for name in (*metadata.packages_distributions().get(module, ()), module):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""

"""What this computer is, as far as the choice of a backend depends on it, found out without importing anything heavy."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from glob import glob
from importlib import metadata, util
from pathlib import Path

from xkd_ros.core.processor import cpu_lines

_PACKAGES = ("numpy", "scipy", "numba", "torch", "triton", "onnxruntime", "tensorrt")
_GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/dxg")
"""Cards, of which a container may see only a later one, Jetsons, WSL."""


def cache_folder() -> Path:
    """Where results that can be found again are kept: $XDG_CACHE_HOME/xkd_ros, else ~/.cache/xkd_ros."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry in passwd, and no $HOME
        home = Path("/nonexistent")
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "xkd_ros"


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return util.find_spec(package) is not None
    except (ImportError, ValueError):  # an import hook that says no, or a half-loaded module
        return False


def has_nvidia_gpu() -> bool:
    """Whether the device files of an NVIDIA driver exist."""
    return any(glob(pattern) for pattern in _GPU_DEVICES)


def wait_passively() -> None:
    """Let torch's CPU threads sleep when they wait for each other; has an effect before torch is first imported.

    They spin by default. On a robot whose cores are busy with other programs a spinning thread keeps the one it waits for from
    running: with four busy programs on two cores one scan took 15 s instead of 0.8 s.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def fingerprint(**facts: object) -> str:
    """Hash this machine, the versions of the inference packages, and `facts`."""
    versions = {package: _version(package) for package in _PACKAGES}
    cpu = cpu_lines()
    machine = [platform.machine(), platform.python_version(), cpu.get("model name", ""), cpu.get("flags", ""), os.cpu_count()]
    gpus = sorted(path.read_text() for path in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    content = json.dumps([machine, gpus, has_nvidia_gpu(), versions, facts], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""

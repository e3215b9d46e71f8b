"""ROS on this machine: which of the three places it is, whether rclpy starts, and whether large clouds get through.

rclpy itself is only run in a child process: a damaged middleware must not end the examination.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from xml.etree import ElementTree

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.share import find_shared
from xkd_ros.pipeline.doctor.finding import Finding

SHM = Path("/dev/shm")
PROFILE = "config/fastdds_large_clouds.xml"
_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_SMALL_SHM = 256e6
_SMALL_SEGMENT = 8e6  # a cloud of 131072 points with labels is 5 MB
_LEAK_WORTH_A_WORD = 200e6
_START_S = 30.0
_TIME_ERROR = 5  # adjtimex: the clock is not synchronised
_START = "import rclpy; rclpy.init(); print(rclpy.get_rmw_implementation_identifier()); rclpy.shutdown()"


def examine_ros() -> list[Finding]:
    """Look at ROS, the middleware, shared memory and the clock."""
    place, finding = find_place()
    findings = [finding]
    if place != "c":
        findings += [_start(place), *_domain(), _profile()]
    return [*findings, *_shared_memory(SHM), _clock()]


def find_place() -> tuple[str, Finding]:
    """Tell which of the places this is.

    Returns:
        "a" (ROS 2 from PyPI in a virtual environment), "b" (a sourced ROS 2 installation), "c" (no ROS), and the line of the page.
    """
    spec = util.find_spec("rclpy")
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    if spec is None or spec.origin is None:
        if prefixes:
            remedy = f"use the Python of that ROS ({sys.executable} cannot import its rclpy), or a venv made with --system-site-packages"
            return "c", Finding("ROS", "place", "wrong", f"(c) ROS is sourced ({prefixes[0]}) but this Python has no rclpy", remedy)
        found = "(c) no ROS here: recordings can be read, simulated, labelled and learnt from; nodes cannot run"
        return "c", Finding("ROS", "place", "note", found, "pip install 'xkd_ros[ros]', or source /opt/ros/jazzy/setup.bash")
    home = Path(spec.origin).resolve()
    if any(home.is_relative_to(Path(prefix).resolve()) for prefix in prefixes):
        return "b", _place_b(prefixes)
    version = _version("ros-jazzy-rclpy") or _version("ros-rclpy")
    others = [prefix for prefix in prefixes if not Path(prefix).resolve().is_relative_to(Path(sys.prefix).resolve())]
    # Overlays come first and hold no rclpy of their own.
    installations = sorted(others, key=lambda prefix: not any(Path(prefix).glob("lib/python3*/*-packages/rclpy/__init__.py")))
    if installations and version:
        remedy = "pip uninstall ros-jazzy-rclpy ros-rclpy, or leave that ROS unsourced"
        return "a", Finding("ROS", "place", "wrong", f"rclpy of PyPI hides the one of {installations[0]}", remedy)
    return "a", Finding("ROS", "place", "ok", f"(a) rclpy {version or 'of unknown origin'} from {home.parent.parent}")


def _place_b(prefixes: list[str]) -> Finding:
    distro = os.environ.get("ROS_DISTRO", "unknown distribution")
    if any((Path(prefix) / "share" / "xkd_ros" / "package.xml").is_file() for prefix in prefixes):
        return Finding("ROS", "place", "ok", f"(b) ROS 2 {distro}, xkd_ros among its packages: ros2 launch xkd_ros segment.launch.py")
    return Finding(
        "ROS", "place", "note", f"(b) ROS 2 {distro}, but no sourced workspace holds xkd_ros",
        "colcon build --packages-select xkd_ros && source install/setup.bash",
    )  # fmt: skip


def _start(place: str) -> Finding:
    """Start and stop rclpy for real, in a process of its own."""
    try:
        done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, timeout=_START_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("ROS", "rclpy", "wrong", f"does not start within {_START_S:.0f} s", "look at ROS_DISCOVERY_SERVER and the network")
    if done.returncode == 0:
        return Finding("ROS", "rclpy", "ok", f"starts, with {done.stdout.split()[-1]}")
    last = (done.stderr.strip().splitlines() or ["no word"])[-1]
    chosen = os.environ.get("RMW_IMPLEMENTATION")
    remedy = f"unset RMW_IMPLEMENTATION ({chosen}), or install it" if chosen else _INSTALL_AGAIN[place]
    return Finding("ROS", "rclpy", "wrong", f"does not start: {last}", remedy)


_INSTALL_AGAIN = {"a": "pip install --force-reinstall 'xkd_ros[ros]'", "b": "sudo apt install --reinstall ros-jazzy-rclpy"}


def _domain() -> Iterator[Finding]:
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    yield Finding("ROS", "domain", "ok", f"ROS_DOMAIN_ID {domain}, discovery {reach}: nodes with other settings are not seen")


def _profile() -> Finding:
    """Judge whether clouds of megabytes get through: by default Fast DDS loses most of them (docs/operations.md)."""
    if os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp") != "rmw_fastrtps_cpp":
        return Finding("ROS", "large clouds", "ok", f"{os.environ['RMW_IMPLEMENTATION']}: its own settings count, not Fast DDS profiles")
    if "LARGE_DATA" in os.environ.get("FASTDDS_BUILTIN_TRANSPORTS", ""):
        return Finding("ROS", "large clouds", "ok", "FASTDDS_BUILTIN_TRANSPORTS is LARGE_DATA; it must be so in all processes")
    variable = next((name for name in _PROFILE_VARIABLES if os.environ.get(name)), None)
    try:
        remedy = f"export {_PROFILE_VARIABLES[1]}={find_shared(PROFILE)}"
    except ConfigError as error:
        return Finding("ROS", "large clouds", "wrong", str(error), "reinstall the package")
    if variable is None:
        found = "no profile is set: best-effort clouds above half a megabyte are lost between processes; our launch files set one"
        return Finding("ROS", "large clouds", "note", found, f"where the clouds are published: {remedy}")
    path = Path(os.environ[variable])
    try:
        sizes = [int(node.text or 0) for node in ElementTree.parse(path).iter() if node.tag.rpartition("}")[2] == "segment_size"]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        return Finding("ROS", "large clouds", "wrong", f"{variable}={path} cannot be read: {error}", remedy)
    if max(sizes, default=0) < _SMALL_SEGMENT:
        return Finding("ROS", "large clouds", "note", f"{variable}={path} sets no shared-memory segment for large clouds", remedy)
    return Finding("ROS", "large clouds", "ok", f"{variable}={path}, segments of {max(sizes) / 1e6:.0f} MB")


def _shared_memory(folder: Path) -> Iterator[Finding]:
    try:
        disk = os.statvfs(folder)
    except OSError:
        yield Finding("ROS", "shared memory", "note", f"no {folder}: processes talk over the loopback, which is slower for clouds")
        return
    size, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    room = f"{folder} has {size / 1e6:.0f} MB, {free / 1e6:.0f} free"
    if free < _SMALL_SHM:
        yield Finding("ROS", "shared memory", "wrong", room, "free it (xkd doctor --clean); in a container: --shm-size=1g or --ipc=host")
    else:
        yield Finding("ROS", "shared memory", "ok", room)
    leaked = find_leaked_segments(folder)
    if leaked:
        bytes_ = sum(path.stat().st_size for path in leaked if path.exists())
        level = "note" if bytes_ > _LEAK_WORTH_A_WORD else "ok"
        found = f"{len(leaked)} files ({bytes_ / 1e6:.0f} MB) of processes that were killed"
        yield Finding("ROS", "leaked segments", level, found, "xkd doctor --clean")  # type: ignore[arg-type]


def find_leaked_segments(folder: Path = SHM) -> list[Path]:
    """List the shared-memory files of Fast DDS whose owner is gone.

    The owner of a segment holds a lock on the file `<segment>_el` as long as it lives, which is also how `fastdds shm clean` tells.
    """
    leaked = []
    for lock in sorted(folder.glob("fastrtps_*_el")):
        try:
            with open(lock) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # held, or of another user
        segment = lock.with_name(lock.name.removesuffix("_el"))
        leaked += [path for path in (segment, lock) if path.exists()]
    return leaked


def remove_leaked_segments(folder: Path = SHM) -> int:
    """Remove what `find_leaked_segments` lists; returns the bytes."""
    freed = 0
    for path in find_leaked_segments(folder):
        freed += path.stat().st_size
        path.unlink(missing_ok=True)
    return freed


def _clock() -> Finding:
    """Ask the kernel whether somebody keeps its clock right; reading (modes 0) needs no rights."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return Finding("machine", "clock", "note", "the kernel does not say whether the clock is synchronised")
    if state == _TIME_ERROR:
        found = "not synchronised: stamps of sensors on other computers will not match this one's"
        return Finding("machine", "clock", "note", found, "sudo apt install chrony, or PTP where the lidar offers it")
    return Finding("machine", "clock", "ok", "synchronised")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""

"""The house rules of imports: the contracts in pyproject.toml, and what really happens when packages are absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "xkd_ros"

# A robot that only runs the student has these with what they bring along, ROS 2 itself, and nothing else.
ROBOT_ROOMS = ("core", "kernels", "msgs", "points", "pairing", "runtime", "nodes")
ROBOT_PACKAGES = ("numpy", "scipy", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection")
ROBOT_PACKAGES += ("yaml", "_yaml", "numba", "llvmlite", "safetensors", "onnxruntime", "flatbuffers", "google", "packaging")
ROS_PREFIXES = ("rcl", "_rclpy", "rpyutils", "rosidl_", "ament_index_python")
ROS_SUFFIXES = ("_msgs", "_srvs", "_interfaces")
# One heavy package per file, imported when it is chosen.
HEAVY_BACKENDS = ("torch_backend", "tensorrt_backend")

# Expressions of `top`, the top-level package that somebody asks for.
IS_ROS = f"(top.startswith({ROS_PREFIXES!r}) or top.endswith({ROS_SUFFIXES!r}))"
IS_STANDARD = "(top in sys.stdlib_module_names or top.startswith('_sysconfigdata'))"
ON_ROBOT = f"{IS_STANDARD} or {IS_ROS} or top in {('xkd_ros', *ROBOT_PACKAGES)!r}"
WITHOUT_ROS = f"not {IS_ROS}"

# Goes before each script: packages that are not allowed are absent, as they would be on that machine.
PREAMBLE = """
import importlib, importlib.abc, json, pkgutil, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        top = fullname.partition(".")[0]
        if not ({allowed}):
            raise ModuleNotFoundError(f"No module named {{top!r}} (blocked by the test)", name=top)

sys.meta_path.insert(0, Absent())

def import_all(rooms, leave_out=()):
    done = []
    for room in rooms:
        package = importlib.import_module(f"xkd_ros.{{room}}")
        done.append(package.__name__)
        for module in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
            if module.name.rpartition(".")[2] not in leave_out:
                importlib.import_module(module.name)
                done.append(module.name)
    return done
"""


def run_where(allowed: str, script: str, *arguments: str) -> Any:
    """Run a script in a fresh interpreter that has only the allowed packages; returns what its last line says as JSON."""
    source = PREAMBLE.format(allowed=allowed) + textwrap.dedent(script)
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))  # where a sourced ROS 2 is
    environment = {**os.environ, "PYTHONPATH": python_path, "ROS_DOMAIN_ID": str(60 + os.getpid() % 30)}
    command = [sys.executable, "-c", source, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert result.returncode == 0, f"{result.stdout[-1000:]}\n{result.stderr[-3000:]}"
    return json.loads(result.stdout.splitlines()[-1])


def rooms() -> list[str]:
    """List the rooms that exist, folders and files alike."""
    entries = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return sorted(path.stem for path in entries if path.stem != "__init__")


def test_import_contracts_hold(tmp_path, capsys):
    cli = pytest.importorskip("importlinter.cli", reason="needs import-linter: pip install import-linter")
    code = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=str(tmp_path))
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("room", ROBOT_ROOMS)
def test_a_robot_imports_its_rooms_with_its_packages_only(room):
    if room == "nodes":
        pytest.importorskip("rclpy", reason="needs rclpy")
    done = run_where(ON_ROBOT, f"print(json.dumps(import_all([{room!r}], leave_out={HEAVY_BACKENDS!r})))")
    assert len(done) > 1


def test_a_blocked_package_is_absent():
    with pytest.raises(AssertionError, match="No module named 'hypothesis'"):
        run_where(ON_ROBOT, "import hypothesis")


@pytest.mark.dds
def test_a_robot_labels_a_cloud_with_its_packages_only():
    """The whole node: a cloud over DDS in, the labelled cloud out, with the model that comes with the package."""
    pytest.importorskip("rclpy", reason="needs rclpy")
    model = ROOT / "models" / "indoor-24x64"
    if not model.is_dir():
        pytest.skip("models/indoor-24x64 is not in this checkout")
    report = run_where(
        ON_ROBOT,
        """
        import time
        import numpy as np
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.parameter import Parameter
        from sensor_msgs.msg import PointCloud2, PointField
        from xkd_ros.nodes.segmenter import SegmenterNode

        rng = np.random.default_rng(0)
        points = rng.uniform((-4, -3, -1.2), (4, 3, 1.4), (4000, 3)).astype(np.float32)
        side = rng.integers(0, 3, 4000)
        points[np.arange(4000), side] = np.array([4, 3, 1.3], np.float32)[side] * rng.choice([-1, 1], 4000)
        cloud = PointCloud2(height=1, width=4000, point_step=12, row_step=48000, is_dense=True, data=points.tobytes())
        cloud.header.frame_id = "lidar"
        cloud.fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate("xyz")]

        rclpy.init()
        overrides = [Parameter("model", value=sys.argv[1]), Parameter("backend", value="numba")]
        segmenter = SegmenterNode(parameter_overrides=overrides)
        watcher = rclpy.create_node("watcher")
        received = []
        watcher.create_subscription(PointCloud2, "semantic_points", received.append, 5)
        publisher = watcher.create_publisher(PointCloud2, "points", 5)
        executor = SingleThreadedExecutor()
        executor.add_node(segmenter)
        executor.add_node(watcher)
        deadline, next_send = time.monotonic() + 60, 0.0
        while not received and time.monotonic() < deadline:
            if time.monotonic() > next_send:
                publisher.publish(cloud)
                next_send = time.monotonic() + 0.5
            executor.spin_once(timeout_sec=0.05)
        segmenter.close()
        names = [field.name for field in received[0].fields] if received else []
        print(json.dumps({"width": received[0].width if received else 0, "fields": names}))
        """,
        str(model),
    )
    assert report["width"] == 4000
    assert {"x", "y", "z", "label", "probability", "entropy"} <= set(report["fields"])


def test_a_training_server_needs_no_ros(tmp_path):
    """Everything but the nodes imports, a bag is written and read back, and the command line answers."""
    pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("rosbags", reason="needs rosbags")
    everything = [room for room in rooms() if room != "nodes"]
    report = run_where(
        WITHOUT_ROS,
        f"""
        import numpy as np
        done = import_all({everything!r}, leave_out=("tensorrt_backend", "network_kernels", "neighbour_kernels"))

        from rosbags.typesys import Stores, get_typestore
        from xkd_ros.bags.reader import Bag
        from xkd_ros.bags.writer import BagWriter
        from xkd_ros.core.share import share_folders
        from xkd_ros.core.types import Scan
        from xkd_ros.msgs.build import make_cloud

        scan = Scan(points_m=np.arange(30, dtype=np.float32).reshape(10, 3), stamp_ns=7, frame_id="lidar")
        with BagWriter(sys.argv[1]) as writer:
            writer.write("/points", make_cloud(scan, get_typestore(Stores.ROS2_JAZZY).types), 7)
        with Bag(sys.argv[1]) as bag:
            back = next(iter(bag.scans()))
        same = bool((back.points_m == scan.points_m).all()) and back.stamp_ns == 7
        print(json.dumps({{"modules": len(done), "same": same, "share": [str(folder) for folder in share_folders()]}}))
        """,
        str(tmp_path / "walk"),
    )
    assert report["same"]
    assert report["modules"] > len(everything)
    assert str(ROOT) in report["share"]

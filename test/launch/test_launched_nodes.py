"""The launch files as `ros2 launch` runs them; only where ROS 2 is installed and this package is built into its workspace."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

launch_pytest = pytest.importorskip("launch_pytest", reason="launch_pytest is not installed: source a ROS 2 workspace (place b)")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: source a ROS 2 workspace (place b)")

import rclpy  # noqa: E402
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory  # noqa: E402
from launch import LaunchDescription, LaunchService  # noqa: E402
from launch.actions import IncludeLaunchDescription, SetEnvironmentVariable  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import PointCloud2, PointField  # noqa: E402

try:
    SHARE = Path(get_package_share_directory("xkd_ros"))
except PackageNotFoundError:
    pytest.skip("xkd_ros is not built into this workspace: colcon build, then source install/setup.bash", allow_module_level=True)

DOMAIN = 2 + os.getpid() % 99
DEADLINE_S = 180.0  # a backend is chosen, on a machine that may be busy


@launch_pytest.fixture(scope="module")
def segment_launched():
    """What a user types: the installed model, on whatever backend works here."""
    arguments = {"points": "/some_lidar/points", "num_threads": "1", "output": "named"}
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "segment.launch.py"))
    return LaunchDescription(
        [
            SetEnvironmentVariable("ROS_DOMAIN_ID", str(DOMAIN)),
            IncludeLaunchDescription(source, launch_arguments=list(arguments.items())),
            launch_pytest.actions.ReadyToTest(),
        ]
    )


@pytest.mark.launch(fixture=segment_launched)
def test_segment_launch_labels_a_cloud():
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node, executor = Node("probe", context=context), SingleThreadedExecutor(context=context)
    executor.add_node(node)
    answers: list[PointCloud2] = []
    try:
        node.create_subscription(PointCloud2, "/named", answers.append, 10)
        publisher = node.create_publisher(PointCloud2, "/some_lidar/points", 10)
        cloud = PointCloud2(height=1, width=2, point_step=12, row_step=24, data=bytes(24), is_dense=True)
        cloud.fields = [PointField(name=axis, offset=4 * number, datatype=7, count=1) for number, axis in enumerate("xyz")]
        end = time.monotonic() + DEADLINE_S
        while not answers and time.monotonic() < end:
            publisher.publish(cloud)
            executor.spin_once(timeout_sec=0.2)
        assert answers, f"no labelled cloud in {DEADLINE_S} s"
        assert [field.name for field in answers[0].fields] == ["x", "y", "z", "label", "probability", "entropy", "rgb"]
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.parametrize(("model", "code"), [("indoor-24x64", 0), ("no_such_model", 1)])
def test_build_only_ends_by_itself_and_its_exit_code_tells(tmp_path, model, code):
    """What an installation step types; RViz and the synchronizer, which would never end, are left out."""
    arguments = {"build_only": "true", "model": model, "backend": "numba", "synchronizer": "true", "rviz": "true"}
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "segment.launch.py"))
    service = LaunchService()
    service.include_launch_description(
        LaunchDescription(
            [
                SetEnvironmentVariable("ROS_DOMAIN_ID", str(DOMAIN)),
                SetEnvironmentVariable("XDG_CACHE_HOME", str(tmp_path)),
                IncludeLaunchDescription(source, launch_arguments=list(arguments.items())),
            ]
        )
    )
    assert service.run() == code


@pytest.mark.parametrize("name", ["segment.launch.py", "demo.launch.py", "train.launch.py"])
def test_arguments_are_shown_with_default_and_help(name):
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    arguments = get_launch_description_from_python_launch_file(str(SHARE / "launch" / name)).get_launch_arguments()
    assert len(arguments) > 5
    assert all(argument.default_value is not None and len(argument.description) > 10 for argument in arguments)

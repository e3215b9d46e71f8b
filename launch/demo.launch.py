"""Play a recording through the segmenter, and look at it: replayer, segmenter, synchronizer and RViz.

ros2 run xkd_ros xkd simulate --seed 75 --rig ouster16 --seconds 20 -o walk
ros2 launch xkd_ros demo.launch.py bag:=walk points:=/ouster/points
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from xkd_ros.nodes.launch_arguments import log_level, number, true

SHARE = Path(get_package_share_directory("xkd_ros"))
CONFIG = SHARE / "config"

# name, default, help.
ARGUMENTS = [
    ("bag", "", "recording to play: rosbag2 folder, .mcap, .db3 or ROS 1 .bag (required)"),
    ("points", "/ouster/points", "topic of the lidar in the recording"),
    ("rate", "1.0", "speed of playing"),
    ("loop", "true", "play again at the end; false ends the demo with the recording"),
    ("model", "", "model folder or name; empty: as in config/segmenter.yaml"),
    ("backend", "", "auto | numba | onnxruntime | torch | torch-bf16 | tensorrt | cuda; empty: as in config/segmenter.yaml"),
    ("num_threads", "", "CPU threads, 0 for all; empty: as in config/segmenter.yaml"),
    ("rig", "", "rig YAML of the recording; given: the synchronizer pairs images and scans too"),
    ("rviz", "true", "open RViz on the labelled cloud"),
    ("fixed_frame", "os_lidar", "frame RViz draws in: the frame_id of the recorded clouds"),
    ("dds_profile", str(CONFIG / "fastdds_large_clouds.xml"), "Fast DDS profile that carries large clouds; empty: leave DDS alone"),
    ("log_level", "info", "debug | info | warn | error"),
]
# Handed to segment.launch.py under the same name.
SHARED = ("points", "model", "backend", "num_threads", "rig", "rviz", "fixed_frame", "dds_profile", "log_level")


def generate_launch_description() -> LaunchDescription:
    """List the arguments; the nodes follow when their values are known."""
    declared = [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    if not given["bag"]:
        raise RuntimeError("give a recording: bag:=PATH; `ros2 run xkd_ros xkd simulate --seed 75 --rig ouster16 -o walk` makes one")
    actions: list[LaunchDescriptionEntity] = []
    # First, so that the replayer has it too: it is the publisher of large clouds.
    if given["dds_profile"] and "FASTRTPS_DEFAULT_PROFILES_FILE" not in os.environ:
        actions.append(SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", given["dds_profile"]))
    shared = {name: given[name] for name in SHARED} | {"synchronizer": "true" if given["rig"] else "false"}
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "segment.launch.py"))
    replayer = Node(
        package="xkd_ros",
        executable="replayer",
        name="replayer",
        parameters=[
            str(CONFIG / "replayer.yaml"),
            {
                # As texts, whatever they look like: a recording may be called 2024_01_15.
                "bag": ParameterValue(given["bag"], value_type=str),
                "rate": number(given, "rate"),
                "loop": true(given, "loop"),
                "wait_for": ParameterValue(f"{given['points']}:{2 if given['rig'] else 1}", value_type=str),
            },
        ],
        ros_arguments=log_level(given, "replayer"),
        output="screen",
    )
    at_the_end = OnProcessExit(target_action=replayer, on_exit=[EmitEvent(event=Shutdown(reason="the recording has ended"))])
    return [
        *actions,
        IncludeLaunchDescription(source, launch_arguments=list(shared.items())),
        replayer,
        RegisterEventHandler(at_the_end),
    ]

"""Label the clouds of a lidar: segmenter, and if wanted the synchronizer and RViz.

ros2 launch xkd_ros segment.launch.py points:=/os_cloud_node/points
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from xkd_ros.nodes.launch_arguments import log_level, number, parameter_file, true

SHARE = Path(get_package_share_directory("xkd_ros"))
CONFIG = SHARE / "config"

# name, default, help. The default of a parameter is empty, which leaves it to the parameter file.
ARGUMENTS = [
    ("points", "/points", "topic of the lidar (sensor_msgs/PointCloud2)"),
    ("output", "semantic_points", "topic of the labelled cloud"),
    ("namespace", "", "namespace of all nodes"),
    ("name", "segmenter", "name of the segmenter, one per lidar"),
    ("params_file", str(CONFIG / "segmenter.yaml"), "parameter file of the segmenter"),
    ("model", "", "model folder or name; empty: as in params_file"),
    ("backend", "", "auto | numba | onnxruntime | torch | torch-bf16 | tensorrt | cuda; empty: as in params_file"),
    ("num_threads", "", "CPU threads, 0 for all; empty: as in params_file"),
    ("headings", "", "1, 2 or 4: headings in which each scan is labelled, to be averaged, not with fused; empty: as in params_file"),
    ("levelling", "", "auto | fixed | off; empty: as in params_file"),
    ("roll_deg", "", "roll of the lidar as mounted; empty: as in params_file"),
    ("pitch_deg", "", "pitch of the lidar as mounted; empty: as in params_file"),
    ("temporal_fusion", "", "true joins scans along the odometry; empty: as in params_file"),
    ("odometry", "odometry", "topic of nav_msgs/Odometry for temporal_fusion"),
    ("base_from_lidar", "", "where the lidar sits on the odometry's moving frame: x, y, z, roll, pitch, yaw; empty: as in params_file"),
    ("fused", "", "true lets pictures have their say, by the fused head of a model of recipe xmodel; empty: as in params_file"),
    ("autostart", "", "true configures and activates at once, false waits for a lifecycle manager; empty: as in params_file (true)"),
    (
        "build_only",
        "",
        "true makes and keeps what the model needs here (choice of backend, compiled loops, engine), and ends; empty: as in params_file"
        " (false)",
    ),
    ("use_sim_time", "", "true takes the time from /clock; empty: as in the parameter files (false)"),
    ("synchronizer", "false", "true also pairs the lidar with the cameras of the rig"),
    ("rig", "", "rig YAML for the synchronizer, and for fused; empty: as in the parameter files"),
    (
        "image",
        "",
        "image topics for the synchronizer, and for fused, comma-separated; empty: those of the rig, or as in the parameter files",
    ),
    ("synchronizer_params_file", str(CONFIG / "synchronizer.yaml"), "parameter file of the synchronizer"),
    ("record", "", "bag folder that the synchronizer writes the pairs to; empty: as in synchronizer_params_file (none)"),
    ("rviz", "false", "true opens RViz on the labelled cloud"),
    ("rviz_config", str(CONFIG / "semantic_points.rviz"), "RViz configuration"),
    ("fixed_frame", "", "frame RViz draws in: the frame_id of the clouds, or one that TF connects to it; empty: as in rviz_config"),
    ("dds_profile", str(CONFIG / "fastdds_large_clouds.xml"), "Fast DDS profile that carries large clouds; empty: leave DDS alone"),
    ("log_level", "info", "debug | info | warn | error"),
]
# Parameters of the segmenter under the same name.
TRUTHS = ("temporal_fusion", "fused", "autostart", "build_only", "use_sim_time")
COUNTS, NUMBERS = ("num_threads", "headings"), ("roll_deg", "pitch_deg")
TEXTS = ("model", "backend", "levelling", "base_from_lidar", "rig")


def generate_launch_description() -> LaunchDescription:
    """List the arguments; the nodes follow when their values are known."""
    declared = [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    with_synchronizer = true(given, "synchronizer")
    if given["record"] and not with_synchronizer:
        raise RuntimeError("record is written by the synchronizer: give synchronizer:=true with it")
    actions: list[LaunchDescriptionEntity] = []
    # A profile that the user has set already is left alone.
    if given["dds_profile"] and "FASTRTPS_DEFAULT_PROFILES_FILE" not in os.environ:
        actions.append(SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", given["dds_profile"]))
    actions.append(_segmenter(given))
    if _builds_only(given):
        return actions
    if with_synchronizer:
        actions.append(_synchronizer(given))
    if true(given, "rviz"):
        actions.append(_rviz(given))
    return actions


def _builds_only(given: dict[str, str]) -> bool:
    return bool(given["build_only"]) and true(given, "build_only")


def _texts(given: dict[str, str], names: Sequence[str]) -> dict[str, ParameterValue]:
    """As texts, whatever they look like: a model may be called 2024_01_15."""
    texts = {name: given[name] for name in names} | {"images": given["image"]}
    return {name: ParameterValue(text, value_type=str) for name, text in texts.items() if text}


def _sim_time(given: dict[str, str]) -> dict[str, bool]:
    return {"use_sim_time": true(given, "use_sim_time")} if given["use_sim_time"] else {}


def _segmenter(given: dict[str, str]) -> Node:
    parameters = {name: true(given, name) for name in TRUTHS if given[name]}
    parameters |= {name: number(given, name, int) for name in COUNTS if given[name]}
    parameters |= {name: number(given, name) for name in NUMBERS if given[name]}
    parameters |= _texts(given, TEXTS)
    return Node(
        package="xkd_ros",
        executable="segmenter",
        name=given["name"],
        namespace=given["namespace"],
        parameters=[parameter_file(given, "params_file"), parameters],
        remappings=[("points", given["points"]), ("semantic_points", given["output"]), ("odometry", given["odometry"])],
        ros_arguments=log_level(given, given["name"]),
        output="screen",
        on_exit=_judge if _builds_only(given) else None,
    )


def _judge(event: ProcessExited, context: LaunchContext) -> None:
    # `ros2 launch` ends with 0 whatever its programs end with, but not after an error of its own.
    if event.returncode:
        raise RuntimeError("build_only: not built; the segmenter says why")


def _synchronizer(given: dict[str, str]) -> Node:
    parameters = _texts(given, ("rig", "record")) | _sim_time(given)
    return Node(
        package="xkd_ros",
        executable="synchronizer",
        name="synchronizer",
        namespace=given["namespace"],
        parameters=[parameter_file(given, "synchronizer_params_file"), parameters],
        remappings=[("points", given["points"])],
        ros_arguments=log_level(given, "synchronizer"),
        output="screen",
    )


def _rviz(given: dict[str, str]) -> Node:
    # Looked for before anything starts: launch notices only when it comes to RViz, ends, and leaves the segmenter running.
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        raise RuntimeError("rviz2 is not installed: sudo apt install ros-jazzy-rviz2, or give rviz:=false") from None
    frame = ["-f", given["fixed_frame"]] if given["fixed_frame"] else []
    return Node(
        package="rviz2",
        executable="rviz2",
        name="rviz",
        namespace=given["namespace"],
        arguments=["-d", given["rviz_config"], *frame],
        remappings=[("/semantic_points", given["output"])],
        parameters=[_sim_time(given)],
    )

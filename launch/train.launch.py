"""Learn from recordings: the trainer; to collect what it learns from, also the replayer.

ros2 launch xkd_ros train.launch.py bags:=site_a.mcap,site_b rig:=rig.yaml model_out:=models/site
ros2 launch xkd_ros train.launch.py collect:=true replay:=walk points:=/ouster/points image:=/camera/image_raw
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from xkd_ros.nodes.launch_arguments import log_level, number, parameter_file, true

SHARE = Path(get_package_share_directory("xkd_ros"))
CONFIG = SHARE / "config"

# name, default, help. The default of a parameter is empty, which leaves it to the parameter file.
ARGUMENTS = [
    ("bags", "", "recordings to learn from, comma-separated: rosbag2 folders, .mcap, .db3 or ROS 1 .bag; empty: as in params_file"),
    ("rig", "", "rig YAML with calibration that the recordings lack; empty: as in params_file"),
    ("labels", "", "real labels by stamp, for the figures; with set:=labels=given they are learnt from; empty: as in params_file"),
    ("recipe", "", "indoor (what we deploy), scalr, scalr_plus (as published); ignet, partdistill, xmodel; empty: as in params_file"),
    ("teacher", "", "image teacher to distil: folder, hub id or sim2d-indoor12; empty: as in params_file"),
    ("model_out", "", "folder of the model that comes out; empty: as in params_file"),
    ("work", "", "folder of the run, where an interrupted one goes on; empty: as in params_file"),
    ("config", "", "YAML of `xkd learn`; empty: as in params_file"),
    ("set", "", "changes to the config as key=value, comma-separated, such as distill.epochs=5; empty: as in params_file"),
    ("adapt_model", "", "model that the service ~/adapt begins with; empty: as in params_file"),
    ("adapt_out", "", "folder of the adapted model; empty: as in params_file"),
    ("autostart", "", "true trains at once, or when collecting has ended, false when ~/start is called; empty: as in params_file (true)"),
    ("collect", "", "true first records the pairs of the topics below into a bag under work/collected; empty: as in params_file (false)"),
    ("points", "", "lidar topic to collect; empty: as in params_file (that of the rig)"),
    ("image", "", "image topics to collect, comma-separated; empty: as in params_file (those of the rig)"),
    ("silence_s", "", "collecting ends when no scan has come for so many seconds, 0: by ~/start or ~/stop; empty: as in params_file"),
    ("replay", "", "recording to play for collecting; empty: the topics come from elsewhere"),
    ("rate", "1.0", "speed of replay"),
    ("namespace", "", "namespace of all nodes"),
    ("params_file", str(CONFIG / "trainer.yaml"), "parameter file of the trainer"),
    ("dds_profile", str(CONFIG / "fastdds_large_clouds.xml"), "Fast DDS profile that carries large clouds; empty: leave DDS alone"),
    ("log_level", "info", "debug | info | warn | error"),
]
# Parameters of the trainer under the same name.
TEXTS = ("bags", "rig", "labels", "recipe", "teacher", "model_out", "work", "config", "set", "adapt_model", "adapt_out", "points")


def generate_launch_description() -> LaunchDescription:
    """List the arguments; the nodes follow when their values are known."""
    declared = [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in ARGUMENTS]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    actions: list[LaunchDescriptionEntity] = []
    # A profile that the user has set already is left alone.
    if given["dds_profile"] and "FASTRTPS_DEFAULT_PROFILES_FILE" not in os.environ:
        actions.append(SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", given["dds_profile"]))
    collect = bool(given["collect"]) and true(given, "collect")
    if given["replay"] and not (collect and given["points"]):
        raise RuntimeError("replay plays a recording to collect from: give collect:=true and points:=TOPIC with it")
    if not collect and (idle := [name for name in ("points", "image", "silence_s") if given[name]]):
        raise RuntimeError(f"only for collecting: {', '.join(idle)}; give collect:=true with it")
    actions.append(_trainer(given))
    if given["replay"]:
        actions.append(_replayer(given))
    return actions


def _trainer(given: dict[str, str]) -> Node:
    parameters = {name: true(given, name) for name in ("autostart", "collect") if given[name]}
    # As texts, whatever they look like: a work folder may be called 2024.
    texts = {name: given[name] for name in TEXTS} | {"images": given["image"]}
    parameters |= {name: ParameterValue(text, value_type=str) for name, text in texts.items() if text}
    if given["silence_s"]:
        parameters["silence_s"] = number(given, "silence_s")
    return Node(
        package="xkd_ros",
        executable="trainer",
        name="trainer",
        namespace=given["namespace"],
        parameters=[parameter_file(given, "params_file"), parameters],
        ros_arguments=log_level(given, "trainer"),
        output="screen",
    )


def _replayer(given: dict[str, str]) -> Node:
    waited_for = [given["points"], *[name.strip() for name in given["image"].split(",") if name.strip()]]
    return Node(
        package="xkd_ros",
        executable="replayer",
        name="replayer",
        namespace=given["namespace"],
        parameters=[
            str(CONFIG / "replayer.yaml"),
            {
                "bag": ParameterValue(given["replay"], value_type=str),
                "rate": number(given, "rate"),
                "wait_for": ParameterValue(", ".join(f"{name}:1" for name in waited_for), value_type=str),
            },
        ],
        ros_arguments=log_level(given, "replayer"),
        output="screen",
    )

"""The parameters of the replayer, and the words its --help opens with."""

from __future__ import annotations

from xkd_ros.core.errors import ConfigError
from xkd_ros.nodes.parameters import ParameterSpec, ParameterTable, refused_by, split_names
from xkd_ros.nodes.qos import RELIABILITIES

USAGE = """\
replayer: plays a recording as ROS 2 topics; for machines without `ros2 bag play`, and for ROS 1 bags.

Publishes:   the topics of the bag under their recorded names and QoS; /clock when clock_hz is set
Skips:       topics whose message type is not installed here, with one line each

Examples:
  xkd_replayer --ros-args -p bag:=walk -p wait_for:=1
  xkd_replayer --ros-args -p bag:=site.mcap -p topics:=/points,/camera/image_raw -p rate:=0.5 -p loop:=true
  xkd_replayer --ros-args -p bag:=walk -p stamps:=original -p clock_hz:=100.0      (others with use_sim_time:=true)"""


def parse_wait_for(text: str) -> tuple[int, dict[str, int]]:
    """Read "2" or "/points:2, /camera/image_raw:1".

    Returns:
        Subscriptions wanted on every cloud topic, and those wanted by topic.
    Raises:
        ConfigError: what cannot be read.
    """
    everywhere = 0
    by_topic: dict[str, int] = {}
    for item in split_names(text):
        topic, _, number = item.rpartition(":")
        if not number.strip().isdecimal():
            raise ConfigError(f"'{item}' is not a number or topic:number; write for example \"/points:2, /image:1\"")
        if topic.strip():
            by_topic[topic.strip()] = int(number)
        else:
            everywhere = int(number)
    return everywhere, by_topic


REPLAYER = ParameterTable(
    "replayer",
    [
        ParameterSpec("bag", "", "Recording: a rosbag2 folder, .mcap, .db3 or a ROS 1 .bag.", fixed=True),
        ParameterSpec("topics", "", "Play only these, comma-separated; empty plays all.", fixed=True),
        ParameterSpec("start_s", 0.0, "Begin this many seconds into the recording.", 0, fixed=True),
        ParameterSpec("duration_s", 0.0, "Play this many seconds of it; 0 plays to the end.", 0, fixed=True),
        ParameterSpec(
            "rate",
            1.0,
            "Speed; 0 goes as fast as reliable subscribers acknowledge, one message after another.",
            0,
            1000,
            fixed=True,
        ),
        ParameterSpec("loop", False, "Begin again at the end.", fixed=True),
        ParameterSpec(
            "stamps",
            "now",
            "Header stamps: shifted to the present (at rate 1 with their distances; 0 stays 0), or as recorded.",
            choices=("now", "original"),
            fixed=True,
        ),
        ParameterSpec("clock_hz", 0.0, "Publish /clock with the recorded time this often; 0 does not.", 0, 1000, fixed=True),
        ParameterSpec("reliability", "recorded", "QoS of what is published.", choices=("recorded", *RELIABILITIES), fixed=True),
        ParameterSpec(
            "wait_for",
            "",
            'Begin when so many subscriptions are there: "1" on every cloud topic, or "/points:2, /image:1".',
            fixed=True,
            check=refused_by(parse_wait_for),
        ),
        ParameterSpec("wait_timeout_s", 60.0, "Begin all the same after this many seconds.", 0, 86400, fixed=True),
    ],
)

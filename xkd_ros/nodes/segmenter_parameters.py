"""The parameters of the segmenter, and the words its --help opens with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import numpy as np

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.msgs.labelled_cloud import LABEL_TYPES, Profile
from xkd_ros.nodes.parameters import ParameterSpec, ParameterTable, refused_by, split_names
from xkd_ros.nodes.qos import DURABILITIES, RELIABILITIES
from xkd_ros.runtime.headings import HEADINGS
from xkd_ros.teacher.model_folder import DEFAULT_TEACHER

BACKENDS = ("auto", "numba", "onnxruntime", "torch", "torch-bf16", "tensorrt", "cuda")

USAGE = """\
segmenter: names every lidar point. Lifecycle node; starts by itself unless autostart:=false.

Subscribes:  points (sensor_msgs/PointCloud2), any field layout
             odometry (nav_msgs/Odometry), only with temporal_fusion:=true
             images and their CameraInfo, only with fused:=true
Publishes:   semantic_points (the same cloud with label, probability, entropy, rgb behind each point)
             semantic_points/label_info (std_msgs/String, JSON, latched: ids, names, colours)
             ~/static_points (without what moves: for SLAM), ~/ground (the floor alone); each only while somebody listens
             /diagnostics, ~/debug/processing_time/*_ms, ~/debug/pipeline_latency_ms
Services:    ~/set_enabled (std_srvs/SetBool) and the lifecycle services

Examples:
  xkd_segmenter --ros-args -r points:=/os_cloud_node/points
  xkd_segmenter --ros-args -r points:=/velodyne_points --params-file config/segmenter.yaml -p num_threads:=2
  xkd_segmenter --ros-args -r points:=/points -r odometry:=/odom -p temporal_fusion:=true   (labels that do not flicker)
  xkd_segmenter --ros-args -r points:=/synced/points -p fused:=true -p model:=models/site -p rig:=rig.yaml -p images:=/synced/front/image
  ros2 param set /segmenter model /data/models/site       (loads beside the old model, then swaps)"""


def parse_class_remap(text: str) -> dict[str, int]:
    """Read "wall:2, floor:0" as class name (or id, as text) to output id.

    Raises:
        ConfigError: what cannot be read.
    """
    remap: dict[str, int] = {}
    for item in split_names(text):
        name, colon, number = item.rpartition(":")
        if not colon or not name.strip() or not number.strip().isdecimal():
            raise ConfigError(f"'{item}' is not class:id; write for example \"wall:2, floor:0\"")
        remap[name.strip()] = int(number)
    return remap


def parse_base_from_lidar(text: str) -> np.ndarray | None:
    """Read "x, y, z, roll, pitch, yaw" in metres and degrees as base_from_lidar (4, 4); None for an empty text.

    Raises:
        ConfigError: what cannot be read.
    """
    if not text.strip():
        return None
    try:
        numbers = np.array([float(part) for part in text.split(",")])
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise ConfigError(f"'{text}' is not six numbers; write metres and degrees, as x, y, z, roll, pitch, yaw: \"0.2, 0, 0.4, 0, 0, 90\"")
    return make_transform(rotation_from_rpy(*np.radians(numbers[3:])), numbers[:3])


def chosen_classes(values: SimpleNamespace, parameter: str, names: tuple[str, ...]) -> list[int]:
    """Read a comma-separated list of classes.

    Args:
        values: Parameters of the segmenter.
        parameter: Which of them.
        names: Classes of the model. What the default names and the model does not have is left out: nobody asked for it.
    Returns:
        Ids.
    Raises:
        ConfigError: a class that the model does not have.
    """
    text = getattr(values, parameter)
    asked = split_names(text)
    if text == SEGMENTER.specs[parameter].default:
        asked = [name for name in asked if name in names]
    for name in asked:
        if name not in names:
            raise ConfigError(f"{parameter} names '{name}', which the model does not know; its classes are {', '.join(names)}")
    return [names.index(name) for name in asked]


def _field_problem(name: str) -> str:
    return "" if name.isidentifier() else f"got {name!r}, expected a field name of letters, digits and _"


SEGMENTER = ParameterTable(
    "segmenter",
    [
        ParameterSpec("model", "indoor-24x64", "Model folder, or the name of one that is installed with the package."),
        ParameterSpec(
            "backend",
            "auto",
            "What runs the network. auto times each one that works here and keeps the fastest.",
            choices=BACKENDS,
        ),
        ParameterSpec("num_threads", 0, "CPU threads of network and preprocessing; 0 takes all.", 0, 256),
        ParameterSpec("niceness", 0, "Lower CPU priority of the labelling threads, so that SLAM goes first.", 0, 19, fixed=True),
        ParameterSpec(
            "outside",
            "nearest",
            "Points outside the field of view get the label of the nearest point inside, or 255. NaN and (0,0,0) are always 255.",
            choices=("nearest", "unknown"),
        ),
        ParameterSpec(
            "headings",
            1,
            "Label each scan in 1, 2 or 4 headings and average the answers: about 1 point of mIoU more for as many times the work;"
            " not with fused.",
            1,
            4,
            check=lambda headings: "" if headings in HEADINGS else f"got {headings}, expected 1, 2 or 4",
        ),
        ParameterSpec(
            "levelling",
            "auto",
            "How scans are turned upright before the network: auto finds from each scan what the mounting below leaves, fixed uses the"
            " mounting alone, off leaves scans as they are.",
            choices=("auto", "fixed", "off"),
        ),
        ParameterSpec(
            "levelling_period_s",
            0.25,
            "Once levelled, look again after this time; each look costs 10 to 35 ms. 0 looks at every scan, for a lidar held in a hand.",
            0,
            3600,
        ),
        ParameterSpec("roll_deg", 0.0, "Roll of the lidar on its base as mounted; needed beyond 35 degrees.", -180, 180),
        ParameterSpec("pitch_deg", 0.0, "Pitch of the lidar on its base as mounted, as roll_deg.", -180, 180),
        ParameterSpec(
            "intensity",
            "online",
            "Scale of the intensity: learnt from this sensor's stream, as in the model card, or not used.",
            choices=("online", "card", "off"),
        ),
        ParameterSpec(
            "temporal_fusion",
            False,
            "Join each scan with what earlier ones said about the same places, along the topic odometry; scans without a pose are labelled"
            " alone.",
            fixed=True,
        ),
        ParameterSpec(
            "movable_classes",
            "person",
            "Classes whose past is soon forgotten by temporal_fusion, because they do not stay in place.",
            fixed=True,
            listed=True,
        ),
        ParameterSpec(
            "base_from_lidar",
            "",
            'Where the lidar sits on the frame whose motion the odometry gives, as "x, y, z, roll, pitch, yaw" in metres and degrees; empty'
            " asks TF, and needs nothing where both are one frame.",
            fixed=True,
            check=refused_by(parse_base_from_lidar),
        ),
        ParameterSpec(
            "fused",
            False,
            "Let the fused head of the model (recipe xmodel) label where a fresh picture of a calibrated camera is there; other scans are"
            " labelled by the lidar alone. Needs torch and the image teacher.",
            fixed=True,
        ),
        ParameterSpec("fused_teacher", DEFAULT_TEACHER, "Image teacher that the fused head was trained with: folder, hub id.", fixed=True),
        ParameterSpec(
            "fused_max_dt_s",
            0.05,
            "Largest time between scan and picture; beyond it things are not where the picture shows them.",
            0,
            1,
            fixed=True,
        ),
        ParameterSpec("rig", "", "Rig YAML with the calibration of the cameras; empty: CameraInfo and TF.", fixed=True),
        ParameterSpec("images", "", "Image topics for fused; empty: those of rig.", fixed=True, listed=True),
        ParameterSpec("camera_infos", "", "CameraInfo topics, one per image; empty: camera_info beside it.", fixed=True, listed=True),
        ParameterSpec(
            "output_profile",
            "full",
            "Layout of semantic_points: full keeps every input field, autoware is x y z class_id probability entropy,"
            " intensity writes the label into that field.",
            choices=get_args(Profile),
        ),
        ParameterSpec("label_field", "label", "Name of the label field (profile full).", check=_field_problem),
        ParameterSpec("label_type", "UINT32", "Datatype of the label field (profile full).", choices=LABEL_TYPES),
        ParameterSpec(
            "class_remap",
            "",
            'Output id of each class, as "wall:2, floor:0"; classes left out become 255. Classes of one id are one: their probabilities are'
            " added before a point is named. Empty keeps the model's ids.",
            check=refused_by(parse_class_remap),
        ),
        ParameterSpec(
            "static_without",
            "person",
            "Classes whose points ~/static_points leaves out; non-returns it leaves out too.",
            listed=True,
        ),
        ParameterSpec("ground_classes", "floor", "Classes whose points make up ~/ground.", listed=True),
        ParameterSpec("filtered_min_probability", 0.0, "Points less sure than this are in neither of the two.", 0, 1),
        ParameterSpec("filtered_every", 1, "Only each n-th of their points, for a consumer that is slow.", 1, 1000),
        ParameterSpec(
            "lowest_share",
            1.0,
            "When labelling is slower than the input, only this share of the voxels is shown to the network (the rest gets the nearest"
            " label) before whole clouds are dropped. 1 never thins. 0.5 costs about 1 point of mIoU on walls, floors and ceilings, 3 on"
            " all classes, and saves a quarter of the time.",
            0.2,
            1,
        ),
        ParameterSpec("enabled", True, "Label clouds; ~/set_enabled changes it too."),
        ParameterSpec("autostart", True, "Configure and activate without a lifecycle manager.", fixed=True),
        ParameterSpec(
            "build_only",
            False,
            "Load the model, make and keep what that needs here (choice of backend, compiled loops, TensorRT engine), and end with exit"
            " code 0, or 1 and the reason: an installation step, as the user that runs the node.",
            fixed=True,
        ),
        ParameterSpec("input_reliability", "best_effort", "QoS of points.", choices=RELIABILITIES, fixed=True),
        ParameterSpec("input_depth", 1, "Queue of points; a longer one only makes labels older.", 1, 100, fixed=True),
        ParameterSpec("output_reliability", "reliable", "QoS of semantic_points.", choices=RELIABILITIES, fixed=True),
        ParameterSpec("output_durability", "volatile", "QoS of semantic_points.", choices=DURABILITIES, fixed=True),
        ParameterSpec("output_depth", 5, "Queue of semantic_points.", 1, 100, fixed=True),
        ParameterSpec("target_hz", 0.0, "/diagnostics warns when fewer clouds leave per second; 0 does not watch.", 0, 1000),
        ParameterSpec("stale_s", 2.0, "/diagnostics reports a dead input after this many seconds without a cloud.", 0.1, 3600),
    ],
)

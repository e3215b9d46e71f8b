"""The parameters of the synchronizer, and the words its --help opens with."""

from __future__ import annotations

from xkd_ros.nodes.parameters import ParameterSpec, ParameterTable
from xkd_ros.nodes.qos import RELIABILITIES

USAGE = """\
synchronizer: pairs each lidar scan with the camera images nearest in time, the way bags are paired for training.

Subscribes:  points (sensor_msgs/PointCloud2); images (Image or CompressedImage) and their CameraInfo
Publishes:   synced/points, synced/<camera>/image (synced/<camera>/image/compressed), synced/<camera>/camera_info
             synced/points_rgb  (scan coloured by the images: look at it to check the calibration)
             ~/statistics (std_msgs/String, JSON), /diagnostics
Calibration: a rig YAML, or CameraInfo and TF

Examples:
  xkd_synchronizer --ros-args -r points:=/os_cloud_node/points -p rig:=rig.yaml   (as `xkd calib` writes it)
  xkd_synchronizer --ros-args -r points:=/velodyne_points -p images:=/camera/image_raw -p record:=/data/pairs"""

POLICIES = ("nearest", "approximate", "exact")

SYNCHRONIZER = ParameterTable(
    "synchronizer",
    [
        ParameterSpec(
            "rig",
            "",
            "Rig YAML with camera topics, intrinsics and extrinsics; empty: images below, CameraInfo and TF.",
            fixed=True,
        ),
        ParameterSpec(
            "images",
            "",
            "Image topics without a rig, comma-separated; a type Image or CompressedImage is found out.",
            fixed=True,
        ),
        ParameterSpec(
            "camera_infos",
            "",
            "CameraInfo topics, one per image; empty: camera_info beside the image topic.",
            fixed=True,
        ),
        ParameterSpec(
            "camera_names",
            "",
            "Names for the output topics, one per image; empty: camera, or camera0, camera1 ...",
            fixed=True,
        ),
        ParameterSpec(
            "policy",
            "nearest",
            "nearest is the matching used for bags; approximate and exact are those of message_filters, where it is installed.",
            choices=POLICIES,
            fixed=True,
        ),
        ParameterSpec("max_dt_s", 0.05, "Largest distance in time between scan and image.", 0.0, 10.0, fixed=True),
        ParameterSpec(
            "deadline_s",
            0.5,
            "A scan whose images have not come by then goes out with what there is, or not at all; policy nearest only.",
            0.01,
            60.0,
            fixed=True,
        ),
        ParameterSpec(
            "require_all", True, "Only scans with an image of every camera; false, with policy nearest: one camera is enough.", fixed=True
        ),
        ParameterSpec("max_waiting", 20, "Scans, and images per camera, that may wait for each other.", 1, 1000, fixed=True),
        ParameterSpec(
            "stamps",
            "common",
            "Headers of what is published: the stamp of the scan on all of a pair, or each as it came.",
            choices=("common", "original"),
            fixed=True,
        ),
        ParameterSpec("record", "", "Also write the pairs, as they came, to this new bag (mcap), ready for training.", fixed=True),
        ParameterSpec("input_reliability", "best_effort", "QoS of points and images.", choices=RELIABILITIES, fixed=True),
        ParameterSpec("input_depth", 10, "Queue of points and images.", 1, 1000, fixed=True),
        ParameterSpec("output_reliability", "reliable", "QoS of synced/*.", choices=RELIABILITIES, fixed=True),
        ParameterSpec("output_depth", 5, "Queue of synced/*.", 1, 1000, fixed=True),
    ],
)

"""Where sensors sit on the robot, from TF where tf2_msgs is installed."""

from __future__ import annotations

from importlib import import_module

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from xkd_ros.core.errors import CalibrationError
from xkd_ros.msgs.transform_tree import TransformTree
from xkd_ros.nodes.callbacks import THROTTLED, guarded


class Extrinsics:
    """Listens to /tf_static and /tf, and remembers what it said."""

    def __init__(self, node: Node, instead: str = "give a rig file (parameter rig)") -> None:
        """Begin to listen.

        Args:
            node: Owns the subscriptions.
            instead: What a person can do where TF cannot be heard.
        """
        self._node = node
        self._tree = TransformTree()
        self._missing = ""
        try:
            message_type = import_module("tf2_msgs.msg").TFMessage
        except ImportError:
            self._missing = f"tf2_msgs is not installed, so TF cannot be heard; {instead}"
            return
        take = guarded(node, self._tree.add_message, "transform not used")
        latched = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(message_type, "/tf_static", take, latched)
        node.create_subscription(message_type, "/tf", take, QoSProfile(depth=100))

    def lookup(self, camera_frame: str, lidar_frame: str) -> np.ndarray | None:
        """Find (4, 4) camera_from_lidar; None, with a warning now and then, where nothing connects the frames."""
        try:
            return self.find(camera_frame, lidar_frame)
        except CalibrationError as error:
            self._node.get_logger().warning(str(error), **THROTTLED)
            return None

    def find(self, target: str, source: str) -> np.ndarray:
        """Find (4, 4) target_from_source.

        Raises:
            CalibrationError: nothing connects the frames, or TF cannot be heard.
        """
        if self._missing:
            raise CalibrationError(f"no transform from '{source}' to '{target}': {self._missing}")
        return self._tree.lookup(target, source)

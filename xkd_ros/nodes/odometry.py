"""Where the lidar was at the stamp of a scan, from the topic `odometry`. Without an answer there is a reason."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from xkd_ros.core.errors import CalibrationError
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.msgs.pose import read_pose
from xkd_ros.nodes.callbacks import THROTTLED, guarded
from xkd_ros.nodes.extrinsics import Extrinsics
from xkd_ros.pairing.pose_track import PoseTrack

_KEPT_NS = 5_000_000_000
_AROUND_NS = 1_000_000_000
_MOST_POSES = 5000


class OdometryPoses:
    """Listens to the odometry and remembers its last seconds.

    Attributes:
        problem: Why the last scan got no pose; empty when it got one.
    """

    def __init__(self, node: Node, base_from_lidar: np.ndarray | None) -> None:
        """Begin to listen.

        Args:
            node: Owns the subscription.
            base_from_lidar: (4, 4) where the lidar sits on the frame whose motion the odometry gives; None asks TF.
        """
        self._node = node
        self._topic = node.resolve_topic_name("odometry")
        self._base_from_lidar = base_from_lidar
        self._extrinsics = Extrinsics(node, "give base_from_lidar") if base_from_lidar is None else None
        self._rows: deque[tuple[int, list[float]]] = deque(maxlen=_MOST_POSES)
        self._child = ""
        self._lock = threading.Lock()
        self.problem = ""
        # Best effort hears both kinds of publishers.
        profile = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        node.create_subscription(Odometry, "odometry", guarded(node, self._on_odometry, "odometry not used"), profile)

    def pose(self, stamp: int, lidar_frame: str) -> np.ndarray | None:
        """Find world_from_lidar (4, 4) at a moment, without waiting; None, with a warning now and then, where it is not known.

        Args:
            stamp: Nanoseconds.
            lidar_frame: Of the scan.
        """
        pose, self.problem = self._find(stamp, lidar_frame.lstrip("/"))
        if self.problem:
            self._node.get_logger().warning(f"labels are not fused: {self.problem}", **THROTTLED)
        return pose

    def _find(self, stamp: int, lidar_frame: str) -> tuple[np.ndarray | None, str]:
        with self._lock:
            newest = max((at for at, _ in self._rows), default=0)  # the last that came may have been overtaken on its way
            rows, child = [row for row in self._rows if abs(row[0] - stamp) <= _AROUND_NS], self._child
        if not newest:
            return None, f"no odometry has arrived on {self._topic}: remap 'odometry' to a topic of nav_msgs/Odometry"
        if newest < stamp:
            return None, f"the newest pose on {self._topic} is {1e-9 * (stamp - newest):.3f} s older than the scan"
        if min((at for at, _ in rows), default=stamp + 1) > stamp:
            return None, f"{self._topic} begins after the scan"
        base_from_lidar = self._mounting(child, lidar_frame)
        if base_from_lidar is None:
            return None, f"nobody says where '{lidar_frame}' sits on '{child}', the moving frame of {self._topic}: give base_from_lidar"
        table = np.array([row for _, row in rows])
        track = PoseTrack(np.array([at for at, _ in rows], np.int64), table[:, :3], table[:, 3:], base_from_lidar)
        if not track.covers(stamp, stamp):
            return None, f"{self._topic} has a hole or a jump at the time of the scan"
        return track.pose(stamp), ""

    def _mounting(self, child: str, lidar_frame: str) -> np.ndarray | None:
        """Find base_from_lidar: as given, nothing for a lidar that is its own odometer, else from TF; never guessed."""
        if self._base_from_lidar is not None or self._extrinsics is None:
            return self._base_from_lidar
        if child and child == lidar_frame:
            return np.eye(4)
        try:
            return self._extrinsics.find(child, lidar_frame)
        except CalibrationError:
            return None

    def _on_odometry(self, message: Odometry) -> None:
        row, stamp = read_pose(message.pose.pose.position, message.pose.pose.orientation), stamp_ns(message)
        if row is None or not stamp:
            return
        with self._lock:
            if self._rows and stamp < self._rows[-1][0] - _KEPT_NS // 10:
                self._rows.clear()  # a bag that begins anew
            self._rows.append((stamp, row))
            self._child = str(message.child_frame_id).lstrip("/")
            while self._rows[0][0] < stamp - _KEPT_NS:
                self._rows.popleft()

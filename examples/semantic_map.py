#!/usr/bin/env python3
"""Builds a labelled voxel map from /semantic_points and odometry, and saves it as a PLY file: what a semantic SLAM would do, in small.

Start it beside the segmenter, and stop it with Ctrl-C (or let it stop itself with --scans):

    python examples/semantic_map.py map.ply --rig my_rig.yaml
    python examples/semantic_map.py map.ply --no-odometry          (a lidar that stands still)

Every voxel adds up the probabilities of the labels that fell into it; its class is the one with the largest sum. Points that are
unknown (255) or people (they move) do not enter.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from xkd_ros.bags.ply import write_ply
from xkd_ros.core import se3
from xkd_ros.core.errors import XkdError
from xkd_ros.core.rig import load_rig
from xkd_ros.core.types import UNKNOWN
from xkd_ros.msgs.cloud import points_of
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.msgs.layout import CloudLayout

MOVING = ("person",)
# Odometry further away in time than this says nothing about a scan.
LARGEST_GAP_NS = 100_000_000


class VoxelMap:
    """Sums of label probabilities in cubes of one size."""

    def __init__(self, voxel_m: float) -> None:
        self.voxel_m = voxel_m
        self._row: dict[bytes, int] = {}
        self._cells = np.zeros((0, 3), np.int32)
        self._evidence = np.zeros((0, 256), np.float32)

    def __len__(self) -> int:
        return len(self._row)

    def add(self, points_m: np.ndarray, labels: np.ndarray, probability: np.ndarray) -> None:
        """Add points (N, 3) of the map frame with their labels (N,) uint8 and probabilities (N,)."""
        cells = np.floor(points_m / self.voxel_m).astype(np.int32)
        unique, index = np.unique(cells, axis=0, return_inverse=True)
        rows = np.array([self._row.setdefault(cell.tobytes(), len(self._row)) for cell in unique], np.int64)
        grown = len(self._row) - len(self._cells)
        if grown > 0:
            self._cells = np.concatenate([self._cells, unique[rows >= len(self._cells)]])
            self._evidence = np.concatenate([self._evidence, np.zeros((grown, 256), np.float32)])
        np.add.at(self._evidence, (rows[index.reshape(-1)], labels), probability)

    def labels(self) -> np.ndarray:
        """Class (V,) of each voxel."""
        return self._evidence.argmax(axis=1).astype(np.uint8)

    def save(self, path: Path, palette: np.ndarray) -> None:
        """Write a binary PLY of voxel centres with colour and label."""
        labels = self.labels()
        columns = {axis: ((self._cells[:, number] + 0.5) * self.voxel_m).astype(np.float32) for number, axis in enumerate("xyz")}
        columns |= {name: palette[labels, number] for number, name in enumerate(("red", "green", "blue"))}
        write_ply(path, {**columns, "label": labels})


class SemanticMapNode(Node):
    """Listens to labels and poses; `map` grows."""

    def __init__(self, voxel_m: float, base_from_lidar: np.ndarray, use_odometry: bool, **node_arguments: Any) -> None:
        super().__init__("semantic_map", **node_arguments)
        self.map = VoxelMap(voxel_m)
        self.palette = np.full((256, 3), 64, np.uint8)
        self.scans = 0
        self.without_pose = 0
        self._moving: list[int] = []
        self._base_from_lidar = base_from_lidar
        self._poses: deque[tuple[int, np.ndarray]] | None = deque(maxlen=1000) if use_odometry else None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(String, "semantic_points/label_info", self._on_label_info, latched)
        self.create_subscription(Odometry, "odom", self._on_odometry, 100)
        self.create_subscription(PointCloud2, "semantic_points", self._on_cloud, 100)

    def _on_label_info(self, message: String) -> None:
        for entry in json.loads(message.data)["classes"]:
            self.palette[entry["id"]] = entry["colour"]
            self._moving += [entry["id"]] if entry["name"] in MOVING else []

    def _on_odometry(self, message: Odometry) -> None:
        if self._poses is not None:
            p, q = message.pose.pose.position, message.pose.pose.orientation
            pose = se3.make_transform(se3.rotation_from_quaternion((q.x, q.y, q.z, q.w)), (p.x, p.y, p.z))
            self._poses.append((stamp_ns(message), pose))

    def _map_from_base(self, stamp: int) -> np.ndarray | None:
        if self._poses is None:
            return np.eye(4)
        nearest = min(self._poses, key=lambda item: abs(item[0] - stamp), default=None)
        return None if nearest is None or abs(nearest[0] - stamp) > LARGEST_GAP_NS else nearest[1]

    def _on_cloud(self, message: PointCloud2) -> None:
        try:
            layout = CloudLayout.read(message)
            points = points_of(layout)
            label, probability = layout.find("label"), layout.find("probability")
        except XkdError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            return
        pose = self._map_from_base(stamp_ns(message))
        if label is None or probability is None or pose is None:
            self.without_pose += pose is None
            return
        labels = layout.values(label).reshape(-1).astype(np.uint8)
        chosen = np.isfinite(points).all(axis=1) & (labels != UNKNOWN) & ~np.isin(labels, self._moving)
        placed = se3.apply(pose @ self._base_from_lidar, points[chosen].astype(np.float64))
        self.map.add(placed, labels[chosen], layout.values(probability).reshape(-1)[chosen])
        self.scans += 1


def main() -> int:
    """Listen until stopped, then save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="PLY file to write")
    parser.add_argument("--rig", type=Path, help="rig YAML: mounting of the lidar on the base that odometry speaks of")
    parser.add_argument("--voxel", type=float, default=0.1, help="size of a voxel in metres (default 0.1)")
    parser.add_argument("--scans", type=int, default=0, help="stop after so many scans; 0 goes on until Ctrl-C")
    parser.add_argument("--no-odometry", action="store_true", help="the lidar stands still")
    given, ros_arguments = parser.parse_known_args()
    base_from_lidar = np.eye(4)
    if given.rig:
        lidar = load_rig(given.rig).lidar
        rotation = se3.rotation_from_rpy(*np.radians(lidar.rpy_deg or (0.0, 0.0, 0.0)))
        base_from_lidar = se3.make_transform(rotation, (0.0, 0.0, lidar.height_m or 0.0))
    rclpy.init(args=ros_arguments)
    node = SemanticMapNode(given.voxel, base_from_lidar, not given.no_odometry)
    try:
        while rclpy.ok() and not 0 < given.scans <= node.scans:
            rclpy.spin_once(node, timeout_sec=0.5)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    node.map.save(given.out, node.palette)
    missing = f", {node.without_pose} scans had no odometry" if node.without_pose else ""
    print(f"{given.out}: {len(node.map)} voxels from {node.scans} scans{missing}")
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Feeds KISS-ICP with /semantic_points twice, with all points and without those of moving classes, and says what the labels change.

Start it beside the segmenter, and stop it with Ctrl-C (or let it stop itself with --scans):

    pip install kiss-icp
    python examples/static_odometry.py                     writes trajectories/*.tum
    python examples/static_odometry.py --truth walk        prints the error of both: walk is a bag of `xkd simulate`
    python examples/static_odometry.py --bag labelled --truth walk        the same from a bag of `xkd label`, without topics

Points are deskewed by their times. Removed points become NaN, which KISS-ICP drops after deskewing, so that the sweep keeps its length.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from xkd_ros.bags.reader import Bag
from xkd_ros.core.errors import ConfigError, XkdError, require
from xkd_ros.core.files import write_atomic
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.se3 import quaternion_from_rotation
from xkd_ros.metrics.trajectory import absolute_error_m, relative_error, travelled_m
from xkd_ros.msgs.cloud import decode_layout
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.msgs.layout import CloudLayout
from xkd_ros.pairing.deskew import sweep_ns
from xkd_ros.pairing.pose_track import PoseTrack
from xkd_ros.pipeline.simulation import SimulatedTruth, load_truth

TOPIC = "/semantic_points"


class KissOdometry:
    """One KISS-ICP and the way it found: `poses` (4, 4), each of the end of a sweep."""

    def __init__(self, max_range_m: float, min_range_m: float, voxel_m: float) -> None:
        install = "pip install kiss-icp"
        config = require("kiss_icp.config", "odometry", install).KISSConfig()
        config.data.max_range, config.data.min_range, config.mapping.voxel_size = max_range_m, min_range_m, voxel_m
        config.registration.max_num_threads = 1  # the same result each time
        self._kiss = require("kiss_icp.kiss_icp", "odometry", install).KissICP(config)
        self.poses: list[np.ndarray] = []

    def add(self, points_m: np.ndarray, time_s: np.ndarray | None, removed: np.ndarray) -> None:
        """Register a scan (N, 3) without what is `removed` (N,); times (N,) in seconds, None where the cloud has none."""
        points = np.where(removed[:, None], np.nan, points_m.astype(np.float64))
        self._kiss.register_frame(points, np.zeros(0) if time_s is None else time_s.astype(np.float64))
        self.poses.append(np.array(self._kiss.last_pose))


def widen(points_m: np.ndarray, chosen: np.ndarray, nowhere: np.ndarray, margin_m: float) -> np.ndarray:
    """Add to the chosen points (N,) those within a margin of them; what is `nowhere` (N,) has no place."""
    if not margin_m or not chosen.any():
        return chosen
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(points_m[chosen]).query(points_m[~nowhere], distance_upper_bound=margin_m)
    wide = np.zeros_like(chosen)
    wide[~nowhere] = np.isfinite(distance)
    return wide


class Comparison:
    """The same labelled clouds through several odometries.

    Attributes:
        names: Class names by output id; clouds wait for them.
        stamps_ns: Of the poses.
    """

    def __init__(self, moving: list[str], margin_m: float, truth: SimulatedTruth | None, sizes_m: tuple[float, float, float]) -> None:
        self.names: dict[int, str] = {}
        self.stamps_ns: list[int] = []
        self._moving, self._margin_m, self._truth = moving, margin_m, truth
        variants = ["all points", f"without {', '.join(moving)}", *(["without what truly is"] if truth else [])]
        self.odometries = {name: KissOdometry(*sizes_m) for name in variants}
        # Points by (truly of a moving class, removed).
        self._counts = np.zeros((2, 2), np.int64)

    def name_classes(self, names: dict[int, str]) -> None:
        """Say what the ids mean.

        Raises:
            ConfigError: a moving class that the model does not know.
        """
        unknown = set(self._moving) - set(names.values())
        if unknown:
            raise ConfigError(f"the model has no class {', '.join(sorted(unknown))}; it has {', '.join(names.values())}")
        self.names = names

    def add(self, message: Any) -> None:
        """Take in a labelled cloud of rclpy or rosbags."""
        layout = CloudLayout.read(message)
        label = layout.find("label")
        if label is None or not self.names:
            return
        stamp = stamp_ns(message)
        scan = decode_layout(layout, stamp)
        nowhere = ~np.isfinite(scan.points_m).all(axis=1) | ~scan.points_m.any(axis=1)
        moving = np.isin(layout.values(label).reshape(-1), self._ids(self.names)) & ~nowhere
        removed = widen(scan.points_m, moving, nowhere, self._margin_m)
        masks = [nowhere, nowhere | removed]
        if self._truth is not None:
            truly = np.isin(self._truth.labels(stamp), self._ids(dict(enumerate(self._truth.facts["class_names"]))))
            masks.append(nowhere | truly)
            np.add.at(self._counts, (truly[~nowhere].astype(int), removed[~nowhere].astype(int)), 1)
        for odometry, mask in zip(self.odometries.values(), masks, strict=True):
            odometry.add(scan.points_m, scan.time_s, mask)
        self.stamps_ns.append(stamp if scan.time_s is None else sweep_ns(scan.time_s, stamp)[1])

    def _ids(self, names: dict[int, str]) -> list[int]:
        return [number for number, name in names.items() if name in self._moving]

    def report(self) -> str:
        """Compare with the truth: a line on the points, a table of errors."""
        assert self._truth is not None
        stamps = np.array(self._truth.stamps_ns)
        poses = np.stack([self._truth.pose(stamp) for stamp in self._truth.stamps_ns])
        quaternions = np.stack([quaternion_from_rotation(pose[:3, :3]) for pose in poses])
        moments = np.array(self.stamps_ns, np.int64)
        known = moments <= stamps[-1]
        true = PoseTrack(stamps, poses[:, :3, 3], quaternions).at(moments[known])
        metres, seconds = travelled_m(true), (moments[known] - moments[0]) * 1e-9
        (others_kept, others_lost), (moving_kept, moving_lost) = self._counts
        moving, others = max(1, moving_kept + moving_lost), max(1, others_kept + others_lost)
        lines = [
            f"{len(true)} scans, {metres[-1]:.1f} m in {seconds[-1]:.1f} s; {', '.join(self._moving)}:"
            f" {moving / (moving + others):.1%} of the points, of which {moving_lost / moving:.1%} are removed,"
            f" and {others_lost / others:.1%} of the others",
            f"{'':24}{'ATE RMSE':>10}{'per metre':>22}{'per second':>22}",
        ]
        for name, odometry in self.odometries.items():
            found = np.stack(odometry.poses)[known]
            errors = relative_error(found, true, metres, 1.0), relative_error(found, true, seconds, 1.0)
            drifts = "".join(f"{error.translation_m:>12.3f} m{error.rotation_deg:>6.2f} °" for error in errors)
            lines.append(f"{name:24}{absolute_error_m(found, true):>8.3f} m{drifts}")
        return "\n".join(lines)

    def save(self, folder: Path) -> list[Path]:
        """Write each trajectory in TUM format: stamp in seconds, x y z, quaternion x y z w."""
        paths = []
        for name, odometry in self.odometries.items():
            rows = [
                f"{stamp // 10**9}.{stamp % 10**9:09d} "
                + " ".join(f"{number:.9g}" for number in (*pose[:3, 3], *quaternion_from_rotation(pose[:3, :3])))
                for stamp, pose in zip(self.stamps_ns, odometry.poses, strict=True)
            ]
            paths.append(folder / f"{name.replace(', ', '_').replace(' ', '_')}.tum")
            write_atomic(paths[-1], "\n".join([*rows, ""]))
        return paths


class StaticOdometryNode(Node):
    """Listens to labelled clouds and to what their ids mean."""

    def __init__(self, comparison: Comparison, **node_arguments: Any) -> None:
        super().__init__("static_odometry", **node_arguments)
        self.comparison = comparison
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(String, "semantic_points/label_info", self._on_label_info, latched)
        self.create_subscription(PointCloud2, "semantic_points", self._on_cloud, 100)

    def _on_label_info(self, message: String) -> None:
        self.comparison.name_classes({entry["id"]: entry["name"] for entry in json.loads(message.data)["classes"]})

    def _on_cloud(self, message: PointCloud2) -> None:
        try:
            self.comparison.add(message)
        except XkdError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)


def listen(comparison: Comparison, scans: int, ros_arguments: list[str]) -> None:
    """Take in clouds until stopped, or until there were so many."""
    rclpy.init(args=ros_arguments)
    node = StaticOdometryNode(comparison)
    try:
        while rclpy.ok() and not 0 < scans <= len(comparison.stamps_ns):
            rclpy.spin_once(node, timeout_sec=0.5)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    node.destroy_node()
    rclpy.try_shutdown()


def main() -> int:
    """Listen until stopped, then compare or save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moving", default="person", help="classes whose points are removed, comma-separated (default person)")
    parser.add_argument("--margin", type=float, default=0.0, help="also remove what lies this near to them, metres (default 0)")
    parser.add_argument("--max-range", type=float, default=50.0, help="of KISS-ICP, metres (default 50)")
    parser.add_argument("--min-range", type=float, default=0.5, help="of KISS-ICP, metres: keeps the robot itself out (default 0.5)")
    parser.add_argument("--voxel", type=float, default=0.5, help="voxel of KISS-ICP, metres (default 0.5)")
    parser.add_argument("--truth", type=Path, help="simulated recording that is played: print errors")
    parser.add_argument("--bag", type=Path, help="read this recording with /semantic_points instead of listening")
    parser.add_argument("--out", type=Path, help="folder for TUM files (default without --truth: trajectories)")
    parser.add_argument("--scans", type=int, default=0, help="stop after so many scans; 0 goes on until Ctrl-C")
    given, ros_arguments = parser.parse_known_args()
    try:
        truth = load_truth(given.truth) if given.truth else None
        moving = [name.strip() for name in given.moving.split(",")]
        comparison = Comparison(moving, given.margin, truth, (given.max_range, given.min_range, given.voxel))
        if given.bag:
            comparison.name_classes(dict(enumerate(INDOOR12.names)))
            with Bag(given.bag) as bag:
                for number, (_, _, message) in enumerate(bag.messages([TOPIC]), 1):
                    comparison.add(message)
                    if number == given.scans:
                        break
        else:
            listen(comparison, given.scans, ros_arguments)
        if len(comparison.stamps_ns) < 3:
            raise XkdError(f"{len(comparison.stamps_ns)} labelled clouds with a field 'label' were heard; start the segmenter, then this")
        if truth:
            print(comparison.report())
        if given.out or not truth:
            print("\n".join(str(path) for path in comparison.save(given.out or Path("trajectories"))))
    except XkdError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

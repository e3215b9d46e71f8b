"""Labelled clouds of fewer points, for who wants no more: `~/static_points` without what moves, `~/ground` of the floor alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2

from xkd_ros.core.types import UNKNOWN, Segmentation
from xkd_ros.msgs.filtered_cloud import select_points

_TYPES = {"sensor_msgs/msg/PointCloud2": PointCloud2}


@dataclass(frozen=True, eq=False)
class PointFilter:
    """Which points go out.

    Attributes:
        classes: (256,) bool by class id of the model; unknown points, which are the non-returns, never go.
        min_probability: Points that are less sure stay behind.
        every: Of the others, each n-th goes.
    """

    classes: np.ndarray
    min_probability: float
    every: int

    def choose(self, segmentation: Segmentation) -> np.ndarray:
        """Return (N,) bool."""
        chosen = self.classes[segmentation.labels]
        if self.min_probability > 0:
            chosen &= segmentation.probability >= self.min_probability
        if self.every > 1:
            left_out = np.ones(np.count_nonzero(chosen), bool)
            left_out[:: self.every] = False
            chosen[np.flatnonzero(chosen)[left_out]] = False
        return chosen


def make_filters(moving: list[int], ground: list[int], min_probability: float, every: int) -> dict[str, PointFilter]:
    """Build the filter of each topic.

    Args:
        moving: Classes that `~/static_points` leaves out.
        ground: Classes of `~/ground`.
        min_probability, every: As in `PointFilter`.
    """
    static, floor = np.ones(256, bool), np.zeros(256, bool)
    static[[*moving, UNKNOWN]] = False
    floor[ground] = True
    return {"~/static_points": PointFilter(static, min_probability, every), "~/ground": PointFilter(floor, min_probability, every)}


class FilteredOutputs:
    """Publishers that work only for who listens."""

    def __init__(self, node: LifecycleNode, qos: QoSProfile) -> None:
        self._node = node
        self._publishers = {topic: node.create_lifecycle_publisher(PointCloud2, topic, qos) for topic in ("~/static_points", "~/ground")}

    @property
    def subscribers(self) -> int:
        """Who listens to any of them."""
        return sum(publisher.get_subscription_count() for publisher in self._publishers.values())

    @property
    def topics(self) -> tuple[str, ...]:
        """Resolved names."""
        return tuple(publisher.topic_name for publisher in self._publishers.values())

    def publish(self, labelled: PointCloud2, segmentation: Segmentation, filters: dict[str, PointFilter]) -> None:
        """Publish the points that each filter chooses of a labelled cloud."""
        for topic, publisher in self._publishers.items():
            if publisher.get_subscription_count():
                publisher.publish(select_points(labelled, filters[topic].choose(segmentation), _TYPES))

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

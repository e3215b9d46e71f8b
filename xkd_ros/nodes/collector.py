"""Collects the pairs of live topics into a bag, by a synchronizer of its own in the process of the node that wants them."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

from rclpy.node import Node
from rclpy.parameter import Parameter

from xkd_ros.core.rig import load_rig
from xkd_ros.nodes.camera_input import list_sources
from xkd_ros.nodes.synchronizer import SynchronizerNode

_PREFIX = "pairs_"


def collected_bags(folder: Path) -> list[Path]:
    """List what was collected before, oldest first; a recording that was cut off has no name yet and is not among them."""
    return sorted(folder.glob(f"{_PREFIX}*"))


class Collector:
    """One recording. The bag appears when it is finished."""

    def __init__(self, node: Node, values: SimpleNamespace, folder: Path) -> None:
        """Begin to record.

        Args:
            node: Gives namespace, remappings and context.
            values: points, images, camera_infos, rig, input_reliability.
            folder: Gets the bag, as pairs_001, pairs_002 ...
        Raises:
            ConfigError: no camera is named, or the rig file is wrong.
            BagError: the bag cannot be written.
        """
        rig = load_rig(values.rig) if values.rig else None
        self.points_topic = node.resolve_topic_name(values.points or (rig.lidar.topic if rig is not None else "points"))
        cameras = list_sources(rig, values.images, values.camera_infos, "")
        remaps = {"__node": f"{node.get_name()}_synchronizer", "points": self.points_topic}
        # Recorded under the names that the rig file knows, wherever they come from.
        remaps |= {topic: node.resolve_topic_name(topic) for camera in cameras for topic in (camera.image_topic, camera.info_topic)}
        numbers = [path.name.removeprefix(_PREFIX) for path in collected_bags(folder)]
        last = max((int(number) for number in numbers if number.isdigit()), default=0)
        self.path = folder / f"{_PREFIX}{last + 1:03d}"
        names = ("images", "camera_infos", "rig", "input_reliability")
        given = {**{name: getattr(values, name) for name in names}, "record": str(self.path)}
        # The node's own parameters came as arguments of the process too; they are not the synchronizer's.
        self.synchronizer = SynchronizerNode(
            context=node.context,
            namespace=node.get_namespace(),
            use_global_arguments=False,
            cli_args=["--ros-args", *(word for name, topic in remaps.items() for word in ("-r", f"{name}:={topic}"))],
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        self._scans, self._heard_s = 0, time.monotonic()

    @property
    def pairs(self) -> int:
        """Pairs recorded so far."""
        return self.synchronizer.statistics.pairs

    @property
    def problem(self) -> str:
        """Why nothing is recorded any more; empty while all is well."""
        return self.synchronizer.recording_problem

    def silent_s(self) -> float:
        """Return the time since a scan was seen to have come; call it often."""
        scans = self.synchronizer.statistics.scans
        if scans != self._scans:
            self._scans, self._heard_s = scans, time.monotonic()
        return time.monotonic() - self._heard_s

    def describe(self) -> str:
        """Say in one line how it goes."""
        count = f"{self.pairs} pairs from {self.points_topic}"
        return count if self.pairs else f"{count}: {self.synchronizer.statistics.explain()}"

    def finish(self) -> None:
        """Close the bag and leave the graph; a recording without pairs is not kept.

        Raises:
            BagError: no room or no permission.
        """
        executor = self.synchronizer.executor
        if executor is not None:
            executor.remove_node(self.synchronizer)
        try:
            self.synchronizer.close()
        finally:
            self.synchronizer.destroy_node()

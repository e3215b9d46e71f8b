"""Per-stage times as topics, for plots: `~/debug/processing_time/<stage>_ms` and `~/debug/pipeline_latency_ms`."""

from __future__ import annotations

from rclpy.node import Node
from std_msgs.msg import Float32

STAGES = ("decode", "preprocess", "inference", "postprocess", "publish", "total")


class DebugTopics:
    """Publishers that work only for who listens."""

    def __init__(self, node: Node) -> None:
        self._node = node
        names = {stage: f"~/debug/processing_time/{stage}_ms" for stage in STAGES}
        self._publishers = {stage: node.create_publisher(Float32, topic, 10) for stage, topic in names.items()}
        self._latency = node.create_publisher(Float32, "~/debug/pipeline_latency_ms", 10)

    def publish(self, stage_ms: dict[str, float], latency_ms: float) -> None:
        """Publish the times of one frame.

        Args:
            stage_ms: Milliseconds of each of STAGES.
            latency_ms: From the header stamp to the moment of publishing.
        """
        for stage, publisher in self._publishers.items():
            if stage in stage_ms and publisher.get_subscription_count():
                publisher.publish(Float32(data=float(stage_ms[stage])))
        if self._latency.get_subscription_count():
            self._latency.publish(Float32(data=float(latency_ms)))

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in (*self._publishers.values(), self._latency):
            self._node.destroy_publisher(publisher)

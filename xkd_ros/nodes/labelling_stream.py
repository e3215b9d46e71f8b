"""The stream of clouds through a segmenter node: subscription, keep-latest worker, output topics, counters."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import PointCloud2

from xkd_ros.core.errors import CloudError
from xkd_ros.core.types import UNKNOWN
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.nodes.callbacks import THROTTLED, guarded
from xkd_ros.nodes.debug_topics import DebugTopics
from xkd_ros.nodes.filtered_outputs import FilteredOutputs
from xkd_ros.nodes.frame_statistics import FrameStatistics, SequenceGaps
from xkd_ros.nodes.label_info import LabelInfoTopics
from xkd_ros.nodes.qos import deaf_to, make_profile, publisher_events, subscription_events, unheard_by
from xkd_ros.nodes.thinning import Thinning
from xkd_ros.nodes.verdict import SegmenterState
from xkd_ros.nodes.worker import KeepLatestWorker

if TYPE_CHECKING:
    from xkd_ros.nodes.labeller import Labeller, PoseAt
    from xkd_ros.pipeline.fused_labels import ViewsAt


@dataclass(frozen=True)
class _Frame:
    cloud: PointCloud2
    arrived_s: float


class LabellingStream:
    """Lives from configure to cleanup; works between `start` and `stop`."""

    def __init__(
        self, node: LifecycleNode, values: SimpleNamespace, pose_at: PoseAt | None = None, views_at: ViewsAt | None = None
    ) -> None:
        """Create the output topics.

        Args:
            node: Owns the topics.
            values: Parameters of the segmenter.
            pose_at: Where the lidar was, for temporal fusion.
            views_at: What cameras saw, for the fused head.
        """
        self._node = node
        self._pose_at, self._views_at = pose_at, views_at
        self._qos_in = make_profile(values.input_reliability, values.input_depth)
        self._qos_out = make_profile(values.output_reliability, values.output_depth, values.output_durability)
        events = publisher_events(node, "semantic_points")
        self._output = node.create_lifecycle_publisher(PointCloud2, "semantic_points", self._qos_out, event_callbacks=events)
        self._filtered = FilteredOutputs(node, self._qos_out)
        self._debug = DebugTopics(node)
        self._label_info = LabelInfoTopics(node, self._output.topic_name)
        # One for all activations: two clouds at once in one labeller, the old one still in work, would spoil each other.
        self._worker: KeepLatestWorker[_Frame] = KeepLatestWorker(self._label, values.niceness, "labelling")
        self._subscription: Any = None
        self._gaps = SequenceGaps()
        self._thinning = Thinning()
        self.statistics = FrameStatistics()
        self.labeller: Labeller | None = None
        self.configure(values)

    def configure(self, values: SimpleNamespace) -> None:
        """Take the parameters that are of the stream, not of the labeller, and may change at any time."""
        self.enabled, self.lowest_share = bool(values.enabled), float(values.lowest_share)

    def use(self, labeller: Labeller) -> None:
        """Label with this model from the next cloud on, and say what its ids mean."""
        self.labeller = labeller
        self._label_info.publish(labeller.describe_labels())

    @property
    def input_topic(self) -> str:
        """Resolved name of the cloud topic."""
        return self._node.resolve_topic_name("points")

    @property
    def output_topic(self) -> str:
        """Resolved name of the labelled cloud."""
        return self._output.topic_name

    @property
    def subscribers(self) -> int:
        """Who wants labels."""
        return self._output.get_subscription_count() + self._filtered.subscribers

    @property
    def pending(self) -> int:
        """Clouds that wait or are in work."""
        return self._worker.pending

    def complete(self, state: SegmenterState) -> SegmenterState:
        """Add what the stream and its labeller know to what the node knows."""
        labeller = self.labeller
        unheard = [
            sentence for topic in (self.output_topic, *self._filtered.topics) for sentence in unheard_by(self._node, topic, self._qos_out)
        ]
        return replace(
            state,
            subscribers=self.subscribers,
            deaf_to="; ".join(deaf_to(self._node, self.input_topic, "sensor_msgs/msg/PointCloud2", self._qos_in)),
            unheard_by="; ".join(unheard),
            in_work_s=self._worker.in_work_s,
            usual_entropy=labeller.usual_entropy if labeller is not None else None,
            complaints=(*(labeller.complaints() if labeller is not None else ()), *state.complaints),
            facts={**(labeller.facts() if labeller is not None else {}), "clouds in work": str(self.pending)},
        )

    def start(self) -> None:
        """Listen and label."""
        self._gaps = SequenceGaps()
        self._subscription = self._node.create_subscription(
            PointCloud2,
            "points",
            guarded(self._node, self._on_cloud, "cloud not used"),
            self._qos_in,
            event_callbacks=subscription_events(self._node, self.input_topic),
        )

    def stop(self, timeout_s: float = 1.0) -> bool:
        """Stop listening; what is in work is still published, or skipped and False returned when it does not come to an end in time."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        before = self._worker.forgotten
        ended = self._worker.settle(timeout_s)
        self.statistics.count("skipped", self._worker.forgotten - before)
        return ended

    def close(self) -> bool:
        """Stop, and end the thread; returns False when it is still inside a library."""
        self.stop()
        return self._worker.stop(0.0)  # also one that is still busy: it would wait for the next cloud for ever, and keep the model

    def destroy(self) -> None:
        """Close, and remove the topics."""
        self.close()
        self._node.destroy_lifecycle_publisher(self._output)
        self._filtered.destroy()
        self._debug.destroy()
        self._label_info.destroy()

    def _on_cloud(self, cloud: PointCloud2, info: dict[str, Any]) -> None:
        publishers = self._node.count_publishers(self.input_topic)
        self.statistics.count("lost_in_transport", self._gaps.missed_before(info["publication_sequence_number"], publishers))
        self.statistics.arrive(cloud.height * cloud.width, len(cloud.data))
        if not self.enabled or not self.subscribers:
            self.statistics.count("skipped")
        elif self._worker.offer(_Frame(cloud, time.monotonic())):
            self.statistics.count("replaced")

    def _label(self, frame: _Frame) -> None:
        """Carry one cloud through; runs in the worker thread."""
        labeller = self.labeller
        if labeller is None:
            self.statistics.count("skipped")
            return
        started = time.monotonic()
        try:
            labelled, segmentation, stage_ms = labeller.label(frame.cloud, self._pose_at, self._views_at)
            before = time.monotonic()
            if not self._output.is_activated:  # deactivated while this cloud was in work
                self.statistics.count("skipped")
                return
            self._output.publish(labelled)
            self._filtered.publish(labelled, segmentation, labeller.layout.filters)
            done = time.monotonic()
        except CloudError as error:
            self.statistics.fail("rejected", str(error))
            self._node.get_logger().warning(f"cloud rejected: {error}", **THROTTLED)
            return
        except Exception as error:
            if not self._node.context.ok():  # SIGINT came while this cloud was in work: no topic is left to publish on
                self.statistics.count("skipped")
                return
            sentence = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self.statistics.fail("failed", sentence)
            self._node.get_logger().error(f"cloud not labelled: {sentence}", **THROTTLED)
            return
        stage_ms = {**stage_ms, "publish": 1e3 * (done - before), "total": 1e3 * (done - started)}
        latency_ms = 1e-6 * (self._node.get_clock().now().nanoseconds - stamp_ns(frame.cloud))
        known = segmentation.labels != UNKNOWN
        entropy = float(segmentation.entropy[known].mean()) if known.any() else float("nan")
        self.statistics.leave(1e3 * (done - frame.arrived_s), latency_ms, stage_ms, entropy)
        self._debug.publish(stage_ms, latency_ms)
        labeller.share = self._thinning.update(time.monotonic() - started, self.statistics.period_s(), self.lowest_share)

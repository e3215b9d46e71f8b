"""The synchronizer node: a lidar and its cameras in, pairs out; matched as bags are, so that live and recorded agree."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2

from xkd_ros.core.errors import BagError, ConfigError, require
from xkd_ros.core.rig import load_rig
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.nodes.callbacks import THROTTLED, every, guarded
from xkd_ros.nodes.camera_input import list_sources
from xkd_ros.nodes.camera_stream import CameraStream
from xkd_ros.nodes.colouring import colour_scan, make_coloured_cloud
from xkd_ros.nodes.extrinsics import Extrinsics
from xkd_ros.nodes.filter_matcher import FilterMatcher
from xkd_ros.nodes.pair_recorder import PairRecorder
from xkd_ros.nodes.pair_report import PairReport
from xkd_ros.nodes.qos import deaf_to, make_profile, subscription_events, unheard_by
from xkd_ros.nodes.restamp import header_stamp_ns
from xkd_ros.nodes.running import run_node
from xkd_ros.nodes.synchronizer_parameters import SYNCHRONIZER, USAGE
from xkd_ros.pairing.nearest import NearestPairer
from xkd_ros.pairing.statistics import PairingStatistics

_NS = 1_000_000_000
_INSTALL_FILTERS = "sudo apt install ros-jazzy-message-filters, or use policy:=nearest"


class SynchronizerNode(Node):
    """Images and scans stay serialized on their way through; only the checking cloud decodes them.

    Attributes:
        recording_problem: Why the recording ended before its time; empty while all is well.
    """

    def __init__(self, **node_arguments: Any) -> None:
        """Create the topics.

        Args:
            node_arguments: For rclpy's Node.
        Raises:
            ConfigError: a wrong parameter or rig file, or no camera.
            MissingPackageError: a policy of message_filters where that is not installed.
            BagError: `record` cannot be written.
        """
        super().__init__(SYNCHRONIZER.node_name, **node_arguments)
        SYNCHRONIZER.declare(self)
        values = self._values = SYNCHRONIZER.values(self)
        rig = load_rig(values.rig) if values.rig else None
        self._filters: Any = None
        if values.policy != "nearest":
            self._refuse_what_filters_lack()
            self._filters = require("message_filters", f"policy '{values.policy}'", _INSTALL_FILTERS)
        self.recording_problem = ""
        self._qos_in = make_profile(values.input_reliability, values.input_depth)
        qos_out = self._qos_out = make_profile(values.output_reliability, values.output_depth)
        sources = list_sources(rig, values.images, values.camera_infos, values.camera_names)
        self._pairer = NearestPairer(
            round(values.max_dt_s * _NS),
            len(sources),
            values.require_all,
            values.max_waiting,
            round(values.deadline_s * _NS),
        )
        self._cameras = [
            CameraStream(self, source, self._qos_in, qos_out, self._image_callback(number)) for number, source in enumerate(sources)
        ]
        self._extrinsics = Extrinsics(self) if rig is None else None
        self._points_output = self.create_publisher(PointCloud2, "synced/points", qos_out)
        self._coloured_output = self.create_publisher(PointCloud2, "synced/points_rgb", qos_out)
        self._points_topic = self.resolve_topic_name("points")
        find = self._cam_from_lidar
        self._recorder = PairRecorder(values.record, self._points_topic, self._cameras, find) if values.record else None
        self._colour = guarded(self, self._publish_coloured, "scan not coloured")
        self._report = PairReport(self)
        self._matcher: FilterMatcher | None = None
        if self._filters is None:
            self.create_subscription(
                PointCloud2,
                "points",
                guarded(self, self._on_scan, "scan not used"),
                self._qos_in,
                raw=True,
                event_callbacks=subscription_events(self, self._points_topic),
            )
        every(self, 0.05, self._on_tick, "pairing")
        every(self, 1.0, self._publish_report, "statistics")

    def _refuse_what_filters_lack(self) -> None:
        for name in ("require_all", "deadline_s"):
            if getattr(self._values, name) != SYNCHRONIZER.specs[name].default:
                raise ConfigError(f"policy '{self._values.policy}' knows no {name}: leave it out, or use policy:=nearest")

    def close(self) -> bool:
        """Finish the recording; one without pairs is not kept."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None and recorder.close():
            self._say_at_the_end(f"recorded {recorder.pairs} pairs to {recorder.path}")
        elif recorder is not None:
            self._say_at_the_end(f"no pair came, so {recorder.path} is not written")
        return True

    def _say_at_the_end(self, sentence: str) -> None:
        # After a signal there is no /rosout to log to any more.
        if self.context.ok():
            self.get_logger().info(sentence)
        else:
            sys.stderr.write(f"{sentence}\n")

    @property
    def statistics(self) -> PairingStatistics:
        """Counts since the start."""
        return self._pairer.statistics

    # Inputs

    def _on_scan(self, raw: bytes) -> None:
        stamp = header_stamp_ns(PointCloud2, raw)
        if stamp is not None:
            self._emit_all(self._pairer.push_scan(stamp, raw, time.monotonic_ns()))

    def _image_callback(self, number: int) -> Any:
        def on_image(raw: bytes) -> None:
            stamp = header_stamp_ns(self._cameras[number].image_type, raw)
            if stamp is None:
                return
            if self._filters is None:
                self._emit_all(self._pairer.push_image(stamp, raw, number))
            else:
                self.statistics.images[number] += 1

        return on_image

    def _on_tick(self) -> None:
        if self._filters is None:
            self._emit_all(self._pairer.expire(time.monotonic_ns()))
        elif self._matcher is None and all(camera.listening for camera in self._cameras):
            kinds = [(PointCloud2, "points"), *((camera.image_type, camera.source.image_topic) for camera in self._cameras)]
            inputs = [self._filters.Subscriber(self, kind, topic, qos_profile=self._qos_in) for kind, topic in kinds]
            on_pair = guarded(self, self._on_match, "pair not used")
            limits = (self._values.max_waiting, self._values.max_dt_s if self._values.policy == "approximate" else None)
            self._matcher = FilterMatcher(self._filters, inputs, *limits, self.statistics, on_pair)

    def _on_match(self, scan: Any, *images: Any) -> None:
        self._emit(serialize_message(scan), [serialize_message(image) for image in images])

    # Outputs

    def _emit_all(self, pairs: list[Any]) -> None:
        for pair in pairs:
            self._emit(pair.scan, list(pair.images))

    def _emit(self, scan: bytes, images: Sequence[bytes | None]) -> None:
        stamp = header_stamp_ns(PointCloud2, scan) or 0
        common = stamp if self._values.stamps == "common" else None
        if self._recorder is not None:
            self._record(self._recorder, scan, images, stamp)
        # Pictures first: who labels the scan with them finds them there.
        for camera, image in zip(self._cameras, images):
            if image is not None:
                camera.publish(image, common)
        if self._points_output.get_subscription_count():
            self._points_output.publish(scan)
        if self._coloured_output.get_subscription_count():
            self._colour(scan, images)

    def _record(self, recorder: PairRecorder, scan: bytes, images: Sequence[bytes | None], stamp: int) -> None:
        """Write a pair as it came; a recording that fails ends with an error and keeps what it can, the node goes on."""
        try:
            recorder.record(scan, images, stamp)
        except BagError as error:
            self._recorder, reason = None, str(error)
            try:
                reason += f"; {recorder.pairs} pairs are kept" if recorder.close() else ""
            except BagError as end:  # which says that nothing is kept
                reason = str(end)
            self.recording_problem = f"recording ended: {reason}"
            self.get_logger().error(self.recording_problem)

    def _publish_coloured(self, raw: bytes, images: Sequence[bytes | None]) -> None:
        scan = decode_cloud(deserialize_message(raw, PointCloud2))
        views = []
        for camera, image_bytes in zip(self._cameras, images):
            if image_bytes is None:
                continue
            image = camera.decode(image_bytes)
            intrinsics, transform = camera.camera(image), self._cam_from_lidar(camera, camera.frame(image_bytes), scan.frame_id)
            if intrinsics is None:
                sentence = f"no CameraInfo on {camera.source.info_topic} yet; {camera.source.name} cannot colour the scan"
                self.get_logger().warning(sentence, **THROTTLED)
            elif transform is not None:
                views.append((image, intrinsics, camera.turned_as_pictures(transform)))
        if views:
            self._coloured_output.publish(make_coloured_cloud(scan, colour_scan(scan, views)))

    def _cam_from_lidar(self, camera: CameraStream, camera_frame: str, lidar_frame: str) -> np.ndarray | None:
        if self._extrinsics is None:
            return camera.cam_from_lidar()
        return self._extrinsics.lookup(camera_frame, lidar_frame)

    # Reports

    def _publish_report(self) -> None:
        waiting = [camera.source.image_topic for camera in self._cameras if not camera.listening]
        notes = [self.recording_problem] if self.recording_problem else []
        notes += self._recorder.lacks() if self._recorder is not None else []
        notes += deaf_to(self, self._points_topic, "sensor_msgs/msg/PointCloud2", self._qos_in)
        notes += [sentence for camera in self._cameras for sentence in camera.deaf_to()]
        notes += [f"nobody publishes images on {', '.join(waiting)}"] if waiting else []
        outputs = [output.topic_name for output in self.publishers if output.qos_profile is self._qos_out]
        notes += [sentence for topic in outputs for sentence in unheard_by(self, topic, self._qos_out)]
        self._report.publish(self._pairer.statistics, notes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; entry point of `xkd_synchronizer` and `ros2 run xkd_ros synchronizer`."""
    return run_node(SynchronizerNode, SYNCHRONIZER, USAGE, arguments)


if __name__ == "__main__":
    raise SystemExit(main())

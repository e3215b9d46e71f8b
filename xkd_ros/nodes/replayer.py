"""The replayer node: a recording in, its topics out, at the pace they were recorded."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock

from xkd_ros.bags.reader import Bag, Record
from xkd_ros.bags.ros2_form import ros2_bytes, ros2_type
from xkd_ros.bags.topics import POINT_CLOUD, RecordedQos, TopicInfo
from xkd_ros.core.errors import BagError, ConfigError, XkdError
from xkd_ros.nodes.parameters import split_names
from xkd_ros.nodes.replayer_parameters import REPLAYER, USAGE, parse_wait_for
from xkd_ros.nodes.restamp import shift_stamp
from xkd_ros.nodes.running import run_node

_NS = 1_000_000_000
# A reader that was just discovered may not know this writer yet; best effort does not repeat what it misses meanwhile.
_SETTLE_S = 0.3
# No message is on its way for so long: a header this far from the time of its recording is of another clock, such as a lidar's.
_OTHER_CLOCK_NS = 600 * _NS
_LATEST_NS = 2**31 * _NS  # what a header can hold
_ACKNOWLEDGE_S = 5.0
_MOST_LATCHED = 100


class ReplayerNode(Node):
    """Plays in a thread of its own; `finished` is set at the end."""

    def __init__(self, **node_arguments: Any) -> None:
        """Open the bag and offer its topics.

        Args:
            node_arguments: For rclpy's Node.
        Raises:
            ConfigError: a wrong parameter, or no bag.
            BagError: the bag cannot be opened, has none of the topics, or ends before `start_s`.
        """
        super().__init__(REPLAYER.node_name, **node_arguments)
        REPLAYER.declare(self)
        self._values: SimpleNamespace = REPLAYER.values(self)
        if not self._values.bag:
            raise ConfigError("no bag given; pass --ros-args -p bag:=PATH")
        self.finished = threading.Event()
        self.failed = ""
        self.played: Counter[str] = Counter()
        self._stop = threading.Event()
        self._bag = Bag(self._values.bag).__enter__()
        if self._values.start_s > self._bag.duration_s:
            raise BagError(f"start_s is {self._values.start_s:g}, but {self._bag.path} is only {self._bag.duration_s:.3f} s long")
        self._outputs: dict[str, Publisher] = {}
        for info in self._chosen():
            self._offer(info)
        if not self._outputs:
            raise BagError(f"{self._bag.path}: no topic can be played; it has {', '.join(self._bag.topics) or 'none'}")
        self._clock_output = self.create_publisher(Clock, "/clock", 10) if self._values.clock_hz else None
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Stop playing; returns False when the thread does not end."""
        self._stop.set()
        self._thread.join(1.0)
        ended = not self._thread.is_alive()
        if ended:
            self._bag.__exit__(None, None, None)
        return ended

    def _chosen(self) -> list[TopicInfo]:
        names = split_names(self._values.topics) or list(self._bag.topics)
        for name in names:
            if name not in self._bag.topics:
                raise BagError(f"{self._bag.path} has no topic {name}; it has {', '.join(self._bag.topics) or 'none'}")
        return [self._bag.topics[name] for name in names]

    def _offer(self, info: TopicInfo) -> None:
        kind = ros2_type(info.type) if self._bag.is_ros1 else info.type
        package, _, name = kind.replace("/msg/", "/").rpartition("/")
        try:
            message_type = getattr(import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError):
            self.get_logger().warning(f"{info.name} is skipped: its type {kind} is not installed here (package {package})")
            return
        self._outputs[info.name] = self.create_publisher(message_type, info.name, self._profile(info))

    def _profile(self, info: TopicInfo) -> QoSProfile:
        recorded, wanted = info.qos or RecordedQos(), self._values.reliability
        # Several nodes may have latched one message each, such as their part of /tf_static: here one publisher keeps them all.
        latched = min(info.count, _MOST_LATCHED) if recorded.durability == "transient_local" else 0
        return QoSProfile(
            history=HistoryPolicy[recorded.history.upper()],
            depth=max(recorded.depth, latched),
            reliability=ReliabilityPolicy[(recorded.reliability if wanted == "recorded" else wanted).upper()],
            durability=DurabilityPolicy[recorded.durability.upper()],
        )

    # The playing thread

    def _run(self) -> None:
        try:
            self._wait_for_subscribers()
            lap = 0
            while not self._stop.is_set():
                before = self.played.total()
                self._play(lap)
                lap += 1
                if not self._values.loop:
                    break
                if self.played.total() == before and not self._stop.is_set():
                    topics = ", ".join(self._outputs)
                    raise BagError(f"{self._bag.path}: no message of {topics} in the part to loop; change start_s, duration_s or topics")
            self._wait_for_acknowledgement()
        except XkdError as error:
            self.failed = str(error)
            self.get_logger().error(str(error))
        except Exception as error:
            # A context that was shut down makes every call fail; that is the end of the run, not an error.
            if self.context.ok():
                self.failed = f"{type(error).__name__}: {error}"
                self.get_logger().error(f"playing ended: {self.failed}")
        finally:
            self.finished.set()

    def _play(self, lap: int) -> None:
        values, bag = self._values, self._bag
        start_ns = bag.start_ns + round(values.start_s * _NS)
        stop_ns = start_ns + round(values.duration_s * _NS) if values.duration_s else None
        if values.start_s:
            self._play_latched(start_ns)
        pace = _Pace(start_ns, values.rate)
        for record in bag.records(list(self._outputs), start_ns, stop_ns):
            if not self._wait(pace, record.stamp_ns):
                return
            self._publish(record, pace)
        counts = ", ".join(f"{topic} {count}" for topic, count in sorted(self.played.items()))
        took_s = time.monotonic() - pace.begun_s
        self.get_logger().info(f"played {sum(self.played.values())} messages ({counts}), lap {lap + 1} in {took_s:.1f} s")

    def _play_latched(self, start_ns: int) -> None:
        """Send what a late listener would have got: latched messages from before the start."""
        latched = [name for name, info in self._bag.topics.items() if info.qos and info.qos.durability == "transient_local"]
        latched = [name for name in latched if name in self._outputs]
        for record in self._bag.records(latched, None, start_ns) if latched else ():
            self._publish(record, _Pace(start_ns, self._values.rate))

    def _publish(self, record: Record, pace: _Pace) -> None:
        output = self._outputs[record.topic]
        raw = ros2_bytes(record)
        if self._values.stamps == "now":
            raw = shift_stamp(output.msg_type, raw, lambda stamp_ns: pace.restamp(stamp_ns, record.stamp_ns))
        output.publish(raw)
        self.played[record.topic] += 1
        if self._values.rate == 0:
            output.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_S))

    def _wait(self, pace: _Pace, stamp_ns: int) -> bool:
        """Sleep until a message is due, sending /clock meanwhile; False when told to stop."""
        while not self._stop.is_set() and self.context.ok():
            remaining_s = pace.due_in_s(stamp_ns)
            if self._clock_output is not None and pace.clock_due(self._values.clock_hz):
                now_ns = min(pace.bag_time_ns(), stamp_ns) if self._values.rate else stamp_ns
                stamp = now_ns if self._values.stamps == "original" else pace.present_ns(now_ns)
                clock = Clock()
                clock.clock.sec, clock.clock.nanosec = divmod(stamp, _NS)
                self._clock_output.publish(serialize_message(clock))
            if remaining_s <= 0:
                return True
            tick_s = 1 / self._values.clock_hz if self._clock_output is not None else 0.5
            self._stop.wait(min(remaining_s, tick_s))
        return False

    def _wait_for_subscribers(self) -> None:
        everywhere, by_topic = parse_wait_for(self._values.wait_for)
        clouds = [name for name in self._outputs if self._bag.topics[name].type == POINT_CLOUD]
        wanted = {**{name: everywhere for name in clouds if everywhere}, **by_topic}
        for name in wanted:
            if name not in self._outputs:
                raise ConfigError(f"wait_for names {name}, which is not played; played are {', '.join(self._outputs)}")
        deadline = time.monotonic() + self._values.wait_timeout_s
        while wanted and not self._stop.is_set():
            missing = {name: count for name, count in wanted.items() if self._outputs[name].get_subscription_count() < count}
            if not missing:
                break
            if time.monotonic() > deadline:
                self.get_logger().warning(f"beginning without the subscribers that wait_for asks for: {missing}")
                break
            self._stop.wait(0.02)
        self._stop.wait(_SETTLE_S)

    def _wait_for_acknowledgement(self) -> None:
        for output in self._outputs.values():
            if not self._stop.is_set() and output.get_subscription_count():
                output.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGE_S))
        self._stop.wait(_SETTLE_S)


class _Pace:
    """Maps recorded time to the present, from the moment it is made."""

    def __init__(self, start_ns: int, rate: float) -> None:
        self._start_ns = start_ns
        self._rate = rate
        self.begun_s = time.monotonic()
        self._begun_ns = time.time_ns()
        self._clock_sent_s = 0.0

    def due_in_s(self, stamp_ns: int) -> float:
        """Seconds until a message recorded at `stamp_ns` is due."""
        if self._rate == 0:
            return 0.0
        return self.begun_s + 1e-9 * (stamp_ns - self._start_ns) / self._rate - time.monotonic()

    def present_ns(self, stamp_ns: int) -> int:
        """Move a recorded stamp to the present; distances between streams shrink with the rate."""
        if self._rate == 0:
            return time.time_ns()
        return self._begun_ns + round((stamp_ns - self._start_ns) / self._rate)

    def restamp(self, header_ns: int, recorded_ns: int) -> int:
        """Move the stamp of a header to the present.

        Args:
            header_ns: As recorded. One of another clock, which no rate applies to, moves as far as its message does; 0 is no time.
            recorded_ns: When its message was recorded.
        """
        if not header_ns:
            return 0
        if abs(header_ns - recorded_ns) <= _OTHER_CLOCK_NS:
            return self.present_ns(header_ns)
        moved_ns = header_ns + self.present_ns(recorded_ns) - recorded_ns
        return moved_ns if 0 <= moved_ns < _LATEST_NS else header_ns

    def bag_time_ns(self) -> int:
        """Recorded time that is played now."""
        return self._start_ns + round((time.monotonic() - self.begun_s) * self._rate * _NS)

    def clock_due(self, clock_hz: float) -> bool:
        """Tell whether /clock is due, and count it as sent."""
        now = time.monotonic()
        if now - self._clock_sent_s < 1 / clock_hz:
            return False
        self._clock_sent_s = now
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Play until the end; entry point of `xkd_replayer` and `ros2 run xkd_ros replayer`."""
    return run_node(ReplayerNode, REPLAYER, USAGE, arguments)


if __name__ == "__main__":
    raise SystemExit(main())

"""Which scans and pictures of a recording become frames, found from stamps alone: no message is decoded.

A recording comes in, the places of its pairs go out; next: `frame_source` reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from xkd_ros.bags.folder import Recording
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.reader import Record
from xkd_ros.core.errors import BagError
from xkd_ros.pairing.nearest import NearestPairer
from xkd_ros.pairing.statistics import PairingStatistics

_LOG = logging.getLogger(__name__)
_NS = 1_000_000_000


@dataclass(frozen=True)
class Place:
    """A message by the time it was recorded and the stamp of its header (the former where the header has none)."""

    topic: str
    recorded_ns: int
    stamp_ns: int
    size: int

    @classmethod
    def of(cls, record: Record) -> Place:
        """Find the place of a message."""
        return cls(record.topic, record.stamp_ns, header_stamp_ns(record) or record.stamp_ns, len(record.raw))


@dataclass(frozen=True)
class PlannedFrame:
    """A scan and its pictures, as (camera index, place)."""

    scan: Place
    pictures: tuple[tuple[int, Place], ...]

    @property
    def stamp_ns(self) -> int:
        """Stamp of the scan."""
        return self.scan.stamp_ns


@dataclass(eq=False)
class FramePlan:
    """The frames of one lidar of a recording.

    Attributes:
        frames: In order.
        scans, pairs: Scans in the recording, and those with at least one picture within the limit.
        spans: Topic to first and last stamp.
        statistics: Of the pairing.
        notes: What a person should know, one line each.
    """

    frames: list[PlannedFrame]
    scans: int
    pairs: int
    spans: dict[str, tuple[int, int]]
    statistics: PairingStatistics
    notes: list[str] = field(default_factory=list)


def header_stamp_ns(record: Record) -> int:
    """Read the stamp of a message that begins with a header from its bytes; 0 where it is cut off.

    Source: CDR (a 4-byte encapsulation whose second byte tells the byte order, then seconds and nanoseconds); ROS 1 (sequence
    number, seconds, nanoseconds, little-endian).
    """
    raw = bytes(record.raw[:12])
    if len(raw) < 12:
        return 0
    order = "little" if record.bag.is_ros1 or raw[1] & 1 else "big"
    signed = not record.bag.is_ros1
    return int.from_bytes(raw[4:8], order, signed=signed) * _NS + int.from_bytes(raw[8:12], order)  # type: ignore[arg-type]


def plan_frames(recording: Recording, points_topic: str, image_topics: Sequence[str], config: FrameConfig) -> FramePlan:
    """Pair the scans and pictures of a recording.

    A recording that is damaged somewhere gives the frames before that place, and a note.

    Args:
        recording: Open.
        points_topic: Its lidar.
        image_topics: Its calibrated cameras, in order.
        config: Limit of |dt|, every how many pairs, whether scans without picture count.
    Raises:
        BagError: damaged before the first scan.
    """
    pairer = NearestPairer(round(config.max_dt_ms * 1e6), max(1, len(image_topics)))
    cameras = {topic: index for index, topic in enumerate(image_topics)}
    spans: dict[str, tuple[int, int]] = {}
    scans: list[Place] = []
    pairs, notes = [], []
    try:
        for record in recording.records([points_topic, *image_topics]):
            place = Place.of(record)
            first, last = spans.get(place.topic, (place.stamp_ns, place.stamp_ns))
            spans[place.topic] = min(first, place.stamp_ns), max(last, place.stamp_ns)
            if place.topic == points_topic:
                scans.append(place)
                pairs += pairer.push_scan(place.stamp_ns, place)
            else:
                pairs += pairer.push_image(place.stamp_ns, place, cameras[place.topic])
    except BagError as error:
        if not scans:
            raise
        notes.append(f"{error}; what comes before is used")
        _LOG.warning("%s", notes[-1])
    pairs += pairer.flush()
    frames = [
        PlannedFrame(pair.scan, tuple((index, place) for index, place in enumerate(pair.images) if place is not None)) for pair in pairs
    ]
    if config.keep_unpaired:
        paired = {frame.scan: frame for frame in frames}
        frames = [paired.get(scan, PlannedFrame(scan, ())) for scan in scans]
    return FramePlan(frames[:: config.every], len(scans), len(pairs), spans, pairer.statistics, notes)

"""Pairs of scan and image messages of a recording, by the pairer that the live synchronizer uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xkd_ros.bags.folder import Recording
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.pairing.nearest import NearestPairer, Pair


def match_recording(
    recording: Recording,
    pairer: NearestPairer,
    points_topic: str,
    image_topics: Sequence[str],
    stop_ns: int | None = None,
) -> Iterator[Pair]:
    """Yield pairs whose payloads are the messages; counts are in `pairer.statistics` afterwards.

    Args:
        recording: Open bag or folder.
        pairer: Fresh, for as many cameras as image topics.
        points_topic: PointCloud2 topic.
        image_topics: Image or CompressedImage topics, in camera order.
        stop_ns: Look only at what was recorded before this time.
    Raises:
        BagError: a topic that is not there, or a damaged place.
    """
    cameras = {topic: index for index, topic in enumerate(image_topics)}
    for topic, recorded_ns, message in recording.messages([points_topic, *image_topics], stop_ns=stop_ns):
        # A driver without a clock leaves the stamp 0; the time of recording is then the best there is.
        stamp = stamp_ns(message) or recorded_ns
        if topic == points_topic:
            yield from pairer.push_scan(stamp, message)
        else:
            yield from pairer.push_image(stamp, message, cameras[topic])
    yield from pairer.flush()

"""Pairs of scan and image messages of a recording, by the pairer that the live synchronizer uses."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from xkd_ros.bags.folder import Recording
from xkd_ros.core.errors import CloudError
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.pairing.nearest import NearestPairer, Pair

_LOG = logging.getLogger(__name__)


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
        points_topic: Lidar topic.
        image_topics: Image or CompressedImage topics, in camera order.
        stop_ns: Look only at what was recorded before this time.
    Raises:
        BagError: a topic that is not there, or a damaged place.
    """
    cameras = {topic: index for index, topic in enumerate(image_topics)}
    for record in recording.records([points_topic, *image_topics], stop_ns=stop_ns):
        try:
            message = record.message()
        except CloudError as error:
            _LOG.warning("left out a scan of %s at %d ns: %s", record.topic, record.stamp_ns, error)
            continue
        # A driver without a clock leaves the stamp 0; the time of recording is then the best there is.
        stamp = stamp_ns(message) or record.stamp_ns
        if record.topic == points_topic:
            yield from pairer.push_scan(stamp, message)
        else:
            yield from pairer.push_image(stamp, message, cameras[record.topic])
    yield from pairer.flush()

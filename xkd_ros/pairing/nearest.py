"""Pair each scan with the image nearest in time: one implementation for live topics and for bags.

Stamps with any payload come in, `Pair` objects go out as soon as no nearer image can still arrive; next: `teacher` or `nodes`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Any

from xkd_ros.core.errors import ConfigError
from xkd_ros.pairing.statistics import PairingStatistics

# A looping bag or a restarted clock jumps back by seconds; less is a message out of order.
RESET_JUMP_NS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class Pair:
    """A scan and, per camera, its nearest image within the limit (None where there is none).

    Attributes:
        scan, images: The payloads that were pushed.
        stamp_ns: Stamp of the scan.
        dt_ns: Image stamp minus scan stamp, per camera.
    """

    scan: Any
    images: tuple[Any | None, ...]
    stamp_ns: int
    dt_ns: tuple[int | None, ...]


@dataclass(eq=False)
class _Waiting:
    stamp_ns: int
    payload: Any
    arrived_ns: int | None


class _ImageQueue:
    """Images of one camera in stamp order, from the oldest that a coming scan may still want."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self.payloads: list[Any] = []
        self.fates: list[str] = []
        self.last_ns: int | None = None

    def push(self, stamp: int, payload: Any) -> None:
        self.stamps.append(stamp)
        self.payloads.append(payload)
        self.fates.append("not the nearest of any scan")
        self.last_ns = stamp

    def nearest(self, stamp: int) -> int | None:
        """Index of the nearest image; of two equally near ones the earlier, of equal stamps the first that came."""
        after = bisect_left(self.stamps, stamp)
        if after == 0:
            return 0 if self.stamps else None
        before = bisect_left(self.stamps, self.stamps[after - 1])
        if after == len(self.stamps) or stamp - self.stamps[before] <= self.stamps[after] - stamp:
            return before
        return after

    def is_final(self, stamp: int) -> bool:
        """Tell whether no image that still comes can be nearer: they only come later from here on."""
        return bool(self.stamps) and self.stamps[-1] >= stamp

    def drop_before(self, stamp: int) -> list[str]:
        """Forget what no scan from `stamp` on can want, and return the fates of what was dropped."""
        after = bisect_right(self.stamps, stamp)
        return self.drop_first(bisect_left(self.stamps, self.stamps[after - 1]) if after else 0)

    def drop_first(self, count: int) -> list[str]:
        dropped = self.fates[:count]
        del self.stamps[:count], self.payloads[:count], self.fates[:count]
        return dropped


class NearestPairer:
    """Matches one lidar with one or more cameras.

    Within each stream messages come in stamp order; between streams they may come in any order, and as long as neither
    `expire` nor a full buffer interferes the pairs do not depend on it: a live run gives the pairs that the bag gives.
    """

    def __init__(
        self,
        max_dt_ns: int,
        cameras: int = 1,
        require_all: bool = False,
        max_waiting: int | None = None,
        deadline_ns: int | None = None,
    ) -> None:
        """Set up the match.

        Args:
            max_dt_ns: Largest allowed |image stamp - scan stamp|.
            cameras: Number of image streams.
            require_all: Emit only scans that have an image from every camera; otherwise one is enough.
            max_waiting: Most scans, and most images per camera, kept waiting for the other side; None keeps all (bags).
            deadline_ns: How long after its arrival a scan may wait; used by `expire`.
        Raises:
            ConfigError: a limit that is not positive.
        """
        if max_dt_ns < 0 or cameras < 1 or (max_waiting is not None and max_waiting < 1):
            raise ConfigError(f"pairing needs max_dt_ns >= 0, cameras >= 1, max_waiting >= 1; got {max_dt_ns}, {cameras}, {max_waiting}")
        self.max_dt_ns = max_dt_ns
        self.require_all = require_all
        self.max_waiting = max_waiting
        self.deadline_ns = deadline_ns
        self.statistics = PairingStatistics(images=[0] * cameras)
        self._scans: deque[_Waiting] = deque()
        self._last_scan_ns: int | None = None
        self._queues = [_ImageQueue() for _ in range(cameras)]

    def push_scan(self, stamp_ns: int, payload: Any, now_ns: int | None = None) -> list[Pair]:
        """Take in a scan.

        Args:
            stamp_ns: Its header stamp.
            payload: Whatever belongs to it; comes back in the pair.
            now_ns: Arrival time on the clock that `expire` uses; not needed without `expire`.
        Returns:
            The pairs that became final.
        """
        self.statistics.scans += 1
        if not self._in_order(stamp_ns, self._last_scan_ns):
            self.statistics.unmatched_scans["out of order"] += 1
            return []
        self._last_scan_ns = stamp_ns
        self._scans.append(_Waiting(stamp_ns, payload, now_ns))
        pairs = self._emit_final()
        while self.max_waiting is not None and len(self._scans) > self.max_waiting:
            pairs += self._emit("buffer full")
        return pairs

    def push_image(self, stamp_ns: int, payload: Any, camera: int = 0) -> list[Pair]:
        """Take in an image of one camera; arguments and result as for `push_scan`."""
        self.statistics.images[camera] += 1
        queue = self._queues[camera]
        if not self._in_order(stamp_ns, queue.last_ns):
            self.statistics.unmatched_images["out of order"] += 1
            return []
        queue.push(stamp_ns, payload)
        pairs = self._emit_final()
        while self.max_waiting is not None and len(queue.stamps) > self.max_waiting:
            # With `require_all` a scan that lacks another camera would come to nothing now, later it may find one of the next images.
            if not self.require_all and any(self._wants_first(scan.stamp_ns, queue) for scan in self._scans):
                pairs += self._emit("buffer full")
            else:
                self._count_images(queue.drop_first(1), instead="buffer full")
        return pairs

    def expire(self, now_ns: int) -> list[Pair]:
        """Decide scans that have waited longer than the deadline with the images that are there (live topics)."""
        pairs = []
        while self._scans and self.deadline_ns is not None:
            arrived = self._scans[0].arrived_ns
            if arrived is None or now_ns - arrived < self.deadline_ns:
                break
            pairs += self._emit("no image before the deadline")
        return pairs

    def flush(self) -> list[Pair]:
        """Decide everything that waits: the streams have ended (bags)."""
        pairs = []
        while self._scans:
            pairs += self._emit("no image")
        for queue in self._queues:
            self._count_images(queue.drop_first(len(queue.stamps)))
        return pairs

    def _in_order(self, stamp: int, last: int | None) -> bool:
        """Tell whether a message may be used; where its clock jumped back, forget what was before."""
        if last is None or stamp >= last:
            return True
        if last - stamp < RESET_JUMP_NS:
            return False
        self._reset(stamp + RESET_JUMP_NS)
        return True

    def _reset(self, horizon: int) -> None:
        """Empty every stream that is still beyond `horizon`.

        Streams jump one after the other: one that has jumped already keeps what it brought from the new side.
        """
        self.statistics.resets += 1
        if self._last_scan_ns is not None and self._last_scan_ns >= horizon:
            self._last_scan_ns = None
            if self._scans:
                self.statistics.unmatched_scans["clock jumped back"] += len(self._scans)
                self._scans.clear()
        for queue in self._queues:
            if queue.last_ns is not None and queue.last_ns >= horizon:
                queue.last_ns = None
                self._count_images(queue.drop_first(len(queue.stamps)), instead="clock jumped back")

    def _emit_final(self) -> list[Pair]:
        pairs = []
        while self._scans and all(queue.is_final(self._scans[0].stamp_ns) for queue in self._queues):
            pairs += self._emit("no image")
        if not self._scans and self._last_scan_ns is not None:
            self._forget(self._last_scan_ns)
        return pairs

    def _emit(self, reason_without_images: str) -> list[Pair]:
        """Decide the oldest scan with the images that are there."""
        scan = self._scans.popleft()
        indices: list[int | None] = []
        reason = reason_without_images
        for queue in self._queues:
            index = queue.nearest(scan.stamp_ns)
            if index is not None:
                offset = queue.stamps[index] - scan.stamp_ns
                self.statistics.nearest_ns.append(offset)
                if abs(offset) > self.max_dt_ns:
                    index = None
                    reason = "too far" if reason == "no image" else reason
            indices.append(index)
        matched = [index is not None for index in indices]
        pairs = []
        if all(matched) if self.require_all else any(matched):
            pairs.append(self._pair(scan, indices))
        else:
            self.statistics.unmatched_scans["not all cameras" if any(matched) else reason] += 1
        self._forget(scan.stamp_ns)
        return pairs

    def _wants_first(self, stamp: int, queue: _ImageQueue) -> bool:
        """Tell whether a scan would pair with the oldest image of a camera."""
        return queue.nearest(stamp) == 0 and abs(queue.stamps[0] - stamp) <= self.max_dt_ns

    def _pair(self, scan: _Waiting, indices: list[int | None]) -> Pair:
        images: list[Any | None] = []
        offsets: list[int | None] = []
        for queue, index in zip(self._queues, indices):
            images.append(None if index is None else queue.payloads[index])
            offsets.append(None if index is None else queue.stamps[index] - scan.stamp_ns)
            if index is not None:
                queue.fates[index] = "used"
        self.statistics.pairs += 1
        self.statistics.offsets_ns.extend(offset for offset in offsets if offset is not None)
        return Pair(scan.payload, tuple(images), scan.stamp_ns, tuple(offsets))

    def _forget(self, stamp: int) -> None:
        """Drop the images that no scan from `stamp` on can want."""
        for queue in self._queues:
            self._count_images(queue.drop_before(stamp))

    def _count_images(self, fates: list[str], instead: str | None = None) -> None:
        for fate in fates:
            if fate != "used":
                self.statistics.unmatched_images[instead or fate] += 1

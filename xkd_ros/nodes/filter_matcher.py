"""The matching of message_filters, with what it lacks: counts, and an end to what waits when a clock jumps back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from xkd_ros.msgs.header import stamp_ns
from xkd_ros.pairing.nearest import RESET_JUMP_NS
from xkd_ros.pairing.statistics import PairingStatistics


class FilterMatcher:
    """One scan and one image per camera with equal, or nearly equal, stamps."""

    def __init__(
        self,
        filters: Any,
        inputs: Sequence[Any],
        max_waiting: int,
        max_dt_s: float | None,
        statistics: PairingStatistics,
        on_pair: Callable[..., None],
    ) -> None:
        """Connect the inputs.

        Args:
            filters: The module message_filters.
            inputs: Its subscribers, which hand over message objects: the scans', then one per camera.
            max_waiting: Messages of each input that may wait for the others.
            max_dt_s: Largest distance between the stamps of a match, exclusive; None asks for equal stamps.
            statistics: Counts scans, pairs and resets here.
            on_pair: Gets the messages of each match, the scan first; raises nothing, for message_filters would keep its lock.
        """
        self._statistics, self._on_pair = statistics, on_pair
        self._last_ns: list[int | None] = [None] * len(inputs)
        # Before the matcher's own callbacks: what is too old must be gone when it takes in a message.
        for number, each in enumerate(inputs):
            each.registerCallback(partial(self._watch, number))
        if max_dt_s is None:
            self._matcher = filters.TimeSynchronizer(inputs, max_waiting)
        else:
            self._matcher = filters.ApproximateTimeSynchronizer(inputs, max_waiting, max_dt_s)
        self._matcher.registerCallback(self._on_match)

    @property
    def waiting(self) -> list[int]:
        """Messages of each input that wait."""
        return [len(queue) for queue in self._matcher.queues]

    def _watch(self, number: int, message: Any) -> None:
        stamp, last = stamp_ns(message), self._last_ns[number]
        if last is not None and last - stamp >= RESET_JUMP_NS:
            self._reset(stamp + RESET_JUMP_NS)
        self._last_ns[number] = stamp
        if number == 0:
            self._statistics.scans += 1
            self._statistics.nearest_ns.extend(newest - stamp for newest in self._last_ns[1:] if newest is not None)

    def _reset(self, horizon_ns: int) -> None:
        """Empty every input of what is beyond the horizon: a full queue loses its oldest stamps, which are the new ones after a jump.

        Streams jump one after the other: one that has jumped already keeps what it brought from the new side.
        """
        self._statistics.resets += 1
        self._last_ns = [None if last is None or last >= horizon_ns else last for last in self._last_ns]
        with self._matcher.lock:
            for queue in self._matcher.queues:
                for stamp in [stamp for stamp in queue if stamp >= horizon_ns]:
                    del queue[stamp]

    def _on_match(self, *messages: Any) -> None:
        self._statistics.pairs += 1
        self._statistics.offsets_ns.extend(stamp_ns(image) - stamp_ns(messages[0]) for image in messages[1:])
        self._on_pair(*messages)

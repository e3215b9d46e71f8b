"""A worker thread that always takes the newest item: latency stays bounded when the work is slower than the input."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
_MOST_MODEST = 19
_LOGGER = logging.getLogger(__name__)


class KeepLatestWorker(Generic[ItemT]):
    """One slot, one thread. An item that still waits when a newer one comes is replaced and counted.

    An item waits at most for the one in work, so that the time from `offer` to done stays under two processing times.
    """

    def __init__(self, process: Callable[[ItemT], None], niceness: int = 0, name: str = "worker") -> None:
        """Start the thread.

        Args:
            process: Called with one item at a time; what it raises is logged and the thread goes on.
            niceness: Added to the priority value of this thread (Linux): 0 changes nothing, 19 is the most modest.
            name: Shown in debuggers.
        """
        self._process = process
        self._niceness = niceness
        self._ready = threading.Condition()
        self._item: ItemT | None = None
        self._busy_since: float | None = None
        self._stopping = False
        self.replaced = 0
        self.forgotten = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: ItemT) -> bool:
        """Hand in an item, at once; returns True when it replaced one that had waited."""
        with self._ready:
            replaced = self._item is not None
            self.replaced += replaced
            self._item = item
            self._ready.notify_all()
        return replaced

    @property
    def pending(self) -> int:
        """Items that wait or are in work: 0, 1 or 2."""
        with self._ready:
            return (self._item is not None) + (self._busy_since is not None)

    @property
    def in_work_s(self) -> float:
        """Seconds since the item in work was begun; 0 without one."""
        with self._ready:
            return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    def settle(self, timeout_s: float = 1.0) -> bool:
        """Finish the item in work, forget (and count) the one that waits; False when it is still busy. The thread stays."""
        with self._ready:
            self.forgotten += self._item is not None
            self._item = None
            return self._ready.wait_for(lambda: self._busy_since is None, timeout_s)

    def stop(self, timeout_s: float = 1.0) -> bool:
        """Settle, and end the thread; False when it is still busy."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        if not self.settle(timeout_s):
            return False
        self._thread.join()
        return True

    def _run(self) -> None:
        set_niceness(self._niceness)
        while True:
            with self._ready:
                while self._item is None and not self._stopping:
                    self._ready.wait()
                if self._stopping:
                    return
                item, self._item, self._busy_since = self._item, None, time.monotonic()
            try:
                self._process(item)  # type: ignore[arg-type]
            except Exception:
                _LOGGER.exception("the worker goes on after an unexpected error")
            finally:
                del item
                with self._ready:
                    self._busy_since = None
                    self._ready.notify_all()


def set_niceness(niceness: int) -> None:
    """Lower the priority of the calling thread below the main thread's, and of the threads it starts from now on (Linux)."""
    if niceness:
        try:
            # Linux counts threads as processes here; the main thread has the number of the process.
            base = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(_MOST_MODEST, base + niceness))
        except (OSError, AttributeError) as error:
            _LOGGER.warning("niceness %d is not possible here (%s); going on without", niceness, error)

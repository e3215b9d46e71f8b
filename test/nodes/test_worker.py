"""The keep-latest worker and the counters around it, without a graph: order and counts under every interleaving we can force."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from xkd_ros.nodes.frame_statistics import FrameStatistics, SequenceGaps
from xkd_ros.nodes.worker import KeepLatestWorker

WAIT_S = 10.0


class Gate:
    """Work that goes on only when the test lets it."""

    def __init__(self):
        self.done = []
        self.begun = threading.Semaphore(0)
        self.free = threading.Semaphore(0)

    def __call__(self, item):
        self.begun.release()
        assert self.free.acquire(timeout=WAIT_S)
        self.done.append(item)


@pytest.fixture
def busy():
    """A worker with one item in work, which its gate holds, and another that waits."""
    gate = Gate()
    worker = KeepLatestWorker(gate)
    worker.offer(0)
    assert gate.begun.acquire(timeout=WAIT_S)
    worker.offer(1)
    return gate, worker


def test_newest_wins_and_each_replacement_is_counted():
    gate = Gate()
    worker = KeepLatestWorker(gate)
    assert not worker.offer(0)
    assert gate.begun.acquire(timeout=WAIT_S)
    assert [worker.offer(number) for number in range(1, 6)] == [False, True, True, True, True]
    assert worker.pending == 2 and worker.replaced == 4
    gate.free.release()
    assert gate.begun.acquire(timeout=WAIT_S)
    assert worker.pending == 1
    gate.free.release()
    assert worker.stop(WAIT_S)
    assert gate.done == [0, 5] and worker.pending == 0 and worker.forgotten == 0


def test_stop_finishes_the_work_and_counts_what_waited(busy):
    gate, worker = busy
    assert not worker.stop(0.01)
    gate.free.release()
    assert worker.stop(WAIT_S)
    assert gate.done == [0] and worker.forgotten == 1 and worker.replaced == 0


def test_settled_the_same_thread_goes_on(busy):
    gate, worker = busy
    assert not worker.settle(0.01) and worker.forgotten == 1
    gate.free.release()
    assert worker.settle(WAIT_S) and worker.pending == 0 and gate.done == [0]
    worker.offer(2)
    gate.free.release()
    assert gate.begun.acquire(timeout=WAIT_S) and worker.settle(WAIT_S)
    assert gate.done == [0, 2] and worker.forgotten == 1 and worker.stop(WAIT_S)


def test_an_error_does_not_end_the_worker(caplog):
    seen = []

    def fail_first(item):
        seen.append(item)
        if item == 0:
            raise ValueError("broken")

    worker = KeepLatestWorker(fail_first)
    worker.offer(0)
    while worker.pending:
        threading.Event().wait(0.001)
    worker.offer(1)
    while worker.pending:
        threading.Event().wait(0.001)
    assert worker.stop(WAIT_S) and seen == [0, 1]
    assert "goes on" in caplog.text


def test_nothing_is_lost_between_many_offers():
    seen = []
    worker = KeepLatestWorker(seen.append)
    for number in range(20_000):
        worker.offer(number)
    while worker.pending:
        threading.Event().wait(0.001)
    assert worker.stop(WAIT_S)
    assert len(seen) + worker.replaced == 20_000
    assert seen == sorted(seen) and seen[-1] == 19_999


def test_gaps_in_sequence_numbers_are_losses():
    gaps = SequenceGaps()
    assert [gaps.missed_before(number, 1) for number in (5, 6, 9, 10)] == [0, 0, 2, 0]
    # A restarted publisher counts from one again; numbers of several publishers mean nothing.
    assert [gaps.missed_before(number, 1) for number in (1, 2)] == [0, 0]
    assert [gaps.missed_before(number, 2) for number in (100, 3, 101)] == [0, 0, 0]
    assert [gaps.missed_before(number, 1) for number in (None, 7, 9)] == [0, 0, 1]


def test_snapshot_sums_up():
    statistics = FrameStatistics()
    for _ in range(6):
        statistics.arrive(100)
    statistics.count("lost_in_transport", 3)
    statistics.count("replaced")
    statistics.count("skipped")
    statistics.fail("rejected", "no z")
    statistics.fail("failed", "out of memory")
    for latency in (10.0, 30.0):
        statistics.leave(latency, latency + 1, {"total": latency}, 0.5)
    now = statistics.snapshot()
    assert (now.arrived, now.published, now.replaced, now.skipped, now.rejected, now.failed) == (6, 2, 1, 1, 1, 1)
    assert now.lost_in_transport == 3 and now.reasons == {"no z": 1, "out of memory": 1}
    assert now.from_arrival_ms == pytest.approx((20, 29, 29.8)) and now.stage_ms == {"total": 20.0}
    assert now.mean_entropy == 0.5 and now.since_arrival_s < WAIT_S and now.points == 100


def test_reasons_cannot_fill_the_memory():
    statistics = FrameStatistics()
    for number in range(1000):
        statistics.fail("rejected", f"reason {number}")
    assert statistics.snapshot().rejected == 1000 and len(statistics.snapshot().reasons) == 50


_SHOW = """
import os, queue, threading
os.nice({start})
from xkd_ros.nodes.worker import KeepLatestWorker
shown = queue.Queue()
def look(_):
    child = threading.Thread(target=lambda: shown.put(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    child.start(), child.join()
    shown.put(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
for niceness in (0, 5, 19):
    worker = KeepLatestWorker(look, niceness)
    worker.offer(0)
    print(shown.get(timeout=60), shown.get(timeout=60))
    worker.stop(60)
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
@pytest.mark.parametrize("start", [0, 3])
def test_the_worker_and_the_threads_it_starts_are_nicer_than_the_process(start):
    base = min(19, os.getpriority(os.PRIO_PROCESS, 0) + start)
    said = subprocess.run([sys.executable, "-c", _SHOW.format(start=start)], capture_output=True, text=True, check=True).stdout
    wanted = [min(19, base + niceness) for niceness in (0, 5, 19)]
    assert said.split() == [str(number) for number in (*(number for one in wanted for number in (one, one)), base)]

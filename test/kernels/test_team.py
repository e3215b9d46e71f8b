"""Threads of a team wait for each other, share pieces out, and never hang."""

from __future__ import annotations

import multiprocessing
import os
import threading

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from xkd_ros.kernels import team  # noqa: E402
from xkd_ros.kernels.team import meet, run, take  # noqa: E402


@numba.njit(nogil=True)
def _chase(part, parts, gate, values, rounds):
    """In every round each part reads what the part before it wrote in the round before."""
    for step in range(rounds):
        before = values[step, (part + parts - 1) % parts]
        values[step + 1, part] = before + 1
        meet(gate, parts)


@numba.njit(nogil=True)
def _share(part, parts, gate, counters, done):
    for step in range(len(counters)):
        i = take(counters, step)
        while i < done.shape[1]:
            done[step, i] += 1
            i = take(counters, step)
        meet(gate, parts)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_nobody_goes_on_before_all_are_there(threads: int) -> None:
    values = np.zeros((3001, threads), np.int64)
    run(_chase, threads, values, 3000)
    np.testing.assert_array_equal(values, np.arange(3001)[:, None].repeat(threads, 1))


@pytest.mark.parametrize("threads", [1, 3])
def test_every_piece_is_done_once(threads: int) -> None:
    done = np.zeros((20, 997), np.int64)
    run(_share, threads, np.zeros(20, np.int64), done)
    assert (done == 1).all()


def test_a_part_that_fails_is_reported_and_nobody_waits_for_it() -> None:
    def kernel(part: int, parts: int, gate: np.ndarray) -> None:
        if part == 1:
            raise MemoryError("part 1")
        meet(gate, parts)

    for _ in range(3):
        with pytest.raises(MemoryError, match="part 1"):
            run(kernel, 3)
    test_every_piece_is_done_once(3)


def test_a_helper_that_cannot_start_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = team._helpers.of(2)
    submit, calls = pool.submit, []

    def second_fails(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("can't start new thread")
        return submit(*arguments)

    monkeypatch.setattr(pool, "submit", second_fails)
    monkeypatch.setattr(team._Helpers, "of", lambda helpers, count: pool)
    done: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError, match="can't start"):
            run(_chase, 3, np.zeros((101, 3), np.int64), 100)
        done.append("reported")

    caller = threading.Thread(target=ask, daemon=True)
    caller.start()
    caller.join(30)
    assert done == ["reported"], "the first helper waits for a second one that never comes"


def test_callers_of_all_sizes_at_once() -> None:
    failures: list[BaseException] = []

    def call(threads: int) -> None:
        try:
            for _ in range(20):
                test_every_piece_is_done_once(threads)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=call, args=(threads,)) for threads in (1, 2, 3, 2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not failures and not any(caller.is_alive() for caller in callers)


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="needs priorities of threads")
def test_helpers_are_as_modest_as_their_caller() -> None:
    found: list[int] = []

    def kernel(part: int, parts: int, gate: np.ndarray) -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    def call() -> None:
        before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(before + 3, 19))
        run(kernel, 3)

    test_every_piece_is_done_once(3)  # this thread has helpers already
    caller = threading.Thread(target=call)
    caller.start()
    caller.join()
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert found == [min(usual + 3, 19)] * 3


def test_a_forked_child_has_a_team_of_its_own() -> None:
    test_every_piece_is_done_once(2)
    child = multiprocessing.get_context("fork").Process(target=test_every_piece_is_done_once, args=(2,))
    child.start()
    child.join(60)
    assert child.exitcode == 0

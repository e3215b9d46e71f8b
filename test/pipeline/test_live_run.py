"""Reading a live run: the replayer's time shift is undone, drops add up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.errors import XkdError
from xkd_ros.pipeline.live_run import LiveRun, _read, match_stamps

ROWS = {"message": "", "clouds lost in transport": "1", "clouds replaced by newer": "2", "clouds rejected": "0", "clouds failed": "0"}


def test_shift_is_found_even_when_the_first_scans_were_dropped() -> None:
    recorded = np.array([100, 207, 300, 411, 500])
    assert match_stamps(np.array([9_207, 9_411, 9_500]), recorded).tolist() == [207, 411, 500]


def test_foreign_stamps_are_refused() -> None:
    with pytest.raises(XkdError, match="do not fit"):
        match_stamps(np.array([1, 2, 1000]), np.array([100, 207, 300]))


def _recording(folder: Path, arrivals: list[list[int]]) -> Path:
    facts = {"arrivals": arrivals, "pairs": 7, "reports": {"segmenter: labelling": ROWS, "synchronizer: pairs": {}}, "stage_ms": {}}
    (folder / "recording.json").write_text(json.dumps(facts))
    return folder / "recording.json"


MS = 1_000_000
STAMPS = np.array([0, 107, 200, 300, 401, 500]) * MS


def _run(folder: Path, rate: float = 1.0) -> LiveRun:
    sent = [5_000 * MS + round(107 * MS / rate), 5_000 * MS + round(300 * MS / rate)]
    delay = round(104 * MS / rate)
    arrivals = [[sent[0], sent[0] + delay + 50 * MS], [sent[1], sent[1] + delay + 70 * MS]]
    return _read(_recording(folder, arrivals), (STAMPS, STAMPS + 104 * MS), rate)


def test_latency_counts_from_the_sending_of_the_cloud(tmp_path: Path) -> None:
    run = _run(tmp_path)
    assert run.recorded_ns.tolist() == [107 * MS, 300 * MS] and run.latency_ms.tolist() == [50, 70]
    assert run.hz == pytest.approx(1 / 0.213)


def test_a_faster_playback_shrinks_distances_of_stamps(tmp_path: Path) -> None:
    run = _run(tmp_path, rate=3.0)
    assert run.recorded_ns.tolist() == [107 * MS, 300 * MS] and run.latency_ms == pytest.approx([50, 70], abs=1e-3)


def test_drops_are_split_by_reason_and_what_is_left_is_unexplained(tmp_path: Path) -> None:
    run = _run(tmp_path)
    assert (
        run.dropped == {"transport": 1, "replaced_by_newer": 2, "not_needed": 0, "rejected": 0, "failed": 0, "unexplained": 1}
        and run.pairs == 7
    )


def test_nothing_came_out(tmp_path: Path) -> None:
    run = _read(_recording(tmp_path, []), (STAMPS, STAMPS), 1.0)
    assert run.hz == 0.0 and len(run.latency_ms) == 0 and run.dropped["unexplained"] == 3

"""Reading a live run: the replayer's time shift is undone, drops add up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.errors import XkdError
from xkd_ros.pipeline.live_run import LiveRun, _read


def _run(stamps: list[int], received: list[int] | None = None) -> LiveRun:
    return LiveRun(5, np.array(stamps), np.array(received or stamps), {}, {}, 0)


def test_shift_is_found_even_when_the_first_scans_were_dropped() -> None:
    recorded = np.array([100, 207, 300, 411, 500])
    assert _run([9_207, 9_411, 9_500]).original_stamps(recorded).tolist() == [207, 411, 500]


def test_foreign_stamps_are_refused() -> None:
    with pytest.raises(XkdError, match="do not fit"):
        _run([1, 2, 1000]).original_stamps(np.array([100, 207, 300]))


def test_rate_and_latency() -> None:
    run = _run([0, 100_000_000, 200_000_000], [50_000_000, 150_000_000, 270_000_000])
    assert run.hz == pytest.approx(2 / 0.22) and run.latency_ms.tolist() == [50, 50, 70]
    assert _run([]).hz == 0.0


def test_drops_are_split_by_reason_and_what_is_left_is_unexplained(tmp_path: Path) -> None:
    rows = {"message": "", "clouds lost in transport": "1", "clouds replaced by newer": "2", "clouds rejected": "0", "clouds failed": "0"}
    facts = {"arrivals": [[1, 2], [3, 4]], "pairs": 7, "reports": {"segmenter: labelling": rows, "synchronizer: pairs": {}}, "stage_ms": {}}
    (tmp_path / "recording.json").write_text(json.dumps(facts))
    run = _read(tmp_path / "recording.json", scans_in=6)
    assert run.dropped == {"transport": 1, "replaced_by_newer": 2, "rejected": 0, "failed": 0, "unexplained": 1} and run.pairs == 7

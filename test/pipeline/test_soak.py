"""The soak: it must tell a process that grows or slows down from one that does not, and run for real."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import XkdError
from xkd_ros.core.share import find_model
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud
from xkd_ros.pipeline.bench.soak import Sample, judge, run_soak

ARRIVALS = [[0, int(number * 1e9 / 3)] for number in range(300)]


def recording(total_ms: Any, **counts: int) -> dict[str, Any]:
    rows = dict.fromkeys(("rejected", "failed", "replaced by newer", "not needed", "in work", "lost in transport"), 0)
    rows |= {"published": len(total_ms), "arrived": len(total_ms)} | counts
    report = {f"clouds {name}": str(count) for name, count in rows.items()} | {"backend": "torch"}
    return {"reports": {"segmenter: labelling": report}, "stage_ms": {"total": list(total_ms)}, "arrivals": ARRIVALS}


def samples(growth: float = 0.0, files: int = 0, threads: int = 0, work: float = 0.0) -> list[Sample]:
    """A hundred looks, a second apart; `work` is by how much the processor time of a cloud has grown at the end."""
    noise = np.random.default_rng(0).normal(0, 2e5, 100)
    cpu_s = np.cumsum(0.3 * (1 + work * np.arange(100) / 100))
    return [
        Sample(i * 10**9, int(1e8 * (1 + growth * i / 100) + noise[i]), 20 + files * (i > 60), 9 + threads * (i > 60), cpu_s[i])
        for i in range(100)
    ]


TIMES = np.random.default_rng(1).normal(50, 5, 300)


@pytest.mark.parametrize(
    ("process", "heard", "missed"),
    [
        (samples(), recording(TIMES), []),
        (samples(growth=0.2), recording(TIMES), ["memory grew by"]),
        (samples(files=1), recording(TIMES), ["open files grew"]),
        (samples(threads=1), recording(TIMES), ["threads grew"]),
        (samples(work=1.0), recording(TIMES), ["more work"]),
        (samples(), recording(TIMES * np.linspace(1, 3, 300)), []),  # only the clock: other programs took the processor
        (samples(), recording(TIMES, failed=2, published=298), ["clouds failed"]),
        (samples(), recording(TIMES, published=297), ["3 clouds unexplained"]),
    ],
)
def test_bars(process: list[Sample], heard: dict[str, Any], missed: list[str]) -> None:
    found = judge(process, heard)["missed"]
    assert len(found) == len(missed) and all(words in sentence for words, sentence in zip(missed, found)), found


def test_growth_at_the_start_is_warming_up() -> None:
    process = [Sample(i * 10**9, int(1e8 * min(1, i / 15)), 20, 9, 0.3 * i) for i in range(1, 101)]
    assert judge(process, recording(np.concatenate([np.full(50, 500.0), TIMES])))["missed"] == []


def test_too_short_to_tell() -> None:
    with pytest.raises(XkdError, match="too short"):
        judge(samples()[:5], recording(TIMES))


@pytest.mark.dds
@pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="needs rclpy")
def test_a_short_soak_for_real(tmp_path: Path, typestore: Any) -> None:
    rng = np.random.default_rng(0)
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(10):
            scan = Scan(rng.uniform(-3, 3, (2000, 3)).astype(np.float32), stamp_ns=10**9 + number * 10**8, frame_id="lidar")
            writer.write("/points", make_cloud(scan, typestore.types), scan.stamp_ns)
    run_soak(find_model("indoor-24x64"), 0.4, tmp_path / "bag", tmp_path / "soak.json")
    facts = json.loads((tmp_path / "soak.json").read_text())
    # So short a time on a shared machine says nothing about memory or times; counts and leaks it does tell.
    assert facts["unexplained"] == 0 and facts["clouds"]["published"] > 15 and facts["clouds"]["failed"] == facts["clouds"]["rejected"] == 0
    assert facts["files"][1] <= facts["files"][0]

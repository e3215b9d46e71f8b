"""Two processes distil, probe and judge units as one does with the same total batch, within noise."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rooms import STUDENT, Labels, Rooms, Surfaces, Targets

from xkd_ros.core.card import NetworkConfig
from xkd_ros.distill.distillation import run_distil
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.methods import train_student
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.unit_report import load_unit_scores
from xkd_ros.distill.probe import run_probe
from xkd_ros.distill.recipe import DistilConfig, ProbeConfig
from xkd_ros.train.engine import make_fabric

COMMON = {"batch": 4, "accumulate": 2, "precision": "32-true", "tensorboard": False, "balance_steps": 2}


def learn(folder: Path) -> dict[str, list[float]]:
    """Distil, probe, learn from units; returns the loss of every step, on rank 0."""
    frames, fabric = Rooms(points=300), make_fabric("32-true")
    fabric.launch()
    losses: dict[str, list[float]] = {"distil": [], "probe": [], "units": []}
    config = DistilConfig(**COMMON, steps=20, lr=1e-2, head_hidden=None, drop_path=0.0, gradient_checkpointing=True)
    network = NetworkConfig(depth=2, width=8)
    backbone = run_distil(
        frames, Targets(frames), network, STUDENT, config, folder / "distil", fabric, lambda *f: losses["distil"].append(f[2]["loss"])
    )
    lesson, probe = Lesson(frames, Labels(frames), 3, backbone, units=Surfaces(frames)), ProbeConfig(**COMMON, steps=10, lr=1e-2)
    run_probe(lesson, probe, folder / "probe", fabric, lambda *f: losses["probe"].append(f[2]["loss"]))
    units = PartDistillConfig(method="partdistill", **COMMON, steps=20, lr=1e-2, drop_path=0.0, average_decay=0.8)
    train_student(lesson, units, folder / "units", fabric, lambda *f: losses["units"].append(f[2]["loss"]))
    return losses


if __name__ == "__main__":
    found = learn(Path(sys.argv[1]))
    if int(os.environ["RANK"]) == 0:
        (Path(sys.argv[1]) / "losses.json").write_text(json.dumps(found))


def test_two_processes_learn_as_one_does(tmp_path: Path, torchrun: Callable[..., None]) -> None:
    here = Path(__file__)
    torchrun(here, tmp_path / "two", PYTHONPATH=f"{here.parents[2]}{os.pathsep}{here.parent}")
    two, one = json.loads((tmp_path / "two" / "losses.json").read_text()), learn(tmp_path / "one")
    for stage, steps in (("distil", 20), ("probe", 10), ("units", 20)):
        assert len(one[stage]) == len(two[stage]) == steps
        # Each process reports its own half of the batch, and batch norms see that half.
        assert np.mean(two[stage][-5:]) < 0.9 * np.mean(two[stage][:2])
        assert abs(np.mean(one[stage][-5:]) / np.mean(two[stage][-5:]) - 1) < 0.15
    assert all((tmp_path / "two" / "distil" / name).is_file() for name in ("backbone.json", "backbone.safetensors", "last.pt"))
    # Each process judges every second frame.
    scores = [load_unit_scores(tmp_path / name / "units") for name in ("one", "two")]
    assert np.array_equal(scores[0]["frame"], scores[1]["frame"]) and np.abs(scores[0]["score"] - scores[1]["score"]).mean() < 0.3
    assert all(scores[1]["score"][scores[1]["frame"] == frame].max() > 0.5 for frame in (0, 1, 2, 4, 5, 6, 7))

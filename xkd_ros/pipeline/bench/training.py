"""`xkd bench training`: how fast batches are made, and how fast the student learns from them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.core.card import GeometryConfig, IntensityConfig, NetworkConfig
from xkd_ros.core.labels import INDOOR12
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.distill.labelled_frames import LabelledFrames, collate_labelled_frames
from xkd_ros.distill.student_input import InputConfig, StudentConfig, StudentInput
from xkd_ros.nets.batch import Batch, collate
from xkd_ros.nets.compiled import plain_layers
from xkd_ros.nets.student import Student, seeded_student
from xkd_ros.pipeline.bench.reference import Reference
from xkd_ros.pipeline.bench.timing import interleaved_ms, machine_ceilings, read_counts, scan_of_size, write_figures
from xkd_ros.pipeline.progress import console, make_progress
from xkd_ros.pipeline.walks import Walk, simulate_walks
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.train.allocator import keep_freed_memory

_RIGS, _AUGMENTATIONS = ("ouster16", "xt32_handheld"), ("robust", "paper", "paper_double")
_WALK_S, _EVERY, _SEED, _SCANS = 2.4, 3, 3, 24


def run_bench_training(
    reference: Path | None, depth: int, width: int, points: str, threads: int | None, json: Path | None
) -> dict[str, Any]:
    """Time what training is made of: frames to batches on one core, and forward and backward passes.

    Args:
        reference: Checkout of the public implementation: gets our weights and learns beside ours on the same scans and grids.
        depth, width: Of the student.
        points: Voxel counts, comma separated.
        threads: CPU threads of the network; None takes torch's default. Batches are always made by one.
        json: File for the figures.
    Raises:
        ConfigError: counts that are no numbers.
        ModelError: an unusable reference.
    """
    sizes = read_counts(points)
    torch.set_num_threads(threads or torch.get_num_threads())
    keep_freed_memory()
    with make_progress() as display:
        task = display.add_task("timing", total=len(_RIGS) + len(sizes), note="")
        data = []
        for rig in _RIGS:
            display.update(task, note=f"batches of {rig}")
            data += _time_data(rig)
            display.advance(task)
        steps = []
        for size in sizes:
            display.update(task, note=f"steps of {size} voxels")
            steps.append(_time_step(size, NetworkConfig(depth=depth, width=width), reference))
            display.advance(task)
    facts = {"network": f"WI-{depth}-{width}", "machine": machine_ceilings(), "data": data, "steps": steps}
    for table in _tables(facts):
        console.print(table)
    write_figures(facts, json)
    return facts


def _time_data(rig: str) -> list[dict[str, Any]]:
    """Count scans per second from the frame store to a batch in memory, neighbours searched anew for each."""
    with tempfile.TemporaryDirectory() as folder:
        bags = simulate_walks([Walk(rig, _SEED, _WALK_S, _EVERY)], Path(folder) / "bags", 1)
        write_frames(bags, Path(folder) / "frames", FrameConfig(split="bag", shares=(1.0, 0.0, 0.0)))
        frames = FrameStore(Path(folder) / "frames")
        student = StudentConfig(geometry=GeometryConfig(align_heading=True))
        rows = []
        for augmentation in _AUGMENTATIONS:
            config = InputConfig.model_validate({"augmentation": augmentation})
            student_input = StudentInput(config, student, frames.manifest.intensity)
            samples = LabelledFrames(frames, GivenLabels(frames, INDOOR12), frames.numbers(), student_input, _SEED)
            for number in range(_SCANS // 4):
                samples(number)
            begun = time.perf_counter()
            items = [samples(number) for number in range(_SCANS)]
            for number in range(0, _SCANS, 4):
                collate_labelled_frames(items[number : number + 4])
            seconds = time.perf_counter() - begun
            voxels = sum(len(item.scan) for item in items) // _SCANS
            rows.append({"rig": rig, "augmentation": augmentation, "voxels": voxels, "scans_per_s": round(_SCANS / seconds, 1)})
    return rows


def _time_step(size: int, network: NetworkConfig, reference: Path | None) -> dict[str, Any]:
    """Time forward and backward passes over one scan, weights and gradients as in training."""
    scan = scan_of_size(size, Preprocessor(GeometryConfig(), IntensityConfig()))
    batch = collate([scan])
    ways = ("fp32", torch.float32, nullcontext), ("fp32, layers", torch.float32, plain_layers), ("bf16", torch.bfloat16, nullcontext)
    contestants: dict[str, Callable[[], torch.Tensor]] = {
        name: partial(_learn, seeded_student(network, _SEED).train(), batch, kind, context) for name, kind, context in ways
    }
    if reference is not None:
        public = Reference(reference, seeded_student(network, _SEED), scan.grids)
        contestants["public"] = public.prepare_training(scan, scan.cells)
    logits = {name: run() for name, run in contestants.items()}
    ms = interleaved_ms(contestants)
    return {
        "voxels": len(scan),
        "ms": {name: round(value, 1) for name, value in ms.items()},
        "largest_logit_difference": {name: float((values - logits["fp32"]).abs().max()) for name, values in logits.items()},
        "ratio": {name: round(ms["public"] / value, 2) for name, value in ms.items()} if reference is not None else {},
    }


def _learn(student: Student, batch: Batch, kind: torch.dtype, context: Callable[[], AbstractContextManager[None]]) -> torch.Tensor:
    student.zero_grad()
    with context(), torch.autocast("cpu", torch.bfloat16, enabled=kind != torch.float32):
        logits = student.on(batch).float()
    logits.square().mean().backward()
    return logits.detach()


def _tables(facts: dict[str, Any]) -> list[Table]:
    data = Table(title="frame store → batch, one core")
    for column in ("rig", "augmentation", "voxels", "scans/s"):
        data.add_column(column, justify="right" if column in ("voxels", "scans/s") else "left")
    for row in facts["data"]:
        data.add_row(row["rig"], row["augmentation"], str(row["voxels"]), f"{row['scans_per_s']:.1f}")
    machine = facts["machine"]
    steps = Table(
        title=f"{facts['network']}: forward and backward of one scan, {machine['threads']} threads; this machine: "
        f"{machine['matmul_fp32_gflops']} GFLOP/s fp32, {machine['matmul_bf16_gflops']} bf16, {machine['copy_gb_per_s']} GB/s"
    )
    for column in ("voxels", "way", "ms", "times faster", "logit difference"):
        steps.add_column(column, justify="left" if column == "way" else "right")
    for row in facts["steps"]:
        for name, value in row["ms"].items():
            ratio = f"{row['ratio'][name]:.2f}" if row["ratio"] else "-"
            steps.add_row(str(row["voxels"]), name, f"{value:.1f}", ratio, f"{row['largest_logit_difference'][name]:.1e}")
    return [data, steps]

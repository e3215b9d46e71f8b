"""`xkd bench gpu`: network, whole scans and training steps on a GPU, beside plain layers and the public code, in one run (BENCH A)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig
from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import NetInput
from xkd_ros.device.plane_table import exact_inputs
from xkd_ros.device.recording import Recording
from xkd_ros.device.student import DeviceStudent
from xkd_ros.nets.batch import collate
from xkd_ros.nets.student import Student, seeded_student
from xkd_ros.pipeline.bench.growth import every, large_scans
from xkd_ros.pipeline.bench.reference import Reference
from xkd_ros.pipeline.bench.timing import interleaved_times, read_counts, scan_of_size, write_figures
from xkd_ros.pipeline.progress import console, make_progress
from xkd_ros.pipeline.studies.table import StudyTable
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.backend import agreement
from xkd_ros.runtime.cuda_backend import CudaBackend
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.torch_backend import TorchBackend

PUBLIC, LAYERS = "public, bf16", "layers, bf16"
_SEED, _SCANS, _TRAINED = 0, 100, 8
_GEOMETRY = GeometryConfig(align_heading=True)


def run_bench_gpu(
    reference: Path | None, depth: int, width: int, points: str, repeats: int, json: Path | None, device: str = "cuda"
) -> dict[str, Any]:
    """Time everything of BENCH A that wants a GPU, with random weights.

    Args:
        reference: Checkout of the public implementation: gets our weights and runs beside ours under autocast.
        depth, width: Of the student.
        points: Voxel counts, comma separated.
        repeats: Runs of each contestant, in turn.
        json: File for the figures.
        device: "cpu" runs the same steps without graphs and kernels, for a test.
    Raises:
        ConfigError: counts that are no numbers.
        ModelError: no GPU, or an unusable reference.
    """
    sizes, cuda = read_counts(points), device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise ModelError("torch finds no CUDA device; xkd bench model times the network on the CPU")
    network = NetworkConfig(depth=depth, width=width)
    card = ModelCard(name="bench", network=network, geometry=_GEOMETRY, intensity=IntensityConfig(per_scan=True))
    student = seeded_student(network, _SEED).eval()
    with make_progress() as display:
        task = display.add_task("timing", total=2 * len(sizes) + 1, note="")
        rows, steps = [], []
        for size in sizes:
            display.update(task, note=f"network, {size} voxels")
            rows.append(_time_network(size, card, student, reference, device, repeats))
            display.advance(task)
        display.update(task, note="whole scans")
        scans = _time_scans(card, student, device, repeats)
        display.advance(task)
        for size in sizes:
            display.update(task, note=f"training, {_TRAINED} scans of {size} voxels")
            steps.append(_time_step(size, network, reference, device, repeats))
            display.advance(task)
    where = torch.cuda.get_device_name() if cuda else "cpu"
    facts = {"network": f"WI-{depth}-{width}", "device": where, "torch": torch.__version__, "rows": rows, "scans": scans, "steps": steps}
    for table in gpu_tables({"measured": "now", **facts}):
        console.print(table.markdown(), markup=False, highlight=False, soft_wrap=True)
    write_figures(facts, json)
    return facts


def gpu_tables(facts: dict[str, Any]) -> list[StudyTable]:
    """Lay the figures out, each as p50 / p99."""
    tables = []
    notes = (f"{facts['measured']}: {facts['device']}, torch {facts['torch']}; p50 / p99 in ms.",)
    for key, title in (("rows", "The network"), ("scans", "Whole scans"), ("steps", f"Training steps of {_TRAINED} scans")):
        ways = list(dict.fromkeys(way for row in facts[key] for way in row["ms"]))
        rows = [[str(row["size"]), *(_pair(row["ms"].get(way)) for way in ways)] for row in facts[key]]
        tables.append(StudyTable(f"{title} on a GPU, {facts['network']} (`xkd bench gpu`)", ("size", *ways), rows, notes))
    return tables


def _pair(quantiles: list[float] | None) -> str:
    return "-" if quantiles is None else " / ".join(f"{ms:.1f}" for ms in quantiles)


def _time_network(size: int, card: ModelCard, student: Student, reference: Path | None, device: str, repeats: int) -> dict[str, Any]:
    """Time logits of one scan that lies on the device already, until they are on the host."""
    scan = scan_of_size(size, Preprocessor(card.geometry, card.intensity))
    contestants: dict[str, Callable[[], np.ndarray]] = {}
    if reference is not None:
        contestants[PUBLIC] = Reference(reference, student, scan.grids).prepare(scan, scan.cells, device, torch.bfloat16)
    contestants[LAYERS] = _layers(student, scan, device)
    for kernels in (False, True) if device == "cuda" else (False,):
        ours, inputs = DeviceStudent(student, torch.bfloat16, device, kernels), exact_inputs(scan, device)
        name = "kernels" if kernels else "plain torch"
        contestants[f"{name}, step by step"] = partial(_on_host, partial(ours.forward, *inputs))
        contestants[f"{name}, graph"] = _recorded(partial(ours.forward, *inputs), device)
    logits = {name: run() for name, run in contestants.items()}
    truth = TorchBackend(student, card, device=device).infer(scan)
    labels = {name: round(agreement([values], [truth]), 5) for name, values in logits.items()}
    return {"size": len(scan), "ms": _quantiles(contestants, repeats), "labels_of_fp32": labels}


def _layers(student: Student, scan: NetInput, device: str) -> Callable[[], np.ndarray]:
    batch, network = collate([scan]).to(device), copy.deepcopy(student).to(device)

    def run() -> np.ndarray:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            return network.on(batch).float().cpu().numpy()

    return run


def _on_host(run: Callable[[], torch.Tensor]) -> np.ndarray:
    return run().cpu().numpy()


def _recorded(program: Callable[[], torch.Tensor], device: str) -> Callable[[], np.ndarray]:
    recording = Recording(program, torch.device(device))

    def run() -> np.ndarray:
        output = recording()
        if recording.stream is not None:
            recording.stream.synchronize()
        return output.cpu().numpy()

    return run


def _time_scans(card: ModelCard, student: Student, device: str, repeats: int) -> list[dict[str, Any]]:
    """Time raw scans of 64 beams, levelled beforehand as in the node, until their labels are on the host."""
    points, intensity = every(large_scans()[0], 2, 1)
    ways = {"prepared on the CPU, layers, bf16": Segmenter(card, TorchBackend(student, card, precision="bfloat16", device=device))}
    for kernels in (False, True) if device == "cuda" else (False,):
        backend = CudaBackend(student, card, device, kernels=kernels)
        ways["whole way, kernels" if kernels else "whole way, plain torch"] = Segmenter(card, backend)
    level = np.eye(3)
    contestants = {name: partial(segmenter.segment, points, intensity, level) for name, segmenter in ways.items()}
    return [{"size": len(points), "ms": _quantiles(contestants, repeats)}]


def _time_step(size: int, network: NetworkConfig, reference: Path | None, device: str, repeats: int) -> dict[str, Any]:
    """Time forward and backward passes over a batch, and see how much memory they take."""
    scan = scan_of_size(size, Preprocessor(_GEOMETRY, IntensityConfig()))
    batch = collate([scan] * _TRAINED).to(device)

    def ours(student: Student) -> None:
        student.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            logits = student.on(batch).float()
        logits.square().mean().backward()
        _wait(device)

    contestants: dict[str, Callable[[], object]] = {}
    for name, again in (("ours, bf16", False), ("ours, bf16, blocks computed again", True)):
        student = seeded_student(network, _SEED).train().to(device)
        student.backbone.checkpointing = again
        contestants[name] = partial(ours, student)
    if reference is not None:
        public = Reference(reference, seeded_student(network, _SEED), scan.grids)
        step = public.prepare_training(scan, scan.cells, _TRAINED, device, torch.bfloat16)

        def theirs() -> None:
            step()
            _wait(device)

        contestants[PUBLIC] = theirs
    memory = {name: _peak_gb(run, device) for name, run in contestants.items()}
    return {"size": len(scan), "ms": _quantiles(contestants, repeats), "peak_gb": memory}


def _peak_gb(run: Callable[[], object], device: str) -> float | None:
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    run()
    return round(torch.cuda.max_memory_allocated() / 1e9, 2)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _quantiles(contestants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    times = interleaved_times(contestants, repeats)
    return {name: [round(float(value), 3) for value in np.percentile(values, (50, 99))] for name, values in times.items()}

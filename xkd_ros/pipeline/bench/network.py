"""`xkd bench model` and `xkd bench preprocess`: medians of interleaved runs, ratios against a reference in the same process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig
from xkd_ros.core.errors import XkdError
from xkd_ros.core.types import NetInput
from xkd_ros.kernels.folding import fold
from xkd_ros.nets.student import Student, seeded_student
from xkd_ros.pipeline.bench.reference import Reference, full_cells
from xkd_ros.pipeline.bench.timing import interleaved_ms, machine_ceilings, read_counts, scan_of_size, write_figures
from xkd_ros.pipeline.progress import console, make_progress
from xkd_ros.points.grid import full_grids
from xkd_ros.points.levelling import estimate_levelling
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.backend import Backend, agreement
from xkd_ros.runtime.numba_backend import NumbaBackend
from xkd_ros.runtime.torch_backend import TorchBackend
from xkd_ros.worlds.stream import sample_scan

_REFERENCE, _REFERENCE_FULL = "public, our grids", "public, full grids"
_SEED = 0


def run_bench_model(reference: Path | None, depth: int, width: int, points: str, threads: int | None, json: Path | None) -> dict[str, Any]:
    """Time the network alone, with random weights.

    Args:
        reference: Checkout of the public implementation: gets our weights, is compared, then timed in turn with ours.
        depth, width: Of the student.
        points: Voxel counts, comma separated.
        threads: CPU threads of all contestants; None takes torch's default.
        json: File for the figures.
    Raises:
        ConfigError: counts that are no numbers.
        ModelError: an unusable reference.
    """
    sizes = read_counts(points)
    torch.set_num_threads(threads or torch.get_num_threads())
    threads = torch.get_num_threads()
    rows: list[dict[str, Any]] = []
    with make_progress() as display:
        task = display.add_task("timing networks", total=2 * len(sizes), note="")
        for norm in ("layer", "batch"):
            network = NetworkConfig(depth=depth, width=width, norm=norm)
            card = ModelCard(name="bench", network=network)
            student = seeded_student(network, _SEED).eval()
            backends = _backends(student, card, threads)
            for size in sizes:
                display.update(task, note=f"{norm} norm, {size} voxels")
                rows.append({"norm": norm, **_time_model(size, card, student, reference, backends)})
                display.advance(task)
    facts = {"network": f"WI-{depth}-{width}", "machine": machine_ceilings(), "rows": rows}
    console.print(_model_table(facts, reference is not None))
    write_figures(facts, json)
    return facts


def _backends(student: Student, card: ModelCard, threads: int) -> dict[str, Backend]:
    """Every way of running a student here that needs no model folder."""
    from xkd_ros.export.student_graph import build_student_graph
    from xkd_ros.runtime.onnxruntime_backend import OnnxRuntimeBackend

    backends: dict[str, Backend] = {
        "numba": NumbaBackend(student.arrays(), card, threads),
        "torch": TorchBackend(student, card, threads),
        "torch-bf16": TorchBackend(student, card, threads, "bfloat16"),
    }
    try:
        backends["onnxruntime"] = OnnxRuntimeBackend(
            build_student_graph(fold(student.arrays(), card.network), card, "occupied_cells").SerializeToString(), threads
        )
    except XkdError as error:
        console.print(f"[yellow]onnxruntime left out: {error}[/]")
    return backends


def _time_model(size: int, card: ModelCard, student: Student, reference: Path | None, backends: dict[str, Backend]) -> dict[str, Any]:
    net_input = scan_of_size(size, Preprocessor(card.geometry, card.intensity))
    contestants: dict[str, Callable[[], np.ndarray]] = {name: _runner(backend, net_input) for name, backend in backends.items()}
    if reference is not None:
        # Beside the grids its authors would use, on ours: what remains is the difference of the code alone.
        contestants[_REFERENCE] = Reference(reference, student, net_input.grids).prepare(net_input, net_input.cells)
        whole = Reference(reference, student, full_grids(card.geometry))
        contestants[_REFERENCE_FULL] = whole.prepare(net_input, full_cells(net_input, card.geometry))
    logits = {name: np.asarray(run()) for name, run in contestants.items()}
    truth = logits[_REFERENCE] if reference is not None else logits["torch"]
    ms = interleaved_ms(contestants)
    return {
        "voxels": len(net_input),
        "grids": net_input.grids,
        "ms": {name: round(value, 1) for name, value in ms.items()},
        "largest_logit_difference": {name: float(np.abs(values - truth).max()) for name, values in logits.items()},
        "equal_labels": {name: round(agreement([values], [truth]), 5) for name, values in logits.items()},
        "ratio": {name: round(ms[_REFERENCE] / value, 2) for name, value in ms.items()} if reference is not None else {},
    }


def _runner(backend: Backend, net_input: NetInput) -> Callable[[], np.ndarray]:
    return lambda: backend.infer(net_input)


def run_bench_preprocess(threads: int | None, json: Path | None) -> dict[str, Any]:
    """Time levelling and preprocessing beside the plain way (row-wise unique, single-thread KD-trees), on simulated scans.

    Args:
        threads: Of our neighbour search; None takes all.
        json: File for the figures.
    """
    preprocess = Preprocessor(GeometryConfig(), IntensityConfig(), threads or -1)
    scans = [points @ meta["rotation"].T.astype(np.float32) for points, _, _, meta in (sample_scan(seed, "shifted") for seed in range(40))]
    scans.sort(key=len)
    rows: list[dict[str, Any]] = []
    for points in (scans[4], scans[20], scans[-1]):
        contestants: dict[str, Callable[[], object]] = {
            "plain": partial(_plain_preprocess, points, preprocess.geometry),
            "ours": partial(preprocess, points),
            "levelling": partial(estimate_levelling, points),
        }
        ms = interleaved_ms(contestants)
        stages: dict[str, float] = {}
        net_input = preprocess(points, stage_ms=stages)
        same = np.array_equal(np.sort(net_input.kept), np.sort(_plain_preprocess(points, preprocess.geometry)))
        rows.append(
            {
                "points": len(points),
                "voxels": len(net_input),
                "ms": {name: round(value, 1) for name, value in ms.items()},
                "ratio": round(ms["plain"] / ms["ours"], 2),
                "same_voxels": bool(same),
                "stage_ms": {name: round(value, 1) for name, value in stages.items()},
            }
        )
    facts = {"threads": threads or "all", "rows": rows}
    table = Table(title="preprocessing (levelling stated apart)")
    for column in ("points", "voxels", "plain ms", "ours ms", "ratio", "same voxels", "levelling ms", "stages"):
        table.add_column(column, justify="right")
    for row in rows:
        stages_text = ", ".join(f"{name} {value}" for name, value in row["stage_ms"].items())
        cells = (
            row["points"],
            row["voxels"],
            row["ms"]["plain"],
            row["ms"]["ours"],
            row["ratio"],
            row["same_voxels"],
            row["ms"]["levelling"],
        )
        table.add_row(*map(str, cells), stages_text)
    console.print(table)
    write_figures(facts, json)
    return facts


def _plain_preprocess(points: np.ndarray, geometry: GeometryConfig) -> np.ndarray:
    """Do what the public code does before the network, step by step; returns the raw index of each kept point."""
    from scipy.spatial import cKDTree

    voxels = ((points - points.min(0)) / np.float32(geometry.voxel_m)).astype(np.int32)
    _, kept = np.unique(voxels, axis=0, return_index=True)
    low, high = np.array(geometry.fov_min_m) + 1e-4, np.array(geometry.fov_max_m) - 1e-4
    kept = kept[((points[kept] > low) & (points[kept] < high)).all(1)]
    sampled = points[kept]
    tree = cKDTree(sampled)
    tree.query(sampled, k=geometry.neighbours + 1)
    tree.query(points, k=1)
    return kept


def _model_table(facts: dict[str, Any], compared: bool) -> Table:
    machine = facts["machine"]
    title = (
        f"{facts['network']}, {machine['threads']} threads; this machine: {machine['matmul_fp32_gflops']} GFLOP/s fp32, "
        f"{machine['matmul_bf16_gflops']} bf16, {machine['copy_gb_per_s']} GB/s, {machine['instructions']}"
    )
    table = Table(title=title)
    columns = ["norm", "voxels", "way", "ms", *(["times faster"] if compared else []), "logit difference", "equal labels"]
    for column in columns:
        table.add_column(column, justify="left" if column in ("norm", "way") else "right")
    for row in facts["rows"]:
        for name, value in row["ms"].items():
            cells = [row["norm"], str(row["voxels"]), name, f"{value:.1f}", *([f"{row['ratio'][name]:.2f}"] if compared else [])]
            table.add_row(*cells, f"{row['largest_logit_difference'][name]:.1e}", f"{100 * row['equal_labels'][name]:.2f} %")
    return table

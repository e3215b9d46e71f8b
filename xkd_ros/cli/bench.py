"""Commands that measure speed; every figure in the docs comes from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xkd_ros.cli.options import DEFAULT_MODEL, Json, Model, Threads
from xkd_ros.core.share import find_model

Reference = Annotated[Path | None, typer.Option(help="Checkout of the public WaffleIron, timed beside ours.")]
Counts = Annotated[str, typer.Option(help="Voxel counts, comma separated.")]

bench = typer.Typer(no_args_is_help=True, help="Measure speed; every figure in the docs comes from here.")


@bench.command("model")
def bench_model(
    reference: Reference = None,
    depth: int = 24,
    width: int = 64,
    points: Counts = "3000,6000,11000",
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Time the network alone."""
    from xkd_ros.pipeline.bench.network import run_bench_model

    run_bench_model(reference=reference, depth=depth, width=width, points=points, threads=threads, json=json)


@bench.command("gpu")
def bench_gpu(
    reference: Reference = None,
    depth: int = 24,
    width: int = 768,
    points: Counts = "8000,16000,32000",
    repeats: Annotated[int, typer.Option(min=3, help="Runs of each contestant, in turn.")] = 100,
    json: Json = None,
) -> None:
    """Time network, whole scans and training steps on a GPU: kernels, graphs, plain layers, the public code."""
    from xkd_ros.pipeline.bench.gpu import run_bench_gpu

    run_bench_gpu(reference=reference, depth=depth, width=width, points=points, repeats=repeats, json=json)


@bench.command("training")
def bench_training(
    reference: Reference = None,
    depth: int = 24,
    width: int = 64,
    points: Counts = "3000,6000,11000",
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Time what training is made of: batches and steps."""
    from xkd_ros.pipeline.bench.training import run_bench_training

    run_bench_training(reference=reference, depth=depth, width=width, points=points, threads=threads, json=json)


@bench.command("preprocess")
def bench_preprocess(threads: Threads = None, json: Json = None) -> None:
    """Time what happens before the network."""
    from xkd_ros.pipeline.bench.network import run_bench_preprocess

    run_bench_preprocess(threads=threads, json=json)


@bench.command("growth")
def bench_growth(model: Model = DEFAULT_MODEL, backend: str = "auto", threads: Threads = None, json: Json = None) -> None:
    """Time whole scans of 8,000 to 131,000 points: does the time grow linearly?"""
    from xkd_ros.pipeline.bench.growth import run_bench_growth

    run_bench_growth(find_model(model), backend, threads, json)


@bench.command("node")
def bench_node(
    model: Model = DEFAULT_MODEL,
    bag: Annotated[Path | None, typer.Option(help="Recording to play; default: a simulated walk.")] = None,
    seconds: Annotated[float, typer.Option(min=3)] = 20.0,
    json: Json = None,
) -> None:
    """Time the whole node: DDS in, DDS out, player and subscriber in other processes, as fast as keep-latest allows."""
    from xkd_ros.pipeline.bench.node import run_bench_node

    run_bench_node(model=find_model(model), bag=bag, seconds=seconds, json=json)


@bench.command("soak")
def bench_soak(
    model: Model = DEFAULT_MODEL,
    minutes: Annotated[float, typer.Option(min=0.5, help="How long.")] = 60.0,
    bag: Annotated[Path | None, typer.Option(help="Recording to loop; default: a simulated walk.")] = None,
    json: Json = None,
) -> None:
    """Loop clouds through the segmenter: memory, open files, threads and times must stay as they are."""
    from xkd_ros.pipeline.bench.soak import run_soak

    raise typer.Exit(0 if run_soak(find_model(model), minutes, bag, json) else 1)


@bench.command("page")
def bench_page(
    figures: Annotated[Path, typer.Argument(help="Folder of the figures that --json wrote.")] = Path("docs/bench"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Markdown file to write.")] = Path("docs/performance.md"),
) -> None:
    """Write docs/performance.md from the figures of all benchmarks and the log of what was tried."""
    from xkd_ros.pipeline.bench.page import write_page

    write_page(figures, out)

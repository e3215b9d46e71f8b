"""The `xkd` command. Each sub-command imports its room when it runs, so that `--help` and light machines stay fast."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from xkd_ros import __version__
from xkd_ros.core.errors import XkdError
from xkd_ros.core.share import find_model

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Name every lidar point: simulate, inspect and label recordings, train and export students, measure.",
    epilog="Start with `xkd demo`, or `xkd inspect BAG` for a recording of your own.",
)
bench = typer.Typer(no_args_is_help=True, help="Measure speed; every figure in the docs comes from here.")
app.add_typer(bench, name="bench")

Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Model folder, or the name of one that comes with the package.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")]
BagPath = Annotated[Path, typer.Argument(metavar="BAG", help="rosbag2 folder, bare .mcap/.db3, ROS 1 .bag, or a folder of PLY/PCD files.")]
PointsTopic = Annotated[str | None, typer.Option("--topic", help="Point topic; default: the bag's only or largest one.")]
RigPath = Annotated[Path | None, typer.Option("--rig", help="Rig YAML to use instead of the bag's own CameraInfo and tf_static.")]
RealBag = Annotated[Path | None, typer.Option("--bag", help="Recording with real labels, to score on.")]
RealLabels = Annotated[Path | None, typer.Option("--labels", help="Folder of its <stamp_ns>.npz label files.")]
DEFAULT_MODEL = "indoor-24x64"


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: Out = Path("demo"),
    model: Model = DEFAULT_MODEL,
    seed: Annotated[int, typer.Option(help="Building; 75 to 99 were never used in training.")] = 75,
    rig: Annotated[str, typer.Option(help="ouster16 or vlp32.")] = "ouster16",
    seconds: Annotated[float, typer.Option(min=2, help="Length of the walk.")] = 20.0,
) -> None:
    """Simulate a building, send its scans over real ROS 2 topics, label them live, draw pictures."""
    from xkd_ros.pipeline.demo import run_demo

    run_demo(out=out, model=find_model(model), seed=seed, rig=rig, seconds=seconds)


@app.command()
def simulate(
    out: Out,
    seed: Annotated[int, typer.Option(min=0, help="Building: 0-59 train, 60-74 validation, 75-99 test.")] = 75,
    rig: Annotated[str, typer.Option(help="ouster16, vlp32 or a rig YAML.")] = "ouster16",
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of the walk.")] = 20.0,
) -> None:
    """Walk a simulated rig through a simulated building and write a ROS 2 bag with true labels beside it."""
    from xkd_ros.pipeline.simulation import run_simulation

    run_simulation(seed=seed, rig=rig, seconds=seconds, out=out)


@app.command()
def inspect(bag: BagPath, topic: PointsTopic = None, rig: RigPath = None) -> None:
    """Say what a recording holds, what pairs, what is missing for segmentation and for training, and what to do."""
    from xkd_ros.pipeline.inspection import print_inspection

    print_inspection(bag, topic, rig)


@app.command()
def calib(
    bag: BagPath,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Rig YAML to write, or the picture with --check.")] = None,
    topic: PointsTopic = None,
    rig: RigPath = None,
    check: Annotated[bool, typer.Option("--check", help="Draw the points over an image, coloured by depth.")] = False,
) -> None:
    """Write the rig of a recording as YAML, or check a calibration by eye."""
    from xkd_ros.pipeline.inspection import write_overlay, write_rig

    if check:
        write_overlay(bag, rig, out or Path("calibration.png"))
    else:
        write_rig(bag, out or Path("rig.yaml"), topic, rig)


@app.command()
def label(
    bag: BagPath,
    out: Out,
    model: Model = DEFAULT_MODEL,
    pictures: Annotated[Path | None, typer.Option(help="Also draw each labelled scan into this folder.")] = None,
    topic: PointsTopic = None,
    backend: Annotated[str, typer.Option(help="auto, torch, onnxruntime or tensorrt.")] = "auto",
    threads: Threads = None,
) -> None:
    """Label a recording offline: every original topic is copied and the labelled cloud is written beside it."""
    from xkd_ros.pipeline.labelling import label_bag

    label_bag(bag, out, find_model(model), pictures=pictures, topic=topic, backend=backend, threads=threads)


@app.command()
def validate(
    model: Model = DEFAULT_MODEL,
    bag: RealBag = None,
    labels: RealLabels = None,
    seeds: Annotated[str, typer.Option(help="Simulated buildings as first-last; empty for none.")] = "60-74",
    json: Json = None,
) -> None:
    """Score a model on simulated validation buildings and on really labelled scans, also tilted, dimmed and thinned."""
    from xkd_ros.pipeline.validation import run_validation

    run_validation(find_model(model), bag, labels, seeds, json)


@app.command("train-sim")
def train_sim(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML such as config/train/indoor-24x64.yaml.")],
    out: Out,
    work: Annotated[Path, typer.Option(help="Scans, checkpoint and log; give it again to resume.")] = Path("runs/train-sim"),
    threads: Threads = None,
    bag: RealBag = None,
    labels: RealLabels = None,
) -> None:
    """Train a student on simulated buildings with their true labels; start under torchrun for several processes."""
    from xkd_ros.core.config import load_yaml
    from xkd_ros.pipeline.simulated_training import SimulatedTrainingConfig, train_simulated

    real = (bag, labels) if bag is not None and labels is not None else None
    train_simulated(load_yaml(config, SimulatedTrainingConfig), work, out, threads, real)


@app.command()
def export(model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder with student.safetensors.")]) -> None:
    """Write the ONNX graphs of a model and check them against torch; nothing is written that disagrees."""
    from xkd_ros.export.onnx_export import export_onnx

    Console().print(export_onnx(model))


@bench.command("model")
def bench_model(
    reference: Annotated[Path | None, typer.Option(help="Checkout of the public WaffleIron, timed beside ours.")] = None,
    depth: int = 24,
    width: int = 64,
    points: Annotated[str, typer.Option(help="Voxel counts, comma separated.")] = "3000,6000,11000",
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Time the network alone."""
    from xkd_ros.pipeline.bench import run_bench_model

    run_bench_model(reference=reference, depth=depth, width=width, points=points, threads=threads, json=json)


@bench.command("preprocess")
def bench_preprocess(threads: Threads = None, json: Json = None) -> None:
    """Time what happens before the network."""
    from xkd_ros.pipeline.bench import run_bench_preprocess

    run_bench_preprocess(threads=threads, json=json)


@bench.command("node")
def bench_node(
    model: Model = DEFAULT_MODEL,
    bag: Annotated[Path | None, typer.Option(help="Recording to play; default: a simulated walk.")] = None,
    seconds: Annotated[float, typer.Option(min=3)] = 20.0,
    json: Json = None,
) -> None:
    """Time the whole node: DDS in, DDS out, player and subscriber in other processes, as fast as keep-latest allows."""
    from xkd_ros.pipeline.bench_node import run_bench_node

    run_bench_node(model=find_model(model), bag=bag, seconds=seconds, json=json)


def main() -> None:
    """Run the command; an expected error is one line on stderr and exit code 1."""
    try:
        app()
    except XkdError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

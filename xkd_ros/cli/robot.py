"""Commands for recordings and robots: demo, doctor, simulate, inspect, calib, label, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xkd_ros.cli.options import DEFAULT_MODEL, BagPath, Headings, Json, Model, Out, PointsTopic, RealBag, RealLabels, RigPath, Threads
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.share import find_model

app = typer.Typer()
RIGS = "ouster16, vlp32, xt32_handheld, dual_ouster16_horizontal, dual_ouster16_vertical"


@app.command()
def demo(
    out: Out = Path("demo"),
    model: Model = DEFAULT_MODEL,
    seed: Annotated[int, typer.Option(help="Building; 75 to 99 were never used in training.")] = 75,
    rig: Annotated[str, typer.Option(help=f"{RIGS}.")] = "ouster16",
    seconds: Annotated[float, typer.Option(min=2, help="Length of the walk.")] = 20.0,
) -> None:
    """Simulate a building, send its scans over real ROS 2 topics, label them live, draw pictures."""
    from xkd_ros.pipeline.demo import run_demo

    run_demo(out=out, model=find_model(model), seed=seed, rig=rig, seconds=seconds)


@app.command()
def simulate(
    out: Out,
    seed: Annotated[str, typer.Option(help="Building: 0-59 train, 60-74 validation, 75-99 test; or a range such as 0-59.")] = "75",
    rig: Annotated[
        str, typer.Option(help=f"{RIGS}, varied (another for every building), or a rig YAML; commas between several.")
    ] = "ouster16",
    seconds: Annotated[float, typer.Option(min=0.2, help="Length of the walk.")] = 20.0,
    every: Annotated[int, typer.Option(min=1, help="Write each n-th scan only: the same building in fewer frames.")] = 1,
    walkers: Annotated[int, typer.Option(min=0, help="People added who walk about near the rig.")] = 2,
    pictures: Annotated[bool, typer.Option(help="Let the rig's cameras take pictures; most of the time goes into them.")] = True,
) -> None:
    """Walk a simulated rig through a simulated building and write a ROS 2 bag with true labels beside it.

    With a range of buildings or several rigs, OUT is a folder with a recording for each: what `xkd learn` takes.
    """
    from xkd_ros.pipeline.simulation import run_simulation, run_simulations
    from xkd_ros.pipeline.walks import Walk, read_seeds

    seeds, rigs = read_seeds(seed), [name.strip() for name in rig.split(",")]
    walks = [Walk(name, number, seconds, every, pictures, walkers) for name in rigs for number in seeds]
    if len(walks) == 1:
        run_simulation(walks[0], out)
    else:
        run_simulations(walks, out)


@app.command()
def inspect(bag: BagPath, topic: PointsTopic = None, rig: RigPath = None) -> None:
    """Say what a recording holds, what pairs, what is missing for segmentation and for training, and what to do."""
    from xkd_ros.pipeline.inspection import print_inspection

    print_inspection(bag, topic, rig)


@app.command()
def calib(
    bag: BagPath,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Rig YAML to write (rig.yaml), or with --check the picture (calibration.png)."),
    ] = None,
    topic: PointsTopic = None,
    rig: RigPath = None,
    check: Annotated[bool, typer.Option("--check", help="Draw the points over an image, coloured by depth.")] = False,
) -> None:
    """Write the rig of a recording as YAML, or check a calibration by eye."""
    from xkd_ros.pipeline.inspection import write_overlay, write_rig

    if check:
        write_overlay(bag, rig, out or Path("calibration.png"), topic)
    else:
        write_rig(bag, out or Path("rig.yaml"), topic, rig)


@app.command()
def label(
    bag: BagPath,
    out: Out,
    model: Model = DEFAULT_MODEL,
    pictures: Annotated[Path | None, typer.Option(help="Also draw each labelled scan into this folder.")] = None,
    ply: Annotated[Path | None, typer.Option(help="Also write each labelled scan into this folder as PLY, with colours.")] = None,
    kitti: Annotated[Path | None, typer.Option(help="Also write the scans into this new folder as a SemanticKITTI sequence.")] = None,
    topic: PointsTopic = None,
    backend: Annotated[str, typer.Option(help="auto, numba, torch, torch-bf16, onnxruntime, tensorrt or cuda.")] = "auto",
    threads: Threads = None,
    fused: Annotated[bool, typer.Option("--fused", help="Look at the pictures too, by the fused head of a model of recipe xmodel")] = False,
    teacher: Annotated[str | None, typer.Option(help="Image teacher of --fused: the one that the model was trained with.")] = None,
    rig: RigPath = None,
    headings: Headings = 1,
) -> None:
    """Label a recording offline: every original topic is copied and the labelled cloud is written beside it."""
    from xkd_ros.pipeline.labelling import label_bag
    from xkd_ros.teacher.model_folder import DEFAULT_TEACHER

    if teacher is not None and not fused:
        raise ConfigError("--teacher is of the fused head: give --fused too")
    asked, folder = (teacher or DEFAULT_TEACHER) if fused else None, find_model(model)
    label_bag(bag, out, folder, pictures, topic, backend, threads, teacher=asked, rig=rig, ply=ply, kitti=kitti, headings=headings)


@app.command()
def validate(
    model: Model = DEFAULT_MODEL,
    bag: RealBag = None,
    labels: RealLabels = None,
    seeds: Annotated[str, typer.Option(help="Simulated buildings as first-last; empty for none.")] = "60-74",
    json: Json = None,
    remember_entropy: Annotated[bool, typer.Option("--remember-entropy", help="Keep the mean entropy in the card, for the node.")] = False,
    headings: Headings = 1,
    rig: Annotated[Path | None, typer.Option("--rig", help="Rig YAML with the lidar's mounting, where --bag does not hold it.")] = None,
) -> None:
    """Score a model on simulated validation buildings and on really labelled scans, also tilted, dimmed and thinned."""
    from xkd_ros.pipeline.validation import run_validation

    run_validation(find_model(model), bag, labels, seeds, json, remember_entropy, headings, rig)


@app.command()
def doctor(
    model: Annotated[str | None, typer.Option("--model", "-m", help="Look at this model instead of those of the package.")] = None,
    json: Json = None,
    run: Annotated[bool, typer.Option("--run", help="Let every backend label a scan; takes a minute the first time.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Remove shared memory of Fast DDS that killed processes left.")] = False,
) -> None:
    """Say on one page what this machine has, what will be used, what is wrong, and what to install for what."""
    from xkd_ros.pipeline.doctor.page import run_doctor

    raise typer.Exit(run_doctor(model, json, run, clean))

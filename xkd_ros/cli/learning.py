"""Commands that learn: the whole way from bags to a model, each stage by itself, teachers, and training on simulated truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from xkd_ros.cli.options import Out, RealBag, RealLabels, Threads
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.share import find_model

app = typer.Typer()

Bags = Annotated[list[Path], typer.Argument(metavar="BAG...", help="Recordings: rosbag2 folders, .mcap, .db3 or ROS 1 .bag files.")]
Rigs = Annotated[list[Path] | None, typer.Option("--rig", help="Rig YAML for what the bags lack; repeat it for several rigs.")]
Labels = Annotated[Path | None, typer.Option("--labels", help="Real labels by stamp, for evaluation; --set labels=given learns from them.")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="YAML such as config/train/learn.yaml; default: built in.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. finetune.epochs=5; repeatable.")]
Recipe = Annotated[str | None, typer.Option(help="indoor, scalr, scalr_plus (as published); or a method: ignet, partdistill, xmodel.")]
Teacher = Annotated[str | None, typer.Option(help="Image teacher to distil: folder, hub id, or sim2d-indoor12.")]
LabelTeacher = Annotated[str | None, typer.Option(help="Image teacher that names classes for the labels; default: the one of --teacher.")]
Start = Annotated[Path | None, typer.Option(help="Model folder, or public WaffleIron checkpoint, to fine-tune instead of distilling.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, such as runs/site.")]
Redo = Annotated[list[str] | None, typer.Option(help="Stage to make again, with all that follow; `stale`: what was made otherwise.")]
Progress = Annotated[Path | None, typer.Option("--progress", help="Also write progress to this file, one JSON object a line.")]


@app.command()
def learn(
    bags: Bags,
    out: Out,
    work: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME, the last part of OUT. Give it again to go on.")] = None,
    rig: Rigs = None,
    labels: Labels = None,
    config: Config = None,
    changes: Set = None,
    recipe: Recipe = None,
    teacher: Teacher = None,
    label_teacher: LabelTeacher = None,
    start: Start = None,
    redo: Redo = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and the disk it needs, and stop.")] = False,
    progress: Progress = None,
    threads: Threads = None,
) -> None:
    """Learn to label lidar scans from recordings, without one manual label, and write the model.

    Frames, teacher, distillation, pseudo-labels, probe, fine-tuning, evaluation, export: what is done is skipped, an interrupted run
    goes on. Several GPUs or processes: `torchrun --nproc-per-node=2 -m xkd_ros.cli learn ...`.
    """
    from xkd_ros.pipeline.learn import learn as run
    from xkd_ros.pipeline.learn_config import read_config
    from xkd_ros.pipeline.learning import Sources

    _limit(threads)
    settings = read_config(config, changes or (), recipe=recipe, teacher=teacher, label_teacher=label_teacher, start=_beginning(start))
    sources = Sources(tuple(bags), tuple(rig or ()), labels)
    run(settings, sources, work or Path("runs") / out.name, out, redo=redo or (), dry_run=dry_run, progress_file=progress)


@app.command()
def pairs(
    bags: Bags,
    work: Annotated[Path, typer.Option(help="Run folder to begin.")],
    rig: Rigs = None,
    labels: Labels = None,
    config: Config = None,
    changes: Set = None,
    recipe: Recipe = None,
    teacher: Teacher = None,
    label_teacher: LabelTeacher = None,
    start: Start = None,
    redo: Redo = None,
) -> None:
    """Begin a run: pair scans and images, split them into train, val and test, store them. First stage of `learn`."""
    from xkd_ros.pipeline.learn import learn as run
    from xkd_ros.pipeline.learn_config import read_config
    from xkd_ros.pipeline.learning import Sources

    settings = read_config(config, changes or (), recipe=recipe, teacher=teacher, label_teacher=label_teacher, start=_beginning(start))
    run(settings, Sources(tuple(bags), tuple(rig or ()), labels), work, None, only=("frames",), redo=redo or ())


def _beginning(start: Path | None) -> str | None:
    """Find what to start from: a checkpoint, a model folder, or a model that comes with the package."""
    return None if start is None else str(start if start.is_file() else find_model(start))


def _stage(name: str, stage: str, text: str) -> None:
    def command(run: Run, changes: Set = None, redo: Annotated[bool, typer.Option("--redo", help="Make it again.")] = False) -> None:
        from xkd_ros.pipeline.learn import learn as start
        from xkd_ros.pipeline.learn import load_run

        settings, sources = load_run(run, changes or ())
        start(settings, sources, run, None, only=(stage,), redo=(stage,) if redo else ())

    command.__doc__ = f"{text} Stage of `learn`."
    app.command(name)(command)


for _name, _folder, _text in (
    ("targets", "targets", "Ask the image teacher about every point that a camera sees."),
    ("distill", "distill", "Teach the student to say at each point what the teacher says at its pixel."),
    ("pseudo", "pseudo", "Choose the teacher's labels that can be trusted."),
    ("probe", "probe", "Train a linear classifier on the frozen student."),
    ("finetune", "finetune", "Train all of the student on the pseudo-labels."),
    ("eval", "evaluation", "Calibrate, score on held-out frames, draw the report."),
):
    _stage(_name, _folder, _text)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="Run folder of `learn`, or a model folder with student.safetensors.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Model folder to write, for a run folder.")] = None,
    tensorrt: Annotated[bool, typer.Option("--tensorrt", help="Build the engine of a model for this machine's GPU, for the node.")] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="With --tensorrt: later TensorRT versions load the engine too; may be slower.")
    ] = False,
) -> None:
    """Write the model folder of a run, or the ONNX graphs of a model; both are checked against torch first.

    With --tensorrt, on the robot: build the TensorRT engine of a model, compare it with torch, and keep it where the node finds it.
    """
    if tensorrt:
        from xkd_ros.export.tensorrt_engine import export_engine

        Console().print(export_engine(find_model(source), version_compatible), soft_wrap=True)
        return
    if version_compatible:
        raise ConfigError("--version-compatible is about engines: give --tensorrt too")
    from xkd_ros.export.onnx_export import export_onnx
    from xkd_ros.pipeline.learn import RUN_FILE, load_run
    from xkd_ros.pipeline.learn import learn as start

    if (source / RUN_FILE).is_file():
        settings, sources = load_run(source)
        start(settings, sources, source, out, only=("export",), redo=("export",))
    elif out is not None:
        raise ConfigError(f"-o is for run folders, and {source} is none: the graphs of a model are written into its own folder")
    else:
        Console().print(export_onnx(find_model(source)))


@app.command()
def adapt(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder, or the name of one that comes with the package.")],
    bags: Bags,
    out: Out,
    work: Annotated[Path | None, typer.Option(help="Frames and checkpoint; default runs/NAME, the last part of OUT.")] = None,
    rig: Rigs = None,
    teacher: Annotated[str | None, typer.Option(help="Image teacher that names classes: folder, hub id; default: sim2d-indoor12.")] = None,
    changes: Set = None,
    progress: Progress = None,
    threads: Threads = None,
) -> None:
    """Adapt a model to a new place from its first minutes there, with its camera; no label is needed.

    The backbone stays, the head learns. Where the agreement with held-out image labels falls, the model stays as it is.
    """
    from xkd_ros.pipeline.adapting import adapt_model

    _limit(threads)
    lines = [*([f"teacher={teacher}"] if teacher else []), *(changes or ())]
    adapt_model(find_model(model), bags, out, work or Path("runs") / out.name, rig or (), lines, progress)


@app.command()
def report(
    run: Run,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="HTML file; default: report.html in the run folder.")] = None,
) -> None:
    """Draw a run as one self-contained page: tables, curves, confusion matrix, best and worst scans."""
    from xkd_ros.pipeline.report import run_report

    run_report(run, out)


@app.command()
def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="scalr, rigs, pseudo_vs_real, teachers, depth, temporal, ignet, ...")],
    small: Annotated[bool, typer.Option("--small", help="The size for 2 CPU cores instead of one GPU.")] = False,
    cells: Annotated[int | None, typer.Option(min=0, help="Do so many cells and stop; 0 only prints the tables.")] = None,
    only: Annotated[str, typer.Option(help="Names of the cells to do, as in a shell: 'ignet-seed[01]'.")] = "*",
    steps: Annotated[
        int | None, typer.Option(min=1, help="A pilot: so many steps of fine-tuning, one seed; results go to WORK/pilots alone.")
    ] = None,
    work: Annotated[Path, typer.Option(help="What cells share; costs only time to make again.")] = Path("runs/studies"),
    teacher: Annotated[list[str] | None, typer.Option(help="Image teacher; repeat it for the study `teachers`.")] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Show which cells are done, and stop.")] = False,
) -> None:
    """Compare on simulated buildings, with intervals and the published numbers beside ours; goes on where it stopped."""
    from xkd_ros.pipeline.learn_config import DEFAULT_TEACHER
    from xkd_ros.pipeline.studies.queue import run_study

    run_study(name, small, cells, work, teacher or (DEFAULT_TEACHER,), only_list, only=only, steps=steps)


@app.command()
def teach2d(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML such as config/train/teach2d.yaml.")],
    out: Out,
    work: Annotated[Path, typer.Option(help="Pictures, checkpoint and log; give it again to resume.")] = Path("runs/teach2d"),
    processes: Annotated[int | None, typer.Option(min=1, help="Rendering processes; default: all cores.")] = None,
    threads: Threads = None,
) -> None:
    """Train the image teacher `sim2d` on rendered pictures of textures that no building shows."""
    from xkd_ros.core.config import load_yaml
    from xkd_ros.pipeline.teach2d import Teach2dConfig
    from xkd_ros.pipeline.teach2d import teach2d as run

    _limit(threads)
    run(load_yaml(config, Teach2dConfig), work, out, processes)


@app.command("train-sim")
def train_sim(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML such as config/train/indoor-24x64.yaml.")],
    out: Out,
    work: Annotated[Path, typer.Option(help="Scans, checkpoint and log; give it again to resume.")] = Path("runs/train-sim"),
    threads: Threads = None,
    bag: RealBag = None,
    labels: RealLabels = None,
    start: Annotated[Path | None, typer.Option(help="Model folder to go on from, instead of random weights.")] = None,
) -> None:
    """Train a student on simulated buildings with their true labels; start under torchrun for several processes."""
    from xkd_ros.core.config import load_yaml
    from xkd_ros.pipeline.simulated_training import SimulatedTrainingConfig, train_simulated

    if (bag is None) != (labels is None):
        raise ConfigError("really labelled scans need both --bag and --labels")
    real = (bag, labels) if bag is not None and labels is not None else None
    train_simulated(load_yaml(config, SimulatedTrainingConfig), work, out, threads, real, None if start is None else find_model(start))


def _limit(threads: int | None) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)

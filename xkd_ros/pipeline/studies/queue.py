"""`xkd study NAME`: do the cells that are not done, print the tables, write the page."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from rich.table import Table

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import write_atomic
from xkd_ros.pipeline.learn_config import DEFAULT_TEACHER
from xkd_ros.pipeline.progress import console
from xkd_ros.pipeline.studies.bars import BARS_NAME, folder_of, write_bars
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.depth import DepthStudy
from xkd_ros.pipeline.studies.ignet import IgnetStudy
from xkd_ros.pipeline.studies.machine import describe_machine, describe_versions, leave_a_core
from xkd_ros.pipeline.studies.partdistill import PartDistillStudy
from xkd_ros.pipeline.studies.progress import StudyProgress
from xkd_ros.pipeline.studies.pseudo_vs_real import PseudoVsRealStudy
from xkd_ros.pipeline.studies.results import Results
from xkd_ros.pipeline.studies.rigs import RigsStudy
from xkd_ros.pipeline.studies.scale import FULL, SMALL, Scale
from xkd_ros.pipeline.studies.scalr import ScalrStudy
from xkd_ros.pipeline.studies.study import Study, notes_on
from xkd_ros.pipeline.studies.teachers import TeachersStudy
from xkd_ros.pipeline.studies.temporal import TemporalStudy
from xkd_ros.pipeline.studies.trial import Trial
from xkd_ros.pipeline.studies.workshop import Workshop, name_teachers
from xkd_ros.pipeline.studies.xmodel import XModelStudy
from xkd_ros.train.engine import make_fabric

_LABELS = (ScalrStudy(), RigsStudy(), PseudoVsRealStudy(), TeachersStudy(), DepthStudy())
_METHODS = (IgnetStudy(), PartDistillStudy(), XModelStudy())
STUDIES: dict[str, Study] = {study.name: study for study in (*_LABELS, *_METHODS, TemporalStudy())}
WORK, RESULTS = Path("runs/studies"), Path("docs/studies")


def run_study(
    name: str,
    small: bool = False,
    cells: int | None = None,
    work: Path = WORK,
    teachers: Sequence[str] = (DEFAULT_TEACHER,),
    only_list: bool = False,
    out: Path = RESULTS,
    scale: Scale | None = None,
    only: str = "*",
    steps: int | None = None,
) -> None:
    """Do cells of a study until all are done, or as many as are asked for.

    Args:
        name: One of `STUDIES`.
        small: The size for 2 CPU cores instead of the one for a GPU.
        cells: Do this many and stop; None does all.
        work: Recordings, frames, backbones: what cells share. The same command goes on where it stopped.
        teachers: Folders or hub ids; the first gives the labels of all studies, `teachers` compares all of them.
        only_list: Show what is done and what is not, and stop.
        out: Results go to `<out>/<name>[-small]/`, the page beside it.
        scale: Sizes of one's own instead of `small`.
        only: Pattern of the names of cells to do, as in a shell.
        steps: A pilot of so many steps of fine-tuning, with one seed; its results stay in `<work>/pilots`, apart from the others.
    Raises:
        ConfigError: unknown study or teacher, results of other definitions or class maps.
        XkdError: whatever a cell finds.
    """
    if name not in STUDIES:
        raise ConfigError(f"there is no study '{name}'; studies are {', '.join(STUDIES)}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("a study runs in one process: start it without torchrun")
    study, scale = STUDIES[name], scale or (SMALL if small else FULL)
    command = f"xkd study {folder_of(name, scale.name).replace('-', ' --')}"
    if steps is not None:
        scale, out, command = scale.pilot(steps), work / "pilots", f"{command} --steps {steps}"
    queue = study.cells(scale, list(name_teachers(teachers)))
    folder = folder_of(name, scale.name)
    results, page = Results(out / folder), out / f"{folder}.md"
    done = results.of(queue)
    if only_list:
        console.print(list_cells(queue, results))
        return
    if not any(fnmatchcase(cell.name, only) for cell in queue):
        raise ConfigError(f"no cell of study {name} is named like '{only}'; its cells are {', '.join(cell.name for cell in queue)}")
    finished = {result.cell.name for result in done}
    waiting = [cell for cell in queue if cell.name not in finished and fnmatchcase(cell.name, only)][:cells]
    if waiting:
        fabric = make_fabric()
        fabric.launch()
        with StudyProgress(len(queue), [result.seconds for result in done]).shown() as progress:
            workshop = Workshop(work, scale, teachers, fabric, progress)
            # A teacher that cannot be loaded should not show after an hour of simulation.
            for teacher in dict.fromkeys(cell.parameters["teacher"] for cell in waiting if "teacher" in cell.parameters):
                workshop.teacher(teacher)
            for cell in waiting:
                progress.begin(cell.name)
                result = do_cell(study, cell, workshop)
                results.save(result)
                progress.end(result.seconds)
                progress.say(f"{cell.name}: done in {result.seconds:.0f} s, and {result.shared_seconds:.0f} s for what cells share")
                write_atomic(page, write_page(study, queue, results.of(queue), folder, command))
    done = results.of(queue)
    for table in study.tables(done):
        console.print(table.rich())
    write_atomic(page, write_page(study, queue, done, folder, command))
    if steps is None:
        write_atomic(out / BARS_NAME, write_bars(STUDIES, list(name_teachers(teachers)), out))
    console.print(f"{len(done)} of {len(queue)} cells are done; {page}", highlight=False, soft_wrap=True)


def do_cell(study: Study, cell: Cell, workshop: Workshop) -> CellResult:
    """Do one cell and keep its time and place."""
    leave_a_core(workshop.fabric.device)
    started, shared_s = time.monotonic(), workshop.shared_s
    trial = Trial(workshop, f"{cell.study}-{cell.name}-{cell.key}")
    outcome = study.run(cell, workshop, trial)
    shared_s = workshop.shared_s - shared_s
    trial.clear()
    return CellResult(
        cell=cell,
        key=cell.key,
        class_hash=outcome.class_hash,
        inputs=outcome.inputs,
        metrics=outcome.metrics,
        seconds=round(time.monotonic() - started - shared_s, 1),
        shared_seconds=round(shared_s, 1),
        machine=describe_machine(workshop.fabric.device),
        versions=describe_versions(),
    )


def list_cells(queue: Sequence[Cell], results: Results) -> Table:
    """Show each cell and whether it is done."""
    table = Table()
    for column in ("", "cell", "state", "seconds", "shared seconds", "device"):
        table.add_column(column, justify="right" if "seconds" in column else "left")
    for number, cell in enumerate(queue, 1):
        result = results.find(cell)
        facts = ("to do", "", "", "") if result is None else _facts(result)
        table.add_row(str(number), cell.name, *facts)
    return table


def write_page(study: Study, queue: Sequence[Cell], results: Sequence[CellResult], title: str, command: str) -> str:
    """Write a study's page from its results alone, so that no figure is typed by hand."""
    scale = queue[0].scale
    network = scale["network"]
    setting = f"{_span(scale['val_buildings'])}, in textures that no training saw"
    if any("teacher" in cell.parameters for cell in queue):
        setting = (
            f"{_span(scale['train_buildings'])} to learn from, {_span(scale['val_buildings'])} to evaluate on (other textures); student of "
            f"{network['depth']} layers x {network['width']}"
        )
    lines = [
        f"# Study {title}",
        "",
        f"Written by `{command}` from the cells in `{title}/`: {len(results)} of {len(queue)} are done.",
        "",
        f"The claim: {study.claim}",
        "",
        f"Here: {study.protocol}",
        "",
        f"Simulated buildings {setting}. Figures are means over seeds with their 95 % interval "
        "(Student's t); differences are taken seed by seed.",
        "",
    ]
    lines += [table.markdown() for table in study.tables(results)]
    lines += [f"{note}\n" for note in notes_on(results)]
    return "\n".join(lines).rstrip() + "\n"


def _span(numbers: Sequence[int]) -> str:
    return f"{min(numbers)}-{max(numbers)}"


def _facts(result: CellResult) -> tuple[str, str, str, str]:
    return "done", f"{result.seconds:.0f}", f"{result.shared_seconds:.0f}", str(result.machine.get("device", ""))

"""`xkd learn`: from recordings to a model that labels their lidar, stage by stage; what is done is skipped, what is stale is refused."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.table import Table

from xkd_ros.bags.frame_writer import estimate_size
from xkd_ros.core.card import CARD_NAME, check_model_name, load_card
from xkd_ros.core.config import change, load_yaml, validate
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import sha256, write_atomic
from xkd_ros.distill.methods import FINETUNE
from xkd_ros.pipeline.input_files import mark, outside_files
from xkd_ros.pipeline.learn_config import LearnConfig
from xkd_ros.pipeline.learn_progress import LearnProgress
from xkd_ros.pipeline.learn_stages import NAMES, STAGES, Stage, with_readers, with_sources
from xkd_ros.pipeline.learned_model import write_learned_model
from xkd_ros.pipeline.learning import SHOWN, Learning, Result, Sources
from xkd_ros.pipeline.progress import console
from xkd_ros.pipeline.run_folder import RunFolder, StageRecord, stage_key
from xkd_ros.pipeline.teacher_specs import check_names
from xkd_ros.train.engine import make_fabric

RUN_FILE = "learn.json"
STALE = "stale"
_WAIT_S = 0.5


class RunRecord(BaseModel):
    """`learn.json`: what a run folder was begun with, so that single stages need no more than the folder.

    Attributes:
        bags, rigs, labels: As in `Sources`.
        config: Settings of `LearnConfig` as they were given; without what its recipe says, which another recipe could not change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bags: tuple[Path, ...]
    rigs: tuple[Path, ...] = ()
    labels: Path | None = None
    config: dict[str, Any]


def learn(
    config: LearnConfig,
    sources: Sources,
    work: Path,
    out: Path | None,
    *,
    only: Sequence[str] = NAMES,
    redo: Sequence[str] = (),
    dry_run: bool = False,
    progress_file: Path | None = None,
) -> None:
    """Run the stages that are not done.

    Args:
        config: Settings of all stages.
        sources: Recordings, rig files, real labels for evaluation.
        work: Run folder; the same command goes on where an earlier one stopped.
        out: Model folder; needed by the stage `export`.
        only: Stages to run; those they read must be done, with these settings.
        redo: Stages to make again, with everything that reads them; "stale" stands for those made from other inputs or settings.
        dry_run: Print the plan and stop.
        progress_file: Lines of JSON for whoever watches; see `LearnProgress`.
    Raises:
        ConfigError: unknown stages, stale work, or a stage whose inputs are missing.
        XkdError: whatever a stage finds, in one line.
    """
    unknown = sorted({*only, *(set(redo) - {STALE})} - set(NAMES))
    if unknown:
        raise ConfigError(f"there is no stage '{unknown[0]}'; stages are {', '.join(NAMES)}")
    if "export" in only and out is None:
        raise ConfigError("the stage export needs -o MODEL_FOLDER, such as -o models/site")
    if "targets" in only:
        check_names(config)
    run = RunFolder(work)
    if "export" in only and out is not None:
        check_model_name(out)
        if (out / CARD_NAME).is_file() and not run.was_begun("export"):
            raise ConfigError(f"{out} holds a model of another run; choose another folder with -o, or remove it")
    fabric = make_fabric(config.distill.precision)
    if not dry_run:
        fabric.launch()
    job = _Job(config, sources, run, Learning(config, sources, work, fabric), out)
    # Only the first process plans; another would read records that it is deleting.
    if STALE in redo and fabric.is_global_zero:
        redo = [*(name for name in redo if name != STALE), *(name for name in only if job.state(name) == "stale")]
    if fabric.is_global_zero and not dry_run:
        # Before the folder is touched: `learn.json` goes on saying what the work in it was made with.
        job.refuse_stale([name for name in with_sources(only) if name not in with_readers(redo)])
        run.forget(with_readers(redo))
        record = RunRecord(bags=sources.bags, rigs=sources.rigs, labels=sources.labels, config=config.given)
        write_atomic(work / RUN_FILE, record.model_dump_json(indent=1) + "\n")
    if not dry_run:
        # No other process may take a record for done that the first one is about to delete: they would wait for each other for ever.
        fabric.barrier()
    if fabric.is_global_zero:
        console.print(job.plan(only, set(with_readers(redo)) if dry_run else set()))
        if dry_run and "frames" in only and job.state("frames") != "done":
            for line in estimate_size(sources.bags, config.frames, list(sources.rigs) or None, work, sources.labels).lines:
                console.print(line, highlight=False)
    if dry_run:
        return
    chosen = [stage for stage in STAGES if stage.name in only]
    with LearnProgress(len(chosen), progress_file, quiet=not fabric.is_global_zero).shown() as progress:
        for index, stage in enumerate(chosen):
            progress.start(stage.name, index)
            job.run(stage, progress)


def load_run(work: Path, changes: Sequence[str] = ()) -> tuple[LearnConfig, Sources]:
    """Read what a run folder was begun with.

    Args:
        work: Run folder.
        changes: `key=value` lines over its configuration.
    Raises:
        ConfigError: no run folder, or changes that mean nothing.
    """
    if not (work / RUN_FILE).is_file():
        raise ConfigError(f"{work} is no run folder (it has no {RUN_FILE}); begin one with `xkd pairs BAG... --work {work}` or `xkd learn`")
    record = load_yaml(work / RUN_FILE, RunRecord)
    where = f"{work / RUN_FILE}{' with --set' if changes else ''}"
    config = validate(change(record.config, changes), LearnConfig, where)
    return config, Sources(record.bags, record.rigs, record.labels)


class _Job:
    """One call of `learn`."""

    def __init__(self, config: LearnConfig, sources: Sources, run: RunFolder, learning: Learning, out: Path | None) -> None:
        self._config, self._sources, self._run, self._learning, self._out = config, sources, run, learning, out
        # Gigabytes of weights are read once.
        self._mark = cache(mark)

    def state(self, name: str) -> str:
        """Say whether a stage is done, begun, to do, stale, or waiting for what it reads."""
        stage = STAGES[NAMES.index(name)]
        inputs = self._inputs(stage)
        if inputs is None:
            return "waiting"
        state = self._run.state(name, self._key(stage, inputs))
        gone = name == "export" and self._out is not None and not (self._out / CARD_NAME).is_file()
        return "to do" if state == "done" and gone else state

    def refuse_stale(self, names: Sequence[str]) -> None:
        """Refuse stages that hold work made from something else.

        Args:
            names: Stages to run, and those that they read: a student on a stale backbone would get a card that lies about it.
        Raises:
            ConfigError: names the first one and what differs.
        """
        for stage in STAGES:
            if stage.name in names and (inputs := self._inputs(stage)) is not None:
                self._run.refuse_stale(stage.name, self._key(stage, inputs), inputs)

    def plan(self, only: Sequence[str], redo: set[str]) -> Table:
        """Show what will happen."""
        table = Table(title=f"learning in {self._run.path}", title_justify="left")
        for column in ("", "stage", "what", "from", "state"):
            table.add_column(column)
        for number, stage in enumerate(STAGES, 1):
            state = "again" if stage.name in redo else self.state(stage.name)
            shown = {"waiting": "to do", "begun": "goes on"}.get(state, state) if stage.name in only else f"not now ({state})"
            came = ", ".join(stage.reads) or f"{len(self._sources.bags)} recording{'s' * (len(self._sources.bags) != 1)}"
            start = self._config.start if stage.name == "distill" else None
            what, came = (stage.what, came) if start is None else ("take the backbone of a model", str(start))
            table.add_row(str(number), stage.name, what, came, shown)
        network, tuned, teachers = self._config.network, self._config.finetune, " and ".join(self._config.teachers)
        passes = ", ".join(
            f"{name} {f'{stage.steps} steps' if stage.steps else f'{stage.epochs:g} epochs'} of {stage.batch} scans"
            for name, stage in (("distill", self._config.distill), ("finetune", tuned))
        )
        method = "" if tuned.method == FINETUNE else f" + {tuned.method}"
        table.caption = (
            f"recipe {self._config.recipe}{method}; {network.depth} layers x {network.width}; teacher {teachers}; "
            f"labels {self._config.labels}; {passes}"
        )
        table.caption_justify = "left"
        return table

    def run(self, stage: Stage, progress: LearnProgress) -> None:
        """Do one stage unless it is done."""
        first = self._learning.fabric.is_global_zero
        lacking = [name for name in stage.reads if self.state(name) != "done"]
        inputs = self._inputs(stage)
        if lacking or inputs is None:
            raise ConfigError(f"{stage.name} needs {' and '.join(lacking)} in {self._run.path} first: `xkd {_COMMANDS[lacking[0]]}`")
        key = self._key(stage, inputs)
        if self.state(stage.name) == "done":
            progress(1, 1)
            return
        if first:
            self._run.begin(stage.name, key, inputs)
        if not first and not stage.everywhere:
            self._wait_for(stage.name)
            return
        started = time.monotonic()
        output, facts = self._work(stage.name)(progress)
        if first:
            seconds = round(time.monotonic() - started, 1)
            for line in facts.pop(SHOWN, []):
                progress.say(f"  {line}")
            self._run.finish(StageRecord(stage=stage.name, key=key, inputs=inputs, output=output, seconds=seconds, facts=facts))
            progress.say(f"{stage.name}: done in {seconds:.0f} s")
        else:
            self._wait_for(stage.name)

    def _work(self, name: str) -> Callable[[Any], Result]:
        if name != "export":
            return getattr(self._learning, name)
        assert self._out is not None
        out, record = self._out, self._run.record("evaluation")
        facts = {} if record is None else record.facts
        command = _command(self._config, self._sources, self._run.path, out)
        return lambda progress: write_learned_model(self._run.path, out, facts, command, progress)

    def _wait_for(self, name: str) -> None:
        # Not a barrier: writing frames or targets may take hours, longer than collectives wait.
        while self._run.record(name) is None:
            time.sleep(_WAIT_S)

    def _inputs(self, stage: Stage) -> dict[str, str] | None:
        records = {name: self._run.record(name) for name in stage.reads}
        if any(record is None for record in records.values()):
            return None
        outputs = {name: record.output for name, record in records.items() if record is not None}
        return {**outputs, **self._marks(stage.name)}

    def _marks(self, stage: str) -> dict[str, str]:
        """Mark what comes from outside the run folder; what is gone counts as it was, for a run goes on without its recordings."""
        known = self._run.inputs(stage)
        files = outside_files(stage, self._config, self._sources)
        marks = {name: self._mark(path) if path.exists() else known.get(name) for name, path in files.items()}
        return {name: found for name, found in marks.items() if found is not None}

    def _key(self, stage: Stage, inputs: dict[str, str]) -> str:
        settings: dict[str, Any] = self._config.model_dump(mode="json", include=set(stage.settings))
        if stage.name in ("distill", "probe", "finetune"):
            settings[stage.name] = getattr(self._config, stage.name).deciding()
        if stage.name == "frames":
            settings["sources"] = [path.name for path in (*self._sources.bags, *self._sources.rigs)]
        if stage.name == "distill" and self._config.start is not None:
            start = self._config.start
            settings["start"] = sha256(start) if start.is_file() else load_card(start).hash
        if stage.name in ("probe", "finetune") and self._config.labels != "pseudo":
            settings["labels"] = self._config.labels
        if stage.name == "targets" and Path(self._config.classes).expanduser().is_file():
            # Presets keep their names for good; a file of the user may say something else tomorrow.
            settings["class_map"] = self._learning.class_map.hash
        if stage.name == "export":
            settings["out"] = str(self._out)
        return stage_key(stage.name, settings, inputs)


_COMMANDS = {"frames": "pairs", "evaluation": "eval", **{name: name for name in NAMES if name not in ("frames", "evaluation")}}


def _command(config: LearnConfig, sources: Sources, work: Path, out: Path) -> str:
    """Write the command that makes this model again from its recordings."""
    words = [word for rig in sources.rigs for word in ("--rig", str(rig))]
    words += ["--labels", str(sources.labels)] if sources.labels else []
    words += [word for line in _lines(config.given) for word in ("--set", line)]
    # The recordings stand in the page by name and hash.
    return f"xkd learn BAG... {shlex.join([*words, '--work', str(work), '-o', str(out)])}"


def _lines(given: dict[str, Any], before: str = "") -> list[str]:
    """Write settings as `a.b=value`."""
    found = []
    for name, value in given.items():
        nested = isinstance(value, dict) and value
        found += _lines(value, f"{before}{name}.") if nested else [f"{before}{name}={json.dumps(value, default=str)}"]
    return found

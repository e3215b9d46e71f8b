"""One self-contained HTML page about a run: tables, curves, diagrams, and the scans worth looking at.

In: a run folder. Out: a page that needs no other file and no network. What a run lacks is said where it would stand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from xkd_ros.core.card import ModelCard
from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.labels import LabelSet
from xkd_ros.evaluate.evaluation import Evaluation
from xkd_ros.evaluate.page import Page
from xkd_ros.evaluate.pictures import draw_overlay, draw_scan
from xkd_ros.evaluate.plots import draw_confusion, draw_curves, draw_entropy, draw_reliability, draw_units
from xkd_ros.evaluate.report_tables import add_headline, add_tables, add_units, scores_by_label
from xkd_ros.evaluate.run_files import TRAINING_STAGES, RunFiles
from xkd_ros.evaluate.scan_sample import BEST, WORST, ScanSample, kept_scans, load_sample
from xkd_ros.evaluate.scores import FrameScore
from xkd_ros.metrics.unit_quality import UnitReport

Part = TypeVar("Part")


def write_report(run: RunFiles | Path, out: Path) -> list[str]:
    """Write the page.

    Args:
        run: Run folder.
        out: HTML file, written whole or not at all.
    Returns:
        One line for each part that the run lacks; the page holds the same lines.
    Raises:
        ConfigError: the run folder does not exist.
        MissingPackageError: matplotlib is not installed.
    """
    files = run if isinstance(run, RunFiles) else RunFiles(run)
    page, missing = Page(f"Run {files.name}"), _Missing()
    evaluation = missing.attempt(files.evaluation, page)
    card = missing.attempt(files.card, page)
    _header(page, evaluation, card)
    if evaluation is None:
        missing.say(page, "No evaluation yet: tables, diagrams and scans are left out; `xkd eval` makes them.")
    else:
        add_headline(page, evaluation)
        for label in add_tables(page, evaluation):
            missing.say(page, f"No {label} for these scans: the tables against them are left out.")
    _curves(page, files, missing)
    _units(page, files, evaluation, card, missing)
    if evaluation is not None:
        _diagrams(page, evaluation)
        _scans(page, files, evaluation, missing)
    _stages(page, files, missing)
    write_atomic(out, page.html)
    return missing.lines


class _Missing:
    """Collects what is left out, and writes it where it would stand."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, page: Page, line: str) -> None:
        self.lines.append(line)
        page.text(line, "missing")

    def attempt(self, read: Callable[[], Part], page: Page) -> Part | None:
        """Read a part; one that is damaged is left out like one that is absent."""
        try:
            return read()
        except XkdError as error:
            self.say(page, f"Left out: {error}")
            return None


def _header(page: Page, evaluation: Evaluation | None, card: ModelCard | None) -> None:
    rows: list[tuple[str, str]] = []
    if card is not None:
        network = card.network
        rows += [
            ("model", f"{card.name}: {network.depth} layers, width {network.width}, {network.classes} classes (card {card.hash})"),
            ("recipe", str(card.recipe.get("method") or card.recipe.get("recipe") or "not said")),
            ("sources", "; ".join(card.sources) or "not said"),
            ("licence", card.licence or "not said"),
        ]
    if evaluation is not None:
        scans = ", ".join(f"{count} of split {split}" for split, count in evaluation.scans.items())
        temperature = "of the model" if evaluation.temperature is None else f"{evaluation.temperature:.3f}"
        rows += [
            ("evaluated model", f"{evaluation.model or 'unnamed'} ({evaluation.model_hash or 'no hash'})"),
            ("scans", f"{scans or 'none'} (frames {evaluation.frames_hash})"),
            ("classes", f"{', '.join(evaluation.label_set.names)} (class map {evaluation.class_hash})"),
            ("temperature", temperature),
        ]
    page.facts(rows)


def _curves(page: Page, files: RunFiles, missing: _Missing) -> None:
    page.heading("Training")
    logs = missing.attempt(files.logs, page) or {}
    for stage in (*(stage for stage in logs if stage not in TRAINING_STAGES), *TRAINING_STAGES):
        picture = draw_curves(logs[stage]) if stage in logs else None
        if picture is None:
            # A run of one stage alone is whole without the three of `xkd learn`.
            if stage in logs or "training" not in logs:
                missing.say(page, f"No training log of stage {stage}: its curves are left out.")
            continue
        log = logs[stage]
        rate = log.curves.get("samples_per_s")
        facts = [f"step {log.last_step}" + (f" of {log.steps}" if log.steps else "")]
        facts += [f"{np.median(rate[:, 1]):.1f} samples/s (median)"] if rate is not None else []
        waiting = log.curves.get("waiting")
        facts += [f"{100 * waiting[-1, 1]:.0f} % of the time for batches"] if waiting is not None else []
        facts += [f"{log.broken} unreadable lines"] if log.broken else []
        page.picture(picture, f"{stage}: {', '.join(facts)}. Loss: thin as logged, thick its running median.")


def _units(page: Page, files: RunFiles, evaluation: Evaluation | None, card: ModelCard | None, missing: _Missing) -> None:
    """Most runs learn from no units, and lack nothing."""
    label_set = evaluation.label_set if evaluation is not None else card.labels if card is not None else None

    def read() -> UnitReport | None:
        report = files.unit_report()
        if report is not None and label_set is not None:
            report.check_classes(label_set.names)
        return report

    report = missing.attempt(read, page)
    if report is not None and label_set is not None:
        add_units(page, report, label_set)
        if report.origins:
            page.picture(draw_units(report, label_set.names), "Agreement of the student with the units of each class, and those it drops.")


def _diagrams(page: Page, evaluation: Evaluation) -> None:
    kinds = scores_by_label(evaluation)
    if kinds:
        page.heading("Confusion")
    for label, scores in kinds.items():
        caption = f"Against {label}: of the points of each labelled class (row), percent that were given each class."
        page.picture(draw_confusion(scores.all.confusion, scores.label_set.names), caption)
    if kinds:
        page.heading("Is the probability honest?")
    for label, scores in kinds.items():
        scaled = "as published" if evaluation.temperature is None else f"temperature {evaluation.temperature:.2f}"
        tables = {"temperature 1": scores.unscaled} if scores.unscaled else {}
        page.picture(
            draw_reliability({**tables, scaled: scores.reliability}),
            f"Against {label}. Bars: share that is right; orange: distance to the probability said; grey: share of points.",
        )
    page.heading("How sure")
    page.picture(draw_entropy(evaluation.entropy), "Entropy of every labelled point; the card keeps this as what is usual on this ground.")


def _scans(page: Page, files: RunFiles, evaluation: Evaluation, missing: _Missing) -> None:
    scored = evaluation.real or evaluation.pseudo
    scores = {score.number: score for score in scored.frames} if scored else {}
    kept = {kind: kept_scans(files.evaluation_folder, kind) for kind in (WORST, BEST)}
    if not any(kept.values()):
        missing.say(page, "No scans were kept with the evaluation: their pictures are left out.")
    for kind, paths in kept.items():
        known = [(scores[int(path.stem)], path) for path in paths if int(path.stem) in scores]
        if known:
            page.heading(f"{kind.capitalize()} scans")
        for score, path in sorted(known, key=lambda item: item[0].miou or 0.0, reverse=kind == BEST):
            sample = missing.attempt(partial(load_sample, path), page)
            for picture, caption in _draw(sample, score, evaluation.label_set) if sample is not None else ():
                page.picture(picture, caption)


def _draw(sample: ScanSample, score: FrameScore, label_set: LabelSet) -> list[tuple[bytes, str]]:
    columns = sample.columns()
    percent = "-" if score.miou is None else f"{100 * score.miou:.1f}"
    caption = f"Frame {score.number}: mIoU {percent} over {score.points} labelled points; rig {score.rig}, from {score.source}."
    with tempfile.TemporaryDirectory() as folder:
        path, photo = Path(folder) / "scan.png", Path(folder) / "camera.jpg"
        draw_scan(path, sample.points_m, columns, label_set)
        drawn = [(path.read_bytes(), caption)]
        if sample.rgb.size and len(sample.seen):
            seen = {name: labels[sample.seen] for name, labels in columns.items()}
            draw_overlay(photo, sample.rgb, sample.uv_px, seen, label_set)
            drawn.append((photo.read_bytes(), f"Frame {score.number} in its first camera: {len(sample.seen)} visible points."))
    return drawn


def _stages(page: Page, files: RunFiles, missing: _Missing) -> None:
    page.heading("Stages of the run")
    for stage, facts in files.stages().items():
        if facts is None:
            missing.say(page, f"Stage {stage} left no folder.")
        else:
            page.heading(stage, 3)
            page.facts(facts or [("manifest", "none")])

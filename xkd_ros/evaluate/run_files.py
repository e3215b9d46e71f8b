"""What a run folder holds: runs/<name>/{frames,targets,distill,pseudo,probe,finetune,evaluation}, each stage only if it ran."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xkd_ros.core.card import CARD_NAME, ModelCard, load_card
from xkd_ros.core.errors import ConfigError
from xkd_ros.evaluate.evaluation import EVALUATION_NAME, Evaluation, load_evaluation
from xkd_ros.evaluate.training_log import LOG_NAME, TrainingLog, read_training_log
from xkd_ros.metrics.unit_quality import REPORT_NAME as UNIT_REPORT_NAME
from xkd_ros.metrics.unit_quality import UnitReport, load_unit_report

STAGES = ("frames", "targets", "distill", "pseudo", "probe", "finetune", "evaluation")
TRAINING_STAGES = ("distill", "probe", "finetune")
# What `pipeline.run_folder` and the stages themselves leave.
_MANIFESTS = ("manifest.json", "config.json")
_PLAIN = (str, int, float, bool, type(None))
_CARD_PLACES = (".", "model", "finetune", "probe", "distill")
_LARGEST_BYTES = 50_000_000
_LONGEST = 120
_MOST_FACTS = 16


@dataclass(frozen=True)
class RunFiles:
    """A run folder.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ConfigError(f"run folder {self.folder} does not exist; pass the folder that `xkd learn` worked in, such as runs/site")
        # A single training (`xkd train-sim`) has its log at the top.
        if not any((self.folder / part).exists() for part in (*STAGES, LOG_NAME)):
            raise ConfigError(
                f"{self.folder} is no run folder: none of {', '.join(STAGES)} is in it; pass the folder that `xkd learn` worked in, "
                "such as runs/site (not the model folder it wrote)"
            )

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.folder.resolve().name

    @property
    def evaluation_folder(self) -> Path:
        """Where figures and chosen scans are."""
        return self.folder / "evaluation"

    def evaluation(self) -> Evaluation | None:
        """Read the evaluation, if there is one.

        Raises:
            ConfigError: it is there but unreadable.
        """
        path = self.evaluation_folder / EVALUATION_NAME
        return load_evaluation(path) if path.exists() else None

    def logs(self) -> dict[str, TrainingLog]:
        """Read the training logs by stage; a log in the run folder itself is called training."""
        places = {"training": self.folder, **{stage: self.folder / stage for stage in TRAINING_STAGES}}
        return {stage: read_training_log(place / LOG_NAME) for stage, place in places.items() if (place / LOG_NAME).is_file()}

    def unit_report(self) -> UnitReport | None:
        """Read what the student thinks of the units it learnt from, where its method was partdistill.

        Raises:
            ConfigError: it is there but unreadable.
        """
        folder = self.folder / "finetune"
        return load_unit_report(folder) if (folder / UNIT_REPORT_NAME).is_file() else None

    def card(self) -> ModelCard | None:
        """Read the model card that lies nearest to the end of the run, if any."""
        places = (self.folder / place for place in _CARD_PLACES)
        return next((load_card(place) for place in places if (place / CARD_NAME).is_file()), None)

    def stages(self) -> dict[str, list[tuple[str, str]] | None]:
        """Short facts of each stage's manifest; None for a stage that left no folder."""
        return {stage: self._facts(stage) if (self.folder / stage).is_dir() else None for stage in STAGES}

    def _facts(self, stage: str) -> list[tuple[str, str]]:
        records = self.folder / "stages"
        found: dict[str, str] = {}
        drawn = stage == STAGES[-1] and (self.folder / stage / EVALUATION_NAME).is_file()  # it draws the page before its record is there
        if (records / f"{stage}.begun.json").is_file() and not (records / f"{stage}.json").is_file() and not drawn:
            found["state"] = "unfinished"
        for path in (records / f"{stage}.json", *(self.folder / stage / name for name in _MANIFESTS)):
            try:
                content = json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST_BYTES else None
            except (OSError, ValueError, RecursionError):
                continue
            if isinstance(content, dict):
                found.update({key: text for key, value in content.items() if key not in found and (text := _short(value))})
        return list(found.items())[:_MOST_FACTS]


def _short(value: Any) -> str:
    """Show numbers, texts and short collections of them; of what is longer, names or number."""
    if isinstance(value, dict):
        plain = all(isinstance(item, _PLAIN) for item in value.values())
        text = ", ".join(f"{key}: {_short(item)}" for key, item in value.items()) if plain else ", ".join(map(str, value))
    elif isinstance(value, list):
        text = ", ".join(map(_short, value)) if all(isinstance(item, _PLAIN) for item in value) else f"{len(value)} entries"
    else:
        text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

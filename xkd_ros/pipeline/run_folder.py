"""The folder of a learning run: which stage is done, from what, and whether that still holds.

Every stage owns one sub-folder. `stages/<stage>.json`, written last, says which inputs and settings made it; a stage without one is
unfinished work, which continues when its `stages/<stage>.begun.json` names the same inputs and settings. The records lie beside the
stages' folders, not in them, because rooms own their folders whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from xkd_ros.core.config import load_yaml
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import write_atomic

RECORDS = "stages"
State = Literal["done", "begun", "to do", "stale"]


class StageRecord(BaseModel):
    """What a finished stage leaves behind.

    Attributes:
        key: Hash of the stage's settings and of the outputs it was made from.
        inputs: Output hash of each earlier stage it read, and marks of files from elsewhere.
        output: Hash of what it made.
        seconds: How long the call that finished it worked on it.
        facts: Figures for tables.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    key: str
    inputs: dict[str, str]
    output: str
    seconds: float = 0.0
    facts: dict[str, Any] = {}


class Begun(BaseModel):
    """What an unfinished stage works from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    inputs: dict[str, str]


class RunFolder:
    """Records of the stages of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def folder(self, stage: str) -> Path:
        """Where a stage works."""
        return self.path / stage

    def record(self, stage: str) -> StageRecord | None:
        """Read what a finished stage left, None when it is not finished.

        Raises:
            ConfigError: the record is damaged.
        """
        path = self._place(stage)
        return load_yaml(path, StageRecord) if path.is_file() else None

    def state(self, stage: str, key: str) -> State:
        """Say whether a stage is done with the settings and inputs that `key` stands for."""
        record = self.record(stage)
        if record is not None:
            return "done" if record.key == key else "stale"
        begun = self._begun(stage)
        return "to do" if begun is None else "begun" if begun.key == key else "stale"

    def was_begun(self, stage: str) -> bool:
        """Tell whether a stage is done or begun, with whatever settings."""
        return self.record(stage) is not None or self._begun(stage) is not None

    def inputs(self, stage: str) -> dict[str, str]:
        """Tell what a stage was made from, or begun with; nothing where it is neither."""
        made = self.record(stage) or self._begun(stage)
        return {} if made is None else made.inputs

    def begin(self, stage: str, key: str, inputs: dict[str, str]) -> Path:
        """Claim the stage's folder for these inputs and return it.

        Raises:
            ConfigError: the folder holds work made from other inputs or settings; says what differs.
        """
        self.refuse_stale(stage, key, inputs)
        if self._begun(stage) is None:
            write_atomic(self._place(stage, begun=True), Begun(key=key, inputs=inputs).model_dump_json() + "\n")
        return self.folder(stage)

    def refuse_stale(self, stage: str, key: str, inputs: dict[str, str]) -> None:
        """Do nothing, unless the folder holds work made from something else.

        Raises:
            ConfigError: it does; says what differs.
        """
        if self.state(stage, key) == "stale":
            raise ConfigError(
                f"{stage} is stale: {self.folder(stage)} was made {self._difference(stage, inputs)}; "
                f"make it again with --redo {stage}, or choose another --work folder"
            )

    def finish(self, record: StageRecord) -> None:
        """Write the record that makes the stage done."""
        write_atomic(self._place(record.stage), record.model_dump_json(indent=1) + "\n")

    def forget(self, stages: Sequence[str]) -> None:
        """Delete what these stages made, records first, so that nothing half-deleted is taken for whole.

        Raises:
            ConfigError: a folder of that name is there which no stage of this run made.
        """
        for stage in stages:
            if self.folder(stage).exists() and not self.was_begun(stage):
                raise ConfigError(f"{self.folder(stage)} was not made by this run; move it away, or choose another --work folder")
        for stage in stages:
            self._place(stage).unlink(missing_ok=True)
            if self.folder(stage).is_dir():
                shutil.rmtree(self.folder(stage))
            self._place(stage, begun=True).unlink(missing_ok=True)

    def _place(self, stage: str, begun: bool = False) -> Path:
        return self.path / RECORDS / f"{stage}{'.begun' if begun else ''}.json"

    def _begun(self, stage: str) -> Begun | None:
        path = self._place(stage, begun=True)
        # A stage that was refused before it made anything leaves nothing that could be stale.
        made = self.folder(stage).exists() or self.folder(stage).with_name(f".{stage}.part").exists()
        return load_yaml(path, Begun) if path.is_file() and made else None

    def _difference(self, stage: str, inputs: dict[str, str]) -> str:
        made_from = self.inputs(stage)
        changed = [name for name in {**inputs, **made_from} if made_from.get(name) != inputs.get(name)]
        if changed:
            return f"from other {' and '.join(changed)}"
        return "with other settings" if inputs else "from other recordings or with other settings"


def stage_key(stage: str, settings: object, inputs: dict[str, str]) -> str:
    """Hash what decides a stage's result.

    Args:
        stage: Name.
        settings: JSON-able.
        inputs: Output hash of each earlier stage it reads, and marks of files from elsewhere.
    """
    text = json.dumps([stage, settings, sorted(inputs.items())], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def claim_folder(work: Path, config: BaseModel) -> None:
    """Write the configuration of a job of one stage into its work folder.

    Raises:
        ConfigError: the folder was begun with another configuration.
    """
    path, text = work / "config.json", config.model_dump_json(indent=1)
    if path.is_file() and path.read_text() != text:
        raise ConfigError(f"{path} belongs to a run with another configuration; choose another --work folder or delete it")
    write_atomic(path, text)

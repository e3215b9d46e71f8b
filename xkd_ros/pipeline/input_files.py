"""Files from outside a run folder that its stages are made from, and marks that show when one of them was exchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from xkd_ros.bags.frame_manifest import MANIFEST_NAME
from xkd_ros.core.files import sha256
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.pipeline.learn_config import LearnConfig
from xkd_ros.pipeline.learning import Sources
from xkd_ros.teacher.model_folder import find_teacher

_RECORDINGS = (".mcap", ".db3", ".bag")
_END_BYTES = 65_536


def outside_files(stage: str, config: LearnConfig, sources: Sources) -> dict[str, Path]:
    """Name the files and folders that a stage reads beside the run folder; hub ids are paths of nothing."""
    if stage == "frames":
        labels = () if sources.labels is None else (sources.labels,)
        return _named("recording", sources.bags) | _named("rig", sources.rigs) | _named("labels", labels)
    if stage == "targets":
        return _named("teacher", map(_teacher, config.teachers))
    if stage == "finetune" and isinstance(config.finetune, PartDistillConfig):
        boxes, generated = config.finetune.box_teacher, config.finetune.generated
        named = _named("box teacher", [_teacher(boxes)] if boxes else [])
        if generated is not None:
            # The manifest of a frame store holds the hashes of its other files, which may be large.
            store = generated / MANIFEST_NAME
            named["simulated scans"] = store if store.is_file() else generated
        return named
    return {}


def mark(path: Path) -> str:
    """Identify the content of a file or folder; a copy elsewhere has the same mark.

    Of recordings, which may be hundreds of gigabytes, size, beginning and end are looked at: there is the index of all that lies between.
    Everything else is read whole: a corrected calibration or other labels are often as large as what they replace.

    Args:
        path: Must exist. Hidden files in a folder do not count: download tools keep their notes there.
    Returns:
        Hexadecimal.
    """
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.is_file() and not hidden:
            content = _ends(file) if file.suffix in _RECORDINGS else sha256(file)
            digest.update(f"{file.name} {content}\n".encode())
    return digest.hexdigest()[:16]


def _teacher(spec: str) -> Path:
    return Path(find_teacher(spec)).expanduser()


def _ends(path: Path) -> str:
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        digest = hashlib.sha256(str(size).encode() + file.read(_END_BYTES))
        file.seek(max(0, size - _END_BYTES))
        digest.update(file.read())
    return digest.hexdigest()


def _named(kind: str, paths: Iterable[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        name = f"{kind} {path.name}"
        named[name if name not in named else f"{name} ({len(named) + 1})"] = path
    return named

"""`last.pt`: everything a killed run needs to go on as if nothing had happened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xkd_ros.core.errors import ModelError
from xkd_ros.core.files import atomic_path
from xkd_ros.train.average import Average

CHECKPOINT_NAME = "last.pt"


def save_checkpoint(folder: Path, model: nn.Module, optimizer: Any, average: Average, step: int) -> None:
    """Replace the checkpoint whole or not at all.

    Raises:
        XkdError: the folder is not writable or the disk is full; the former checkpoint stays.
    """
    state = {"step": step, "model": model.state_dict(), "average": average.model.state_dict(), "optimizer": optimizer.state_dict()}
    with atomic_path(folder / CHECKPOINT_NAME) as path, open(path, "wb") as file:
        torch.save(state, file)
        file.flush()
        # Without this a power cut could leave the new name on unwritten blocks.
        os.fsync(file.fileno())


def restore_checkpoint(folder: Path, model: nn.Module, optimizer: Any, average: Average) -> int:
    """Load the checkpoint, if there is one, and return the step to go on with.

    Raises:
        ModelError: it belongs to another network or is damaged.
    """
    path = folder / CHECKPOINT_NAME
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except Exception as error:  # torch raises a different type for each way of being broken
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{path} does not continue this run ({reason}); choose another folder or delete it to start anew") from error


def sweep(folder: Path) -> None:
    """Delete what a run that was killed while saving left behind; for one process, before training."""
    stem, suffix = os.path.splitext(CHECKPOINT_NAME)
    for path in folder.glob(f".{stem}{suffix}.*.part{suffix}"):
        path.unlink(missing_ok=True)

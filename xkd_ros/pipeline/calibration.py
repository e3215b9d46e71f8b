"""The temperature that a model is shipped with, and which frames it is fitted and scored on: `xkd learn` and studies do the same.

In: what a segmenter says, frames, pseudo-labels. Next room: the model's card.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.errors import ConfigError
from xkd_ros.evaluate.scan_logits import Labels, LogitsOf, calibrate

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame

SURE = 0.8
"""Confidence of the pseudo-labels that probabilities are calibrated on: wrong labels would make an honest model look too sure."""


def divide_frames(frames: FrameStore) -> tuple[np.ndarray, np.ndarray]:
    """Choose frames to fit the temperature on, and others to score: a temperature proves nothing where it was fitted.

    Returns:
        Numbers of validation frames, (F,) int64, and of test frames. Without test frames the later half of the validation frames is
        scored; without either, training frames are, and `Evaluation.scans` says so.
    """
    fitted, scored = frames.numbers("val"), frames.numbers("test")
    if not len(scored) and len(fitted):
        fitted, scored = fitted[: len(fitted) // 2], fitted[len(fitted) // 2 :]
    return fitted, scored if len(scored) else frames.numbers("train")


def honest_temperature(
    ask: LogitsOf, frames: FrameStore, numbers: np.ndarray, labels: Labels, before: Callable[[Frame], None] | None = None
) -> float:
    """Fit the temperature on the teacher's labels that are likely to be right.

    Args:
        ask, before: As for `calibrate`.
        frames: Where the frames are.
        numbers: Validation frames.
        labels: Of the teacher.
    Returns:
        At least 1. Agreeing with the teacher is no proof of being right: its labels may make the student less sure, never surer
        (simulated walk, fitted 0.59: error of the probability against true labels 11.6 %, with 1 it is 6.0 %).
    """
    try:
        return max(1.0, round(calibrate(ask, frames, numbers, labels, SURE, before=before), 3))
    except ConfigError:  # not one such label among them; a report shows temperature 1
        return 1.0

"""Which scans come: frames in their turn, hand-labelled ones more often, generated ones in their share; and scans of hardly a point."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rooms import RIGS, STUDENT, Labels, Rooms, Surfaces

from xkd_ros.core.card import NetworkConfig
from xkd_ros.distill.labelled_frames import LabelledFrames
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.judge import UnitJudge
from xkd_ros.distill.partdistill.unit_samples import UnitSamples, count_units
from xkd_ros.distill.partdistill.units import FrameUnits, Origin, Unit
from xkd_ros.distill.prediction import WholeFrames
from xkd_ros.distill.student_input import InputConfig, StudentInput
from xkd_ros.nets.student import seeded_student
from xkd_ros.train.engine import make_fabric

FRAMES = Rooms(points=400)
UNITS, LABELS = Surfaces(FRAMES), Labels(FRAMES)
TRAIN = FRAMES.numbers("train")


def test_hand_labelled_scans_come_often() -> None:
    """One labelled frame of eight."""
    student_input, count = StudentInput(InputConfig(max_points=64), STUDENT, RIGS), count_units(UNITS, TRAIN, 3)
    samples = UnitSamples(FRAMES, UNITS, count, student_input, 0, LABELS, TRAIN[2:3], labelled_share=0.5)
    drawn = [samples(number) for number in range(100)]
    labelled = np.array([(item.labels != 255).any() for item in drawn])
    own = np.array([item.number[0] == count.span(int(TRAIN[2])).start for item in drawn])
    assert not labelled[~own].any() and labelled[own].mean() > 0.8 and 0.35 < own.mean() < 0.65
    assert samples.ordinary_share == pytest.approx(1 - (0.5 - 1 / 8) / (1 - 1 / 8))
    alone = UnitSamples(FRAMES, UNITS, count, student_input, 0, LABELS, TRAIN, labelled_share=0.5)
    plain = UnitSamples(FRAMES, UNITS, count, student_input, 0)
    for items in (alone, plain):  # nothing is preferred where all frames have labels, or none
        assert items.ordinary_share == 1 and [items(n).number[0] for n in range(8)] == [plain(n).number[0] for n in range(8)]


def test_generated_scans_keep_their_share() -> None:
    student_input = StudentInput(InputConfig(max_points=64), STUDENT, RIGS)
    generated = LabelledFrames(FRAMES, LABELS, TRAIN, student_input, 0)
    samples = UnitSamples(FRAMES, UNITS, count_units(UNITS, TRAIN, 3), student_input, 0, generated=generated, generated_share=0.3)
    drawn = [not len(samples(number).label) for number in range(200)]
    assert 0.2 < np.mean(drawn) < 0.4
    with pytest.raises(ValidationError, match="less than or equal to"):
        PartDistillConfig(method="partdistill", generated_share=0.4)


@pytest.mark.parametrize("kept", [0, 1, 5, 16, 400])
def test_a_student_is_asked_about_scans_of_any_size(kept) -> None:
    """Judge and predictor say the same, on a scan of which so many points are measurements."""
    student = seeded_student(NetworkConfig(depth=2, width=16, classes=3), 0).eval()
    frame = FRAMES.scan(int(TRAIN[0]))
    points = frame.points_m.copy()
    points[kept:] = np.nan
    frame = SimpleNamespace(**{**vars(frame), "points_m": points})

    class One:
        manifest = FRAMES.manifest

        def scan(self, number: int):
            return frame

    logits, undo = WholeFrames(student, STUDENT, RIGS)(frame)
    assert (undo[kept:] == -1).all() and (undo[:kept] >= 0).all() and len(undo) == 400
    labels = np.full(400, 255)
    if kept:
        labels[:kept] = logits.argmax(1)[undo[:kept]]
    units = {0: FrameUnits.of([Unit(name, 1.0, Origin.BOX, 0, np.arange(400), np.ones(400)) for name in range(3)])}
    count = count_units(units, np.array([0]), 3)
    scores = UnitJudge(One(), units, count, STUDENT, make_fabric("32-true"))(student)
    assert torch.equal(scores, torch.tensor([np.mean(labels == name) for name in range(3)], dtype=torch.float32))

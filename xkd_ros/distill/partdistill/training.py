"""The method `partdistill`: forward, the student learns from units; backward, it judges them; both in one training (METHODS 5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from xkd_ros.core.progress import Report
from xkd_ros.distill.label_stage import classifier
from xkd_ros.distill.labelled_frames import LabelledFrames, count_frame_labels
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.losses import confident_cross_entropy
from xkd_ros.distill.partdistill.backward import Backward
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.judge import UnitJudge, weigh
from xkd_ros.distill.partdistill.ledger import UnitLedger
from xkd_ros.distill.partdistill.losses import effective_weights, log_weights, partdistill_loss
from xkd_ros.distill.partdistill.unit_report import write_unit_report
from xkd_ros.distill.partdistill.unit_samples import UnitBatch, UnitSamples, collate_units, count_units
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.student_input import StudentInput, points_of
from xkd_ros.distill.supervised import class_weights
from xkd_ros.nets.heads import fold_head
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import fit


def run_partdistill(
    lesson: Lesson,
    config: PartDistillConfig,
    folder: Path,
    fabric: Fabric,
    progress: Report | None = None,
) -> Student:
    """Train on units; leaves their scores and a report on them in `folder`, with backward scoring. See `methods.train_student`."""
    frames, units = lesson.frames, lesson.needed_units(config.method)
    numbers = frames.numbers("train")
    count = count_units(units, numbers, lesson.classes)
    labelled = np.zeros(0, np.int64) if lesson.labelled is None else lesson.labelled
    if config.label_share:
        labelled = share_of(lesson.labelled_numbers(), config.label_share, config.seed)
    members = count.members.astype(np.float64)
    if len(labelled):
        members += count_frame_labels(lesson.labels, labelled, lesson.classes)
    generated = None
    if lesson.generated is not None and config.generated_share:
        drawn, labels = lesson.generated
        drawn_input = StudentInput(config.input, lesson.backbone.card.student, drawn.manifest.intensity)
        generated = LabelledFrames(drawn, labels, drawn.numbers("train"), drawn_input, config.seed)
    student_input = StudentInput(config.input, lesson.backbone.card.student, frames.manifest.intensity, seek=True)
    shares = (config.labelled_share, config.generated_share)
    samples = UnitSamples(frames, units, count, student_input, config.seed, lesson.labels, labelled, generated, *shares)
    model = classifier(lesson, config)
    ledger = UnitLedger(count.units, config.backward.window_epochs if config.backward else 1)
    model.add_module("ledger", ledger)
    engine = config.engine(len(numbers), fabric.world_size)
    judge = backward = None
    if config.backward:
        judge = UnitJudge(frames, units, count, lesson.backbone.card.student, fabric, config.backward.agreement)
        epoch_steps = len(numbers) / (config.batch * samples.ordinary_share)
        backward = Backward(ledger, judge, fold_head, count.label, config.backward, epoch_steps, engine.steps, fabric)
    average = fit(
        model,
        PartDistillLoss(config, ledger, members),
        samples,
        collate_units,
        engine,
        folder,
        fabric,
        progress=progress,
        groups=layer_groups(model, config.layer_decay, config.decay_vectors),
        size=points_of,
        watch=backward,
    )
    student = fold_head(average)
    if config.backward and judge:
        scores = judge(student).cpu().numpy()
        if fabric.is_global_zero:
            write_unit_report(folder, units, count, scores, weigh(scores, count.label, config.backward), config.backward.agreement)
        fabric.barrier()
    return student


class PartDistillLoss:
    """Loss of the units, and cross-entropy where there are labels; adds itself to the ledger."""

    def __init__(self, config: PartDistillConfig, ledger: UnitLedger, members: np.ndarray) -> None:
        """Configure.

        Args:
            config: Form, weights.
            ledger: Of the units.
            members: (C,) points of units and labels of each class.
        """
        self._config, self._ledger = config, ledger
        weights = {
            "log": log_weights,
            "effective": effective_weights,
            "power": lambda counts: class_weights(counts, config.class_weight_power),
        }
        self._weight = torch.from_numpy(weights[config.balance](members).astype(np.float32))

    def __call__(self, model: nn.Module, item: UnitBatch) -> Tensor:
        """Compute the loss of one batch."""
        b, config = item.batch, self._config
        logits = model(b.features, b.cells, b.shapes, b.neighbours, None, b.scan)
        self._weight = self._weight.to(logits.device)
        loss = partdistill_loss(
            logits,
            item.point,
            item.unit,
            item.label,
            self._ledger.confidence(item.confidence, item.number[item.unit]),
            self._weight,
            config.least_points,
            config.form,
            config.label_smoothing,
        )
        if config.label_weight:
            labelled = confident_cross_entropy(logits, item.labels, item.label_confidence, self._weight, config.label_smoothing)
            loss = loss + config.label_weight * labelled
        self._ledger.note(loss)
        return loss

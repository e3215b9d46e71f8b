"""What a student says about the frames of a drive, put to the vote place by place: what it says from one side alone goes.

In: a student that can be asked about whole frames. Out: labels and confidence of every point of each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np

from xkd_ros.distill.confidence import Opinion
from xkd_ros.distill.consolidation import Consolidator, Witness, make_witness
from xkd_ros.distill.drives import Drive, find_drives
from xkd_ros.distill.frame_samples import Frames, RecordedFrame
from xkd_ros.distill.pseudo_config import Reason, VoteConfig

Ask = Callable[[RecordedFrame], tuple[np.ndarray, np.ndarray]]
"""Frame → logits (n, C) of sampled points, and (N,) int64 which of them stands for each point, -1 for none."""

Said = tuple[int, np.ndarray, np.ndarray]
"""Frame number, labels (N,) uint8, 255 for none, and confidence (N,) float32."""


def vote_on_places(
    frames: Frames, numbers: np.ndarray, ask: Ask, classes: int, movers: Collection[int], config: VoteConfig | None
) -> Iterator[Said]:
    """Label frames by what a student says about each place in those of them that saw it.

    A student is wrong about a thing that it sees from far or in part, and right in the next frame; where frames contradict each other no
    label is left. Frames without a pose, and all where `config` is None, are labelled alone.

    Args:
        frames: Frame store.
        numbers: (F,) frames; no others vote.
        ask: The student.
        classes: C.
        movers: Classes that do not stay where they are: nobody votes on them.
        config: Places and majorities.
    Yields:
        What is said about every frame, each once, drive by drive.
    """
    rules, wanted = config or VoteConfig(min_confidence=0), set(numbers.tolist())
    consolidator = Consolidator(classes, movers, rules)
    for drive in find_drives(frames, config is not None):
        own = [number for number in drive.numbers if number in wanted]

        def load(position: int, drive: Drive = drive, own: list[int] = own) -> Witness:
            frame = frames.scan(own[position])
            opinion = _opinion(*ask(frame), classes)
            return make_witness(frame.points_m, frame.world_from_lidar, drive.origin_m, opinion, rules.voxel_m)

        for position, said in consolidator.run(load, len(own)):
            yield own[position], said.labels, said.confidence


def _opinion(logits: np.ndarray, undo: np.ndarray, classes: int) -> Opinion:
    """Turn logits into an opinion on every point that a sampled one stands for, and whose logits are numbers."""
    logits = logits.reshape(-1, classes)
    with np.errstate(invalid="ignore"):
        share = np.exp(logits - logits.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
    sound = np.append(np.isfinite(share).all(1), False)
    point = np.flatnonzero(sound[undo])
    probability = share[undo[point]]
    return Opinion(point, probability, probability.argmax(1).astype(np.uint8), np.full(len(point), Reason.KEPT, np.uint8))

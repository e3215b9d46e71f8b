"""Grounding DINO and OWLv2: boxes of our classes from words; next: units in `distill.partdistill`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ModelError
from xkd_ros.teacher.boxes import Box
from xkd_ros.teacher.class_map import ClassMap
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.image_input import choose_precision
from xkd_ros.teacher.model_folder import ModelFolder, find_folder
from xkd_ros.teacher.teacher import OWN_TEACHER
from xkd_ros.teacher.word_models import WORD_FAMILIES

PROMPTS: dict[str, tuple[str, ...]] = {
    "wall": (),
    "floor": (),
    "ceiling": (),
    "column": ("column", "pillar"),
    "table": ("table", "desk"),
    "chair": ("chair", "sofa", "bench"),
    "furniture": ("cabinet", "shelf", "bookcase", "wardrobe"),
    "stairs": ("stairs",),
    "clutter": ("box", "bag", "bin", "plant"),
}
"""Words for classes; of others their own name. Nobody draws a useful box around what surrounds the room."""
_LEAST_SCORE, _SAME = 0.05, 0.5


class WordBoxTeacher:
    """One detector that is asked in words, frozen. A class is as sure as its surest word; of boxes on one thing the surest stays."""

    def __init__(
        self, folder: ModelFolder, class_map: ClassMap, config: TeacherConfig, device: str, prompts: Mapping[str, Sequence[str]] = PROMPTS
    ) -> None:
        """Load the network.

        Args:
            folder: As `save_pretrained` or a hub download leaves it, with its tokenizer.
            class_map: Classes; their names choose the words.
            config: `short_side_px` and `precision` are used.
            device: Where it computes.
            prompts: Words by name of class.
        Raises:
            ModelError: the folder is damaged or incomplete, or no class has a word.
            ConfigError: no such device.
        """
        family = WORD_FAMILIES[folder.model_type]
        self.name, self.label_set, self.class_hash = folder.name, class_map.label_set, class_map.hash
        words = [(number, word) for number, name in enumerate(self.label_set.names) for word in prompts.get(name, (name,))]
        if not words:
            raise ModelError(f"{folder.name}: not one of {', '.join(self.label_set.names)} has a word to ask for")
        self._device, self._precision = device, choose_precision(config.precision, device)
        self._network: Any = folder.load(family.class_name, device, **dict(family.overrides))
        self._asker = family.make_asker(folder, self._network.config, tuple(word for _, word in words), config.short_side_px)
        self._class_of = torch.tensor([number for number, _ in words])
        self.fingerprint = folder.fingerprint(
            {**self._asker.describe(), "words": words, "precision": str(self._precision), "classes": class_map.hash}
        )

    @torch.inference_mode()
    def draw(self, rgb: np.ndarray) -> list[Box]:
        """Draw boxes; see `BoxTeacher.draw`.

        Raises:
            ModelError: the network's output is not finite.
        """
        with torch.autocast(torch.device(self._device).type, self._precision, enabled=self._precision != torch.float32):
            scores, corners = self._asker.ask(self._network, rgb, self._device)  # (Q, words), (Q, 4) in pixels
        scores, corners = scores.float().cpu(), corners.float().cpu()
        if not bool(torch.isfinite(scores).all() and torch.isfinite(corners).all()):
            raise ModelError(f"{self.name} gives boxes that are not finite in {self._precision}: set precision to float32")
        of_class = scores.new_zeros(len(scores), len(self.label_set)).scatter_reduce(1, self._class_of.expand_as(scores), scores, "amax")
        score, label = of_class.max(1)
        limit = torch.tensor([rgb.shape[1], rgb.shape[0]] * 2, dtype=torch.float32) - 0.5
        corners = corners.clamp(min=-0.5).minimum(limit)
        chosen = (score >= _LEAST_SCORE) & (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
        score, label, corners = score[chosen], label[chosen], corners[chosen]
        kept = surest(corners, score, label, _SAME)
        return [Box(int(label[place]), float(score[place]), tuple(corners[place].tolist())) for place in kept]


def surest(corners: Tensor, score: Tensor, label: Tensor, same: float) -> list[int]:
    """Choose boxes from the surest on, leaving out those that overlap a chosen one of their class by more than a share.

    Args:
        corners: (Q, 4) left, top, right, bottom.
        score: (Q,).
        label: (Q,).
        same: Intersection over union above which two boxes are of one thing.
    Returns:
        Places, the surest first.
    """
    area = (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(1)
    left = torch.ones(len(score), dtype=torch.bool)
    kept = []
    for place in score.argsort(descending=True, stable=True).tolist():
        if left[place]:
            kept.append(place)
            low = corners[:, :2].maximum(corners[place, :2])
            high = corners[:, 2:].minimum(corners[place, 2:])
            common = (high - low).clamp(min=0).prod(1)
            left &= (common <= same * (area + area[place] - common)) | (label != label[place])
    return kept


def load_box_teacher(spec: str, class_map: ClassMap, device: str = "cpu", config: TeacherConfig | None = None) -> WordBoxTeacher:
    """Load a teacher that draws boxes.

    Args:
        spec: Folder, or hub id such as IDEA-Research/grounding-dino-tiny or google/owlv2-base-patch16-ensemble.
        class_map: Classes of the boxes.
        device: "cpu", "cuda", "cuda:1" ...
        config: How it looks at images.
    Raises:
        ModelError: not found, incomplete, or of a family that draws no boxes.
        ConfigError: no such device.
        MissingPackageError: transformers is not installed.
    """
    folder = ModelFolder(find_folder(spec, OWN_TEACHER), name=spec)
    if folder.model_type not in WORD_FAMILIES:
        known = ", ".join(sorted(WORD_FAMILIES))
        raise ModelError(f"{spec}: config.json has model_type '{folder.model_type}', which draws no boxes from words; known are {known}")
    return WordBoxTeacher(folder, class_map, config or TeacherConfig(), device)

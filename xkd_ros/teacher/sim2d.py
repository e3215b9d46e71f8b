"""The teacher that `xkd teach2d` trained on rendered pictures: features and class scores at lidar points; next: `targets`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xkd_ros.core.errors import ModelError
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.types import UNKNOWN
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, load_image_teacher
from xkd_ros.nets.image_input import prepare
from xkd_ros.nets.image_student import ImageStudent
from xkd_ros.teacher.class_map import ClassMap, load_class_map
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.grid_sample import nearest_cell, sample_map, uniform_around
from xkd_ros.teacher.image_input import choose_precision
from xkd_ros.teacher.teacher import Glance

# Each of the twelve classes goes where the class map sends its plainest ADE20K class.
_PLAINEST_ADE20K = {
    "wall": 0,
    "floor": 3,
    "ceiling": 5,
    "door": 14,
    "window": 8,
    "column": 42,
    "stairs": 53,
    "table": 15,
    "chair": 19,
    "furniture": 10,
    "person": 12,
    "clutter": 41,
}


def make_groups(class_map: ClassMap) -> np.ndarray:
    """Build the matrix that sums indoor-12 scores into the classes of a map: (C + 1, 12), the last row is what it ignores."""
    groups = np.zeros((len(class_map.label_set) + 1, len(INDOOR12)), np.float32)
    for number, name in enumerate(INDOOR12.names):
        target = class_map.ade20k[_PLAINEST_ADE20K[name]]
        groups[-1 if target == UNKNOWN else target, number] = 1
    return groups


class Sim2dTeacher:
    """One 2D network of ours, frozen; gives features and scores from one look.

    Args:
        network: In evaluation mode.
        card: Its card.
        name: For people.
        class_map: Classes of the scores.
        device: Where it computes.
        config: `erode_px` and `precision` are used; size and sampling are the card's.
    Raises:
        ModelError: the card's classes are not indoor-12.
        ConfigError: no such device.
    """

    def __init__(
        self, network: ImageStudent, card: ImageTeacherCard, name: str, class_map: ClassMap, device: str, config: TeacherConfig
    ) -> None:
        if card.labels.names != INDOOR12.names:
            raise ModelError(
                f"{name} names {', '.join(card.labels.names[:4])} ...; a sim2d teacher names the twelve indoor classes: teach it anew"
            )
        self.name, self.feature_width = name, card.network.feature_width
        self.label_set, self.class_hash = class_map.label_set, class_map.hash
        self._card, self._device, self._erode_px = card, device, config.erode_px
        self._precision = choose_precision(config.precision, device)
        self._network = network.to(device).requires_grad_(False)
        self._groups = torch.from_numpy(make_groups(class_map)).to(device)
        parts: dict[str, Any] = {
            "card": card.model_dump(mode="json", exclude={"name", "recipe", "metrics", "licence", "truth"}),
            "classes": class_map.hash,
        }
        parts["precision"], parts["erode_px"] = str(self._precision), config.erode_px
        self.fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _probability(self, logits: Tensor) -> Tensor:
        """Turn logits (T, 12) into what the class map makes of them (T, C + 1)."""
        return (logits / self._card.temperature).softmax(1) @ self._groups.T

    @torch.inference_mode()
    def look(self, rgb: np.ndarray, uv_px: np.ndarray) -> Glance:
        """Sample features and scores at pixels; see `Teacher.look`."""
        classes = len(self.label_set)
        if not len(uv_px):
            empty = np.zeros((0, self.feature_width), np.float16), np.zeros((0, classes), np.float32)
            return Glance(*empty, np.zeros(0, bool))
        picture = prepare(rgb, self._card.input, self._device)  # (1, 3, h, w)
        with torch.autocast(torch.device(self._device).type, self._precision, enabled=self._precision != torch.float32):
            features = self._network.features(picture)
        features = features.float()  # (1, D, h / 4, w / 4)
        logits = self._network.head(features)
        image_size, size = (rgb.shape[0], rgb.shape[1]), (picture.shape[2], picture.shape[3])
        scores = self._probability(sample_map(logits[0], uv_px, image_size, "patch_centres"))  # (V, C + 1)
        ignored = scores.argmax(1) == classes
        named = scores[:, :classes].masked_fill(ignored[:, None], 0)
        named = named / named.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        sampled = sample_map(features[0], uv_px, image_size, "patch_centres")  # (V, D)
        interior = self._interior(logits, size, image_size)[nearest_cell(uv_px, image_size, size)]
        return Glance(sampled.half().cpu().numpy(), named.cpu().numpy(), interior)

    def _interior(self, logits: Tensor, size: tuple[int, int], image_size: tuple[int, int]) -> np.ndarray:
        """Tell which pixels of the network's picture are away from any border between classes; (h * w,) bool."""
        fine = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)  # (1, 12, h, w)
        best = self._probability(fine[0].flatten(1).T).argmax(1).view(size)
        radius = max(1, round(self._erode_px * size[1] / image_size[1])) if self._erode_px else 0
        return np.asarray(uniform_around(best, radius).flatten().cpu().numpy())


def load_sim2d(
    folder: str | Path, class_map: ClassMap | None = None, device: str = "cpu", config: TeacherConfig | None = None
) -> Sim2dTeacher:
    """Load a teacher that `xkd teach2d` wrote.

    Args:
        folder: Holds teacher.json and its weights.
        class_map: Classes of the scores; the preset indoor12 when None.
        device: "cpu", "cuda", "cuda:1" ...
        config: How borders between classes are eroded, and the precision.
    Raises:
        ModelError: incomplete or damaged.
        ConfigError: no such device.
    """
    network, card = load_image_teacher(folder)
    return Sim2dTeacher(network, card, str(folder), class_map or load_class_map("indoor12"), device, config or TeacherConfig())

"""OneFormer, Mask2Former, EoMT and Segformer: scores of our classes at lidar points; next: `targets`."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ModelError
from xkd_ros.teacher.class_map import ADE20K_ANCHORS, ADE20K_COUNT, ClassMap
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.grid_sample import nearest_cell, sample_map, uniform_around
from xkd_ros.teacher.image_input import ImageInput, choose_precision
from xkd_ros.teacher.mask_models import MASK_FAMILIES
from xkd_ros.teacher.model_folder import ModelFolder
from xkd_ros.teacher.teacher import Glance

_log = logging.getLogger(__name__)


def check_classes(folder: ModelFolder, class_map: ClassMap) -> None:
    """Refuse a model whose classes are not the 150 of ADE20K in their usual order.

    Raises:
        ModelError: another number of classes, or other names than expected at the anchors.
    """
    names = folder.config.get("id2label") or {}
    count = len(names) or int(folder.config.get("num_labels") or 0)
    if count != ADE20K_COUNT:
        raise ModelError(
            f"{folder.name} names {count} classes and the class map {class_map.name} is for the {ADE20K_COUNT} of ADE20K: "
            "take a model trained on ADE20K (its name has 'ade')"
        )
    if all(str(name).upper().startswith("LABEL_") for name in names.values()):
        _log.warning("%s does not say what its %d classes are: taken as ADE20K in its usual order", folder.name, count)
        return
    # Released names carry synonyms and stray spaces: "window ", "floor, flooring".
    found = {number: str(names.get(str(number), "")).strip().lower() for number in ADE20K_ANCHORS}
    differing = [(number, name) for number, name in ADE20K_ANCHORS.items() if not found[number].startswith(name)]
    if differing:
        examples = "; ".join(f"{number} is '{found[number]}', not '{name}'" for number, name in differing[:3])
        raise ModelError(f"{folder.name} orders its classes differently from ADE20K ({examples}): take a model trained on ADE20K")


class MaskTeacher:
    """One segmentation network, frozen; its 150 classes are summed into ours before anything is resized.

    Source: METHODS 8.2.
    """

    feature_width = 0

    def __init__(self, folder: ModelFolder, class_map: ClassMap, config: TeacherConfig, device: str) -> None:
        """Load the network.

        Raises:
            ModelError: the folder is damaged or incomplete, or its classes are not those of the class map.
            ConfigError: no such device.
        """
        check_classes(folder, class_map)
        family = MASK_FAMILIES[folder.model_type]
        self.name, self.label_set, self.class_hash = folder.name, class_map.label_set, class_map.hash
        self._erode_px, self._device = config.erode_px, device
        self._precision = choose_precision(config.precision, device)
        self._network: Any = folder.load(family.class_name, device, **dict(family.overrides))
        self._groups = torch.from_numpy(class_map.groups).to(device)
        multiple = family.multiple_px or int(self._network.config.patch_size)
        default = family.short_side_px or int(self._network.config.image_size)
        short = default if family.short_side_px is None else config.short_side_px or default
        self._input = ImageInput(multiple, short, *folder.normalisation)
        self._score = family.make_scorer(self._run, self._network.config, folder)
        self.fingerprint = folder.fingerprint(
            {**self._input.describe(), "precision": str(self._precision), "erode_px": config.erode_px, "classes": class_map.hash}
        )

    def _run(self, **inputs: Tensor) -> Any:
        with torch.autocast(torch.device(self._device).type, self._precision, enabled=self._precision != torch.float32):
            return self._network(**inputs)

    def score_map(self, rgb: np.ndarray) -> Tensor:
        """Compute the scores of our classes.

        Args:
            rgb: (H, W, 3) uint8.
        Returns:
            (C + 1, h, w) float32 at the network's own resolution, not normalised; the last plane is what the class map ignores.
        Raises:
            ModelError: the network's output is not finite.
        """
        with torch.inference_mode():
            scores = self._score(self._input(rgb, self._device), self._groups)
        if not torch.isfinite(scores).all():
            raise ModelError(f"{self.name} gives scores that are not finite in {self._precision}: set precision to float32")
        return scores

    def look(self, rgb: np.ndarray, uv_px: np.ndarray) -> Glance:
        """Sample scores at pixels; see `Teacher.look`."""
        classes = len(self.label_set)
        if not len(uv_px):
            return Glance(scores=np.zeros((0, classes), np.float32), interior=np.zeros(0, bool))
        scores = self.score_map(rgb)
        image_size, map_size = (rgb.shape[0], rgb.shape[1]), (scores.shape[1], scores.shape[2])
        # Masks cover the pixels that they were computed from, for every family.
        sampled = sample_map(scores, uv_px, image_size, "patch_centres")  # (V, C + 1)
        ignored = sampled.argmax(1) == classes
        named = sampled[:, :classes].masked_fill(ignored[:, None], 0)
        named = named / named.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        # At least one cell, or fine masks of a coarse map would never be eroded.
        radius = max(1, round(self._erode_px * map_size[1] / image_size[1])) if self._erode_px else 0
        interior = uniform_around(scores.argmax(0), radius).flatten().cpu().numpy()
        return Glance(scores=named.cpu().numpy(), interior=interior[nearest_cell(uv_px, image_size, map_size)])

"""What every teacher offers, and the one place that knows which model families there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.labels import LabelSet
from xkd_ros.teacher.class_map import ClassMap
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.model_folder import ModelFolder, find_folder

OWN_TEACHER = "teacher.json"
"""Marks the folder of a network that `xkd teach2d` trained."""


@dataclass(frozen=True, eq=False)
class Glance:
    """What a teacher says at V pixels of one image.

    Attributes:
        features: (V, D) float16, or None.
        scores: (V, C) float32: rows sum to 1 over the classes of the class map; a row of zeros where what is ignored wins. Or None.
        interior: (V,) bool, all pixels around have the same best class. Or None.
    """

    features: np.ndarray | None = None
    scores: np.ndarray | None = None
    interior: np.ndarray | None = None


class Teacher(Protocol):
    """A frozen image model.

    Attributes:
        name: Folder or hub id, for people.
        feature_width: D, or 0 where it gives no features.
        label_set: Classes of its scores, or None where it gives none.
        class_hash: `ClassMap.hash`, or "" without scores.
        fingerprint: Hash of weights and preprocessing: targets of equal fingerprints are equal.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def feature_width(self) -> int: ...  # noqa: D102

    @property
    def label_set(self) -> LabelSet | None: ...  # noqa: D102

    @property
    def class_hash(self) -> str: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def look(self, rgb: np.ndarray, uv_px: np.ndarray) -> Glance:
        """Tell what is at some pixels.

        Args:
            rgb: (H, W, 3) uint8, the camera image as recorded.
            uv_px: (V, 2) float32 as (column, row), pixel centres at integers.
        """
        ...


def load_teacher(spec: str, class_map: ClassMap | None = None, device: str = "cpu", config: TeacherConfig | None = None) -> Teacher:
    """Load a teacher.

    Args:
        spec: A folder as `save_pretrained` or a hub download leaves it, the folder of a sim2d teacher, or a hub id.
        class_map: Classes of the scores; features alone need none.
        device: "cpu", "cuda", "cuda:1" ...
        config: How it looks at images.
    Raises:
        ModelError: not found, incomplete, of an unknown family, or its classes do not fit the class map.
        ConfigError: a model that names classes was asked without a class map.
        MissingPackageError: transformers is not installed.
    """
    settings = config or TeacherConfig()
    path = find_folder(spec, OWN_TEACHER)
    if (path / OWN_TEACHER).is_file():
        from xkd_ros.teacher.sim2d import load_sim2d

        return load_sim2d(path, class_map, device, settings)
    folder = ModelFolder(path, name=spec)

    from xkd_ros.teacher.feature_teacher import FEATURE_FAMILIES, FeatureTeacher
    from xkd_ros.teacher.mask_models import MASK_FAMILIES
    from xkd_ros.teacher.mask_teacher import MaskTeacher

    if folder.model_type in FEATURE_FAMILIES:
        return FeatureTeacher(folder, settings, device)
    if folder.model_type in MASK_FAMILIES:
        if class_map is None:
            raise ConfigError(f"{spec} names classes of ADE20K: choose which of ours they are, e.g. the class map indoor12")
        return MaskTeacher(folder, class_map, settings, device)
    known = ", ".join(sorted([*FEATURE_FAMILIES, *MASK_FAMILIES]))
    raise ModelError(f"{spec}: config.json has model_type '{folder.model_type}', which is no teacher; known are {known}")

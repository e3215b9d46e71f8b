"""What a teacher that draws boxes says about a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xkd_ros.core.labels import LabelSet


@dataclass(frozen=True)
class Box:
    """A class somewhere in a picture.

    Attributes:
        label: Class id.
        score: 0 to 1.
        uv_px: left, top, right, bottom in pixels of the camera image, pixel centres at integers.
    """

    label: int
    score: float
    uv_px: tuple[float, float, float, float]


class BoxTeacher(Protocol):
    """A frozen image model that draws boxes.

    Attributes:
        name: Folder or hub id, for people.
        label_set: Classes of its boxes.
        class_hash: `ClassMap.hash`.
        fingerprint: Hash of weights, prompts and preprocessing.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def label_set(self) -> LabelSet: ...  # noqa: D102

    @property
    def class_hash(self) -> str: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def draw(self, rgb: np.ndarray) -> list[Box]:
        """Draw boxes.

        Args:
            rgb: (H, W, 3) uint8, the camera image as recorded.
        """
        ...

"""What a student can learn from: frames, labels of them, what the image teacher says about them, and where it starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.frame_samples import Frames, Targets
from xkd_ros.distill.labelled_frames import Labels
from xkd_ros.distill.partdistill.units import Units


@dataclass(frozen=True, eq=False)
class Lesson:
    """Everything that one of the ways to train the whole student may read.

    Attributes:
        frames: Frame store.
        labels: Frame number → labels and confidence; 255 where there is none.
        classes: Number of classes.
        backbone: Where to start; `Backbone.untrained` learns from nothing.
        targets: Frame number → what the image teacher says; None where there is no teacher.
        groups: (C,) group of each class, for `group_weight`; for instance `INDOOR12_TO_STRUCT4[:12]`.
        looks: Fingerprint of the teacher that gives the features of `targets`; "" where nobody asks for it later.
        units: Frame number → sets of points of which a teacher claims one class; None where none were made.
        labelled: (L,) the training frames that have labels, where few have, as hand-labelled scans; None: any training frame may.
        generated: Frames from elsewhere, such as simulated walks, and labels of all of them; None where there are none.
        movers: Classes that do not stay where they are, such as people.
    """

    frames: Frames
    labels: Labels
    classes: int
    backbone: Backbone
    targets: Targets | None = None
    groups: np.ndarray | None = None
    looks: str = ""
    units: Units | None = None
    labelled: np.ndarray | None = None
    generated: tuple[Frames, Labels] | None = None
    movers: tuple[int, ...] = ()

    def labelled_numbers(self) -> np.ndarray:
        """Return the training frames whose labels may be learnt from, ascending."""
        return self.frames.numbers("train") if self.labelled is None else self.labelled

    def teacher(self, method: str) -> Targets:
        """Return the targets.

        Raises:
            ConfigError: there are none.
        """
        if self.targets is None:
            raise ConfigError(f"the method {method} learns from images too: give it the targets of an image teacher")
        return self.targets

    def needed_units(self, method: str) -> Units:
        """Return the units.

        Raises:
            ConfigError: there are none.
        """
        if self.units is None:
            raise ConfigError(f"the method {method} learns from units: make them from the pixels or boxes of a teacher first")
        return self.units

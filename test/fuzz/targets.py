"""What is fuzzed. A target takes a random generator, makes an input and hands it to the package.

Returns None where the input was taken, or the XkdError that refused it; whatever else is raised is a bug.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from message_targets import camera_info, cloud, image, livox
from model_targets import card, model, rig
from recording_targets import bag, label_file, points_file

from xkd_ros.core.errors import XkdError

# Share of the inputs that each target gets.
TARGETS: dict[str, tuple[Callable[[np.random.Generator, Path], XkdError | None], float]] = {
    "cloud": (cloud, 0.3),
    "image": (image, 0.12),
    "livox": (livox, 0.04),
    "camera_info": (camera_info, 0.12),
    "bag": (bag, 0.1),
    "points_file": (points_file, 0.08),
    "label_file": (label_file, 0.04),
    "rig": (rig, 0.08),
    "card": (card, 0.08),
    "model": (model, 0.04),
}

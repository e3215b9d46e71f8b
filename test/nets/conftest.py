"""Small networks and scans."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from xkd_ros.core.card import GeometryConfig, IntensityConfig, NetworkConfig
from xkd_ros.core.types import NetInput
from xkd_ros.nets.student import Student, seeded_student
from xkd_ros.points.preprocessor import Preprocessor

GEOMETRY = GeometryConfig(fov_min_m=(-4, -4, -1), fov_max_m=(4, 4, 2), neighbours=6)


@pytest.fixture(scope="session")
def make_scan() -> Callable[..., NetInput]:
    """Preprocess a random cloud that fills the field of view up to its borders, or a part of it: make_scan(seed, points)."""

    def make(seed: int, points: int, part: float = 1.0) -> NetInput:
        rng = np.random.default_rng(seed)
        cloud = part * rng.uniform((-4.2, -4.2, -1.2), (4.2, 4.2, 2.2), (points, 3)).astype(np.float32)
        preprocess = Preprocessor(GEOMETRY, IntensityConfig(mean=60, std=30), threads=1)
        return preprocess(cloud, rng.uniform(0, 120, points).astype(np.float32))

    return make


@pytest.fixture(scope="session")
def make_student() -> Callable[..., Student]:
    """Build a small student in evaluation mode whose norms are not at their start: make_student(norm=, activation=, ...)."""

    def make(norm: str = "layer", activation: str = "relu", depth: int = 4, width: int = 12, classes: int = 5, seed: int = 0) -> Student:
        network = NetworkConfig(depth=depth, width=width, norm=norm, activation=activation, classes=classes)
        student = seeded_student(network, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in student.state_dict().items():
                if "norm" not in name or not tensor.is_floating_point():
                    continue
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.5 if name.endswith(("running_var", "weight")) else drawn - 0.5)
        return student.eval()

    return make

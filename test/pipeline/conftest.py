"""A model folder and a recording small enough for every test."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud
from xkd_ros.nets.checkpoint import load_student, save_student
from xkd_ros.nets.fused_checkpoint import save_fused
from xkd_ros.nets.fusion import FusedHead, FusionSizes
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.nets.student import seeded_student
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.teacher import load_teacher

STAMP_NS = 1_700_000_000_000_000_000
NETWORK = NetworkConfig(depth=2, width=16)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    card = ModelCard(name="tiny", network=NETWORK, geometry=GeometryConfig(align_heading=True), intensity=IntensityConfig(per_scan=True))
    save_student(seeded_student(NETWORK, 0), card, folder)
    return folder


def room(number: int, count: int = 3000) -> Scan:
    """A box seen from inside, with non-returns."""
    rng = np.random.default_rng(number)
    points = rng.uniform([-4, -3, -1], [4, 3, 1.5], (count, 3)).astype(np.float32)
    side = rng.integers(0, 3, count)
    faces = np.array([[-4, -3, -1], [4, 3, 1.5]], np.float32)
    points[np.arange(count), side] = faces[rng.integers(0, 2, count), side]
    points[::100] = np.nan
    points[1::100] = 0
    return Scan(points, rng.uniform(0, 200, count).astype(np.float32), STAMP_NS + number * 100_000_000, "lidar")


@pytest.fixture
def small_bag(tmp_path: Path, typestore: Any) -> Path:
    with BagWriter(tmp_path / "small") as writer:
        for number in range(3):
            scan = room(number)
            writer.write("/points", make_cloud(scan, typestore.types), scan.stamp_ns)
            text = typestore.types["std_msgs/msg/String"](data=f"note {number}")
            writer.write("/notes", text, scan.stamp_ns + 1)
    return tmp_path / "small"


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small random image teacher."""
    network = ImageNetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1), feature_width=16)
    folder = tmp_path_factory.mktemp("teachers") / "random"
    save_image_teacher(seeded_image_student(network, 0), ImageTeacherCard(name="random", network=network), folder)
    return folder


@pytest.fixture(scope="session")
def fused_model(tiny_model: Path, tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a random fused head beside it, as the recipe xmodel leaves it."""
    folder = tmp_path_factory.mktemp("fused") / "tiny"
    shutil.copytree(tiny_model, folder)
    student, card = load_student(folder)
    torch.manual_seed(0)
    head = FusedHead(FusionSizes(card.network.width, 16, card.network.classes, 8))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    save_fused(head, student, load_teacher(str(tiny_teacher), load_class_map("indoor12")).fingerprint, folder)
    return folder

"""A tiny exported model, and a cache folder of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig
from xkd_ros.core.labels import LabelSet
from xkd_ros.runtime.probe import make_room_scan

LABELS = LabelSet(names=tuple("abcde"), colours=((0, 0, 0),) * 5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "xkd_ros"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Model folder with weights and both graphs."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    import torch

    from xkd_ros.export.onnx_export import export_onnx
    from xkd_ros.nets.checkpoint import save_student
    from xkd_ros.nets.student import seeded_student

    card = ModelCard(
        name="tiny",
        geometry=GeometryConfig(fov_min_m=(-6, -6, -2), fov_max_m=(6, 6, 3), neighbours=5),
        intensity=IntensityConfig(mean=80, std=40),
        network=NetworkConfig(depth=3, width=12, classes=5),
        labels=LABELS,
        temperature=0.5,
    )
    student = seeded_student(card.network, 3)
    with torch.no_grad():
        student.head.weight.mul_(5)  # so that several classes win
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_student(student, card, folder)
    export_onnx(folder)
    yield folder


@pytest.fixture(scope="session")
def room() -> tuple[np.ndarray, np.ndarray]:
    """Points and intensities of a scan with non-returns."""
    return make_room_scan(5, 16, 256, 7.0)

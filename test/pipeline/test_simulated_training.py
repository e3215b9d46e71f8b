"""Training from nothing to a model folder that the robot loads, and what happens when it is asked for again."""

from __future__ import annotations

from pathlib import Path

import pytest

from xkd_ros.core.card import GeometryConfig, IntensityConfig, NetworkConfig, load_card
from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.simulated_training import DataConfig, SimulatedTrainingConfig, train_simulated
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.train.engine import EngineConfig

from .conftest import room

CONFIG = SimulatedTrainingConfig(
    network=NetworkConfig(depth=2, width=16),
    geometry=GeometryConfig(align_heading=True),
    intensity=IntensityConfig(per_scan=True),
    data=DataConfig(scans=4, shifted_scans=4, max_points=800),
    engine=EngineConfig(steps=4, batch=2, save_every=2, evaluate_every=4),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    train_simulated(CONFIG, folder / "work", folder / "small", threads=1)
    return folder


def test_the_folder_is_complete(trained: Path) -> None:
    card = load_card(trained / "small")
    assert card.name == "small" and set(card.files) == {"student.safetensors", "student.ort.onnx", "student.trt.onnx"}
    assert set(card.metrics["shifted_buildings"]) == {"struct4", "indoor12", "ece"}
    assert 0 < card.usual_entropy < 1
    page = (trained / "small" / "README.md").read_text()
    assert "simulated, building styles not in training" in page and "train-sim" in page


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_the_robot_loads_it(trained: Path, backend: str) -> None:
    scan = room(0)
    labels = Segmenter.load(trained / "small", backend, threads=1).segment(scan.points_m, scan.intensity).labels
    assert labels.shape == (3000,) and (labels[2::100] < 12).all() and (labels[::100] == 255).all()


def test_asked_again_it_trains_nothing_and_gives_the_same(trained: Path) -> None:
    before = (trained / "work" / "last.pt").stat().st_mtime_ns
    weights = load_card(trained / "small").files["student.safetensors"]
    card = train_simulated(CONFIG, trained / "work", trained / "small", threads=1)
    assert (trained / "work" / "last.pt").stat().st_mtime_ns == before and card.files["student.safetensors"] == weights


def test_another_configuration_is_refused(trained: Path) -> None:
    with pytest.raises(ConfigError, match="another configuration"):
        train_simulated(CONFIG.model_copy(update={"drop_path": 0.5}), trained / "work", trained / "small")

"""From nothing to a 2D teacher that loads, and what happens when it is asked for again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.picture_augment import PictureAugmentConfig
from xkd_ros.nets.image_checkpoint import load_image_card
from xkd_ros.nets.image_student import ImageNetworkConfig, ImageStudent
from xkd_ros.pipeline.teach2d import PictureDataConfig, Teach2dConfig, _groups, teach2d
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.teacher import load_teacher
from xkd_ros.train.config import EngineConfig

CONFIG = Teach2dConfig(
    network=ImageNetworkConfig(widths=(16, 16, 32, 32), blocks=(1, 1, 1, 1), feature_width=16),
    data=PictureDataConfig(pictures=4, val_pictures=3, target_pictures=3),
    augmentation=PictureAugmentConfig(window_px=(96, 128)),
    engine=EngineConfig(steps=4, batch=2, save_every=2, evaluate_every=4, precision="32-true", tensorboard=False),
    points_per_picture=200,
)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teach2d")
    teach2d(CONFIG, folder / "work", folder / "small", processes=1)
    return folder


def test_the_folder_is_complete_and_says_where_its_labels_came_from(taught: Path) -> None:
    card = load_image_card(taught / "small")
    assert card.name == "small" and card.family == "teach2d" and "simulator's true labels" in card.truth and "no manual label" in card.truth
    assert set(card.metrics) == {"val", "target"} and 0.2 < card.temperature < 4.1 and len(card.metrics["target"]["iou"]) == 12
    page = (taught / "small" / "README.md").read_text()
    assert "xkd teach2d" in page and "students train in" in page and card.truth in page


def test_it_loads_as_a_teacher(taught: Path) -> None:
    glance = load_teacher(str(taught / "small"), load_class_map("struct4_aligned")).look(
        np.zeros((240, 376, 3), np.uint8), np.array([[10, 20], [300, 200]], np.float32)
    )
    assert glance.features.shape == (2, 16) and np.allclose(glance.scores.sum(1), 1, atol=1e-5) and glance.scores.shape == (2, 4)


def test_asked_again_it_renders_and_trains_nothing_and_gives_the_same(taught: Path) -> None:
    watched = [taught / "work" / "last.pt", *(taught / "work").glob("*/*/jpeg.npy")]
    before = [path.stat().st_mtime_ns for path in watched]
    files = load_image_card(taught / "small").files
    assert teach2d(CONFIG, taught / "work", taught / "small", processes=1).files == files and len(watched) == 4
    assert [path.stat().st_mtime_ns for path in watched] == before


def test_another_configuration_is_refused(taught: Path) -> None:
    with pytest.raises(ConfigError, match="another configuration"):
        teach2d(CONFIG.model_copy(update={"label_smoothing": 0.5}), taught / "work", taught / "small", processes=1)


def test_an_encoder_without_published_weights_cannot_start_from_them(taught: Path) -> None:
    config = CONFIG.model_copy(update={"start": "imagenet"})
    work = taught / "imagenet"
    work.mkdir()
    for name in ("train", "val", "target"):
        (work / name).symlink_to(taught / "work" / name)
    with pytest.raises(ConfigError, match="efficientnet_lite0"):
        teach2d(config, work, taught / "other", processes=1)


def test_the_encoder_learns_at_its_own_rate_and_every_weight_once() -> None:
    config = CONFIG.model_copy(update={"encoder_rate": 0.25})
    network = ImageStudent(config.network)
    groups = _groups(network, config)
    counted = [id(weight) for group in groups for weight in group.parameters]
    assert sorted(counted) == sorted(id(weight) for weight in network.parameters())
    slow = {id(weight) for group in groups if group.scale == 0.25 for weight in group.parameters}
    assert slow == {id(weight) for weight in network.encoder.parameters()}

"""The teacher that was taught on rendered pictures: it follows its class map, and looks exactly where it is asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_input import prepare
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.sim2d import load_sim2d, make_groups
from xkd_ros.teacher.teacher import load_teacher

NETWORK = ImageNetworkConfig(widths=(16, 16, 32, 32), blocks=(1, 1, 1, 1), feature_width=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network; the head is enlarged so that it is sure of something."""
    network = seeded_image_student(NETWORK, 4)
    with torch.no_grad():
        network.head.weight *= 8
    path = tmp_path_factory.mktemp("teacher") / "tiny"
    save_image_teacher(network, ImageTeacherCard(name="tiny", network=NETWORK, temperature=1.5), path)
    return path


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return coarse.repeat(40, 0).repeat(40, 1)  # 480 x 640


def _everywhere(height: int, width: int, step: int) -> np.ndarray:
    column, row = np.meshgrid(np.arange(0, width, step), np.arange(0, height, step))
    return np.stack([column.reshape(-1), row.reshape(-1)], 1).astype(np.float32)


def test_features_and_scores_at_the_pixels_asked(folder: Path, rgb: np.ndarray) -> None:
    teacher = load_teacher(str(folder), load_class_map("indoor12"))
    uv = _everywhere(480, 640, 23)
    glance = teacher.look(rgb, uv)
    assert glance.features.shape == (len(uv), 16) and glance.features.dtype == np.float16 and teacher.feature_width == 16
    assert glance.scores.shape == (len(uv), 12) and glance.scores.dtype == np.float32 and np.allclose(glance.scores.sum(1), 1, atol=1e-5)
    assert glance.interior.dtype == bool and 0 < glance.interior.mean() < 1
    assert teacher.label_set == INDOOR12 and teacher.class_hash == load_class_map("indoor12").hash and len(teacher.fingerprint) == 64
    order = np.random.default_rng(1).permutation(len(uv))
    other = teacher.look(rgb, uv[order])
    assert np.array_equal(other.features, glance.features[order]) and np.array_equal(other.interior, glance.interior[order])


def test_the_same_network_gives_the_same_scores(folder: Path, rgb: np.ndarray) -> None:
    """At the centre of a cell nothing is interpolated: the scores are the network's own."""
    teacher = load_sim2d(folder)
    with torch.no_grad():
        logits = teacher._network(prepare(rgb, teacher._card.input))[0]
    uv = np.array([[3.5, 3.5], [8 * 37 + 3.5, 8 * 20 + 3.5], [635.5, 475.5]], np.float32)  # cells of 8 camera pixels
    true = torch.stack([logits[:, 0, 0], logits[:, 20, 37], logits[:, 59, 79]]) / 1.5
    assert np.allclose(teacher.look(rgb, uv).scores, true.softmax(1).numpy(), atol=1e-4)


def test_coarser_classes_are_sums(folder: Path, rgb: np.ndarray) -> None:
    uv = _everywhere(480, 640, 31)
    fine = load_sim2d(folder).look(rgb, uv).scores
    teacher = load_sim2d(folder, load_class_map("struct4_aligned"))
    coarse = teacher.look(rgb, uv).scores
    summed = np.stack([fine[:, INDOOR12_TO_STRUCT4[:12] == k].sum(1) for k in range(4)], 1)
    assert np.allclose(coarse, summed, atol=1e-5) and teacher.label_set == STRUCT4


def test_what_a_class_map_ignores_is_a_row_of_zeros(folder: Path, rgb: np.ndarray) -> None:
    class_map = load_class_map("struct4_seed")
    groups = make_groups(class_map)
    assert (groups.sum(0) == 1).all() and groups[-1, [7, 8, 9]].all() and groups[:4, [0, 1, 2]].argmax(0).tolist() == [0, 1, 2]
    uv = _everywhere(480, 640, 19)
    best = load_sim2d(folder).look(rgb, uv).scores @ groups.T
    scores = load_sim2d(folder, class_map).look(rgb, uv).scores
    ignored = best.argmax(1) == 4
    assert np.array_equal(scores.sum(1) < 0.5, ignored)


def test_no_border_is_interior_and_erosion_is_the_users(folder: Path, rgb: np.ndarray) -> None:
    uv = _everywhere(480, 640, 5)
    thin, wide = (load_sim2d(folder, config=TeacherConfig(erode_px=width)).look(rgb, uv).interior for width in (2.0, 12.0))
    none = load_sim2d(folder, config=TeacherConfig(erode_px=0.0)).look(rgb, uv).interior
    assert none.all() and wide.sum() < thin.sum() and not (wide & ~thin).any()


def test_fingerprints_tell_teachers_apart(folder: Path, tmp_path: Path) -> None:
    save_image_teacher(seeded_image_student(NETWORK, 5), ImageTeacherCard(name="tiny", network=NETWORK), tmp_path / "other")
    prints = {
        load_sim2d(folder).fingerprint,
        load_sim2d(folder, load_class_map("struct4_aligned")).fingerprint,
        load_sim2d(folder, config=TeacherConfig(erode_px=9)).fingerprint,
        load_sim2d(tmp_path / "other").fingerprint,
    }
    assert len(prints) == 4 and load_sim2d(folder).fingerprint in prints


@pytest.mark.parametrize("size", [(1, 1), (37, 500), (512, 640)])
def test_odd_pictures_and_no_points(folder: Path, size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    teacher = load_sim2d(folder)
    assert np.isfinite(teacher.look(picture, np.zeros((1, 2), np.float32)).scores).all()
    nothing = teacher.look(picture, np.zeros((0, 2), np.float32))
    assert nothing.features.shape == (0, 16) and nothing.scores.shape == (0, 12) and nothing.interior.shape == (0,)


def test_errors_are_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device"):
        load_sim2d(folder, device="warp")
    save_image_teacher(
        seeded_image_student(NETWORK.model_copy(update={"classes": 4}), 0),
        ImageTeacherCard(name="four", labels=STRUCT4, network=NETWORK.model_copy(update={"classes": 4})),
        tmp_path / "four",
    )
    with pytest.raises(ModelError, match="twelve indoor classes"):
        load_sim2d(tmp_path / "four")

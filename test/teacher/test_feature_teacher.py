"""Feature teachers: the right tokens, at the right pixels, of the whole image."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from xkd_ros.core.errors import ConfigError
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.feature_teacher import FeatureTeacher
from xkd_ros.teacher.grid_sample import sample_map
from xkd_ros.teacher.teacher import load_teacher

FAMILIES = {"dinov2": ("layernorm", 1), "dinov2_with_registers": ("layernorm", 5), "dinov3_vit": ("norm", 5), "radio": (None, 10)}
# The picture has 72 x 96 pixels: 56 x 70 for patch 14, 64 x 80 for patch 16.
SMALL = TeacherConfig(short_side_px=60)


@pytest.fixture
def load(model_folder):
    def get(kind: str, config: TeacherConfig = SMALL) -> FeatureTeacher:
        teacher = load_teacher(str(model_folder(kind)), config=config)
        assert isinstance(teacher, FeatureTeacher)
        return teacher

    return get


@pytest.mark.parametrize("kind", FAMILIES)
def test_features_are_the_patch_tokens_before_the_final_norm(load, picture, kind):
    teacher = load(kind)
    norm, prefix = FAMILIES[kind]
    pixels = teacher._input(picture, "cpu")
    with torch.no_grad():
        output = teacher._network(pixel_values=pixels, output_hidden_states=True)
    hidden = output.hidden_states[-1]
    if norm:
        # What METHODS 8.1 says of transformers still holds: the kept states are those before the norm.
        assert torch.allclose(getattr(teacher._network, norm)(hidden), output.last_hidden_state, atol=1e-5)
        assert not torch.allclose(hidden, output.last_hidden_state, atol=0.1)
    features = teacher.feature_map(picture)
    patch = 14 if kind.startswith("dinov2") else 16
    assert features.shape == (32, pixels.shape[2] // patch, pixels.shape[3] // patch)
    assert hidden.shape[1] == prefix + features[0].numel()
    assert torch.allclose(features.flatten(1).T, hidden[0, prefix:], atol=1e-5)


@pytest.mark.parametrize("kind", ["dinov2", "dinov3_vit"])
def test_sampled_features_equal_dense_upsampling_and_indexing(load, picture, kind):
    teacher = load(kind)
    height, width = picture.shape[:2]
    dense = torch.nn.functional.interpolate(teacher.feature_map(picture)[None], (height, width), mode="bilinear", align_corners=True)[0]
    rng = np.random.default_rng(0)
    uv = np.stack([rng.integers(0, width, 200), rng.integers(0, height, 200)], 1)
    uv[:4] = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]
    expected = dense[:, uv[:, 1], uv[:, 0]].T
    assert torch.allclose(sample_map(teacher.feature_map(picture), uv, (height, width), "corners"), expected, atol=1e-4)
    glance = teacher.look(picture, uv.astype(np.float32))
    assert glance.features.dtype == np.float16 and glance.features.shape == (200, teacher.feature_width)
    assert glance.scores is None and glance.interior is None
    np.testing.assert_allclose(glance.features, expected.numpy(), rtol=2e-3, atol=2e-3)


def test_patch_centres_are_where_the_patches_are(load, picture):
    teacher = load("dinov2", TeacherConfig(short_side_px=60, sampling="patch_centres"))
    features = teacher.feature_map(picture)
    rows, columns = features.shape[1:]
    row, column = np.divmod(np.arange(rows * columns), columns)
    centres = np.stack([(column + 0.5) * 96 / columns - 0.5, (row + 0.5) * 72 / rows - 0.5], 1).astype(np.float32)
    np.testing.assert_allclose(teacher.look(picture, centres).features, features.flatten(1).T, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ["dinov2", "dinov2_with_registers", "dinov3_vit"])
@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_the_whole_image_is_seen(model_folder, kind, corner):
    """Without attention a patch knows only itself: a bright corner must change the features there and nowhere else."""
    teacher = load_teacher(str(model_folder(kind)))
    patch = teacher._input.multiple_px
    for name, weight in teacher._network.named_parameters():
        if "o_proj" in name:
            weight.zero_()
    # A multiple of the patch, so that resizing changes nothing; wider than any centre crop or squeeze to a square would keep.
    image = np.full((4 * patch if patch == 16 else 5 * patch, 9 * patch, 3), 60, np.uint8)
    teacher._input = type(teacher._input)(patch, image.shape[0], teacher._input.mean, teacher._input.std)
    bright = image.copy()
    row, column = (slice(0, patch) if place == 0 else slice(-patch, None) for place in corner)
    bright[row, column] = 255
    changed = (teacher.feature_map(image) - teacher.feature_map(bright)).abs().amax(0) > 1e-4
    assert changed[corner] and changed.sum() == 1


def test_default_sizes_follow_the_camera(model_folder):
    for kind, expected in (("dinov2", (448, 602)), ("dinov3_vit", (480, 640))):
        teacher = load_teacher(str(model_folder(kind)))
        assert teacher._input.size_for(480, 640) == expected
        assert teacher._input.size_for(640, 480) == expected[::-1]
    assert load_teacher(str(model_folder("dinov2")))._input.size_for(600, 1200) == (448, 896)


def test_colours_are_normalised_as_the_model_wants(model_folder, tmp_path, picture):
    folder = tmp_path / "model"
    shutil.copytree(model_folder("dinov2"), folder)
    plain = load_teacher(str(folder), config=SMALL)
    pixels = plain._input(np.full((56, 56, 3), 255, np.uint8), "cpu")
    np.testing.assert_allclose(pixels[0, :, 0, 0], (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=1e-5)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5]}))
    other = load_teacher(str(folder), config=SMALL)
    np.testing.assert_allclose(other._input(np.zeros((56, 56, 3), np.uint8), "cpu")[0, :, 0, 0], [-0.2, -0.4, -0.6], rtol=1e-5)
    assert other.fingerprint != plain.fingerprint
    # C-RADIO normalises inside.
    assert load_teacher(str(model_folder("radio")))._input.mean == (0.0, 0.0, 0.0)


def test_fingerprints_tell_weights_and_settings_apart(model_folder):
    fingerprints = {
        load_teacher(str(model_folder(kind)), config=config).fingerprint
        for kind in ("dinov2", "dinov3_vit")
        for config in (SMALL, TeacherConfig(short_side_px=60, sampling="patch_centres"), TeacherConfig(short_side_px=90))
    }
    assert len(fingerprints) == 6
    assert load_teacher(str(model_folder("dinov2")), config=SMALL).fingerprint in fingerprints


def test_half_precision_is_near(load, picture):
    uv = np.array([[3.0, 4.0], [90.0, 70.0]], np.float32)
    half = load("dinov2", TeacherConfig(short_side_px=60, precision="bfloat16")).look(picture, uv).features
    np.testing.assert_allclose(half, load("dinov2").look(picture, uv).features, atol=0.3)


def test_no_pixels_no_work(load, picture):
    assert load("dinov2").look(picture, np.zeros((0, 2), np.float32)).features.shape == (0, 32)


def test_a_missing_gpu_is_one_line(model_folder):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="no usable GPU"):
        load_teacher(str(model_folder("dinov2")), device="cuda")

"""Segmentation teachers: scores equal the textbook sum over all 150 classes at full image size."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.teacher.class_map import ClassMap, load_class_map
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.grid_sample import nearest_cell, uniform_around
from xkd_ros.teacher.mask_models import task_tokens, window_starts
from xkd_ros.teacher.mask_teacher import MaskTeacher
from xkd_ros.teacher.model_folder import ModelFolder
from xkd_ros.teacher.teacher import load_teacher

FAMILIES = ("mask2former", "oneformer", "eomt", "eomt_dinov3", "segformer")
INDOOR12 = load_class_map("indoor12")
SMALL = TeacherConfig(short_side_px=64)


@pytest.fixture
def load(model_folder):
    def get(kind: str, class_map: ClassMap = INDOOR12, config: TeacherConfig = SMALL) -> MaskTeacher:
        teacher = load_teacher(str(model_folder(kind)), class_map, config=config)
        assert isinstance(teacher, MaskTeacher)
        return teacher

    return get


def planes_150(teacher: MaskTeacher, pixels: torch.Tensor) -> torch.Tensor:
    """Scores of all ADE20K classes at the resolution of the masks: (150, h, w)."""
    extra = {"task_inputs": task_tokens(ModelFolder(Path(teacher.name)), 20)} if "OneFormer" in type(teacher._network).__name__ else {}
    with torch.no_grad():
        output = teacher._network(pixel_values=pixels, **extra)
    if hasattr(output, "logits"):
        return output.logits[0].softmax(0)
    return torch.einsum("qc,qhw->chw", output.class_queries_logits[0].softmax(-1)[:, :-1], output.masks_queries_logits[0].sigmoid())


@pytest.mark.parametrize("kind", FAMILIES)
def test_scores_equal_the_dense_sum(load, picture, kind):
    teacher = load(kind)
    # EoMT takes a square at a time; windows have their own test.
    image = np.ascontiguousarray(picture[:, :72]) if kind.startswith("eomt") else picture
    height, width = image.shape[:2]
    dense = interpolate(planes_150(teacher, teacher._input(image, "cpu"))[None], (height, width), mode="bilinear", align_corners=False)[0]
    uv = np.stack(np.meshgrid(np.arange(0, width, 3), np.arange(0, height, 3)), -1).reshape(-1, 2)
    grouped = (torch.from_numpy(INDOOR12.groups) @ dense.flatten(1))[:, uv[:, 1] * width + uv[:, 0]].T.numpy()
    expected = grouped[:, :12] / grouped[:, :12].sum(1, keepdims=True)
    expected[grouped.argmax(1) == 12] = 0
    glance = teacher.look(image, uv.astype(np.float32))
    np.testing.assert_allclose(glance.scores, expected, atol=2e-4)
    assert glance.features is None and glance.scores.dtype == np.float32
    named = glance.scores.any(1)
    np.testing.assert_allclose(glance.scores[named].sum(1), 1, atol=1e-5)
    assert teacher.label_set.names == INDOOR12.label_set.names and teacher.class_hash == INDOOR12.hash


def test_what_is_ignored_competes(load, picture):
    """With a map that names one class and ignores the rest, most points are zero rows; the others are sure."""
    rest = [number for number in range(150) if number != 3]
    some = {"names": ["floor"], "colours": [[0, 0, 0]]}
    mostly_ignored = ClassMap.model_validate({"name": "m", "labels": some, "classes": {"floor": [3], "ignore": rest}})
    mostly_named = ClassMap.model_validate({"name": "n", "labels": some, "classes": {"floor": rest, "ignore": [3]}})
    uv = np.random.default_rng(0).uniform(0, 70, (50, 2)).astype(np.float32)
    assert not load("mask2former", mostly_ignored).look(picture, uv).scores.any()
    assert (load("mask2former", mostly_named).look(picture, uv).scores == 1).all()


@pytest.mark.parametrize("kind", ["eomt", "eomt_dinov3"])
@pytest.mark.parametrize("tall", [False, True])
def test_windows_of_eomt_cover_long_images(load, picture, kind, tall):
    teacher = load(kind)
    image = np.concatenate([picture, picture[:, ::-1]], 1)  # 72 x 192
    image = image.transpose(1, 0, 2) if tall else image
    pixels = teacher._input(image, "cpu")
    assert sorted(pixels.shape[2:]) == [64, 176]
    scores = teacher.score_map(image)
    starts = window_starts(176, 64, 16)
    along = 2 if tall else 3
    cells = 4 * 4  # two doublings of the 4 x 4 patches
    groups = torch.from_numpy(INDOOR12.groups)
    windows = [torch.einsum("gc,chw->ghw", groups, planes_150(teacher, pixels.narrow(along, start, 64))) for start in starts]
    assert scores.shape == ((13, 44, 16) if tall else (13, 16, 44))
    for column in range(44):
        covering = [
            window.select(along - 1, column - start // 4) for start, window in zip(starts, windows) if 0 <= column - start // 4 < cells
        ]
        assert torch.allclose(scores.select(along - 1, column), torch.stack(covering).mean(0), atol=1e-4)


def test_window_starts_cover_everything():
    assert window_starts(512, 512, 16) == [0]
    for length in range(512, 2000, 16):
        starts = window_starts(length, 512, 16)
        assert starts[0] == 0 and starts[-1] == length - 512 and all(start % 16 == 0 for start in starts)
        assert all(after - before <= 512 for before, after in pairwise(starts))


def test_interior_is_eroded(load, picture):
    uv = np.stack(np.meshgrid(np.arange(96), np.arange(72)), -1).reshape(-1, 2).astype(np.float32)
    teacher = load("eomt_dinov3", config=TeacherConfig(erode_px=6))
    best = teacher.score_map(picture).argmax(0)
    radius = round(6 * best.shape[1] / 96)
    assert radius >= 1
    expected = np.zeros(best.shape, bool)
    for row, column in np.ndindex(*best.shape):
        around = best[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
        expected[row, column] = len(around.unique()) == 1
    assert (uniform_around(best, radius).numpy() == expected).all()
    interior = teacher.look(picture, uv).interior
    assert (interior == expected.ravel()[nearest_cell(uv, (72, 96), best.shape)]).all()
    assert 0 < interior.mean() < 1
    assert load("eomt_dinov3", config=TeacherConfig(erode_px=0)).look(picture, uv).interior.all()


def test_the_task_of_oneformer_is_encoded_as_its_processor_does(model_folder):
    from transformers import CLIPTokenizer
    from transformers.models.oneformer.processing_oneformer import OneFormerProcessor

    folder = ModelFolder(model_folder("oneformer"))
    tokens = task_tokens(folder, 20)
    stand_in = SimpleNamespace(tokenizer=CLIPTokenizer.from_pretrained(folder.path))
    assert torch.equal(tokens, OneFormerProcessor._preprocess_text(stand_in, ["the task is semantic"], 20))
    assert tokens.shape == (1, 20) and (tokens[0, :4] > 0).all() and (tokens[0, -5:] == 0).all()


def edited(model_folder, tmp_path, kind: str, **changes) -> str:
    folder = tmp_path / "model"
    shutil.copytree(model_folder(kind), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return str(folder)


def test_another_number_of_classes_is_refused(model_folder, tmp_path):
    spec = edited(model_folder, tmp_path, "eomt", id2label={str(number): f"thing {number}" for number in range(133)})
    with pytest.raises(ModelError, match="names 133 classes and the class map indoor12 is for the 150 of ADE20K"):
        load_teacher(spec, INDOOR12)


def test_shifted_class_names_are_refused(model_folder, tmp_path):
    names = ModelFolder(model_folder("eomt")).config["id2label"]
    shifted = {str(number): names[str(number - 1)] if number else "background" for number in range(150)}
    with pytest.raises(ModelError, match="0 is 'background', not 'wall'"):
        load_teacher(edited(model_folder, tmp_path, "eomt", id2label=shifted), INDOOR12)


def test_nameless_classes_are_taken_with_a_warning(model_folder, tmp_path, caplog):
    names = {str(number): f"LABEL_{number}" for number in range(150)}
    load_teacher(edited(model_folder, tmp_path, "eomt", id2label=names), INDOOR12)
    assert "taken as ADE20K in its usual order" in caplog.text


def test_oneformer_without_tokenizer_is_one_line(model_folder, tmp_path):
    spec = edited(model_folder, tmp_path, "oneformer")
    (tmp_path / "model" / "merges.txt").unlink()
    with pytest.raises(ModelError, match=r"lacks the tokenizer of OneFormer \(vocab.json and merges.txt, or tokenizer.json\)"):
        load_teacher(spec, INDOOR12)


def test_a_class_map_is_asked_for(model_folder):
    with pytest.raises(ConfigError, match="class map indoor12"):
        load_teacher(str(model_folder("eomt")))

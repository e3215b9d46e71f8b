"""Detectors that are asked in words, as tiny random models in their real format: boxes equal what transformers makes of them."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch

from xkd_ros.core.errors import ModelError
from xkd_ros.teacher.box_teacher import PROMPTS, WordBoxTeacher, load_box_teacher, surest
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.model_folder import ModelFolder

INDOOR12 = load_class_map("indoor12")
NAMES = INDOOR12.label_set.names
FAMILIES = ("grounding-dino", "owlv2")
SMALL = TeacherConfig(short_side_px=64)
WORDS = {**dict.fromkeys(NAMES, ()), "door": ("door",), "chair": ("chair", "stool"), "person": ("person",)}


def load(model_folder, kind: str, prompts=PROMPTS) -> WordBoxTeacher:
    return WordBoxTeacher(ModelFolder(model_folder(kind)), INDOOR12, SMALL, "cpu", prompts)


@pytest.mark.parametrize("kind", FAMILIES)
def test_boxes_are_of_our_classes_and_inside_the_image(model_folder, picture, kind) -> None:
    teacher = load_box_teacher(str(model_folder(kind)), INDOOR12, config=SMALL)
    boxes = teacher.draw(picture)
    assert boxes and all(0.05 <= box.score <= 1 for box in boxes)
    assert not {NAMES[box.label] for box in boxes} & {"wall", "floor", "ceiling"}
    for box in boxes:
        left, top, right, bottom = box.uv_px
        assert -0.5 <= left < right <= 95.5 and -0.5 <= top < bottom <= 71.5
    assert boxes == teacher.draw(picture) and [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)
    assert teacher.class_hash == INDOOR12.hash and len(teacher.fingerprint) == 64
    assert teacher.fingerprint == load_box_teacher(str(model_folder(kind)), INDOOR12, config=SMALL).fingerprint
    assert teacher.fingerprint != load(model_folder, kind, WORDS).fingerprint


@pytest.mark.parametrize("size", [(64, 64), (72, 96), (72, 40)])
def test_owlv2_is_read_as_transformers_reads_it(model_folder, picture, size) -> None:
    """The same pixels and words through its own processing: the same boxes and scores, but in pixels of our image."""
    from transformers import CLIPTokenizer
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    teacher, processor = load(model_folder, "owlv2", WORDS), Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    image = np.ascontiguousarray(picture[: size[0], : size[1]])
    pixels = teacher._asker.prepare(image, "cpu")
    # Their resizing blurs a little otherwise than torch's.
    assert (pixels - processor(image, return_tensors="pt")["pixel_values"]).abs().mean() < (0.1 if size != (64, 64) else 1e-5)
    sentences = [f"a photo of a {word}" for word in ("door", "chair", "stool", "person")]
    tokenizer = CLIPTokenizer.from_pretrained(model_folder("owlv2"))
    tokens = tokenizer(sentences, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    with torch.no_grad():
        output = teacher._network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels)
    (found,) = processor.post_process_object_detection(output, threshold=0.0, target_sizes=[(max(size), max(size))])
    scores, corners = teacher._asker.ask(teacher._network, image, "cpu")
    assert torch.allclose(scores.max(1).values, found["scores"], atol=1e-5)
    assert torch.allclose(corners, found["boxes"] - 0.5, atol=1e-3)


def test_grounding_dino_reads_the_sentence_as_its_tokenizer_does_and_scores_words(model_folder, picture) -> None:
    from transformers import BertTokenizer
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    teacher = load(model_folder, "grounding-dino", WORDS)
    encoded = BertTokenizer.from_pretrained(model_folder("grounding-dino"))("door. chair. stool. person.", return_tensors="pt")
    assert torch.equal(teacher._asker._ids, encoded["input_ids"])
    pixels = teacher._asker._input(picture, "cpu")
    with torch.no_grad():
        output = teacher._network(pixel_values=pixels, **encoded)
    ids = encoded["input_ids"][0].tolist()
    points = [0, *(place for place, token in enumerate(ids) if token == 1012)]
    sigmoid = output.logits[0].sigmoid().numpy()
    expected = np.stack([sigmoid[:, before + 1 : after].max(1) for before, after in pairwise(points)], 1)
    scores, corners = teacher._asker.ask(teacher._network, picture, "cpu")
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)
    (found,) = GroundingDinoImageProcessorPil().post_process_object_detection(output, threshold=0.0, target_sizes=[(72, 96)])
    assert torch.allclose(corners, found["boxes"] - 0.5, atol=1e-3)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_class_is_as_sure_as_its_surest_word(model_folder, picture, kind) -> None:
    teacher = load(model_folder, kind, WORDS)
    scores, _ = teacher._asker.ask(teacher._network, picture, "cpu")
    door, chair, person = scores[:, 0], scores[:, 1:3].amax(1), scores[:, 3]
    best = torch.stack([door, chair, person], 1).max(1)
    wanted = {(("door", "chair", "person")[label], round(float(score), 5)) for score, label in zip(*best)}
    assert {(NAMES[box.label], round(box.score, 5)) for box in teacher.draw(picture)} <= wanted


def test_of_boxes_on_one_thing_the_surest_stays() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 20, (40, 2))
    corners = torch.from_numpy(np.concatenate([low, low + rng.uniform(5, 20, (40, 2))], 1))
    score, label = torch.from_numpy(rng.permutation(40) / 40), torch.from_numpy(rng.integers(0, 2, 40))
    kept: list[int] = []
    for place in sorted(range(40), key=lambda number: -score[number]):
        a = corners[place].tolist()
        overlaps = []
        for other in kept:
            b = corners[other].tolist()
            width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            common = max(0, width) * max(0, height)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
            overlaps.append(common / union > 0.5 and label[place] == label[other])
        if not any(overlaps):
            kept.append(place)
    assert surest(corners, score, label, 0.5) == kept and 5 < len(kept) < 40


def test_unusable_folders_are_named(model_folder, tmp_path) -> None:
    with pytest.raises(ModelError, match="model_type 'segformer', which draws no boxes from words; known are grounding-dino, owlv2"):
        load_box_teacher(str(model_folder("segformer")), INDOOR12)
    for kind, file in (("grounding-dino", "vocab.txt"), ("owlv2", "merges.txt")):
        shutil.copytree(model_folder(kind), tmp_path / kind)
        (tmp_path / kind / file).unlink()
        with pytest.raises(ModelError, match="lacks its tokenizer"):
            load_box_teacher(str(tmp_path / kind), INDOOR12)
    with pytest.raises(ModelError, match="has a word to ask for"):
        load(model_folder, "owlv2", dict.fromkeys(NAMES, ()))
    config = tmp_path / "owlv2" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "projection_dim": 64}))
    shutil.copy(model_folder("owlv2") / "merges.txt", tmp_path / "owlv2")
    with pytest.raises(ModelError, match=r"do not fit its config\.json"):
        load_box_teacher(str(tmp_path / "owlv2"), INDOOR12)

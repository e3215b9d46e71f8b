"""The 2D network: sizes, features behind the logits, and its folder on disk; sim2d depends on all of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from xkd_ros.core.errors import ModelError
from xkd_ros.nets.image_checkpoint import CARD_NAME, WEIGHTS_NAME, ImageTeacherCard, load_image_teacher, save_image_teacher
from xkd_ros.nets.image_input import ImageInputConfig, prepare, relative, sample_at
from xkd_ros.nets.image_student import ImageNetworkConfig, ImageStudent, seeded_image_student

SMALL = ImageNetworkConfig(widths=(16, 16, 32, 32), blocks=(1, 1, 1, 1), feature_width=16)


def _card() -> ImageTeacherCard:
    return ImageTeacherCard(name="tiny", network=SMALL, truth="none")


@pytest.mark.parametrize("size", [(240, 320), (96, 128), (112, 80), (16, 16)])
def test_any_size_gives_quarter_size_maps(size: tuple[int, int]) -> None:
    network = seeded_image_student(SMALL, 0).eval()
    picture = torch.rand(2, 3, *size)
    features, logits = network.features(picture), network(picture)
    cells = tuple(-(-side // 4) for side in size)
    assert features.shape == (2, 16, *cells) and logits.shape == (2, 12, *cells)
    assert torch.allclose(network.head(features), logits)


def test_the_default_is_small() -> None:
    count = sum(p.numel() for p in ImageStudent(ImageNetworkConfig()).parameters())
    assert 1e6 < count < 3e6  # stored in half precision: under 6 MB


def test_pictures_of_a_batch_do_not_mix_and_every_weight_learns() -> None:
    network = seeded_image_student(SMALL, 1)
    batch = torch.rand(2, 3, 64, 64)
    assert torch.allclose(network(batch)[:1], network(batch[:1]), atol=1e-5)
    for block in network.modules():  # zero at the start, so that gradients need one step to pass
        if hasattr(block, "conv2"):
            torch.nn.init.normal_(block.conv2.weight, std=0.05)
    network(batch).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize(
    "wrong", [{"widths": (8, 16, 16, 16)}, {"widths": (16, 24, 16, 16)}, {"blocks": (0, 1, 1, 1)}, {"feature_width": 9}]
)
def test_impossible_sizes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ImageNetworkConfig(**wrong)


def test_input_keeps_the_aspect_and_the_pixels_in_place() -> None:
    config = ImageInputConfig(long_side_px=320)
    assert [config.size(*s) for s in [(480, 640), (512, 640), (480, 752), (640, 480)]] == [(240, 320), (256, 320), (208, 320), (320, 240)]
    rgb = np.zeros((480, 640, 3), np.uint8)
    rgb[200:240, 400:480] = 255
    picture = prepare(rgb, config)
    assert picture.shape == (1, 3, 240, 320)
    uv = torch.from_numpy(relative(np.array([[440.0, 220.0], [100.0, 220.0], [440.0, 100.0]]), 480, 640))[None]
    white, left, above = sample_at(picture, uv)[0, :, 0].tolist()
    assert white == pytest.approx((1 - 0.485) / 0.229, rel=1e-4) and left == above == pytest.approx(-0.485 / 0.229, rel=1e-4)


def test_reading_between_cells_finds_their_centres() -> None:
    cells = torch.arange(12.0).view(1, 1, 3, 4)
    centres = relative(np.array([[1.5, 1.5], [13.5, 9.5], [3.5, 1.5]]), 12, 16)  # cells of 4 pixels
    assert sample_at(cells, torch.from_numpy(centres)[None])[0, :, 0].tolist() == pytest.approx([0, 11, 0.5])


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    network = seeded_image_student(SMALL, 2).eval()
    card = save_image_teacher(network, _card(), tmp_path / "t")
    loaded, again = load_image_teacher(tmp_path / "t")
    picture = torch.rand(1, 3, 48, 64)
    assert again == card and set(card.files) == {WEIGHTS_NAME}
    assert torch.allclose(loaded(picture), network(picture), atol=2e-2)


def test_damaged_folders_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no teacher\.json"):
        load_image_teacher(tmp_path)
    folder = tmp_path / "t"
    save_image_teacher(seeded_image_student(SMALL, 2), _card(), folder)
    content = json.loads((folder / CARD_NAME).read_text())
    for change, message in [
        ({"network": {**content["network"], "feature_width": 32}}, "does not fit the sizes"),
        ({"colour": "red"}, "unknown key"),
        ({"files": {}}, "missing or not listed"),
        ({"format": 2}, "format"),
        ({"network": {**content["network"], "classes": 4}}, "4 outputs"),
    ]:
        (folder / CARD_NAME).write_text(json.dumps({**content, **change}))
        with pytest.raises(ModelError, match=message):
            load_image_teacher(folder)
    (folder / CARD_NAME).write_text(json.dumps(content))
    with open(folder / WEIGHTS_NAME, "ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="hash differs"):
        load_image_teacher(folder)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    network = seeded_image_student(SMALL, 2)
    with torch.no_grad():
        network.head.bias[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        save_image_teacher(network, _card(), tmp_path / "t")
    assert not (tmp_path / "t").exists()

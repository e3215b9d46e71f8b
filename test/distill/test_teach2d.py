"""Teaching the 2D network: labels follow the warped picture, the number decides, and it learns, resumes and scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.picture_augment import PictureAugmentConfig, augment_picture
from xkd_ros.distill.teach2d import PictureCollate, PictureLoss, PictureSamples, count_pixels, score_pictures
from xkd_ros.nets.image_input import ImageInputConfig, sample_at
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.train.config import EngineConfig
from xkd_ros.train.engine import fit, make_fabric

INPUT = ImageInputConfig(long_side_px=64)
SMALL = ImageNetworkConfig(widths=(16, 16, 32, 32), blocks=(1, 1, 1, 1), feature_width=16, classes=3)
STILL = PictureAugmentConfig(**{**dict.fromkeys(PictureAugmentConfig.model_fields, 0), "window_px": (48, 64)})


class _Boards:
    """Bright squares (class 1) and dark ones (class 2) on a grey ground (class 0)."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(index)
        labels = np.zeros((48, 64), np.uint8)
        for name in (1, 2):
            top, left = rng.integers(2, 24), rng.integers(2, 40)
            labels[top : top + 20, left : left + 20] = name
        rgb = np.array([120, 230, 20], np.uint8)[labels][..., None].repeat(3, 2)
        labels[:2] = UNKNOWN
        return rgb, labels


@pytest.mark.parametrize("window", [(48, 64), (32, 48), (64, 80)])
def test_labels_follow_the_warp(window: tuple[int, int]) -> None:
    moves = {name: PictureAugmentConfig.model_fields[name].default for name in ("zoom", "shrink", "stretch", "rotate_deg", "flip")}
    config = STILL.model_copy(update={**moves, "window_px": window})
    agree = []
    for number in range(30):
        rgb, labels = _Boards()[number]
        picture, uv, names = augment_picture(rgb, labels, 500, config, np.random.default_rng(number))
        assert picture.shape == (3, *window) and np.abs(uv).max() < 1 and names.dtype == np.uint8
        grey = sample_at(torch.from_numpy(picture)[None], torch.from_numpy(uv)[None])[0, :, 0].numpy()
        seen = np.select([grey > 0.7, grey < 0.25], [1, 2], 0)
        agree.append((seen == names)[names != UNKNOWN].mean())
    assert np.mean(agree) > 0.97  # edges between pixels


def test_no_strength_changes_nothing() -> None:
    rgb, labels = _Boards()[0]
    picture, uv, names = augment_picture(rgb, labels, 400, STILL, np.random.default_rng(0))
    assert np.allclose(picture, rgb.transpose(2, 0, 1) / 255, atol=1e-5)
    column, row = ((uv + 1) / 2 * (64, 48)).astype(int).T
    assert np.array_equal(names, labels[row, column])


def test_covered_places_and_places_beyond_the_picture_have_no_label() -> None:
    rgb, labels = _Boards()[0]
    labels[:] = 1
    for change in ({"cover": 1.0}, {"window_px": (96, 128)}):
        *_, names = augment_picture(rgb, labels, 2000, STILL.model_copy(update=change), np.random.default_rng(1))
        assert 0.01 < (names == UNKNOWN).mean() < 0.9 and set(names) == {1, UNKNOWN}


def test_colours_change_and_stay_in_range() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    config = PictureAugmentConfig(window_px=(48, 64))
    pictures = [augment_picture(rgb, np.zeros((48, 64), np.uint8), 64, config, np.random.default_rng(n))[0] for n in range(40)]
    assert all(p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 for p in pictures)
    spread = [np.ptp(p.mean((1, 2))) for p in pictures]
    assert min(spread) < 0.01 < max(spread)  # some grey, some tinted


def test_the_number_decides_and_a_pass_visits_every_picture() -> None:
    samples = PictureSamples(_Boards(), PictureAugmentConfig(window_px=(48, 64)), 100, 0)
    for one, other in zip(samples(5), PictureSamples(_Boards(), PictureAugmentConfig(window_px=(48, 64)), 100, 0)(5)):
        assert np.array_equal(one, other)
    assert not np.array_equal(samples(5)[0], samples(11)[0])


def test_a_batch_without_labels_is_harmless() -> None:
    items = [(np.zeros((3, 48, 64), np.float32), np.zeros((10, 2), np.float32), np.full(10, 255, np.uint8))] * 2
    loss = PictureLoss()(seeded_image_student(SMALL, 0), PictureCollate(INPUT)(items))
    loss.backward()
    assert loss.item() == 0


def test_it_learns_and_resumes(tmp_path) -> None:
    boards = _Boards()
    assert count_pixels(boards, 3).argmax() == 0
    samples, collate = PictureSamples(boards, STILL, 400, 0), PictureCollate(INPUT)

    def run(steps: int) -> torch.nn.Module:
        config = EngineConfig(
            steps=steps,
            batch=4,
            lr=3e-3,
            warmup_steps=5,
            average_decay=0.8,
            precision="32-true",
            save_every=20,
            evaluate_every=1000,
            tensorboard=False,
        )
        return fit(seeded_image_student(SMALL, 0), PictureLoss(), samples, collate, config, tmp_path, make_fabric("32-true"))

    before = score_pictures(seeded_image_student(SMALL, 0).eval(), boards, INPUT, 3)
    run(40)
    score = score_pictures(run(80).eval(), boards, INPUT, 3)
    assert score.confusion.miou > max(0.8, before.confusion.miou + 0.2) and 0.2 < score.temperature < 4.1
    summary = score.summary(("ground", "bright", "dark"))
    assert summary["miou"] == round(100 * score.confusion.miou, 1) and set(summary["iou"]) == {"ground", "bright", "dark"}

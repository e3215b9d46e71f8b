"""Pixels and boxes → units, against slow plain references; whole frames through a teacher, interrupted and resumed."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import torch

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.partdistill.box_units import box_height_m, make_box_units
from xkd_ros.distill.partdistill.config import BoxUnitConfig, PixelUnitConfig
from xkd_ros.distill.partdistill.pixel_units import grid_pixels, make_pixel_units
from xkd_ros.distill.partdistill.sight import Sight
from xkd_ros.distill.partdistill.unit_makers import BoxUnits, PixelUnits, units_of, write_units
from xkd_ros.distill.partdistill.units import Origin
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.teacher.boxes import Box
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.sim2d import load_sim2d
from xkd_ros.worlds.simulate import simulate

CAMERA = Camera(64, 48, np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]))


def sight(seed: int, count: int = 800) -> Sight:
    rng = np.random.default_rng(seed)
    uv = rng.uniform((0, 0), (63, 47), (count, 2)).astype(np.float32)
    depth = rng.choice([2.0, 2.3, 4.0], count) + rng.uniform(0, 0.02, count)
    return Sight(1, CAMERA, np.sort(rng.permutation(3000)[:count]).astype(np.int32), uv, depth.astype(np.float32))


def score_map(seed: int, height: int, width: int) -> np.ndarray:
    """Three classes in blobs, scores that do not sum to 1, and holes of no class."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (-(-height // 6), -(-width // 6), 3)).astype(np.float32)
    scores = coarse.repeat(6, 0).repeat(6, 1)[:height, :width] * rng.uniform(0.9, 1, (height, width, 1)).astype(np.float32)
    scores[rng.random((height, width)) < 0.01] = 0
    return scores


def plain_pixel_units(scores: np.ndarray, seen: Sight, config: PixelUnitConfig) -> set[tuple]:
    """METHODS 5.4, cell by cell."""
    height, width, _ = scores.shape
    best = [[-1 if not scores[r, c].any() else int(scores[r, c].argmax()) for c in range(width)] for r in range(height)]
    around = [(dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)]
    region = np.full((height, width), -1)
    sizes = []
    for r, c in np.ndindex(height, width):
        if best[r][c] < 0 or region[r, c] >= 0:
            continue
        queue, size = deque([(r, c)]), 0
        region[r, c] = len(sizes)
        while queue:
            a, b = queue.popleft()
            size += 1
            for dr, dc in around:
                y, x = a + dr, b + dc
                if 0 <= y < height and 0 <= x < width and region[y, x] < 0 and best[y][x] == best[r][c]:
                    region[y, x] = len(sizes)
                    queue.append((y, x))
        sizes.append(size)
    radius = -(-config.erode_px // config.grid_px)
    members: dict[int, list[int]] = {}
    for place, (u, v) in enumerate(seen.uv_px):
        c = min(max(round((float(u) - (config.grid_px - 1) / 2) / config.grid_px), 0), width - 1)
        r = min(max(round((float(v) - (config.grid_px - 1) / 2) / config.grid_px), 0), height - 1)
        near = region[max(0, r - radius) : r + radius + 1, max(0, c - radius) : c + radius + 1]
        if region[r, c] >= 0 and (near == region[r, c]).all() and sizes[region[r, c]] * config.grid_px**2 >= config.least_area_px:
            members.setdefault(int(region[r, c]), []).append(place)
    found = set()
    for number, places in members.items():
        label = best[np.argwhere(region == number)[0][0]][np.argwhere(region == number)[0][1]]
        places.sort(key=lambda place: seen.depth_m[place])
        part: list[int] = []
        for place in [*places, None]:
            if place is None or (part and seen.depth_m[place] - seen.depth_m[part[-1]] > config.gap_m):
                if len(part) >= config.least_points:
                    found.add((label, tuple(sorted(seen.point[member] for member in part))))
                part = []
            if place is not None:
                part.append(place)
    return found


@pytest.mark.parametrize("settings", [{"grid_px": 1, "least_area_px": 40, "erode_px": 1}, {"grid_px": 2, "erode_px": 3}, {"erode_px": 0}])
def test_regions_become_units(settings) -> None:
    config = PixelUnitConfig(**{"least_area_px": 100, "gap_m": 0.5, **settings})
    pixels, (height, width) = grid_pixels(64, 48, config.grid_px)
    assert pixels.shape == (height * width, 2) and pixels.max(0).tolist() <= [63, 47]
    total = 0
    for seed in range(3):
        scores, seen = score_map(seed, height, width), sight(seed)
        units = make_pixel_units(scores, seen, config)
        assert {(unit.label, tuple(unit.point.tolist())) for unit in units} == plain_pixel_units(scores, seen, config)
        assert all(unit.view == 1 and unit.origin == Origin.PIXELS for unit in units)
        assert all(unit.score == pytest.approx(unit.confidence.mean()) for unit in units)
        total += len(units)
    assert total > 10


def test_confidence_is_the_share_of_the_class_at_the_pixel() -> None:
    scores = np.zeros((48, 64, 3), np.float32)
    scores[..., 1], scores[..., 2] = 3, 1
    (near, far) = make_pixel_units(scores, sight(0), PixelUnitConfig(grid_px=1))
    assert near.confidence == pytest.approx(0.75) and far.label == 1 and len(near.point) + len(far.point) == 800


def test_the_foreground_of_a_box_leaves_the_wall_behind_out() -> None:
    """A person of 60 points at 3 m before a wall at 6 m, and a chair leg before both."""
    rng = np.random.default_rng(0)
    uv = rng.uniform((20, 10), (30, 40), (100, 2)).astype(np.float32)
    depth = np.concatenate([rng.uniform(2.95, 3.2, 60), np.full(37, 6.0), np.full(3, 1.0)]).astype(np.float32)
    seen = Sight(0, CAMERA, np.arange(100, dtype=np.int32), uv, depth)
    box = Box(10, 0.6, (19.0, 9.0, 31.0, 41.0))
    (unit,) = make_box_units([box], seen, 12, BoxUnitConfig())
    assert unit.point.tolist() == list(range(60)) and unit.confidence == pytest.approx(0.6) and unit.label == 10
    assert box_height_m(box, seen, 3.0) == pytest.approx(3.0 * 32 / 50, rel=0.1)
    assert make_box_units([Box(10, 0.1, box.uv_px), Box(10, 0.9, (40, 0, 60, 47))], seen, 12, BoxUnitConfig()) == []


def test_the_foreground_rule_against_the_formula() -> None:
    config = BoxUnitConfig(before_m=0.2, behind_m=0.1, behind_heights=0.2)
    for seed in range(4):
        seen, rng = sight(seed), np.random.default_rng(seed)
        low, high = rng.uniform(0, 20, 2), rng.uniform(25, 45, 2)
        box = Box(2, 0.5, (low[0], low[1], high[0], high[1]))
        inside = [place for place, (u, v) in enumerate(seen.uv_px) if low[0] <= u <= high[0] and low[1] <= v <= high[1]]
        depths = sorted(float(seen.depth_m[place]) for place in inside)
        median, near = float(np.median(depths)), float(np.percentile(depths, 10))
        last = median + max(0.1, 0.2 * box_height_m(box, seen, median))
        expected = [seen.point[place] for place in inside if near - 0.2 <= seen.depth_m[place] <= last]
        (unit,) = make_box_units([box], seen, 4, config)
        assert unit.point.tolist() == expected and 0 < len(expected) < len(inside)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Five frames of a simulated walk."""
    folder = tmp_path_factory.mktemp("walk")
    simulate(3, "ouster16", 1.0, folder / "walk", every=2)
    return write_frames([folder / "walk"], folder / "frames", FrameConfig(split="bag", shares=(1.0, 0.0, 0.0)))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A random image network, made sure of something."""
    network = ImageNetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1), feature_width=16)
    student = seeded_image_student(network, 0)
    with torch.no_grad():
        student.head.weight *= 8
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    save_image_teacher(student, ImageTeacherCard(name="tiny", network=network), folder)
    return load_sim2d(folder)


def test_boxes_and_pixels_are_makers_alike(store, teacher) -> None:
    class Drawn:
        """Two boxes over the upper and the lower half."""

        name, fingerprint, label_set, class_hash = "drawn", "f", teacher.label_set, teacher.class_hash

        def draw(self, rgb: np.ndarray) -> list[Box]:
            height, width = rgb.shape[:2]
            return [Box(2, 0.8, (0, 0, width, height / 2)), Box(1, 0.7, (0, height / 2, width, height))]

    frame = store[int(store.numbers("train")[0])]
    units = units_of(frame, [BoxUnits(Drawn(), BoxUnitConfig()), PixelUnits(teacher, PixelUnitConfig())], TargetConfig())
    boxes = units.origin == Origin.BOX
    assert set(units.label[boxes].tolist()) == {1, 2} and boxes[0] and not boxes[-1]
    uv, visible = frame.views[0].see(frame.points_m)
    for unit in np.flatnonzero(boxes & (units.view == 0)):
        member = units.point[units.start[unit] : units.start[unit + 1]]
        assert visible[member].all() and ((uv[member, 1] > frame.views[0].camera.height / 2) == (units.label[unit] == 1)).mean() > 0.99


def test_a_store_of_units_is_made_and_goes_on(store, teacher, tmp_path) -> None:
    maker = PixelUnits(teacher, PixelUnitConfig(least_area_px=64, erode_px=0))
    whole = write_units(store, [maker], tmp_path / "whole")
    numbers = store.numbers("train").tolist()
    assert len(whole) == len(numbers) > 2 and sum(len(whole[number]) for number in numbers) > len(numbers)

    def interrupt(done: int, total: int, facts: dict[str, float]) -> None:
        assert total == len(numbers)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_units(store, [maker], tmp_path / "cut", progress=interrupt)
    cut = write_units(store, [maker], tmp_path / "cut")
    assert cut.hash == whole.hash
    for number in numbers:
        live = units_of(store[number], [maker], TargetConfig())
        assert np.array_equal(cut[number].point, live.point) and np.array_equal(cut[number].label, live.label)
        seen = np.unique(live.point)
        assert len(seen) <= len(store.scan(number).points_m) and len(seen) == len(live.point), "regions do not overlap"
    with pytest.raises(ConfigError, match="other teachers or settings"):
        write_units(store, [PixelUnits(teacher, PixelUnitConfig())], tmp_path / "whole")

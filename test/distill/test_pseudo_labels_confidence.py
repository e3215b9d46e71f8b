"""What one frame's images say: each test rejects just what it should, and every class keeps the same share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from xkd_ros.bags.frame import Frame, View
from xkd_ros.core.errors import XkdError
from xkd_ros.core.labels import INDOOR12, STRUCT4, LabelSet
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.confidence import ConfidenceHistogram, Opinion, look_at, normalised
from xkd_ros.distill.glass import behind_glass
from xkd_ros.distill.pseudo_config import PseudoConfig, Reason
from xkd_ros.teacher.targets import ViewTargets

CONFIG = PseudoConfig()
SURE = (0.05, 0.9, 0.05, 0.0)


def frame(points: int = 10, dts_ns: tuple[int, ...] = (0,), turn: float | None = None) -> Frame:
    views = tuple(View("front", None, np.eye(4), dt, b"") for dt in dts_ns)  # type: ignore[arg-type]
    metres = np.random.default_rng(0).uniform(-5, 5, (points, 3)).astype(np.float32)
    return Frame(0, 0, "walk", "rig", "train", metres, None, np.eye(3), None, None, views, turn)


def view(scores: np.ndarray, number: int = 0, point: np.ndarray | None = None) -> ViewTargets:
    count = len(scores)
    point = np.arange(count, dtype=np.int32) if point is None else point.astype(np.int32)
    good, edge = np.ones(count, bool), np.zeros(count, bool)
    return ViewTargets(number, point, np.zeros((count, 2), np.float32), None, np.asarray(scores, np.float32), good, edge)


def sure(count: int) -> np.ndarray:
    return np.tile(SURE, (count, 1))


def test_a_sure_point_is_kept() -> None:
    opinion = look_at(frame(), [view(sure(10))], STRUCT4, CONFIG)
    assert (opinion.reason == Reason.KEPT).all() and (opinion.label == 1).all() and np.allclose(opinion.confidence, 0.9)


def test_edges_and_borders_are_dropped_exactly() -> None:
    targets = view(sure(6))
    targets.edge[[0, 1]] = True
    targets.interior[[1, 2]] = False
    reasons = look_at(frame(), [targets], STRUCT4, CONFIG).reason.tolist()
    assert reasons == [Reason.EDGE, Reason.EDGE, Reason.BORDER, Reason.KEPT, Reason.KEPT, Reason.KEPT]
    off = CONFIG.model_copy(update={"drop_edges": False, "drop_borders": False})
    assert (look_at(frame(), [targets], STRUCT4, off).reason == Reason.KEPT).all()
    assert (look_at(frame(), [replace(targets, interior=None)], STRUCT4, CONFIG).reason[2:] == Reason.KEPT).all()


@pytest.mark.parametrize(("dt_ms", "turn", "reason"), [
    (50, None, Reason.KEPT), (-50, 1.5, Reason.KEPT), (50.1, 0.0, Reason.LATE), (-51, 0.0, Reason.LATE),
    (0, 1.6, Reason.TURNING), (0, -1.6, Reason.TURNING), (60, 1.6, Reason.LATE),
])  # fmt: skip
def test_time_and_turning(dt_ms: float, turn: float | None, reason: Reason) -> None:
    opinion = look_at(frame(dts_ns=(int(dt_ms * 1e6),), turn=turn), [view(sure(3))], STRUCT4, CONFIG)
    assert (opinion.reason == reason).all() and (opinion.label == 1).all()


def test_margin() -> None:
    scores = np.array([[0.6, 0.4, 0, 0], [0.595, 0.405, 0, 0], [0.61, 0.39, 0, 0], [0.4, 0.19, 0.21, 0.2]])
    reasons = look_at(frame(), [view(scores)], STRUCT4, PseudoConfig(min_margin=0.2 - 1e-6)).reason.tolist()
    assert reasons == [Reason.KEPT, Reason.MARGIN, Reason.KEPT, Reason.MARGIN]


def test_scores_need_not_sum_to_one() -> None:
    opinion = look_at(frame(), [view(7 * sure(2))], STRUCT4, CONFIG)
    assert np.allclose(opinion.probability.sum(1), 1) and np.allclose(opinion.confidence, 0.9)
    rows = normalised(np.array([[0, 0], [np.nan, 1], [np.inf, 1], [-1, 3]], np.float32))
    assert rows.tolist() == [[0, 0], [0, 0], [0, 0], [0, 1]]


def test_ignored_classes_have_no_label() -> None:
    scores = sure(3)
    scores[1] = 0
    opinion = look_at(frame(), [view(scores)], STRUCT4, CONFIG)
    assert opinion.label.tolist() == [1, UNKNOWN, 1] and opinion.reason[1] == Reason.IGNORED


def test_views_of_one_point_are_summed_and_bad_ones_left_out() -> None:
    first, second = view(np.tile([0.7, 0.3, 0, 0], (3, 1))), view(np.tile([0.1, 0.9, 0, 0], (3, 1)), 1, np.array([1, 2, 3]))
    second.edge[1] = True
    opinion = look_at(frame(dts_ns=(0, 0)), [first, second], STRUCT4, CONFIG)
    assert opinion.point.tolist() == [0, 1, 2, 3]
    assert opinion.label.tolist() == [0, 1, 0, 1]
    assert np.allclose(opinion.confidence, [0.7, 0.6, 0.7, 0.9])
    late = look_at(frame(dts_ns=(0, 10**9)), [first, second], STRUCT4, CONFIG)
    assert late.label.tolist() == [0, 0, 0, 1] and late.reason.tolist() == [Reason.KEPT] * 3 + [Reason.LATE]


def test_no_view_is_no_opinion() -> None:
    opinion = look_at(frame(dts_ns=()), [], STRUCT4, CONFIG)
    assert opinion.probability.shape == (0, 4) and len(opinion.confidence) == 0


def test_wrong_targets_are_refused() -> None:
    with pytest.raises(XkdError, match="score 3 classes, the class map has 4"):
        look_at(frame(), [view(sure(2)[:, :3])], STRUCT4, CONFIG)
    with pytest.raises(XkdError, match="no class scores"):
        look_at(frame(), [replace(view(sure(2)), scores=None)], STRUCT4, CONFIG)


def opinion_of(label: np.ndarray, confidence: np.ndarray, classes: int = 3) -> Opinion:
    probability = np.full((len(label), classes), 0.0)
    probability[np.arange(len(label)), label] = confidence
    return Opinion(np.arange(len(label)), probability, label.astype(np.uint8), np.full(len(label), Reason.KEPT, np.uint8))


def test_every_class_keeps_its_share_also_a_rare_unsure_one() -> None:
    rng = np.random.default_rng(1)
    label = np.concatenate([np.zeros(200_000, int), np.ones(300, int)])
    confidence = np.concatenate([1 - rng.random(200_000) ** 3 / 50, rng.uniform(0.55, 0.8, 300)])
    histogram = ConfidenceHistogram(3)
    for part in np.array_split(rng.permutation(len(label)), 7):
        histogram.add(opinion_of(label[part], confidence[part]))
    tau = histogram.thresholds(0.7)
    for place in (0, 1):
        assert np.mean(confidence[label == place] >= tau[place]) == pytest.approx(0.7, abs=0.01)
    # One threshold for all that keeps 70 % of the points would leave nothing of the rare class.
    assert np.mean(confidence[label == 1] >= np.quantile(confidence, 0.3)) == 0
    assert tau[2] == 0 and histogram.seen.tolist() == [200_000, 300, 0]


@given(st.lists(st.floats(0.26, 1.0), min_size=1, max_size=40), st.floats(0.05, 1.0))
@settings(max_examples=60, deadline=None)
def test_a_threshold_never_keeps_less_than_its_share(values: list[float], share: float) -> None:
    confidence = np.array(values)
    histogram = ConfidenceHistogram(1)
    histogram.add(opinion_of(np.zeros(len(values), int), confidence, 1))
    kept = np.count_nonzero(confidence >= histogram.thresholds(share)[0])
    wanted = int(np.ceil(share * len(values) - 1e-9))
    # Ties and values within one bin stay together.
    bar = np.sort(confidence)[::-1][wanted - 1]
    odds = np.log(bar / max(1 - bar, 1e-9))
    same_bin = np.count_nonzero(confidence >= 1 / (1 + np.exp(-(odds - 0.009)))) if bar < 1 - 1e-6 else len(values)
    assert wanted <= kept <= same_bin


def test_doubtful_points_count_for_the_share_and_rejected_ones_do_not() -> None:
    scores = np.array([[0.9, 0.1, 0, 0]] * 6 + [[0.5, 0.4, 0.1, 0]] * 2 + [[0.3, 0.6, 0.1, 0]] * 2)
    targets = view(scores)
    targets.edge[9] = True
    histogram = ConfidenceHistogram(4)
    histogram.add(look_at(frame(), [targets], STRUCT4, CONFIG))
    assert histogram.seen.tolist() == [8, 1, 0, 0]


def test_thresholds_are_by_class() -> None:
    scores = np.array([[0.8, 0.2, 0, 0], [0.2, 0.8, 0, 0]])
    reasons = look_at(frame(), [view(scores)], STRUCT4, CONFIG, np.array([0.9, 0.7, 0, 0])).reason
    assert reasons.tolist() == [Reason.THRESHOLD, Reason.KEPT]


def room_with_window(beams: int, depth_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A wall 4 m ahead with a window between y = -1 and 1; what is called a window lies `depth_m` behind the wall."""
    y, z = np.meshgrid(np.linspace(-3, 3, 121), np.linspace(0.2, 1.4, beams))
    y, z = y.ravel(), z.ravel()
    window = np.abs(y) < 1
    points = np.stack([np.full(len(y), 4.0), y, z], 1)
    points[window] *= 1 + depth_m / 4
    return points, window, ~window


@pytest.mark.parametrize("beams", [3, 16])
@pytest.mark.parametrize(("depth_m", "rejected"), [(0.0, False), (0.4, False), (0.7, True), (6.0, True), (-1.0, False)])
def test_what_lies_behind_a_pane_is_no_window(beams: int, depth_m: float, rejected: bool) -> None:
    points, window, wall = room_with_window(beams, depth_m)
    found = behind_glass(points, window, wall, 0.5)
    assert not found[wall].any() and found[window].mean() == pytest.approx(float(rejected), abs=0.05)


def test_glass_needs_a_wall_and_one_plane() -> None:
    points, window, wall = room_with_window(8, 3.0)
    assert not behind_glass(points, window, np.zeros_like(wall), 0.5).any()
    corner = points.copy()
    corner[wall, 0] += np.abs(points[wall, 1]) * np.random.default_rng(0).uniform(-2, 2, wall.sum())
    assert not behind_glass(corner, window, wall, 0.5).any()


def test_glass_is_part_of_the_tests_where_the_classes_know_windows() -> None:
    points, window, _ = room_with_window(8, 3.0)
    seen = replace(frame(len(points)), points_m=points.astype(np.float32))
    scores = np.full((len(points), 12), 0.01)
    scores[np.arange(len(points)), np.where(window, 4, 0)] = 0.9
    reasons = look_at(seen, [view(scores)], INDOOR12, CONFIG).reason
    assert (reasons[window] == Reason.GLASS).mean() > 0.9 and (reasons[~window] == Reason.KEPT).all()
    assert (look_at(seen, [view(scores)], INDOOR12, PseudoConfig(glass_depth_m=0)).reason == Reason.KEPT).all()
    others = LabelSet(names=tuple("abcdefghijkl"), colours=INDOOR12.colours)
    assert (look_at(seen, [view(scores)], others, CONFIG).reason == Reason.KEPT).all()


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="reach_frames 5 must be at least radius_frames 10"):
        PseudoConfig(reach_frames=5)
    with pytest.raises(ValidationError):
        PseudoConfig(**{"keep_shrae": 0.5})

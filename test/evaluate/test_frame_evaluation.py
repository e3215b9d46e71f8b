"""Scores of a frame store against plain definitions and hand-made frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from test.evaluate.conftest import MemoryFrames, make_frame
from xkd_ros.core.errors import ConfigError, ShapeError
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4, LabelSet
from xkd_ros.core.types import Segmentation
from xkd_ros.evaluate.evaluation import Evaluation, compare, load_evaluation, save_evaluation, where_scored
from xkd_ros.evaluate.frame_evaluation import evaluate_frames, seen_points
from xkd_ros.evaluate.scan_logits import ScanLogits, calibrate
from xkd_ros.evaluate.scan_sample import choose_scans
from xkd_ros.evaluate.scores import coarse
from xkd_ros.metrics.reliability import fit_temperature

Answers = Callable[..., Segmentation]


def answer(labels: np.ndarray, probability: float = 0.7) -> Segmentation:
    return Segmentation(labels.astype(np.uint8), np.full(len(labels), probability, np.float32), np.full(len(labels), 0.4, np.float32))


def guesses(points_m: np.ndarray, intensity: np.ndarray | None, rotation: np.ndarray | None) -> Segmentation:
    """Labels that only the points decide."""
    assert rotation is not None and intensity is not None
    return answer((np.abs(points_m[:, 0]) * 100).astype(int) % 12)


def noisy(points_m: np.ndarray, intensity: np.ndarray | None, rotation: np.ndarray | None) -> ScanLogits:
    """Overconfident logits of every second point; each raw point takes those of its pair."""
    rng = np.random.default_rng(int(1000 * abs(points_m[0, 0])))
    return ScanLogits(rng.normal(0, 4, (len(points_m) // 2, 12)).astype(np.float32), np.arange(len(points_m)) // 2)


def slow_scores(truth: np.ndarray, got: np.ndarray, classes: int) -> tuple[float, float, float]:
    known = truth != 255
    iou, accuracy = [], []
    for c in range(classes):
        hit = np.sum(known & (truth == c) & (got == c))
        union, total = np.sum(known & ((truth == c) | (got == c))), np.sum(truth == c)
        iou += [hit / union] if union else []
        accuracy += [hit / total] if total else []
    return float(np.mean(iou)), float(np.mean(accuracy)), float(np.mean(truth[known] == got[known]))


def test_scores_by_definition_over_all_frames(frames: MemoryFrames) -> None:
    calls: list[tuple[int, int]] = []
    result = evaluate_frames(guesses, frames, [0, 1, 2], None, INDOOR12, lambda done, total, facts: calls.append((done, total)))
    truth = np.concatenate([frames[n].truth for n in range(3)])
    got = np.concatenate([guesses(frames[n].points_m, frames[n].intensity, np.eye(3)).labels for n in range(3)])
    assert result.real is not None and result.pseudo is None and result.teacher is None
    whole = result.real.all.confusion
    assert (whole.miou, whole.macc, whole.oacc) == pytest.approx(slow_scores(truth, got, 12))
    structural = coarse(result.real.all, INDOOR12)
    assert structural is not None
    reference = slow_scores(INDOOR12_TO_STRUCT4[truth], INDOOR12_TO_STRUCT4[got], 4)
    assert (structural.miou, structural.macc, structural.oacc) == pytest.approx(reference)
    parts = result.real.in_view.confusion.counts + result.real.out_of_view.confusion.counts
    rings = sum(counts.confusion.counts for counts in result.real.ranges.values())
    rigs = {name: counts.confusion.counts for name, counts in result.real.rigs.items()}
    assert np.array_equal(parts, whole.counts) and np.array_equal(rings, whole.counts)
    assert set(rigs) == {"handheld", "cart"} and np.array_equal(sum(rigs.values()), whole.counts)
    assert rigs["cart"].sum() == (frames[2].truth != 255).sum()
    assert calls == [(1, 3), (2, 3), (3, 3)] and result.scans == {"test": 3} and result.temperature is None
    assert result.entropy.mean == pytest.approx(0.4) and sum(result.entropy.counts) == 1200
    assert [score.number for score in result.real.frames] == [0, 1, 2]


def test_views_and_ranges_of_a_frame_made_by_hand() -> None:
    points = np.array(
        [
            [1.5, 0, 0],  # seen
            [5, 2, 0],  # seen
            [12, 0.05, 0],  # behind the first
            [-1, 0, 2.9],  # behind the camera, 3 m away but mostly above
            [4, 15, 0],  # beside the picture
            [0.1, 0, 0.05],  # too near for a camera
            [25, -8, 0],  # seen
        ],
        np.float32,
    )
    truth = np.array([0, 1, 2, 3, 4, 5, 255], np.uint8)
    frame = make_frame(0, 7, points_m=points, truth=truth)
    assert seen_points(frame).tolist() == [True, True, False, False, False, False, True]
    labels = np.array([0, 0, 2, 3, 3, 255, 6])
    result = evaluate_frames(lambda *_: answer(labels), MemoryFrames([frame]), [0], None, INDOOR12)
    assert result.real is not None
    inside, outside = result.real.in_view.confusion, result.real.out_of_view.confusion
    assert inside.counts.sum() == 2 and inside.oacc == 0.5
    assert outside.counts.sum() == 4 and outside.oacc == 0.5 and outside.counts[5, 12] == 1
    counted = {name: counts.confusion.counts.sum() for name, counts in result.real.ranges.items()}
    assert counted == {"0-2 m": 2, "2-5 m": 1, "5-10 m": 1, "10-20 m": 2, "over 20 m": 0}
    blind = evaluate_frames(
        lambda *_: answer(labels), MemoryFrames([make_frame(0, 7, points_m=points, truth=truth, views=())]), [0], None, INDOOR12
    )
    assert blind.real is not None and blind.real.in_view.confusion.counts.sum() == 0


def test_pseudo_labels_are_scored_apart_and_the_teacher_beside_the_student(frames: MemoryFrames) -> None:
    against = {}
    for number, frame in frames.items():
        labels = np.where(np.arange(400) % 4 == 0, (frame.truth + 1) % 12, frame.truth).astype(np.uint8)
        labels[200:] = 255
        against[number] = (labels, np.ones(400, np.float32))
    result = evaluate_frames(guesses, frames, [0, 1, 2], against, INDOOR12)
    assert result.real is not None and result.pseudo is not None and result.teacher is not None
    assert result.pseudo.all.confusion.counts.sum() == sum((labels != 255).sum() for labels, _ in against.values())
    real = [frames[n].truth[:200] for n in range(3)]
    known = [truth != 255 for truth in real]
    right = [against[n][0][:200] == truth for n, truth in enumerate(real)]
    assert result.teacher.teacher.confusion.oacc == pytest.approx(np.concatenate(right)[np.concatenate(known)].mean())
    assert result.teacher.student.confusion.counts.sum() <= result.real.all.confusion.counts.sum()
    assert result.teacher.student.confusion.counts.sum() == result.teacher.teacher.confusion.counts.sum()


def test_four_class_labels_score_a_twelve_class_model() -> None:
    fine = make_frame(0)
    four = make_frame(1, source="annotated", truth=INDOOR12_TO_STRUCT4[make_frame(1).truth])
    mixed = MemoryFrames([fine, four], {"walk": INDOOR12.names, "annotated": STRUCT4.names})
    result = evaluate_frames(guesses, mixed, [0, 1], None, INDOOR12)
    assert result.real is not None and result.real.label_set == STRUCT4 and coarse(result.real.all, STRUCT4) is None
    reference = evaluate_frames(guesses, MemoryFrames([fine, make_frame(1)]), [0, 1], None, INDOOR12)
    assert reference.real is not None
    structural = coarse(reference.real.all, INDOOR12)
    assert structural is not None and np.array_equal(result.real.all.confusion.counts, structural.counts)


def test_real_labels_of_foreign_classes_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    garden = MemoryFrames([make_frame(0)], {"walk": ("lawn", "hedge")})
    assert evaluate_frames(guesses, garden, [0], None, INDOOR12).real is None
    assert "walk" in caplog.text and "lawn, hedge" in caplog.text


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="frame 0 has 400 points and 7 pseudo labels"):
        evaluate_frames(guesses, MemoryFrames([make_frame(0)]), [0], {0: (np.zeros(7, np.uint8), np.zeros(7))}, INDOOR12)
    with pytest.raises(ConfigError, match="pseudo label 40"):
        evaluate_frames(guesses, MemoryFrames([make_frame(0)]), [0], {0: (np.full(400, 40, np.uint8), np.zeros(400))}, INDOOR12)


def test_nothing_labelled_and_nothing_at_all(frames: MemoryFrames) -> None:
    bare = MemoryFrames([make_frame(0, truth=None), make_frame(1, truth=np.full(400, 255, np.uint8))])
    result = evaluate_frames(guesses, bare, [0, 1], {0: None, 1: None}, INDOOR12)
    assert result.real is None and result.pseudo is None and choose_scans(result) == ([], [])
    assert evaluate_frames(guesses, frames, [], None, INDOOR12).entropy.mean is None


def _truthful(frames: MemoryFrames) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Labels drawn from the probabilities of logits four times smaller than what `noisy` says."""
    labels = {}
    for number, frame in frames.items():
        said = noisy(frame.points_m, None, None)
        shares = np.exp(said.logits[said.undo] / 3.0)
        shares /= shares.sum(1, keepdims=True)
        chance = np.random.default_rng(number).random((len(shares), 1))
        labels[number] = ((shares.cumsum(1) > chance).argmax(1).astype(np.uint8), np.ones(len(shares), np.float32))
    return labels


def test_calibration_on_validation_scans_only() -> None:
    splits = ["val"] * 4 + ["test"] * 4
    frames = MemoryFrames([make_frame(n, 3000, split=split, truth=None) for n, split in enumerate(splits)])
    labels = _truthful(frames)
    temperature = calibrate(noisy, frames, range(4), labels)
    assert temperature == pytest.approx(3.0, rel=0.1)
    result = evaluate_frames(noisy, frames, range(4, 8), labels, INDOOR12, temperature=temperature)
    assert result.pseudo is not None and result.pseudo.unscaled is not None and result.temperature == temperature
    assert result.pseudo.reliability.ece is not None and result.pseudo.unscaled.ece is not None
    assert result.pseudo.reliability.ece < 0.03 < 0.2 < result.pseudo.unscaled.ece
    plain = evaluate_frames(noisy, frames, range(4, 8), labels, INDOOR12)
    assert plain.pseudo is not None and plain.pseudo.all == result.pseudo.all
    with pytest.raises(ConfigError, match="split 'test'"):
        calibrate(noisy, frames, range(8), labels)
    doubtful = {n: (labels[n][0].copy(), labels[n][1].copy()) for n in labels}
    for wrong, confidence in doubtful.values():
        wrong[::2], confidence[::2] = (wrong[::2] + 1) % 12, 0.3
    assert calibrate(noisy, frames, range(4), doubtful) > 3.5
    assert calibrate(noisy, frames, range(4), doubtful, min_confidence=0.5) == pytest.approx(3.0, rel=0.1)
    with pytest.raises(ConfigError, match="no labelled point"):
        calibrate(noisy, frames, [0], {0: None})


def test_temperature_of_the_fit_equals_the_metric() -> None:
    frames = MemoryFrames([make_frame(0, 200, split="val")])
    labels = _truthful(frames)
    said = noisy(frames[0].points_m, None, None)
    assert calibrate(noisy, frames, [0], labels) == fit_temperature(said.logits[said.undo], labels[0][0].astype(np.int64))


@pytest.fixture
def result(frames: MemoryFrames) -> Evaluation:
    against = {n: (frame.truth, np.ones(400, np.float32)) for n, frame in frames.items()}
    return evaluate_frames(guesses, frames, [0, 1, 2], against, INDOOR12, model="one", class_hash="map-a")


def test_saved_and_loaded(result: Evaluation, tmp_path: Path) -> None:
    save_evaluation(result, tmp_path / "evaluation.json")
    assert load_evaluation(tmp_path / "evaluation.json") == result
    summary = result.summary()
    assert summary["real"]["all points"]["miou"] == round(100 * result.real.all.confusion.miou, 2) and summary["class_hash"] == "map-a"  # type: ignore[union-attr]
    assert summary["scans_by_split"] == {"test": 3} and result.where == "on 3 test frames"
    assert set(summary["entropy"]) == {"edges", "counts", "mean"} and "struct4" in summary["pseudo"]["in view"]


def test_scores_on_frames_that_were_learnt_from_say_so() -> None:
    assert where_scored({"train": 5}) == "on 5 training frames, from which the model learnt: how good it is elsewhere is not known"
    assert where_scored({"val": 2, "test": 1}) == "on 2 validation frames and 1 test frames" and where_scored({}) == "on no frames"


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', "{" * 9])
def test_what_is_no_evaluation_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(ConfigError, match=r"evaluation\.json") as caught:
        load_evaluation(tmp_path / "evaluation.json")
    assert "\n" not in str(caught.value)


def test_confusion_of_other_classes_is_refused(result: Evaluation, tmp_path: Path) -> None:
    text = result.model_dump_json().replace('"all":[[', '"all":[[9],[', 1)
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(ConfigError, match="rows"):
        load_evaluation(tmp_path / "evaluation.json")


def test_comparison(result: Evaluation, frames: MemoryFrames) -> None:
    perfect = {f.points_m[0, 0]: np.where(f.truth == 255, 0, f.truth) for f in frames.values()}
    better = evaluate_frames(
        lambda points, *_: answer(perfect[points[0, 0]]), frames, [0, 1, 2], None, INDOOR12, model="two", class_hash="map-a"
    )
    differences = compare(result, better)
    assert set(differences) == {"real"} and result.real is not None
    assert differences["real"]["all points"] == pytest.approx(100 - 100 * result.real.all.confusion.miou, abs=0.01)
    other = evaluate_frames(guesses, frames, [0], None, INDOOR12, model="three", class_hash="map-b")
    with pytest.raises(ConfigError, match=r"one \(classes map-a\) and three \(classes map-b\)") as caught:
        compare(result, other)
    assert "\n" not in str(caught.value)


def test_other_names_are_other_classes(frames: MemoryFrames) -> None:
    renamed = LabelSet(names=(*INDOOR12.names[:11], "stuff"), colours=INDOOR12.colours)
    one = evaluate_frames(guesses, MemoryFrames([make_frame(0, truth=None)]), [0], None, INDOOR12, class_hash="same")
    two = evaluate_frames(guesses, MemoryFrames([make_frame(0, truth=None)]), [0], None, renamed, class_hash="same")
    with pytest.raises(ConfigError):
        compare(one, two)


def test_best_and_worst_scans_differ_and_lie_apart() -> None:
    items = [make_frame(n, stamp_ns=n * 500_000_000) for n in range(20)]
    shares = {frame.points_m[0, 0]: n / 20 for n, frame in enumerate(items)}
    truth = {frame.points_m[0, 0]: frame.truth for frame in items}

    def better_and_better(points_m: np.ndarray, *_: object) -> Segmentation:
        wanted = truth[points_m[0, 0]]
        return answer(np.where(np.arange(400) < 400 * shares[points_m[0, 0]], wanted, (wanted + 1) % 12))

    best, worst = choose_scans(evaluate_frames(better_and_better, MemoryFrames(items), range(20), None, INDOOR12))
    assert [score.number for score in worst] == [0, 4, 8] and [score.number for score in best] == [19, 15]

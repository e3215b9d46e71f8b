"""The report of a run: every part, nothing from outside, nothing that a name could smuggle in, and what to do without parts."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from test.evaluate.conftest import MemoryFrames, make_frame
from xkd_ros.core.card import ModelCard, NetworkConfig, save_card
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import INDOOR12, LabelSet
from xkd_ros.evaluate.frame_evaluation import evaluate_frames
from xkd_ros.evaluate.plots import draw_confusion, draw_curves, draw_reliability
from xkd_ros.evaluate.report import write_report
from xkd_ros.evaluate.scan_logits import ScanLogits
from xkd_ros.evaluate.scan_sample import BEST, WORST, kept_scans, load_sample, write_evaluation
from xkd_ros.evaluate.scores import ReliabilityTable
from xkd_ros.evaluate.training_log import read_training_log
from xkd_ros.metrics.confusion import Confusion
from xkd_ros.metrics.reliability import Reliability

pytest.importorskip("matplotlib")
HOSTILE = '<script>alert("1")</script> $\\frac{$ &amp; http://evil.example'
HOSTILE_SET = LabelSet(names=(*INDOOR12.names[:10], HOSTILE, "$x"), colours=INDOOR12.colours)
VOID = {"meta", "img"}


def ask(points_m: np.ndarray, intensity: np.ndarray | None, rotation: np.ndarray | None) -> ScanLogits:
    rng = np.random.default_rng(int(1000 * abs(points_m[0, 0])))
    return ScanLogits(rng.normal(0, 2, (len(points_m), 12)).astype(np.float32), np.arange(len(points_m)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything, and hostile names wherever a file holds names."""
    folder = tmp_path_factory.mktemp("runs") / "site <b>"
    sets = {HOSTILE: HOSTILE_SET.names}
    frames = MemoryFrames([make_frame(n, 300, source=HOSTILE, rig=HOSTILE) for n in range(2)], sets)
    against = {n: (frame.truth, np.ones(300, np.float32)) for n, frame in frames.items()}
    evaluation = evaluate_frames(ask, frames, [0, 1], against, HOSTILE_SET, temperature=1.5, model=HOSTILE, model_hash="cafe")
    write_evaluation(folder / "evaluation", evaluation, ask, frames, against, count=1)
    for stage in ("distill", "probe", "finetune"):
        (folder / stage).mkdir()
        lines = [{"step": n, "steps": 90, "loss": 3 - n / 50, "lr": 1e-3, "samples_per_s": 7.5} for n in range(50)]
        scores = [{"step": n, HOSTILE: n / 9, "val": {"miou": n}} for n in (10, 40)]
        (folder / stage / "log.jsonl").write_text("\n".join(json.dumps(line) for line in lines + scores) + '\n{"step": 50, "lo')
    save_card(ModelCard(name="student", network=NetworkConfig(depth=2, width=16), licence=HOSTILE, sources=[HOSTILE]), folder / "finetune")
    for stage in ("frames", "targets", "pseudo"):
        (folder / stage).mkdir()
        (folder / stage / "manifest.json").write_text(json.dumps({"hash": "0f", "teacher": HOSTILE, HOSTILE: [1, 2], "frames": [{}, {}]}))
    return folder


class Checker(HTMLParser):
    """Collects tags, attributes and text, and whether tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name in ("href", "data", "srcset") for name, _ in attrs)
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check(page: Path) -> Checker:
    checker = Checker()
    checker.feed(page.read_text(encoding="utf-8"))
    assert not checker.open and checker.tags.isdisjoint({"script", "link", "iframe", "object", "b>", "base"})
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in checker.sources)
    return checker


def test_every_part_is_there_and_nothing_comes_from_outside(run: Path, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "report.html") == []
    checker = check(tmp_path / "report.html")
    for part in (
        "Run site <b>", "How good", "Against real labels", "Against pseudo-labels", "in view", "out of view", "2-5 m", "over 20 m",
        "rig " + HOSTILE, "Teacher and student", "share of points", "Training", "distill: step 49 of 90", "1 unreadable lines",
        "7.5 samples/s", "Confusion", "Is the probability honest?", "How sure", "Worst scans", "Best scans", "Stages of the run",
        "cafe", "2 layers, width 16", "Measured on ", HOSTILE,
    ):  # fmt: skip
        assert part in checker.text, part
    # 3 stages, 2 confusions, 2 reliability diagrams, entropy, 2 scans with their cameras.
    assert len(checker.sources) == 3 + 2 + 2 + 1 + 2 * 2
    content = re.sub(r"base64,[A-Za-z0-9+/=]*", "", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "<script" not in content and "url(" not in content and "@import" not in content
    # The only address is the hostile name, as text.
    assert content.count("://") == content.count("://evil.example")


def unit_report(**changes: object) -> str:
    row = {"label": 0, "units": 4, "points": 900, "score": 0.5, "dropped": 1}
    others = {"box": [{**row, "label": 10, "score": 0.25, **changes}], HOSTILE: [{**row, "units": 3, "dropped": 0}]}
    return json.dumps({"agreement": "argmax", "origins": {"pixels": [row, {**row, "label": 4, "score": 1.0, "dropped": 0}], **others}})


def test_what_the_student_thinks_of_units_is_a_table_and_a_picture(tmp_path: Path) -> None:
    card = ModelCard(name="student", network=NetworkConfig(depth=2, width=16))
    save_card(card, tmp_path / "run" / "finetune")
    path, page = tmp_path / "run" / "finetune" / "unit_report.json", tmp_path / "report.html"
    plain = write_report(tmp_path / "run", page)
    assert "Label quality" not in check(page).text and not any("unit" in line for line in plain)
    path.write_text(unit_report())
    assert write_report(tmp_path / "run", page) == plain
    drawn = check(page)
    assert "share of their points" in drawn.text and len(drawn.sources) == 1
    assert "Label quality of the units" in drawn.text and "units from pixels" in drawn.text
    rows = re.findall(r"<tr>(.*?)</tr>", page.read_text(encoding="utf-8"))
    cells = [re.findall(r"<td[^>]*>(?:<i[^>]*></i>)?(.*?)</td>", row) for row in rows]
    wanted = [["wall", "4", "900", "50.0", "25.0"], ["window", "4", "900", "100.0", "0.0"], ["person", "4", "900", "25.0", "25.0"]]
    assert all(row in cells for row in wanted)
    for changes, words in (
        ({"label": 12}, "speaks of class 12 of 12"),
        ({"label": -1}, "label"),
        ({"dropped": 5}, "5 of 4 units dropped"),
        ({"score": 1.5}, "score"),
        ({"unknown": 1}, "unknown"),
    ):
        path.write_text(unit_report(**changes))
        (line,) = set(write_report(tmp_path / "run", page)) - set(plain)
        assert line.startswith("Left out: ") and words in line and "Label quality" not in check(page).text
    path.write_text('{"origins": {}}')
    assert write_report(tmp_path / "run", page) == plain


def test_a_clean_run_holds_no_address_at_all(tmp_path: Path) -> None:
    frames = MemoryFrames([make_frame(0)])
    write_evaluation(tmp_path / "run" / "evaluation", evaluate_frames(ask, frames, [0], None, INDOOR12), ask, frames, None)
    missing = write_report(tmp_path / "run", tmp_path / "report.html")
    check(tmp_path / "report.html")
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]*", "", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert any("pseudo-labels" in line for line in missing) and any("distill" in line for line in missing)


def test_an_empty_run_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match="run is no run folder: none of frames, targets"):
        write_report(tmp_path / "run", tmp_path / "report.html")
    (tmp_path / "run" / "frames").mkdir()
    missing = write_report(tmp_path / "run", tmp_path / "report.html")
    text = check(tmp_path / "report.html").text
    assert missing and all(line in text for line in missing) and "xkd eval" in text
    with pytest.raises(ConfigError, match="does not exist"):
        write_report(tmp_path / "nowhere", tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_damaged_parts_are_left_out_and_named(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    for sample in (broken / "evaluation" / "scans").rglob("*.npz"):
        sample.write_bytes(sample.read_bytes()[:500])
    for stage in ("distill", "finetune"):
        (broken / stage / "log.jsonl").unlink()
    (broken / "finetune" / "card.json").write_text("{")
    (broken / "probe" / "log.jsonl").write_bytes(b"\xff\xfe nothing\n[1]\n{}\n")
    (broken / "frames" / "manifest.json").write_text("[" * 5000)
    missing = write_report(broken, tmp_path / "report.html")
    check(tmp_path / "report.html")
    assert sum(".npz is damaged" in line for line in missing) == 2
    assert any("card.json" in line for line in missing) and any("probe" in line for line in missing)
    (broken / "evaluation" / "evaluation.json").write_text("{}")
    assert any("evaluation.json" in line for line in write_report(broken, tmp_path / "report.html"))


def test_a_kept_scan_is_whole(run: Path, tmp_path: Path) -> None:
    paths = {int(path.stem): path for kind in (BEST, WORST) for path in kept_scans(run / "evaluation", kind)}
    assert set(paths) == {0, 1}
    first = load_sample(paths[0])
    assert list(first.columns()) == ["real labels", "pseudo-labels", "predicted"]
    frame = make_frame(0, 300)
    assert np.array_equal(first.points_m, frame.points_m) and np.array_equal(first.real, frame.truth)
    assert np.array_equal(first.rgb, frame.views[0].rgb()) and np.array_equal(
        np.flatnonzero(frame.views[0].see(frame.points_m)[1]), first.seen
    )
    for wrong in ({"seen": np.array([300])}, {"points_m": np.full((300, 3), "a")}, {"seen": np.zeros(len(first.seen))}):
        np.savez(tmp_path / "0.npz", **{**first.__dict__, **wrong})
        with pytest.raises(ConfigError, match="does not hold one scan"):
            load_sample(tmp_path / "0.npz")


def test_log_of_a_killed_and_continued_run(tmp_path: Path) -> None:
    lines = [
        '{"step": 10, "loss": 5}',
        '{"step": 20, "loss": 4}',
        '{"step": 20, "loss": 3, "bad": NaN, "flag": true}',
        '{"step": 1',
        '{"step": 15, "loss": null}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    log = read_training_log(tmp_path / "log.jsonl")
    assert {name: curve.tolist() for name, curve in log.curves.items()} == {"loss": [[10, 5], [20, 3]]} and log.broken == 1


def test_diagrams_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    assert draw_curves(read_training_log(tmp_path / "log.jsonl")) is None
    assert draw_confusion(Confusion(3), ("a", "b", "c")).startswith(b"\x89PNG")
    assert draw_reliability({"none": ReliabilityTable.of(Reliability())}).startswith(b"\x89PNG")

"""What a run folder makes of settings and files that change: stages leave nothing here but their records."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_job import prepare_job
from xkd_ros.core.card import ModelCard, save_card
from xkd_ros.core.errors import BagError, ConfigError
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import seeded_image_student
from xkd_ros.pipeline.input_files import mark
from xkd_ros.pipeline.learn import RUN_FILE, learn, load_run
from xkd_ros.pipeline.learn_config import LearnConfig, read_config
from xkd_ros.pipeline.learn_stages import NAMES, with_sources
from xkd_ros.pipeline.learning import Learning, Sources
from xkd_ros.teacher.teacher import OWN_TEACHER

STAGES = NAMES[:-1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that worked, in order."""
    names: list[str] = []
    for name in STAGES:

        def stage(self: Learning, progress: Any, name: str = name) -> tuple[str, dict[str, Any]]:
            names.append(name)
            return f"{name} {len(names)}", {}

        monkeypatch.setattr(Learning, name, stage)
    return names


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A recording, its calibration and labels of one scan."""
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "walk.mcap").write_bytes(bytes(300_000))
    (tmp_path / "rig.yaml").write_text("fx: 100.0\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 0 0 1\n")
    return Sources((tmp_path / "walk",), (tmp_path / "rig.yaml",), tmp_path / "labels")


@pytest.fixture
def run(made: list[str], sources: Sources, tmp_path: Path) -> Path:
    """A run folder whose stages are all done but the last."""
    learn(read_config(None, ["finetune.steps=3"]), sources, tmp_path / "run", None, only=STAGES)
    assert tuple(made) == STAGES
    made.clear()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("lines", "only", "stale"),
    [
        (["student.geometry.voxel_m=0.3", "distill.steps=999"], "finetune", "distill"),
        (["student.intensity=per_rig"], "evaluation", "distill"),
        (["frames.every=2"], "finetune", "frames"),
    ],
)
def test_a_stage_alone_refuses_to_go_on_from_what_other_settings_made(run: Path, lines: list[str], only: str, stale: str) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*.json")}
    config, sources = load_run(run, lines)
    for redo in ((), (only,)):
        with pytest.raises(ConfigError, match=f"{stale} is stale: .*--redo {stale}"):
            learn(config, sources, run, None, only=(only,), redo=redo)
    assert {path: path.read_bytes() for path in run.rglob("*.json")} == before


def test_stages_that_are_not_read_may_be_stale(run: Path, made: list[str]) -> None:
    config, sources = load_run(run, ["probe.steps=5", "finetune.steps=4"])
    learn(config, sources, run, None, only=("finetune",), redo=("finetune",))
    assert made == ["finetune"] and with_sources(["finetune"]) == ["frames", "targets", "distill", "pseudo", "finetune"]


def test_files_of_equal_size_and_other_content_are_noticed(run: Path, sources: Sources) -> None:
    config, _ = load_run(run)
    recording, rig, labels = sources.bags[0] / "walk.mcap", sources.rigs[0], sources.labels
    assert labels is not None
    for path, content, named in (
        (rig, b"fx: 101.0\n", "rig rig.yaml"),
        (labels / "1.txt", b"0 0 0 2\n", "labels labels"),
        (recording, bytes(299_999) + b"1", "recording walk"),
    ):
        was = path.read_bytes()
        path.write_bytes(content)
        assert len(was) == len(content)
        with pytest.raises(ConfigError, match=f"frames is stale: .* from other {named}; "):
            learn(config, sources, run, None, only=STAGES)
        path.write_bytes(was)


def test_a_recording_that_was_copied_is_the_same_and_one_that_is_gone_is_not_missed(
    run: Path, sources: Sources, made: list[str], tmp_path: Path
) -> None:
    config, _ = load_run(run)
    (tmp_path / "disk").mkdir()
    copied = tmp_path / "disk" / "walk"
    shutil.copytree(sources.bags[0], copied, copy_function=shutil.copyfile)
    learn(config, Sources((copied,), sources.rigs, sources.labels), run, None, only=STAGES)
    shutil.rmtree(copied)
    learn(*load_run(run), run, None, only=("finetune",))
    assert made == []
    (tmp_path / "second").mkdir()
    with pytest.raises(ConfigError, match="from other recording second"):
        learn(config, Sources((sources.bags[0], tmp_path / "second"), sources.rigs, sources.labels), run, None, only=STAGES)


def test_a_teacher_that_was_trained_again_is_another_teacher(tiny_teacher: Path, sources: Sources, made: list[str], tmp_path: Path) -> None:
    teacher = tmp_path / "random"
    shutil.copytree(tiny_teacher, teacher)
    config = read_config(None, [f"teacher={teacher}"])
    learn(config, sources, tmp_path / "run", None, only=("frames", "targets"))
    network = ImageTeacherCard.model_validate_json((teacher / OWN_TEACHER).read_text()).network
    sizes = {path.name: path.stat().st_size for path in teacher.iterdir()}
    save_image_teacher(seeded_image_student(network, 7), ImageTeacherCard(name="random", network=network), teacher)
    assert {path.name: path.stat().st_size for path in teacher.iterdir()} == sizes
    with pytest.raises(ConfigError, match=r"targets is stale: .* from other teacher random"):
        learn(config, sources, tmp_path / "run", None, only=("frames", "targets"))
    shutil.rmtree(teacher)
    learn(config, sources, tmp_path / "run", None, only=("pseudo",))
    assert made == ["frames", "targets", "pseudo"]


def test_the_mark_of_a_folder_leaves_out_what_download_tools_write(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = mark(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "config.json.metadata").write_text("today")
    assert mark(tmp_path) == before
    (tmp_path / "model.safetensors").write_text("x")
    assert mark(tmp_path) != before


@pytest.mark.parametrize(
    "lines",
    [
        ["recipe=scalr"],
        ["finetune.recipe=scalr"],
        ["recipe=ignet"],
        ["finetune.method=partdistill"],
        ["finetune.label_share=0.1"],
        ["finetune.steps=9"],
    ],
)
def test_a_change_to_a_run_that_was_begun_does_what_it_does_from_the_start(run: Path, lines: list[str]) -> None:
    fresh, again = read_config(None, ["finetune.steps=3", *lines]), load_run(run, lines)[0]
    assert again.model_dump() == fresh.model_dump() and again.given == fresh.given


def test_run_folders_with_all_settings_written_out_are_still_read(run: Path) -> None:
    config, sources = load_run(run)
    record = {"bags": [str(path) for path in sources.bags], "config": config.model_dump(mode="json")}
    (run / RUN_FILE).write_text(json.dumps(record))
    assert load_run(run)[0].model_dump() == config.model_dump()
    assert load_run(run, ["finetune.steps=8"])[0].finetune.steps == 8


def test_a_recipe_and_a_method_that_contradict_each_other_are_refused(run: Path, tmp_path: Path) -> None:
    message = "recipe ignet and finetune.method labels contradict each other"
    (tmp_path / "learn.yaml").write_text("finetune: {method: labels, epochs: 3}\n")
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / "learn.yaml", recipe="ignet")
    with pytest.raises(ConfigError, match=message):
        load_run(run, ["recipe=ignet", "finetune.method=labels"])
    assert read_config(None, ["finetune.method=ignet"], recipe="scalr").finetune.recipe == "scalr"
    assert LearnConfig.model_validate({"recipe": "ignet", "finetune": {"method": "ignet"}}).finetune.method == "ignet"


@pytest.mark.parametrize(("line", "key"), [("finetune.seed=-1", "seed"), ("finetune.recipe=[a]", "recipe"), ("recipe=[a]", "recipe")])
def test_values_that_cannot_work_are_refused_before_the_run_begins(line: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"finetune\.{key}|no recipe"):
        read_config(None, [line])


def test_a_name_that_no_card_may_carry_is_refused_before_the_training(run: Path, sources: Sources, tmp_path: Path, made: list[str]) -> None:
    for name in ("my site", "_site", "büro", "x" * 65):
        with pytest.raises(ConfigError, match=f"a model cannot be called '{name}'"):
            learn(read_config(None, ["finetune.steps=3"]), sources, tmp_path / "other", tmp_path / name)
    assert made == [] and not (tmp_path / "other").exists()


def test_a_model_of_another_run_is_not_overwritten(sources: Sources, tmp_path: Path, made: list[str]) -> None:
    save_card(ModelCard(name="site"), tmp_path / "site")
    with pytest.raises(ConfigError, match="holds a model of another run"):
        learn(read_config(None, []), sources, tmp_path / "run", tmp_path / "site")
    assert made == []


@pytest.mark.usefixtures("made")
def test_the_page_of_a_model_has_the_whole_command(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    monkeypatch.setattr("xkd_ros.pipeline.learn.write_learned_model", lambda *given: (commands.append(given[3]), ("hash", {}))[1])
    path = tmp_path / "mine.yaml"
    path.write_text("finetune: {epochs: 3}\nteacher: sim2d-indoor12\n")
    learn(read_config(path, ["distill.steps=5"], recipe="ignet"), sources, tmp_path / "run", tmp_path / "site")
    words = shlex.split(commands[0])
    assert words[:3] == ["xkd", "learn", "BAG..."] and words[words.index("--rig") + 1] == str(sources.rigs[0])
    changes = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    again = read_config(None, changes)
    assert again.finetune.epochs == 3 and again.finetune.method == "ignet" and again.distill.steps == 5


def test_labels_that_are_not_there_are_one_line_before_anything_is_planned(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="there are no labels at nope"):
        prepare_job([tmp_path], FrameConfig(), None, Path("nope"), hashed=False)


def test_the_plan_names_what_decides(run: Path, sources: Sources, capsys: pytest.CaptureFixture[str]) -> None:
    learn(read_config(None, ["finetune.steps=3"], recipe="xmodel"), sources, run, None, only=STAGES, redo=("stale",), dry_run=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "recipe indoor + xmodel; 24 layers x 64; teacher sim2d-indoor12; labels pseudo" in said and "finetune 3 steps of 8 scans" in said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["recipe=foo"], "there is no recipe 'foo'; use ignet, indoor, partdistill, scalr, scalr_plus, xmodel"),
        (["finetune.step=3"], r"unknown key 'finetune\.step' \(did you mean 'steps'\?\)"),
        (["recipe=ignet", "finetune.mix.shar=1"], r"unknown key 'finetune\.mix\.shar'"),
    ],
)
def test_wrong_settings_are_named_as_they_are_written(lines: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_config(None, lines)

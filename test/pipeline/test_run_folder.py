import json

import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.learn_progress import LearnProgress
from xkd_ros.pipeline.run_folder import RunFolder, StageRecord, stage_key


def finished(folder, stage, key, inputs=None, output="o"):
    folder.begin(stage, key, inputs or {}).mkdir()
    folder.finish(StageRecord(stage=stage, key=key, inputs=inputs or {}, output=output))


def test_a_stage_goes_from_to_do_over_begun_to_done(tmp_path):
    run = RunFolder(tmp_path)
    assert run.state("targets", "k") == "to do"
    folder = run.begin("targets", "k", {})
    assert run.state("targets", "k") == run.state("targets", "other") == "to do", "nothing was made that could be stale"
    folder.mkdir()
    assert run.state("targets", "k") == "begun" and run.state("targets", "other") == "stale"
    run.finish(StageRecord(stage="targets", key="k", inputs={}, output="o"))
    assert run.state("targets", "k") == "done"


def test_the_key_follows_settings_and_inputs_and_nothing_else():
    key = stage_key("distill", {"lr": 1}, {"frames": "a", "targets": "b"})
    assert key == stage_key("distill", {"lr": 1}, {"targets": "b", "frames": "a"})
    assert key != stage_key("distill", {"lr": 2}, {"frames": "a", "targets": "b"})
    assert key != stage_key("distill", {"lr": 1}, {"frames": "a", "targets": "c"})


@pytest.mark.parametrize("finish", [True, False])
def test_stale_work_is_refused_and_the_change_is_named(tmp_path, finish):
    run = RunFolder(tmp_path)
    run.begin("pseudo", "old", {"targets": "a", "frames": "f"}).mkdir()
    if finish:
        run.finish(StageRecord(stage="pseudo", key="old", inputs={"targets": "a", "frames": "f"}, output="o"))
    with pytest.raises(ConfigError, match=r"other targets; .*--redo pseudo"):
        run.begin("pseudo", "new", {"targets": "b", "frames": "f"})
    with pytest.raises(ConfigError, match="made with other settings"):
        run.begin("pseudo", "new", {"targets": "a", "frames": "f"})
    run.begin("frames", "old", {}).with_name(".frames.part").mkdir()
    with pytest.raises(ConfigError, match="other recordings"):
        run.begin("frames", "new", {})
    run.forget(["pseudo"])
    assert run.state("pseudo", "new") == "to do"


def test_a_damaged_record_is_named(tmp_path):
    run = RunFolder(tmp_path)
    finished(run, "frames", "k")
    (tmp_path / "stages" / "frames.json").write_text('{"stage": "frames"}')
    with pytest.raises(ConfigError, match=r"stages/frames\.json"):
        run.state("frames", "k")


def test_progress_lines_tell_the_stage_the_rest_and_the_end(tmp_path):
    file = tmp_path / "progress.jsonl"
    with LearnProgress(3, file).shown() as progress:
        progress.start("distill", 1)
        progress(5, 10, {"loss": 0.5, "samples_per_s": 2.0, "unknown": 1.0})
        progress(10, 10, {"loss": 0.4})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines[0] == {"stage": "distill", "stage_index": 1, "stages": 3, "done": 0, "total": 0}
    assert lines[-2]["done"] == lines[-2]["total"] == 10 and lines[-2]["loss"] == 0.4 and "unknown" not in lines[-2]
    assert lines[-1] == {"stage": "done"}


def test_an_error_is_the_last_line(tmp_path):
    file = tmp_path / "progress.jsonl"
    with pytest.raises(ConfigError), LearnProgress(1, file).shown():
        raise ConfigError("two\nlines")
    assert json.loads(file.read_text().splitlines()[-1]) == {"error": "two lines"}


def test_only_what_the_run_made_is_deleted(tmp_path):
    run = RunFolder(tmp_path)
    finished(run, "frames", "k")
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="targets was not made by this run"):
        run.forget(("frames", "targets"))
    assert run.state("frames", "k") == "done" and (tmp_path / "targets" / "thesis.txt").exists()
    run.forget(("frames",))
    assert run.state("frames", "k") == "to do" and not (tmp_path / "frames").exists()

"""The child process: real ones that count, fail, are killed, do not listen, and have children of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xkd_ros.core.errors import XkdError
from xkd_ros.nodes.progress_file import ProgressFile, describe
from xkd_ros.nodes.training_process import TrainingProcess

LEARNER = (sys.executable, "-S", str(Path(__file__).with_name("learner.py")))
DEADLINE_S = 60.0


def gone(pid):
    """A process that is no more, or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def training(tmp_path):
    training = TrainingProcess(tmp_path / "progress.jsonl", tmp_path / "learn.log", grace_s=30.0)
    yield training
    training.end(0.0)


def command(tmp_path, *changes):
    options = ["-o", "model", "--work", str(tmp_path), "--progress", str(tmp_path / "progress.jsonl")]
    return [*LEARNER, "bag", *options, *(part for change in changes for part in ("--set", change))]


def ended(training):
    wait_for(lambda: training.poll().pid is None, "the end of the training")
    return training.poll()


def test_progress_and_end(training, tmp_path):
    assert training.poll().state == "idle" and not training.running
    report = training.start(command(tmp_path, "total=20"))
    assert report.state == "training" and report.pid and os.getpgid(report.pid) == report.pid
    wait_for(lambda: training.poll().stage.get("done", 0) > 2, "some progress")
    report = training.poll()
    assert report.stage["total"] == 20 and report.message.startswith(f"distill (3 of 8): {report.stage['done']}/20, loss 0.")
    report = ended(training)
    assert (report.state, report.message, report.quiet_s) == ("done", "training is done", 0.0) and report.stage == {"stage": "done"}
    assert "learning" in (tmp_path / "learn.log").read_text()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("fail=the bag has no camera", "training failed: the bag has no camera (at distill (3 of 8): 0/1000"),
        ("shout=out of disk", "training ended with code 1: out of disk"),
    ],
)
def test_a_failure_is_told_with_its_reason(training, tmp_path, change, sentence):
    training.start(command(tmp_path, change))
    report = ended(training)
    assert report.state == "failed" and sentence in report.message and "\n" not in report.message
    assert str(tmp_path / "learn.log") in report.message


def test_last_words_are_those_of_this_start(training, tmp_path):
    (tmp_path / "learn.log").write_text("error: an old story\n")
    training.start([sys.executable, "-S", "-c", "raise SystemExit(3)"])
    assert "code 3: it said nothing" in ended(training).message
    training.start([sys.executable, "-S", "-c", "raise SystemExit('╭─ Error ─╮\\n│ No such command.  │\\n╰─────────╯')"])
    assert "code 1: No such command. (at starting)" in ended(training).message
    training.start([str(tmp_path / "no_such_program")])
    assert "no_such_program: No such file" in ended(training).message


def test_killed_child_is_told_and_the_next_start_goes_on(training, tmp_path):
    pid = training.start(command(tmp_path)).pid
    wait_for(lambda: training.poll().stage.get("done", 0) > 5, "some progress")
    os.kill(pid, signal.SIGKILL)
    report = ended(training)
    assert report.state == "failed" and "killed by SIGKILL" in report.message and not training.running
    training.start(command(tmp_path, f"total={int((tmp_path / 'count').read_text()) + 3}"))
    wait_for(lambda: "done" in training.poll().stage, "the first line")
    assert training.poll().stage["done"] >= 5
    assert ended(training).state == "done"


def test_double_start_and_stop_of_nothing(training, tmp_path):
    with pytest.raises(XkdError, match="nothing to stop: training is idle"):
        training.stop()
    pid = training.start(command(tmp_path)).pid
    with pytest.raises(XkdError, match="running already"):
        training.start(command(tmp_path))
    assert training.poll().pid == pid and not gone(pid)
    training.stop()
    assert training.poll().state in ("stopping", "stopped")
    assert ended(training).state == "stopped" and gone(pid)
    with pytest.raises(XkdError, match="nothing to stop: training is stopped"):
        training.stop()


def test_a_child_that_does_not_listen_is_killed_with_its_children(tmp_path):
    training = TrainingProcess(tmp_path / "progress.jsonl", tmp_path / "learn.log", grace_s=0.3)
    pid = training.start(command(tmp_path, "deaf=1", f"child={tmp_path / 'child'}")).pid
    wait_for(lambda: training.poll().stage, "the first line")
    grandchild = int((tmp_path / "child").read_text())
    training.stop()
    started = time.monotonic()
    report = ended(training)
    assert report.state == "stopped" and time.monotonic() - started >= 0.25
    wait_for(lambda: gone(pid) and gone(grandchild), "the end of the group")


def test_what_the_child_leaves_behind_ends_with_it(training, tmp_path):
    training.start(command(tmp_path, "total=1", f"child={tmp_path / 'child'}"))
    assert ended(training).state == "done"
    grandchild = int((tmp_path / "child").read_text())
    wait_for(lambda: gone(grandchild), "the end of what it had started")


def test_no_orphan_when_the_parent_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from xkd_ros.nodes.training_process import TrainingProcess\n"
        f"training = TrainingProcess(Path({str(tmp_path / 'progress.jsonl')!r}), Path({str(tmp_path / 'learn.log')!r}))\n"
        f"print(training.start({command(tmp_path)!r}).pid, flush=True); time.sleep(300)\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))},
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    wait_for((tmp_path / "count").exists, "a child at work")
    assert not gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: gone(pid), "the end of the child")


def test_niceness_and_a_work_folder_that_cannot_be_written(tmp_path):
    training = TrainingProcess(tmp_path / "progress.jsonl", tmp_path / "learn.log", niceness=3)
    pid = training.start(command(tmp_path)).pid
    wait_for(lambda: training.poll().stage, "the first line")
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    training.end(5.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(XkdError, match=r"training cannot start: .*file"):
        TrainingProcess(tmp_path / "file" / "progress.jsonl", tmp_path / "learn.log").start(command(tmp_path))


@pytest.mark.parametrize("size", [97, 1000, 100_000])
def test_progress_file_in_pieces_and_damaged(tmp_path, size):
    path, lines = tmp_path / "progress.jsonl", []
    good = {"stage": "pairs", "stage_index": 0, "stages": 8, "done": 1, "total": 2, "eta_s": None, "loss": float("nan")}
    lines += [json.dumps(good), "{half", "[]", "3", '{"other": 1}', '{"stage": "' + "x" * 70_000 + '"}']
    lines += [json.dumps({**good, "done": 2, "stage_index": True, "eta_s": float("inf")})]
    data = ("\n".join(lines) + '\n{"stage": "late"').encode()
    file, fresh = ProgressFile(path), 0
    assert not file.read() and file.stage == {}
    for start in range(0, len(data), size):
        with open(path, "ab") as out:
            out.write(data[start : start + size])
        fresh += file.read()
    assert file.stage == {"stage": "pairs", "stages": 8, "done": 2, "total": 2} and file.lines == 2 and not file.error and fresh >= 1
    path.write_text('{"error": "one\\n two"}\n')
    assert file.read() and file.error == "one two" and file.stage["stage"] == "pairs"


def test_progress_in_words():
    stage = {
        "stage": "distill",
        "stage_index": 2,
        "stages": 8,
        "done": 120,
        "total": 5000,
        "loss": 0.53,
        "samples_per_s": 7.1,
        "eta_s": 690.0,
    }
    assert describe(stage) == "distill (3 of 8): 120/5000, loss 0.530, 7.1 scans/s, 12 min left"
    assert (
        describe({"stage": "export"}) == "export"
        and describe({}) == "starting"
        and describe({"stage": "a", "eta_s": 9000}) == "a: 2.5 h left"
    )

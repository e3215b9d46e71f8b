"""The trainer node: services, progress and diagnostics around a real child; pairs collected from real topics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo, CompressedImage, PointCloud2
from std_msgs.msg import String
from trainers import LEARNER, alive, command_line, send_pairs

from xkd_ros.bags.reader import Bag
from xkd_ros.core.errors import ConfigError
from xkd_ros.nodes.trainer import TrainerNode
from xkd_ros.nodes.trainer_parameters import split_changes

from .conftest import LATCHED

pytestmark = pytest.mark.dds


def test_trains_at_once_and_tells(trainer, bag):
    trainer.start(bags=[bag, bag], set=["total=30", "a=[1, 2]"], recipe="scalr", teacher="facebook/dinov2-small")
    said = trainer.wait("training", done=1)
    assert said["stage"] == "distill" and said["total"] == 30 and 0 < said["loss"] <= 1 and said["model"].endswith("model")
    said = trainer.wait("done")
    assert said["stage"] == "done" and trainer.level() == (DiagnosticStatus.OK, "done: training is done")
    work = trainer.folder / "work"
    options = f"-o {trainer.folder / 'model'} --work {work} --progress {work / 'progress.jsonl'}"
    options += " --recipe scalr --teacher facebook/dinov2-small --set total=30 --set a=[1, 2]"
    assert command_line(trainer).endswith(f"learner.py learn {bag} {bag} {options}")
    late = trainer.graph.listen(String, "/trainer/progress", LATCHED)
    trainer.graph.spin_until(lambda: bool(late), "the latched message")
    assert json.loads(late[0].data)["state"] == "done"


def test_start_stop_and_start_again_goes_on(trainer, bag):
    trainer.start(bags=bag, autostart=False)
    assert trainer.wait("idle")["message"] == "~/start begins the training"
    success, message = trainer.call("stop")
    assert not success and "nothing to stop" in message
    assert trainer.call("start")[0]
    pid = trainer.node._training.poll().pid
    done = trainer.wait("training", done=3)["done"]
    success, message = trainer.call("start")
    assert not success and "running already (distill" in message
    success, message = trainer.call("stop")
    assert success and "stopped at distill (3 of 8)" in message and not alive(pid)
    trainer.wait("stopped")
    assert trainer.level()[0] == DiagnosticStatus.OK
    assert trainer.call("start")[0]
    trainer.graph.spin_until(lambda: trainer.said().get("state") == "training" and "done" in trainer.said(), "work")
    assert trainer.said()["done"] >= done


def test_node_lives_on_while_a_deaf_child_is_stopped(trainer, bag):
    trainer.start(bags=bag, set="deaf=1", grace_s=4.0)
    trainer.wait("training", done=1)
    success, message = trainer.call("stop")
    assert success and message.startswith("stopping, at the latest in 4 s by force")
    assert trainer.level()[1].startswith("stopping: distill")
    assert trainer.call("stop")[0]
    success, message = trainer.call("start")
    assert not success and "running already" in message
    assert trainer.wait("stopped")["message"].startswith("stopped at distill")


def test_death_of_the_child_is_an_error_and_not_the_end(trainer, bag):
    trainer.start(bags=bag)
    trainer.wait("training", done=1)
    os.kill(trainer.node._training.poll().pid, signal.SIGKILL)
    assert "killed by SIGKILL" in trainer.wait("failed")["message"]
    level, sentence = trainer.level()
    assert level == DiagnosticStatus.ERROR and "killed by SIGKILL" in sentence
    assert trainer.call("start")[0]
    trainer.wait("training", done=1)


def test_reason_of_a_failure_and_silence(trainer, bag):
    trainer.start(bags=bag, set="fail=no overlap in time", autostart=False, stale_s=1.0)
    trainer.call("start")
    assert trainer.wait("failed")["message"].startswith("training failed: no overlap in time")
    trainer.node._program = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
    assert trainer.call("start")[0]
    trainer.graph.spin_until(lambda: "has not said anything" in trainer.level()[1], "the warning")
    assert trainer.level()[0] == DiagnosticStatus.WARN


def test_wrong_set_ups_are_refused(graph, bag, tmp_path):
    def refused(match, **parameters):
        with pytest.raises(ConfigError, match=match):
            graph.make(lambda **rest: TrainerNode(LEARNER, **rest), work=str(tmp_path / "work"), **parameters)

    refused("no recordings to learn from")
    refused("parameter 'bags': there is no .*none", bags=f"{bag},{tmp_path / 'none'}")
    refused("parameter 'rig': there is no", bags=bag, rig=str(tmp_path / "none.yaml"))
    refused("parameter 'set': 'epochs' is not of the form key=value", bags=bag, set="a=1, epochs")
    refused("no camera given", collect=True)
    assert not (tmp_path / "work" / "collected").exists() or not any((tmp_path / "work" / "collected").iterdir())


def test_collects_until_the_stream_is_silent_then_trains(trainer, bag):
    graph = trainer.graph
    topics = {"images": "/cam/compressed", "points": "cloud", "input_reliability": "reliable"}
    trainer.start(["-r", "cloud:=/lidar/points"], bags=bag, collect=True, silence_s=1.5, set="total=5", **topics)
    points, camera = graph.publisher(PointCloud2, "/lidar/points"), graph.publisher(CompressedImage, "/cam/compressed")
    assert "no scan has arrived" in trainer.wait("collecting")["message"]
    level, sentence = trainer.level()
    assert level == DiagnosticStatus.WARN and "0 pairs from /lidar/points" in sentence
    send_pairs(graph, points, camera, 1, 6)
    assert trainer.wait("collecting", pairs=5)["message"].endswith("pairs from /lidar/points")
    trainer.wait("done")
    collected = trainer.folder / "work" / "collected" / "pairs_001"
    with Bag(collected) as recorded:
        assert {name: info.count for name, info in recorded.topics.items()} == {"/lidar/points": 6, "/cam/compressed": 6}
    assert f"learner.py learn {bag} {collected} -o" in command_line(trainer)
    assert "trainer_synchronizer" not in graph.probe.get_node_names()


def test_topics_are_collected_from_where_they_are_remapped_to(trainer):
    graph, image = trainer.graph, "/cam/image_raw/compressed"
    moved = {"cloud": "/lidar/points", image: "/front/compressed", "/cam/camera_info": "/front/camera_info"}
    arguments = [word for name, topic in moved.items() for word in ("-r", f"{name}:={topic}")]
    topics = {"images": image, "points": "cloud", "input_reliability": "reliable"}
    node = trainer.start(arguments, collect=True, silence_s=0.0, autostart=False, **topics)
    points, camera = graph.publisher(PointCloud2, moved["cloud"]), graph.publisher(CompressedImage, moved[image])
    graph.publisher(CameraInfo, moved["/cam/camera_info"]).publish(CameraInfo(width=6))
    graph.spin_until(lambda: node._collector.synchronizer._cameras[0].info is not None, "CameraInfo")
    send_pairs(graph, points, camera, 1, 3)
    trainer.wait("collecting", pairs=2)
    assert trainer.call("stop")[0]
    with Bag(trainer.folder / "work" / "collected" / "pairs_001") as recorded:
        assert set(recorded.topics) == {"/lidar/points", image, "/cam/camera_info"}


def test_collecting_ends_by_service_and_what_was_collected_stays(trainer):
    graph = trainer.graph
    parameters = {"collect": True, "images": "/cam/compressed", "silence_s": 0.0, "input_reliability": "reliable"}
    trainer.start(autostart=False, **parameters)
    success, message = trainer.call("start")
    assert not success and "nothing to learn from yet: 0 pairs from /points: no scan has arrived" in message
    points, camera = graph.publisher(PointCloud2, "/points"), graph.publisher(CompressedImage, "/cam/compressed")
    send_pairs(graph, points, camera, 1, 3)
    trainer.wait("collecting", pairs=3)
    success, message = trainer.call("stop")
    assert success and "3 pairs are in" in message
    trainer.wait("idle")
    graph.end(trainer.node)
    # The next one records beside it; without new pairs it learns from what is there.
    trainer.start(autostart=False, **parameters)
    trainer.wait("collecting")
    assert trainer.call("start")[0]
    trainer.wait("training", done=1)
    assert [path.name for path in (trainer.folder / "work" / "collected").iterdir()] == ["pairs_001"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_orphan_when_the_node_leaves(graph, bag, tmp_path, number, slowness):
    program = tmp_path / "node.py"
    program.write_text(
        "from functools import partial\nfrom xkd_ros.nodes.running import run_node\n"
        "from xkd_ros.nodes.trainer import TRAINER, TrainerNode\n"
        f"run_node(partial(TrainerNode, {LEARNER!r}), TRAINER, '')\n"
    )
    work = tmp_path / "work"
    arguments = ["--ros-args", "-p", f"bags:={bag}", "-p", f"work:={work}", "-p", f"set:=child={tmp_path / 'child'}"]
    node = subprocess.Popen([sys.executable, str(program), *arguments], env=graph.environment(), stderr=subprocess.PIPE, text=True)
    graph.processes.append(node)
    graph.spin_until(lambda: (work / "count").exists() or node.poll() is not None, "a child at work")
    family = subprocess.run(["ps", "-o", "pid=", "--ppid", str(node.pid)], capture_output=True, text=True).stdout.split()
    assert len(family) == 1 and alive(family[0])
    started = time.monotonic()
    node.send_signal(number)
    assert node.wait(60) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    assert time.monotonic() - started < 2.0 * slowness
    graph.spin_until(lambda: not alive(family[0]), "the end of the child")
    if number != signal.SIGKILL:
        graph.spin_until(lambda: not alive((tmp_path / "child").read_text()), "the end of the child's child")
        assert "Traceback" not in node.stderr.read()
    else:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    node.stderr.close()


def test_changes_with_commas():
    assert split_changes("a.b=1, c=[1, 2], d={e: 1, f: (2,3)} ,, ") == ["a.b=1", "c=[1, 2]", "d={e: 1, f: (2,3)}"]

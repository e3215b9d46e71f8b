"""~/adapt of the trainer node: what it runs, on which recording, when it refuses; and a real adaptation, killed and called again."""

from __future__ import annotations

import os
import signal

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, PointCloud2
from trainers import LEARNER, alive, command_line, send_pairs

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.nodes.trainer import TrainerNode
from xkd_ros.nodes.trainer_parameters import XKD

pytestmark = pytest.mark.dds


def test_adapts_and_trains_one_at_a_time_and_goes_on_after_a_kill(trainer, bag, tiny_model):
    site = str(trainer.folder / "site")
    settings = ["minutes=5", "adapt={steps: 3, batch: 2}"]
    trainer.start(bags=bag, autostart=False, adapt_model=str(tiny_model), adapt_out=site, adapt_set=settings, teacher="sim2d-indoor12")
    success, message = trainer.call("adapt")
    assert success and message.startswith(f"adapting {tiny_model} to {bag} in process")
    done = trainer.wait("adapting", done=3)
    assert done["model"] == site and trainer.level()[1].startswith("adapting: distill (3 of 8)")
    for service in ("start", "adapt"):
        success, message = trainer.call(service)
        assert not success and message.startswith("adaptation is running already (distill")
    os.kill(trainer.node._training.poll().pid, signal.SIGKILL)
    assert "adaptation was killed by SIGKILL" in trainer.wait("failed")["message"] and trainer.level()[0] == DiagnosticStatus.ERROR
    # A training between does not make the adaptation begin anew.
    assert trainer.call("start")[0]
    assert trainer.wait("training", done=1)["model"].endswith("model")
    success, message = trainer.call("adapt")
    assert not success and message.startswith("training is running already (distill")
    assert trainer.call("stop")[0]
    trainer.wait("stopped")
    assert trainer.call("adapt")[0]
    trainer.graph.spin_until(lambda: trainer.said().get("state") == "adapting" and "done" in trainer.said(), "work")
    assert trainer.said()["done"] >= done["done"]
    success, message = trainer.call("stop")
    assert success and "stopped at distill" in message
    first, again = command_line(trainer, 0), command_line(trainer, 2)
    options = f"-o {site} --teacher sim2d-indoor12 --set {settings[0]} --set {settings[1]} --work {trainer.folder / 'work' / 'adapt'}/"
    assert first == again and f"learner.py adapt {tiny_model} {bag} {options}" in first


def test_the_end_is_told_with_its_outcome(trainer, bag, tiny_model):
    trainer.start(bags=bag, autostart=False, adapt_model=str(tiny_model), adapt_set="total=3, outcome=rolled back")
    assert trainer.call("adapt")[0]
    assert trainer.wait("done")["message"] == "adaptation is done: rolled back"
    assert trainer.level() == (DiagnosticStatus.OK, "done: adaptation is done: rolled back")


def test_adapts_to_what_was_collected_last(trainer, bag, tiny_model):
    graph = trainer.graph
    parameters = {"collect": True, "images": "/cam/compressed", "silence_s": 0.0, "input_reliability": "reliable", "autostart": False}
    trainer.start(model_out=str(trainer.folder / "none"), **parameters)
    points, camera = graph.publisher(PointCloud2, "/points"), graph.publisher(CompressedImage, "/cam/compressed")
    success, message = trainer.call("adapt")
    assert not success and "nothing to learn from yet" in message
    send_pairs(graph, points, camera, 1, 3)
    trainer.wait("collecting", pairs=3)
    success, message = trainer.call("adapt")
    assert not success and "none" in message and trainer.wait("collecting")  # no model yet: the recording goes on
    for number in (1, 2):
        graph.end(trainer.node)
        if number == 1:
            trainer.start(bags=bag, model_out=str(tiny_model), **parameters)
            send_pairs(graph, points, camera, 10, 3)
            trainer.wait("collecting", pairs=2)
        else:
            trainer.start(bags=bag, model_out=str(tiny_model), **{**parameters, "collect": False})
        assert trainer.call("adapt")[0]
        trainer.wait("adapting", done=1)
        assert f"adapt {tiny_model} {trainer.folder / 'work' / 'collected' / 'pairs_002'} -o" in command_line(trainer, number - 1)
    assert command_line(trainer, 0) == command_line(trainer, 1)


def test_a_model_that_is_not_there_is_refused_at_once(graph, bag, tmp_path):
    for name in ("indoor-24x65", str(tmp_path / "none")):
        with pytest.raises(ModelError, match=name):
            graph.make(lambda **rest: TrainerNode(LEARNER, **rest), work=str(tmp_path / "w"), bags=bag, adapt_model=name)
    with pytest.raises(ConfigError, match="parameter 'adapt_set': 'minutes' is not of the form key=value"):
        graph.make(lambda **rest: TrainerNode(LEARNER, **rest), work=str(tmp_path / "w"), bags=bag, adapt_set="minutes")


def test_a_real_adaptation_is_killed_and_goes_on(trainer, tiny_model, tmp_path):
    import torch

    from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
    from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
    from xkd_ros.worlds.simulate import simulate

    simulate(61, "ouster16", 1.0, tmp_path / "there", every=2)
    network = ImageNetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1), feature_width=16)
    student = seeded_image_student(network, 0)
    with torch.no_grad():
        student.head.weight *= 8  # a random network that is sure of something
    save_image_teacher(student, ImageTeacherCard(name="random", network=network), tmp_path / "random")
    units = "pixels: {least_area_px: 32, erode_px: 0}"
    adapt = f"adapt={{steps: 15, batch: 2, lr: 0.05, save_every: 1, {units}, tensorboard: false, input: {{max_points: 1500}}}}"
    files = {"adapt_model": str(tiny_model), "adapt_out": str(tmp_path / "site"), "bags": str(tmp_path / "there")}
    trainer.start(program=XKD, autostart=False, teacher=str(tmp_path / "random"), adapt_set=adapt, **files)
    assert trainer.call("adapt")[0]
    trainer.graph.spin_until(
        lambda: (trainer.said().get("stage") == "adapt" and trainer.said()["done"] > 2) or trainer.said().get("state") == "failed",
        "steps of the adaptation",
    )
    assert trainer.said()["state"] == "adapting", trainer.said()
    pid = trainer.node._training.poll().pid
    os.kill(pid, signal.SIGKILL)
    trainer.wait("failed")
    assert not alive(pid) and not (tmp_path / "site").exists()
    assert trainer.call("adapt")[0]
    trainer.wait("adapting")
    trainer.graph.spin_until(lambda: trainer.said().get("state") in ("done", "failed"), "the end")
    said = trainer.said()
    assert said["state"] == "done" and "agreement with held-out image labels" in said["message"], said
    assert trainer.level() == (DiagnosticStatus.OK, f"done: {said['message']}")
    kept = f"kept; the adapted model is in {tmp_path / 'site'}" in said["message"]
    assert kept == (tmp_path / "site").exists() and kept != ("rolled back" in said["message"])
    if kept:
        assert load_card(tmp_path / "site").recipe["model_hash"] == load_card(tiny_model).hash

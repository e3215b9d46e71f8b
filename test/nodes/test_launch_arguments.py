"""What launch arguments are read as, and errors that name the argument."""

from __future__ import annotations

import pytest

from xkd_ros.nodes.launch_arguments import log_level, number, parameter_file, true


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("on", True)])
def test_truths(text, value):
    assert true({"rviz": text}, "rviz") is value


@pytest.mark.parametrize("text", ["1", "yes please", "{", ""])
def test_no_truth_is_told_with_the_name(text):
    with pytest.raises(RuntimeError, match=f"launch argument rviz got '{text}', expected true or false"):
        true({"rviz": text}, "rviz")


def test_numbers():
    assert number({"rate": "0.5"}, "rate") == 0.5 and number({"num_threads": "2"}, "num_threads", int) == 2
    with pytest.raises(RuntimeError, match="launch argument num_threads got 'two', expected a whole number"):
        number({"num_threads": "two"}, "num_threads", int)


def test_a_parameter_file_must_be_there(tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    assert parameter_file({"params_file": str(tmp_path / "mine.yaml")}, "params_file").endswith("mine.yaml")
    with pytest.raises(RuntimeError, match=r"launch argument params_file got .*no file"):
        parameter_file({"params_file": str(tmp_path / "yours.yaml")}, "params_file")


@pytest.mark.parametrize(("namespace", "logger"), [("", "segmenter"), ("/", "segmenter"), ("/robot/front", "robot.front.segmenter")])
def test_the_logger_of_a_node_carries_its_namespace(namespace, logger):
    assert log_level({"namespace": namespace, "log_level": "debug"}, "segmenter") == ["--log-level", f"{logger}:=debug"]

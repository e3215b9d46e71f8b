"""What the launch files say, read without launch: every argument has help, every program and parameter they name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="the parameter tables need rclpy")

from xkd_ros.nodes.replayer_parameters import REPLAYER
from xkd_ros.nodes.segmenter_parameters import SEGMENTER
from xkd_ros.nodes.synchronizer_parameters import SYNCHRONIZER
from xkd_ros.nodes.trainer_parameters import TRAINER

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def table_of(tree: ast.Module, name: str) -> list[ast.expr]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            assert isinstance(node.value, ast.List | ast.Tuple)
            return node.value.elts
    raise AssertionError(f"{name} is not there")


def words_of(tree: ast.Module) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_argument_has_a_name_and_help(path):
    rows = table_of(ast.parse(path.read_text()), "ARGUMENTS")
    names = [row.elts[0].value for row in rows]
    assert len(set(names)) == len(names) and all(re.fullmatch("[a-z_]+", name) for name in names)
    assert all(len(row.elts) == 3 and len(row.elts[2].value) > 10 for row in rows)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_programs_and_files_exist(path):
    words = words_of(ast.parse(path.read_text()))
    programs = {"segmenter", "synchronizer", "replayer", "trainer"} & set(words)
    assert programs and all((ROOT / "scripts" / program).is_file() for program in programs)
    for word in words:
        if re.fullmatch(r"[\w.]+\.(yaml|xml|rviz|launch\.py)", word):
            assert (ROOT / "config" / word).is_file() or (ROOT / "launch" / word).is_file(), word


def test_segment_arguments_that_are_parameters_exist():
    names = {row.elts[0].value for row in table_of(ast.parse((ROOT / "launch" / "segment.launch.py").read_text()), "ARGUMENTS")}
    given = {"model", "backend", "num_threads", "levelling", "roll_deg", "pitch_deg", "autostart", "temporal_fusion", "base_from_lidar"}
    given |= {"fused", "build_only"}
    assert given <= names & set(SEGMENTER.specs)
    assert {"rig", "record"} <= names & set(SYNCHRONIZER.specs) and "images" in SYNCHRONIZER.specs


def test_demo_hands_on_what_segment_takes():
    demo = ast.parse((ROOT / "launch" / "demo.launch.py").read_text())
    segment = ast.parse((ROOT / "launch" / "segment.launch.py").read_text())
    taken = {row.elts[0].value for row in table_of(segment, "ARGUMENTS")}
    given = {row.elts[0].value for row in table_of(demo, "ARGUMENTS")}
    shared = {element.value for element in table_of(demo, "SHARED")}
    assert shared <= taken and shared <= given
    assert {"bag", "rate", "loop", "wait_for"} <= set(REPLAYER.specs)


def test_train_arguments_that_are_parameters_exist():
    train = ast.parse((ROOT / "launch" / "train.launch.py").read_text())
    names = {row.elts[0].value for row in table_of(train, "ARGUMENTS")}
    texts = {element.value for element in table_of(train, "TEXTS")}
    assert texts <= names and texts <= set(TRAINER.specs) and all(isinstance(TRAINER.specs[name].default, str) for name in texts)
    assert {"autostart", "collect", "silence_s"} <= names & set(TRAINER.specs) and "images" in TRAINER.specs

"""What the launch files say and start, without launch: every argument has help, and what is given reaches the nodes, no more."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import ament_index_python.packages
import pytest
import yaml

pytest.importorskip("rclpy", reason="the parameter tables need rclpy")

from xkd_ros.nodes.replayer_parameters import REPLAYER
from xkd_ros.nodes.segmenter_parameters import SEGMENTER
from xkd_ros.nodes.synchronizer_parameters import SYNCHRONIZER
from xkd_ros.nodes.trainer_parameters import TRAINER

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))


class Text(str):
    """What the stand-in of launch_ros makes of a ParameterValue of value_type str."""


class LaunchModule(ModuleType):
    """Stands in for a module of launch: its classes remember what they are made with."""

    LaunchConfiguration = staticmethod(lambda name: SimpleNamespace(perform=lambda context: context[name]))

    @staticmethod
    def ParameterValue(value, value_type):
        assert value_type is str
        return Text(value)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **given: SimpleNamespace(kind=name, **given)


@pytest.fixture
def started(monkeypatch):
    """Nodes that a launch file starts, by program; their parameters as launch reads them: a plain text is YAML to it."""
    for name in ("launch", "launch_ros"):
        for part in ("", ".actions", ".events", ".events.process", ".event_handlers", ".launch_description_sources", ".substitutions"):
            monkeypatch.setitem(sys.modules, name + part, LaunchModule(name + part))
    monkeypatch.setitem(sys.modules, "launch_ros.parameter_descriptions", LaunchModule("launch_ros.parameter_descriptions"))
    monkeypatch.setattr(ament_index_python.packages, "get_package_share_directory", lambda _: str(ROOT))

    def read(value):
        return yaml.safe_load(value) if type(value) is str else str(value) if isinstance(value, Text) else value

    def start(file, **given):
        module = runpy.run_path(str(ROOT / "launch" / f"{file}.launch.py"))
        defaults = {name: default for name, default, _ in module["ARGUMENTS"]}
        assert given.keys() <= defaults.keys()
        nodes = [action for action in module["_start"]({**defaults, **given}) if action.kind == "Node"]
        for node in nodes:
            node.file, parameters = node.parameters
            node.given = {name: read(value) for name, value in parameters.items()}
        return {node.executable: node for node in nodes}

    return start


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


def test_demo_hands_on_what_segment_takes():
    demo = ast.parse((ROOT / "launch" / "demo.launch.py").read_text())
    segment = ast.parse((ROOT / "launch" / "segment.launch.py").read_text())
    taken = {row.elts[0].value for row in table_of(segment, "ARGUMENTS")}
    given = {row.elts[0].value for row in table_of(demo, "ARGUMENTS")}
    shared = {element.value for element in table_of(demo, "SHARED")}
    assert shared <= taken and shared <= given
    assert {"bag", "rate", "loop", "wait_for"} <= set(REPLAYER.specs)


@pytest.mark.parametrize(("file", "given"), [("segment", {"synchronizer": "true"}), ("train", {})], ids=["segment", "train"])
def test_what_is_not_given_is_left_to_the_parameter_files(started, tmp_path, file, given):
    own = tmp_path / "own.yaml"
    own.write_text("")
    nodes = started(file, params_file=str(own), **given)
    assert not any(node.given for node in nodes.values())
    assert next(iter(nodes.values())).file == str(own)


def test_defaults_of_the_parameter_files_are_told():
    for file, table, names in (("segment", SEGMENTER, ("autostart", "build_only")), ("train", TRAINER, ("autostart", "collect"))):
        rows = table_of(ast.parse((ROOT / "launch" / f"{file}.launch.py").read_text()), "ARGUMENTS")
        told = {row.elts[0].value: row.elts[2].value for row in rows}
        assert all(f"({str(table.specs[name].default).lower()})" in told[name] for name in names)


def fits(table, given):
    given = {name: value for name, value in given.items() if name != "use_sim_time"}
    return not any(table.specs[name].problem(table.specs[name].coerce(value)) for name, value in given.items())


def test_what_is_given_to_segment_reaches_its_nodes(started):
    # Texts that YAML would read as a number, a date and a truth are among them.
    texts = {"model": "2024_01_15", "backend": "numba", "levelling": "off", "base_from_lidar": "0, 0, 1, 0, 0, 0", "rig": "2024-01-15"}
    numbers = {"num_threads": 2, "headings": 4, "roll_deg": 1.5, "pitch_deg": -2.0}
    truths = {"autostart": False, "build_only": False, "temporal_fusion": True, "fused": True, "use_sim_time": True}
    given = {**texts, **numbers, **truths, "image": "/front", "record": "2024-02-30", "synchronizer": True}
    topics = {"points": "/lidar", "odometry": "/odom", "output": "named", "namespace": "robot", "name": "front"}
    nodes = started("segment", **{name: str(value) for name, value in given.items()}, **topics)
    segmenter, synchronizer = nodes["segmenter"], nodes["synchronizer"]
    assert segmenter.given == {**texts, **numbers, **truths, "images": "/front"} and fits(SEGMENTER, segmenter.given)
    assert dict(segmenter.remappings) == {"points": "/lidar", "semantic_points": "named", "odometry": "/odom"}
    assert (segmenter.namespace, segmenter.name, segmenter.on_exit) == ("robot", "front", None)
    expected = {"rig": "2024-01-15", "images": "/front", "record": "2024-02-30", "use_sim_time": True}
    assert synchronizer.given == expected and fits(SYNCHRONIZER, expected)
    assert dict(synchronizer.remappings) == {"points": "/lidar"} and synchronizer.namespace == "robot"


def test_build_only_starts_the_segmenter_alone_and_judges_its_end(started):
    nodes = started("segment", build_only="true", synchronizer="true")
    assert list(nodes) == ["segmenter"] and nodes["segmenter"].given == {"build_only": True}
    with pytest.raises(RuntimeError, match="not built"):
        nodes["segmenter"].on_exit(SimpleNamespace(returncode=1), None)


def test_what_is_given_to_train_reaches_its_nodes(started):
    module = table_of(ast.parse((ROOT / "launch" / "train.launch.py").read_text()), "TEXTS")
    texts = {name.value: f"2024_01_{number:02d}" for number, name in enumerate(module, 10)} | {"set": "distill.epochs=5"}
    given = {**texts, "autostart": False, "collect": True, "silence_s": 4.5}
    nodes = started("train", **{name: str(value) for name, value in given.items()}, image="/a, /b", replay="2024_01_15", rate="2")
    assert nodes["trainer"].given == {**given, "images": "/a, /b"} and fits(TRAINER, nodes["trainer"].given)
    expected = {"bag": "2024_01_15", "rate": 2.0, "wait_for": f"{texts['points']}:1, /a:1, /b:1"}
    assert nodes["replayer"].given == expected and fits(REPLAYER, expected)


def test_what_is_given_to_demo_reaches_the_replayer(started):
    replayer = started("demo", bag="2024_01_15", rate="2", loop="false", rig="rig.yaml")["replayer"]
    expected = {"bag": "2024_01_15", "rate": 2.0, "loop": False, "wait_for": "/ouster/points:2"}
    assert replayer.given == expected and fits(REPLAYER, expected)


@pytest.mark.parametrize(
    ("file", "given", "sentence"),
    [
        ("segment", {"record": "pairs", "rig": "rig.yaml"}, "record is written by the synchronizer: give synchronizer:=true"),
        ("train", {"points": "/p", "image": "/i", "bags": "b"}, "only for collecting: points, image; give collect:=true"),
        ("train", {"silence_s": "3", "collect": "false"}, "only for collecting: silence_s"),
        ("train", {"replay": "b", "points": "/p"}, "give collect:=true and points:=TOPIC"),
        ("demo", {}, "give a recording"),
    ],
)
def test_arguments_that_would_do_nothing_are_refused(started, file, given, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        started(file, **given)

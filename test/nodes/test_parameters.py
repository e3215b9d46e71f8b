"""Parameters: one table behind node, YAML and help; nothing misspelt or out of range is taken in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rcl_interfaces.srv import DescribeParameters
from rclpy.node import Node
from rclpy.parameter import Parameter

from xkd_ros.core.errors import ConfigError
from xkd_ros.nodes.parameters import ParameterSpec, ParameterTable
from xkd_ros.nodes.replayer_parameters import REPLAYER, parse_wait_for
from xkd_ros.nodes.segmenter import SegmenterNode
from xkd_ros.nodes.segmenter_parameters import SEGMENTER, parse_class_remap
from xkd_ros.nodes.synchronizer_parameters import SYNCHRONIZER
from xkd_ros.nodes.trainer_parameters import TRAINER

CONFIG = Path(__file__).resolve().parents[2] / "config"
TABLES = [SEGMENTER, SYNCHRONIZER, REPLAYER, TRAINER]
SMALL = ParameterTable(
    "probe_node",
    [
        ParameterSpec("speed_hz", 5.0, "A double.", 0, 10),
        ParameterSpec("count", 3, "An integer.", 1, 9),
        ParameterSpec("mode", "fast", "A choice.", choices=("fast", "slow")),
        ParameterSpec("path", "", "A text.", fixed=True),
        ParameterSpec("on", True, "A switch."),
        ParameterSpec("names", "", "Several texts.", listed=True),
    ],
)


def declare(graph, arguments=(), table=SMALL):
    node = graph.add(Node("probe_node", context=graph.context, cli_args=["--ros-args", *arguments]))
    table.declare(node)
    return node


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.node_name)
def test_yaml_file_is_what_the_table_says(table):
    path = CONFIG / f"{table.node_name}.yaml"
    assert path.read_text() == table.render_yaml(), f"write {table.node_name}'s render_yaml() to {path}"
    content = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert content == {name: spec.default for name, spec in table.specs.items()}
    assert {name: type(value) for name, value in content.items()} == {name: type(spec.default) for name, spec in table.specs.items()}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.node_name)
def test_yaml_file_loads_and_help_names_everything(graph, table):
    node = declare(graph, ["--params-file", str(CONFIG / f"{table.node_name}.yaml")], table)
    assert vars(table.values(node)) == {name: spec.default for name, spec in table.specs.items()}
    text = table.render_help()
    assert all(f"{name}:=" in text and spec.description.split()[0] in text for name, spec in table.specs.items())
    assert all(not spec.problem(spec.default) for spec in table.specs.values())


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("speed_hx:=5.0", "no parameter 'speed_hx'; did you mean 'speed_hz'?"),
        ("speed_hz:=11.0", "'speed_hz': got 11.0, expected 0 .. 10"),
        ("speed_hz:=.nan", "'speed_hz': got nan, expected 0 .. 10"),
        ("speed_hz:=true", "'speed_hz': got True, expected 0 .. 10"),
        ("count:=2.5", "'count': got 2.5, expected 1 .. 9"),
        ("mode:=slwo", "'mode': got 'slwo', expected fast | slow; did you mean 'slow'?"),
        ("on:=yes_please", "'on': got 'yes_please', expected true | false"),
        ("qos_overrides./points.subscription.depth:=3", "no parameter 'qos_overrides./points.subscription.depth'"),
        ("path:=[1, 2]", "'path': got"),
        ("path:=[]", "'path': got None, expected text"),
        ("path:=[a, b]", "'path': got ['a', 'b'], expected text"),
        ("names:=[1, 2]", "'names': got"),
    ],
)
def test_wrong_values_at_start_are_errors(graph, argument, sentence):
    with pytest.raises(ConfigError) as error:
        declare(graph, ["-p", argument])
    assert sentence in str(error.value)


def test_integers_are_taken_for_doubles_and_texts(graph, tmp_path):
    file = tmp_path / "given.yaml"
    file.write_text("/**:\n  ros__parameters: {speed_hz: 7, path: 2024, use_sim_time: true}\n")
    node = declare(graph, ["--params-file", str(file)])
    values = SMALL.values(node)
    assert values.speed_hz == 7.0 and isinstance(values.speed_hz, float) and values.path == "2024"
    assert node.set_parameters([Parameter("speed_hz", value=4)])[0].successful
    assert node.get_parameter("speed_hz").value == 4.0


@pytest.mark.parametrize(("given", "text"), [("[a, b c]", "a, b c"), ("a,b", "a,b"), ("[]", ""), ("7", "7"), ("[a]", "a")])
def test_lists_are_arrays_or_texts_with_commas(graph, given, text):
    node = declare(graph, ["-p", f"names:={given}"])
    assert SMALL.values(node).names == text


@pytest.mark.parametrize(("given", "text"), [(["a", "b c"], "a, b c"), ("a,b", "a,b"), ([], ""), (7, "7")])
def test_lists_may_be_set_later_as_arrays_or_texts_with_commas(graph, given, text):
    node = declare(graph, ["-p", "names:=before"])
    (result,) = node.set_parameters([Parameter("names", value=given)])
    assert result.successful, result.reason
    assert SMALL.values(node).names == text
    assert not node.set_parameters([Parameter("names", value=[1, 2])])[0].successful
    assert SMALL.values(node).names == text


def test_wrong_values_later_are_refused_with_the_reason(graph):
    node = declare(graph)
    for name, value, sentence in (("speed_hz", 99.0, "range"), ("mode", "slwo", "did you mean 'slow'"), ("path", "x", "read-only")):
        result = node.set_parameters([Parameter(name, value=value)])[0]
        assert not result.successful and sentence in result.reason, result.reason
    assert vars(SMALL.values(node)) == {name: spec.default for name, spec in SMALL.specs.items()}


def test_file_without_a_section_for_the_node_is_told(graph, tmp_path):
    file = tmp_path / "given.yaml"
    file.write_text("probe_nod:\n  ros__parameters: {count: 4}\n/robot:\n  other: {ros__parameters: {a: 1}}\n")
    arguments = ["--params-file", str(file)]
    node = declare(graph, arguments)
    assert node.get_parameter("count").value == 3
    (sentence,) = SMALL.unused_files(node, ["--ros-args", *arguments])
    assert "no section for /probe_node" in sentence and "/probe_nod, /robot/other" in sentence and "did you mean '/probe_nod'?" in sentence
    for key in ("/**", "probe_node", "/probe_node", "/*"):
        file.write_text(f"{key}:\n  ros__parameters: {{count: 4}}\n")
        assert not SMALL.unused_files(node, arguments), key


def test_parameters_describe_themselves(graph):
    declare(graph)
    answer = graph.call(
        DescribeParameters, "/probe_node/describe_parameters", DescribeParameters.Request(names=["speed_hz", "mode", "path"])
    )
    speed, mode, path = answer.descriptors
    assert speed.description == "A double." and (speed.floating_point_range[0].from_value, speed.floating_point_range[0].to_value) == (
        0,
        10,
    )
    assert mode.additional_constraints == "fast | slow" and path.read_only


def test_backends_are_those_of_the_runtime():
    from xkd_ros.runtime.selection import BACKENDS

    assert set(SEGMENTER.specs["backend"].choices) == {"auto", *BACKENDS}


def test_small_languages_of_text_parameters():
    assert parse_class_remap("wall:2, floor : 0,") == {"wall": 2, "floor": 0}
    with pytest.raises(ConfigError, match="'wall' is not class:id"):
        parse_class_remap("wall")
    assert parse_wait_for("2, /a:1, /b : 3") == (2, {"/a": 1, "/b": 3})
    with pytest.raises(ConfigError, match="'/a:x' is not a number"):
        parse_wait_for("/a:x")


@pytest.mark.parametrize("arguments", [["-p", "levelling:=off", "-p", "intensity:=off"], []])
def test_off_is_off_however_yaml_reads_it(graph, arguments):
    node = graph.make(SegmenterNode, arguments, autostart=False)
    if not arguments:
        results = node.set_parameters([Parameter("levelling", value=False), Parameter("intensity", value=False)])
        assert all(result.successful for result in results)
    assert node.get_parameter("levelling").value == "off" and node.get_parameter("intensity").value == "off"
    assert not node.set_parameters([Parameter("output_profile", value=False)])[0].successful

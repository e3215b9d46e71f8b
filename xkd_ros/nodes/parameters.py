"""Parameters of a node, declared once: the node, its --help, its YAML file and every check read the same table.

rclpy ignores unknown names in silence and refuses `5` where `5.0` is meant; `ParameterTable.declare` does neither.
Lists are comma-separated strings: an empty list has no type in ROS parameter files. Where `listed` is set an array is taken too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from xkd_ros.core.errors import ConfigError
from xkd_ros.nodes.callbacks import refusing

Value = bool | int | float | str

# rclpy declares or accepts these on every node.
_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service")


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter.

    Attributes:
        name, default: As in the YAML file.
        description: One line: what it does, with its unit.
        minimum, maximum: Closed range of a number.
        choices: The allowed strings.
        fixed: May be given at start only.
        check: Further test of a value: returns what is wrong, or "".
        listed: A text that holds a list, comma-separated; a ROS array of texts is taken too.
    """

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    fixed: bool = False
    check: Callable[[Any], str] | None = None
    listed: bool = False

    @property
    def type(self) -> Parameter.Type:
        """ROS type of the value."""
        return Parameter.Type.from_parameter_value(self.default)

    @property
    def allowed(self) -> str:
        """What a user may write, for help and errors."""
        if self.choices:
            return " | ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:g} .. {self.maximum:g}"
        if self.minimum is not None:
            return f"{self.minimum:g} or more"
        if self.listed:
            return "texts, comma-separated"
        return {Parameter.Type.BOOL: "true | false", Parameter.Type.STRING: "text"}.get(self.type, "number")

    def coerce(self, value: Any) -> Any:
        """Turn an integer given for a double into that double, one given for a text (`wait_for:=1`) and an array into that text."""
        if self.listed and (value is None or (isinstance(value, Sequence) and not isinstance(value, str))):
            items = value or ()  # rclpy hands over an empty array as None
            return ", ".join(items) if all(isinstance(item, str) for item in items) else value
        if value is False and "off" in self.choices:  # which is what YAML makes of an unquoted off
            return "off"
        if isinstance(value, int) and not isinstance(value, bool):
            return {Parameter.Type.DOUBLE: float, Parameter.Type.STRING: str}.get(self.type, int)(value)
        return value

    def problem(self, value: Any) -> str:
        """Say in one line what is wrong with a coerced value; empty when nothing is."""
        wrong = ""
        if not self.type.check(value) or (isinstance(value, bool) and self.type != Parameter.Type.BOOL):
            wrong = f"got {value!r}, expected {self.allowed}"
        elif self.choices and value not in self.choices:
            wrong = f"got {value!r}, expected {self.allowed}" + did_you_mean(str(value), self.choices)
        elif (self.minimum is not None and not value >= self.minimum) or (self.maximum is not None and not value <= self.maximum):
            wrong = f"got {value!r}, expected {self.allowed}"
        elif self.check is not None:
            wrong = self.check(value)
        return f"parameter '{self.name}': {wrong}" if wrong else ""

    def descriptor(self) -> ParameterDescriptor:
        """Describe the parameter to `ros2 param describe`."""
        descriptor = ParameterDescriptor(
            name=self.name,
            type=self.type.value,
            description=self.description,
            read_only=self.fixed,
            additional_constraints=self.allowed if self.choices else "",
        )
        if self.minimum is not None and self.maximum is not None:
            if self.type == Parameter.Type.DOUBLE:
                span = FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                descriptor.floating_point_range = [span]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum))]
        return descriptor


class ParameterTable:
    """All parameters of one node."""

    def __init__(self, node_name: str, specs: Iterable[ParameterSpec]) -> None:
        self.node_name = node_name
        self.specs = {spec.name: spec for spec in specs}

    def declare(self, node: Node) -> None:
        """Declare every parameter with the value given at start, and keep checking what is set later.

        Raises:
            ConfigError: an unknown name, a wrong type, or a value outside its range.
        """
        # The only place where rclpy keeps what files and -p gave before declaration, wildcards and node names resolved.
        given = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
        for name in given:
            if name not in self.specs and name not in _OF_EVERY_NODE:
                nearest = did_you_mean(name, [*self.specs, *_OF_EVERY_NODE]) or f"; it has {', '.join(self.specs)}"
                raise ConfigError(f"{node.get_name()} has no parameter '{name}'{nearest}")
        for spec in self.specs.values():
            value = spec.coerce(given.get(spec.name, spec.default))
            if wrong := spec.problem(value):
                raise ConfigError(wrong)
            node.declare_parameter(spec.name, value, spec.descriptor(), ignore_override=True)
        node.add_pre_set_parameters_callback(self._coerce_all)
        node.add_on_set_parameters_callback(refusing(self._check_all))

    def values(self, node: Node) -> SimpleNamespace:
        """Read the present values as attributes."""
        return SimpleNamespace(**{name: node.get_parameter(name).value for name in self.specs})

    def _coerce_all(self, parameters: list[Parameter]) -> list[Parameter]:
        coerced = []
        for parameter in parameters:
            spec = self.specs.get(parameter.name)
            coercible = (Parameter.Type.INTEGER, Parameter.Type.BOOL)
            if spec is not None and (parameter.type_ in coercible or (spec.listed and parameter.value is not None)):
                parameter = Parameter(parameter.name, value=spec.coerce(parameter.value))
            coerced.append(parameter)
        return coerced

    def problem(self, parameters: list[Parameter]) -> str:
        """Say in one line what is wrong with the first wrong value; empty when nothing is."""
        problems = (self.specs[item.name].problem(item.value) for item in parameters if item.name in self.specs)
        return next((problem for problem in problems if problem), "")

    def _check_all(self, parameters: list[Parameter]) -> SetParametersResult:
        wrong = self.problem(parameters)
        return SetParametersResult(successful=not wrong, reason=wrong)

    def unused_files(self, node: Node, arguments: Sequence[str]) -> list[str]:
        """Name the --params-file files that have no section for this node: rcl skips them without a word.

        Args:
            node: The running node, for its name after remapping.
            arguments: The command line.
        Returns:
            One sentence per such file.
        """
        name = node.get_fully_qualified_name()
        sentences = []
        for option, path in pairwise(arguments):
            if option != "--params-file":
                continue
            try:
                keys = _section_names(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
            except (OSError, yaml.YAMLError):
                continue  # rcl has already refused the file
            if not any(_covers(key, name) for key in keys):
                hint = did_you_mean(name, keys)
                sentences.append(f"{path} has no section for {name} (found: {', '.join(keys) or 'nothing'}){hint}")
        return sentences

    def render_yaml(self) -> str:
        """Write the commented parameter file that holds every default."""
        lines = [
            f"# Parameters of the {self.node_name} with their defaults; in [ ] what each may be. A name that is not here is an error.",
            "/**:",
            "  ros__parameters:",
        ]
        for spec in self.specs.values():
            note = f"{spec.description} [{spec.allowed}]" + (" (at start only)" if spec.fixed else "")
            lines += ["    # " + line for line in textwrap.wrap(note, 110)]
            lines.append(f"    {spec.name}: {_as_yaml(spec.default)}")
        return "\n".join(lines) + "\n"

    def render_help(self) -> str:
        """List the parameters for --help."""
        lines = []
        for spec in self.specs.values():
            lines.append(f"  {spec.name}:={_as_yaml(spec.default)}   [{spec.allowed}]")
            lines += textwrap.wrap(spec.description, 100, initial_indent="      ", subsequent_indent="      ")
        return "\n".join(lines)


def split_names(text: str) -> list[str]:
    """Read a comma-separated list."""
    return [name for part in text.split(",") if (name := part.strip())]


def refused_by(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Make a `check` of what reads a text and raises a ConfigError."""

    def problem(text: str) -> str:
        try:
            parse(text)
        except ConfigError as error:
            return str(error)
        return ""

    return problem


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name as the end of a sentence, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _as_yaml(value: Value) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _section_names(sections: Any, prefix: str = "") -> list[str]:
    """List the node names of a parameter file; namespaces may nest."""
    names = []
    for key, value in sections.items() if isinstance(sections, dict) else ():
        name = f"{prefix}/{str(key).strip('/')}"
        if isinstance(value, dict):
            names += [name] if "ros__parameters" in value else _section_names(value, name)
    return names


def _covers(key: str, name: str) -> bool:
    return fnmatchcase(name, key.replace("/**", "*"))

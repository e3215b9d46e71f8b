"""YAML into strict pydantic models: a wrong key is an error that names the file, the key and what is allowed."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from xkd_ros.core.errors import ConfigError

ModelT = TypeVar("ModelT", bound=BaseModel)
_LARGEST_BYTES = 4_000_000
_MOST_VALUES = 1_000_000
_BROKEN = (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError)
"""What PyYAML raises: also for 2024-02-30, 0x_ and !!timestamp foo."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one place: YAML forbids it, PyYAML silently takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


def load_yaml(path: str | Path, model: type[ModelT], changes: Sequence[str] = ()) -> ModelT:
    """Read a YAML (or JSON) file into a pydantic model.

    Args:
        path: File.
        model: What it must hold.
        changes: `a.b=value` lines that win over the file; values are YAML.
    Raises:
        ConfigError: missing file, broken YAML, unknown or wrong key.
    """
    content = _read_yaml(Path(path))
    return validate(change(content, changes) if changes else content, model, str(path) if not changes else f"{path} with --set")


def change(content: object, changes: Sequence[str]) -> dict[str, Any]:
    """Set `a.b=value` in a copy of nested keys.

    Raises:
        ConfigError: a line without "=", a broken value, or a key below something that has no keys.
    """
    if not isinstance(content, dict):
        raise ConfigError(f"--set needs keys to change, found {type(content).__name__}")
    result: dict[str, Any] = copy.deepcopy(content)
    for line in changes:
        key, equals, text = line.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set '{line}' is not of the form key=value, such as finetune.epochs=5")
        try:
            value = yaml.safe_load(text)
        except _BROKEN as error:
            raise ConfigError(f"--set '{line}': the value is not valid YAML ({' '.join(str(error).split())})") from error
        *parents, last = key.strip().split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set '{line}': '{parent}' holds a value, not keys")
        place[last] = value
    return result


def _read_yaml(path: Path) -> object:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size} bytes, too large for a configuration file")
        text = path.read_text(encoding="utf-8")
        # To YAML 1.1, JSON's 1e-7 is a word.
        content = json.loads(text) if path.suffix == ".json" else _StrictLoader(text).get_single_data()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except _BROKEN as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise ConfigError(f"{path} is not valid {kind}: {' '.join(str(error).split())}") from error
    if _more_values_than(content, _MOST_VALUES):
        raise ConfigError(f"{path} has more than {_MOST_VALUES} values once its references (*name) are followed; write them out")
    return content


def _more_values_than(content: object, most: int) -> bool:
    """Tell whether following every reference gives too much: ten lists of ten references to each other are ten billion values."""
    waiting, seen = [content], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if isinstance(value, (dict, list)):
            # Before they are added: a list that refers to itself adds its whole length each time.
            if seen + len(waiting) + len(value) > most:
                return True
            waiting += value.values() if isinstance(value, dict) else value
    return False


def validate(content: object, model: type[ModelT], where: str) -> ModelT:
    """Check parsed content against a model; `where` names its origin in errors."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where} holds {type(content).__name__}, expected keys {', '.join(model.model_fields)}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error, model, content)}") from error


def describe(error: ValidationError, model: type[BaseModel], content: object = None) -> str:
    """Say in one line what is wrong, with the nearest allowed key for a misspelt one.

    Args:
        error: Of the model.
        model: What the content should be.
        content: What was checked, so that keys are named as they are written there.
    """
    parts = []
    for problem in error.errors()[:5]:
        key = ".".join(map(str, _written(problem["loc"], content))) or "(root)"
        if problem["type"] == "extra_forbidden":
            close = get_close_matches(str(problem["loc"][-1]), _keys(model), n=1)
            parts.append(f"unknown key '{key}'" + (f" (did you mean '{close[0]}'?)" if close else ""))
        elif not problem["loc"]:
            parts.append(problem["msg"].removeprefix("Value error, "))
        else:
            got = problem.get("input")
            shown = "" if isinstance(got, dict) else f", got {str(got)[:60]!r}"
            parts.append(f"'{key}': {problem['msg'].removeprefix('Value error, ')}{shown}")
    return "; ".join(parts)


def _written(loc: tuple[int | str, ...], content: object) -> list[int | str]:
    """Leave out what pydantic adds to a place where it chose among several models: the name of its choice is no key."""
    if content is None:
        return list(loc)
    found: list[int | str] = []
    for number, step in enumerate(loc):
        if isinstance(content, dict) and step not in content and 0 < number < len(loc) - 1:
            continue
        found.append(step)
        if isinstance(content, dict):
            content = content.get(step, {})
        elif isinstance(content, (list, tuple)) and isinstance(step, int) and step < len(content):
            content = content[step]
    return found


def _keys(model: type[BaseModel]) -> set[str]:
    keys = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= _keys(field.annotation)
    return keys

"""YAML into strict pydantic models: a wrong key is an error that names the file, the key and what is allowed."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from xkd_ros.core.errors import ConfigError

ModelT = TypeVar("ModelT", bound=BaseModel)
_LARGEST_BYTES = 4_000_000


def load_yaml(path: str | Path, model: type[ModelT]) -> ModelT:
    """Read a YAML (or JSON) file into a pydantic model.

    Raises:
        ConfigError: missing file, broken YAML, unknown or wrong key.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size} bytes, too large for a configuration file")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return validate(content, model, str(path))


def validate(content: object, model: type[ModelT], where: str) -> ModelT:
    """Check parsed content against a model; `where` names its origin in errors."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where} holds {type(content).__name__}, expected keys {', '.join(model.model_fields)}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error, model)}") from error


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one line what is wrong, with the nearest allowed key for a misspelt one."""
    parts = []
    for problem in error.errors()[:5]:
        key = ".".join(map(str, problem["loc"])) or "(root)"
        if problem["type"] == "extra_forbidden":
            close = get_close_matches(str(problem["loc"][-1]), _keys(model), n=1)
            parts.append(f"unknown key '{key}'" + (f" (did you mean '{close[0]}'?)" if close else ""))
        else:
            got = problem.get("input")
            shown = "" if isinstance(got, dict) else f", got {str(got)[:60]!r}"
            parts.append(f"'{key}': {problem['msg'].removeprefix('Value error, ')}{shown}")
    return "; ".join(parts)


def _keys(model: type[BaseModel]) -> set[str]:
    keys = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= _keys(field.annotation)
    return keys

"""Every error a user can meet: one tree, one line each, saying what was found, where, and what to do."""

from __future__ import annotations

import importlib
from types import ModuleType


class XkdError(Exception):
    """Root of all expected errors; `cli.main` and node `main` print it as one line."""


class ConfigError(XkdError):
    """A configuration file or parameter does not say what it must."""


class BagError(XkdError):
    """A recording is missing, damaged, or lacks a topic."""


class CloudError(XkdError):
    """A PointCloud2 message cannot be read; the message says which field or size is wrong."""


class CalibrationError(XkdError):
    """Intrinsics or extrinsics are missing or impossible."""


class ModelError(XkdError):
    """A model folder, card, weights file or backend is unusable."""


class ShapeError(XkdError):
    """An array has another shape than the signature promises."""


class MissingPackageError(XkdError):
    """An optional package is needed now and absent; the message holds the command that installs it."""


def require(module: str, purpose: str, install: str) -> ModuleType:
    """Import an optional module, or say in one sentence how to get it.

    Args:
        module: Dotted module name.
        purpose: What needs it, as the start of a sentence ("reading bags").
        install: The command or package that provides it.
    Returns:
        The imported module.
    Raises:
        MissingPackageError: the module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(f"{purpose} needs the package '{module}' ({error}): {install}") from error

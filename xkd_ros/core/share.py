"""Where things lie that come with the package but are no code: models, configuration."""

from __future__ import annotations

import sys
from pathlib import Path

from xkd_ros.core.card import CARD_NAME
from xkd_ros.core.errors import ConfigError, ModelError

PACKAGE = "xkd_ros"


def share_folders() -> list[Path]:
    """List the places in order: beside the sources, the ROS package share, the Python environment; only those that exist."""
    folders = [Path(__file__).resolve().parents[2]]
    try:
        from ament_index_python.packages import get_package_share_directory

        folders.append(Path(get_package_share_directory(PACKAGE)))
    except (ImportError, LookupError, OSError):  # no ROS here, none sourced, or not installed in it
        pass
    folders.append(Path(sys.prefix) / "share" / PACKAGE)
    return [folder for folder in folders if folder.is_dir()]


def find_shared(name: str) -> Path:
    """Find a file that comes with the package, such as "config/fastdds_large_clouds.xml".

    Raises:
        ConfigError: it is in none of the places.
    """
    for folder in share_folders():
        if (folder / name).exists():
            return folder / name
    raise ConfigError(f"{name} is not installed with {PACKAGE} (looked in {', '.join(map(str, share_folders()))}); reinstall the package")


def find_model(name: str | Path) -> Path:
    """Find a model folder.

    Args:
        name: A path, or a bare name such as "indoor-24x64" among the models that come with the package.
    Raises:
        ModelError: neither exists (the message lists the names there are), or no such user.
    """
    try:
        given = Path(name).expanduser()
    except RuntimeError as error:
        raise ModelError(f"there is no model '{name}': {error}") from error
    if given.is_dir() or given.name != str(name):
        return given
    models = [folder / "models" for folder in share_folders()]
    for folder in models:
        if (folder / name / CARD_NAME).is_file():
            return folder / name
    known = sorted({card.parent.name for folder in models for card in folder.glob(f"*/{CARD_NAME}")})
    raise ModelError(f"there is no model '{name}'; give a folder, or one of: {', '.join(known) or 'none is installed'}")

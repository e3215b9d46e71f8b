"""What tests of several rooms share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real recordings: XKD_DATA, else ../shared/data beside the repository; the test skips without it."""
    folder = Path(os.environ.get("XKD_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}: set XKD_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def typestore() -> Any:
    """Message classes of ROS 2 Jazzy, from rosbags."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)

"""What tests of several rooms share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real recordings: XKD_DATA, else ../shared/data beside the repository; the test skips without it."""
    folder = Path(os.environ.get("XKD_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}: set XKD_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def typestore() -> Any:
    """Message classes of ROS 2 Jazzy, from rosbags."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture
def torchrun() -> Callable[..., None]:
    """Run a program in two processes that talk over the loopback; what they print is shown when they fail."""

    def run(*arguments: object, **environment: str) -> None:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **environment}
        command = [sys.executable, *launcher, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=env, timeout=280, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-6000:]

    return run

"""Start nodes as processes, on a ROS domain of their own, and stop them so that they can finish writing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from xkd_ros.core.errors import XkdError, require
from xkd_ros.core.share import find_shared

_STOP_S = 8.0
PROFILE = "config/fastdds_large_clouds.xml"


class Graph:
    """Nodes of this package in processes of their own; each writes `<name>.log` into one folder."""

    def __init__(self, logs: Path) -> None:
        require("rclpy", "running nodes", "pip install 'xkd_ros[ros]', or source a ROS 2 installation")
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._files: list[IO[bytes]] = []
        self._environment = {
            **os.environ,
            # A domain of its own: whatever else runs on this network neither hears nor disturbs the measurement.
            "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100)),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "FASTRTPS_DEFAULT_PROFILES_FILE": str(find_shared(PROFILE)),
            "PYTHONUNBUFFERED": "1",
        }

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name in reversed(self._processes):
            self.stop(name)
        for file in self._files:
            file.close()

    def start(self, node: str, parameters: Mapping[str, object], remap: Mapping[str, str] | None = None, name: str | None = None) -> None:
        """Start `xkd_ros.nodes.<node>` with ROS parameters and remappings."""
        arguments = [part for key, value in parameters.items() for part in ("-p", f"{key}:={_as_text(value)}")]
        for source, target in (remap or {}).items():
            arguments += ["-r", f"{source}:={target}"]
        file = open(self._logs / f"{name or node}.log", "wb")  # noqa: SIM115 (closed on exit, the process writes to it)
        self._files.append(file)
        command = [sys.executable, "-m", f"xkd_ros.nodes.{node}", "--ros-args", *arguments]
        self._processes[name or node] = subprocess.Popen(command, env=self._environment, stdout=file, stderr=subprocess.STDOUT)

    def log(self, name: str) -> str:
        """Read what a node has said so far."""
        return (self._logs / f"{name}.log").read_text(errors="replace")

    def pid(self, name: str) -> int:
        """Return the process number of a node."""
        return self._processes[name].pid

    def running(self, name: str) -> bool:
        """Tell whether a node's process lives."""
        return self._processes[name].poll() is None

    def wait(self, name: str, timeout_s: float, tick: Callable[[], None] = lambda: None) -> None:
        """Wait until a node ends by itself.

        Raises:
            XkdError: this or another node died, or time is up; the last line of its log is quoted.
        """
        deadline = time.monotonic() + timeout_s
        while self.running(name):
            self.check()
            if time.monotonic() > deadline:
                raise XkdError(f"{name} did not finish in {timeout_s:.0f} s; see {self._logs / name}.log")
            tick()
            time.sleep(0.1)
        self.check()

    def wait_for_file(self, path: Path, timeout_s: float) -> None:
        """Wait until a node has written a file.

        Raises:
            XkdError: a node died, or time is up.
        """
        deadline = time.monotonic() + timeout_s
        while not path.exists():
            self.check()
            if time.monotonic() > deadline:
                raise XkdError(f"the nodes did not find each other in {timeout_s:.0f} s; see the logs in {self._logs}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise an XkdError if a node has ended with an error."""
        for name, process in self._processes.items():
            if process.poll() not in (None, 0):
                lines = [line for line in self.log(name).splitlines() if line.strip()]
                raise XkdError(f"{name} ended with code {process.returncode}: {lines[-1] if lines else 'it said nothing'}")

    def stop(self, name: str) -> None:
        """Interrupt a node and wait for it; kill it when it does not leave."""
        process = self._processes[name]
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Training or adaptation as a child process: started, followed through its progress file, stopped; nothing is left over. No ROS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from xkd_ros.core.errors import XkdError
from xkd_ros.nodes.progress_file import ProgressFile, describe

Work = Literal["training", "adapting"]
State = Literal["idle", "training", "adapting", "stopping", "stopped", "done", "failed"]
_NOUNS: dict[Work, str] = {"training": "training", "adapting": "adaptation"}
_TIED = Path(__file__).with_name("tied_command.py")
_TAIL_BYTES = 4096
# The box that the command line draws around a wrong argument.
_FRAME = " \t╭╮╰╯│─"


@dataclass(frozen=True)
class TrainingReport:
    """How it stands.

    Attributes:
        state: "idle" before the first start.
        message: One line; why, when it failed.
        stage: The last line of progress, as `ProgressFile.stage` has it.
        seconds: How long this start has been running, or ran.
        quiet_s: Time since the last line of progress, 0 when not running.
        pid: Of the child, None when none runs.
    """

    state: State = "idle"
    message: str = "not started"
    stage: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    quiet_s: float = 0.0
    pid: int | None = None


class TrainingProcess:
    """One child at a time, leader of a process group of its own; `poll` it a few times a second.

    The group goes as a whole: what the child started ends with it. The child is told to end when this process dies, however it dies.
    Call it from one thread that lives as long as the process: Linux takes the end of the thread that started a child for the parent's.
    """

    def __init__(self, progress: Path, log: Path, grace_s: float = 10.0, niceness: int = 0) -> None:
        """Prepare; nothing runs yet.

        Args:
            progress: The file that the child is told to write its progress to.
            log: Gets what the child prints, one start after another.
            grace_s: Between SIGTERM and SIGKILL.
            niceness: Added to the priority value of the child.
        """
        self._progress_path, self._log_path = progress, log
        self._grace_s, self._niceness = grace_s, niceness
        self._progress = ProgressFile(progress)
        self._process: subprocess.Popen[bytes] | None = None
        self._last = TrainingReport()
        self._work: Work = "training"
        self._started_s = self._heard_s = 0.0
        self._log_start = 0
        self._kill_at_s: float | None = None

    @property
    def noun(self) -> str:
        """What runs, or ran last."""
        return _NOUNS[self._work]

    @property
    def running(self) -> bool:
        """Whether there is a child, as of the last `poll`."""
        return self._process is not None

    def start(self, command: Sequence[str], work: Work = "training") -> TrainingReport:
        """Start the child.

        Args:
            command: Program and arguments.
            work: What it does.
        Raises:
            XkdError: one runs already, or the work folder cannot be written.
        """
        report = self.poll()
        if self.running:
            raise XkdError(f"{self.noun} is running already ({report.message}); stop it first")
        self._work = work
        try:
            for path in (self._progress_path, self._log_path):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._progress_path.unlink(missing_ok=True)
            with open(self._log_path, "ab") as log:
                log.write(f"$ {' '.join(command)}\n".encode())
                log.flush()
                self._log_start = log.tell()
                self._process = self._spawn(command, log)
        except OSError as error:
            where = error.filename or self._log_path
            raise XkdError(f"{self.noun} cannot start: {where}: {error.strerror}; check permissions and free space") from error
        self._progress = ProgressFile(self._progress_path)
        self._started_s = self._heard_s = time.monotonic()
        self._kill_at_s = None
        return self.poll()

    def _spawn(self, command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        tied = [sys.executable, "-I", "-S", str(_TIED), str(os.getpid()), str(self._niceness)]
        plain = {"NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [*tied, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **plain},
            start_new_session=True,
        )

    def poll(self) -> TrainingReport:
        """Read the progress, notice the end, and kill what was told to stop and has not."""
        if self._process is None:
            return self._last
        if self._progress.read():
            self._heard_s = time.monotonic()
        if self._kill_at_s is not None and time.monotonic() > self._kill_at_s:
            self._signal(signal.SIGKILL)
        if _has_ended(self._process.pid):
            self._finish(self._process)
            return self._last
        now = time.monotonic()
        self._last = TrainingReport(
            state=self._work if self._kill_at_s is None else "stopping",
            message=describe(self._progress.stage),
            stage=self._progress.stage,
            seconds=now - self._started_s,
            quiet_s=now - self._heard_s,
            pid=self._process.pid,
        )
        return self._last

    def stop(self) -> None:
        """Ask the child to end (SIGTERM to its group); `poll` kills it when it has not within the grace time.

        Raises:
            XkdError: nothing runs.
        """
        if not self.running:
            raise XkdError(f"nothing to stop: {self.noun} is {self._last.state} ({self._last.message})")
        if self._kill_at_s is None:
            self._kill_at_s = time.monotonic() + self._grace_s
            self._signal(signal.SIGTERM)

    def end(self, timeout_s: float) -> TrainingReport:
        """Stop for good: ask, wait, kill. Does nothing when nothing runs."""
        if self.running:
            self.stop()
            self._kill_at_s = min(self._kill_at_s or 0.0, time.monotonic() + timeout_s)
        while self.running:
            self.poll()
            time.sleep(0.02)
        return self._last

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        self._signal(signal.SIGKILL)  # the leader has ended; what it started ends too
        code = process.wait()
        self._progress.read()
        stopped = self._kill_at_s is not None
        place = describe(self._progress.stage)
        done = code == 0 and (not stopped or self._progress.stage.get("stage") == "done")
        state: State = "done" if done else "stopped" if stopped else "failed"
        message = {"stopped": f"stopped at {place}; start again to go on", "done": self._outcome()}.get(state)
        self._last = TrainingReport(
            state=state,
            message=message or f"{self._reason(code)} (at {place}); see {self._log_path}, start again to go on",
            stage=self._progress.stage,
            seconds=time.monotonic() - self._started_s,
        )
        self._process = None

    def _outcome(self) -> str:
        said = self._progress.stage.get("outcome")
        return f"{self.noun} is done" + (f": {said}" if said else "")

    def _reason(self, code: int) -> str:
        if self._progress.error:
            return f"{self.noun} failed: {self._progress.error}"
        if code < 0:
            name = signal.Signals(-code).name
            return f"{self.noun} was killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
        return f"{self.noun} ended with code {code}: {self._last_words()}"

    def _last_words(self) -> str:
        """Return the last line that this start printed, without the word that errors begin with."""
        try:
            with open(self._log_path, "rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError as error:
            return f"its output cannot be read ({error.strerror})"
        lines = [line for row in text.splitlines() if (line := row.strip(_FRAME))]
        return lines[-1].removeprefix("error: ") if lines else "it said nothing"


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended, without reaping it: until then the number of its group cannot become another's."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:  # reaped by the kernel, where SIGCHLD is ignored
        return True

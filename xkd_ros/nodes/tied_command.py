"""Become another program, tied to the process that asked for it: when that one is gone, killed even, this one is told to end.

Started by path with `python -I -S`, so that it costs milliseconds: PARENT_PID NICENESS PROGRAM [ARGUMENT ...]
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

# <sys/prctl.h>; the setting outlives exec.
_PR_SET_PDEATHSIG = 1
_NOT_STARTED = 127


def main(parent: int, niceness: int, command: list[str]) -> NoReturn:
    """Turn into the command; exit code 127 and one line on stderr where that is not possible."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:
        sys.exit(_NOT_STARTED)  # it went before the line above: nobody will tell
    os.nice(niceness)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"error: cannot start {command[0]}: {error.strerror}\n")
        sys.exit(_NOT_STARTED)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

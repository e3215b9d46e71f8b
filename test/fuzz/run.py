"""`make fuzz`: hand the package mutated inputs; whatever is neither taken nor refused with a named error is a bug.

Each input follows from its target's name and its number, so a run resumes where it stopped and a bug is made again by
`python test/fuzz/run.py --only TARGET --start NUMBER --count 1`. Inputs run in child processes: one that dies is a bug like any other.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHUNK = 500
HANG_S = 30
"""Of processor time: on a busy machine an input may have to wait for long. One that waits for ever is ended after `STUCK_S`."""
STUCK_S = 900
_WARM_UP = 12
MEMORY_BYTES = 3 << 30
"""What an input may make the process take beyond what it has: a header that claims four billion points must not."""


class Hang(Exception):
    """An input took too long."""


def work(target: str, start: int, count: int, scratch: Path) -> None:
    """Run inputs in this process; one JSON line before and after each."""
    sys.path[:0] = [str(ROOT), str(HERE)]
    from targets import TARGETS

    function = TARGETS[target][0]
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, stop)
    warnings.simplefilter("ignore")
    for number in range(_WARM_UP):  # makes the samples, compiles the loops
        function(np.random.default_rng(number), scratch)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    for number in range(start, start + count):
        say({"begun": number})
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        signal.alarm(STUCK_S)
        try:
            refused = function(np.random.default_rng([zlib.crc32(target.encode()), number]), scratch)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            say({"bug": f"{type(error).__name__}: {str(error)[:300]} at {where.filename}:{where.lineno}"})
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        sentence = "" if refused is None else str(refused)
        if "\n" in sentence or (refused is not None and not sentence):
            say({"bug": f"the reason of a refusal must be one line: {sentence!r}"})
        else:
            say({"refused": refused is not None})


def stop(*_: object) -> None:
    raise Hang(f"more than {HANG_S} s of processor time, or {STUCK_S} s in all")


def say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def run_chunk(target: str, start: int, count: int, scratch: Path, counts: Counter[str], bugs: list[str], tick: Any) -> None:
    """Run a chunk in a child, and the rest of it in another where the child dies."""
    at = start
    while at < start + count:
        command = [sys.executable, __file__, "--child", target, "--start", str(at), "--count", str(start + count - at)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command += ["--scratch", str(scratch)]
        # What libraries print about damaged pictures goes to a file, with the stack of a child that died.
        with (
            open(scratch / "child.log", "w") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as child,
        ):
            assert child.stdout is not None
            begun = None
            for line in child.stdout:
                row = json.loads(line) if line.startswith("{") else {}
                if "begun" in row:
                    begun = row["begun"]
                elif row:
                    counts["bugs" if "bug" in row else "refused" if row["refused"] else "taken"] += 1
                    if "bug" in row:
                        bugs.append(f"{target} {begun}: {row['bug']}")
                    at, begun = (begun or at) + 1, None
                    tick()
        if child.returncode:
            if begun is None:
                raise SystemExit(f"the child for {target} ended with {child.returncode} before an input was begun")
            bugs.append(f"{target} {begun}: the process died ({child.returncode})")
            counts["bugs"] += 1
            at = begun + 1
            tick()


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {number}" for what, number in sorted(counts.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="inputs of all targets together")
    parser.add_argument("--start", type=int, default=0, help="first input of each target")
    parser.add_argument("--only", help="one target")
    parser.add_argument("--scratch", type=Path, default=ROOT / ".fuzz", help="where inputs, counts and bugs go")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    if options.child:
        faulthandler.enable()
        work(options.child, options.start, options.count, options.scratch)
        return 0
    sys.path[:0] = [str(ROOT), str(HERE)]
    from targets import TARGETS

    from xkd_ros.core.files import write_atomic
    from xkd_ros.pipeline.progress import console, make_progress

    shares = {name: share for name, (_, share) in TARGETS.items() if options.only in (None, name)}
    state_file = options.scratch / f"state-{options.only or 'all'}-{options.start}-{options.count}.json"
    state = json.loads(state_file.read_text()) if state_file.is_file() else {}
    began = time.monotonic()
    with make_progress() as display:
        totals = {name: max(1, round(options.count * share / sum(shares.values()))) for name, share in shares.items()}
        state = {name: state.get(name) or {"done": 0, "counts": {}, "bugs": []} for name in shares}
        tasks = {name: display.add_task(name, total=totals[name], completed=state[name]["done"], note="") for name in shares}
        while unfinished := [name for name in shares if state[name]["done"] < totals[name]]:
            for name in unfinished:  # a chunk of each in turn, so that a run that is cut short has seen all
                before = state[name]
                counts, bugs, done = Counter(before["counts"]), list(before["bugs"]), before["done"]
                size = min(CHUNK, totals[name] - done)
                run_chunk(name, options.start + done, size, options.scratch, counts, bugs, lambda name=name: display.advance(tasks[name]))
                state[name] = {"done": done + size, "counts": dict(counts), "bugs": bugs}
                write_atomic(state_file, json.dumps(state, indent=1))
                display.update(tasks[name], note=_in_words(counts))
    for name in shares:
        console.print(f"{name}: {_in_words(state[name]['counts'])}")
    bugs = [bug for name in shares for bug in state[name]["bugs"]]
    for bug in bugs:
        console.print(bug, markup=False, soft_wrap=True)
    inputs = sum(sum(state[name]["counts"].values()) for name in shares)
    console.print(f"{inputs} inputs, {len(bugs)} bugs, {time.monotonic() - began:.0f} s in this run; {state_file}")
    return 1 if bugs else 0


if __name__ == "__main__":
    raise SystemExit(main())

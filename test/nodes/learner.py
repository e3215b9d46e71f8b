"""A small real program in the place of `xkd`: counts to a number, remembers how far it came, and can misbehave when told so.

learner.py learn|adapt BAG ... -o MODEL --work FOLDER --progress FILE [--set key=value ...]
Keys: total, outcome=TEXT (of the last line), fail=TEXT (as a progress line), shout=TEXT (on stderr), deaf=1 (no SIGTERM),
child=FILE (gets the pid of a child).
"""

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

arguments = sys.argv[1:]
options = dict(itertools.pairwise(arguments))
given = {key: value for key, _, value in (b.partition("=") for a, b in itertools.pairwise(arguments) if a == "--set")}
Path(options["--work"]).mkdir(parents=True, exist_ok=True)
count, total = Path(options["--work"], "count"), int(given.get("total", 1000))
if "deaf" in given:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "child" in given:
    Path(given["child"]).write_text(str(subprocess.Popen(["sleep", "300"]).pid))


def say(**line):
    with open(options["--progress"], "a") as file:
        file.write(json.dumps(line) + "\n")


print("learning")
for done in range(int(count.read_text()) if count.exists() else 0, total + 1):
    part = count.with_suffix(".part")
    part.write_text(str(done))
    part.replace(count)  # killed at any moment, it can be read again
    rest = {"loss": 1 / (1 + done), "samples_per_s": 7.1, "eta_s": float(total - done)}
    say(stage="distill", stage_index=2, stages=8, done=done, total=total, **rest)
    time.sleep(0.02)
    if "fail" in given:
        say(error=given["fail"])
        sys.exit(1)
    if "shout" in given:
        sys.exit(f"Traceback:\nerror: {given['shout']}")
say(stage="done", **({"outcome": given["outcome"]} if "outcome" in given else {}))

"""The parameters of the trainer, the words its --help opens with, and the commands that they make."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from xkd_ros.nodes.parameters import ParameterSpec, ParameterTable
from xkd_ros.nodes.qos import RELIABILITIES

USAGE = """\
trainer: learns from recorded bags what `xkd learn` learns from them, in a process of its own beside the graph; or collects the
pairs of live topics into a bag first. Adapts a finished model to a new place as `xkd adapt` does.

Subscribes:  while collecting: points, the images and their CameraInfo, /tf_static
Publishes:   ~/progress (std_msgs/String, JSON, latched), /diagnostics
Services:    ~/start, ~/stop (std_srvs/Trigger); a start after a stop, a crash or a reboot goes on where the training was
             ~/adapt (std_srvs/Trigger): adapt_model learns from the newest collected recording, else from bags; adapt_out is only
             written where the adapted model agrees better with the pictures; goes on after a stop like a training

Examples:
  xkd_trainer --ros-args -p bags:=site_a.mcap,site_b -p rig:=rig.yaml -p model_out:=models/site
  xkd_trainer --ros-args -p collect:=true -p points:=/os_cloud_node/points -p images:=/camera/image_raw
  xkd_trainer --ros-args -p autostart:=false -p collect:=true -p points:=/points -p images:=/image -p adapt_model:=indoor-24x64"""

XKD = (sys.executable, "-m", "xkd_ros.cli")
_BRACKETS = {"[": 1, "{": 1, "(": 1, "]": -1, "}": -1, ")": -1}


def split_changes(text: str) -> list[str]:
    """Read "distill.epochs=5, frames.shares=[0.8, 0.1, 0.1]": commas inside brackets belong to the value."""
    items, depth = [""], 0
    for letter in text:
        depth += _BRACKETS.get(letter, 0)
        if letter == "," and depth <= 0:
            items.append("")
        else:
            items[-1] += letter
    return [item.strip() for item in items if item.strip()]


def _changes_problem(text: str) -> str:
    wrong = [item for item in split_changes(text) if not item.partition("=")[1] or not item.partition("=")[0].strip()]
    return f"'{wrong[0]}' is not of the form key=value, such as distill.epochs=5" if wrong else ""


TRAINER = ParameterTable(
    "trainer",
    [
        ParameterSpec("bags", "", "Recordings to learn from: rosbag2 folders, .mcap, .db3, ROS 1 .bag.", fixed=True, listed=True),
        ParameterSpec("rig", "", "Rig YAML with calibration that the recordings lack.", fixed=True),
        ParameterSpec("labels", "", "Real labels by stamp, for the figures; with set:=labels=given they are learnt from.", fixed=True),
        ParameterSpec("recipe", "", "indoor (what we deploy), scalr, scalr_plus; or a method: ignet, partdistill, xmodel.", fixed=True),
        ParameterSpec("teacher", "", "Image teacher to distil: folder, hub id or sim2d-indoor12; empty: as config says.", fixed=True),
        ParameterSpec("model_out", "models/site", "Folder of the model that comes out.", fixed=True),
        ParameterSpec("work", "runs/site", "Folder of the run: stages, checkpoints, learn.log; the same one resumes.", fixed=True),
        ParameterSpec("config", "", "YAML of `xkd learn`; empty: its defaults.", fixed=True),
        ParameterSpec(
            "set", "", "Changes to config as key=value, such as distill.epochs=5.", fixed=True, listed=True, check=_changes_problem
        ),
        ParameterSpec("adapt_model", "", "Model that ~/adapt begins with: folder or installed name; empty: that in model_out.", fixed=True),
        ParameterSpec("adapt_out", "models/adapted", "Folder of the adapted model.", fixed=True),
        ParameterSpec(
            "adapt_set",
            "",
            "Changes to the settings of ~/adapt as key=value, such as minutes=5.",
            fixed=True,
            listed=True,
            check=_changes_problem,
        ),
        ParameterSpec("autostart", True, "Train at once, or when collecting has ended; false: when ~/start is called.", fixed=True),
        ParameterSpec("collect", False, "First record the pairs of the topics below to a new bag under work/collected.", fixed=True),
        ParameterSpec("points", "", "Lidar topic to collect; empty: that of rig, else points.", fixed=True),
        ParameterSpec("images", "", "Image topics to collect; empty: those of rig.", fixed=True, listed=True),
        ParameterSpec("camera_infos", "", "CameraInfo topics, one per image; empty: camera_info beside it.", fixed=True, listed=True),
        ParameterSpec(
            "silence_s",
            10.0,
            "Collecting ends when there were pairs and no scan has come for so long; 0: when ~/start, ~/adapt or ~/stop is called.",
            0,
            3600,
            fixed=True,
        ),
        ParameterSpec("input_reliability", "best_effort", "QoS of what is collected.", choices=RELIABILITIES, fixed=True),
        ParameterSpec("niceness", 10, "Lower CPU priority of training and adaptation, so that the robot goes first.", 0, 19, fixed=True),
        ParameterSpec("grace_s", 20.0, "Time that ~/stop leaves the training to end by itself before it is killed.", 0, 600, fixed=True),
        ParameterSpec(
            "stale_s",
            300.0,
            "/diagnostics warns when a training or adaptation has not said anything for so long.",
            1,
            86400,
            fixed=True,
        ),
    ],
)


def learn_command(program: Sequence[str], values: SimpleNamespace, bags: Sequence[Path], progress: Path) -> list[str]:
    """Write the command line of `xkd learn`.

    Args:
        program: What starts `xkd`.
        values: Of the parameters.
        bags: Recordings.
        progress: File for its lines of progress.
    """
    options = ["-o", values.model_out, "--work", values.work, "--progress", str(progress)]
    for name in ("rig", "labels", "recipe", "teacher", "config"):
        options += [f"--{name}", getattr(values, name)] if getattr(values, name) else []
    if values.collect:
        # Every drive that was collected since makes the stored frames stale, and that is what it was collected for.
        options += ["--redo", "stale"]
    for line in split_changes(values.set):
        options += ["--set", line]
    return [*program, "learn", *map(str, bags), *options]


def adapt_command(
    program: Sequence[str], values: SimpleNamespace, model: Path, model_hash: str, bags: Sequence[Path], progress: Path
) -> list[str]:
    """Write the command line of `xkd adapt`.

    Args:
        program: What starts `xkd`.
        values: Of the parameters.
        model: Folder of the model to begin with.
        model_hash: Of its card.
        bags: Recordings of the new place.
        progress: File for its lines of progress.
    """
    options = ["-o", values.adapt_out]
    for name in ("rig", "teacher"):
        options += [f"--{name}", getattr(values, name)] if getattr(values, name) else []
    for line in split_changes(values.adapt_set):
        options += ["--set", line]
    command = ["adapt", str(model), *map(str, bags), *options]
    # Each place and each model begins anew, the same ones go on.
    folder = hashlib.sha256("\n".join([model_hash, *command]).encode()).hexdigest()[:12]
    return [*program, *command, "--work", str(Path(values.work) / "adapt" / folder), "--progress", str(progress)]

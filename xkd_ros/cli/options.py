"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Model folder, or the name of one that comes with the package.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")]
Headings = Annotated[int, typer.Option(help="Headings in which each scan is labelled, to be averaged: 1, 2 or 4; better, slower.")]
BagPath = Annotated[Path, typer.Argument(metavar="BAG", help="rosbag2 folder, bare .mcap/.db3, ROS 1 .bag, or a folder of PLY/PCD files.")]
PointsTopic = Annotated[str | None, typer.Option("--topic", help="Point topic; default: the bag's only or largest one.")]
RigPath = Annotated[Path | None, typer.Option("--rig", help="Rig YAML to use instead of the bag's own CameraInfo and tf_static.")]
RealBag = Annotated[Path | None, typer.Option("--bag", help="Recording with real labels, to score on.")]
RealLabels = Annotated[Path | None, typer.Option("--labels", help="Folder of its <stamp_ns>.npz label files.")]
DEFAULT_MODEL = "indoor-24x64"

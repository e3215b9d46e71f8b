"""Labelled scans over time as a recording for the rerun viewer: each scan in the world, and the map they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xkd_ros.core.errors import require
from xkd_ros.core.files import atomic_path
from xkd_ros.core.labels import UNKNOWN_COLOUR, LabelSet
from xkd_ros.core.types import UNKNOWN
from xkd_ros.points.voxels import voxel_sample

_MAP_VOXEL_M = 0.1
_RADIUS_M = 0.03


@dataclass(frozen=True, eq=False)
class ViewerScan:
    """One scan: stamp_ns, points_m (N, 3) in the world frame, and (N,) uint8 labels by heading."""

    stamp_ns: int
    points_m: np.ndarray
    columns: Mapping[str, np.ndarray]


def write_recording(path: str | Path, scans: Iterable[ViewerScan], label_set: LabelSet, map_of: str) -> None:
    """Write an .rrd file.

    Args:
        path: File to write, atomically.
        scans: In order of time.
        label_set: Names and colours.
        map_of: Heading of the labels that the map shows.
    Raises:
        MissingPackageError: rerun-sdk is not installed.
    """
    rr = require("rerun", "writing a recording for the viewer", "pip install rerun-sdk")
    points, labels = [np.zeros((0, 3), np.float32)], [np.zeros(0, np.uint8)]
    with atomic_path(path) as temporary, rr.RecordingStream("xkd_ros") as stream:
        stream.save(temporary)
        stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        classes = [rr.AnnotationInfo(index, name, colour) for index, (name, colour) in enumerate(zip(label_set.names, label_set.colours))]
        stream.log("world", rr.AnnotationContext([*classes, rr.AnnotationInfo(UNKNOWN, "unknown", UNKNOWN_COLOUR)]), static=True)
        for scan in scans:
            stream.set_time("time", timestamp=np.datetime64(scan.stamp_ns, "ns"))
            for name, values in scan.columns.items():
                stream.log(f"world/{name}", rr.Points3D(scan.points_m, class_ids=values.astype(np.uint16), radii=_RADIUS_M))
            points.append(scan.points_m.astype(np.float32))
            labels.append(scan.columns[map_of])
        world, chosen = np.concatenate(points), np.concatenate(labels)
        kept = voxel_sample(world, _MAP_VOXEL_M)
        stream.log("world/map", rr.Points3D(world[kept], class_ids=chosen[kept].astype(np.uint16), radii=_RADIUS_M))

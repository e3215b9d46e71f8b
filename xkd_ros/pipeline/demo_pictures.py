"""Pictures and the 3D recording of a labelled simulated walk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from xkd_ros.bags.pairs import match_recording
from xkd_ros.bags.reader import Bag
from xkd_ros.core.errors import MissingPackageError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.rig import RigConfig
from xkd_ros.core.se3 import apply
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.evaluate.pictures import draw_overlay, draw_scan
from xkd_ros.evaluate.viewer import ViewerScan, write_recording
from xkd_ros.msgs.image import decode_image
from xkd_ros.pairing.nearest import NearestPairer
from xkd_ros.pairing.visibility import visible_points
from xkd_ros.pipeline.simulation import SimulatedTruth

_MAX_DT_NS = 50_000_000


def draw_pictures(
    folder: Path,
    walk: Path,
    rig: RigConfig,
    stamps: Sequence[int],
    predicted: Mapping[int, np.ndarray],
    truth: SimulatedTruth,
    labels: LabelSet,
) -> list[Path]:
    """Draw chosen scans (true beside predicted, panorama, from above, from the side) and their camera overlays.

    Args:
        folder: Where the PNGs go.
        walk: Simulated bag.
        rig: Its calibration.
        stamps: Scans to draw.
        predicted: (N,) labels by recorded stamp.
        truth: True labels and poses.
        labels: Names and colours.
    """
    images = _images_at(walk, rig, stamps)
    drawn = []
    with Bag(walk) as bag:
        for scan in bag.scans():
            if scan.stamp_ns not in stamps or scan.stamp_ns not in predicted:
                continue
            number = list(stamps).index(scan.stamp_ns)
            columns = {"true": truth.labels(scan.stamp_ns), "predicted": predicted[scan.stamp_ns]}
            levelled = apply(_levelled(truth.pose(scan.stamp_ns)), scan.points_m)
            drawn.append(folder / f"scan_{number}.png")
            draw_scan(drawn[-1], levelled, columns, labels, f"scan {number}")
            if scan.stamp_ns in images:
                drawn.append(folder / f"camera_{number}.png")
                _draw_camera(drawn[-1], scan, images[scan.stamp_ns], rig, columns, labels)
    return drawn


def _levelled(world_from_lidar: np.ndarray) -> np.ndarray:
    """Keep the rotation of a pose: points around the sensor, upright."""
    pose = world_from_lidar.copy()
    pose[:3, 3] = 0
    return pose


def _images_at(walk: Path, rig: RigConfig, stamps: Sequence[int]) -> dict[int, CameraImage]:
    """Decode the picture of the first camera that pairs with each scan."""
    if not rig.cameras:
        return {}
    with Bag(walk) as bag:
        pairs = match_recording(bag, NearestPairer(_MAX_DT_NS), rig.lidar.topic, [rig.cameras[0].topic])
        return {pair.stamp_ns: decode_image(pair.images[0]) for pair in pairs if pair.stamp_ns in stamps and pair.images[0] is not None}


def _draw_camera(path: Path, scan: Scan, image: CameraImage, rig: RigConfig, columns: Mapping[str, np.ndarray], labels: LabelSet) -> None:
    config = rig.cameras[0]
    camera, points = config.camera(), apply(config.transform(), scan.points_m)
    uv, inside = camera.project(points)
    seen = visible_points(uv, np.linalg.norm(points, axis=1), inside, camera.width, camera.height)
    chosen = {name: values[seen] for name, values in columns.items()}
    draw_overlay(path, image.rgb, uv[seen], chosen, labels, f"{config.name}, {int(seen.sum())} visible points")


def write_rerun(path: Path, walk: Path, predicted: Mapping[int, np.ndarray], truth: SimulatedTruth, labels: LabelSet) -> Path | None:
    """Write the walk for the rerun viewer.

    Returns:
        The file, or None where rerun-sdk is not installed.
    """

    def scans() -> Iterator[ViewerScan]:
        with Bag(walk) as bag:
            for scan in bag.scans():
                if scan.stamp_ns not in predicted:
                    continue
                measured = np.isfinite(scan.points_m).all(1) & (scan.points_m != 0).any(1)
                world = apply(truth.pose(scan.stamp_ns), scan.points_m[measured])
                columns = {"predicted": predicted[scan.stamp_ns][measured], "true": truth.labels(scan.stamp_ns)[measured]}
                yield ViewerScan(scan.stamp_ns, world, columns)

    try:
        write_recording(path, scans(), labels, map_of="predicted")
    except MissingPackageError:
        return None
    return path

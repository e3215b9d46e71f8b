"""Points over image, coloured by depth: the picture in which a wrong calibration cannot hide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xkd_ros.bags.alignment import yaw_error_deg
from xkd_ros.bags.calibration import find_points, rig_from_bag
from xkd_ros.bags.folder import Recording, open_recording
from xkd_ros.bags.frame_checks import check_calibration
from xkd_ros.bags.pairs import match_recording
from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import CalibrationError, require
from xkd_ros.core.files import write_atomic
from xkd_ros.core.rig import CameraConfig, LidarConfig, RigConfig, load_rig
from xkd_ros.core.se3 import apply
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.image import decode_image
from xkd_ros.pairing.nearest import NearestPairer, Pair
from xkd_ros.pairing.visibility import visible_points

_INSTALL = "pip install opencv-python-headless"
_WIDEST_PX = 1280
_MS = 1e6


@dataclass(frozen=True)
class OverlayCheck:
    """What the overlay of one camera shows in numbers.

    Attributes:
        camera: Name of the camera.
        pairs: Pairs found in the recording.
        dt_ms: |dt| of the drawn pairs.
        in_image: Points per drawn scan that fall into the image.
        hidden: Of these, how many lie behind nearer ones.
        yaw_error_deg: Turn of the camera that would fit the edges of the drawn pairs better, 0 where none does; None where
            they do not tell.
        problem: What is wrong with the extrinsic, as `xkd pairs` would refuse it; empty where nothing is.
    """

    camera: str
    pairs: int
    dt_ms: list[float]
    in_image: list[int]
    hidden: list[int]
    yaw_error_deg: float | None
    problem: str = ""


def calib_check(
    bag: str | Path,
    rig: str | Path | RigConfig | None,
    out_png: str | Path,
    points: str | None = None,
    pairs: int = 3,
    max_dt_ms: float = 100.0,
) -> list[OverlayCheck]:
    """Draw overlays of every camera of a rig into one picture (`xkd calib BAG --check OUT.png`).

    Args:
        bag: Recording.
        rig: Rig YAML or rig; None reads the calibration of the recording.
        out_png: Picture to write: one row per drawn pair, one column per camera.
        points: Lidar topic; None takes the rig's when the recording has it, else finds it.
        pairs: How many pairs to draw, spread over the recording.
        max_dt_ms: Largest |dt| of a pair.
    Raises:
        CalibrationError: no camera, or no point of any pair falls into the image.
        BagError: no such bag or topic.
    """
    rig = rig_from_bag(bag, points) if rig is None else rig if isinstance(rig, RigConfig) else load_rig(rig)
    if not rig.cameras:
        raise CalibrationError(f"rig '{rig.name}' has no camera; nothing can be checked")
    with open_recording(bag) as recording:
        topic = find_points(recording, points, rig)
        columns, checks = zip(*(_column(recording, topic, rig.lidar, camera, pairs, max_dt_ms) for camera in rig.cameras))
    height = max(len(column) for column in columns)
    padded = [np.pad(column, ((0, height - len(column)), (0, 0), (0, 0))) for column in columns]
    cv2 = require("cv2", "drawing overlays", _INSTALL)
    _, png = cv2.imencode(".png", np.concatenate(padded, axis=1)[:, :, ::-1])
    write_atomic(out_png, png.tobytes())
    return list(checks)


def check_overlay(bag: str | Path, rig: str | Path | RigConfig | None, out_png: str | Path) -> list[OverlayCheck]:
    """Draw the overlay with its defaults; see `calib_check`."""
    return calib_check(bag, rig, out_png)


def draw_overlay(
    scan: Scan, image: CameraImage, camera: Camera, cam_from_lidar: np.ndarray, caption: str = ""
) -> tuple[np.ndarray, int, int]:
    """Draw the visible points of a scan over an image, near ones red, far ones blue.

    Args:
        scan: Points in the lidar frame.
        image: Picture of the camera.
        camera: Its intrinsics.
        cam_from_lidar: (4, 4) extrinsics.
        caption: Line of text for the top left corner.
    Returns:
        (H, W, 3) uint8 RGB, number of points in the image, and how many of them are hidden.
    """
    cv2 = require("cv2", "drawing overlays", _INSTALL)
    # A zero point is a non-return, not a point in the lens.
    points = scan.points_m[np.isfinite(scan.points_m).all(axis=1) & scan.points_m.any(axis=1)]
    points_cam = apply(cam_from_lidar, points.astype(np.float64))
    uv, inside = camera.project(points_cam)
    distance = np.linalg.norm(points_cam, axis=1)
    visible = visible_points(uv, distance, inside, camera.width, camera.height)
    order = np.flatnonzero(visible)[np.argsort(-distance[visible], kind="stable")]
    canvas = (image.rgb * 0.75).astype(np.uint8)
    if len(order):
        near, far = np.percentile(distance[order], [2, 98])
        share = np.log(distance[order] / near) / max(1e-6, np.log(far / near))
        # Turbo runs from blue to red; near shall be red.
        values = (255 * (1 - np.clip(share, 0, 1))).astype(np.uint8)[:, None]
        colours = cv2.applyColorMap(values, cv2.COLORMAP_TURBO)[:, 0, ::-1].tolist()
        radius = max(1, round(camera.width / 640))
        for (u, v), colour in zip(np.rint(uv[order]).astype(int).tolist(), colours):
            cv2.circle(canvas, (u, v), radius, colour, -1)
        caption = f"{caption}  red {near:.1f} m .. blue {far:.1f} m"
    size = camera.width / 1280
    for thickness, colour in ((4, (0, 0, 0)), (1, (255, 255, 255))):
        cv2.putText(
            canvas,
            caption,
            (int(12 * size), int(28 * size)),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.7 * size,
            colour,
            max(1, round(thickness * size)),
            cv2.LINE_AA,
        )
    return canvas, int(inside.sum()), int(inside.sum() - visible.sum())


def _column(
    recording: Recording, topic: str, lidar: LidarConfig, config: CameraConfig, count: int, max_dt_ms: float
) -> tuple[np.ndarray, OverlayCheck]:
    """Draw some pairs of one camera below each other."""
    pairer = NearestPairer(round(max_dt_ms * _MS))
    found = 0
    chosen: list[Pair] = []
    # The number of scans is known, so pairs can be spread over the recording without keeping them all.
    every = max(1, recording.topics[topic].count // max(1, count))
    for pair in match_recording(recording, pairer, topic, [config.topic]):
        if found % every == every // 2 and len(chosen) < count:
            chosen.append(pair)
        found += 1
        last = pair
    if not found:
        raise CalibrationError(f"camera {config.topic} and {topic} give no pair within {max_dt_ms:g} ms: {pairer.statistics.explain()}")
    pictures, inside, hidden, decoded = [], [], [], []
    camera = config.camera()
    for pair in chosen or [last]:
        image = decode_image(pair.images[0])
        if image.rgb.shape[:2] != (camera.height, camera.width):
            size = f"{image.rgb.shape[1]}x{image.rgb.shape[0]}"
            raise CalibrationError(f"rig says {camera.width}x{camera.height} for {config.topic}, the images are {size}; correct the rig")
        caption = f"{config.name}  dt {(pair.dt_ns[0] or 0) / _MS:+.1f} ms"
        decoded.append((decode_cloud(pair.scan), image))
        picture, seen, behind = draw_overlay(*decoded[-1], camera, config.transform(), caption)
        pictures.append(_shrink(picture))
        inside.append(seen)
        hidden.append(behind)
    problem = check_calibration([scan for scan, _ in decoded], lidar, config, str(recording.path))
    if not any(inside):
        raise problem or CalibrationError(f"no point of {topic} falls into the image of {config.topic}: the scans are empty")
    offsets = [abs(pair.dt_ns[0] or 0) / _MS for pair in chosen or [last]]
    turn = yaw_error_deg(decoded, camera, config.transform())
    check = OverlayCheck(config.name, found, offsets, inside, hidden, turn, "" if problem is None else str(problem))
    return np.concatenate(pictures, axis=0), check


def _shrink(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if width <= _WIDEST_PX:
        return picture
    cv2 = require("cv2", "drawing overlays", _INSTALL)
    return cv2.resize(picture, (_WIDEST_PX, round(height * _WIDEST_PX / width)), interpolation=cv2.INTER_AREA)

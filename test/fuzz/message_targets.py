"""Targets: messages of clouds, pictures and calibration, as a robot could send them."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from model_targets import small_model
from mutation import mutate_bytes, mutate_message

from xkd_ros.core.errors import XkdError
from xkd_ros.core.types import UNKNOWN, Scan, Segmentation
from xkd_ros.msgs.camera_info import camera_from_info
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.image import decode_image
from xkd_ros.msgs.labelled_cloud import LabelledCloudFormat
from xkd_ros.msgs.livox import decode_livox
from xkd_ros.points.intensity import OnlineIntensity, fit, scale_problem
from xkd_ros.points.levelling_filter import LevellingFilter
from xkd_ros.runtime.segmenter import Segmenter

CODES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=5, nanosec=7), frame_id="lidar")
MAX_ANSWER = 3_000_000
"""Points that an accepted cloud may have: no input holds as many bytes."""


@cache
def segmenter(folder: Path) -> Segmenter:
    return Segmenter.load(small_model(folder), "numba", threads=1)


def random_cloud(rng: np.random.Generator) -> SimpleNamespace:
    """A PointCloud2 whose numbers agree, of any layout, with some odd values among its numbers."""
    names = [*rng.permutation(["x", "y", "z"]), *rng.permutation(["intensity", "ring", "time", "label", "rgb", "t"])[: rng.integers(0, 5)]]
    big = bool(rng.integers(0, 2))
    fields, offset = [], int(rng.integers(0, 3))
    for name in names:
        kind = int(rng.choice([7, 7, 7, 8])) if name in "xyz" else int(rng.integers(1, 9))
        fields.append(SimpleNamespace(name=str(name), offset=offset, datatype=kind, count=1))
        offset += np.dtype(CODES[kind]).itemsize + int(rng.integers(0, 4)) * int(rng.integers(0, 2))
    height, width = int(rng.integers(1, 4)), int(rng.integers(0, 300))
    row_step = width * offset + int(rng.integers(0, 3)) * 5
    rows = rng.integers(0, 256, (height, row_step), np.uint8)
    points = rng.uniform((-6, -6, -1), (6, 6, 2), (height, width, 3))
    for axis in range(3):  # walls and floor, so that levelling and headings have something to find
        points[..., axis][rng.random((height, width)) < 0.3] = (-6, -6, -1)[axis]
    odd = rng.random((height, width)) < 0.02
    points[odd] = rng.choice([0, np.nan, np.inf, -np.inf, 1e9, 1e30, -1e38, 1e-40], (int(odd.sum()), 3))
    for field in fields:
        if field.name in "xyz":
            dtype = np.dtype((">" if big else "<") + CODES[field.datatype])
            view = np.ndarray((height, width), dtype, rows, field.offset, (row_step, offset)) if width else np.empty((height, 0), dtype)
            with np.errstate(over="ignore"):
                view[...] = points[..., "xyz".index(field.name)]
    return SimpleNamespace(
        header=HEADER, height=height, width=width, fields=fields, is_bigendian=big, point_step=offset, row_step=row_step,
        data=rows.tobytes(), is_dense=bool(rng.integers(0, 2)),
    )  # fmt: skip


def cloud(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """PointCloud2 through decoder, levelling, intensity, network and every output profile."""
    message = random_cloud(rng)
    if rng.random() < 0.8:
        message = mutate_message(rng, message)
    try:
        scan = decode_cloud(message)
        assert len(scan) == message.height * message.width <= MAX_ANSWER
        levelling = LevellingFilter().update(scan.points_m)
        assert np.isfinite(levelling.rotation).all()
        model = segmenter(scratch)
        if scan.intensity is not None:
            model.intensity = OnlineIntensity(model.card.intensity, min_points=10).update(scan.intensity)
            scale_problem(scan.intensity, fit(scan.intensity))
        model.share = float(rng.choice([1.0, 0.3]))
        answer = model.segment(scan.points_m, scan.intensity, levelling.rotation)
        _check_answer(answer, scan)
        profile = ("full", "autoware", "intensity")[rng.integers(0, 3)]
        parts = LabelledCloudFormat(profile).encode(message, answer, model.card.labels.palette)
        assert len(parts.data) == parts.height * parts.row_step
    except XkdError as error:
        return error
    return None


def _check_answer(answer: Segmentation, scan: Scan) -> None:
    assert len(answer.labels) == len(scan)
    assert np.isfinite(answer.probability).all() and np.isfinite(answer.entropy).all()
    nothing = ~np.isfinite(scan.points_m).all(axis=1) | (scan.points_m == 0).all(axis=1)
    assert (answer.labels[nothing] == UNKNOWN).all()
    assert ((answer.labels < 12) | (answer.labels == UNKNOWN)).all()


def livox(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """Livox CustomMsg in both serialisations."""
    ros1, frame, count = bool(rng.integers(0, 2)), b"livox_frame"[: rng.integers(0, 12)], int(rng.integers(0, 200))
    little = ros1 or bool(rng.integers(0, 2))
    code = "<" if little else ">"
    head = struct.pack(code + "IIII" if ros1 else code + "III", *([7] if ros1 else []), 5, 6, len(frame)) + frame
    head += b"" if ros1 else bytes(-len(head) % 8)
    head += struct.pack(code + "QIBBBBI", 9, count, 1, 0, 0, 0, count)
    members = [("time", "u4"), ("xyz", "f4", 3), ("rest", "u1", 3), ("padding", "u1")]
    points = np.zeros(count, np.dtype(members[:3] if ros1 else members).newbyteorder(code))
    points["xyz"], points["rest"] = rng.normal(0, 9, (count, 3)), rng.integers(0, 256, (count, 3))
    raw = (b"" if ros1 else bytes((0, int(little), 0, 0))) + head + points.tobytes()
    if mutated := rng.random() < 0.9:
        raw = mutate_bytes(rng, raw)
    try:
        scan, tags = decode_livox(raw, ros1)
        assert len(scan) == len(tags) <= len(raw) / 19
        assert mutated or np.allclose(scan.points_m, points["xyz"])
    except XkdError as error:
        assert mutated, error
        return error
    return None


ENCODINGS = ("mono8", "mono16", "rgb8", "bgr8", "bgra8", "rgba8", "bgr16", "rgb16", "uyvy", "yuv422_yuy2", "nv12", "nv21", "8UC1", "8UC3",
             "bayer_rggb8", "bayer_gbrg16", "32FC1", "16UC1", "nonsense", "")  # fmt: skip


def image(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """Image and CompressedImage."""
    height, width = int(rng.integers(0, 20)), int(rng.integers(0, 20))
    if rng.random() < 0.5:
        step = int(width * rng.integers(0, 9))
        message = SimpleNamespace(
            header=HEADER, height=height, width=width, encoding=str(rng.choice(ENCODINGS)), is_bigendian=int(rng.integers(0, 2)),
            step=step, data=rng.bytes(max(0, height * step + int(rng.integers(-3, 9)))),
        )  # fmt: skip
    else:
        pixels = rng.integers(0, 256, (height + 1, width + 1, 3), np.uint8)
        data = cv2.imencode(str(rng.choice([".png", ".jpg"])), pixels)[1].tobytes()
        kind = str(rng.choice(["jpeg", "png", "rgb8; jpeg compressed bgr8", "bayer_rggb8; png compressed", "16UC1; compressedDepth", ""]))
        message = SimpleNamespace(header=HEADER, format=kind, data=data)
    message = mutate_message(rng, message)
    try:
        picture = decode_image(message)
    except XkdError as error:
        return error
    assert picture.rgb.dtype == np.uint8 and picture.rgb.ndim == 3 and picture.rgb.shape[2] == 3
    return None


def camera_info(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """CameraInfo, and the camera that comes of it at work."""
    distortion = str(rng.choice(["plumb_bob", "equidistant", "rational_polynomial", "fisheye"]))
    message = SimpleNamespace(
        header=HEADER, width=640, height=480, distortion_model=distortion,
        d=rng.uniform(-0.5, 0.5, int(rng.integers(0, 15))).tolist(), k=[400.0, 0, 320, 0, 400, 240, 0, 0, 1],
        r=np.eye(3).ravel().tolist(), p=[400.0, 0, 320, 0, 0, 400, 240, 0, 0, 0, 1, 0], binning_x=0, binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False),
    )  # fmt: skip
    message = mutate_message(rng, message)
    try:
        camera = camera_from_info(message, rectified=bool(rng.integers(0, 2)))
        uv, seen = camera.project(rng.uniform(-5, 5, (50, 3)))
        assert np.isfinite(uv[seen]).all()
        camera.scaled(320, 240)
    except XkdError as error:
        return error
    return None

"""What is fuzzed. A target takes a random generator, makes an input and hands it to the package.

Returns None where the input was taken, or the XkdError that refused it; whatever else is raised is a bug.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import yaml
from mutation import mutate_bytes, mutate_message, mutate_tree, nasty
from rosbags.typesys import Stores, get_typestore

from xkd_ros.bags.folder import open_recording
from xkd_ros.bags.inspection import inspect
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.card import GeometryConfig, ModelCard, NetworkConfig, load_card, save_card
from xkd_ros.core.errors import CloudError, XkdError
from xkd_ros.core.rig import load_rig
from xkd_ros.core.types import UNKNOWN, CameraImage, Scan, Segmentation
from xkd_ros.evaluate.validation import load_labelled_bag
from xkd_ros.msgs.build import make_cloud, make_image
from xkd_ros.msgs.camera_info import camera_from_info
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.image import decode_image
from xkd_ros.msgs.labelled_cloud import LabelledCloudFormat
from xkd_ros.points.intensity import OnlineIntensity, fit, scale_problem
from xkd_ros.points.levelling_filter import LevellingFilter
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.probe import make_room_scan
from xkd_ros.runtime.segmenter import Segmenter

CODES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=5, nanosec=7), frame_id="lidar")
MAX_ANSWER = 3_000_000
"""Points that an accepted cloud may have: no input holds as many bytes."""


@cache
def typestore() -> Any:
    return get_typestore(Stores.ROS2_JAZZY)


@cache
def small_model(folder: Path) -> Path:
    """A small random model with all its files."""
    from xkd_ros.export.onnx_export import export_onnx
    from xkd_ros.nets.checkpoint import save_student
    from xkd_ros.nets.student import seeded_student

    if not (folder / "fuzzed").exists():
        network = NetworkConfig(depth=2, width=8)
        card = ModelCard(name="fuzzed", network=network, geometry=GeometryConfig(neighbours=4))
        save_student(seeded_student(network, 0), card, folder / "fuzzed")
        export_onnx(folder / "fuzzed")
    return folder / "fuzzed"


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


@cache
def sample_bags(folder: Path) -> tuple[Path, ...]:
    """Small recordings of each kind: mcap folder, mcap file, sqlite3."""
    rng = np.random.default_rng(0)
    targets = (folder / "bag_mcap", folder / "single.mcap", folder / "bag_db3")
    for target, storage in zip(targets, ("mcap", "mcap", "sqlite3")):
        if target.exists():
            continue
        with BagWriter(target, storage) as writer:  # type: ignore[arg-type]
            for number in range(3):
                stamp = 10**9 * (number + 1)
                scan = Scan(rng.uniform(-3, 3, (30, 3)).astype(np.float32), rng.random(30).astype(np.float32), stamp, "lidar")
                writer.write("/points", make_cloud(scan, typestore().types), stamp)
                picture = CameraImage(rng.integers(0, 255, (6, 8, 3), np.uint8), stamp, "camera")
                writer.write("/image", make_image(picture, typestore().types), stamp)
    return targets


def bag(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """A recording with changed bytes, in its data or its metadata."""
    source = sample_bags(scratch)[rng.integers(0, 3)]
    copy = scratch / "mutated" / source.name
    _clear(copy.parent)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    files = sorted(copy.iterdir()) if copy.is_dir() else [copy]
    victim = files[rng.integers(0, len(files))]
    victim.write_bytes(mutate_bytes(rng, victim.read_bytes(), 3))
    try:
        with open_recording(copy) as recording:
            for scan in recording.scans(on_error="skip"):
                assert len(scan) <= MAX_ANSWER
        if rng.random() < 0.2:
            inspect(copy)
    except XkdError as error:
        return error
    return None


PLY = b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nproperty uchar label\n"
PLY += b"end_header\n1 2 3 4\n5 6 7 8\n"
PLY_BINARY = PLY.partition(b"end_header\n")[0].replace(b"ascii", b"binary_little_endian") + b"end_header\n" + bytes(range(26))
PCD = b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA ascii\n1 2 3\n4 5 6\n"
PCD_BINARY = PCD.partition(b"DATA")[0] + b"DATA binary\n" + bytes(range(24))
PCD_PACKED = PCD.partition(b"DATA")[0] + b"DATA binary_compressed\n" + bytes([26, 0, 0, 0, 24, 0, 0, 0, 23, *range(24), 0])


def points_file(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """A folder of PLY or PCD files."""
    folder = scratch / "files"
    _clear(folder)
    content, suffix = ((PLY, "ply"), (PLY_BINARY, "ply"), (PCD, "pcd"), (PCD_BINARY, "pcd"), (PCD_PACKED, "pcd"))[rng.integers(0, 5)]
    (folder / f"scan.{suffix}").write_bytes(mutate_bytes(rng, content))
    try:
        with open_recording(folder) as recording:
            for scan in recording.scans():
                assert len(scan) <= MAX_ANSWER
    except XkdError as error:
        return error
    return None


def label_file(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """An npz file with true labels beside a recording."""
    folder = scratch / "labels"
    _clear(folder)
    np.savez(folder / "1000000000.npz", struct4=np.zeros(30, np.uint8), indoor12=np.zeros(30, np.uint8))
    file = folder / "1000000000.npz"
    file.write_bytes(mutate_bytes(rng, file.read_bytes()))
    try:
        load_labelled_bag(sample_bags(scratch)[0], folder)
    except XkdError as error:
        return error
    return None


RIG = {
    "name": "rig",
    "lidar": {"topic": "/points", "frame_id": "lidar", "rpy_deg": [0.0, 1.0, 2.0], "height_m": 1.0},
    "cameras": [
        {
            "name": "front", "topic": "/image", "model": "plumb_bob", "width": 64, "height": 48,
            "K": [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0, 0, 1],
            "D": [0.1, 0.0, 0.0, 0.0], "cam_from_lidar": [0.0, -1.0, 0, 0, 0, 0, -1.0, 0, 1.0, 0, 0, 0, 0, 0, 0, 1],
        }
    ],
}  # fmt: skip


def rig(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """A rig file, changed as a tree or as text, and its cameras at work."""
    path = scratch / "rig.yaml"
    text = yaml.safe_dump(RIG)
    path.write_bytes(_tree_or_text(rng, RIG, lambda tree: yaml.dump(tree).encode(), text.encode()))
    try:
        found = load_rig(path)
        found.lidar.rotation()
        for config in found.cameras:
            config.camera().project((rng.uniform(-5, 5, (20, 4)) * [1, 1, 1, 0] + [0, 0, 0, 1]) @ config.transform().T[:, :3])
    except XkdError as error:
        return error
    return None


def card(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """card.json, changed as a tree or as text, and a scan preprocessed as it says."""
    text = (small_model(scratch) / "card.json").read_bytes()
    folder = scratch / "carded"
    _clear(folder)
    (folder / "card.json").write_bytes(_tree_or_text(rng, json.loads(text), lambda tree: json.dumps(tree).encode(), text))
    try:
        found = load_card(folder)
        assert found.usual_entropy is None or isinstance(found.usual_entropy, float)
        net_input = Preprocessor(found.geometry, found.intensity, threads=1)(*make_room_scan(0, 4, 40, 6.0))
        assert all(size <= 1_000_000 for grid in net_input.grids for size in grid)
    except XkdError as error:
        return error
    return None


def model(rng: np.random.Generator, scratch: Path) -> XkdError | None:
    """Weights and graphs with changed bytes, under a card that lists them as they are, or with another network than theirs."""
    source = small_model(scratch)
    folder = scratch / "modelled"
    _clear(folder)
    for file in source.iterdir():
        shutil.copy(file, folder)
    found = load_card(folder)
    backend, name = (("numba", "student.safetensors"), ("onnxruntime", "student.ort.onnx"))[rng.integers(0, 2)]
    if rng.random() < 0.2:
        network = {"depth": int(rng.integers(1, 4)), "width": int(rng.choice([4, 8, 16])), "norm": str(rng.choice(["layer", "batch"]))}
        found = found.model_copy(update={"network": NetworkConfig(**network)})
    else:
        content = mutate_bytes(rng, (folder / name).read_bytes())
        (folder / name).write_bytes(content)
        if rng.random() < 0.9:
            found = found.model_copy(update={"files": {**found.files, name: hashlib.sha256(content).hexdigest()}})
    save_card(found, folder)
    try:
        answer = Segmenter.load(folder, backend, threads=1).segment(*make_room_scan(0, 4, 60, 6.0), np.eye(3))
        assert ((answer.labels < 12) | (answer.labels == UNKNOWN)).all() and np.isfinite(answer.entropy).all()
    except XkdError as error:
        return error
    except Exception as error:
        # At work a graph may fail in onnxruntime's own ways: the node counts the cloud as failed and goes on.
        if backend == "onnxruntime" and type(error).__module__.startswith("onnxruntime"):
            return CloudError(str(error))
        raise
    return None


def _tree_or_text(rng: np.random.Generator, tree: Any, dump: Callable[[Any], bytes], text: bytes) -> bytes:
    if rng.random() < 0.6:
        changed = nasty(rng) if rng.random() < 0.02 else mutate_tree(rng, tree)
        return dump(changed)
    return mutate_bytes(rng, text)


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


# Share of the inputs that each target gets.
TARGETS: dict[str, tuple[Callable[[np.random.Generator, Path], XkdError | None], float]] = {
    "cloud": (cloud, 0.3),
    "image": (image, 0.16),
    "camera_info": (camera_info, 0.12),
    "bag": (bag, 0.1),
    "points_file": (points_file, 0.08),
    "label_file": (label_file, 0.04),
    "rig": (rig, 0.08),
    "card": (card, 0.08),
    "model": (model, 0.04),
}

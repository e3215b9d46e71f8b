"""The segmenter with pictures, over real DDS: the fused head labels where a fresh one is there, the lidar alone where none is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from xkd_ros.bags.frame import DecodedView, Frame
from xkd_ros.core.card import ModelCard, NetworkConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.rig import CameraConfig, LidarConfig, RigConfig, save_rig
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.nets.checkpoint import save_student
from xkd_ros.nets.fused_checkpoint import save_fused
from xkd_ros.nets.fusion import FusedHead, FusionSizes
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.nets.student import seeded_student
from xkd_ros.nodes.output_layout import make_layout
from xkd_ros.nodes.pictures import Pictures
from xkd_ros.nodes.segmenter import SegmenterNode
from xkd_ros.nodes.segmenter_parameters import SEGMENTER
from xkd_ros.nodes.synchronizer import SynchronizerNode
from xkd_ros.pipeline.fused_segmenter import FusedSegmenter
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.teacher import load_teacher

pytestmark = pytest.mark.dds
WIDTH, HEIGHT = 160, 120
FIRST_NS, SCAN_NS = 1_700_000_000_000_000_000, 100_000_000
# Optical frame: z along x of the lidar.
CAM_FROM_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
CAMERA = CameraConfig(
    name="front",
    topic="/cam/image",
    width=WIDTH,
    height=HEIGHT,
    K=[100, 0, 79.5, 0, 100, 59.5, 0, 0, 1],
    cam_from_lidar=CAM_FROM_LIDAR.reshape(-1).tolist(),
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """Folder of a small random image teacher."""
    network = ImageNetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1), feature_width=16)
    folder = tmp_path_factory.mktemp("teacher") / "random"
    save_image_teacher(seeded_image_student(network, 0), ImageTeacherCard(name="random", network=network), folder)
    return str(folder)


@pytest.fixture(scope="module")
def fused_model(tmp_path_factory, teacher) -> Path:
    """A small random model with a random fused head, laid out as the recipe xmodel leaves it."""
    network = NetworkConfig(depth=2, width=16)
    student = seeded_student(network, 1)
    torch.manual_seed(0)
    head = FusedHead(FusionSizes(16, 16, network.classes, 8))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("fused") / "tiny"
    save_student(student, ModelCard(name="tiny", network=network), folder)
    save_fused(head, student, load_teacher(teacher, load_class_map("indoor12")).fingerprint, folder)
    return folder


@pytest.fixture
def plain(fused_model, teacher, tmp_path) -> dict[str, object]:
    """Parameters of a segmenter that looks at /cam/image, calibrated by a rig file."""
    save_rig(RigConfig(name="rig", lidar=LidarConfig(topic="/points"), cameras=[CAMERA]), tmp_path / "rig.yaml")
    settings = {"levelling": "off", "intensity": "off", "stale_s": 3600.0, "fused": True, "rig": str(tmp_path / "rig.yaml")}
    return {**settings, "model": str(fused_model), "fused_teacher": teacher}


def picture_at(stamp: int, seed: int = 0) -> Image:
    rgb = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    message = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=3 * WIDTH, data=rgb.tobytes())
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    message.header.frame_id = "camera"
    return message


def expected(fused_model, teacher, cloud, dt_ns: int | None, seed: int = 0) -> np.ndarray:
    """Labels of the same scan and picture without a node; None is no picture."""
    segmenter, scan = FusedSegmenter.load(fused_model, teacher, "torch", "cpu", 1), decode_cloud(cloud)
    rgb = np.frombuffer(picture_at(0, seed).data, np.uint8).reshape(HEIGHT, WIDTH, 3)
    view = DecodedView("front", CAMERA.camera(), CAM_FROM_LIDAR, dt_ns or 0, b"", rgb)
    frame = Frame(0, 0, "", "", "", scan.points_m, None, np.eye(3), views=() if dt_ns is None else (view,))
    labels = segmenter.segment(frame).labels
    assert bool(segmenter.why) == (dt_ns is None or abs(dt_ns) > 50e6)
    return labels


def label_of(labelling, cloud) -> np.ndarray:
    return labelling.columns(cloud)["label"].astype(np.uint8)


def show(graph, node, pictures, stamp: int, seed: int = 0) -> None:
    """Publish a picture and wait until the node has heard it."""
    pictures.publish(picture_at(stamp, seed))
    graph.spin_until(lambda: any(at == stamp for at, _ in node._pictures._kept[0]), "the picture")


def wait_for(graph, labelling, reports, level, words="", **rows):
    """Wait for a report with this level, these words, and rows that begin like that."""

    def said():
        found, sentence, given = labelling.report(reports)
        begins = all(given.get(name.replace("_", " "), "").startswith(text) for name, text in rows.items())
        return found == level and words in sentence and begins

    graph.spin_until(said, f"a report with '{words}' and {rows}, not {labelling.report(reports)[1]}")
    return labelling.report(reports)[2]


def test_labels_are_those_of_the_fused_segmenter(graph, labelling, plain, fused_model, teacher, make_cloud_message):
    node, points, labelled = labelling.start(**plain)
    pictures, reports = graph.publisher(Image, "/cam/image"), graph.listen(DiagnosticArray, "/diagnostics")
    for number, dt in enumerate((0, 30_000_000, -45_000_000)):
        stamp = FIRST_NS + number * SCAN_NS
        cloud = make_cloud_message(stamp, seed=number)
        show(graph, node, pictures, stamp + dt, number)
        said = label_of(labelling, labelling.answer(points, labelled, cloud))
        assert np.array_equal(said, expected(fused_model, teacher, cloud, dt, number))
        alone = expected(fused_model, teacher, cloud, None)
        assert (said != alone).mean() > 0.02 and (said == 255).sum() == 2  # the two that are no measurements
    wait_for(graph, labelling, reports, DiagnosticStatus.OK, scans_fused_with_a_picture="100 % of the last 3, 3 in all")


def test_picture_that_is_stale_or_dies_leaves_the_lidar_alone_until_it_is_back(
    graph, labelling, plain, fused_model, teacher, make_cloud_message
):
    node, points, labelled = labelling.start(**plain)
    reports = graph.listen(DiagnosticArray, "/diagnostics")

    def ask(number: int, dt: int | None) -> None:
        stamp = FIRST_NS + number * SCAN_NS
        cloud = make_cloud_message(stamp, seed=number)
        if dt is not None:
            show(graph, node, pictures, stamp + dt, number)
        said = label_of(labelling, labelling.answer(points, labelled, cloud))
        assert np.array_equal(said, expected(fused_model, teacher, cloud, dt if dt is not None and abs(dt) < 50e6 else None, number))

    ask(0, None)
    wait_for(graph, labelling, reports, DiagnosticStatus.WARN, "labelled by the lidar alone: no picture has arrived on /cam/image")
    pictures = graph.publisher(Image, "/cam/image")
    ask(1, 10_000_000)
    ask(2, 0)
    wait_for(graph, labelling, reports, DiagnosticStatus.OK, scans_fused_with_a_picture="67 % of the last 3, 2 in all")
    ask(3, -60_000_000)  # the one before is even further away
    stale = "no picture on /cam/image within 50 ms of the scan"
    rows = wait_for(graph, labelling, reports, DiagnosticStatus.WARN, f"labelled by the lidar alone: {stale}")
    assert rows["scans fused with a picture"] == "50 % of the last 4, 2 in all"
    graph.probe.destroy_publisher(pictures)
    for number in range(4, 8):
        ask(number, None)
    rows = wait_for(graph, labelling, reports, DiagnosticStatus.WARN, stale, scans_fused_with_a_picture="25 % of the last 8, 2 in all")
    assert rows[f"lidar alone: {stale}"] == "5" and rows["lidar alone: no picture has arrived on /cam/image"] == "1"
    pictures = graph.publisher(Image, "/cam/image")
    ask(8, 0)
    wait_for(graph, labelling, reports, DiagnosticStatus.OK, scans_fused_with_a_picture="33 % of the last 9, 3 in all")
    assert labelling.settled(node).published == 9


def test_pairs_of_the_synchronizer_are_fused(graph, labelling, plain, fused_model, teacher, make_cloud_message):
    graph.make(SynchronizerNode, rig=plain["rig"], input_reliability="reliable")
    topics = {"images": "synced/front/image"}
    node = graph.make(SegmenterNode, ["-r", "points:=synced/points"], **{**labelling.FAST, **plain, **topics})
    points, labelled = labelling.connect(node)
    pictures = graph.publisher(Image, "/cam/image")
    graph.spin_until(lambda: node._pictures._cameras[0].listening, "the images of the synchronizer")
    for number in range(3):
        stamp = FIRST_NS + number * SCAN_NS
        cloud, count = make_cloud_message(stamp, seed=number), len(labelled)
        pictures.publish(picture_at(stamp + 20_000_000, number))
        points.publish(cloud)
        pictures.publish(picture_at(stamp + 70_000_000, number + 100))  # the next one tells that the first was the nearest
        graph.spin_until(lambda count=count: len(labelled) > count, "a labelled cloud")
        # Both carry the stamp of the scan by now.
        assert np.array_equal(label_of(labelling, labelled[-1]), expected(fused_model, teacher, cloud, 0, number))


def test_pictures_that_cannot_be_used_are_named(graph, labelling, plain, fused_model, teacher, make_cloud_message):
    settings = {**plain, "rig": "", "images": "/cam/image/compressed", "camera_infos": "/info"}
    node, points, labelled = labelling.start(**settings)
    pictures, reports = graph.publisher(CompressedImage, "/cam/image/compressed"), graph.listen(DiagnosticArray, "/diagnostics")

    def ask(data: bytes, words: str) -> None:
        stamp = FIRST_NS + len(labelled) * SCAN_NS
        message = CompressedImage(format="png", data=data)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        message.header.frame_id = "camera"
        pictures.publish(message)
        graph.spin_until(lambda: any(at == stamp for at, _ in node._pictures._kept[0]), "the picture")
        cloud = make_cloud_message(stamp)
        assert np.array_equal(label_of(labelling, labelling.answer(points, labelled, cloud)), expected(fused_model, teacher, cloud, None))
        wait_for(graph, labelling, reports, DiagnosticStatus.WARN, f"labelled by the lidar alone: {words}")

    import cv2

    good = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    ask(b"this is no picture", "compressed image")
    ask(good, "no CameraInfo has arrived on /info")
    infos = graph.publisher(CameraInfo, "/info")
    infos.publish(CameraInfo(width=WIDTH, height=HEIGHT, k=np.array(CAMERA.K, float), distortion_model="plumb_bob"))
    graph.spin_until(lambda: node._pictures._cameras[0].info is not None, "the CameraInfo")
    ask(good, "no transform from 'lidar' to 'camera'")


def test_pictures_of_an_earlier_lap_are_forgotten(graph, plain):
    values = SimpleNamespace(rig=plain["rig"], images="", camera_infos="", input_reliability="reliable", fused_max_dt_s=0.05)
    seen = Pictures(graph.probe, values)
    pictures = graph.publisher(Image, CAMERA.topic, subscribers=0)
    graph.spin_until(lambda: pictures.get_subscription_count() == 1, "the camera is known")
    for stamp in (FIRST_NS + 10 * SCAN_NS, FIRST_NS):
        pictures.publish(picture_at(stamp))
        graph.spin_until(lambda stamp=stamp: bool(seen.views(stamp, "lidar")[0]), "the picture")
    assert seen.views(FIRST_NS + 10 * SCAN_NS, "lidar") == ((), "no picture on /cam/image within 50 ms of the scan")


@pytest.mark.parametrize("topic", ["/cam/image_raw", "/cam/image_rect"])
def test_rectified_pictures_are_turned_as_the_camera_info_says(graph, topic):
    values = SimpleNamespace(rig="", images=topic, camera_infos="", input_reliability="reliable", fused_max_dt_s=0.05)
    seen = Pictures(graph.probe, values)
    seen._extrinsics._missing = ""  # where tf2_msgs is not installed
    seen._extrinsics._tree.add("camera", "lidar", CAM_FROM_LIDAR)
    turn, matrix = np.diag([-1.0, -1.0, 1.0]), np.array(CAMERA.K, float).reshape(3, 3)
    info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.1, 0.0, 0.0, 0.0, 0.0], k=matrix.reshape(-1))
    info.r, info.p = turn.reshape(-1), np.hstack([np.diag([2, 2, 1]) @ matrix, np.zeros((3, 1))]).reshape(-1)
    graph.publisher(CameraInfo, "/cam/camera_info").publish(info)
    graph.publisher(Image, topic, subscribers=1).publish(picture_at(FIRST_NS))
    graph.spin_until(lambda: bool(seen.views(FIRST_NS, "lidar")[0]), "the picture")
    ((view,), reasons) = seen.views(FIRST_NS, "lidar")
    rectified = topic == "/cam/image_rect"
    assert not reasons and bool(view.camera.D.any()) != rectified
    np.testing.assert_allclose(view.camera.K[:2], (2 if rectified else 1) * matrix[:2])
    np.testing.assert_allclose(view.cam_from_lidar[:3], (turn if rectified else np.eye(3)) @ CAM_FROM_LIDAR[:3])


def test_headings_and_fused_exclude_each_other():
    defaults = {name: spec.default for name, spec in SEGMENTER.specs.items()}
    make_layout(SimpleNamespace(**{**defaults, "fused": True}), ModelCard(name="any"))
    with pytest.raises(ConfigError, match="headings 2 is not possible with fused"):
        make_layout(SimpleNamespace(**{**defaults, "fused": True, "headings": 2}), ModelCard(name="any"))


def test_set_ups_that_cannot_fuse_are_refused_in_one_line(graph, labelling, plain, tiny_model, tmp_path):
    with pytest.raises(ConfigError, match="no camera given"):
        graph.make(SegmenterNode, **{**plain, "rig": ""})
    with pytest.raises(ConfigError, match="2 images, 2 camera_infos, 1 cameras of the rig"):
        graph.make(SegmenterNode, **{**plain, "images": "/a/image, /b/image"})
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    graph.make(SegmenterNode, **{**labelling.FAST, **plain, "model": str(tiny_model)})
    wait_for(graph, labelling, reports, DiagnosticStatus.ERROR, "holds no fused head")


def test_without_torch_the_command_that_installs_it_is_named(fused_model):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\nfrom xkd_ros.pipeline.fused_labels import FusedLabels\n"
        "from xkd_ros.core.errors import MissingPackageError\n"
        "try: FusedLabels.load(Path('m'), 't')\nexcept MissingPackageError as error: print(error)\n"
        "import xkd_ros.nodes.labeller; assert sys.modules['torch'] is None\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout
    assert said.startswith("the fused head needs the package 'torch'") and "pip install 'xkd_ros[train]'" in said and said.count("\n") == 1

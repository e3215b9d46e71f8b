from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.errors import XkdError
from xkd_ros.core.types import CameraImage
from xkd_ros.msgs.build import make_image
from xkd_ros.msgs.image import decode_image, is_colour

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=4), frame_id="/camera_optical")


def picture(height: int = 6, width: int = 8) -> np.ndarray:
    """A red, a green and a blue part, so that no channel can be taken for another."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2] = (250, 10, 20)
    rgb[: height // 2, width // 2 :] = (30, 240, 40)
    rgb[height // 2 :, width // 2 :] = (50, 60, 230)
    return rgb


def message(encoding: str, pixels: np.ndarray, padding: int = 0, bigendian: bool = False, height: int | None = None) -> SimpleNamespace:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    width = pixels.shape[1]
    return SimpleNamespace(
        header=HEADER, encoding=encoding, height=height or pixels.shape[0], width=width, step=rows.shape[1], is_bigendian=int(bigendian),
        data=rows.tobytes(),
    )  # fmt: skip


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "8UC3", "8UC4", "rgb16", "bgr16"])
def test_colours_keep_their_channels(encoding: str, padding: int) -> None:
    rgb = picture()
    pixels = rgb[:, :, ::-1] if encoding.startswith(("bgr", "8UC")) else rgb
    if "a8" in encoding or encoding == "8UC4":
        pixels = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], axis=2)
    if "16" in encoding:
        pixels = pixels.astype(np.uint16) * 257
        padding *= 2
    image = decode_image(message(encoding, pixels, padding))
    np.testing.assert_allclose(image.rgb.astype(int), rgb, atol=1)
    assert (image.stamp_ns, image.frame_id) == (3_000_000_004, "camera_optical") and image.rgb.flags.c_contiguous


@pytest.mark.parametrize("bigendian", [False, True])
def test_grey_is_repeated_and_sixteen_bits_are_scaled(bigendian: bool) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    np.testing.assert_array_equal(decode_image(message("mono8", grey, 3)).rgb, np.repeat(grey[:, :, None], 3, axis=2))
    deep = (grey.astype(np.uint16) * 257).astype(">u2" if bigendian else "<u2")
    np.testing.assert_allclose(decode_image(message("mono16", deep, 4, bigendian)).rgb[:, :, 0].astype(int), grey, atol=1)


PATTERNS = [
    ("bayer_rggb8", (0, 0), (1, 1)),
    ("bayer_bggr8", (1, 1), (0, 0)),
    ("bayer_gbrg8", (1, 0), (0, 1)),
    ("bayer_grbg8", (0, 1), (1, 0)),
]


@pytest.mark.parametrize(("encoding", "red", "blue"), PATTERNS)
def test_bayer_patterns(encoding: str, red: tuple[int, int], blue: tuple[int, int]) -> None:
    pattern = np.full((8, 8), 120, np.uint8)
    pattern[red[0] :: 2, red[1] :: 2] = 240
    pattern[blue[0] :: 2, blue[1] :: 2] = 10
    middle = decode_image(message(encoding, pattern)).rgb[2:6, 2:6].reshape(-1, 3)
    np.testing.assert_allclose(middle.mean(axis=0), [240, 120, 10], atol=1)
    _, png = cv2.imencode(".png", pattern)
    compressed = SimpleNamespace(header=HEADER, format=f"{encoding}; png compressed {encoding}", data=png.tobytes())
    np.testing.assert_array_equal(decode_image(compressed).rgb, decode_image(message(encoding, pattern)).rgb)


def test_video_formats() -> None:
    rgb = picture(8, 8)
    i420 = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
    luma, u, v = i420[:8], i420[8:].reshape(-1)[:16].reshape(4, 4), i420[8:].reshape(-1)[16:].reshape(4, 4)
    nv12 = np.concatenate([luma, np.stack([u, v], axis=2).reshape(4, 8)])
    nv21 = np.concatenate([luma, np.stack([v, u], axis=2).reshape(4, 8)])
    yuyv = np.stack([luma, np.stack([u, v], axis=2).reshape(4, 8).repeat(2, axis=0)], axis=2)
    for encoding, pixels, height in (("nv12", nv12, 8), ("nv21", nv21, 8), ("yuv422_yuy2", yuyv, 8), ("uyvy", yuyv[:, :, ::-1], 8)):
        image = decode_image(message(encoding, pixels, height=height))
        assert image.rgb.shape == (8, 8, 3)
        np.testing.assert_allclose(image.rgb[[1, 1, 6], [1, 6, 6]].astype(int), rgb[[1, 1, 6], [1, 6, 6]], atol=6)


@pytest.mark.parametrize(
    ("format_", "kind"), [("rgb8; jpeg compressed bgr8", ".jpg"), ("jpeg", ".jpg"), ("bgr8; png compressed bgr8", ".png"), ("png", ".png")]
)
def test_compressed_colour_is_rgb(format_: str, kind: str) -> None:
    rgb = picture(32, 32)
    _, data = cv2.imencode(kind, rgb[:, :, ::-1])
    image = decode_image(SimpleNamespace(header=HEADER, format=format_, data=data.reshape(-1)))
    np.testing.assert_allclose(image.rgb[[4, 4, 28], [4, 28, 28]].astype(int), rgb[[4, 4, 28], [4, 28, 28]], atol=12)


def test_the_orientation_tag_of_a_photo_turns_nothing() -> None:
    rgb = picture(32, 48)
    _, data = cv2.imencode(".jpg", rgb[:, :, ::-1])
    # Exif with one entry: orientation 6, "turn by 90 degrees".
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    tag = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\x00\x00" + tiff
    photo = data.tobytes()[:2] + tag + data.tobytes()[2:]
    turned = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape[:2] == (48, 32), "the tag is one that OpenCV follows"
    assert decode_image(SimpleNamespace(header=HEADER, format="jpeg", data=photo)).rgb.shape == (32, 48, 3)


def test_compressed_grey_has_three_channels() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    _, data = cv2.imencode(".png", grey)
    np.testing.assert_array_equal(
        decode_image(SimpleNamespace(header=HEADER, format="mono8; png compressed ", data=data)).rgb[:, :, 1], grey
    )


def cut_off() -> SimpleNamespace:
    broken = message("rgb8", picture())
    broken.data = broken.data[:-1]
    return broken


BROKEN = [
    (cut_off(), "143 bytes of data: cut off"),
    (message("32FC1", np.zeros((2, 2), np.float32)), "'32FC1' holds no picture"),
    (message("16UC1", np.zeros((2, 2), np.uint16)), "'16UC1' holds no picture"),
    (message("nonsense", np.zeros((2, 2), np.uint8)), "'nonsense' holds no picture"),
    (SimpleNamespace(header=HEADER, encoding="rgb8", height=2**31, width=2**31, step=0, is_bigendian=0, data=b"123"), "cut off"),
    (SimpleNamespace(header=HEADER, encoding="rgb8", height=2, width=3, step=5, is_bigendian=0, data=bytes(100)), "cut off"),
    (SimpleNamespace(header=HEADER, encoding="rgb8", height=0, width=0, step=0, is_bigendian=0, data=b""), "cut off"),
    (SimpleNamespace(header=HEADER, format="jpeg", data=b"\xff\xd8not really"), "cannot be decoded"),
    (SimpleNamespace(header=HEADER, format="jpeg", data=b""), "cannot be decoded"),
    (SimpleNamespace(header=HEADER, format="16UC1; compressedDepth", data=b"123456789012345"), "depth image"),
]


@pytest.mark.parametrize(("broken", "text"), BROKEN, ids=[text for _, text in BROKEN])
def test_what_is_no_picture_is_named(broken: Any, text: str) -> None:
    with pytest.raises(XkdError, match=r"(?s)^[^\n]*$") as caught:
        decode_image(broken)
    assert text in str(caught.value)


def test_depth_images_are_told_from_pictures() -> None:
    assert is_colour(message("bgr8", picture())) and is_colour(message("mono16", np.zeros((2, 2), np.uint16)))
    assert not is_colour(message("16UC1", np.zeros((2, 2), np.uint16)))
    assert not is_colour(SimpleNamespace(format="16UC1; compressedDepth png"))
    for format_ in ("16UC1; png compressed ", "32FC1; tiff compressed", "32FC3; png compressed"):
        assert not is_colour(SimpleNamespace(format=format_))
    for format_ in (
        "jpeg",
        "png",
        "rgb8; jpeg compressed bgr8",
        "8UC3; png compressed bgr8",
        "mono16; png compressed ",
        "; jpeg compressed bgr8",
    ):
        assert is_colour(SimpleNamespace(format=format_))


def test_built_images_round_trip(typestore: Any) -> None:
    rgb = picture()
    built = make_image(CameraImage(rgb, 5_000_000_001, "camera"), typestore.types)
    raw = typestore.serialize_cdr(built, "sensor_msgs/msg/Image")
    back = decode_image(typestore.deserialize_cdr(raw, "sensor_msgs/msg/Image"))
    np.testing.assert_array_equal(back.rgb, rgb)
    assert (back.stamp_ns, back.frame_id) == (5_000_000_001, "camera")

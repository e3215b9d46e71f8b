"""Image and CompressedImage to `CameraImage`: every encoding ends as (H, W, 3) uint8 RGB."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np

from xkd_ros.core.errors import XkdError, require
from xkd_ros.core.types import CameraImage
from xkd_ros.msgs.header import frame_id, stamp_ns

_INSTALL = "pip install rosbags-image opencv-python-headless"
# OpenCV's generic names say nothing about colour; cameras that use them publish these.
_GENERIC = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}
_BYTES_PER_PIXEL = {
    "mono8": 1, "mono16": 2, "bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4, "bgr16": 6, "rgb16": 6, "bgra16": 8, "rgba16": 8,
    "uyvy": 2, "yuv422": 2, "yuyv": 2, "yuv422_yuy2": 2,
    **{f"bayer_{order}8": 1 for order in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{order}16": 2 for order in ("rggb", "bggr", "gbrg", "grbg")},
}  # fmt: skip
# All other generic names hold numbers that are no colours: depth, normals, confidence.
_MEASUREMENT = re.compile(r"\d+[USF]C\d+")
_PLANAR = {"nv12": "COLOR_YUV2RGB_NV12", "nv21": "COLOR_YUV2RGB_NV21"}


def is_colour(message: Any) -> bool:
    """Tell a picture from a depth or other measurement image, by its encoding."""
    if hasattr(message, "format"):
        # image_transport puts the encoding of the raw image first; plain drivers write "jpeg" or "png" alone.
        encoding = str(message.format).split(";")[0].strip()
        return "compressedDepth" not in message.format and (encoding in _GENERIC or not _MEASUREMENT.fullmatch(encoding))
    encoding = _GENERIC.get(message.encoding, message.encoding)
    return encoding in _BYTES_PER_PIXEL or encoding in _PLANAR


def decode_image(message: Any) -> CameraImage:
    """Read a sensor_msgs/Image or CompressedImage of rclpy or rosbags.

    Sixteen-bit images are scaled to eight bits, grey is repeated in three channels, Bayer patterns are interpolated.

    Raises:
        XkdError: an encoding that holds no picture, sizes that contradict each other, or damaged compressed data.
        MissingPackageError: rosbags-image or OpenCV is absent.
    """
    try:
        rgb = _decompress(message) if hasattr(message, "format") else _convert(message)
    except (XkdError, MemoryError):
        raise
    except Exception as error:  # OpenCV's own error, for sizes that an encoding cannot have, such as an odd width of a YUV image
        what = getattr(message, "format", "") or getattr(message, "encoding", "")
        raise XkdError(f"image '{what}' cannot be converted: {' '.join(str(error).split())[:200]}") from error
    return CameraImage(np.ascontiguousarray(rgb), stamp_ns(message), frame_id(message))


def _convert(message: Any) -> np.ndarray:
    encoding = _GENERIC.get(message.encoding, message.encoding)
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8) if len(message.data) else np.zeros(0, np.uint8)
    if encoding in _PLANAR:
        cv2 = require("cv2", "decoding images", _INSTALL)
        rows = _rows(data, height * 3 // 2, step or width, width, encoding)
        return cv2.cvtColor(np.ascontiguousarray(rows), getattr(cv2, _PLANAR[encoding]))
    if encoding not in _BYTES_PER_PIXEL:
        raise XkdError(f"image encoding '{message.encoding}' holds no picture (depth or unknown); choose a colour or grey image topic")
    used = width * _BYTES_PER_PIXEL[encoding]
    rows = _rows(data, height, step or used, used, encoding)
    if encoding in ("rgb8", "bgr8"):
        pixels = rows.reshape(height, width, 3)
        return pixels if encoding == "rgb8" else pixels[:, :, ::-1]
    rosbags_image = require("rosbags.image", "decoding images", _INSTALL)
    # rosbags-image takes rows without padding.
    packed = SimpleNamespace(
        encoding=encoding,
        height=height,
        width=width,
        is_bigendian=bool(message.is_bigendian),
        data=np.ascontiguousarray(rows),
    )
    return rosbags_image.image_to_cvimage(packed, "rgb8")


def _rows(data: np.ndarray, height: int, step: int, used: int, encoding: str) -> np.ndarray:
    """View (height, used) bytes, without the padding at the end of each row."""
    if height <= 0 or used <= 0 or step < used or len(data) < (height - 1) * step + used:
        raise XkdError(f"{encoding} image has {height} rows of {step} bytes (step), {used} used, but {len(data)} bytes of data: cut off")
    return np.ndarray((height, used), np.uint8, data, 0, (step, 1))


def _decompress(message: Any) -> np.ndarray:
    cv2 = require("cv2", "decoding images", _INSTALL)
    flat = np.frombuffer(message.data, np.uint8) if len(message.data) else np.zeros(0, np.uint8)
    if not is_colour(message):
        raise XkdError(f"image format '{message.format}' is a depth image; choose a colour or grey image topic")
    encoding = str(message.format).split(";")[0].strip()
    # A camera's raw pattern may be compressed as a grey picture; the orientation tag of a photo must not turn the image.
    bayer = encoding.startswith("bayer_")
    kind = cv2.IMREAD_UNCHANGED if bayer else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(flat, kind) if len(flat) else None
    if image is None:
        raise XkdError(f"compressed image '{message.format}' of {len(flat)} bytes cannot be decoded: damaged or not an image")
    if bayer and image.ndim == 2:
        depth = "8" if image.dtype == np.uint8 else "16"
        packed = SimpleNamespace(
            encoding=encoding.rstrip("0123456789") + depth,
            height=image.shape[0],
            width=image.shape[1],
            is_bigendian=False,
            data=image,
        )
        return require("rosbags.image", "decoding images", _INSTALL).image_to_cvimage(packed, "rgb8")
    return image[:, :, 2::-1]

"""CameraInfo to `Camera`: intrinsics of the image as it is published, binning and region of interest included."""

from __future__ import annotations

from typing import Any

import numpy as np

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import CalibrationError

# Names that drivers use for the three models; the empty one is an undistorted pinhole.
_MODELS = {
    "plumb_bob": "plumb_bob",
    "radial-tangential": "plumb_bob",
    "radtan": "plumb_bob",
    "none": "plumb_bob",
    "": "plumb_bob",
    "rational_polynomial": "rational_polynomial",
    "equidistant": "equidistant",
    "equi": "equidistant",
    "fisheye": "equidistant",
    "kannala_brandt": "equidistant",
}
# Names that image_transport appends to the topic of the picture itself.
_TRANSPORTS = ("/compressed", "/compressedDepth", "/theora", "/zstd", "/ffmpeg")


def base_topic(image_topic: str) -> str:
    """Return the topic of the raw picture, which image_transport names the others after."""
    for suffix in _TRANSPORTS:
        image_topic = image_topic.removesuffix(suffix)
    return image_topic


def is_rectified(image_topic: str) -> bool:
    """Tell by its name whether the pictures of a topic were rectified before they were published: image_proc calls it image_rect*."""
    return "rect" in base_topic(image_topic).rpartition("/")[2]


def camera_from_info(message: Any, rectified: bool = False) -> Camera:
    """Read the intrinsics of a sensor_msgs/CameraInfo of rclpy or rosbags (ROS 1 and 2).

    Args:
        message: The CameraInfo.
        rectified: The image was rectified, see `is_rectified`: use P without distortion; the camera frame is then
            turned by `rectification(message)`.
    Raises:
        CalibrationError: an uncalibrated camera (K all zero), an unknown model, or impossible numbers.
    """
    name = str(message.distortion_model).lower()
    if name not in _MODELS:
        known = "plumb_bob, rational_polynomial, equidistant"
        raise CalibrationError(f"camera_info names distortion model '{message.distortion_model}'; known are {known}")
    matrix = _numbers(message, "k", 9).reshape(3, 3)
    if not matrix.any():
        frame = message.header.frame_id
        raise CalibrationError(f"camera_info of '{frame}' is empty (K all zero): calibrate the camera or give a rig file")
    if rectified:
        matrix, coefficients, model = _numbers(message, "p", 12).reshape(3, 4)[:, :3], np.zeros(0), "plumb_bob"
    else:
        coefficients, model = _numbers(message, "d"), _MODELS[name]
    # OpenCV fills up with zeros; a plain pinhole may carry any number of them.
    if not coefficients.any():
        coefficients = np.zeros(0)
    width, height, matrix = _as_published(message, matrix)
    return Camera(width, height, matrix, model, coefficients)  # type: ignore[arg-type]


def rectification(message: Any) -> np.ndarray:
    """Return the (3, 3) rotation rectified_from_camera; identity where the message leaves it empty."""
    rotation = _numbers(message, "r", 9).reshape(3, 3)
    return rotation if rotation.any() else np.eye(3)


def _as_published(message: Any, matrix: np.ndarray) -> tuple[int, int, np.ndarray]:
    """Apply region of interest and binning to size and matrix, which CameraInfo gives for the whole sensor."""
    width, height = int(message.width), int(message.height)
    roi = message.roi
    matrix = matrix.copy()
    if roi.width and roi.height:
        matrix[:2, 2] -= [roi.x_offset, roi.y_offset]
        width, height = int(roi.width), int(roi.height)
    binning = np.array([max(1, int(message.binning_x)), max(1, int(message.binning_y))])
    if (binning > 1).any():
        matrix[:2, 2] = (matrix[:2, 2] + 0.5) / binning - 0.5
        matrix[0, :2] /= binning[0]
        matrix[1, 1] /= binning[1]
        width, height = width // int(binning[0]), height // int(binning[1])
    return width, height, matrix


def _numbers(message: Any, name: str, count: int | None = None) -> np.ndarray:
    """Read d, k, r or p, which ROS 1 spells in capitals."""
    values = getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
    numbers = np.asarray(values, float).reshape(-1)
    if count is not None and len(numbers) != count:
        raise CalibrationError(f"camera_info has {len(numbers)} numbers in {name.upper()}, expected {count}")
    return numbers

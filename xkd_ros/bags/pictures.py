"""Image messages as the JPEG or PNG files that a frame store keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from xkd_ros.core.errors import XkdError, require
from xkd_ros.msgs.image import decode_image

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# Byte of the bit depth in a PNG file (header chunk, after width and height).
_PNG_DEPTH = 24


def encode_picture(message: Any, width: int, height: int, quality: int) -> bytes:
    """Return a picture as a file; one that came as a colour or grey JPEG or PNG of 8 bits stays as it is.

    Args:
        message: sensor_msgs Image or CompressedImage.
        width, height: What the calibration is for.
        quality: Of the JPEG, for pictures that came in another form.
    Raises:
        XkdError: damaged, or of another size.
    """
    rgb = decode_image(message).rgb
    if rgb.shape[:2] != (height, width):
        raise XkdError(f"picture of {rgb.shape[1]}x{rgb.shape[0]} pixels, the calibration is for {width}x{height}")
    if hasattr(message, "format") and not str(message.format).startswith("bayer_"):
        data = bytes(message.data)
        if data.startswith(_JPEG) or (data.startswith(_PNG) and data[_PNG_DEPTH] == 8):
            return data
    cv2 = require("cv2", "encoding images", "pip install opencv-python-headless")
    # A grey camera's three equal channels shrink to one.
    grey = _is_grey(rgb[::16, ::16]) and _is_grey(rgb)
    pixels = np.ascontiguousarray(rgb[..., 0] if grey else rgb[..., ::-1])
    good, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise XkdError(f"picture of {width}x{height} pixels could not be compressed")
    return bytes(encoded)


def _is_grey(rgb: np.ndarray) -> bool:
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())

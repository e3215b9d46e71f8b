from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import CalibrationError
from xkd_ros.msgs.build import make_camera_info
from xkd_ros.msgs.camera_info import camera_from_info, is_rectified, rectification

K = np.array([[500.0, 0, 320.5], [0, 510, 240.25], [0, 0, 1]])


def make_info(typestore: Any, model: str = "plumb_bob", coefficients: tuple[float, ...] = (-0.2, 0.05, 0.001, -0.002, 0.0)) -> Any:
    info = make_camera_info(Camera(640, 480, K), 7_000_000_001, "cam", typestore.types)
    info.distortion_model, info.d = model, np.array(coefficients)
    return info


@pytest.mark.parametrize(
    ("name", "model", "coefficients"),
    [
        ("plumb_bob", "plumb_bob", (-0.2, 0.05, 0.001, -0.002, 0.0)),
        ("radtan", "plumb_bob", (-0.2, 0.05, 0.001, -0.002)),
        ("rational_polynomial", "rational_polynomial", (0.1, -0.2, 0.001, -0.002, 0.01, 0.2, -0.1, 0.02)),
        ("equidistant", "equidistant", (-0.05, -0.08, 0.1, -0.05)),
        ("Fisheye", "equidistant", (-0.05, -0.08, 0.1, -0.05)),
        ("", "plumb_bob", ()),
        ("plumb_bob", "plumb_bob", (0.0,) * 14),
    ],
)
def test_models_by_all_their_names(typestore: Any, name: str, model: str, coefficients: tuple[float, ...]) -> None:
    camera = camera_from_info(make_info(typestore, name, coefficients))
    assert (camera.model, camera.width, camera.height) == (model, 640, 480)
    np.testing.assert_array_equal(camera.K, K)
    np.testing.assert_array_equal(camera.D, coefficients if any(coefficients) else ())


def test_capital_letters_of_ros_1(typestore: Any) -> None:
    from types import SimpleNamespace

    info = make_info(typestore)
    values = {name.upper() if name in ("d", "k", "r", "p") else name: getattr(info, name) for name in info.__dataclass_fields__}
    camera = camera_from_info(SimpleNamespace(**values))
    np.testing.assert_array_equal(camera.K, K)


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/front/image_rect", True),
        ("/front/image_rect_color/compressed", True),
        ("image_rect", True),
        ("/front/image_raw", False),
        ("/rectified/image", False),
    ],
)
def test_rectified_images_are_known_by_their_topic(topic: str, rectified: bool) -> None:
    assert is_rectified(topic) == rectified


def test_rectified_images_use_p_and_r(typestore: Any) -> None:
    info = make_info(typestore)
    info.p = np.array([400.0, 0, 300, 0, 0, 401, 200, 0, 0, 0, 1, 0])
    camera = camera_from_info(info, rectified=True)
    np.testing.assert_array_equal(camera.K, [[400, 0, 300], [0, 401, 200], [0, 0, 1]])
    assert len(camera.D) == 0
    np.testing.assert_array_equal(rectification(info), np.eye(3))
    info.r = np.zeros(9)
    np.testing.assert_array_equal(rectification(info), np.eye(3))


def test_region_and_binning_follow_the_pixels(typestore: Any) -> None:
    """A point must fall on the pixel that its block of sensor pixels became."""
    info = make_info(typestore, coefficients=())
    whole = camera_from_info(info)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 60, 400, 300
    info.binning_x, info.binning_y = 2, 4
    camera = camera_from_info(info)
    assert (camera.width, camera.height) == (200, 75)
    points = np.array([[0.1, 0.05, 1.0], [-0.2, -0.1, 1.5]])
    sensor, _ = whole.project(points)
    binned, _ = camera.project(points)
    np.testing.assert_allclose((sensor - [100, 60] + 0.5) / [2, 4] - 0.5, binned, atol=1e-4)


def test_what_is_no_calibration_is_named(typestore: Any) -> None:
    info = make_info(typestore)
    info.k = np.zeros(9)
    with pytest.raises(CalibrationError, match="camera_info of 'cam' is empty"):
        camera_from_info(info)
    with pytest.raises(CalibrationError, match="'mei'"):
        camera_from_info(make_info(typestore, "mei"))
    with pytest.raises(CalibrationError, match="coefficients"):
        camera_from_info(make_info(typestore, "plumb_bob", (0.1, 0.2, 0.3)))
    info = make_info(typestore)
    info.k = np.ones(8)
    with pytest.raises(CalibrationError, match="8 numbers in K"):
        camera_from_info(info)

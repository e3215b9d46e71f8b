"""Projection: round trips for every lens, agreement with OpenCV, and nothing from behind or beyond the turning point."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import CalibrationError

K = np.array([425.0, 0, 386, 0, 427, 242, 0, 0, 1])
LENSES = {
    "plain": ("plumb_bob", []),
    "barrel": ("plumb_bob", [-0.288, 0.0746, 7.8e-4, -2.3e-4]),
    "pincushion": ("plumb_bob", [0.148, -0.2178, 0.0, 0.0, 0.01]),
    "rational": ("rational_polynomial", [0.1, 0.02, 1e-3, -1e-3, 0.01, 0.05, 0.01, 0.003]),
    "fisheye": ("equidistant", [-0.0701, 0.00858, -0.0219, 0.00744]),
}


def _camera(lens: str) -> Camera:
    model, coefficients = LENSES[lens]
    return Camera(752, 480, K, model, np.array(coefficients))


@pytest.mark.parametrize("lens", LENSES)
@settings(max_examples=60, deadline=None)
@given(u=st.floats(0, 751), v=st.floats(0, 479), depth=st.floats(0.1, 50))
def test_pixel_to_ray_to_pixel(lens: str, u: float, v: float, depth: float) -> None:
    camera = _camera(lens)
    ray = camera.unproject(np.array([[u, v]]))
    if np.isnan(ray).any():
        assert camera.max_angle_rad < 1.4  # only a lens that folds leaves corners dark
        return
    uv, inside = camera.project(ray * depth)
    assert inside[0] and np.allclose(uv, [[u, v]], atol=1e-3)


@pytest.mark.parametrize("seed", range(30))
def test_a_ray_leads_back_to_its_pixel_or_there_is_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coefficients = [rng.uniform(-0.45, -0.2), rng.uniform(0, 0.2), *rng.uniform(-1e-3, 1e-3, 2), rng.uniform(-0.05, 0.02)]
    camera = Camera(640, 480, np.array([[250.0, 0, 320], [0, 250, 240], [0, 0, 1]]), "plumb_bob", np.array(coefficients))
    pixels = np.stack(np.meshgrid(np.arange(0, 640, 4), np.arange(0, 480, 4)), -1).reshape(-1, 2).astype(float)
    rays = camera.unproject(pixels)
    known = np.isfinite(rays).all(axis=1)
    uv, inside = camera.project(rays[known])
    assert inside.all()
    np.testing.assert_allclose(uv, pixels[known], atol=1e-3)
    # Every pixel that a ray of the fan reaches has one, but for the rim where the lens folds.
    angle, around = np.meshgrid(np.linspace(0.01, 0.95 * camera.max_angle_rad, 40), np.linspace(0, 2 * np.pi, 60))
    fan = np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)], -1).reshape(-1, 3)
    reached, inside = camera.project(fan)
    np.testing.assert_allclose(camera.unproject(reached[inside]), fan[inside], atol=1e-4)


@pytest.mark.parametrize("lens", ["barrel", "pincushion", "rational", "fisheye"])
def test_same_pixels_as_opencv(lens: str) -> None:
    camera = _camera(lens)
    points = np.random.default_rng(0).uniform([-0.5, -0.4, 1], [0.5, 0.4, 3], (300, 3))
    uv, inside = camera.project(points)
    project = cv2.fisheye.projectPoints if camera.model == "equidistant" else cv2.projectPoints
    shape = points[:, None] if camera.model == "equidistant" else points
    theirs = project(shape, np.zeros(3), np.zeros(3), camera.K, camera.D)[0].reshape(-1, 2)
    assert inside.all() and np.allclose(uv, theirs, atol=1e-3)


@pytest.mark.parametrize("lens", LENSES)
def test_behind_the_camera_is_never_inside(lens: str) -> None:
    points = np.random.default_rng(1).normal(size=(2000, 3)) * [0.3, 0.3, 5]
    _, inside = _camera(lens).project(points)
    assert not inside[points[:, 2] < 0].any()


def test_beyond_the_turning_point_is_not_inside() -> None:
    camera = Camera(752, 480, K, "plumb_bob", np.array([-0.4, 0.0, 0, 0]))
    turning = np.sqrt(1 / (3 * 0.4))  # d/dr of r - 0.4 r^3
    assert camera.max_angle_rad == pytest.approx(np.arctan(turning), abs=1e-3)
    far = np.array([[1.5, 0, 1.0], [turning * 0.98, 0, 1.0]])
    assert camera.project(far)[1].tolist() == [False, True]


def test_scaled_camera_sees_the_same_rays() -> None:
    camera = _camera("barrel")
    half = camera.scaled(376, 240)
    uv = np.array([[100.0, 80.0], [375.5, 239.5]])
    assert np.allclose(half.unproject(uv), camera.unproject((uv + 0.5) * 2 - 0.5), atol=1e-9)


def test_nan_and_empty_points() -> None:
    uv, inside = _camera("fisheye").project(np.array([[np.nan, 0, 1], [0, 0, 0], [0, 0, 2.0]]))
    assert inside.tolist() == [False, False, True] and uv.shape == (3, 2)
    assert _camera("barrel").project(np.zeros((0, 3)))[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "thin_prism"}, "unknown"),
        ({"K": np.zeros(9)}, "calibrated"),
        ({"D": np.ones(3)}, "coefficients"),
        ({"width": 0}, "impossible"),
        ({"K": np.array(K).reshape(3, 3).T}, "transposed"),
    ],
)
def test_impossible_cameras_are_refused(change: dict, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Camera(**{"width": 640, "height": 480, "K": K, "model": "plumb_bob", "D": np.zeros(5), **change})


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
@pytest.mark.parametrize("count", [1, 3, 6, 20])
def test_any_number_of_zeros_is_no_distortion(model: str, count: int) -> None:
    points = np.random.default_rng(0).uniform([-2, -1, 1], [2, 1, 5], (50, 3))
    plain, zeros = Camera(752, 480, K, model), Camera(752, 480, K, model, np.zeros(count))
    for ours, theirs in zip(zeros.project(points), plain.project(points)):
        np.testing.assert_array_equal(ours, theirs)
    uv = np.array([[100.0, 50.0]])
    np.testing.assert_array_equal(zeros.unproject(uv), plain.unproject(uv))

"""Camera models: pixels from points and back, for every distortion that ROS CameraInfo names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from xkd_ros.core.errors import CalibrationError

Distortion = Literal["plumb_bob", "rational_polynomial", "equidistant"]
_COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 8, 12), "equidistant": (0, 4)}
# Rays are followed out to here when looking for the turning point; no lens model is trusted beyond it.
_WIDEST_ANGLE_RAD = {"plumb_bob": 1.5, "rational_polynomial": 1.5, "equidistant": np.pi}
# Largest error of a ray that was solved for, in focal lengths.
_SOLVED = 1e-7


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics of one camera.

    Attributes:
        width, height: Image size in pixels.
        K: (3, 3) float64 camera matrix, pixels.
        model: Distortion model, by its name in sensor_msgs/CameraInfo.
        D: Distortion coefficients: plumb_bob k1 k2 p1 p2 [k3]; rational k1 k2 p1 p2 k3 k4 k5 k6 [s1..s4 unused]; equidistant k1..k4.
    Raises:
        CalibrationError: unknown model, wrong number of coefficients, or a focal length that is not positive.

    Source: sensor_msgs/CameraInfo; OpenCV calib3d and fisheye documentation.
    """

    width: int
    height: int
    K: np.ndarray
    model: Distortion = "plumb_bob"
    D: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.model not in get_args(Distortion):
            raise CalibrationError(f"distortion model '{self.model}' is unknown; use one of {', '.join(_COEFFICIENTS)}")
        matrix = np.asarray(self.K, float).reshape(-1)
        if matrix.size != 9 or not np.isfinite(matrix).all() or matrix[0] <= 0 or matrix[4] <= 0:
            raise CalibrationError(f"camera matrix {matrix.tolist()} needs 9 finite numbers with fx, fy > 0: is the camera calibrated?")
        if matrix[3] or matrix[6] or matrix[7] or matrix[8] != 1:
            raise CalibrationError(f"camera matrix {matrix.tolist()} is none: its last row must be 0 0 1; is it transposed?")
        coefficients = np.zeros(0) if self.D is None else np.asarray(self.D, float).reshape(-1)
        if len(coefficients) not in _COEFFICIENTS[self.model]:
            if np.any(coefficients):
                allowed = " or ".join(map(str, _COEFFICIENTS[self.model][1:]))
                raise CalibrationError(f"{self.model} takes {allowed} coefficients, got {len(coefficients)}")
            coefficients = np.zeros(0)  # drivers write any number of zeros for a lens without distortion
        if not np.isfinite(coefficients).all() or self.width <= 0 or self.height <= 0:
            raise CalibrationError(f"camera of {self.width}x{self.height} pixels with D={coefficients.tolist()} is impossible")
        object.__setattr__(self, "K", matrix.reshape(3, 3))
        object.__setattr__(self, "D", coefficients)

    def scaled(self, width: int, height: int) -> Camera:
        """Return the same lens read out at another image size (pixel centres at integers)."""
        sx, sy = width / self.width, height / self.height
        matrix = self.K.copy()
        matrix[0, 0], matrix[0, 1], matrix[0, 2] = matrix[0, 0] * sx, matrix[0, 1] * sx, (matrix[0, 2] + 0.5) * sx - 0.5
        matrix[1, 1], matrix[1, 2] = matrix[1, 1] * sy, (matrix[1, 2] + 0.5) * sy - 0.5
        return Camera(width, height, matrix, self.model, self.D)

    @cached_property
    def max_angle_rad(self) -> float:
        """Angle from the optical axis at which the distortion polynomial turns back; rays beyond it are not seen."""
        angles = np.linspace(0, _WIDEST_ANGLE_RAD[self.model], 4096)
        radius = self._radial(angles)
        folding = np.flatnonzero((np.diff(radius) <= 0) | ~np.isfinite(radius[1:]))
        return float(angles[folding[0]] if len(folding) else angles[-1])

    def _radial(self, angle_rad: np.ndarray) -> np.ndarray:
        """Distorted radius in the normalised plane of a ray at this angle from the axis (tangential part left out)."""
        k = np.zeros(12)
        k[: len(self.D)] = self.D
        if self.model == "equidistant":
            square = angle_rad**2
            return angle_rad * (1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3]))))
        r = np.tan(angle_rad)
        return r * self._radial_factor(r * r)

    def _radial_factor(self, square: np.ndarray) -> np.ndarray:
        k = np.zeros(12)
        k[: len(self.D)] = self.D
        factor = 1 + square * (k[0] + square * (k[1] + square * k[4]))
        if self.model == "rational_polynomial":
            factor = factor / (1 + square * (k[5] + square * (k[6] + square * k[7])))
        return factor

    def _distort(self, xy: np.ndarray) -> np.ndarray:
        """Distort (N, 2) normalised pinhole coordinates of a polynomial model."""
        p1, p2 = self.D[2:4] if len(self.D) else (0.0, 0.0)
        x, y = xy[:, 0], xy[:, 1]
        square = x * x + y * y
        factor = self._radial_factor(square)
        return np.stack(
            [
                x * factor + 2 * p1 * x * y + p2 * (square + 2 * x * x),
                y * factor + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=1,
        )

    def project(self, points_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project points of the optical frame into the image.

        Args:
            points_cam: (N, 3) metres, optical frame: x right, y down, z forward.
        Returns:
            uv_px (N, 2) float32 as (column, row), and inside (N,) bool: before the turning point of the lens and in the image.
        """
        points = np.asarray(points_cam, float)
        x, y, z = points[:, 0], points[:, 1], points[:, 2]
        radius = np.hypot(x, y)
        angle = np.arctan2(radius, z)
        seen = np.isfinite(angle) & (angle < self.max_angle_rad) & ((radius > 0) | (z > 0))
        uv = np.full((len(points), 2), -1.0)
        x, y, z, radius, angle = (values[seen] for values in (x, y, z, radius, angle))
        if self.model == "equidistant":
            scale = np.divide(self._radial(angle), radius, out=np.ones_like(radius), where=radius > 0)
            distorted = np.stack([x * scale, y * scale], axis=1)
        else:
            distorted = self._distort(np.stack([x / z, y / z], axis=1))
        uv[seen] = distorted @ self.K[:2, :2].T + self.K[:2, 2]
        # Pixel (0, 0) covers [-0.5, 0.5): a point on its far half is still seen by that pixel.
        inside = seen & (uv[:, 0] >= -0.5) & (uv[:, 0] < self.width - 0.5) & (uv[:, 1] >= -0.5) & (uv[:, 1] < self.height - 0.5)
        return uv.astype(np.float32), inside

    def unproject(self, uv_px: np.ndarray) -> np.ndarray:
        """Find the ray of each pixel.

        Args:
            uv_px: (M, 2) as (column, row).
        Returns:
            (M, 3) float64 unit directions in the optical frame; NaN where no ray reaches the pixel.
        """
        uv = np.asarray(uv_px, float)
        distorted = (uv - self.K[:2, 2]) @ np.linalg.inv(self.K[:2, :2]).T
        target = np.hypot(distorted[:, 0], distorted[:, 1])
        table = np.linspace(0, self.max_angle_rad * (1 - 1e-9), 8192)
        radial = self._radial(table)
        # Angle by table, then Newton on the radial curve; tangential terms follow by fixed-point steps.
        angle = np.interp(target, radial, table, right=np.nan)
        if self.model == "equidistant":
            for _ in range(3):
                slope = (self._radial(angle + 1e-6) - self._radial(angle - 1e-6)) / 2e-6
                angle = angle - (self._radial(angle) - target) / slope
            direction = np.divide(distorted, target[:, None], out=np.zeros_like(distorted), where=target[:, None] > 0)
            rays = np.concatenate([direction * np.sin(angle)[:, None], np.cos(angle)[:, None]], axis=1)
            rays[~(target <= radial[-1])] = np.nan
            return rays
        scale = np.divide(np.tan(angle), target, out=np.ones_like(target), where=target > 0)
        xy = distorted * scale[:, None]
        for _ in range(20):
            step = self._solve_step(xy, distorted)
            xy = xy - step
            if not np.nanmax(np.abs(step), initial=0.0) > 1e-13:
                break
        # Near the turning point of a lens Newton's steps may end beyond it, or nowhere.
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.abs(self._distort(xy) - distorted).max(axis=1)
            reached = (off < _SOLVED) & (np.arctan(np.hypot(xy[:, 0], xy[:, 1])) < self.max_angle_rad)
        rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
        rays[~reached] = np.nan
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def _solve_step(self, xy: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Newton step of distort(xy) = target with a numerical 2x2 Jacobian per point."""
        h = 1e-6
        here = self._distort(xy)
        dx = (self._distort(xy + [h, 0]) - here) / h
        dy = (self._distort(xy + [0, h]) - here) / h
        error = here - target
        determinant = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
        step = np.stack([dy[:, 1] * error[:, 0] - dy[:, 0] * error[:, 1], dx[:, 0] * error[:, 1] - dx[:, 1] * error[:, 0]], axis=1)
        return step / determinant[:, None]

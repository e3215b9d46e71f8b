"""One moment of a robot: a scan, the pictures taken next to it, and what is known about where everything was.

Frames come out of `FrameStore`; next rooms: teacher, distill, evaluate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import BagError, require
from xkd_ros.core.se3 import apply
from xkd_ros.pairing.visibility import visible_points


@dataclass(frozen=True, eq=False)
class View:
    """One camera's picture of a frame.

    Attributes:
        camera_name: Its name in the rig.
        camera: Intrinsics of the picture.
        cam_from_lidar: (4, 4) float64; points of the frame's scan, at the time of the frame, to the optical frame at the time of
            the picture: ego-motion is in it where the recording has poses.
        dt_ns: Stamp of the picture minus stamp of the scan.
        encoded: JPEG or PNG file.
    """

    camera_name: str
    camera: Camera
    cam_from_lidar: np.ndarray
    dt_ns: int
    encoded: bytes

    def rgb(self) -> np.ndarray:
        """Decode the picture: (H, W, 3) uint8.

        Raises:
            BagError: the bytes are damaged.
        """
        cv2 = require("cv2", "decoding images", "pip install opencv-python-headless")
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(self.encoded, np.uint8), flags) if self.encoded else None
        if image is None:
            raise BagError(f"picture of camera {self.camera_name} ({len(self.encoded)} bytes) cannot be decoded; write the frames again")
        return np.ascontiguousarray(image[:, :, ::-1])

    def see(self, points_m: np.ndarray, min_depth_m: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
        """Tell which points the camera sees, and where.

        Args:
            points_m: (N, 3) metres, of the frame's scan.
            min_depth_m: Nearer points are not counted as seen (METHODS 2.9), but hide what is behind them.
        Returns:
            uv_px (N, 2) float32 as (column, row), and visible (N,) bool: in the picture, far enough, and not behind another point.
        """
        points_cam = apply(self.cam_from_lidar, points_m)
        uv_px, inside = self.camera.project(points_cam)
        depth_m = np.linalg.norm(points_cam, axis=1)
        visible = visible_points(uv_px, depth_m, inside, self.camera.width, self.camera.height)
        return uv_px, visible & (depth_m >= min_depth_m)


@dataclass(frozen=True, eq=False)
class DecodedView(View):
    """A view whose picture is in memory already: `image` (H, W, 3) uint8."""

    image: np.ndarray

    def rgb(self) -> np.ndarray:
        """Return the picture."""
        return self.image


@dataclass(frozen=True, eq=False)
class Frame:
    """A scan with its pictures.

    Attributes:
        number: Place in its store.
        stamp_ns: Time of the scan; all points are where they were then, as far as odometry allows.
        source: Name of the recording (and lidar) it is from.
        rig: Name of its rig.
        split: "train", "val" or "test".
        points_m: (N, 3) float32, metres, lidar frame; measurements only, the robot's own body left out.
        intensity: (N,) float32 in the sensor's own unit, or None.
        levelled_from_lidar: (3, 3) float64.
        world_from_lidar: (4, 4) float64, or None without poses; the world is the odometry's, one per source.
        truth: (N,) uint8 true or hand-made labels, 255 unknown, or None. For evaluation; nothing learns from it unless it is asked to.
        views: One per picture; empty from `FrameStore.scan` and for scans without a picture.
        turn_rate_radps: How fast the lidar turned, or None without poses.
    """

    number: int
    stamp_ns: int
    source: str
    rig: str
    split: str
    points_m: np.ndarray
    intensity: np.ndarray | None
    levelled_from_lidar: np.ndarray
    world_from_lidar: np.ndarray | None = None
    truth: np.ndarray | None = None
    views: tuple[View, ...] = ()
    turn_rate_radps: float | None = None

    def __len__(self) -> int:
        return len(self.points_m)

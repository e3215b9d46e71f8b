"""A rig: one lidar, its mounting, and cameras with intrinsics and extrinsics, read from and written to YAML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from xkd_ros.core import config
from xkd_ros.core.camera import Camera, Distortion
from xkd_ros.core.files import write_atomic
from xkd_ros.core.se3 import rotation_from_rpy


class LidarConfig(BaseModel):
    """Where scans come from and how the sensor is mounted."""

    model_config = ConfigDict(extra="forbid")

    topic: str
    frame_id: str = ""
    rpy_deg: tuple[float, float, float] | None = Field(
        None, description="base_from_lidar roll, pitch, yaw; absent = estimated from the scans"
    )
    height_m: float | None = Field(None, description="sensor above the floor; informative only")

    def rotation(self) -> np.ndarray | None:
        """Return the (3, 3) levelled_from_lidar rotation without yaw, or None when it must be estimated."""
        if self.rpy_deg is None:
            return None
        roll, pitch, _ = np.radians(self.rpy_deg)
        return rotation_from_rpy(roll, pitch, 0.0)


class CameraConfig(BaseModel):
    """Intrinsics and extrinsics of one camera."""

    model_config = ConfigDict(extra="forbid")

    name: str
    topic: str
    frame_id: str = ""
    model: Distortion = "plumb_bob"
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    K: list[float] = Field(min_length=9, max_length=9)
    D: list[float] = Field(default_factory=list)
    cam_from_lidar: list[float] = Field(min_length=16, max_length=16, description="row-major 4x4, maps lidar points to the optical frame")

    @field_validator("cam_from_lidar")
    @classmethod
    def _rigid(cls, values: list[float]) -> list[float]:
        matrix = np.asarray(values, float).reshape(4, 4)
        rotation = matrix[:3, :3]
        if not np.isfinite(matrix).all() or not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-9):
            raise ValueError("the last row of a rigid transform is 0 0 0 1 and all numbers are finite")
        # 1e-3: hand-typed calibrations carry four to six digits.
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
            raise ValueError("the upper left 3x3 block is not a rotation")
        return values

    def camera(self) -> Camera:
        """Build the projection model."""
        return Camera(self.width, self.height, np.array(self.K), self.model, np.array(self.D))

    def transform(self) -> np.ndarray:
        """Return cam_from_lidar as (4, 4) float64."""
        return np.array(self.cam_from_lidar, float).reshape(4, 4)


class RigConfig(BaseModel):
    """A lidar and its cameras."""

    model_config = ConfigDict(extra="forbid")

    name: str
    lidar: LidarConfig
    cameras: list[CameraConfig] = Field(default_factory=list)


def load_rig(path: str | Path) -> RigConfig:
    """Read a rig YAML; raises ConfigError naming file and key."""
    return config.load_yaml(path, RigConfig)


def save_rig(rig: RigConfig, path: str | Path) -> None:
    """Write a rig YAML atomically."""
    write_atomic(path, yaml.safe_dump(rig.model_dump(mode="json", exclude_none=True), sort_keys=False, default_flow_style=None, width=160))

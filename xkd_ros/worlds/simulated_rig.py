"""A rig to simulate: the rig file that real recordings use too, and beside it what only a simulation needs to know.

The rigs that come with the package lie in `worlds/rigs/`: `NAME.yaml` is an ordinary rig file, `NAME.simulation.yaml` its companion.
A rig of one's own is simulated by passing the path of its YAML; without a companion file the defaults below apply.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from xkd_ros.core.config import load_yaml
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.rig import RigConfig, load_rig
from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.worlds.exposure import SensorModel
from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import UNLABELLED, Mesh, MeshBuilder
from xkd_ros.worlds.sensors import SENSORS
from xkd_ros.worlds.trajectory import Gait

_FOLDER = Path(__file__).parent / "rigs"
_COMPANION = ".simulation.yaml"
_DEFAULT_HEIGHT_M = 1.0
ImageKind = Literal["raw", "jpeg", "mono"]
Cloud = Literal["ouster", "velodyne", "hesai"]


class CarrierConfig(BaseModel):
    """How the rig is moved."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["robot", "handheld"] = "robot"
    speed_mps: float = Field(default=0.8, gt=0.05, le=3.0)
    tilt_deg: float = Field(default=1.0, ge=0, le=20)


class SimulationConfig(BaseModel):
    """What the rig file does not say."""

    model_config = ConfigDict(extra="forbid")

    lidar: str = Field(default="os1_16", description="sensor model, a name in worlds.sensors.SENSORS")
    lidar_xy_m: tuple[float, float] = Field(default=(0.0, 0.0), description="place of the lidar on the carrier: ahead, left")
    cloud: Cloud | None = Field(default=None, description="point fields and order of the driver; by default what the sensor speaks")
    images: ImageKind = Field(default="raw", description="sensor_msgs/Image rgb8, CompressedImage, or Image mono8")
    carrier: CarrierConfig = CarrierConfig()
    sensor: SensorModel = SensorModel()

    @field_validator("lidar")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SENSORS:
            raise ValueError(f"unknown lidar; use one of {', '.join(SENSORS)}")
        return name

    @model_validator(mode="after")
    def _fits(self) -> SimulationConfig:
        if self.cloud == "ouster" and SENSORS[self.lidar].empty == "omit":
            raise ValueError(f"{self.lidar} leaves out missing returns, cloud 'ouster' has a place for each; use velodyne or hesai")
        return self

    @property
    def driver(self) -> Cloud:
        """The cloud that is published."""
        return self.cloud or ("ouster" if SENSORS[self.lidar].row_major else "velodyne")


@dataclass(frozen=True)
class SimulatedRig:
    """A rig with everything needed to simulate it."""

    rig: RigConfig
    simulation: SimulationConfig

    def base_from_lidar(self) -> np.ndarray:
        """Return the lidar's place on the carrier, whose origin is on the floor; (4, 4) float64."""
        lidar = self.rig.lidar
        height = _DEFAULT_HEIGHT_M if lidar.height_m is None else lidar.height_m
        return make_transform(rotation_from_rpy(*np.radians(lidar.rpy_deg or (0.0, 0.0, 0.0))), (*self.simulation.lidar_xy_m, height))

    def gait(self) -> Gait:
        """Return how the carrier moves."""
        carrier = self.simulation.carrier
        tilt = float(np.radians(carrier.tilt_deg))
        return Gait(carrier.speed_mps, tilt) if carrier.kind == "robot" else Gait(carrier.speed_mps, tilt, 0.02, 0.45, 1.7)

    def body(self) -> Mesh:
        """Return the parts of the carrier that stand in the lidar's way, in the lidar's frame; none has a class."""
        b = MeshBuilder()
        b.frame()
        if self.simulation.carrier.kind == "robot":
            b.box(-0.16, 0.0, -0.46, 0.62, 0.46, 0.2, UNLABELLED, Slot.PLASTIC_DARK)
            b.cylinder(0.0, 0.0, -0.28, 0.045, 0.22, UNLABELLED, Slot.METAL)
            for side in (-1, 1):
                b.cylinder(-0.34, side * 0.17, -0.3, 0.014, 0.75, UNLABELLED, Slot.METAL)
        else:
            b.box(0.02, 0.0, -0.24, 0.1, 0.14, 0.12, UNLABELLED, Slot.PLASTIC_DARK)
            b.box(-0.38, 0.0, -0.75, 0.24, 0.44, 0.62, UNLABELLED, Slot.CLOTH)
            b.sphere(-0.36, 0.0, 0.03, 0.1, 0.09, 0.13, UNLABELLED, Slot.HAIR)
        mesh = b.build()
        # The carrier is level, the lidar is mounted at an angle.
        level_from_lidar = self.base_from_lidar()[:3, :3]
        return replace(mesh, vertices=(mesh.vertices @ level_from_lidar).astype(np.float32))


def rig_names() -> tuple[str, ...]:
    """Return the names of the rigs that come with the package."""
    return tuple(sorted(path.name.removesuffix(_COMPANION) for path in _FOLDER.glob(f"*{_COMPANION}")))


def load_simulated_rig(name: str | Path) -> SimulatedRig:
    """Load a rig by its name, or by the path of a rig YAML.

    Raises:
        ConfigError: no such rig; names those that exist.
    """
    path = Path(name)
    if str(name) in rig_names():
        path = _FOLDER / f"{name}.yaml"
    elif not path.is_file():
        raise ConfigError(f"rig '{name}' is neither a known rig ({', '.join(rig_names())}) nor a rig YAML; pass one of them")
    companion = path.with_name(path.stem + _COMPANION)
    simulation = load_yaml(companion, SimulationConfig) if companion.is_file() else SimulationConfig()
    return SimulatedRig(load_rig(path), simulation)

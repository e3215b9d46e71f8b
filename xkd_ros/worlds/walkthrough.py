"""One rig walking through one building: what its lidar, cameras and odometry measure at any moment.

Comes in: a building seed and a rig. Goes out: scans with true labels, pictures and poses, for `simulate`. Every measurement draws from a
generator of its own, so that it does not depend on which others were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.se3 import invert, make_transform, rotation_from_rpy
from xkd_ros.core.types import Scan
from xkd_ros.worlds.building import make_building
from xkd_ros.worlds.camera import CameraRenderer, Look, Picture
from xkd_ros.worlds.crowd import MOST_WALKERS, WALKERS, Crowd
from xkd_ros.worlds.lidar import LidarModel
from xkd_ros.worlds.mesh import concatenate
from xkd_ros.worlds.motion import Track
from xkd_ros.worlds.raycaster import Raycaster
from xkd_ros.worlds.sensors import SENSORS
from xkd_ros.worlds.shading import Shader
from xkd_ros.worlds.simulated_rig import SimulatedRig
from xkd_ros.worlds.textures import family_index
from xkd_ros.worlds.trajectory import make_trajectory

SCAN_PERIOD_S = 0.1
ODOMETRY_PERIOD_S = 0.02
_SPLITS = (("train", range(0, 60)), ("val", range(60, 75)), ("test", range(75, 100)))
_EARLIEST_S, _LATEST_S = 0.004, 0.03
_KNOTS = 11  # poses during one turn of the lidar
_STREAMS = ("trajectory", "people", "scan", "picture", "odometry", "trigger")


def split_of(seed: int) -> str:
    """Return the benchmark split of a building seed: train 0-59, val 60-74, test 75-99, extra for all others."""
    return next((name for name, seeds in _SPLITS if seed in seeds), "extra")


def family_of(seed: int) -> str:
    """Return the texture family that a building shows: validation and test buildings look different from training buildings."""
    return "test" if split_of(seed) in ("val", "test") else "train"


def scans_in(seconds: float) -> int:
    """Count the scans of a walk."""
    return max(1, round(seconds / SCAN_PERIOD_S))


class Walkthrough:
    """A rig in a building.

    Args:
        seed: Of the building, the way, the people and all noise.
        rig: The rig.
        seconds: Length of the walk.
        family: Texture family; the one of the seed's split when None.
        walkers: People added who walk about.
    Raises:
        ConfigError: impossible seed, length or number of people, or an unknown family.
    """

    def __init__(self, seed: int, rig: SimulatedRig, seconds: float, family: str | None = None, walkers: int = WALKERS) -> None:
        if seed < 0:
            raise ConfigError(f"building seed {seed} is negative; use 0-59 (train), 60-74 (val), 75-99 (test) or any larger number")
        if not 0.2 <= seconds <= 3600:
            raise ConfigError(f"{seconds} seconds cannot be simulated; choose 0.2 to 3600")
        if not 0 <= walkers <= MOST_WALKERS:
            raise ConfigError(f"{walkers} walkers cannot be simulated; choose 0 to {MOST_WALKERS}")
        self.seed, self.rig, self.seconds, self.family = seed, rig, float(seconds), family or family_of(seed)
        self.walkers = walkers
        family_index(self.family)
        self.building = make_building(seed)
        self._base_from_lidar = rig.base_from_lidar()
        self._caster = Raycaster(self.building.mesh)
        self._lidar = LidarModel(SENSORS[rig.simulation.lidar])
        self._body = Raycaster(rig.body())
        self.trajectory = make_trajectory(self.building, self._rng("trajectory"), seconds + SCAN_PERIOD_S, rig.gait())
        self.crowd = Crowd(self.building, self.trajectory, self._rng("people"), seconds + SCAN_PERIOD_S, walkers)
        self._renderers: list[CameraRenderer] = []
        if rig.rig.cameras:
            shader = Shader(self.building, self.family, self._caster)
            self._renderers = [CameraRenderer(camera.camera(), shader, rig.simulation.sensor) for camera in rig.rig.cameras]

    def _rng(self, stream: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, _STREAMS.index(stream), *numbers])

    @property
    def scans(self) -> int:
        """Number of scans."""
        return scans_in(self.seconds)

    def world_from_lidar(self, time_s: float) -> np.ndarray:
        """Return the lidar's pose at a moment; (4, 4) float64."""
        return self.trajectory.pose(time_s) @ self._base_from_lidar

    def scan(self, index: int, start_ns: int = 0, keep_empty: bool = False) -> tuple[Scan, np.ndarray]:
        """Take one scan; see `LidarModel.scan`.

        Args:
            index: Number of the scan.
            start_ns: Stamp of second zero.
            keep_empty: Keep one point per ray.
        Returns:
            The scan, distorted by the motion during its turn, and labels (N,) uint8.
        """
        time_s = index * SCAN_PERIOD_S
        pose = self.world_from_lidar(time_s)
        knots = np.linspace(0, SCAN_PERIOD_S, _KNOTS)
        motion = Track(knots, np.stack([invert(pose) @ self.world_from_lidar(time_s + float(knot)) for knot in knots]))
        # People stand still during the turn, where they are in its middle.
        people = self.crowd.at(time_s + SCAN_PERIOD_S / 2)
        caster = self._caster.with_meshes([concatenate([p.mesh_in_world() for p in people])]) if people else self._caster
        stamp_ns = start_ns + round(time_s * 1e9)
        return self._lidar.scan(
            caster,
            self.building.materials,
            pose,
            self._rng("scan", index),
            motion,
            self._body,
            stamp_ns,
            self.rig.rig.lidar.frame_id,
            keep_empty,
        )

    def picture_time_s(self, camera: int, index: int) -> float:
        """Return when a camera takes its picture: free-running, a few to thirty milliseconds after the scan begins."""
        rng = self._rng("trigger", camera, index)
        middle, half = (_EARLIEST_S + _LATEST_S) / 2, (_LATEST_S - _EARLIEST_S) / 2
        late = middle + half * (0.85 * np.sin(0.21 * index + 2.0 * camera + self.seed) + 0.15 * float(rng.uniform(-1, 1)))
        return index * SCAN_PERIOD_S + float(late)

    def picture(self, camera: int, index: int) -> Picture:
        """Render one picture of one camera at its own moment; its exposure follows those of the pictures asked for before."""
        return self.develop(camera, index, self.look(camera, index))

    def look(self, camera: int, index: int) -> Look:
        """Compute what falls into one camera at its own moment."""
        time_s = self.picture_time_s(camera, index)
        world_from_cam = self.world_from_lidar(time_s) @ invert(self.rig.rig.cameras[camera].transform())
        return self._renderers[camera].look(world_from_cam, self.crowd.at(time_s))

    def develop(self, camera: int, index: int, look: Look) -> Picture:
        """Make a picture of a look; see `picture`."""
        return self._renderers[camera].develop(look, self._rng("picture", camera, index))

    def odometry(self) -> Iterator[tuple[float, np.ndarray, np.ndarray, float]]:
        """Give time, odom_from_base (4, 4) with a small drift, velocity (3,) in the base frame and yaw rate."""
        rng = self._rng("odometry")
        scale = 1 + float(rng.normal(0, 0.01))
        pose, before = np.eye(4), self.trajectory.pose(0.0)
        for step in range(int(self.seconds / ODOMETRY_PERIOD_S) + 1):
            now = self.trajectory.pose(step * ODOMETRY_PERIOD_S)
            moved = invert(before) @ now
            turn = float(np.arctan2(moved[1, 0], moved[0, 0]))
            shaken = make_transform(moved[:3, :3] @ rotation_from_rpy(0, 0, float(rng.normal(0, 2e-4)) + 0.01 * turn), moved[:3, 3] * scale)
            pose, before = pose @ shaken, now
            yield step * ODOMETRY_PERIOD_S, pose, moved[:3, 3] / ODOMETRY_PERIOD_S, turn / ODOMETRY_PERIOD_S

    def visible_share(self) -> float:
        """Return the share of doors and windows that a lidar can see above its noise; it bounds what a lidar student can reach."""
        cues = np.concatenate([[door.has_lidar_cue for door in self.building.doors], self.building.window_cues]).astype(float)
        return float(cues.mean()) if len(cues) else 1.0

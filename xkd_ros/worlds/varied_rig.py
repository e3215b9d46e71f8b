"""Another rig for every building: the rigs of the package with other lidars, heights and tilts.

They stand for the recordings of many robots. What learning from them changed is in docs/labelfree.md.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.worlds.sensors import SENSORS
from xkd_ros.worlds.simulated_rig import SimulatedRig, load_simulated_rig

VARIED = "varied"
"""Name that stands for these rigs."""

_BASES = ("ouster16", "vlp32", "xt32_handheld", "dual_ouster16_horizontal")
_MOST_RAYS = 66_000
_TILT_DEG, _LARGEST_TILT_DEG = 6.0, 15.0
_HEIGHT_M = {"robot": (0.3, 1.5), "handheld": (1.0, 2.0)}


def varied_rig(number: int) -> SimulatedRig:
    """Draw a rig; the same number gives the same one. Its cameras are mounted to the lidar, so they rise and tilt with it.

    Args:
        number: Any non-negative integer.
    """
    rng = np.random.default_rng([number, 0x5EED])
    base = load_simulated_rig(str(rng.choice(_BASES)))
    names = sorted(name for name, sensor in SENSORS.items() if len(sensor.elevations_deg) * sensor.columns <= _MOST_RAYS)
    lidar = str(rng.choice(names))
    roll, pitch = np.clip(rng.normal(0.0, _TILT_DEG, 2), -_LARGEST_TILT_DEG, _LARGEST_TILT_DEG)
    low, high = _HEIGHT_M[base.simulation.carrier.kind]
    mounting = {"rpy_deg": (round(float(roll), 2), round(float(pitch), 2), 0.0), "height_m": round(float(rng.uniform(low, high)), 2)}
    return SimulatedRig(
        base.rig.model_copy(update={"name": f"{VARIED}-{number:03d}", "lidar": base.rig.lidar.model_copy(update=mounting)}),
        base.simulation.model_copy(update={"lidar": lidar, "cloud": None}),
    )

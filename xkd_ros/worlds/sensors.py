"""Spinning lidars as data sheets describe them: beam angles, columns, noise, ranges, and how they report intensity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# VLP-32C elevations, data sheet 63-9378 (channel order does not matter here)
_VLP32C = (
    -25.0,
    -15.639,
    -11.31,
    -8.843,
    -7.254,
    -6.148,
    -5.333,
    -4.667,
    -4.0,
    -3.667,
    -3.333,
    -3.0,
    -2.667,
    -2.333,
    -2.0,
    -1.667,
    -1.333,
    -1.0,
    -0.667,
    -0.333,
    0.0,
    0.333,
    0.667,
    1.0,
    1.333,
    1.667,
    2.333,
    3.333,
    4.667,
    7.0,
    10.333,
    15.0,
)
# RS-LiDAR-32 elevations: dense around the horizon like the VLP-32C
_RS32 = (
    -25.0,
    -14.638,
    -10.281,
    -8.352,
    -6.424,
    -5.407,
    -4.708,
    -4.0,
    -3.666,
    -3.333,
    -3.0,
    -2.667,
    -2.333,
    -2.0,
    -1.667,
    -1.333,
    -1.0,
    -0.667,
    -0.333,
    0.0,
    0.333,
    0.667,
    1.0,
    1.333,
    1.667,
    2.333,
    3.333,
    4.667,
    7.0,
    10.333,
    12.9,
    15.0,
)


@dataclass(frozen=True)
class Sensor:
    """What a lidar model can do.

    Attributes:
        name: Short name.
        elevations_deg: Beam elevations, ascending.
        columns: Firings per turn.
        noise_m: Standard deviation of range at zero range.
        noise_per_m: Growth of it per metre.
        min_range_m: Nothing nearer is reported.
        max_range_m: Nothing farther is reported.
        range_step_m: Quantisation of range.
        calibrated: Intensity is corrected for range (reflectivity) or raw signal strength.
        intensity_max: Largest value reported.
        intensity_step: Quantisation of intensity.
        row_major: Points are stored beam by beam (Ouster) or firing by firing.
        empty: What a missing return becomes in a cloud of fixed size: omit, zero or nan.
    """

    name: str
    elevations_deg: tuple[float, ...]
    columns: int
    noise_m: float = 0.012
    noise_per_m: float = 0.0006
    min_range_m: float = 0.3
    max_range_m: float = 100.0
    range_step_m: float = 0.002
    calibrated: bool = True
    intensity_max: float = 255.0
    intensity_step: float = 1.0
    row_major: bool = False
    empty: str = "omit"


def _fan(low: float, high: float, beams: int) -> tuple[float, ...]:
    return tuple(float(v) for v in np.linspace(low, high, beams))


def _ouster(name: str, half_deg: float, beams: int, columns: int, noise: float) -> Sensor:
    return Sensor(name, _fan(-half_deg, half_deg, beams), columns, noise, 0.0004, 0.3, 120.0, 0.001, False, 6000.0, 1.0, True, "zero")


SENSORS: dict[str, Sensor] = {
    s.name: s
    for s in (
        Sensor("vlp16", _fan(-15, 15, 16), 1800, 0.012, 0.0008, 0.4, 100.0, 0.002),
        Sensor("vlp16_900", _fan(-15, 15, 16), 900, 0.012, 0.0008, 0.4, 100.0, 0.002),
        Sensor("vlp32c", _VLP32C, 1800, 0.012, 0.0008, 0.4, 200.0, 0.004),
        Sensor("hdl32", _fan(-30.67, 10.67, 32), 1800, 0.012, 0.0006, 0.5, 100.0, 0.002),
        Sensor("rs16", _fan(-15, 15, 16), 1800, 0.012, 0.001, 0.2, 150.0, 0.005, empty="nan"),
        Sensor("rs32", _RS32, 1800, 0.012, 0.001, 0.3, 200.0, 0.005, empty="nan"),
        Sensor("xt32", _fan(-16, 15, 32), 2000, 0.006, 0.0003, 0.1, 120.0, 0.004),
        Sensor("xt16", _fan(-15, 15, 16), 2000, 0.006, 0.0003, 0.1, 120.0, 0.004),
        Sensor("pandar40", _fan(-16, 7, 40), 1800, 0.01, 0.0005, 0.3, 200.0, 0.004),
        Sensor("helios32", _fan(-55, 15, 32), 1800, 0.012, 0.0008, 0.2, 150.0, 0.0025, empty="nan"),
        Sensor("bpearl", _fan(-2, 89, 32), 900, 0.015, 0.001, 0.1, 30.0, 0.005, empty="nan"),
        Sensor("mid360", _fan(-7, 52, 40), 600, 0.012, 0.0008, 0.1, 40.0, 0.001),
        _ouster("os1_16", 16.6, 16, 1024, 0.012),
        _ouster("os1_32", 22.5, 32, 1024, 0.008),
        _ouster("os1_64_gen1", 16.6, 64, 1024, 0.012),
        _ouster("os1_64", 22.5, 64, 1024, 0.008),
        _ouster("os1_128", 22.5, 128, 1024, 0.008),
        _ouster("os0_32", 45.0, 32, 1024, 0.01),
        _ouster("os0_64", 45.0, 64, 1024, 0.01),
        _ouster("os0_128", 45.0, 128, 1024, 0.01),
        _ouster("os2_64", 11.25, 64, 1024, 0.012),
    )
}

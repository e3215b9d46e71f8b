"""From light to pixels: exposure that follows the scene, lens shading, blur, sensor noise, tone curve.

Comes in: linear radiance. Goes out: 8-bit RGB, as a camera driver would publish it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.core.camera import Camera

_TONES = 4096
_MIDDLE = 0.23
_WHITE = 6.0


@dataclass(frozen=True)
class SensorModel:
    """What a camera does to the light.

    Attributes:
        noise: Standard deviation at mid grey, in 8-bit steps.
        blur_px: Standard deviation of the lens blur.
        vignetting: Share of light lost in the corners.
        adaptation: How much of the missing exposure is corrected from one picture to the next, 0..1.
        mono: Publish grey pictures (three equal channels).
        tint: Gain of red, green and blue: imperfect white balance.
    """

    noise: float = 2.0
    blur_px: float = 0.55
    vignetting: float = 0.35
    adaptation: float = 0.35
    mono: bool = False
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Exposure:
    """Develops the pictures of one camera one after the other.

    Args:
        camera: Size and principal point.
        sensor: Noise, blur, vignetting and so on.
    """

    def __init__(self, camera: Camera, sensor: SensorModel) -> None:
        self._size = (camera.height, camera.width)
        self._sensor = sensor
        rows, columns = np.mgrid[0 : camera.height, 0 : camera.width].astype(np.float32)
        radius = (columns - camera.K[0, 2]) ** 2 + (rows - camera.K[1, 2]) ** 2
        self._shading = (1 - sensor.vignetting * radius / radius.max()).astype(np.float32)
        curve = np.linspace(0, _WHITE, _TONES)
        # Rolls off towards white instead of clipping, then the usual display gamma.
        tone = 1 - np.exp(-1.25 * curve)
        self._tone = (255 * (tone / tone[-1]) ** (1 / 2.2)).astype(np.float32)
        self._gain: float | None = None

    def develop(self, rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Turn radiance into a picture.

        Args:
            rgb: (3, M) float32 linear radiance, row by row.
            rng: Noise of this picture.
        Returns:
            (H, W, 3) uint8.
        """
        import cv2

        luminance = rgb[1, ::7]
        # Meters like a camera that protects neither lamps nor sky: geometric mean of what is not extreme.
        wanted = _MIDDLE / max(float(np.exp(np.log(np.clip(luminance, 0.01, 2.0)).mean())), 1e-3)
        self._gain = wanted if self._gain is None else self._gain * (wanted / self._gain) ** self._sensor.adaptation
        scale = np.float32(self._gain * (_TONES - 1) / _WHITE)
        picture = cv2.merge([rgb[k].reshape(self._size) * (self._shading * (scale * np.float32(self._sensor.tint[k]))) for k in range(3)])
        if self._sensor.blur_px > 0:
            # Clip first: a lamp must not smear over its surroundings.
            picture = cv2.GaussianBlur(np.minimum(picture, np.float32(_TONES - 1)), (3, 3), self._sensor.blur_px)
        tones = self._tone[np.clip(picture, 0, _TONES - 1).astype(np.int16)]
        if self._sensor.mono:
            tones = np.repeat((tones @ np.array([0.3, 0.59, 0.11], np.float32))[..., None], 3, axis=2)
        # Photon noise is stronger in the dark once the tone curve has lifted it.
        strength = np.float32(self._sensor.noise) * (np.float32(1.5) - tones * np.float32(1 / 255))
        noise = rng.standard_normal(self._size + ((1,) if self._sensor.mono else (3,)), dtype=np.float32)
        return np.clip(tones + strength * noise + np.float32(0.5), 0, 255).astype(np.uint8)

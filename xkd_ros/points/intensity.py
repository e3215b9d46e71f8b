"""Intensity of any sensor, brought to mean 0 and spread 1.

In: raw intensities in the sensor's own unit (0..1, 0..255, 16-bit signal counts). Out: float32 around 0, absent = 0.
The statistics live in the model card for training, and are learnt from the stream in a node. Next room: features.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.core.card import IntensityConfig

LOW_QUANTILE, HIGH_QUANTILE = 0.01, 0.995
WIDE_RANGE = 512.0  # an 8-bit sensor never reaches this; 16-bit signals spread over decades and need the logarithm
FLAT = 1e-6  # a spread below this share of the level is a constant channel, which says nothing
OFF_CENTRE, TOO_NARROW = 2.0, 0.2  # in spreads of the training: beyond these a scan was not normalised but cut off or squeezed
BIN_SHIFT = 16  # a bin is the upper half of a non-negative float32: 128 bins per octave, the same for every unit
BINS = 0x7F80  # up to +inf, which is excluded


def fit(values: np.ndarray) -> IntensityConfig:
    """Learn the normalisation from raw intensities.

    Args:
        values: (N,) intensities of one sensor, any unit; NaN, infinite and negative values are left out.
    Returns:
        Clip limits at 1 and 99.5 %, log1p for wide ranges, and mean and spread after both.
    """
    return _config_from_histogram(_histogram(values))


def normalise(values: np.ndarray | None, config: IntensityConfig, count: int) -> np.ndarray:
    """Clip, optionally take log1p, and standardise.

    Args:
        values: (N,) raw intensities, or None where the sensor has none.
        config: Statistics of this sensor; with `per_scan` they are taken from `values` instead.
        count: N, the number of points.
    Returns:
        (N,) float32; 0, the mean, where the intensity is absent or not a number.
    """
    if values is None:
        return np.zeros(count, dtype=np.float32)
    if config.per_scan:
        config = fit(values)
    scaled = np.array(values, dtype=np.float32)
    np.clip(scaled, config.low, config.high, out=scaled)
    if config.log1p:
        np.log1p(np.maximum(scaled, 0.0, out=scaled), out=scaled)
    scaled -= np.float32(config.mean)
    scaled *= np.float32(1.0 / config.std)
    np.nan_to_num(scaled, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return scaled


def scale_problem(values: np.ndarray, config: IntensityConfig) -> str:
    """Say in one line when a sensor's intensities do not fit the statistics that they are normalised with; empty when they do.

    Args:
        values: (N,) raw intensities of one scan.
        config: Statistics of the model's training; with `per_scan` every scale fits.
    """
    values = values[np.isfinite(values)]
    if config.per_scan or len(values) == 0:
        return ""
    scaled = normalise(values, config, len(values))
    if abs(scaled.mean()) <= OFF_CENTRE and TOO_NARROW <= scaled.std() <= 1 / TOO_NARROW:
        return ""
    low, high = np.quantile(values, (LOW_QUANTILE, HIGH_QUANTILE))
    return f"intensity {low:.3g} .. {high:.3g} of this sensor is another scale than {config.low:.3g} .. {config.high:.3g} of the model"


class OnlineIntensity:
    """Statistics of a sensor that nobody has described, learnt over its first scans and slowly after.

    Keeps one histogram with a fixed number of bins, so memory does not grow and the same scans give the same result.
    """

    def __init__(self, prior: IntensityConfig | None = None, min_points: int = 2000, memory_points: int = 4_000_000) -> None:
        """Start without knowledge.

        Args:
            prior: Used until enough points were seen. None: the first scan is fitted however small it is.
            min_points: Points after which the own statistics replace the prior.
            memory_points: Older scans are halved in weight whenever more points than this are remembered.
        """
        self._prior = prior
        self._min_points = min_points if prior is not None else 1
        self._memory_points = memory_points
        self._histogram = np.zeros((2, BINS))
        self._refresh_at = 0.0
        self._seen = 0.0
        self._config = prior or IntensityConfig(std=1.0)

    @property
    def config(self) -> IntensityConfig:
        """What is known now."""
        return self._config

    def update(self, values: np.ndarray | None) -> IntensityConfig:
        """Add a scan and return the statistics to normalise it with.

        Args:
            values: (N,) raw intensities of the valid points, or None.
        """
        if values is None:
            return self._config
        self._histogram += _histogram(values)
        self._seen = float(self._histogram[0].sum())
        if self._seen > self._memory_points:
            self._histogram *= 0.5
            self._seen *= 0.5
            self._refresh_at = min(self._refresh_at, self._seen)
        # Statistics settle with the logarithm of what was seen: refreshing at every 10 % more costs nothing later on.
        if self._seen >= max(self._refresh_at, self._min_points):
            self._config = _config_from_histogram(self._histogram)
            self._refresh_at = 1.1 * self._seen
        return self._config


def _histogram(values: np.ndarray) -> np.ndarray:
    """Count values (N,) in bins of equal ratio, the upper bits of a float32 that is not negative growing with its value.

    Returns:
        (2, BINS) float64: how many, and their sum.
    """
    raw = np.asarray(values, dtype=np.float32).ravel()
    raw = np.where(raw >= 0.0, raw, np.float32(np.nan)) + np.float32(0.0)  # NaN and negatives out, -0 becomes +0
    bins = raw.view(np.uint32) >> BIN_SHIFT
    usable = bins < BINS
    bins, raw = bins[usable], raw[usable]
    return np.stack([np.bincount(bins, minlength=BINS), np.bincount(bins, raw, minlength=BINS)]).astype(np.float64)


def _config_from_histogram(histogram: np.ndarray) -> IntensityConfig:
    count, total = histogram[:, histogram[0] > 0]
    if len(count) == 0:
        return IntensityConfig(std=1.0)
    values, weight = total / count, count / count.sum()
    cumulated = np.cumsum(weight)
    low, high = (
        float(values[min(int(np.searchsorted(cumulated, share - 1e-12)), len(values) - 1)]) for share in (LOW_QUANTILE, HIGH_QUANTILE)
    )
    log1p = high > WIDE_RANGE
    clipped = np.clip(values, low, high)
    if log1p:
        clipped = np.log1p(clipped)
    mean = float(weight @ clipped)
    std = float(np.sqrt(weight @ (clipped - mean) ** 2))
    if std <= FLAT * max(abs(mean), FLAT):
        std = 1.0
    return IntensityConfig(low=low, high=high, mean=mean, std=std, log1p=log1p)

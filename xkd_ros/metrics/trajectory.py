"""How far an estimated trajectory is from the true one: as a whole, and per metre travelled or second passed.

Source: Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012: absolute trajectory error and relative pose error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.core.errors import ShapeError
from xkd_ros.core.se3 import make_transform

_FEWEST = 3


@dataclass(frozen=True)
class RelativeError:
    """Root mean squares over all stretches of one length.

    Attributes:
        translation_m: Metres of drift per stretch; NaN when no stretch is that long.
        rotation_deg: Degrees of drift per stretch.
        stretches: How many.
    """

    translation_m: float
    rotation_deg: float
    stretches: int


def align_rigidly(estimated_m: np.ndarray, true_m: np.ndarray) -> np.ndarray:
    """Find true_from_estimated (4, 4), the rotation and shift (no scale) with the smallest sum of squared distances.

    Args:
        estimated_m: (T, 3) positions, T >= 3.
        true_m: (T, 3) positions at the same moments.
    Raises:
        ShapeError: not two lists of at least three positions, one for one.
    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eq. 40-42.
    """
    if np.shape(estimated_m) != np.shape(true_m) or np.ndim(true_m) != 2 or np.shape(true_m)[1] != 3 or len(true_m) < _FEWEST:
        raise ShapeError(
            f"positions {np.shape(estimated_m)} and {np.shape(true_m)} cannot be aligned; (T, 3) each, at least {_FEWEST} moments"
        )
    estimated_middle, true_middle = estimated_m.mean(0), true_m.mean(0)
    left, _, right = np.linalg.svd((true_m - true_middle).T @ (estimated_m - estimated_middle))
    # A mirror image may fit better, and no rigid body moves into it.
    proper = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ proper @ right
    return make_transform(rotation, true_middle - rotation @ estimated_middle)


def absolute_error_m(estimated: np.ndarray, true: np.ndarray) -> float:
    """Compute the root mean square distance of positions after rigid alignment (ATE RMSE).

    Args:
        estimated: (T, 4, 4) world_from_sensor, in any world frame.
        true: (T, 4, 4) at the same moments.
    Raises:
        ShapeError: as for `align_rigidly`.
    """
    true_from_estimated = align_rigidly(estimated[:, :3, 3], true[:, :3, 3])
    moved = estimated[:, :3, 3] @ true_from_estimated[:3, :3].T + true_from_estimated[:3, 3]
    return float(np.sqrt(np.square(moved - true[:, :3, 3]).sum(1).mean()))


def relative_error(estimated: np.ndarray, true: np.ndarray, along: np.ndarray, length: float) -> RelativeError:
    """Compute the relative pose error: how much of a stretch's true motion the estimate has wrong.

    Args:
        estimated: (T, 4, 4) world_from_sensor; the sensor frame is that of `true`, the world may be another.
        true: (T, 4, 4) at the same moments.
        along: (T,) ascending: seconds, or metres travelled (`travelled_m`).
        length: Of a stretch, in the unit of `along`; each pose begins one, which ends at the first pose at least that far on.
    """
    ends = np.searchsorted(along, np.asarray(along) + length - 1e-9)
    starts = np.flatnonzero(ends < len(along))
    if not len(starts):
        return RelativeError(float("nan"), float("nan"), 0)
    ends = ends[starts]
    wrong = np.linalg.inv(np.linalg.inv(true[starts]) @ true[ends]) @ (np.linalg.inv(estimated[starts]) @ estimated[ends])
    shift = np.linalg.norm(wrong[:, :3, 3], axis=1)
    # The half angle from the Frobenius distance to the identity, exact for small angles where the trace is not.
    half = np.linalg.norm(wrong[:, :3, :3] - np.eye(3), axis=(1, 2)) / np.sqrt(8)
    turn = np.degrees(2 * np.arcsin(np.clip(half, 0, 1)))
    return RelativeError(float(np.sqrt(np.square(shift).mean())), float(np.sqrt(np.square(turn).mean())), len(starts))


def travelled_m(poses: np.ndarray) -> np.ndarray:
    """Return (T,) metres of way up to each of the (T, 4, 4) poses."""
    return np.append(0.0, np.cumsum(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)))

"""The yaw along whose walls a scan is turned, as `points.heading` finds it, with fixed shapes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from xkd_ros.device.fixed_shapes import of_largest
from xkd_ros.device.voxels import voxel_sample
from xkd_ros.points.heading import BIN_M, COARSE_DEG, FINE_DEG, LARGEST_VOTES, LEAST_POINTS, REACH_M, VOXEL_M


def estimate_heading(points: Tensor, usable: Tensor) -> Tensor:
    """Find the yaw that makes the marginal distributions of x and y most peaked.

    Args:
        points: (M, 3) float32, levelled.
        usable: (M,) bool; other points may hold anything.
    Returns:
        () float64 radians, as `points.heading.estimate_heading`.
    """
    close = usable & (points[:, 0].abs() < REACH_M) & (points[:, 1].abs() < REACH_M)
    chosen, count = voxel_sample(points, close, VOXEL_M, len(points))
    step = ((count + LARGEST_VOTES - 1) // LARGEST_VOTES).clamp(min=1)
    vote = torch.arange(LARGEST_VOTES, device=points.device) * step
    votes = vote < count
    # Who does not vote may be no number or far away, and would count in a bin that is not there.
    xy = torch.where(votes.unsqueeze(1), points[chosen[vote.clamp(max=len(points) - 1)], :2], 0.0).double()
    coarse = torch.arange(-45.0, 45.0, COARSE_DEG, dtype=torch.float64, device=points.device) * (np.pi / 180)
    best = of_largest(coarse, _peakedness(xy, votes, coarse))
    offsets = torch.arange(-COARSE_DEG, COARSE_DEG + FINE_DEG / 2, FINE_DEG, dtype=torch.float64, device=points.device)
    fine = best + offsets * (np.pi / 180)
    angle = of_largest(fine, _peakedness(xy, votes, fine))
    turned = (angle + np.pi / 4) % (np.pi / 2) - np.pi / 4
    return torch.where(close.sum() < LEAST_POINTS, 0.0, turned)


def turn(yaw: Tensor) -> Tensor:
    """Make the (3, 3) rotation about z by () radians."""
    cosine, sine, zero = yaw.cos(), yaw.sin(), torch.zeros_like(yaw)
    return torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, zero + 1]).view(3, 3)


def _peakedness(xy: Tensor, votes: Tensor, angles: Tensor) -> Tensor:
    """Score (A,) angles by (V, 2) places of which (V,) vote; see `kernels.heading.peakedness`."""
    reach, bins = 2 * REACH_M, int(4 * REACH_M / BIN_M) + 2
    cosine, sine = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    along = torch.stack([cosine * xy[:, 0] - sine * xy[:, 1], sine * xy[:, 0] + cosine * xy[:, 1]], 1)  # (A, 2, V)
    column = ((along + reach) / xy.new_full((1,), BIN_M)).to(torch.int64)
    # Whole numbers below 2^53: the order of the sums does not matter.
    counts = xy.new_zeros(len(angles), 2, bins).scatter_add_(2, column, votes.double().expand(len(angles), 2, -1))
    return (counts * counts).sum((1, 2)) + (counts[..., 1:] * counts[..., :-1]).sum((1, 2))

"""One existing point per voxel, as `points.voxels` chooses it, with fixed shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from xkd_ros.device.fixed_shapes import compact
from xkd_ros.points.voxels import AXIS_BITS

_NOWHERE = 2**63 - 1


def voxel_sample(points: Tensor, usable: Tensor, voxel_m: float, room: int) -> tuple[Tensor, Tensor]:
    """Choose the first point, in array order, of each occupied voxel.

    Args:
        points: (M, 3) float32, metres.
        usable: (M,) bool; other points may hold anything.
        voxel_m: Edge of a voxel; the grid starts at the minimum of the usable points.
        room: R, most voxels.
    Returns:
        (R,) int64 indices into the points, in the order of the voxels, 0 where there is none; and () int64, the number of voxels, which
        may be more than R.

    Source: METHODS 1.2; same voxels and same points as `points.voxels.voxel_sample`.
    """
    low = torch.where(usable.unsqueeze(1), points, torch.inf).amin(0)
    # A tensor, as torch multiplies by the reciprocal of a number on a GPU, which puts borders elsewhere.
    edge = points.new_full((1,), voxel_m)
    along = ((points - low) / edge).clamp(max=2**AXIS_BITS - 1)
    index = torch.where(usable.unsqueeze(1), along, 0.0).to(torch.int64)
    key = (index[:, 0] << (2 * AXIS_BITS)) | (index[:, 1] << AXIS_BITS) | index[:, 2]
    key, position = torch.where(usable, key, _NOWHERE).sort(stable=True)
    first = key != key.roll(1)
    first[:1].fill_(True)
    return compact(position, first & (key != _NOWHERE), room)

"""From a raw scan to what the network reads, on the device and with fixed shapes; the twin of `points.preprocessor`.

In: raw points, their intensity and the rotation that levels them. Out: `DeviceInput`. Next: `student`, `scan_path`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xkd_ros.core.card import GeometryConfig
from xkd_ros.device.cells import inside_field_of_view, plane_tables
from xkd_ros.device.fixed_shapes import compact
from xkd_ros.device.heading import estimate_heading, turn
from xkd_ros.device.intensity import normalise
from xkd_ros.device.neighbours import nearest, sort_into_bins
from xkd_ros.device.plane_table import PlaneTables
from xkd_ros.device.voxels import voxel_sample
from xkd_ros.points.voxels import AXIS_BITS


@dataclass(frozen=True, eq=False)
class DeviceInput:
    """One scan as the network sees it, with room for N points of which the first `count` are real.

    Attributes:
        features: (N, 5) float32: intensity (normalised), x, y, z, range of the levelled voxel points; 0 for padding.
        neighbours: (N, K) int32 nearest other points, in any order; 0 for padding.
        tables: Cells of the planes (x, y), (x, z), (y, z).
        kept: (N,) int64 raw index of each voxel point.
        undo: (M,) int32 voxel point that labels each raw point; -1 where the raw point is invalid or there is no voxel point.
        inside: (M,) bool, the raw point lies in the field of view.
        count: () int64, may be more than N: then there was no room and nothing here is of use.
        fits: () bool, there was room for all.
        rotation: (3, 3) float64 levelled_from_lidar that was applied.
    """

    features: Tensor
    neighbours: Tensor
    tables: PlaneTables
    kept: Tensor
    undo: Tensor
    inside: Tensor
    count: Tensor
    fits: Tensor
    rotation: Tensor


class DevicePreprocessor:
    """Level, sample one point per voxel, crop to the field of view, find cells, neighbours and the way back."""

    def __init__(self, geometry: GeometryConfig, kernels: bool) -> None:
        """Configure.

        Args:
            geometry: Of a model card.
            kernels: Search neighbours by a Triton kernel.
        """
        self.geometry, self._kernels = geometry, kernels
        self._far_m = 2.0 ** (AXIS_BITS - 2) * geometry.voxel_m

    def __call__(self, points: Tensor, intensity: Tensor, rotation: Tensor, statistics: Tensor, room: int) -> DeviceInput:
        """Prepare one scan.

        Args:
            points: (M, 3) float32 metres, lidar frame; NaN, infinite and (0, 0, 0) are no measurements.
            intensity: (M,) float32 in the sensor's unit; NaN throughout where the sensor has none.
            rotation: (3, 3) float64 levelled_from_lidar.
            statistics: (6,) float64, see `intensity.statistics_row`.
            room: N, most voxel points.
        """
        geometry = self.geometry
        valid = points.isfinite().all(1) & (points != 0).any(1)
        near = valid & (points.abs().sum(1) < self._far_m)
        if geometry.align_heading:
            rotation = turn(estimate_heading(_rotated(points, rotation), near)) @ rotation
        # What is no measurement would spread through the product as NaN.
        levelled = torch.where(valid.unsqueeze(1), _rotated(points, rotation), 0.0)

        voxel, voxels = voxel_sample(levelled, near, geometry.voxel_m, len(points))
        taken = torch.arange(len(points), device=points.device) < voxels
        kept, count = compact(voxel, taken & inside_field_of_view(levelled[voxel], geometry), room)
        real = torch.arange(room, device=points.device) < count
        sampled = torch.where(real.unsqueeze(1), levelled[kept], 0.0)
        scaled = normalise(intensity[kept], real, statistics)
        features = torch.cat([scaled.unsqueeze(1), sampled, sampled.square().sum(1, keepdim=True).sqrt()], 1)

        tables, fits = plane_tables(sampled, real, geometry)
        binned = sort_into_bins(sampled, real, geometry)
        neighbours = nearest(sampled, binned, geometry.neighbours, True, self._kernels)
        undo = nearest(levelled, binned, 1, False, self._kernels)[:, 0]
        return DeviceInput(
            features=torch.where(real.unsqueeze(1), features, 0.0),
            neighbours=torch.where(real.unsqueeze(1), neighbours, 0),
            tables=tables,
            kept=kept,
            undo=torch.where(valid, undo, -1),
            inside=valid & inside_field_of_view(levelled, geometry),
            count=count,
            fits=fits & (count <= room),
            rotation=rotation,
        )


def _rotated(points: Tensor, rotation: Tensor) -> Tensor:
    """Turn (M, 3) float32 points."""
    return points @ rotation.T.to(points.dtype)

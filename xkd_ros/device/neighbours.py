"""Nearest points of a scan on its own device: the kernel on grids of bins, or every distance where Triton is not to be used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xkd_ros.core.card import GeometryConfig
from xkd_ros.core.errors import require
from xkd_ros.device.fixed_shapes import begin_of, constant, count_in

BIN_VOXELS, LEVELS, COARSER = 3.5, 3, 4
MOST_BINS = 1 << 20
_AT_ONCE = 1 << 27
"""Distances that are held at once where all are computed."""


@dataclass(frozen=True, eq=False)
class BinnedPoints:
    """Points sorted into three grids over the field of view, each coarser than the last.

    Attributes:
        points: (N, 3) float32.
        real: (N,) bool.
        rows: (L * N, 3) float32, by grid the points sorted by bin, padding last.
        number: (L * N,) int32 of each row among the points.
        starts: (S,) int32, all grids: the rows of bin b of a grid stand from starts[first + b] to starts[first + b + 1].
        low: Lower corner of all grids, metres.
        edges: Edge of the bins of each grid.
        sizes: Bins of each grid along x, y and z.
        firsts: Where each grid begins in `starts`.
    """

    points: Tensor
    real: Tensor
    rows: Tensor
    number: Tensor
    starts: Tensor
    low: tuple[float, float, float]
    edges: tuple[float, ...]
    sizes: tuple[tuple[int, int, int], ...]
    firsts: tuple[int, ...]


def sort_into_bins(points: Tensor, real: Tensor, geometry: GeometryConfig) -> BinnedPoints:
    """Sort (N, 3) float32 points into bins, those that are (N,) real inside the field of view."""
    rows, numbers, starts, edges, sizes, firsts = [], [], [], [], [], []
    low = constant(geometry.fov_min_m, points.dtype, points.device)
    first = 0
    for edge, size in _grids(geometry):
        whole = size[0] * size[1] * size[2]
        along = torch.where(real.unsqueeze(1), (points - low) / points.new_full((1,), edge), 0.0).floor().to(torch.int64)
        along = along.clamp(min=0).minimum(constant(size, torch.int64, points.device) - 1)
        place = torch.where(real, (along[:, 0] * size[1] + along[:, 1]) * size[2] + along[:, 2], whole)
        # A GPU sorts by so many bits at a time: half as many take half as long.
        order = place.to(torch.int32).sort(stable=True).indices
        rows.append(points[order])
        numbers.append(order.to(torch.int32))
        starts.append(begin_of(count_in(place, whole)))
        edges.append(edge)
        sizes.append(size)
        firsts.append(first)
        first += whole + 1
    return BinnedPoints(
        points, real, torch.cat(rows), torch.cat(numbers), torch.cat(starts), geometry.fov_min_m, tuple(edges), tuple(sizes), tuple(firsts)
    )


def nearest(queries: Tensor, binned: BinnedPoints, count: int, own: bool, kernels: bool) -> Tensor:
    """Find the nearest real points of each query, in any order.

    Args:
        queries: (Q, 3) float32, finite.
        binned: From `sort_into_bins`.
        count: K.
        own: Query q is point q, which is then left out.
        kernels: Search the bins by a Triton kernel; False computes every distance.
    Returns:
        (Q, K) int32; where fewer are to be found these are repeated, and where there is none it is point q itself or, for other
        queries, -1.
    Raises:
        MissingPackageError: kernels are asked for and Triton is not installed.
    """
    if kernels:
        require("triton", "kernels on a GPU", "pip install triton, or take backend: torch")
        from xkd_ros.device.neighbour_kernels import search_bins

        found = search_bins(queries, binned, count, own)
    else:
        found = _search_all(queries, binned, count, own)
    # A maximum over neighbours does not change when some are repeated.
    one = found.amax(1, keepdim=True)
    if own:
        one = torch.where(one >= 0, one, torch.arange(len(queries), dtype=torch.int32, device=queries.device).unsqueeze(1))
    return torch.where(found >= 0, found, one)


def _search_all(queries: Tensor, binned: BinnedPoints, count: int, own: bool) -> Tensor:
    """Compute every distance: (Q, K) int32, -1 where there is none."""
    points, found = binned.points, []
    place = torch.arange(len(points), device=points.device)
    step = max(1, _AT_ONCE // max(1, len(points)))
    for start in range(0, max(1, len(queries)), step):
        part = queries[start : start + step]
        squared = sum((part[:, axis, None] - points[:, axis]).square() for axis in range(3))
        barred = ~binned.real
        if own:
            barred = barred | (place == torch.arange(start, start + len(part), device=points.device).unsqueeze(1))
        squared = torch.where(barred, torch.inf, squared)
        value, index = squared.topk(min(count, len(points)), dim=1, largest=False)
        index = torch.where(value < torch.inf, index, -1).to(torch.int32)
        found.append(torch.nn.functional.pad(index, (0, count - index.shape[1]), value=-1))
    return torch.cat(found)


def _grids(geometry: GeometryConfig) -> list[tuple[float, tuple[int, int, int]]]:
    """Choose the edge and the sizes of the grids."""
    grids = []
    extent = [high - low for low, high in zip(geometry.fov_min_m, geometry.fov_max_m)]
    edge = BIN_VOXELS * geometry.voxel_m
    for _ in range(LEVELS):
        size = _size(extent, edge)
        while size[0] * size[1] * size[2] > MOST_BINS:
            edge *= 2
            size = _size(extent, edge)
        grids.append((edge, size))
        edge *= COARSER
    return grids


def _size(extent: list[float], edge: float) -> tuple[int, int, int]:
    x, y, z = (int(along / edge) + 1 for along in extent)
    return x, y, z

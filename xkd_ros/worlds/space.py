"""Free floor: a grid that remembers where furniture may stand and where a person or robot can be."""

from __future__ import annotations

import math

import numpy as np

CELL_M = 0.1


class Space:
    """Occupancy of one storey.

    Args:
        low_m: (2,) lower corner of the storey.
        high_m: (2,) upper corner.
    """

    def __init__(self, low_m: np.ndarray, high_m: np.ndarray) -> None:
        self.origin = np.asarray(low_m, float) - 0.5
        size = np.ceil((np.asarray(high_m, float) + 0.5 - self.origin) / CELL_M).astype(int)
        self.floor = np.zeros((size[1], size[0]), bool)  # somebody can stand here
        self.open = np.zeros_like(self.floor)  # furniture may be put here

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """Return rows and columns of the cells whose middle is inside; things that touch do not share cells."""
        ox, oy = self.origin
        rows = (max(round((y0 - oy) / CELL_M), 0), max(round((y1 - oy) / CELL_M), 0))
        columns = (max(round((x0 - ox) / CELL_M), 0), max(round((x1 - ox) / CELL_M), 0))
        return slice(*rows), slice(*columns)

    def add_room(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Open the floor of a room."""
        where = self._window(x0, y0, x1, y1)
        self.floor[where] = True
        self.open[where] = True

    def close(self, x0: float, y0: float, x1: float, y1: float, walkable: bool) -> None:
        """Forbid furniture in a rectangle; standing too unless walkable."""
        where = self._window(x0, y0, x1, y1)
        self.open[where] = False
        if not walkable:
            self.floor[where] = False

    def passage(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Let people walk through a doorway."""
        where = self._window(x0, y0, x1, y1)
        self.floor[where] = True
        self.open[where] = False

    def _footprint(self, x: float, y: float, w: float, d: float, yaw: float) -> tuple[tuple[slice, slice], np.ndarray | None]:
        c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
        hx, hy = (c * w + s * d) / 2, (s * w + c * d) / 2
        where = self._window(x - hx, y - hy, x + hx, y + hy)
        if min(c, s) < 0.02:
            return where, None
        ys = self.origin[1] + (np.arange(where[0].start, where[0].stop) + 0.5) * CELL_M - y
        xs = self.origin[0] + (np.arange(where[1].start, where[1].stop) + 0.5) * CELL_M - x
        along = np.abs(xs[None, :] * math.cos(yaw) + ys[:, None] * math.sin(yaw)) <= w / 2 + 0.04
        across = np.abs(-xs[None, :] * math.sin(yaw) + ys[:, None] * math.cos(yaw)) <= d / 2 + 0.04
        return where, along & across

    def fits(self, x: float, y: float, w: float, d: float, yaw: float) -> bool:
        """Tell whether a w by d rectangle turned by yaw stands wholly on open floor."""
        where, mask = self._footprint(x, y, w, d, yaw)
        patch = self.open[where]
        if patch.size == 0:
            return False
        if mask is None:
            return bool(patch.all())
        return mask.shape == patch.shape and bool(patch[mask].all())

    def take(self, x: float, y: float, w: float, d: float, yaw: float, walkable: bool = False) -> None:
        """Occupy a rectangle."""
        where, mask = self._footprint(x, y, w, d, yaw)
        for grid in (self.open,) if walkable else (self.open, self.floor):
            patch = grid[where]
            if mask is None:
                patch[...] = False
            elif mask.shape == patch.shape:
                patch[mask] = False

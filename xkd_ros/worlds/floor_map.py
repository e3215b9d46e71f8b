"""Where a robot or a person can go, and how to get there.

Comes in: a building's free-floor grid. Goes out: smooth paths that keep their distance from walls and furniture, for `trajectory`
and `crowd`.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.core.errors import XkdError
from xkd_ros.worlds.building import Building

_STEP_M = 0.05
_WIDTHS_M = (0.1, 0.18, 0.3, 0.45)


class FloorMap:
    """The largest connected piece of floor on which a round body fits.

    Args:
        building: Supplies the grid.
        radius_m: Of the body; halved once when nothing connected is left.
    Raises:
        XkdError: no free floor at all.
    """

    def __init__(self, building: Building, radius_m: float) -> None:
        from scipy.ndimage import distance_transform_edt, label

        self._origin, self._cell = np.asarray(building.free_origin_m, float), float(building.free_cell_m)
        # Half a cell: the border of an occupied cell is that much nearer than its centre.
        self.clearance: np.ndarray = np.asarray(distance_transform_edt(building.free)) * self._cell - self._cell / 2
        for radius in (radius_m, radius_m / 2):
            pieces, count = label(self.clearance > radius, np.ones((3, 3)))
            sizes = np.bincount(pieces.reshape(-1))[1:]
            if count and sizes.max() * self._cell**2 > 1.0:
                break
        else:
            raise XkdError(f"building {building.seed} ({building.style}) has no floor on which a body of {radius_m:.2f} m radius can stand")
        self.radius_m = radius
        self._nodes = np.argwhere(pieces == 1 + int(sizes.argmax()))
        self._number: np.ndarray = np.full(self.clearance.shape, -1)
        self._number[self._nodes[:, 0], self._nodes[:, 1]] = np.arange(len(self._nodes))
        self._graph = self._connect()

    def _connect(self) -> object:
        """Make the graph of neighbouring cells; going near obstacles costs more."""
        from scipy.sparse import csr_matrix

        price = 1 + 0.6 / np.maximum(self.clearance, 0.1)
        sources, targets, costs = [], [], []
        rows, columns = self._nodes.T
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            y, x = np.clip(rows + dy, 0, self._number.shape[0] - 1), np.clip(columns + dx, 0, self._number.shape[1] - 1)
            other = self._number[y, x]
            ok = (other >= 0) & (other != np.arange(len(rows)))
            sources.append(np.flatnonzero(ok))
            targets.append(other[ok])
            costs.append(np.hypot(dx, dy) * (price[rows[ok], columns[ok]] + price[y[ok], x[ok]]) / 2)
        return csr_matrix((np.concatenate(costs), (np.concatenate(sources), np.concatenate(targets))), (len(rows), len(rows)))

    def random_points(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw (count, 2) reachable places, world xy in metres, preferring open floor."""
        room = self.clearance[self._nodes[:, 0], self._nodes[:, 1]]
        weight = np.minimum(room, 0.8) ** 2
        picked = self._nodes[rng.choice(len(self._nodes), count, p=weight / weight.sum())]
        return self._origin + (picked[:, ::-1] + 0.5) * self._cell

    def clearance_at(self, xy_m: np.ndarray) -> np.ndarray:
        """Return the distance of world points (N, 2) to the nearest obstacle, (N,) metres."""
        cells = np.floor((xy_m - self._origin) / self._cell).astype(int)
        limit = np.array(self.clearance.shape[::-1]) - 1
        ok = ((cells >= 0) & (cells <= limit)).all(1)
        x, y = np.clip(cells, 0, limit).T
        return np.where(ok, self.clearance[y, x], 0.0)

    def route(self, start_m: np.ndarray, goal_m: np.ndarray) -> np.ndarray:
        """Find a good way from one place to another.

        Args:
            start_m: (2,) world xy; the nearest reachable cell is taken.
            goal_m: (2,) world xy, the same.
        Returns:
            (P, 2) centres of neighbouring cells; join routes, then `smooth` them.
        """
        from scipy.sparse.csgraph import dijkstra

        at, goal = self._nearest(start_m), self._nearest(goal_m)
        before = dijkstra(self._graph, directed=False, indices=goal, return_predecessors=True)[1]
        cells = [at]
        while at != goal:
            at = int(before[at])
            cells.append(at)
        return self._origin + (self._nodes[cells][:, ::-1] + 0.5) * self._cell

    def effort(self, start_m: np.ndarray, places_m: np.ndarray) -> np.ndarray:
        """Return the cost of the way from one place to each of (G, 2) others; (G,), about metres times a margin for narrow ways."""
        from scipy.sparse.csgraph import dijkstra

        cost = dijkstra(self._graph, directed=False, indices=self._nearest(start_m))
        return np.asarray(cost[[self._nearest(place) for place in places_m]] * self._cell)

    def _nearest(self, place_m: np.ndarray) -> int:
        cell = (place_m - self._origin) / self._cell - 0.5
        return int(np.argmin(((self._nodes[:, ::-1] - cell) ** 2).sum(1)))

    def smooth(self, raw: np.ndarray) -> np.ndarray:
        """Round the corners with the widest filter that stays clear, chosen for every stretch of the path.

        Args:
            raw: (P, 2) joined routes.
        Returns:
            (Q, 2) world xy, five centimetres apart before smoothing.
        """
        from scipy.ndimage import gaussian_filter1d

        length = np.append(0, np.cumsum(np.hypot(*np.diff(raw, axis=0).T)))
        even = np.arange(0, max(length[-1], _STEP_M), _STEP_M)
        dense = np.stack([np.interp(even, length, raw[:, k]) for k in range(2)], 1)
        # Cells zigzag by half a cell; the narrowest filter always applies.
        best = gaussian_filter1d(dense, 0.1 / _STEP_M, axis=0, mode="nearest")
        needed = self.radius_m - self._cell / 2
        blocked = np.zeros(len(dense))
        for width in _WIDTHS_M:
            wide = gaussian_filter1d(dense, width / _STEP_M, axis=0, mode="nearest")
            bad = gaussian_filter1d((self.clearance_at(wide) < needed).astype(float), 3 * width / _STEP_M, mode="nearest")
            blocked = np.maximum(blocked, np.minimum(1, 12 * bad))
            best = blocked[:, None] * best + (1 - blocked[:, None]) * wide
        return best

"""Where the points of a scan went when some of them were chosen."""

from __future__ import annotations

import numpy as np


def places(chosen: np.ndarray, count: int) -> np.ndarray:
    """Turn a choice around.

    Args:
        chosen: (n,) int64 the point behind each of the chosen, each at most once.
        count: Points that were chosen from.
    Returns:
        (count,) int64 the place of each point among the chosen, -1 for none.
    """
    place = np.full(count, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    return place

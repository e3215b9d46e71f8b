"""How much of each scan to label so that the work keeps pace with the input: thinning comes before dropping scans."""

from __future__ import annotations

_SMOOTHING = 0.3  # of each new time; one slow scan is no overload
_FULL, _SPARE = 0.95, 0.7  # of the input's period: above the first there is too much work, below the second there is room
_STEP = 1.1


class Thinning:
    """Share of voxels, between a floor and 1, that follows processing time against the time between clouds.

    Below `_SPARE` the share grows in small steps, above `_FULL` it shrinks in proportion, between them it rests.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self._work_s: float | None = None

    def update(self, work_s: float, period_s: float, lowest: float) -> float:
        """Take the times of the last cloud.

        Args:
            work_s: How long it was in work.
            period_s: Time between clouds that arrive; 0 where it is not known yet.
            lowest: Share that is never gone below; 1 switches thinning off.
        Returns:
            The share for the next cloud.
        """
        self._work_s = work_s if self._work_s is None else self._work_s + _SMOOTHING * (work_s - self._work_s)
        if period_s > 0 and self._work_s > _FULL * period_s:
            self.share *= max(0.7, _FULL * period_s / self._work_s)
        elif period_s > 0 and self._work_s < _SPARE * period_s:
            self.share *= _STEP
        self.share = min(1.0, max(lowest, self.share))
        return self.share

"""What a pairer counted, and what a person should know about it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

_MS = 1e-6
# Two thousand pairs are minutes of driving: enough for a percentile, and the memory stays bounded.
_KEPT_OFFSETS = 2000


@dataclass
class PairingStatistics:
    """Counts since the start.

    Attributes:
        scans, pairs: Scans that came in, pairs that went out.
        images: Images that came in, per camera.
        unmatched_scans: Reason to number of scans without any image.
        unmatched_images: Reason to number of images that belong to no pair, all cameras together.
        resets: How often a clock jumped back.
        offsets_ns: Image stamp minus scan stamp of the latest matches.
        nearest_ns: The same of the latest decisions, too far ones included.
    """

    scans: int = 0
    pairs: int = 0
    images: list[int] = field(default_factory=list)
    unmatched_scans: Counter[str] = field(default_factory=Counter)
    unmatched_images: Counter[str] = field(default_factory=Counter)
    resets: int = 0
    offsets_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_KEPT_OFFSETS))
    nearest_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_KEPT_OFFSETS))

    def dt_ms(self, percentile: float) -> float | None:
        """Return a percentile of |dt| of the latest matches in milliseconds; None without matches."""
        return float(np.percentile(np.abs(self.offsets_ns), percentile)) * _MS if self.offsets_ns else None

    def explain(self) -> str:
        """Say in one line why pairs are missing; empty when nothing is."""
        if not self.scans:
            return "no scan has arrived: check the points topic"
        silent = [str(camera) for camera, count in enumerate(self.images) if not count]
        if silent:
            return f"no image has arrived on camera {', '.join(silent)}: check the image topic"
        if self.pairs and not self.unmatched_scans:
            return ""
        middle = float(np.median(self.nearest_ns)) * 1e-9 if self.nearest_ns else 0.0
        # Live scans whose camera is far behind end at the deadline; the clocks are the reason all the same.
        # The policies of message_filters give no reasons at all.
        if not self.pairs and self.nearest_ns and (not self.unmatched_scans or self.unmatched_scans["too far"] or abs(middle) >= 1):
            where = "behind" if middle < 0 else "ahead of"
            how = f"{abs(middle):.3g} s" if abs(middle) >= 1 else f"{abs(middle) * 1e3:.3g} ms"
            cause = "synchronise the clocks" if abs(middle) >= 1 else "raise the |dt| limit or synchronise the clocks"
            return f"0 pairs of {self.scans} scans: image stamps are {how} {where} the scans; {cause}"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.unmatched_scans.most_common())
        return f"{sum(self.unmatched_scans.values())} of {self.scans} scans have no image ({reasons})" if reasons else ""

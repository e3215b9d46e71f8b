"""The fused head at work: asked where a picture is there, and counted, why not in the other scans; needs no torch until `load`."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xkd_ros.core.errors import require
from xkd_ros.core.types import NetInput, Scan
from xkd_ros.runtime.segmenter import Infer, Outside

if TYPE_CHECKING:
    from xkd_ros.bags.frame import View
    from xkd_ros.pipeline.fused_segmenter import FusedSegmenter

ViewsAt = Callable[[int, str], tuple[tuple["View", ...], str]]
"""(stamp of a scan in ns, its frame) → pictures, and why there is none."""
FRESH_MS = 50.0
"""A picture further in time from its scan shows where things were (METHODS 6)."""
_WINDOW = 50
_MOST_REASONS = 10


class FusedLabels:
    """A model with its fused head, and how many scans a picture had its say in; reports may be asked for from another thread."""

    def __init__(self, fused: FusedSegmenter) -> None:
        self.fused = fused
        self._lock = threading.Lock()
        self._last: deque[str] = deque(maxlen=_WINDOW)
        self._fused_scans = 0
        self._reasons: Counter[str] = Counter()

    @classmethod
    def load(
        cls,
        model: Path,
        teacher: str,
        backend: str = "auto",
        threads: int | None = None,
        outside: Outside = "nearest",
        fresh_ms: float = FRESH_MS,
    ) -> FusedLabels:
        """Load a model and its image teacher, and run both once.

        Args:
            model: Folder that the recipe xmodel wrote.
            teacher: Folder, hub id, or the name of one that comes with the package.
            backend, threads, outside: As for `Segmenter.load`.
            fresh_ms: Largest time between scan and picture.
        Raises:
            MissingPackageError: torch is not installed, as on most robots.
            ModelError: the model has no fused head, or the teacher does not fit it.
        """
        for package in ("torch", "safetensors"):
            require(package, "the fused head", "pip install 'xkd_ros[train]'")
        from xkd_ros.pipeline.fused_segmenter import FusedSegmenter

        fused = FusedSegmenter.load(model, teacher, backend, threads=threads, outside=outside, fresh_ms=fresh_ms)
        fused.warm_up()
        return cls(fused)

    def infer_with(self, scan: Scan, views_at: ViewsAt) -> Infer:
        """Make what the segmenter asks instead of its backend: pictures are fetched then, when the scan is prepared."""

        def infer(net_input: NetInput) -> np.ndarray:
            views, missing = views_at(scan.stamp_ns, scan.frame_id)
            logits = self.fused.infer(net_input, scan.points_m, views)
            self._count(self.fused.why if views else missing)
            return logits

        return infer

    def _count(self, reason: str) -> None:
        with self._lock:
            self._last.append(reason)
            if not reason:
                self._fused_scans += 1
            elif reason in self._reasons or len(self._reasons) < _MOST_REASONS:
                self._reasons[reason] += 1

    @property
    def problem(self) -> str:
        """Why the lidar alone labelled the last scan; empty where a picture had its say, and before the first."""
        with self._lock:
            return f"labelled by the lidar alone: {self._last[-1]}" if self._last and self._last[-1] else ""

    def facts(self) -> dict[str, str]:
        """Rows of the report."""
        with self._lock:
            fused = sum(not reason for reason in self._last)
            share = f"{100 * fused / len(self._last):.0f} % of the last {len(self._last)}" if self._last else "no scan yet"
            reasons = {f"lidar alone: {reason}": str(count) for reason, count in self._reasons.most_common()}
            return {"scans fused with a picture": f"{share}, {self._fused_scans} in all", **reasons}

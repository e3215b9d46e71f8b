"""What a backend is: the network on one preprocessed scan, however it is computed. One file per way of computing it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from xkd_ros.core.types import NetInput, ScanRequest, Segmentation

MIN_AGREEMENT = 0.995
"""Share of equal labels below which a backend or an engine is refused: what reduced precision may cost."""

MAX_BROKEN = 0.5
"""Share of points without a finite answer from which on a scan is not labelled: an overflow here and there is."""


class Backend(Protocol):
    """Runs the network on one scan at a time; not for several threads at once."""

    @property
    def name(self) -> str:
        """As in the parameter `backend`."""
        ...

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits of the N >= 1 points of a scan."""
        ...


@runtime_checkable
class ScanBackend(Backend, Protocol):
    """A backend that can also go the whole way, from a raw scan to the labels of its points."""

    def label_scan(self, request: ScanRequest) -> Segmentation:
        """Label every point.

        Raises:
            ModelError: most answers are not finite.
        """
        ...


def agreement(logits: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """Share of points, over all scans, whose label is the reference's.

    Args:
        logits, reference: (N, C) each, the same scans in the same order.
    """
    same = [(ours.argmax(1) == theirs.argmax(1)) & np.isfinite(ours).all(1) for ours, theirs in zip(logits, reference)]
    return float(np.concatenate(same).mean()) if same else 0.0

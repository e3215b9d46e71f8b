"""A backend under observation: answers that are no numbers are errors, and one that keeps failing gives way to the next.

In and out as `backend.Backend`. Next: `segmenter`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import NetInput, ScanRequest, Segmentation
from xkd_ros.runtime.backend import MAX_BROKEN, Backend, ScanBackend

_LOG = logging.getLogger(__name__)

_IN_A_ROW = 3
"""One failure may be the scan's fault, or a shortage of memory that passes."""


class WatchedBackend:
    """Calls one backend; after some failures in a row it asks for another.

    Attributes:
        trouble: What gave way to what, in one line; empty while the first backend works.
    """

    def __init__(self, backend: Backend, replace: Callable[[dict[str, str]], Backend] | None = None) -> None:
        """Take a loaded backend.

        Args:
            backend: Runs the network.
            replace: Loads another, given those that failed (name to reason); raises ModelError when none is left. None: there is no other.
        """
        self.trouble = ""
        self._backend = backend
        self._replace = replace
        self._failed: dict[str, str] = {}
        self._in_a_row = 0

    @property
    def name(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits.

        Raises:
            ModelError: most answers are not finite.
            Exception: whatever the backend raises, MemoryError included.
        """
        try:
            logits = self._backend.infer(net_input)
            broken = int(np.count_nonzero(~np.isfinite(logits).all(axis=1)))
            if broken > MAX_BROKEN * len(logits):
                raise ModelError(f"backend {self.name} gave no finite answer for {broken} of {len(logits)} points")
        except Exception as error:
            self._bear(error)
            return self.infer(net_input)
        self._in_a_row = 0
        return logits

    def label_scan(self, request: ScanRequest) -> Segmentation | None:
        """Go the whole way of a scan, as `backend.ScanBackend`; None where the backend in use cannot.

        Raises:
            ModelError, Exception: as for `infer`.
        """
        if not isinstance(self._backend, ScanBackend):
            return None
        try:
            answer = self._backend.label_scan(request)
        except Exception as error:
            self._bear(error)
            return None
        self._in_a_row = 0
        return answer

    def _bear(self, error: Exception) -> None:
        """Count a failure; raise it unless another backend takes over."""
        self._in_a_row += 1
        if self._in_a_row < _IN_A_ROW or not self._give_way(error):
            raise error

    def _give_way(self, error: Exception) -> bool:
        """Put another backend in the place of this one; False when there is none."""
        if self._replace is None:
            return False
        failed = {**self._failed, self.name: f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        try:
            backend = self._replace(failed)
        except ModelError as none_left:
            _LOG.error("backend %s keeps failing, and %s", self.name, none_left)
            self._in_a_row = 0  # looking again at every scan would cost more than it helps
            return False
        self.trouble = f"backend {self.name} kept failing ({failed[self.name]}); going on with {backend.name}"
        _LOG.error("%s", self.trouble)
        self._failed, self._backend, self._in_a_row = failed, backend, 0
        return True

"""Loads a model in a thread of its own, so that the node answers, labels with the old one, and stops at once meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ModelError, XkdError
from xkd_ros.core.share import find_model
from xkd_ros.nodes.worker import set_niceness

if TYPE_CHECKING:
    from xkd_ros.nodes.labeller import Labeller

_POLL_S = 0.1


class LoadedModel(NamedTuple):
    """What came of a request: the labeller (None after an error), the parameters it was made from, and the error as one line."""

    labeller: Labeller | None
    values: SimpleNamespace
    problem: str


class ModelLoader:
    """One load at a time. Of a request that a newer one follows, or that is cancelled, nothing is heard, however far it has come."""

    def __init__(self, done: Callable[[], None]) -> None:
        """Prepare.

        Args:
            done: Called in the loading thread when there is something to `take`.
        """
        self._done = done
        self._lock = threading.Lock()
        self._wanted: SimpleNamespace | None = None
        self._newest = 0
        self._loaded: LoadedModel | None = None
        self._thread: threading.Thread | None = None

    def request(self, values: SimpleNamespace) -> None:
        """Load what these parameters name, in the background."""
        with self._lock:
            self._forget()
            self._wanted = values
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="model loader", daemon=True)
                self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a load is under way."""
        with self._lock:
            return self._thread is not None

    def cancel(self) -> None:
        """Forget what was requested."""
        with self._lock:
            self._forget()

    def take(self) -> LoadedModel | None:
        """Take what came of the newest request, once; None while it is not there."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
        return loaded

    def _forget(self) -> None:
        self._newest += 1
        self._wanted = self._loaded = None

    def _run(self) -> None:
        while True:
            with self._lock:
                values, self._wanted = self._wanted, None
                if values is None:
                    self._thread = None
                    return
                number = self._newest
            labeller, problem = load_labeller(values)
            with self._lock:
                if number != self._newest:
                    continue
                self._loaded = LoadedModel(labeller, values, problem)
            self._done()


def load_labeller(values: SimpleNamespace) -> tuple[Labeller | None, str]:
    """Load a model and run it once.

    Args:
        values: Parameters of the segmenter.
    Returns:
        The labeller and "", or None and what is wrong in one line.
    """
    try:
        set_niceness(values.niceness)  # the threads a backend starts inherit it
        # Imported here: scipy and the backends take seconds, during which the node already answers and can be stopped.
        from xkd_ros.nodes.labeller import Labeller

        return Labeller.load(values), ""
    except XkdError as error:
        return None, str(error)
    except MemoryError:
        return None, f"not enough memory to load model '{values.model}'"
    except Exception as error:
        return None, f"model '{values.model}' cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}"


def not_kept(values: SimpleNamespace) -> str:
    """Say in one line what of a load the next start will do again because there is no place to keep it; empty where nothing is.

    Args:
        values: Parameters of the segmenter whose model has been loaded.
    """
    from xkd_ros.kernels.compiler import cache_path
    from xkd_ros.runtime.machine import cache_folder
    from xkd_ros.runtime.selection import remembered_choice

    if cache_path() is None:
        return "compiled loops cannot be kept; export NUMBA_CACHE_DIR=/a/folder/that/can/be/written"
    if values.backend == "auto" and remembered_choice(load_card(find_model(values.model)), values.num_threads or None) is None:
        return f"the choice of backend cannot be kept in {cache_folder()}; export XDG_CACHE_HOME=/a/folder/that/can/be/written"
    return ""


def load_labeller_while(values: SimpleNamespace, go_on: Callable[[], bool]) -> Labeller:
    """Load a model and wait for it as long as `go_on` says so.

    Raises:
        ModelError: what is wrong, or that the wait was ended.
    """
    result: list[tuple[Labeller | None, str]] = []
    thread = threading.Thread(target=lambda: result.append(load_labeller(values)), name="model loader", daemon=True)
    thread.start()
    while thread.is_alive():
        if not go_on():
            raise ModelError("stopped while the model was loading")
        thread.join(_POLL_S)
    labeller, problem = result[0]
    if labeller is None:
        raise ModelError(problem)
    return labeller

"""A program of fixed shapes recorded as a CUDA graph: many small kernels for the price of one launch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WARM_UP = 3


class GraphPool:
    """A stream, and memory for the steps of all that is recorded on it, as much as the largest needs instead of the sum.

    For recordings that run one at a time, each answer being read before the next runs. They have to go together: when one graph goes,
    torch takes the memory of matrix products away from its stream, where the others still write (pytorch issue 193402).

    Attributes:
        stream: Where they run.
        handle: Of the memory, for torch.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.handle = torch.cuda.graph_pool_handle()


class Recording:
    """Runs a program again and again on the same buffers; on a CPU step by step.

    Attributes:
        stream: Where it runs on CUDA; None on a CPU.
    """

    def __init__(self, program: Callable[[], Tensor], device: torch.device, pool: GraphPool | None = None) -> None:
        """Record.

        Args:
            program: Reads and writes tensors that stay where they are, asks no values of the device, takes shapes from nothing that is
                computed; what it returns is overwritten by the next run.
            device: Where its tensors are.
            pool: Shared with other recordings, whose runs overwrite the answer, too; None makes one.
        """
        self._program = program
        self._graph: torch.cuda.CUDAGraph | None = None
        self.stream: torch.cuda.Stream | None = None
        if device.type != "cuda":
            return
        pool = pool or GraphPool(device)
        self.stream = pool.stream
        self.stream.wait_stream(torch.cuda.current_stream(device))
        # The stream is chosen here as well: where recording fails, torch leaves its own choice in place.
        with torch.inference_mode(), torch.cuda.stream(self.stream):
            # Kernels are compiled and constants are copied before anything is recorded.
            for _ in range(_WARM_UP):
                program()
            self.stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads of a robot's process may use the device meanwhile, which by default breaks the recording and their call.
            with torch.cuda.graph(graph, pool=pool.handle, stream=self.stream, capture_error_mode="thread_local"):
                self._output = program()
        self._graph = graph

    def __call__(self) -> Tensor:
        """Run; on CUDA the result is there when `stream` is done."""
        if self._graph is None:
            with torch.inference_mode():
                return self._program()
        with torch.cuda.stream(self.stream):
            self._graph.replay()
        return self._output

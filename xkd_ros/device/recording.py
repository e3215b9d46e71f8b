"""A program of fixed shapes recorded as a CUDA graph: many small kernels for the price of one launch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WARM_UP = 3


class Recording:
    """Runs a program again and again on the same buffers; on a CPU step by step.

    Attributes:
        stream: Where it runs on CUDA; None on a CPU.
    """

    def __init__(self, program: Callable[[], Tensor], device: torch.device) -> None:
        """Record.

        Args:
            program: Reads and writes tensors that stay where they are, asks no values of the device, takes shapes from nothing that is
                computed; what it returns is overwritten by the next run.
            device: Where its tensors are.
        """
        self._program, self._graph = program, None
        self.stream: torch.cuda.Stream | None = None
        if device.type != "cuda":
            return
        self.stream = torch.cuda.Stream(device)
        self.stream.wait_stream(torch.cuda.current_stream(device))
        # Kernels are compiled and constants are copied before anything is recorded.
        with torch.inference_mode(), torch.cuda.stream(self.stream):
            for _ in range(_WARM_UP):
                program()
        self.stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self._graph, stream=self.stream):
            self._output = program()

    def __call__(self) -> Tensor:
        """Run; on CUDA the result is there when `stream` is done."""
        if self._graph is None:
            with torch.inference_mode():
                return self._program()
        with torch.cuda.stream(self.stream):
            self._graph.replay()
        return self._output

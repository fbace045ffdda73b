r"""
CUDA graphs: many small kernels, launched as one.

Both stages repeat one computation on small tensors thousands of times. On a GPU the launches then
take longer than the work; recorded once and replayed, they are one launch.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Replayed:
    r"""A function of tensors that is recorded and replayed where they lie on a GPU.

    The first call for inputs of a shape runs as it is, so that libraries set themselves up; the
    second is recorded, and it and all later ones are replayed. On a CPU every call is a plain one.

    Args:
        function: What to call. It must not wait for the GPU or draw random numbers, and what it
            reads or writes besides its arguments has to stay where it is in the memory.

    What is returned on a GPU is overwritten by the next call with inputs of that shape.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._records: dict[tuple[torch.Size, ...], _Record | None] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """What the function returns for tensors that are all on one device."""
        if inputs[0].device.type != "cuda":
            return self.function(*inputs)
        shapes = tuple(t.shape for t in inputs)
        if shapes not in self._records:
            self._records[shapes] = None
            return self.function(*inputs)
        record = self._records[shapes]
        if record is None:
            record = self._records[shapes] = _Record(self.function, inputs)
        return record.replay(inputs)


class _Record:
    """One computation on a GPU, with the tensors that it reads and writes."""

    def __init__(self, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
        self.inputs = [t.clone() for t in inputs]
        self.graph = torch.cuda.CUDAGraph()
        with (
            _garbage_stays(),
            torch.cuda.device(inputs[0].device),
            torch.cuda.graph(self.graph, capture_error_mode="thread_local"),
        ):
            self.result = function(*self.inputs)

    def replay(self, inputs: tuple[Tensor, ...]) -> Any:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.result


@contextmanager
def _garbage_stays() -> Iterator[None]:
    """Collect garbage before, not during: a graph that is freed would break the recording."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

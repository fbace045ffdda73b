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


class Recorder:
    r"""Calls one function of tensors, recorded and replayed where they lie on a GPU.

    The first call for inputs of a shape runs as it is, so that libraries set themselves up; the
    second is recorded, and it and all later ones are replayed. On a CPU every call is a plain one.

    The function is not kept: as a method of the recorder's owner it would keep the owner alive.
    """

    def __init__(self) -> None:
        self._records: dict[tuple[torch.Size, ...], _Record | None] = {}

    def __call__(self, function: Callable[..., Any], *inputs: Tensor) -> Any:
        r"""What a function returns.

        Args:
            function: The same in all calls. It must not wait for the GPU or draw random numbers,
                and what it reads or writes besides its arguments has to stay where it is in memory.
            inputs: Its arguments, all on one device.

        Returns:
            Its result. On a GPU the next call with inputs of that shape overwrites it.
        """
        if inputs[0].device.type != "cuda":
            return function(*inputs)
        shapes = tuple(t.shape for t in inputs)
        if shapes not in self._records:
            self._records[shapes] = None
            return function(*inputs)
        record = self._records[shapes]
        if record is None:
            record = self._records[shapes] = _Record(function, inputs)
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

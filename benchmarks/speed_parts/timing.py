"""Wall time of alternatives in turn, on one of the places where this machine computes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)


class Place(NamedTuple):
    """Where tensors lie, and how many threads work on them."""

    device: torch.device
    threads: int
    dtype: torch.dtype

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {dtype}"
        return f"CPU, {self.threads} thread{'s' * (self.threads > 1)}, {dtype}"

    def enter(self) -> None:
        torch.set_num_threads(self.threads)

    @property
    def itemsize(self) -> int:
        return torch.finfo(self.dtype).bits // 8

    def randn(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=self.dtype, device=self.device)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with what it has left running on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turn(
    alternatives: Mapping[Key, Callable[[], object]],
    device: torch.device,
    *,
    repeats: int,
    budget: float = float("inf"),
    at_least: int = 3,
) -> dict[Key, float]:
    """Median seconds of each alternative, run in turn after one warm-up.

    Args:
        alternatives: What to run, by name.
        device: Where it runs.
        repeats: Number of rounds.
        budget: Seconds after which no further round begins.
        at_least: Number of rounds that are run whatever they take.
    """
    for function in alternatives.values():
        seconds(function, device)
    times: dict[Key, list[float]] = {key: [] for key in alternatives}
    start = time.perf_counter()
    for round_number in range(repeats):
        if round_number >= at_least and time.perf_counter() - start > budget:
            break
        for key, function in alternatives.items():
            times[key].append(seconds(function, device))
    return {key: statistics.median(t) for key, t in times.items()}


def round_to(value: float, digits: int = 3) -> str:
    """A positive number with so many significant digits, never in powers of ten."""
    if value == 0.0:
        return "0"
    decimals = digits - len(str(int(abs(value)))) if abs(value) >= 1 else digits
    return f"{value:,.{max(decimals, 0)}f}"

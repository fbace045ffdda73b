r"""
The trivial rows of every table: random designs, start designs, start designs plus noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from botorch_roma.benchmark.kinds import Method, MethodResult, ProxyCache
from botorch_roma.latent import OneHotEncoding
from botorch_roma.tasks import OfflineTask


def _random(task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
    return MethodResult(task.random_designs(q, seed))


def _start(task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
    return MethodResult(task.start_designs(q)[0])


def _start_noise(std: float) -> Callable[..., MethodResult]:
    """Start designs plus Gaussian noise of ``std`` standard deviations of each (one-hot) input."""

    def run(task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        X, _ = task.start_designs(q)
        bounds, scale, encoding = task.bounds, task.X, None
        if task.vocabulary is not None:
            encoding = OneHotEncoding(task.vocabulary, X.shape[1]).to(X)
            X, scale, bounds = encoding.encode(X), encoding.encode(task.X), encoding.bounds
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(X.shape, generator=generator, dtype=torch.double, device="cpu").to(X)
        X = X + std * scale.std(dim=0, correction=0) * noise
        X = torch.maximum(torch.minimum(X, bounds[1]), bounds[0])
        if encoding is not None:
            X = encoding.decode(X)
        return MethodResult(
            X if task.post_processing_func is None else task.post_processing_func(X)
        )

    return run


TRIVIAL: tuple[Method, ...] = (
    Method("random", "random designs", _random),
    Method("start", "start designs (best visible)", _start, seeded=False),
    Method("start_noise_0.2", "start designs + noise 0.2 std", _start_noise(0.2)),
    Method("start_noise_1", "start designs + noise 1 std", _start_noise(1.0)),
)

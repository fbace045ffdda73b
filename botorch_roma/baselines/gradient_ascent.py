r"""
Gradient ascent on a plainly trained proxy, or on an ensemble of proxies [Trabucco2022design]_.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

from typing import get_args

from torch import Tensor

from botorch_roma.baselines.ensemble import Aggregate, Ensemble, ProxyOptions
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_choice, check_float, check_int

#: As published: one network of two wide layers.
ASCENT_PROXY = ProxyOptions()


def gradient_ascent(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    proxy: ProxyOptions = ASCENT_PROXY,
    encoding: str = "logits",
    aggregate: Aggregate = "mean",
    num_steps: int = 200,
    step_size: float = 0.01,
    path: list[Tensor] | None = None,
    progress: bool = False,
) -> Tensor:
    r"""Climb the prediction from the best visible designs.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates.
        seed: Seed of initial weights and data order.
        proxy: The networks: one, or an ensemble of (as published) five.
        encoding: What token sequences are: ``"logits"`` or ``"one_hot"``.
        aggregate: ``"mean"`` of the networks, or their ``"min"``, vector by vector.
        num_steps: Number of steps.
        step_size: Length of a step per unit of gradient, before it is multiplied by the root of
            the number of inputs.
        path: Takes the designs before each step and after the last, ``q x d`` each.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    check_int("num_steps", num_steps, minimum=0)
    check_float("step_size", step_size)
    check_choice("aggregate", aggregate, get_args(Aggregate))
    space = DesignSpace(task, encoding)
    Z, length = space.start(q), step_size * space.dim**0.5
    ensemble = Ensemble(space, proxy, seed=seed, progress=progress)
    for _ in track(range(num_steps), total=num_steps, description="ascent", enabled=progress):
        space.record(path, Z)
        Z = Z + length * ensemble.ascent_direction(Z, aggregate)
    space.record(path, Z)
    return space.decode(Z)

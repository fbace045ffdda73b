r"""
Conservative objective models [Trabucco2021coms]_.

.. [Trabucco2021coms]
    B. Trabucco, A. Kumar, X. Geng, and S. Levine. Conservative Objective Models for Effective
    Offline Model-Based Optimization. ICML, 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.training import num_epochs, take_step
from botorch_roma.network import (
    Activation,
    ProxyNetwork,
    StackedWeights,
    stacked_heads,
    stacked_input_gradient,
)
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_float, check_int


def coms(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    encoding: str = "logits",
    hidden_sizes: tuple[int, ...] = (2048, 2048),
    activation: str = "leaky_relu",
    epochs: int = 50,
    max_batches: int | None = None,
    batch_size: int = 128,
    lr: float = 3e-4,
    noise_std: float = 0.2,
    particle_lr: float = 0.05,
    num_inner_steps: int = 1,
    num_steps: int = 50,
    overestimation_limit: float = 0.5,
    alpha: float = 0.1,
    alpha_lr: float = 0.01,
    path: list[Tensor] | None = None,
    progress: bool = False,
) -> Tensor:
    r"""Train a proxy that is low where ascent leads, then climb it from the best visible designs.

    The loss is ``mean (f(x) - y)^2 + alpha * (mean f(x_adv) - mean f(x))``, where ``x_adv`` is
    reached from ``x`` by ascent, and ``alpha`` rises while the difference exceeds the limit.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates.
        seed: Seed of initial weights, data order and noise.
        encoding: What token sequences are: ``"logits"`` or ``"one_hot"``.
        hidden_sizes: Width of every hidden layer.
        activation: Activation function.
        epochs: Passes over the data.
        max_batches: No more minibatches than this are taken; by default there is no limit.
        batch_size: Rows in a minibatch.
        lr: Learning rate of Adam.
        noise_std: Standard deviation of the noise on z-scored inputs.
        particle_lr: Length of an ascent step per unit of gradient, before it is multiplied by the
            root of the number of inputs.
        num_inner_steps: Ascent steps to ``x_adv`` while training.
        num_steps: Ascent steps at the end.
        overestimation_limit: Where ``alpha`` stays as it is, in standard deviations of the outcome.
        alpha: Its first value.
        alpha_lr: Learning rate of ``alpha``.
        path: Takes the designs before each step and after the last, ``q x d`` each.
        progress: Show a progress bar on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    for name, number in (("num_inner_steps", num_inner_steps), ("num_steps", num_steps)):
        check_int(name, number, minimum=0)
    for name, value in (
        ("alpha", alpha),
        ("alpha_lr", alpha_lr),
        ("noise_std", noise_std),
        ("particle_lr", particle_lr),
    ):
        check_float(name, value)
    check_float("lr", lr, exclusive=True)
    check_float("overestimation_limit", overestimation_limit, minimum=-math.inf)
    space = DesignSpace(task, encoding)
    network = ProxyNetwork(space.dim, hidden_sizes, activation=activation, seeds=[seed])
    network = network.to(space.Z)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    generator = torch.Generator(space.Z.device).manual_seed(seed)
    start = space.start(q)
    length, n = particle_lr * space.dim**0.5, space.Z.shape[0]
    epochs = num_epochs(epochs, max_batches, n, batch_size)
    for _ in track(range(epochs), total=epochs, description="COMs", enabled=progress):
        order = torch.randperm(n, generator=generator, device=space.Z.device)
        for rows in order.split(batch_size):
            Z = space.Z[rows]
            noise = torch.randn(Z.shape, generator=generator, dtype=Z.dtype, device=Z.device)
            Z = Z + noise_std * noise
            frozen = network.weights.map(Tensor.detach)
            Z_adv = climb(frozen, network.activation, Z, length, num_inner_steps)
            both, _ = stacked_heads(
                network.weights, torch.cat([Z, Z_adv])[None], network.activation
            )
            data, reached = both[0].split(len(rows))
            gap = reached.mean() - data.mean()
            loss = (data - space.T[rows, 0]).square().mean() + alpha * gap
            take_step(optimizer, loss)
            alpha = max(0.0, alpha + alpha_lr * (gap.item() - overestimation_limit))
    weights = network.weights.map(Tensor.detach)
    Z = start
    for _ in range(num_steps):
        space.record(path, Z)
        Z = climb(weights, network.activation, Z, length, 1)
    space.record(path, Z)
    return space.decode(Z)


def climb(
    weights: StackedWeights, activation: Activation, Z: Tensor, length: float, num_steps: int
) -> Tensor:
    r"""Plain ascent of one network from vectors ``n x e``."""
    for _ in range(num_steps):
        Z = Z + length * stacked_input_gradient(weights, Z.unsqueeze(0), activation)[1][0]
    return Z

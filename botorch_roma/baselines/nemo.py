r"""
Conditional normalised maximum likelihood, NEMO [Fu2021nemo]_.

.. [Fu2021nemo]
    J. Fu and S. Levine. Offline Model-Based Optimization via Normalized Maximum Likelihood
    Estimation. ICLR, 2021.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from botorch_roma.baselines.ensemble import Ensemble, ProxyOptions
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.training import take_step
from botorch_roma.network import ProxyNetwork
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_float, check_int

#: What every outcome's network starts from.
NEMO_PROXY = ProxyOptions(hidden_sizes=(256, 256), activation="softplus")


def nemo(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    proxy: ProxyOptions = NEMO_PROXY,
    encoding: str = "logits",
    num_bins: int = 20,
    margin: float = 1.0,
    num_steps: int = 200,
    step_size: float = 0.01,
    model_lr: float = 3e-4,
    path: list[Tensor] | None = None,
    progress: bool = False,
) -> Tensor:
    r"""Climb the mean of the normalised maximum likelihood distribution over outcomes.

    There is one network for each of ``K`` outcomes. Each step makes one gradient step of network
    ``k`` on a minibatch and on the candidates with outcome ``k``, and one of the candidates on
    ``sum_k y_k p_k / sum_k p_k``, where ``p_k`` is the likelihood that network ``k`` gives
    outcome ``k`` at the candidate. All networks start as one trained network. The candidates
    share the networks, as their number allows no other way.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates.
        seed: Seed of weights and minibatches.
        proxy: The network before the first step.
        encoding: What token sequences are: ``"logits"`` or ``"one_hot"``.
        num_bins: Number of outcomes ``K``.
        margin: How far the largest outcome is above the best visible one, in standard deviations;
            the smallest is the worst visible one.
        num_steps: Number of steps.
        step_size: Length of a step per unit of gradient, before it is multiplied by the root of
            the number of inputs.
        model_lr: Learning rate of Adam for the networks, while the candidates move.
        path: Takes the designs before each step and after the last, ``q x d`` each.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    check_int("num_bins", num_bins, minimum=2)
    check_int("num_steps", num_steps, minimum=0)
    check_float("margin", margin)
    check_float("step_size", step_size)
    check_float("model_lr", model_lr, exclusive=True)
    space = DesignSpace(task, encoding)
    Z, length = space.start(q), step_size * space.dim**0.5
    trained = Ensemble(space, replace(proxy, num_members=1), seed=seed, progress=progress).network
    networks = ProxyNetwork(
        space.dim, proxy.hidden_sizes, num_networks=num_bins, activation=proxy.activation
    ).to(space.Z)
    with torch.no_grad():
        for stack, one in zip(networks.tensors, trained.tensors, strict=True):
            stack.copy_(one.expand_as(stack))
    low, high = space.T.min().item(), space.T.max().item() + margin
    outcomes = torch.linspace(low, high, num_bins).to(space.Z)
    optimizer = torch.optim.Adam(networks.parameters(), lr=model_lr)
    generator = torch.Generator(space.Z.device).manual_seed(seed)
    for _ in track(range(num_steps), total=num_steps, description="NEMO", enabled=progress):
        space.record(path, Z)
        rows = torch.randint(
            len(space.Z), (proxy.batch_size,), generator=generator, device=Z.device
        )
        data = _log_likelihood(networks, space.Z[rows], space.T[rows, 0])
        augmented = _log_likelihood(networks, Z, outcomes[:, None])
        take_step(optimizer, -(data.sum() + augmented.sum()) / (len(rows) + q))
        Z = Z.requires_grad_()
        share = _log_likelihood(networks, Z, outcomes[:, None]).softmax(dim=0)
        (gradient,) = torch.autograd.grad((outcomes @ share).sum(), Z)
        Z = (Z + length * gradient).detach()
    space.record(path, Z)
    return space.decode(Z)


def _log_likelihood(networks: ProxyNetwork, Z: Tensor, T: Tensor) -> Tensor:
    """Log-likelihood of outcomes ``T`` (to be broadcast) at vectors ``n x e``, ``K x n``."""
    mean, log_std = networks(Z)
    return -0.5 * ((T - mean) / log_std.exp()).square() - log_std

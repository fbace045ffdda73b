r"""
The weight ball ``B(theta)`` of RoMA and the normalised steps that stay inside it.

Both stages move weights inside the same set [Yu2021roma]_,

    B(theta) = { theta~ : ||theta_l - theta~_l||_F <= radius * ||theta_l||_F for every tensor l },

in ``K`` steps of length ``radius * ||theta_l||_F / K`` along the normalised gradient of each
weight tensor. ``K`` steps of that length cannot leave the ball (triangle inequality), so no
projection is needed. Stage 1 ascends the training loss, stage 2 descends its own objective.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from botorch_roma.network import StackedWeights


def stacked_norm(tensor: Tensor) -> Tensor:
    r"""Frobenius norm of each of the ``S`` slices of an ``S x ...`` tensor, shape ``S``."""
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.dim())))


def per_slice(values: Tensor, tensor: Tensor) -> Tensor:
    r"""Values of shape ``S`` in the shape that goes with the slices of an ``S x ...`` tensor."""
    return values.view(-1, *[1] * (tensor.dim() - 1))


def stacked_norms(tensors: Iterable[Tensor]) -> Tensor:
    r"""Norms of ``T`` weight tensors of a stack, shape ``T x S``."""
    return torch.stack([stacked_norm(t) for t in tensors])


def step_lengths(weights: StackedWeights, radius: float, num_steps: int) -> Tensor:
    r"""Absolute length of one normalised step for every tensor, shape ``T x S``.

    Args:
        weights: The centre of the ball, ``theta``.
        radius: Radius of the ball relative to the norm of each tensor.
        num_steps: Number of steps that together may use up the radius.

    Returns:
        ``radius * ||theta_l|| / num_steps``; zero for a tensor that is zero (fresh biases).
    """
    return stacked_norms(weights.tensors()) * (radius / max(num_steps, 1))


def step_coefficients(lengths: Tensor, gradient_norms: Tensor) -> Tensor:
    r"""Factors that turn gradients into steps of the given lengths; 0 where the gradient is 0.

    A gradient so small that the squares inside its norm lose digits counts as 0: its step could
    be too long and leave the ball.
    """
    info = torch.finfo(gradient_norms.dtype)
    moves = gradient_norms > (info.tiny / info.eps) ** 0.5
    return torch.where(moves, lengths / gradient_norms, torch.zeros_like(lengths))


def relative_distances(weights: StackedWeights, center: StackedWeights) -> Tensor:
    r"""``||theta_l - theta~_l||_F / ||theta_l||_F`` for every tensor, shape ``T x S``.

    Args:
        weights: Perturbed or adapted weights, ``theta~``.
        center: The centre of the ball, ``theta``; its stack broadcasts against ``weights``.

    Returns:
        Relative distances; a tensor that is zero in the centre and has moved gives ``inf``.
    """
    pairs = list(zip(weights.tensors(), center.tensors(), strict=True))
    moved = torch.stack([stacked_norm(t - c) for t, c in pairs])
    norms = torch.stack([stacked_norm(c).expand(t.shape[0]) for t, c in pairs])
    return torch.where(moved == 0, torch.zeros_like(moved), moved / norms)

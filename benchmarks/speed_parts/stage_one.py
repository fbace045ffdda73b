"""Stage 1 as one would write it first: autograd, eager, one tensor after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from botorch_roma.network import Activation, StackedWeights, stacked_forward


def loss_gradients(
    tensors: Sequence[Tensor], Z: Tensor, T: Tensor, activation: Activation
) -> Sequence[Tensor]:
    """Gradient of the mean Gaussian negative log-likelihood of one network."""
    tensors = [t.detach().requires_grad_(True) for t in tensors]
    mean, log_std = stacked_forward(StackedWeights.from_tensors(tensors), Z, activation)
    loss = (0.5 * (mean - T).square() * torch.exp(-2.0 * log_std) + log_std).mean()
    return torch.autograd.grad(loss, tensors)


def autograd_training(
    weights: StackedWeights,
    activation: Activation,
    Z: Tensor,
    T: Tensor,
    *,
    noise_std: float,
    radius: float,
    num_ascent_steps: int,
    batch_size: int,
    lr: float = 1e-3,
    max_grad_norm: float = 1.0,
) -> StackedWeights:
    r"""One epoch of robust pre-training of one network.

    Args:
        weights: Initial weights of a stack of one; left unchanged.
        activation: The activation function.
        Z: Standardised inputs, ``n x d``.
        T: Standardised outcomes, ``n``.
        noise_std: Standard deviation of the noise on the inputs.
        radius: Radius of the ball relative to the norm of each tensor.
        num_ascent_steps: Number of ascent steps inside the ball.
        batch_size: Rows in a minibatch.
        lr: Learning rate of Adam.
        max_grad_norm: The gradient of each tensor is clipped to this norm.
    """
    parameters = [t.detach().clone().requires_grad_(True) for t in weights.tensors()]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    tiny = torch.finfo(Z.dtype).tiny
    for rows in torch.randperm(len(Z), device=Z.device).split(batch_size):
        batch = Z[rows] + noise_std * torch.randn_like(Z[rows])
        moved = [p.detach().clone() for p in parameters]
        lengths = [radius / num_ascent_steps * p.detach().norm() for p in parameters]
        for _ in range(num_ascent_steps):
            gradients = loss_gradients(moved, batch, T[rows], activation)
            moved = [
                t + length * g / g.norm().clamp_min(tiny)
                for t, g, length in zip(moved, gradients, lengths, strict=True)
            ]
        gradients = loss_gradients(moved, batch, T[rows], activation)
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g * (max_grad_norm / g.norm().clamp_min(max_grad_norm))
        optimizer.step()
    return StackedWeights.from_tensors([p.detach() for p in parameters])

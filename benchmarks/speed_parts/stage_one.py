"""Stage 1: an epoch of the package; the same as one would write it first, with autograd, eager."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from botorch_roma import RoMAModel, fit_roma_model
from botorch_roma.network import Activation, StackedWeights, stacked_forward

from .timing import Place

#: Steps of the ascent in a minibatch of :func:`training_epoch`.
ASCENT_STEPS: int = 20


def training_epoch(
    width: int, members: int, minibatches: int, place: Place
) -> Callable[[], object]:
    """An epoch of so many minibatches of 128 rows of 60 inputs, ready to run."""
    X = torch.rand(128 * minibatches + 64, 60, dtype=place.dtype)
    Y = X.sum(dim=1, keepdim=True).sin()
    model = RoMAModel(X, Y, hidden_sizes=(width, width), num_members=members)
    return partial(
        fit_roma_model,
        model,
        epochs=1,
        num_validation=64,
        seed=0,
        radius=0.005,
        num_ascent_steps=ASCENT_STEPS,
    )


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

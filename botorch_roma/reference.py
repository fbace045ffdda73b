r"""
The adaptation of RoMA and the conservative penalty as plainly as possible, by autograd.

This is the specification that :mod:`botorch_roma.closed_form` is tested against, and the reference
point of the speed benchmark; the package itself does not use it. One candidate at a time, one
weight set, no batching.
"""

from __future__ import annotations

import torch
from torch import Tensor

from botorch_roma.closed_form import Loss, head_gradient, settle_label
from botorch_roma.conservative import NUM_STEPS, STEP_LENGTH
from botorch_roma.network import Activation, StackedWeights


def reference_forward(
    weights: StackedWeights, z: Tensor, activation: Activation
) -> tuple[Tensor, Tensor]:
    r"""Mean and unbounded log-std of one network at one point ``z`` of shape ``d``."""
    h = z
    for layer in weights.hidden:
        h = activation.value(layer.weight @ h + layer.bias)
    mean, raw = (head.weight @ h + head.bias for head in (weights.mean, weights.log_std))
    return mean.squeeze(-1), raw.squeeze(-1)


def reference_objective(
    weights: StackedWeights,
    z: Tensor,
    pseudo_label: Tensor,
    *,
    alpha: float,
    loss: Loss,
    activation: Activation,
) -> Tensor:
    r"""``||grad_x f(x; theta)||_2 + alpha * loss(f(x; theta), pseudo_label)`` at one point."""
    z = z.detach().requires_grad_(True)
    mean, raw = reference_forward(weights, z, activation)
    (gradient,) = torch.autograd.grad(mean, z, create_graph=True)
    value, _, _ = head_gradient(mean, raw, settle_label(mean, pseudo_label), loss)
    return torch.linalg.vector_norm(gradient) + alpha * value


def reference_adapt(
    weights: StackedWeights,
    Z: Tensor,
    pseudo_label: Tensor,
    *,
    radius: float,
    num_steps: int,
    alpha: float,
    loss: Loss,
    activation: Activation,
) -> StackedWeights:
    r"""Adapt one network (tensors without a stack dimension) to the ``N x d`` points ``Z``."""
    center = [t.detach() for t in weights.tensors()]
    tensors = [t.clone() for t in center]
    for _ in range(num_steps):
        tensors = [t.detach().requires_grad_(True) for t in tensors]
        current = StackedWeights.from_tensors(tensors)
        objective = torch.stack(
            [
                reference_objective(current, z, y, alpha=alpha, loss=loss, activation=activation)
                for z, y in zip(Z, pseudo_label, strict=True)
            ]
        ).mean()
        gradients = torch.autograd.grad(objective, tensors, allow_unused=True)
        tensors = [
            t if g is None or g.norm() == 0 else t - radius / num_steps * c.norm() * g / g.norm()
            for t, g, c in zip(tensors, gradients, center, strict=True)
        ]
    return StackedWeights.from_tensors([t.detach() for t in tensors])


def reference_reached(weights: StackedWeights, z: Tensor, activation: Activation) -> Tensor:
    r"""Where plain steps up one network lead from one point ``z`` of shape ``d``."""
    for _ in range(NUM_STEPS):
        z = z.detach().requires_grad_(True)
        mean, _ = reference_forward(weights, z, activation)
        (gradient,) = torch.autograd.grad(mean, z)
        z = z + STEP_LENGTH * len(z) ** 0.5 * gradient
    return z.detach()


def reference_penalty(
    weights: StackedWeights, climbed: StackedWeights, Z: Tensor, activation: Activation
) -> Tensor:
    r"""The conservative penalty of one network for ``N x d`` points, with the weight 1.

    Args:
        weights: The weights that predict.
        climbed: The weights that the steps climb.
        Z: Standardised inputs.
        activation: The activation function.
    """
    gaps = []
    for z in Z:
        reached, _ = reference_forward(
            weights, reference_reached(climbed, z, activation), activation
        )
        here, _ = reference_forward(weights, z, activation)
        gaps.append(reached - here)
    return torch.stack(gaps).mean()

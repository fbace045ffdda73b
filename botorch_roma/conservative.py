r"""
The conservative penalty of stage 1: a proxy that promises little where ascent leads.

Conservative objective models [Trabucco2021coms]_ learn to predict less for designs that gradient
ascent reaches. Here the penalty

    c * ( mean_i f(x_i^+; theta~) - mean_i f(x_i; theta~) )

is a part of the training loss of a minibatch. ``x^+`` is where a few plain steps up ``f(.; theta)``
lead from the noisy design ``x``, a constant of the loss as it is there; ``c`` is fixed, where they
raise it until the difference keeps a limit.

The weight perturbation climbs the training loss, so it sees the penalty. The steps climb the
unperturbed weights, once a minibatch, as candidates without adaptation do.

References:

.. [Trabucco2021coms]
    B. Trabucco, A. Kumar, X. Geng, and S. Levine. Conservative Objective Models for Effective
    Offline Model-Based Optimization. ICML, 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from botorch_roma.network import Activation, StackedWeights, stacked_input_gradient

#: Steps from the data.
NUM_STEPS: int = 5

#: Their length per unit of gradient and root of the number of inputs, in z-scored inputs, that of
#: stage 2 along the gradient.
STEP_LENGTH: float = 0.1


def reached_designs(weights: StackedWeights, Z: Tensor, activation: Activation) -> Tensor:
    r"""Where :data:`NUM_STEPS` plain steps up the mean of each network lead.

    Args:
        weights: The weights of ``S`` networks.
        Z: Standardised inputs, ``S x N x d``.
        activation: The activation function.

    Returns:
        Standardised inputs, ``S x N x d``.
    """
    length = STEP_LENGTH * Z.shape[-1] ** 0.5
    for _ in range(NUM_STEPS):
        _, gradient = stacked_input_gradient(weights, Z, activation)
        Z = Z + length * gradient
    return Z


def add_penalty(
    value: Tensor, d_mean: Tensor, d_raw: Tensor | None, mean: Tensor, conservatism: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Add the penalty to the loss of the data and to its derivatives.

    Args:
        value: Loss of each of ``N`` points of data, ``S x N``.
        d_mean: Its derivative in the predicted mean, ``S x N``.
        d_raw: Its derivative in the log-std head, ``S x N``, or None.
        mean: Predicted mean of the data, then of the designs reached from it, ``S x 2N``.
        conservatism: The weight ``c`` of the penalty.

    Returns:
        The loss ``S x N``, its mean being that of the minibatch, and both derivatives, ``S x 2N``
        each, as those of :func:`~botorch_roma.closed_form.training_loss`.
    """
    data, reached = mean.chunk(2, dim=-1)
    difference = reached.mean(dim=-1, keepdim=True) - data.mean(dim=-1, keepdim=True)
    up = torch.full_like(d_mean, conservatism)
    d_mean = torch.cat([d_mean - up, up], dim=-1)
    if d_raw is not None:
        d_raw = torch.cat([d_raw, torch.zeros_like(d_raw)], dim=-1)
    return value + conservatism * difference, d_mean, d_raw

r"""
The inner loop of the adaptation: normalised descent of every weight tensor inside its ball.

Every candidate has weights of its own. A hidden layer keeps them in one of two forms, which give
the same result up to rounding:

* *dense*: one matrix each, read and written in every step;
* *factored*: the fitted matrix, common to all, and the factors of what the steps have added. Each
  step adds a matrix of rank 2 (:mod:`botorch_roma.closed_form`), so ``K`` steps add ``2 K`` rows
  (:class:`~botorch_roma.network.FactoredLayer`). The wider a layer and the fewer the steps,
  the better.

:func:`cheapest_form` chooses, layer by layer, by a model of the cost of one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from botorch_roma.closed_form import LayerFactors, Loss, adaptation_gradient
from botorch_roma.limits import check_memory
from botorch_roma.network import Activation, AnyLayer, FactoredLayer, Layer, StackedWeights
from botorch_roma.perturbation import stacked_norm, step_coefficients, step_lengths

WeightForm = Literal["auto", "dense", "factored"]

#: Nanoseconds that the choice of a form rests on: a weight read or written (of one candidate, in
#: its own matrix), an entry of a factor read, a multiplication with the common matrix, and the
#: calls that the factored form needs on top.
#: Read off single products on one thread; `python benchmarks/speed.py --calibrate` fits them. Only
#: their ratios matter.
COST: dict[str, float] = {"dense": 0.25, "factor": 0.15, "common": 0.035, "calls": 60_000.0}

#: There are at least so many rows of factors, zeros if need be: torch multiplies smaller matrices
#: without its matrix library, which takes longer.
MIN_ROWS: int = 8


def cheapest_form(out: int, into: int, *, num_steps: int, num_candidates: int) -> WeightForm:
    r"""The form in which adapting an ``out x in`` layer is expected to take less time.

    A step makes four products with the matrix of each candidate. Dense, it also reads and writes
    the matrix for the update; factored, half of the ``2 K`` rows are there in an average step.

    Args:
        out: Outputs of the layer.
        into: Inputs of the layer.
        num_steps: Number ``K`` of steps of one adaptation.
        num_candidates: Number of candidates that share the fitted weights.
    """
    dense = 6.0 * COST["dense"] * out * into
    common = COST["common"] + COST["dense"] / num_candidates  # it is read once for all of them
    factored = 4.0 * (COST["factor"] * num_steps * (out + into) + common * out * into)
    gain = num_candidates * (dense - factored)
    return "factored" if gain > COST["calls"] else "dense"


def adapt_weights(
    weights: StackedWeights,
    Z: Tensor,
    pseudo_label: Tensor,
    *,
    radius: float,
    num_steps: int,
    alpha: float,
    loss: Loss,
    activation: Activation,
    weight_form: WeightForm = "auto",
) -> StackedWeights:
    r"""Adapt networks to their own points by normalised descent inside the ball.

    Args:
        weights: The weights of ``S`` networks, the centres of the balls; left unchanged.
        Z: Standardised inputs, ``S * C x N x d``, network-major: each network is adapted to ``C``
            sets of points, over which the objective is averaged.
        pseudo_label: Standardised pseudo labels, ``S * C x N``.
        radius: Radius of the ball relative to the norm of each tensor.
        num_steps: Number of normalised steps that use up the radius.
        alpha: Weight of the pseudo-label term.
        loss: Form of the pseudo-label term, see
            :func:`~botorch_roma.closed_form.head_gradient`.
        activation: The activation function.
        weight_form: ``"dense"``, ``"factored"`` (with ``N = 1`` only), or ``"auto"``.

    Returns:
        Weights of ``S * C`` networks, new tensors, in some layers factored; none is further than
        ``radius * ||theta_l||`` from its start.
    """
    count = len(Z) // len(weights.mean.bias)
    length = step_lengths(weights, radius, num_steps).repeat_interleave(count, dim=1)
    layers: list[AnyLayer] = []
    rows: list[tuple[Tensor, Tensor] | None] = []
    for i, layer in enumerate(weights.layers):
        assert isinstance(layer, Layer)
        hidden = i < len(weights.hidden)
        form = weight_form if hidden and Z.shape[1] == 1 else "dense"
        _, out, into = layer.weight.shape
        if form == "auto":
            form = cheapest_form(out, into, num_steps=num_steps, num_candidates=count)
        size = max(2 * num_steps, MIN_ROWS)
        numbers = out * into if form == "dense" else size * (out + into)
        check_memory(
            f"A layer of {into} x {out} weights for each of {count} candidates",
            len(Z) * numbers * Z.element_size(),
            "reduce `q` or `num_restarts`, or choose narrower `hidden_sizes`",
            Z.device,
        )
        bias = layer.bias.repeat_interleave(count, dim=0)
        if form == "dense":
            layers.append(Layer(layer.weight.repeat_interleave(count, dim=0), bias))
            rows.append(None)
            continue
        left, right = (Z.new_zeros(len(Z), size, columns) for columns in (out, into))
        layers.append(FactoredLayer(layer.weight, bias, left[:, :0], right[:, :0]))
        rows.append((left, right))
    for step in range(num_steps):
        _, factors = adaptation_gradient(
            StackedWeights.from_layers(layers),
            Z,
            pseudo_label,
            alpha=alpha,
            loss=loss,
            activation=activation,
        )
        _descend_(layers, rows, factors, length, step)
    return StackedWeights.from_layers(layers)


def _weight_gradient_norm(factors: LayerFactors) -> tuple[Tensor, Tensor | None]:
    r"""Norm of ``left^T right`` (shape ``S``), and the matrix itself where it was formed."""
    if factors.left.shape[1] <= 2:
        # ||L^T R||^2 = <L L^T, R R^T>: two 2 x 2 products instead of an out x in matrix
        gram = torch.bmm(factors.left, factors.left.mT) * torch.bmm(factors.right, factors.right.mT)
        # where the two products all but cancel, their sum is rounding: then rather too short a
        # step than one that leaves the ball
        floor = gram[:, 0, 0] * torch.finfo(gram.dtype).eps ** 0.5
        return torch.maximum(gram.sum(dim=(1, 2)), floor).sqrt(), None
    gradient = torch.bmm(factors.left.mT, factors.right)
    return stacked_norm(gradient), gradient


def _descend_(
    layers: list[AnyLayer],
    rows: Sequence[tuple[Tensor, Tensor] | None],
    factors: Sequence[LayerFactors | None],
    length: Tensor,
    step: int,
) -> None:
    r"""One normalised descent step on every tensor, in place; ``length`` is ``T x S``.

    ``layers`` are changed in place; the further rows of a factored one are written into ``rows``.
    """
    moved = [  # all layers, or all but the last, the log-std head
        (i, f, *_weight_gradient_norm(f)) for i, f in enumerate(factors) if f is not None
    ]
    norms = torch.stack([n for _, f, norm, _ in moved for n in (norm, stacked_norm(f.bias))])
    coefficients = step_coefficients(length[: len(norms)], norms)
    for i, f, _, gradient in moved:
        layer, c = layers[i], coefficients[2 * i].view(-1, 1, 1)
        layer.bias.addcmul_(f.bias, coefficients[2 * i + 1].unsqueeze(-1), value=-1.0)
        if isinstance(layer, FactoredLayer):
            layers[i] = _extended(layer, rows[i], 2 * step, f.left, f.right * -c)
        elif gradient is None:
            layer.weight.baddbmm_(f.left.mT, f.right * c, alpha=-1.0)
        else:
            layer.weight.addcmul_(gradient, c, value=-1.0)


def _extended(
    layer: FactoredLayer, rows: tuple[Tensor, Tensor] | None, old: int, left: Tensor, right: Tensor
) -> FactoredLayer:
    r"""The layer with two further rows of factors after ``old`` ones; it is a view of ``rows``."""
    assert rows is not None
    for buffer, pair in zip(rows, (left, right), strict=True):
        buffer[:, old : old + 2] = pair
    size = max(old + 2, MIN_ROWS)
    return layer._replace(left=rows[0][:, :size], right=rows[1][:, :size])

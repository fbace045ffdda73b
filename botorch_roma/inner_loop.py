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

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from botorch_roma.closed_form import LayerFactors, Loss, adaptation_gradient, sum_rows
from botorch_roma.limits import check_memory
from botorch_roma.network import Activation, AnyLayer, FactoredLayer, Layer, StackedWeights
from botorch_roma.perturbation import per_slice, stacked_norm, step_coefficients, step_lengths

WeightForm = Literal["auto", "dense", "factored"]

#: Nanoseconds that the choice of a form rests on: a weight read or written (of one candidate, in
#: its own matrix), an entry of a factor read, a multiplication with the common matrix, and the
#: calls that the factored form needs on top. Fitted to both forms on one thread by
#: `python benchmarks/speed.py --calibrate`; only their ratios matter.
COST: dict[str, float] = {"dense": 0.48, "factor": 0.55, "common": 0.085, "calls": 344_000.0}

#: There are at least so many rows of factors, zeros if need be: torch multiplies smaller matrices
#: without its matrix library, which takes longer.
MIN_ROWS: int = 8


class OutOfTime(Exception):
    """The time budget ended within an adaptation."""


class Moves(NamedTuple):
    r"""What ``k`` steps add to a layer of ``S`` networks, ``left^T right`` and the sum of ``bias``.

    Attributes:
        left: ``S x k R x out``.
        right: ``S x k R x in``.
        bias: ``S x k x out``.
        weight: The product, ``S x out x in``, where it is there already.
    """

    left: Tensor
    right: Tensor
    bias: Tensor
    weight: Tensor | None = None


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
    early_stop: bool = False,
    reuse_steps: int = 0,
    previous: Sequence[Moves] = (),
    expired: Callable[[], bool] | None = None,
) -> tuple[StackedWeights, list[Moves]]:
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
        early_stop: Whether a network whose objective has not fallen with a step takes that step
            back, and no further one. The last step is not looked at.
        reuse_steps: Number ``r`` of the latest steps whose moves are returned.
        previous: The moves that the adaptation before has returned. They are made at once, and only
            the steps that are left are taken after them.
        expired: Asked before every further step whether to give up.

    Returns:
        Weights of ``S * C`` networks, new tensors, in some layers factored; none is further than
        ``radius * ||theta_l||`` from its start. And the moves of the ``r`` latest steps of every
        layer but a log-std head that the loss does not see; no moves where ``r`` is 0.

    Raises:
        OutOfTime: If ``expired`` says so.
    """
    first_step = previous[0].bias.shape[1] if previous else 0
    count = len(Z) // len(weights.mean.bias)
    length = step_lengths(weights, radius, num_steps).repeat_interleave(count, dim=1)
    layers, rows = _start(weights, Z, weight_form, num_steps, first_step, reuse_steps)
    stops = _Stops() if early_stop else None
    _move_(layers, rows, previous, 0)
    latest = [previous] if previous else []
    for step in range(first_step, num_steps):
        if expired is not None and expired():
            raise OutOfTime
        objective, factors = adaptation_gradient(
            StackedWeights.from_layers(layers),
            Z,
            pseudo_label,
            alpha=alpha,
            loss=loss,
            activation=activation,
        )
        moves = _descent(factors, length)
        if stops is not None:
            moves = stops(objective, moves)
        _move_(layers, rows, moves, step)
        if reuse_steps:
            latest.append(moves)
        if stops is not None and stops.all_stopped():
            break
    kept = [_latest(moves, reuse_steps) for moves in zip(*latest, strict=True)]
    return StackedWeights.from_layers(layers), kept


#: Room for the factors of all steps, ``left`` and ``right``; None where a layer is dense.
_Rows = tuple[Tensor, Tensor] | None


def _start(
    weights: StackedWeights,
    Z: Tensor,
    weight_form: WeightForm,
    num_steps: int,
    first_step: int,
    reuse_steps: int,
) -> tuple[list[AnyLayer], list[_Rows]]:
    """The fitted weights for every set of points, in the form in which they are adapted."""
    count = len(Z) // len(weights.mean.bias)
    layers: list[AnyLayer] = []
    rows: list[_Rows] = []
    for i, layer in enumerate(weights.layers):
        assert isinstance(layer, Layer)
        hidden = i < len(weights.hidden)
        form = weight_form if hidden and Z.shape[1] == 1 else "dense"
        _, out, into = layer.weight.shape
        if form == "auto":  # what is reused is there in every step
            average = num_steps + first_step
            form = cheapest_form(out, into, num_steps=average, num_candidates=count)
        size = max(2 * num_steps, MIN_ROWS)
        numbers = out * into if form == "dense" else size * (out + into)
        check_memory(
            f"A layer of {into} x {out} weights for each of {count} candidates",
            len(Z) * (numbers + 2 * reuse_steps * (out + into)) * Z.element_size(),
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
    return layers, rows


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


def _descent(factors: Sequence[LayerFactors | None], length: Tensor) -> list[Moves]:
    r"""One normalised descent step of every tensor; ``length`` is ``T x S``.

    Of all layers, or of all but the last, the log-std head, where the loss does not see it.
    """
    seen = [(f, *_weight_gradient_norm(f)) for f in factors if f is not None]
    norms = torch.stack([n for f, norm, _ in seen for n in (norm, stacked_norm(f.bias))])
    steps = step_coefficients(length[: len(norms)], norms).neg_().unsqueeze(-1)
    moves = []
    for i, (f, _, gradient) in enumerate(seen):
        c = steps[2 * i].unsqueeze(-1)
        weight = None if gradient is None else gradient.mul_(c)
        bias = f.bias * steps[2 * i + 1]
        moves.append(Moves(f.left, f.right * c, bias.unsqueeze(1), weight))
    return moves


def _move_(
    layers: list[AnyLayer],
    rows: Sequence[_Rows],
    moves: Sequence[Moves],
    step: int,
) -> None:
    r"""Add the moves of a step, or of several from it on, in place.

    ``layers`` are changed in place; the further rows of a factored one are written into ``rows``.
    """
    for i, move in enumerate(moves):
        layer = layers[i]
        layer.bias.add_(sum_rows(move.bias))
        if isinstance(layer, FactoredLayer):
            layers[i] = _extended(layer, rows[i], 2 * step, move.left, move.right)
        elif move.weight is None and move.left.shape[1] == 1:
            layer.weight.addcmul_(move.left.mT, move.right)
        elif move.weight is None:
            layer.weight.baddbmm_(move.left.mT, move.right)
        else:
            layer.weight.add_(move.weight)


class _Stops:
    """Which networks still move: those whose objective has fallen with every step so far."""

    def __init__(self) -> None:
        self.objective: Tensor | None = None
        self.moves: list[Moves] = []
        self.active: Tensor

    def __call__(self, objective: Tensor, moves: list[Moves]) -> list[Moves]:
        r"""What each network does at its objective ``S``: its move, the last one back, or nothing.

        Nothing is read from the device.
        """
        if self.objective is None:
            self.active = torch.ones_like(objective, dtype=torch.bool)
        else:
            falls = self.active & (objective < self.objective)
            back = self.active & ~falls
            self.active = falls
            pairs = zip(moves, self.moves, strict=True)
            moves = [_chosen(new, last, falls, back) for new, last in pairs]
        self.objective, self.moves = objective, moves
        return moves

    def all_stopped(self) -> bool:
        """Whether nothing will move any more; a GPU is not asked, which would take longer."""
        return self.active.device.type == "cpu" and not bool(self.active.any())


def _chosen(move: Moves, last: Moves, falls: Tensor, back: Tensor) -> Moves:
    r"""The move where it ``falls``, the last one taken ``back``, or nothing; ``S`` of bool each."""

    def choose(new: Tensor, old: Tensor) -> Tensor:
        rest = torch.where(per_slice(back, new), -old, torch.zeros_like(old))
        return torch.where(per_slice(falls, new), new, rest)

    weight = (
        None if move.weight is None or last.weight is None else choose(move.weight, last.weight)
    )
    left = torch.where(per_slice(back, move.left), last.left, move.left)
    return Moves(left, choose(move.right, last.right), choose(move.bias, last.bias), weight)


def _latest(moves: Sequence[Moves], r: int) -> Moves:
    """The ``r`` latest of the steps of one layer, in the order in which they were taken."""
    rank = moves[-1].left.shape[1]
    left, right = (torch.cat(side, dim=1) for side in zip(*(m[:2] for m in moves), strict=True))
    bias = torch.cat([m.bias for m in moves], dim=1)
    return Moves(left[:, -rank * r :], right[:, -rank * r :], bias[:, -r:])


def _extended(
    layer: FactoredLayer, rows: _Rows, old: int, left: Tensor, right: Tensor
) -> FactoredLayer:
    r"""The layer with further rows of factors after ``old`` ones; it is a view of ``rows``."""
    assert rows is not None
    new = old + left.shape[1]
    for buffer, further in zip(rows, (left, right), strict=True):
        buffer[:, old:new] = further
    size = max(new, MIN_ROWS)
    return layer._replace(left=rows[0][:, :size], right=rows[1][:, :size])

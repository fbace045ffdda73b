r"""
Stage 2a of RoMA: adapt the fitted proxy to the candidates before every step.

For candidate ``x`` with pseudo label ``y`` the adapted weights are [Yu2021roma]_

    theta_t = argmin_{theta~ in B(theta)} ||grad_x f(x; theta~)||_2 + alpha * (f(x; theta~) - y)^2,

sought by ``num_steps`` normalised descent steps from the fitted weights, which stay inside the ball
``B(theta)`` by construction (:mod:`botorch_roma.perturbation`). The gradients are in closed form
(:mod:`botorch_roma.closed_form`). Two reductions, both exact, take the size out of it: with many
inputs the first layer is adapted in ``h + 1`` coordinates
(:class:`~botorch_roma.models.adapted.InputBasis`), and of wide layers only the low-rank difference
to the fitted weights is kept for each candidate (:mod:`botorch_roma.inner_loop`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from botorch.exceptions import BotorchTensorDimensionError
from botorch.exceptions.errors import ModelFittingError
from torch import Tensor

from botorch_roma.closed_form import FirstLayer, Loss
from botorch_roma.graphs import Recorder
from botorch_roma.inner_loop import Moves, WeightForm, adapt_weights
from botorch_roma.models.adapted import AdaptedRoMAModel, InputBasis
from botorch_roma.models.roma import RoMAModel, check_model
from botorch_roma.network import StackedWeights
from botorch_roma.validation import (
    check_choice,
    check_flag,
    check_float,
    check_int,
    check_same_kind,
    check_tensor,
)

Mode = Literal["per_candidate", "shared"]


class Adaptation:
    r"""The adaptation of one fitted model, prepared once and called at every update.

    Args:
        model: The fitted model; never changed.
        radius: Radius of the ball relative to the norm of each weight tensor.
        num_steps: Number of normalised descent steps that use up the radius.
        alpha: Weight of the pseudo-label term.
        mode: ``"per_candidate"`` (one weight set each, as in the formula) or ``"shared"`` (one
            weight set for all, minimising the mean objective, as in the authors' code).
        pseudo_label_loss: ``"squared_error"`` (the paper) or ``"nll"`` (the authors' code).
        first_layer: ``"dense"``, ``"reduced"``, or ``"auto"``: reduced where the inputs outnumber
            hidden units plus points by a quarter.
        weight_form: ``"dense"``, ``"factored"`` or ``"auto"``: how the weights of each candidate
            are kept, see :mod:`botorch_roma.inner_loop`. Shared weights are always dense.
        early_stop: Whether weights whose objective has not fallen with a step take that step back,
            and no further one. The paper takes all steps.
        reuse_steps: Number ``r`` of the latest steps of a call that the next one begins with,
            before it takes ``num_steps - r`` new ones; see below. 0 is the paper.
        replay: Launch the inner loop as one CUDA graph from the second call on. The weights that a
            call returns are overwritten by the next one then.
        expired: Asked between the steps of a call, on a CPU, whether to give up, which raises
            :class:`~botorch_roma.inner_loop.OutOfTime`.

    With ``reuse_steps`` the calls are updates of the same candidates, in the same order; a call
    with another number of them starts anew. That deviates from [Yu2021roma]_, where every
    adaptation restarts from the fitted weights: here its steps are spread over several updates, the
    oldest of them taken for designs and pseudo labels that a candidate has left behind. There are
    never more than ``num_steps`` of them, so their sum stays in the ball.

    Raises:
        ModelFittingError: If the model has not been fitted.
        ValueError: For a negative radius, number of steps or alpha, or an unknown mode.
    """

    def __init__(
        self,
        model: RoMAModel,
        *,
        radius: float = 0.02,
        num_steps: int = 10,
        alpha: float = 1.0,
        mode: Mode = "per_candidate",
        pseudo_label_loss: Loss = "squared_error",
        first_layer: FirstLayer = "auto",
        weight_form: WeightForm = "auto",
        early_stop: bool = False,
        reuse_steps: int = 0,
        replay: bool = False,
        expired: Callable[[], bool] | None = None,
    ) -> None:
        if not model.is_fitted:
            raise ModelFittingError(
                "`model` has not been fitted, its weights are random; call "
                "`fit_roma_model(model)` or load the state dict of a fitted model."
            )
        self.model = model
        self.radius = check_float("radius", radius)
        self.num_steps = check_int("num_steps", num_steps, minimum=0)
        self.alpha = check_float("alpha", alpha)
        self.shared = check_choice("mode", mode, get_args(Mode)) == "shared"
        check_choice("pseudo_label_loss", pseudo_label_loss, get_args(Loss))
        self.loss: Loss = pseudo_label_loss
        self.first_layer = check_choice("first_layer", first_layer, get_args(FirstLayer))
        check_choice("weight_form", weight_form, get_args(WeightForm))
        self.weight_form: WeightForm = weight_form
        self.early_stop = check_flag("early_stop", early_stop)
        self.weights = model.network.weights.map(Tensor.detach)
        self.reuse_steps = check_reuse(
            reuse_steps, "num_steps", self.num_steps, mode=mode, early_stop=early_stop
        )
        self._latest: list[Moves] = []
        self._latest_own: Tensor | None = None
        self._own_span: tuple[Tensor, StackedWeights] | None = None
        self.replay = replay
        self._recorder = Recorder()
        # a recorded graph is launched as a whole
        self.expired = None if model.train_X.is_cuda else expired

    def __call__(
        self, Z: Tensor, pseudo_label: Tensor, points_per_batch: int | None = None
    ) -> AdaptedRoMAModel:
        r"""Adapt to candidates on the standardised scale.

        Args:
            Z: Standardised candidates, ``B x d``.
            pseudo_label: Standardised pseudo labels of every network, ``S x B``.
            points_per_batch: See :class:`~botorch_roma.models.adapted.AdaptedRoMAModel`.
        """
        Z, pseudo_label = Z.detach(), pseudo_label.detach()
        s, b = pseudo_label.shape
        if self.radius == 0.0 or self.num_steps == 0:
            weights = self.weights.map(torch.clone)
            return AdaptedRoMAModel(self.model, weights, b, points_per_batch=points_per_batch)
        groups = self.weights.mean.bias.shape[0] // s  # of candidates: more than one where joined
        points = Z.view(groups if self.shared else b, -1, Z.shape[-1])  # C x N x d
        labels = pseudo_label.reshape(-1, points.shape[1])  # S * C x N
        basis, inputs, weights = self._reduce(points)
        previous = self._previous(len(inputs), basis)
        if self.replay and not (self.shared and basis is not None):  # the weights stay in place
            adapted, self._latest = self._recorder(
                self._adapt_fitted, inputs, labels, *(t for m in previous for t in m[:3])
            )
        else:
            adapted, self._latest = self._adapt(weights, inputs, labels, previous)
        return AdaptedRoMAModel(
            self.model, adapted, b, basis=basis, points_per_batch=points_per_batch
        )

    def state(self) -> dict[str, Any]:
        """What the next call depends on besides its arguments: the moves that it reuses."""
        return {"latest": [list(m[:3]) for m in self._latest], "own": self._latest_own}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._latest = [Moves(*(t.to(self.weights.mean.bias) for t in m)) for m in state["latest"]]
        own = state["own"]
        self._latest_own = None if own is None else own.to(self.weights.mean.bias)

    def _previous(self, count: int, basis: InputBasis | None) -> list[Moves]:
        """The moves of the latest steps of the call before, in the coordinates of this one."""
        moves = self._latest
        if not moves or len(moves[0].bias) != count:
            moves = []
        own, self._latest_own = self._latest_own, None
        if basis is None or not self.reuse_steps:
            return moves
        self._latest_own = basis.own
        if not moves:
            return moves
        assert own is not None
        # What the moves did along the direction that a candidate had to itself is projected onto
        # the one that it has now. An update turns it by little, and a projection shortens: the sum
        # stays in the ball. Kept in full, the directions of all updates so far would be needed.
        turn = own.mT @ basis.own  # S * C x 1 x 1
        common = basis.shared.shape[-1]
        right = torch.cat([moves[0].right[..., :common], moves[0].right[..., common:] @ turn], -1)
        return [moves[0]._replace(right=right), *moves[1:]]

    def _adapt(
        self,
        weights: StackedWeights,
        inputs: Tensor,
        labels: Tensor,
        previous: Sequence[Moves],
    ) -> tuple[StackedWeights, list[Moves]]:
        return adapt_weights(
            weights,
            inputs,
            labels,
            radius=self.radius,
            num_steps=self.num_steps,
            alpha=self.alpha,
            loss=self.loss,
            activation=self.model.network.activation,
            weight_form="dense" if self.shared else self.weight_form,
            early_stop=self.early_stop,
            reuse_steps=self.reuse_steps,
            previous=previous,
            expired=self.expired,
        )

    def _adapt_fitted(
        self, inputs: Tensor, labels: Tensor, *previous: Tensor
    ) -> tuple[StackedWeights, list[Moves]]:
        """The same from the fitted weights, in the coordinates of their span if that is in use."""
        weights = self.weights if self._own_span is None else self._own_span[1]
        moves = [Moves(*previous[i : i + 3]) for i in range(0, len(previous), 3)]
        return self._adapt(weights, inputs, labels, moves)

    def _use_reduced(self, num_points: int) -> bool:
        h, d = self.weights.hidden[0].weight.shape[1:]
        if self.first_layer == "auto":
            return d > 1.25 * (h + num_points)
        return self.first_layer == "reduced"

    def _reduce(self, points: Tensor) -> tuple[InputBasis | None, Tensor, StackedWeights]:
        r"""Basis for ``C x N x d`` points, the points and the fitted weights in its coordinates."""
        num_networks = self.model.network.num_networks
        if not self._use_reduced(points.shape[1]):
            return None, points.repeat(num_networks, 1, 1), self.weights
        first = self.weights.hidden[0].weight
        if self.shared:
            basis = _joint_basis(first, points)
            return basis, basis.coordinates(points), self._in_span(basis.shared, 0)
        if self._own_span is None:
            span = torch.linalg.qr(first.mT).Q
            self._own_span = span, self._in_span(span, 1)
        span, weights = self._own_span
        return *_own_basis(span, points, num_networks), weights

    def _in_span(self, span: Tensor, num_own: int) -> StackedWeights:
        r"""The fitted weights in the coordinates of ``S x d x r``, and of ``num_own`` beside it."""
        first = self.weights.hidden[0]
        weight = torch.nn.functional.pad(first.weight @ span, (0, num_own))
        return self.weights._replace(
            hidden=(first._replace(weight=weight), *self.weights.hidden[1:])
        )


def _own_basis(shared: Tensor, points: Tensor, num_networks: int) -> tuple[InputBasis, Tensor]:
    r"""The part of each candidate outside of the shared span, normalised, as its own direction.

    And the candidates' coordinates in this basis, ``S * C x 1 x (r + 1)``, which fall out of it.
    """
    points = points.repeat(num_networks, 1, 1).view(len(shared), -1, points.shape[-1])  # S x C x d
    common = points @ shared
    residual = torch.baddbmm(points, common, shared.mT, alpha=-1.0)
    scale, length = (torch.linalg.vector_norm(t, dim=-1, keepdim=True) for t in (points, residual))
    # What rounding has left in the span matters where little is left; a GPU is not asked.
    if points.is_cuda or bool((length < 0.1 * scale).any()):
        left = residual @ shared
        residual.baddbmm_(left, shared.mT, alpha=-1.0)
        length = torch.linalg.vector_norm(residual, dim=-1, keepdim=True)
        common = common + left
    inside = length <= 100.0 * torch.finfo(points.dtype).eps * scale
    own = residual.mul_(torch.where(inside, torch.zeros_like(length), 1.0 / length))
    coordinates = torch.cat([common, length.masked_fill(inside, 0.0)], dim=-1)
    basis = InputBasis(shared, own.reshape(-1, own.shape[-1], 1))
    return basis, coordinates.reshape(-1, 1, coordinates.shape[-1])


def _joint_basis(first_weight: Tensor, points: Tensor) -> InputBasis:
    r"""One basis of the rows of ``W_1`` and all points, for one shared weight set."""
    rows = points.repeat(len(first_weight) // len(points), 1, 1)
    basis = torch.linalg.qr(torch.cat([first_weight, rows], dim=1).mT).Q
    return InputBasis(basis, basis.new_zeros(*basis.shape[:2], 0))


def check_reuse(
    reuse_steps: int, steps_name: str, num_steps: int, *, mode: str, early_stop: bool
) -> int:
    """Return ``reuse_steps``, or raise ``ValueError`` if it does not go with other settings."""
    reuse_steps = check_int("reuse_steps", reuse_steps, minimum=0)
    if not reuse_steps:
        return 0
    if reuse_steps >= num_steps:
        raise ValueError(
            f"`reuse_steps` must be below `{steps_name}`, which is {num_steps}, for at least one "
            f"new step, received {reuse_steps}."
        )
    if mode != "per_candidate":
        raise ValueError(
            f'`reuse_steps` needs `mode="per_candidate"`, received {reuse_steps} and {mode!r}; set '
            "one of them."
        )
    if early_stop:
        raise ValueError(
            f"`reuse_steps` needs all steps of an adaptation, received {reuse_steps} and "
            "`early_stop=True`; set one of them."
        )
    return reuse_steps


def adapt_roma_model(
    model: RoMAModel,
    X: Tensor,
    pseudo_label: Tensor | None = None,
    *,
    radius: float = 0.02,
    num_steps: int = 10,
    alpha: float = 1.0,
    mode: Mode = "per_candidate",
    pseudo_label_loss: Loss = "squared_error",
    first_layer: FirstLayer = "auto",
    weight_form: WeightForm = "auto",
    early_stop: bool = False,
) -> AdaptedRoMAModel:
    r"""Adapt a fitted model to candidates (stage 2a of [Yu2021roma]_ on its own).

    Every network of the model (each ensemble member, each output) is adapted separately.

    Args:
        model: The fitted model; it is not changed.
        X: Candidates, ``B x d``, in the user's input space.
        pseudo_label: Outcomes that the adapted predictions should stay close to, ``B x m``, in the
            user's outcome space. By default the predictions of each member itself.
        radius: Radius of the ball relative to each tensor's norm.
        num_steps: Number of normalised descent steps that use up the radius.
        alpha: Weight of the pseudo-label term, on the standardised outcome.
        mode: ``"per_candidate"`` or ``"shared"``.
        pseudo_label_loss: ``"squared_error"`` or ``"nll"``.
        first_layer: ``"auto"``, ``"dense"`` or ``"reduced"``; the result is the same.
        weight_form: ``"auto"``, ``"dense"`` or ``"factored"``; the result is the same.
        early_stop: Whether a candidate stops where its objective no longer falls.

    Returns:
        A model with ``batch_shape = [B]``.

    Raises:
        ModelFittingError: If the model has not been fitted.
        ValueError: For options out of range.
        InputDataError, BotorchTensorDimensionError: For malformed ``X`` or ``pseudo_label``.

    Example:
        >>> adapted = adapt_roma_model(model, X)  # X: 128 x d
        >>> PosteriorMean(adapted)(X.unsqueeze(1))  # 128 values
    """
    check_model("model", model)
    adaptation = Adaptation(
        model,
        radius=radius,
        num_steps=num_steps,
        alpha=alpha,
        mode=mode,
        pseudo_label_loss=pseudo_label_loss,
        first_layer=first_layer,
        weight_form=weight_form,
        early_stop=early_stop,
    )
    check_tensor("X", X, dim=2)
    check_same_kind("X", X, model.train_X)
    if X.shape[1] != model.train_X.shape[1] or X.shape[0] < 1:
        raise BotorchTensorDimensionError(
            f"`X` must have shape B x {model.train_X.shape[1]} with B >= 1, "
            f"received {tuple(X.shape)}."
        )
    model.eval()
    with torch.no_grad():
        Z = model.standardize_inputs(X)
        if pseudo_label is None:
            labels, _ = model.network(Z)
        else:
            check_tensor("pseudo_label", pseudo_label, dim=2, rows=X.shape[0])
            check_same_kind("pseudo_label", pseudo_label, model.train_X)
            if pseudo_label.shape[1] != model.num_outputs:
                raise BotorchTensorDimensionError(
                    f"`pseudo_label` must have {model.num_outputs} columns, received shape "
                    f"{tuple(pseudo_label.shape)}."
                )
            standardized = model.standardize_outcomes(pseudo_label, X=X).mT
            labels = standardized.repeat(model.num_members, 1)
        return adaptation(Z, labels)

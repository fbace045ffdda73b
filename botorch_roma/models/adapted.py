r"""
``AdaptedRoMAModel``: the fitted proxy with one set of adapted weights per candidate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from botorch.exceptions import BotorchTensorDimensionError
from torch import Tensor

from botorch_roma.models.base import ProxyModel
from botorch_roma.models.roma import RoMAModel
from botorch_roma.network import (
    AnyLayer,
    Layer,
    StackedWeights,
    stacked_forward,
    stacked_input_gradient,
)


class InputBasis(NamedTuple):
    r"""Coordinates in which the first layer is small although the inputs are many.

    All rows of an adapted ``W_1`` stay in the span of the rows of the fitted ``W_1`` and of the
    candidate's ``x``. With an orthonormal basis of that span, stage 2 runs in ``r + k``
    coordinates instead of ``d``, exactly: norms and inner products are unchanged.

    Attributes:
        shared: Basis common to all candidates, ``S x d x r``.
        own: Further directions of each weight set, ``S * C x d x k``, orthogonal to ``shared``.
    """

    shared: Tensor
    own: Tensor

    def coordinates(self, Z: Tensor) -> Tensor:
        r"""Coordinates of ``C x N x d`` points for each weight set, ``S * C x N x (r + k)``.

        Where the points are those of all ``S * C`` weight sets they are taken as they are.
        """
        c, n, d = Z.shape
        sets, (s, _, r) = len(self.own), self.shared.shape
        # Fewer copies than networks where models are joined: each has points of its own.
        points = Z.reshape(s * c // sets, -1, d)
        common = _project(points, self.shared).reshape(sets, n, r)
        return torch.cat([common, _project(Z, self.own)], dim=-1)

    def lift(self, weight: Tensor) -> Tensor:
        r"""First-layer weights ``S * C x h x (r + k)`` back in the ``d`` inputs."""
        s, _, r = self.shared.shape
        stacked = weight[..., :r].reshape(s, -1, r) @ self.shared.mT
        return stacked.reshape(*weight.shape[:2], -1) + weight[..., r:] @ self.own.mT


def _project(Z: Tensor, bases: Tensor) -> Tensor:
    r"""``C x N x d`` points times ``S * C x d x r`` columns, without a copy of the points."""
    (c, n, d), (sets, _, r) = Z.shape, bases.shape
    s = sets // c
    columns = bases.view(s, c, d, r).permute(1, 2, 0, 3).reshape(c, d, s * r)
    return torch.bmm(Z, columns).view(c, n, s, r).permute(2, 0, 1, 3).reshape(sets, n, r)


def _repeat_stack(Z: Tensor, num_networks: int) -> Tensor:
    r"""``C x N x d -> S * C x N x d``, network-major; a view where ``S = 1``."""
    return Z.expand(num_networks, *Z.shape).reshape(-1, *Z.shape[1:])


class AdaptedRoMAModel(ProxyModel):
    r"""A fitted :class:`RoMAModel` whose weights have been adapted, candidate by candidate.

    Made by :func:`~botorch_roma.adaptation.adapt_roma_model`. The weights are new tensors; the
    fitted model is not changed. ``batch_shape`` is ``[B]``: at ``X`` of shape ``B x q x d`` the
    ``i``-th batch is predicted by the ``i``-th candidate's weights.

    Args:
        model: The fitted model.
        weights: ``S * C`` networks, network-major (``S`` networks of ``model``, ``C`` weight sets
            each; ``C = 1`` where all candidates share one).
        num_candidates: ``B``.
        basis: Coordinates of the first layer, or None for plain inputs.
        points_per_batch: Where set to ``p``, candidate ``i * p + j`` is the ``j``-th point of the
            ``i``-th t-batch, ``batch_shape`` is ``[B / p]``, and points beyond the ``p``-th
            (pending ones) are predicted by the fitted weights. For joint acquisition functions.
    """

    def __init__(
        self,
        model: RoMAModel,
        weights: StackedWeights,
        num_candidates: int,
        *,
        basis: InputBasis | None = None,
        points_per_batch: int | None = None,
    ) -> None:
        super().__init__()
        self.fitted_model = model
        self.num_candidates, self.points_per_batch = num_candidates, points_per_batch
        for name in ("x_mean", "x_std", "y_mean", "y_std", "variance_scale"):
            self.register_buffer(name, getattr(model, name))
        for name in ("input_transform", "outcome_transform"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))
        self._layers: list[type[AnyLayer]] = [type(layer) for layer in weights.layers]
        for i, layer in enumerate(weights.layers):
            for name, tensor in layer._asdict().items():
                self.register_buffer(f"layer_{i}_{name}", tensor)
        self.register_buffer("basis_shared", None if basis is None else basis.shared)
        self.register_buffer("basis_own", None if basis is None else basis.own)

    basis_shared: Tensor | None
    basis_own: Tensor | None

    @property
    def weights(self) -> StackedWeights:
        r"""The adapted weights, ``S * C`` networks; the first layer in :attr:`basis`."""
        return StackedWeights.from_layers(
            [
                kind(*(getattr(self, f"layer_{i}_{name}") for name in kind._fields))
                for i, kind in enumerate(self._layers)
            ]
        )

    @property
    def basis(self) -> InputBasis | None:
        """Coordinates of the first layer; None for plain inputs."""
        if self.basis_shared is None or self.basis_own is None:
            return None
        return InputBasis(self.basis_shared, self.basis_own)

    def dense_weights(self) -> StackedWeights:
        r"""The adapted weights as one matrix each, that of the first layer in plain inputs."""
        weights, basis = self.weights.dense(), self.basis
        if basis is None:
            return weights
        first = Layer(basis.lift(weights.hidden[0].weight), weights.hidden[0].bias)
        return weights._replace(hidden=(first, *weights.hidden[1:]))

    @property
    def batch_shape(self) -> torch.Size:
        r"""``[B]``, or ``[B / p]`` with ``points_per_batch = p``."""
        return torch.Size([self.num_candidates // (self.points_per_batch or 1)])

    @property
    def _num_networks(self) -> int:
        return self.fitted_model.network.num_networks

    def _coordinates(self, Z: Tensor) -> Tensor:
        r"""``B x N x d`` points as inputs of the ``S * C`` networks."""
        sets = self.weights.mean.bias.shape[0] // self._num_networks  # one for all, or B
        Z = Z.reshape(sets, -1, Z.shape[-1])
        basis = self.basis
        return _repeat_stack(Z, self._num_networks) if basis is None else basis.coordinates(Z)

    def candidate_moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and log-std of the networks at standardised ``B x N x d``, each ``S x B x N``."""
        outputs = stacked_forward(
            self.weights, self._coordinates(Z), self.fitted_model.network.activation
        )
        mean, log_std = (t.reshape(self._num_networks, *Z.shape[:2]) for t in outputs)
        return mean, log_std

    def input_gradient_norm(self, Z: Tensor) -> Tensor:
        r"""``||grad_x f||`` of each network at its candidate ``B x d``, ``S x B``, z-scored."""
        coordinates = self._coordinates(Z.unsqueeze(1))
        _, gradient = stacked_input_gradient(
            self.weights, coordinates, self.fitted_model.network.activation
        )
        return torch.linalg.vector_norm(gradient, dim=-1).reshape(self._num_networks, -1)

    def _member_moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        if self.points_per_batch is not None:
            return self._joint_moments(Z, self.points_per_batch)
        return self._batch_moments(Z)

    def _batch_moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        b = self.num_candidates
        if Z.dim() >= 3 and Z.shape[-3] not in (1, b):
            raise BotorchTensorDimensionError(
                f"`X` must have batch size {b} (or 1) in dimension -3 to match the {b} adapted "
                f"candidates, received shape {tuple(Z.shape)}."
            )
        lead, (q, d) = Z.shape[:-3], Z.shape[-2:]
        Z = Z.expand(*lead, b, q, d).movedim(-3, 0)
        moments = self.candidate_moments(Z.reshape(b, -1, d))
        members, outputs = self.fitted_model.num_members, self.num_outputs
        mean, log_std = (
            t.reshape(members, outputs, b, *lead, q).movedim(1, -1).movedim(1, -3) for t in moments
        )
        return mean, torch.exp(2.0 * log_std)

    def _joint_moments(self, Z: Tensor, p: int) -> tuple[Tensor, Tensor]:
        if Z.dim() < 3 or Z.shape[-3] != self.batch_shape[0] or Z.shape[-2] < p:
            raise BotorchTensorDimensionError(
                f"`X` must have shape ... x {self.batch_shape[0]} x (at least {p}) x d to match "
                f"the adapted candidates, received {tuple(Z.shape)}."
            )
        own = Z[..., :p, :].flatten(-3, -2).unsqueeze(-2)  # ... x B x 1 x d
        parts = [t.squeeze(-2).unflatten(-2, (-1, p)) for t in self._batch_moments(own)]
        if Z.shape[-2] > p:
            rest = self.fitted_model._member_moments(Z[..., p:, :])
            parts = [torch.cat([t, r], dim=-2) for t, r in zip(parts, rest, strict=True)]
        return parts[0], parts[1]

r"""
Several fitted models over one table as one model, whose candidates belong to one of them each.

For many seeds at once: stage 2 of all of them is one computation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from botorch.exceptions.errors import ModelFittingError, UnsupportedError
from torch import Tensor
from torch.nn import Module

from botorch_roma.models.roma import RoMAModel
from botorch_roma.network import Activation, StackedWeights, stacked_forward

_SCALES: tuple[str, ...] = ("x_mean", "x_std", "y_mean", "y_std")


class JoinedNetwork(Module):
    r"""The networks of ``G`` models with ``S`` each; of ``B`` points, ``B / G`` for each model.

    Args:
        models: The models.
    """

    def __init__(self, models: Sequence[RoMAModel]) -> None:
        super().__init__()
        networks = [model.network for model in models]
        self.num_networks, self.num_groups = networks[0].num_networks, len(networks)
        self.activation: Activation = networks[0].activation
        stacks = zip(*(n.weights.tensors() for n in networks), strict=True)
        for i, tensors in enumerate(stacks):  # network-major: S x G
            self.register_buffer(
                f"tensor_{i}", torch.stack([*tensors], dim=1).flatten(0, 1).detach()
            )

    @property
    def weights(self) -> StackedWeights:
        r"""``S * G`` networks, those of a group next to each other for each of the ``S``."""
        return StackedWeights.from_tensors([*self.buffers()])

    def forward(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and log-std, each ``S x B``, at ``B x d`` points."""
        points = Z.view(self.num_groups, -1, Z.shape[-1]).repeat(self.num_networks, 1, 1)
        mean, log_std = stacked_forward(self.weights, points, self.activation)
        shape = (self.num_networks, -1)
        return mean.reshape(shape), log_std.reshape(shape)


class JoinedRoMAModel(RoMAModel):
    r"""``G`` fitted models of the same data as one, for stage 2 only; see :func:`join_models`.

    Its network is for candidates; at other points the first of the models speaks for all.
    """

    first: RoMAModel

    def _member_moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        return self.first._member_moments(Z)


def join_models(models: Sequence[RoMAModel]) -> JoinedRoMAModel:
    r"""One model of several; candidate ``i`` of ``B`` belongs to the one at ``i * G // B``.

    Args:
        models: Fitted models of one output that differ in their weights only.

    Raises:
        ModelFittingError: If one of them has not been fitted.
        UnsupportedError: If they differ in architecture, data, transforms or scale, or have several
            outputs.
    """
    first = models[0]
    for i, model in enumerate(models):
        if not model.is_fitted:
            raise ModelFittingError(
                f"Model {i} of `models` has not been fitted; call `fit_roma_model(model)`."
            )
        shapes = [[t.shape for t in m.network.tensors] for m in (first, model)]
        pairs = [(getattr(first, n), getattr(model, n)) for n in ("train_X", "train_Y", *_SCALES)]
        same = (
            shapes[0] == shapes[1]
            and model.num_members == first.num_members
            and model.network.activation_name == first.network.activation_name
            and all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
        )
        if not same:
            raise UnsupportedError(
                f"Models 0 and {i} of `models` differ in architecture, data or scale, so they "
                "cannot be optimised side by side; call `optimize_acqf_roma` for each."
            )
    if first.num_outputs > 1:
        raise UnsupportedError(
            f"`models` have {first.num_outputs} outputs each; models of several outputs cannot be "
            "optimised side by side."
        )
    joined = JoinedRoMAModel.__new__(JoinedRoMAModel)
    joined.__dict__ = copy.copy(first.__dict__)
    joined._modules = {**first._modules, "network": JoinedNetwork(models)}
    joined.__dict__["first"] = first  # no part of the module tree: its models are adapted
    return joined

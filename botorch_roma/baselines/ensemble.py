r"""
Plainly trained ensembles of the shared network, as most comparison methods use.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from botorch_roma.baselines.space import DesignSpace
from botorch_roma.fit import fit_roma_model
from botorch_roma.models.roma import RoMAModel
from botorch_roma.network import stacked_input_gradient
from botorch_roma.validation import check_choice

Aggregate = Literal["mean", "min"]


class Ensemble:
    r"""Gaussian MLPs on the vectors of a design space, fitted without perturbations.

    Args:
        space: The design space.
        num_members: Number of networks.
        hidden_sizes: Width of every hidden layer.
        activation: Activation function.
        epochs: Passes over the data.
        lr: Learning rate of Adam.
        seed: Seed; member ``e`` uses ``seed + e``.
        progress: Show a progress bar on standard error.
    """

    def __init__(
        self,
        space: DesignSpace,
        *,
        num_members: int,
        hidden_sizes: tuple[int, ...],
        activation: str,
        epochs: int,
        lr: float,
        seed: int,
        progress: bool = False,
    ) -> None:
        self.model = RoMAModel(
            space.Z,
            space.T,
            hidden_sizes=hidden_sizes,
            num_members=num_members,
            activation=activation,
            seed=seed,
        )
        fit_roma_model(
            self.model,
            loss="nll",
            noise_std=0.0,
            radius=0.0,
            epochs=epochs,
            lr=lr,
            max_grad_norm=1e6,
            seed=seed,
            progress=progress,
        )
        self._weights = self.model.network.weights.map(Tensor.detach)

    def __call__(self, Z: Tensor) -> Tensor:
        r"""Predicted means of all members at vectors ``n x e``, ``S x n``, z-scored."""
        with torch.no_grad():
            return self.model.network(Z)[0]

    def ascent_direction(self, Z: Tensor, aggregate: Aggregate) -> Tensor:
        r"""Gradient of the mean over members, or of the lowest member at each vector, ``n x e``."""
        check_choice("aggregate", aggregate, get_args(Aggregate))
        stack = Z.expand(self._weights.mean.weight.shape[0], *Z.shape)
        mean, gradient = stacked_input_gradient(self._weights, stack, self.model.network.activation)
        if aggregate == "mean":
            return gradient.mean(dim=0)
        lowest = mean.argmin(dim=0)
        return gradient[lowest, torch.arange(Z.shape[0], device=Z.device)]

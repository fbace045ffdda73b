r"""
Plainly trained ensembles of the shared network, as most comparison methods use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.training import num_epochs, take_step
from botorch_roma.network import ProxyNetwork, stacked_input_gradient
from botorch_roma.progress import track
from botorch_roma.validation import check_choice, check_float, check_int

Aggregate = Literal["mean", "min"]

#: Vectors evaluated at a time.
CHUNK_SIZE: int = 4_096


@dataclass(frozen=True)
class ProxyOptions:
    r"""Architecture and training of the networks.

    Attributes:
        num_members: Number of networks.
        hidden_sizes: Width of every hidden layer.
        activation: A key of :data:`~botorch_roma.network.ACTIVATIONS`.
        epochs: Passes over the data; by default 50 for vectors and 100 for tokens.
        max_batches: No more minibatches than this are taken; by default there is no limit.
        batch_size: Rows in a minibatch.
        lr: Learning rate of Adam.
        bootstrap: Whether each network has a resample of the rows, with replacement, to itself.
    """

    num_members: int = 1
    hidden_sizes: tuple[int, ...] = (2048, 2048)
    activation: str = "leaky_relu"
    epochs: int | None = None
    max_batches: int | None = None
    batch_size: int = 128
    lr: float = 3e-4
    bootstrap: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: For numbers out of range.
        """
        check_int("num_members", self.num_members, minimum=1)
        check_int("batch_size", self.batch_size, minimum=1)
        check_float("lr", self.lr, exclusive=True)
        for name in ("epochs", "max_batches"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), minimum=1)

    def num_epochs(self, space: DesignSpace) -> int:
        """Passes over the data of a design space; at least one."""
        epochs = self.epochs
        if epochs is None:
            epochs = 50 if space.task.vocabulary is None else 100
        return num_epochs(epochs, self.max_batches, space.Z.shape[0], self.batch_size)


class Ensemble:
    r"""Gaussian MLPs on the vectors of a design space, trained by maximum likelihood.

    Args:
        space: The design space.
        options: The networks.
        seed: Seed of initial weights, resampling and order of the data.
        progress: Show a progress bar on standard error.
    """

    def __init__(
        self, space: DesignSpace, options: ProxyOptions, *, seed: int, progress: bool = False
    ) -> None:
        members, n = options.num_members, space.Z.shape[0]
        self.space, self.options = space, options
        seeds = [members * seed + i for i in range(members)]
        self.network = ProxyNetwork(
            space.dim,
            options.hidden_sizes,
            num_networks=members,
            activation=options.activation,
            seeds=seeds,
        ).to(space.Z)
        self._generator = torch.Generator(space.Z.device).manual_seed(seed)
        self._rows = torch.arange(n, device=space.Z.device).expand(members, n)
        if options.bootstrap:
            self._rows = torch.randint(
                n, (members, n), generator=self._generator, device=space.Z.device
            )
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=options.lr)
        self.train(options.num_epochs(space), progress=progress)

    def train(self, epochs: int, *, weights: Tensor | None = None, progress: bool = False) -> None:
        r"""Train on, from where the networks are.

        Args:
            epochs: Passes over the data.
            weights: Weight of each visible row in the likelihood, ``n``; 1 by default.
            progress: Show a progress bar on standard error.
        """
        Z, T = self.space.Z, self.space.T[:, 0]
        for _ in track(range(epochs), total=epochs, description="proxy", enabled=progress):
            # an order for each network
            order = torch.rand(self._rows.shape, generator=self._generator, device=Z.device)
            rows = self._rows.gather(1, order.argsort(dim=1))
            for batch in rows.split(self.options.batch_size, dim=1):
                mean, log_std = self.network(Z[batch])
                nats = 0.5 * ((T[batch] - mean) / log_std.exp()).square() + log_std
                if weights is not None:
                    nats = nats * weights[batch]
                take_step(self._optimizer, nats.mean(dim=1).sum())

    @torch.no_grad()
    def predict(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Means and standard deviations of all members at ``n x e``, ``S x n``, z-scored."""
        parts = [self.network(chunk) for chunk in Z.split(CHUNK_SIZE)]
        mean, log_std = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return mean, log_std.exp()

    @torch.no_grad()
    def ascent_direction(self, Z: Tensor, aggregate: Aggregate) -> Tensor:
        r"""Gradient of the mean over members, or of the lowest member at each vector, ``n x e``."""
        check_choice("aggregate", aggregate, get_args(Aggregate))
        stack = Z.expand(self.options.num_members, *Z.shape)
        mean, gradient = stacked_input_gradient(
            self.network.weights, stack, self.network.activation
        )
        if aggregate == "mean":
            return gradient.mean(dim=0)
        lowest = mean.argmin(dim=0)
        return gradient[lowest, torch.arange(Z.shape[0], device=Z.device)]

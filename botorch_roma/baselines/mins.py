r"""
Model inversion networks [Kumar2020mins]_.

.. [Kumar2020mins]
    A. Kumar and S. Levine. Model Inversion Networks for Model-Based Optimization. NeurIPS, 2020.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import gumbel_softmax, one_hot

from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.training import num_epochs, take_step
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_float, check_int

#: Slope of the networks' leaky ReLU below 0.
LEAK: float = 0.2


def mins(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    hidden_sizes: tuple[int, ...] = (1024, 1024),
    latent_dim: int = 32,
    epochs: int = 200,
    max_batches: int | None = None,
    batch_size: int = 128,
    lr: float = 2e-4,
    betas: tuple[float, float] = (0.0, 0.9),
    critic_steps: int = 10,
    gradient_penalty: float = 10.0,
    temperatures: tuple[float, float] = (5.0, 1.0),
    num_bins: int = 20,
    progress: bool = False,
) -> Tensor:
    r"""Learn designs from outcomes, and ask for designs of the best one.

    A conditional Wasserstein GAN with gradient penalty learns ``x = G(y, z)``. Rows are drawn
    with weights by the bin of their outcome, ``n_b / (n_b + n / K) * exp(-|y_max - y_b| / tau)``
    shared within the bin, where ``tau`` is the spread of the outcomes.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates, drawn at the best visible outcome.
        seed: Seed of weights, minibatches and latents.
        hidden_sizes: Width of every hidden layer of generator and critic.
        latent_dim: Number of latents.
        epochs: Number of minibatches of the critic, as passes over the data.
        max_batches: No more minibatches than this are taken; by default there is no limit.
        batch_size: Rows in a minibatch.
        lr: Learning rate of Adam, for both.
        betas: Adam's.
        critic_steps: Steps of the critic for one of the generator.
        gradient_penalty: Weight of the penalty on the critic's slope.
        temperatures: First and last temperature of the Gumbel-softmax that tokens come from.
        num_bins: Number of bins ``K`` of the outcomes.
        progress: Show a progress bar on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    for name, number in (
        ("q", q),
        ("batch_size", batch_size),
        ("critic_steps", critic_steps),
        ("num_bins", num_bins),
        *((f"hidden_sizes[{i}]", size) for i, size in enumerate(hidden_sizes)),
    ):
        check_int(name, number, minimum=1)
    check_float("lr", lr, exclusive=True)
    check_float("gradient_penalty", gradient_penalty)
    for i, temperature in enumerate(temperatures):
        check_float(f"temperatures[{i}]", temperature, exclusive=True)
    space = DesignSpace(task, "one_hot")
    gan = _GAN(space, hidden_sizes, latent_dim, seed)
    batches = -(-space.Z.shape[0] // batch_size)
    steps = batches * num_epochs(epochs, max_batches, space.Z.shape[0], batch_size)
    generator = torch.Generator(space.Z.device).manual_seed(seed)
    with torch.random.fork_rng(devices=[space.Z.device] if space.Z.is_cuda else []):
        torch.manual_seed(seed)  # of the Gumbel noise
        optimizers = [
            torch.optim.Adam(net.parameters(), lr=lr, betas=betas)
            for net in (gan.generator, gan.critic)
        ]
        weights = row_weights(space.T[:, 0], num_bins)
        low, high = temperatures[1], temperatures[0]
        for step in track(range(steps), total=steps, description="MINs", enabled=progress):
            temperature = high + (low - high) * step / steps
            rows = torch.multinomial(weights, batch_size, replacement=True, generator=generator)
            X, T = gan.designs(rows), space.T[rows]
            fake = gan.generate(T, temperature, generator)
            loss = gan.critic_loss(X, fake.detach(), T, gradient_penalty, generator)
            take_step(optimizers[1], loss)
            if step % critic_steps == critic_steps - 1:
                take_step(optimizers[0], -gan.criticize(fake, T).mean())
        best = space.T.max().expand(q, 1)
        with torch.no_grad():
            return gan.decode(gan.generate(best, low, generator))


def row_weights(T: Tensor, num_bins: int) -> Tensor:
    r"""Probability of each row, from its outcome ``n``, by the bin that it is in."""
    low, high = T.min(), T.max()
    bins = ((T - low) / (high - low) * num_bins).long().clamp(max=num_bins - 1)
    count = torch.bincount(bins, minlength=num_bins).to(T)
    centre = low + (high - low) * (torch.arange(num_bins).to(T) + 0.5) / num_bins
    weight = count / (count + len(T) / num_bins) * (-(high - centre).abs() / T.std()).exp()
    return (weight / count.clamp_min(1.0) / weight.sum())[bins]


class _GAN:
    """Generator and critic of points: z-scored vectors, or one-hot tokens, flattened."""

    def __init__(
        self, space: DesignSpace, hidden_sizes: tuple[int, ...], latent_dim: int, seed: int
    ) -> None:
        self.space, self.latent_dim = space, check_int("latent_dim", latent_dim, minimum=1)
        vocabulary = space.task.vocabulary
        self.num_classes = None if vocabulary is None else vocabulary.num_classes
        dim = space.dim if vocabulary is None else space.task.dim * vocabulary.num_classes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = _mlp([1 + latent_dim, *hidden_sizes, dim]).to(space.Z)
            self.critic = _mlp([1 + dim, *hidden_sizes, 1]).to(space.Z)

    def designs(self, rows: Tensor) -> Tensor:
        """Visible designs as points."""
        if self.num_classes is None:
            return self.space.Z[rows]
        tokens = self.space.task.X[rows].long()
        return one_hot(tokens, self.num_classes).flatten(start_dim=1).to(self.space.Z)

    def generate(self, T: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """Points for outcomes ``n x 1``; soft tokens from the Gumbel-softmax."""
        shape = (len(T), self.latent_dim)
        z = torch.randn(shape, generator=generator, dtype=T.dtype, device=T.device)
        out = self.generator(torch.cat([T, z], dim=1))
        if self.num_classes is None:
            return out
        tokens = gumbel_softmax(out.unflatten(1, (-1, self.num_classes)), tau=temperature)
        return tokens.flatten(start_dim=1)

    def criticize(self, points: Tensor, T: Tensor) -> Tensor:
        """The critic's value of points for outcomes, ``n x 1``."""
        return self.critic(torch.cat([T, points], dim=1))

    def critic_loss(
        self, X: Tensor, fake: Tensor, T: Tensor, penalty: float, generator: torch.Generator
    ) -> Tensor:
        """Wasserstein loss of the critic with the penalty on its slope between the points."""
        share = torch.rand((len(X), 1), generator=generator, dtype=X.dtype, device=X.device)
        between = (share * X + (1.0 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.criticize(between, T).sum(), between, create_graph=True)
        excess = (slope.norm(dim=1) - 1.0).square().mean()
        gap = self.criticize(fake, T).mean() - self.criticize(X, T).mean()
        return gap + penalty * excess

    def decode(self, points: Tensor) -> Tensor:
        """The designs that points stand for."""
        if self.num_classes is None:
            return self.space.decode(points)
        tokens = points.unflatten(1, (-1, self.num_classes)).argmax(dim=-1)
        return self.space.decode(self.space.encode_points(tokens))


def _mlp(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU(LEAK)]
    return nn.Sequential(*layers[:-1])

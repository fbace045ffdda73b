r"""
The generative model of adaptive sampling: a VAE of token sequences or of z-scored vectors.

Both have the same interface; a *point* is a sequence ``L`` of tokens or a vector of ``e`` numbers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.training import num_epochs, take_step
from botorch_roma.latent.vae import LOG_VAR_BOUNDS, SequenceVAE, make_mlp
from botorch_roma.progress import track
from botorch_roma.validation import check_float, check_int

#: The decoder's log standard deviation of a z-scored column stays within these bounds.
LOG_STD_BOUNDS: tuple[float, float] = (-3.0, 0.0)


@dataclass(frozen=True)
class VAEOptions:
    r"""Architecture and training of the VAE.

    Attributes:
        latent_dim: Number of latents.
        hidden_sizes: Width of every hidden layer of encoder and (reversed) decoder.
        epochs: Passes over the data.
        max_batches: No more minibatches than this are taken; by default there is no limit.
        batch_size: Rows in a minibatch.
        lr: Learning rate of Adam.
    """

    latent_dim: int = 32
    hidden_sizes: tuple[int, ...] = (256, 256)
    epochs: int = 200
    max_batches: int | None = None
    batch_size: int = 128
    lr: float = 3e-4

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: For numbers out of range.
        """
        for name in ("latent_dim", "epochs", "batch_size"):
            check_int(name, getattr(self, name), minimum=1)
        for i, size in enumerate(self.hidden_sizes):
            check_int(f"hidden_sizes[{i}]", size, minimum=1)
        check_float("lr", self.lr, exclusive=True)
        if self.max_batches is not None:
            check_int("max_batches", self.max_batches, minimum=1)

    def num_epochs(self, num_rows: int) -> int:
        """Passes over so many rows; at least one."""
        return num_epochs(self.epochs, self.max_batches, num_rows, self.batch_size)


class DesignVAE(nn.Module):
    """A VAE of points with a standard normal prior."""

    latent_dim: int

    @abstractmethod
    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and log-variance ``n x latent_dim`` of the latents of ``n`` points."""

    @abstractmethod
    def log_likelihood(self, points: Tensor, z: Tensor) -> Tensor:
        r"""Log-density of ``n`` points given latents ``n x latent_dim``, in nats, ``n``."""

    @abstractmethod
    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        r"""Points drawn from the decoder's distributions at latents ``n x latent_dim``."""

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        r"""Standard normal numbers, ``n x latent_dim``, of the kind of the weights."""
        weight = next(self.parameters())
        shape = (n, self.latent_dim)
        return torch.randn(shape, generator=generator, dtype=weight.dtype, device=weight.device)

    def elbo(self, points: Tensor, noise: Tensor) -> Tensor:
        r"""Evidence lower bound of ``n`` points, in nats, with standard normal noise, ``n``."""
        mean, log_var = self.encode(points)
        kl = 0.5 * (mean.square() + log_var.exp() - log_var - 1.0).sum(dim=-1)
        return self.log_likelihood(points, mean + (0.5 * log_var).exp() * noise) - kl


class TokenVAE(DesignVAE):
    r"""The shared :class:`~botorch_roma.latent.vae.SequenceVAE`; points are ``n x L`` tokens."""

    def __init__(self, num_classes: int, length: int, options: VAEOptions, seed: int) -> None:
        super().__init__()
        self.latent_dim = options.latent_dim
        self.vae = SequenceVAE(
            num_classes,
            length,
            latent_dim=options.latent_dim,
            hidden_sizes=options.hidden_sizes,
            seed=seed,
        )

    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """See the base class."""
        return self.vae.encode(points)

    def log_likelihood(self, points: Tensor, z: Tensor) -> Tensor:
        """See the base class."""
        logits = self.vae.decode(z).transpose(1, 2)
        return -cross_entropy(logits, points, reduction="none").sum(dim=-1)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """See the base class."""
        share = self.vae.decode(z).softmax(dim=-1)
        tokens = torch.multinomial(share.flatten(end_dim=1), 1, generator=generator)
        return tokens.reshape(share.shape[:2])


class VectorVAE(DesignVAE):
    r"""Gaussian decoder with one standard deviation per column; points are ``n x e`` vectors."""

    def __init__(self, dim: int, options: VAEOptions, seed: int) -> None:
        super().__init__()
        self.latent_dim = options.latent_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = [dim, *options.hidden_sizes]
            self.encoder = make_mlp([*sizes, 2 * options.latent_dim])
            self.decoder = make_mlp([options.latent_dim, *reversed(sizes)])
        self.log_std = nn.Parameter(torch.full((dim,), -1.0))

    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """See the base class."""
        mean, log_var = self.encoder(points).chunk(2, dim=-1)
        return mean, log_var.clamp(*LOG_VAR_BOUNDS)

    def log_likelihood(self, points: Tensor, z: Tensor) -> Tensor:
        """See the base class."""
        log_std = self.log_std.clamp(*LOG_STD_BOUNDS)
        errors = (points - self.decoder(z)) / log_std.exp()
        return -(0.5 * errors.square() + log_std + 0.5 * math.log(2.0 * math.pi)).sum(dim=-1)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        """See the base class."""
        mean = self.decoder(z)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + self.log_std.clamp(*LOG_STD_BOUNDS).exp() * noise


def make_vae(space: DesignSpace, options: VAEOptions, seed: int) -> tuple[DesignVAE, Tensor]:
    r"""A new VAE for the designs of a space, and the visible ones as points."""
    vocabulary, X = space.task.vocabulary, space.task.X
    if vocabulary is None:
        return VectorVAE(space.dim, options, seed).to(space.Z), space.Z
    return TokenVAE(vocabulary.num_classes, X.shape[1], options, seed).to(space.Z), X.long()


def fit_vae(
    vae: DesignVAE,
    points: Tensor,
    options: VAEOptions,
    *,
    epochs: int,
    generator: torch.Generator,
    weights: Tensor | None = None,
    progress: bool = False,
) -> None:
    r"""Train a VAE on points, in place and from where it is.

    Args:
        vae: The VAE.
        points: ``n`` points.
        options: Minibatch and learning rate.
        epochs: Passes over the points.
        generator: Source of the order and of the noise.
        weights: Weight of each point in the bound, ``n``; 1 by default.
        progress: Show a progress bar on standard error.
    """
    optimizer = torch.optim.Adam(vae.parameters(), lr=options.lr)
    n = len(points)
    for _ in track(range(epochs), total=epochs, description="VAE", enabled=progress):
        order = torch.randperm(n, generator=generator, device=points.device)
        for rows in order.split(options.batch_size):
            elbo = vae.elbo(points[rows], vae.noise(len(rows), generator))
            loss = -(elbo if weights is None else elbo * weights[rows]).mean()
            take_step(optimizer, loss)

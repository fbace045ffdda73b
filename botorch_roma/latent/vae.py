r"""
A variational autoencoder for token sequences [Kingma2014vae]_, the latent space of [Yu2021roma]_.

The decoder gives one categorical distribution per position. The weight ``beta`` of the KL term
[Higgins2017beta]_ decides what is kept: at 1 (the paper's) short sequences fit into the noise of
the prior, and next to nothing of them can be told from the latent afterwards.

References:

.. [Kingma2014vae]
    D. P. Kingma and M. Welling. Auto-Encoding Variational Bayes. ICLR, 2014.
.. [Higgins2017beta]
    I. Higgins et al. beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
    Framework. ICLR, 2017.
.. [Yu2021roma]
    S. Yu, S. Ahn, L. Song, and J. Shin. RoMA: Robust Model Adaptation for Offline
    Model-based Optimization. Advances in Neural Information Processing Systems 34, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from botorch_roma.limits import check_memory
from botorch_roma.validation import check_choice, check_int

Architecture = Literal["mlp", "conv"]

#: Channels, kernel and stride of the convolutional variant.
CONV_CHANNELS: int = 64
CONV_KERNEL: int = 5
CONV_STRIDE: int = 2

#: The encoder's log-variance stays within these bounds.
LOG_VAR_BOUNDS: tuple[float, float] = (-12.0, 4.0)


class SequenceVAE(nn.Module):
    r"""Encoder and decoder of token sequences.

    Args:
        num_classes: Number of tokens ``K``.
        length: Number of positions ``L``.
        latent_dim: Number of latents ``e``.
        hidden_sizes: Width of every hidden layer, the same for encoder and (reversed) decoder.
        architecture: ``"mlp"``, or ``"conv"`` for two strided convolutions before the encoder's
            layers, and their transposes after the decoder's: far fewer weights where sequences
            are long.
        seed: Seed of the initial weights.

    Raises:
        ValueError: Sizes below 1, an unknown architecture, sequences too short for ``"conv"``.
    """

    def __init__(
        self,
        num_classes: int,
        length: int,
        *,
        latent_dim: int = 32,
        hidden_sizes: Sequence[int] = (256, 256),
        architecture: Architecture = "mlp",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("architecture", architecture, get_args(Architecture))
        for name, value in (
            ("num_classes", num_classes),
            ("length", length),
            ("latent_dim", latent_dim),
            *((f"hidden_sizes[{i}]", h) for i, h in enumerate(hidden_sizes)),
        ):
            check_int(name, value, minimum=1)
        self.num_classes, self.length, self.latent_dim = num_classes, length, latent_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if architecture == "mlp":
                features = length * num_classes
                self.head: nn.Module = nn.Flatten()
                self.tail: nn.Module = nn.Unflatten(1, (length, num_classes))
            else:
                self.head, self.tail, features = _convolutions(num_classes, length)
            sizes = [features, *hidden_sizes]
            self.encoder = make_mlp([*sizes, 2 * latent_dim])
            self.decoder = make_mlp([latent_dim, *reversed(sizes)])

    def encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and log-variance ``n x e`` of the latents of tokens ``n x L``."""
        dtype = next(self.parameters()).dtype
        mean, log_var = self.encoder(self.head(one_hot(tokens, self.num_classes).to(dtype))).chunk(
            2, dim=-1
        )
        return mean, log_var.clamp(*LOG_VAR_BOUNDS)

    def decode(self, z: Tensor) -> Tensor:
        r"""Logits ``n x L x K`` of latents ``n x e``."""
        return self.tail(self.decoder(z))

    def loss(self, tokens: Tensor, beta: float, noise: Tensor) -> Tensor:
        r"""Negative evidence lower bound, nats per sequence, with the KL term times ``beta``.

        Args:
            tokens: ``n x L``.
            beta: Weight of the KL term.
            noise: Standard normal, ``n x e``.
        """
        mean, log_var = self.encode(tokens)
        logits = self.decode(mean + (0.5 * log_var).exp() * noise)
        nats = cross_entropy(logits.flatten(end_dim=1), tokens.flatten(), reduction="sum")
        kl = 0.5 * (mean.square() + log_var.exp() - log_var - 1.0).sum()
        return (nats + beta * kl) / tokens.shape[0]


def make_mlp(sizes: Sequence[int]) -> nn.Sequential:
    r"""Linear layers of these sizes with SiLU between them."""
    weights = sum((a + 1) * b for a, b in pairwise(sizes))
    check_memory(
        f"A network of widths {tuple(sizes)}",
        4 * weights,
        "choose smaller `hidden_sizes` or `latent_dim`, or another encoding",
    )
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class _Transpose(nn.Module):
    """Positions last for convolutions, tokens last for everything else."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mT


class _Crop(nn.Module):
    """Cut what a transposed convolution has added beyond the length."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.length]


def _convolutions(num_classes: int, length: int) -> tuple[nn.Module, nn.Module, int]:
    """Before the encoder, after the decoder, and the number of features between."""
    short = math.ceil(math.ceil(length / CONV_STRIDE) / CONV_STRIDE)
    if length < CONV_KERNEL:
        raise ValueError(
            f"`architecture='conv'` needs at least {CONV_KERNEL} positions, received {length}; use "
            "'mlp'."
        )
    c, k, stride, padding = CONV_CHANNELS, CONV_KERNEL, CONV_STRIDE, CONV_KERNEL // 2
    head = nn.Sequential(
        _Transpose(),
        nn.Conv1d(num_classes, c, k, stride, padding),
        nn.SiLU(),
        nn.Conv1d(c, c, k, stride, padding),
        nn.SiLU(),
        nn.Flatten(),
    )
    tail = nn.Sequential(
        nn.SiLU(),
        nn.Unflatten(1, (c, short)),
        nn.ConvTranspose1d(c, c, k, stride, padding, output_padding=1),
        nn.SiLU(),
        nn.ConvTranspose1d(c, num_classes, k, stride, padding, output_padding=1),
        _Crop(length),
        _Transpose(),
    )
    return head, tail, c * short

r"""
``LatentSpace``: token sequences as the latents of a VAE, as in [Yu2021roma]_'s discrete tasks.

.. [Yu2021roma]
    S. Yu, S. Ahn, L. Song, and J. Shin. RoMA: Robust Model Adaptation for Offline
    Model-based Optimization. Advances in Neural Information Processing Systems 34, 2021.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from botorch.exceptions import InputDataWarning
from botorch.exceptions.errors import ModelFittingError
from torch import Tensor

from botorch_roma.checkpoint import DEFAULT_INTERVAL
from botorch_roma.latent.encoding import LogitsEncoding, OneHotEncoding, TokenEncoding
from botorch_roma.latent.training import CHUNK_SIZE, VAEHistory, fit_sequence_vae
from botorch_roma.latent.vae import Architecture, SequenceVAE
from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.validation import check_choice, check_float, check_int

SequenceEncoding = Literal["one_hot", "logits", "latent"]

#: Sequences of more positions get the convolutional architecture by default.
MAX_MLP_LENGTH: int = 100

#: The largest number of latents that is chosen by default.
MAX_LATENT_DIM: int = 256


def _check_share(name: str, value: float) -> None:
    if check_float(name, value) > 1.0:
        raise ValueError(f"`{name}` must be a share from 0 to 1, received {value!r}.")


class LatentSpace(TokenEncoding):
    r"""An encoding of token sequences by a trained VAE.

    ``encode`` gives the posterior mean, ``decode`` the likeliest token at each position. Many
    latents decode to one sequence. Candidates stay in the box of the encoded data.

    Args:
        vae: The trained VAE.
        vocabulary: The tokens.
        tokens: The sequences of the data, ``n x L``; their encodings span the bounds.
        history: History of the training.
        min_reconstruction: Share of the start designs that must come back from encoding and
            decoding, or else an optimisation is refused; 0 to be warned instead.

    Example:
        >>> dna = Vocabulary("acgt")
        >>> tokens = dna.tokenize(strings)
        >>> space = LatentSpace.fit(tokens, dna)
        >>> model = RoMAModel(tokens.double(), train_Y, input_transform=space)
        >>> history = fit_roma_model(model)
        >>> best, values = optimize_acqf_roma(PosteriorMean(model), space.design_bounds, q=128)
    """

    def __init__(
        self,
        vae: SequenceVAE,
        vocabulary: Vocabulary,
        tokens: Tensor,
        history: VAEHistory,
        *,
        min_reconstruction: float = 0.5,
    ) -> None:
        _check_share("min_reconstruction", min_reconstruction)
        e = vae.latent_dim
        super().__init__(vocabulary, vae.length, torch.zeros(2, e))
        self.vae = vae.eval().requires_grad_(False)
        self.history, self.min_reconstruction = history, min_reconstruction
        Z = self.encode(tokens.to(next(vae.parameters())))
        self.bounds = torch.stack([Z.amin(dim=0), Z.amax(dim=0)])

    @classmethod
    def fit(
        cls,
        tokens: Tensor,
        vocabulary: Vocabulary,
        *,
        latent_dim: int | None = None,
        hidden_sizes: Sequence[int] = (512,),
        architecture: Architecture | None = None,
        beta: float = 0.1,
        epochs: int | None = None,
        batch_size: int = 128,
        lr: float = 2e-3,
        num_validation: int | None = None,
        min_reconstruction: float = 0.5,
        seed: int = 0,
        timeout_sec: float | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_interval: float = DEFAULT_INTERVAL,
        progress: bool = False,
    ) -> LatentSpace:
        r"""Train a VAE and make a space of it.

        Args:
            tokens: Sequences, ``n x L``, without outcomes.
            vocabulary: The tokens.
            latent_dim: Number of latents; by default 2.5 per position, rounded up to 32, 64, ...
                256.
            hidden_sizes: Width of every hidden layer.
            architecture: ``"mlp"`` or ``"conv"``; by default ``"conv"`` for more than 100
                positions.
            beta: As for :func:`~botorch_roma.latent.training.fit_sequence_vae`, as for all down to
                ``num_validation``.
            epochs: Passes over the data.
            batch_size: Sequences in a minibatch.
            lr: Largest learning rate.
            num_validation: Held-out sequences.
            min_reconstruction: See the class.
            seed: Seed of weights, split, order and noise.
            timeout_sec: Time budget in seconds.
            checkpoint: As for :func:`~botorch_roma.latent.training.fit_sequence_vae`.
            checkpoint_interval: As there.
            progress: Show a progress bar on standard error.

        Raises:
            ValueError: For options out of range; a checkpoint of another training.
            InputDataError: For fewer than two distinct sequences; a damaged checkpoint.
        """
        _check_share("min_reconstruction", min_reconstruction)  # before the work
        if architecture is None:
            architecture = "conv" if tokens.shape[-1] > MAX_MLP_LENGTH else "mlp"
        if latent_dim is None:
            latent_dim = min(MAX_LATENT_DIM, 32 * math.ceil(2.5 * tokens.shape[-1] / 32))
        vae = SequenceVAE(
            vocabulary.num_classes,
            tokens.shape[-1],
            latent_dim=latent_dim,
            hidden_sizes=hidden_sizes,
            architecture=architecture,
            seed=seed,
        ).to(tokens.device)
        history = fit_sequence_vae(
            vae,
            tokens,
            beta=beta,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            num_validation=num_validation,
            seed=seed,
            timeout_sec=timeout_sec,
            checkpoint=checkpoint,
            checkpoint_interval=checkpoint_interval,
            progress=progress,
        )
        return cls(vae, vocabulary, tokens, history, min_reconstruction=min_reconstruction)

    @torch.no_grad()
    def encode(self, X: Tensor) -> Tensor:
        r"""Tokens ``... x L`` to the mean of their latents, ``... x e``."""
        rows = self._check(X).reshape(-1, self.length)
        Z = torch.cat([self.vae.encode(t)[0] for t in rows.split(CHUNK_SIZE)])
        return Z.to(X if X.is_floating_point() else Z).reshape(*X.shape[:-1], self.encoded_dim)

    @torch.no_grad()
    def decode(self, Z: Tensor) -> Tensor:
        r"""Latents ``... x e`` to the likeliest tokens, ``... x L``."""
        rows = self._check_vectors(Z).reshape(-1, self.encoded_dim).to(self.bounds)
        tokens = torch.cat([self._best_tokens(self.vae.decode(z)) for z in rows.split(CHUNK_SIZE)])
        return tokens.to(Z).reshape(*Z.shape[:-1], self.length)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        r"""Tokens ``n x L`` of ``n`` latents drawn from the prior, decoded; they may repeat.

        Args:
            n: Number of sequences.
            seed: Seed of the draw.
        """
        check_int("n", n, minimum=1)
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(n, self.encoded_dim, generator=generator, dtype=torch.double, device="cpu")
        return self.decode(z.to(self.bounds))

    def reconstruction(self, X: Tensor) -> float:
        r"""Share of the sequences ``n x L`` that come back whole from encoding and decoding."""
        return (self.snap_designs(X) == X).all(dim=-1).double().mean().item()

    def snap_designs(self, X: Tensor) -> Tensor:
        r"""Tokens ``... x L`` after encoding and decoding."""
        return self.decode(self.encode(X))

    def check_designs(self, X: Tensor) -> None:
        r"""Refuse to start from sequences ``n x L`` that the space loses.

        Raises:
            ModelFittingError: If fewer than ``min_reconstruction`` of them come back.
            ValueError: For padding that is not at the end, and empty sequences.
        """
        super().check_designs(X)
        share = self.reconstruction(X)
        if share >= max(self.min_reconstruction, 0.5):
            return
        held_out = self.history.sequence_accuracy[-1]
        message = (
            f"This latent space loses the start designs: {share:.1%} of {X.shape[0]} come back "
            f"from encoding and decoding (held-out sequences: {held_out:.1%})"
        )
        if share < self.min_reconstruction:
            raise ModelFittingError(
                f"{message}, `min_reconstruction` asks for {self.min_reconstruction:.1%}. Train it "
                "with a smaller `beta`, more `epochs` or a larger `latent_dim`, or use the one-hot "
                "encoding."
            )
        warnings.warn(f"{message}.", InputDataWarning, stacklevel=4)


def make_sequence_encoding(
    name: str, tokens: Tensor, vocabulary: Vocabulary, **latent_options: Any
) -> TokenEncoding:
    r"""The encoding of token sequences that goes by a name.

    Args:
        name: ``"one_hot"``, ``"logits"`` or ``"latent"``, which is trained on ``tokens``.
        tokens: The sequences of the data, ``n x L``.
        vocabulary: The tokens.
        latent_options: Arguments of :meth:`.LatentSpace.fit`; of no use to the others.

    Raises:
        ValueError: For an unknown name.
    """
    check_choice("encoding", name, get_args(SequenceEncoding))
    if name == "latent":
        return LatentSpace.fit(tokens, vocabulary, **latent_options)
    plain = {"one_hot": OneHotEncoding, "logits": LogitsEncoding}
    return plain[name](vocabulary, tokens.shape[-1])

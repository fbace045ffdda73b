r"""
Training of the sequence VAE, watched on held-out sequences.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from botorch.exceptions import InputDataError
from botorch.exceptions.errors import ModelFittingError
from torch import Tensor

from botorch_roma.latent.vae import SequenceVAE
from botorch_roma.latent.vocabulary import check_tokens
from botorch_roma.progress import track
from botorch_roma.validation import check_float, check_int

if TYPE_CHECKING:
    import pandas as pd

#: Without ``epochs``, training takes about this many minibatches, and at least 10 epochs.
DEFAULT_NUM_BATCHES: int = 5_000

#: Share of the minibatches over which the learning rate and ``beta`` rise.
WARM_UP: float = 0.1

#: Sequences encoded or decoded at once.
CHUNK_SIZE: int = 4_096


@dataclass
class VAEHistory:
    r"""What happened during :func:`fit_sequence_vae`, one entry per epoch.

    Attributes:
        loss: Mean training loss, nats per sequence.
        token_accuracy: Share of the tokens of held-out sequences that come back from encoding
            and decoding.
        sequence_accuracy: Share of held-out sequences that come back whole.
        seconds: Wall time since the start.
        num_validation: Number of held-out sequences.
    """

    loss: list[float] = field(default_factory=list)
    token_accuracy: list[float] = field(default_factory=list)
    sequence_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    num_validation: int = 0

    def to_frame(self) -> pd.DataFrame:
        """The curves as a data frame with one row per epoch."""
        import pandas as pd

        names = ("loss", "token_accuracy", "sequence_accuracy", "seconds")
        return pd.DataFrame({name: getattr(self, name) for name in names})


def fit_sequence_vae(
    vae: SequenceVAE,
    tokens: Tensor,
    *,
    beta: float = 0.1,
    epochs: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    num_validation: int | None = None,
    seed: int = 0,
    timeout_sec: float | None = None,
    progress: bool = False,
) -> VAEHistory:
    r"""Train a VAE on sequences, in place.

    Adam; the learning rate rises over the first tenth of the minibatches and falls to zero as a
    cosine, ``beta`` rises from zero with it.

    Args:
        vae: The VAE to train.
        tokens: Sequences, ``n x L``.
        beta: Weight of the KL term at the end of its rise; 1 is the evidence lower bound.
        epochs: Passes over the data; by default as many as make about 5,000 minibatches, at
            least 10.
        batch_size: Sequences in a minibatch.
        lr: Largest learning rate.
        num_validation: Distinct sequences held out to measure the reconstruction; by default a
            tenth of the data, at most 1,000.
        seed: Seed of the split, the order of the data and the noise.
        timeout_sec: Time budget in seconds; the state reached by then is kept.
        progress: Show a progress bar on standard error.

    Returns:
        The history, with the held-out accuracy of the reconstruction.

    Raises:
        ValueError: For options out of range, and tokens that do not fit the VAE.
        InputDataError: For fewer than two distinct sequences.
        ModelFittingError: If the loss becomes non-finite.
    """
    check_float("beta", beta)
    check_float("lr", lr, exclusive=True)
    check_int("batch_size", batch_size, minimum=1)
    if timeout_sec is not None:
        check_float("timeout_sec", timeout_sec, exclusive=True, unit=" seconds")
    check_tokens(tokens, vae.num_classes)
    if tokens.dim() != 2 or tokens.shape[1] != vae.length:
        raise ValueError(
            f"`tokens` must have shape n x {vae.length}, received {tuple(tokens.shape)}."
        )
    generator = torch.Generator().manual_seed(seed)
    weight = next(vae.parameters())
    device, dtype = weight.device, weight.dtype
    train, held_out = _split(tokens.long(), num_validation, generator, device)
    batches = math.ceil(len(train) / batch_size)
    epochs = max(10, round(DEFAULT_NUM_BATCHES / batches)) if epochs is None else epochs
    check_int("epochs", epochs, minimum=1)
    optimizer = torch.optim.Adam(vae.parameters(), lr=lr)
    history, start, step = VAEHistory(num_validation=len(held_out)), time.monotonic(), 0
    for _ in track(range(epochs), total=epochs, description="latent space", enabled=progress):
        order = torch.randperm(len(train), generator=generator).to(device)
        total = torch.zeros((), device=device)
        for rows in order.split(batch_size):
            share = step / (epochs * batches)
            optimizer.param_groups[0]["lr"] = lr * _schedule(share)
            shape = (len(rows), vae.latent_dim)
            noise = torch.randn(shape, generator=generator, dtype=dtype).to(device)
            loss = vae.loss(train[rows], beta * min(1.0, share / WARM_UP), noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            step += 1
        if not bool(torch.isfinite(total)):
            raise ModelFittingError(
                f"The loss of the VAE became {total.item()} in epoch {len(history.loss)}; lower "
                f"`lr`, received {lr:g}."
            )
        same = reconstruct(vae, held_out) == held_out
        history.loss.append(total.item() / len(train))
        history.token_accuracy.append(same.double().mean().item())
        history.sequence_accuracy.append(same.all(dim=-1).double().mean().item())
        history.seconds.append(time.monotonic() - start)
        if timeout_sec is not None and history.seconds[-1] >= timeout_sec:
            break
    return history


def _schedule(share: float) -> float:
    """Factor of the learning rate after a share of the minibatches."""
    if share < WARM_UP:
        return (share + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1.0 + math.cos(math.pi * (share - WARM_UP) / (1.0 - WARM_UP)))


def _split(
    tokens: Tensor, num_validation: int | None, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows to train on and distinct held-out sequences, none of which is among them."""
    distinct, group = torch.unique(tokens.cpu(), dim=0, return_inverse=True)
    n = len(distinct)
    if n < 2:
        raise InputDataError(
            f"`tokens` must hold at least two distinct sequences, received {n} in {len(tokens)} "
            "rows; there is no space to make of them."
        )
    held = max(1, min(n // 10, 1_000)) if num_validation is None else num_validation
    check_int("num_validation", held, minimum=1)
    if held > n - 1:
        raise InputDataError(
            f"`num_validation` must leave a sequence to train on, received {held} for {n} distinct "
            "sequences."
        )
    chosen = torch.randperm(n, generator=generator)[:held]
    is_held = torch.zeros(n, dtype=torch.bool).index_fill(0, chosen, True)
    return tokens[~is_held[group].to(tokens.device)].to(device), distinct[chosen].to(device)


@torch.no_grad()
def reconstruct(vae: SequenceVAE, tokens: Tensor) -> Tensor:
    r"""Sequences ``n x L`` after encoding to the mean and decoding to the likeliest tokens."""
    parts = [vae.decode(vae.encode(t)[0]).argmax(dim=-1) for t in tokens.split(CHUNK_SIZE)]
    return torch.cat(parts)

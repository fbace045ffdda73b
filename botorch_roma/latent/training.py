r"""
Training of the sequence VAE, watched on held-out sequences.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from botorch.exceptions import InputDataError
from botorch.exceptions.errors import ModelFittingError
from torch import Tensor

from botorch_roma.checkpoint import DEFAULT_INTERVAL, Checkpoint, open_checkpoint
from botorch_roma.fingerprint import Fingerprint, digest, fingerprint
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
    checkpoint: str | Path | None = None,
    checkpoint_interval: float = DEFAULT_INTERVAL,
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
        timeout_sec: Time budget in seconds. It ends before a minibatch that would not fit, but for
            the first; the state reached by then is kept.
        checkpoint: A file to save the training to as it goes on, and to go on from where it is
            there, see :mod:`botorch_roma.checkpoint`; none by default. The time budget is that of
            all runs together.
        checkpoint_interval: Seconds from one save to the next.
        progress: Show a progress bar on standard error.

    Returns:
        The history, with the held-out accuracy of the reconstruction.

    Raises:
        ValueError: For options out of range, and tokens that do not fit the VAE; a checkpoint of
            another training.
        InputDataError: For fewer than two distinct sequences; a damaged checkpoint.
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
    if epochs is not None:
        check_int("epochs", epochs, minimum=1)
    device = next(vae.parameters()).device
    settings = {
        "beta": beta,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "num_validation": num_validation,
        "seed": seed,
    }

    def key() -> Fingerprint:
        return {"tokens": digest(tokens)} | fingerprint(**settings, vae=vae)

    with open_checkpoint(checkpoint, checkpoint_interval, device, key) as file:
        training = _Training(vae, tokens, num_validation, seed, lr)
        return training.run(beta, epochs, batch_size, timeout_sec, file, progress)


class _Training:
    """The state of a training of a VAE."""

    def __init__(
        self, vae: SequenceVAE, tokens: Tensor, num_validation: int | None, seed: int, lr: float
    ) -> None:
        self.start = time.monotonic()
        self.vae, self.lr = vae, lr
        self.weight = next(vae.parameters())
        self.generator = torch.Generator().manual_seed(seed)
        self.train, self.held_out = _split(
            tokens.long(), num_validation, self.generator, self.weight.device
        )
        self.optimizer = torch.optim.Adam(vae.parameters(), lr=lr)
        self.history = VAEHistory(num_validation=len(self.held_out))
        self.total, self.batches = torch.zeros((), device=self.weight.device), 0
        self.after_order: Tensor | None = None
        self.step_seconds = self.record_seconds = 0.0  # what the last ones took

    def run(
        self,
        beta: float,
        epochs: int | None,
        batch_size: int,
        timeout_sec: float | None,
        checkpoint: Checkpoint | None,
        progress: bool,
    ) -> VAEHistory:
        """Train, from where a checkpoint left it."""
        batches = math.ceil(len(self.train) / batch_size)
        epochs = max(10, round(DEFAULT_NUM_BATCHES / batches)) if epochs is None else epochs
        start = self.start
        if checkpoint is not None:
            start -= checkpoint.before
            if "training" in checkpoint.parts and self._restore(checkpoint.parts["training"]):
                return self.history
        deadline = math.inf if timeout_sec is None else start + timeout_sec
        first, timed_out = len(self.history.loss), False
        for epoch in track(
            range(first, epochs), total=epochs - first, description="latent space", enabled=progress
        ):
            self.before_order = self.generator.get_state()
            order = torch.randperm(len(self.train), generator=self.generator)
            if self.after_order is not None:  # the first batches of this epoch have been seen
                self.generator.set_state(self.after_order)
                self.after_order = None
            for rows in order.to(self.weight.device).split(batch_size)[self.batches :]:
                begun = time.monotonic()
                timed_out = self.batches > 0 and self._is_late(deadline)
                if timed_out:
                    break
                share = (epoch * batches + self.batches) / (epochs * batches)
                self.total += self._step(rows, share, beta) * len(rows)
                self.batches += 1
                self.step_seconds = time.monotonic() - begun
                if checkpoint is not None:
                    checkpoint.offer("training", self._state)
            trained = time.monotonic()
            self._record(start, min(len(self.train), self.batches * batch_size))
            self.record_seconds = time.monotonic() - trained
            timed_out = timed_out or (epoch + 1 < epochs and self._is_late(deadline))
            if timed_out:
                break
        if checkpoint is not None:
            checkpoint.finish("training", self._result(), timed_out=timed_out)
        return self.history

    def _step(self, rows: Tensor, share: float, beta: float) -> Tensor:
        self.optimizer.param_groups[0]["lr"] = self.lr * _schedule(share)
        shape = (len(rows), self.vae.latent_dim)
        noise = torch.randn(shape, generator=self.generator, dtype=self.weight.dtype)
        noise = noise.to(self.weight.device)
        loss = self.vae.loss(self.train[rows], beta * min(1.0, share / WARM_UP), noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _is_late(self, deadline: float) -> bool:
        """Whether one more minibatch, and what comes after it, would not end before a deadline."""
        return time.monotonic() + self.step_seconds + self.record_seconds >= deadline

    def _record(self, start: float, count: int) -> None:
        """The end of an epoch, in which ``count`` sequences were seen."""
        history = self.history
        if not bool(torch.isfinite(self.total)):
            raise ModelFittingError(
                f"The loss of the VAE became {self.total.item()} in epoch {len(history.loss)}; "
                f"lower `lr`, received {self.lr:g}."
            )
        same = reconstruct(self.vae, self.held_out) == self.held_out
        history.loss.append(self.total.item() / count)
        history.token_accuracy.append(same.double().mean().item())
        history.sequence_accuracy.append(same.all(dim=-1).double().mean().item())
        history.seconds.append(time.monotonic() - start)
        self.total, self.batches = torch.zeros_like(self.total), 0

    def _result(self) -> dict[str, Any]:
        return {"vae": self.vae.state_dict(), "history": vars(self.history)}

    def _state(self) -> dict[str, Any]:
        """All that the rest of the training depends on, in the middle of an epoch."""
        return {
            **self._result(),
            "finished": False,
            "total": self.total,
            "batches": self.batches,
            "optimizer": self.optimizer.state_dict(),
            "generator_before": self.before_order,
            "generator": self.generator.get_state(),
        }

    def _restore(self, state: dict[str, Any]) -> bool:
        """Take up a training; whether it is finished."""
        self.vae.load_state_dict(state["vae"])
        self.history = VAEHistory(**state["history"])
        if state["finished"]:
            return True
        self.total.copy_(state["total"])
        self.batches = state["batches"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator_before"])
        self.after_order = state["generator"]
        return False


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

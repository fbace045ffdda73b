r"""
The networks that stand in for an oracle where no exact one is left, and how they are trained.

Two kinds. A convolution over positions suits sequences drawn at random, of which many were
measured (UTR). A latent sum of the effects of single mutations, bent by a small network, suits
the neighbourhood of one wild type (GFP): most of what is measured there is such a sum behind a
saturating curve [Otwinowski2018]_, and far from all data it falls to darkness instead of dreaming.

.. [Otwinowski2018]
    J. Otwinowski, D. M. McCandlish, and J. B. Plotkin. Inferring the shape of global epistasis.
    PNAS 115:E7550, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, relu, silu

from botorch_roma.progress import track
from botorch_roma.validation import check_choice, check_float, check_int

NETWORKS = ("convolution", "epistasis")

# Rows that are scored at a time.
CHUNK_ROWS = 2_000
# Share of the steps in which the learning rate rises.
WARM_UP = 0.1


@dataclass(frozen=True)
class OracleSettings:
    r"""What a trained oracle is made of; all of it enters the key of the cache.

    Args:
        network: ``"convolution"`` or ``"epistasis"``.
        features: Channels of the convolutions, or dimensions of the latent sum.
        width: Units of the hidden layers behind them.
        num_networks: Networks, each from other initial weights, whose mean is the answer.
        epochs: Passes over the training rows.
        batch_size: Rows of a step.
        learning_rate: Highest learning rate of AdamW; a short rise, then half a cosine.
        weight_decay: Weight decay of AdamW.
        num_held_out: Rows that no network is trained on; they measure the rank correlation.
        seed: Seed of the split, the initial weights and the order of the rows.

    Raises:
        ValueError: If a number is out of range or ``network`` is unknown.
    """

    network: str
    features: int = 32
    width: int = 64
    num_networks: int = 1
    epochs: int = 3
    batch_size: int = 256
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    num_held_out: int = 5_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("network", self.network, NETWORKS)
        for name in ("features", "width", "num_networks", "epochs", "batch_size"):
            check_int(name, getattr(self, name), minimum=1)
        check_int("num_held_out", self.num_held_out, minimum=3)
        check_int("seed", self.seed, minimum=0)
        check_float("learning_rate", self.learning_rate, exclusive=True)
        check_float("weight_decay", self.weight_decay)


class ConvolutionNetwork(nn.Module):
    r"""Two convolutions over positions, the second in steps of three, and a residual third.

    In steps of a codon every position behind the second convolution sees all three reading
    frames, which is what the load of a ribosome depends on. The value also depends on where a
    motif is, so the head sees all positions.

    Args:
        length: Positions ``L`` of a sequence.
        num_classes: Number of tokens.
        features: Channels of the first convolution; the others have twice as many.
        width: Units of the hidden layer.
    """

    def __init__(self, length: int, num_classes: int, *, features: int, width: int) -> None:
        super().__init__()
        c, kind = features, torch.float32
        self.num_classes = num_classes
        self.first = nn.Conv1d(num_classes, c, 7, padding=3, dtype=kind)
        self.second = nn.Conv1d(c, 2 * c, 6, stride=3, padding=2, dtype=kind)
        self.third = nn.Conv1d(2 * c, 2 * c, 3, padding=1, dtype=kind)
        self.norms = nn.ModuleList(nn.BatchNorm1d(n, dtype=kind) for n in (c, 2 * c, 2 * c))
        codons = (length - 2) // 3 + 1
        self.hidden = nn.Linear(2 * c * codons, width, dtype=kind)
        self.head = nn.Linear(width, 1, dtype=kind)

    def forward(self, tokens: Tensor) -> Tensor:
        r"""Values ``n`` of the tokens ``n x L``, in standard deviations from the mean."""
        h = one_hot(tokens, self.num_classes).float().transpose(1, 2)
        h = relu(self.norms[0](self.first(h)))
        h = relu(self.norms[1](self.second(h)))
        h = h + relu(self.norms[2](self.third(h)))
        return self.head(relu(self.hidden(h.flatten(start_dim=1)))).squeeze(-1)


class EpistasisNetwork(nn.Module):
    r"""A latent sum over the mutations of a reference sequence, then a small network.

    A mutation adds one vector of its own, one of its position and one of its new token; the last
    two are what is known of a mutation that no row holds. Weight decay draws all three towards
    zero, the effect of no mutation.

    Args:
        reference: The reference, tokens of length ``L``: the most frequent token of each column.
        num_classes: Number of tokens ``K``.
        features: Dimensions of the latent sum.
        width: Units of the two hidden layers.
    """

    reference: Tensor

    def __init__(self, reference: Tensor, num_classes: int, *, features: int, width: int) -> None:
        super().__init__()
        length = reference.numel()
        self.num_classes = num_classes
        self.register_buffer("reference", reference.long())
        self.mutation = _sums(length * num_classes, features)
        self.position = _sums(length, features)
        self.token = _sums(num_classes, features)
        nn.init.normal_(self.token.weight, std=0.1)
        self.first = nn.Linear(features, width, dtype=torch.float32)
        self.second = nn.Linear(width, width, dtype=torch.float32)
        self.head = nn.Linear(width, 1, dtype=torch.float32)

    def forward(self, tokens: Tensor) -> Tensor:
        r"""Values ``n`` of the tokens ``n x L``, in standard deviations from the mean."""
        mutated = tokens != self.reference
        row, position = mutated.nonzero(as_tuple=True)
        token = tokens[row, position]
        count = mutated.sum(dim=1)
        start = count.cumsum(dim=0) - count  # of each row in the list of all mutations
        latent = (
            self.mutation(position * self.num_classes + token, start)
            + self.position(position, start)
            + self.token(token, start)
        )
        return self.head(silu(self.second(silu(self.first(latent))))).squeeze(-1)


def _sums(num: int, features: int) -> nn.EmbeddingBag:
    """Sums of vectors; those that training never meets stay zero."""
    bag = nn.EmbeddingBag(num, features, mode="sum", dtype=torch.float32)
    nn.init.zeros_(bag.weight)
    return bag


class OracleEnsemble(nn.Module):
    r"""The mean of networks, in the units of the values and within their range.

    Args:
        tokens: Sequences to be trained on, ``n x L``.
        values: Their values, ``n``, float64.
        num_classes: Number of tokens.
        settings: Kind, size and number of the networks; the seed of their initial weights.
    """

    center: Tensor
    scale: Tensor
    limits: Tensor

    def __init__(
        self, tokens: Tensor, values: Tensor, num_classes: int, settings: OracleSettings
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList()
        with torch.random.fork_rng(devices=[]):
            for i in range(settings.num_networks):
                torch.manual_seed(settings.num_networks * settings.seed + i)
                self.networks.append(_make_network(tokens, num_classes, settings))
        self.register_buffer("center", values.mean())
        self.register_buffer("scale", values.std(correction=0))
        self.register_buffer("limits", torch.stack([values.min(), values.max()]))
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        r"""Values ``n`` of the tokens ``n x L``, float64; held within those trained on."""
        chunks = [
            torch.stack([network(chunk) for network in self.networks]).double().mean(dim=0)
            for chunk in tokens.long().split(CHUNK_ROWS)
        ]
        return (self.center + self.scale * torch.cat(chunks)).clamp(*self.limits)


def _make_network(tokens: Tensor, num_classes: int, settings: OracleSettings) -> nn.Module:
    sizes = {"features": settings.features, "width": settings.width}
    if settings.network == "convolution":
        return ConvolutionNetwork(tokens.shape[1], num_classes, **sizes)
    # Not `Tensor.mode`: which of two equally frequent tokens it takes is not documented.
    counts = torch.stack([(tokens == k).sum(dim=0) for k in range(num_classes)])
    return EpistasisNetwork(counts.argmax(dim=0), num_classes, **sizes)


def fit_ensemble(
    tokens: Tensor,
    values: Tensor,
    num_classes: int,
    settings: OracleSettings,
    *,
    progress: bool = False,
) -> OracleEnsemble:
    r"""Train networks one after the other by least squares, on the CPU in float32.

    Args:
        tokens: Sequences, ``n x L``, of an integer dtype.
        values: Their values, ``n``, float64, not all equal.
        num_classes: Number of tokens.
        settings: Networks and training.
        progress: Whether to show a bar on standard error.

    Returns:
        The networks, ready to predict. The global random state is left alone.
    """
    num_batches = math.ceil(len(tokens) / settings.batch_size)
    steps = track(
        range(settings.num_networks * settings.epochs * num_batches),
        total=settings.num_networks * settings.epochs * num_batches,
        description="Training the oracle",
        enabled=progress,
    )
    generator = torch.Generator().manual_seed(settings.seed)
    # An oracle is asked where no gradients are recorded.
    with torch.inference_mode(mode=False), torch.enable_grad():
        ensemble = OracleEnsemble(tokens, values, num_classes, settings)
        targets = ((values - ensemble.center) / ensemble.scale).float()
        for network in ensemble.networks:
            _fit_network(network.train(), tokens, targets, settings, num_batches, generator, steps)
    next(steps, None)  # takes the bar off
    return ensemble.eval()


def _fit_network(
    network: nn.Module,
    tokens: Tensor,
    targets: Tensor,
    settings: OracleSettings,
    num_batches: int,
    generator: torch.Generator,
    steps: Iterator[int],
) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay)
    num_steps = settings.epochs * num_batches
    for step in range(num_steps):
        if step % num_batches == 0:
            order = torch.randperm(len(tokens), generator=generator)
            batches = order.tensor_split(num_batches)
        done = (step + 1) / num_steps
        rise, fall = done / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * done)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(rise, fall)
        rows = batches[step % num_batches]
        optimizer.zero_grad()
        (network(tokens[rows].long()) - targets[rows]).pow(2).mean().backward()
        optimizer.step()
        next(steps)

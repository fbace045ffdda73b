r"""
Conditioning by adaptive sampling [Brookes2019cbas]_.

.. [Brookes2019cbas]
    D. Brookes, H. Park, and J. Listgarten. Conditioning by Adaptive Sampling for Robust Design.
    ICML, 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor
from torch.special import log_ndtr

from botorch_roma.baselines.ensemble import CHUNK_SIZE, Ensemble, ProxyOptions
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.vae import DesignVAE, VAEOptions, fit_vae, make_vae
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_float, check_int

#: As published: five bootstrapped Gaussians. The width is that of the VAE.
CBAS_PROXY = ProxyOptions(num_members=5, hidden_sizes=(256, 256), epochs=100, bootstrap=True)

#: As published.
CBAS_VAE = VAEOptions()


def cbas(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    proxy: ProxyOptions = CBAS_PROXY,
    vae: VAEOptions = CBAS_VAE,
    encoding: str = "logits",
    num_rounds: int = 20,
    num_samples: int = 1_000,
    quantile: float = 0.8,
    round_epochs: int = 10,
    progress: bool = False,
) -> Tensor:
    r"""Move a generative model of the visible designs to where the ensemble predicts much.

    In each round designs are drawn from the model ``q``, weighted with the probability that they
    exceed a threshold times the ratio of the first model's density to that of ``q``, and ``q`` is
    trained on them. The weights are normalised to a mean of 1 in each round.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates, drawn from the last model.
        seed: Seed of ensemble, VAE and sampling.
        proxy: The networks that predict.
        vae: The generative model.
        encoding: What the networks see of token sequences: ``"logits"`` or ``"one_hot"``.
        num_rounds: Number of rounds.
        num_samples: Designs drawn in each round.
        quantile: The threshold is this quantile of the predictions, and never falls.
        round_epochs: Passes over the samples of a round.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    return adaptive_sampling(
        task,
        q,
        seed=seed,
        proxy=proxy,
        vae=vae,
        encoding=encoding,
        num_rounds=num_rounds,
        num_samples=num_samples,
        quantile=quantile,
        round_epochs=round_epochs,
        after_round=None,
        progress=progress,
    )


#: ``(ensemble, log_ratio)``: the log-density ratio of the present to the first model at the rows.
AfterRound = Callable[[Ensemble, Tensor], None]


def adaptive_sampling(
    task: OfflineTask,
    q: int,
    *,
    seed: int,
    proxy: ProxyOptions,
    vae: VAEOptions,
    encoding: str,
    num_rounds: int,
    num_samples: int,
    quantile: float,
    round_epochs: int,
    after_round: AfterRound | None,
    progress: bool,
) -> Tensor:
    r""":func:`cbas`, with something to do after each round."""
    check_int("q", q, minimum=1)
    check_int("num_rounds", num_rounds, minimum=0)
    check_int("num_samples", num_samples, minimum=1)
    check_int("round_epochs", round_epochs, minimum=1)
    if check_float("quantile", quantile) > 1.0:
        raise ValueError(f"`quantile` must be from 0 to 1, received {quantile!r}.")
    space = DesignSpace(task, encoding)
    ensemble = Ensemble(space, proxy, seed=seed, progress=progress)
    generator = torch.Generator(space.Z.device).manual_seed(seed)
    model, points = make_vae(space, vae, seed)
    epochs = vae.num_epochs(len(points))
    fit_vae(model, points, vae, epochs=epochs, generator=generator, progress=progress)
    first, threshold = deepcopy(model).requires_grad_(False), -torch.inf
    for _ in track(range(num_rounds), total=num_rounds, description="rounds", enabled=progress):
        sample, z = draw(model, num_samples, generator)
        mean, std = ensemble.predict(space.encode_points(sample))
        threshold = max(threshold, mean.mean(dim=0).quantile(quantile).item())
        # the survival function of the mixture, in logarithms
        survival = log_ndtr((mean - threshold) / std).logsumexp(dim=0)
        with torch.no_grad():
            ratio = first.log_likelihood(sample, z) - model.log_likelihood(sample, z)
        weights = (survival + ratio).softmax(dim=0) * num_samples
        fit_vae(model, sample, vae, epochs=round_epochs, generator=generator, weights=weights)
        if after_round is not None:
            after_round(ensemble, _log_ratio(model, first, points, generator))
    # decoding leaves no empty sequence, and no vector outside the bounds
    return space.decode(space.encode_points(draw(model, q, generator)[0]))


@torch.no_grad()
def draw(model: DesignVAE, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    r"""``n`` points and the latents that they were drawn at."""
    z = model.noise(n, generator)
    return model.sample(z, generator), z


@torch.no_grad()
def _log_ratio(
    model: DesignVAE, first: DesignVAE, points: Tensor, generator: torch.Generator
) -> Tensor:
    """Difference of the evidence lower bounds of two models, with the same noise, ``n``."""
    parts = []
    for chunk in points.split(CHUNK_SIZE):
        noise = model.noise(len(chunk), generator)
        parts.append(model.elbo(chunk, noise) - first.elbo(chunk, noise))
    return torch.cat(parts)

r"""
CbAS with autofocused oracles [Fannjiang2020autofocused]_.

.. [Fannjiang2020autofocused]
    C. Fannjiang and J. Listgarten. Autofocused Oracles for Model-based Design. NeurIPS, 2020.
"""

from __future__ import annotations

from torch import Tensor

from botorch_roma.baselines.cbas import CBAS_PROXY, CBAS_VAE, adaptive_sampling
from botorch_roma.baselines.ensemble import Ensemble, ProxyOptions
from botorch_roma.baselines.vae import VAEOptions
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_float, check_int


def autofocused_cbas(
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
    focus_epochs: int = 10,
    flattening: float = 0.2,
    progress: bool = False,
) -> Tensor:
    r"""CbAS whose ensemble is trained anew, after each round, for where the model now is.

    A visible row counts with the ratio of the present to the first model's density (their evidence
    lower bounds), to the power of ``flattening``, normalised to a mean of 1.

    Args:
        task: The task; its oracle is not asked.
        q: As for :func:`~botorch_roma.baselines.cbas.cbas`, as for all down to ``round_epochs``.
        seed: Seed of ensemble, VAE and sampling.
        proxy: The networks that predict.
        vae: The generative model.
        encoding: What the networks see of token sequences.
        num_rounds: Number of rounds.
        num_samples: Designs drawn in each round.
        quantile: Where the threshold is.
        round_epochs: Passes over the samples of a round.
        focus_epochs: Passes of the ensemble over the visible rows after each round.
        flattening: Exponent of the ratio, from 0 (all rows count alike) to 1, where a few rows
            carry all the weight.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    check_int("focus_epochs", focus_epochs, minimum=1)
    if check_float("flattening", flattening) > 1.0:
        raise ValueError(f"`flattening` must be from 0 to 1, received {flattening!r}.")

    def focus(ensemble: Ensemble, log_ratio: Tensor) -> None:
        weights = (flattening * log_ratio).softmax(dim=0) * len(log_ratio)
        ensemble.train(focus_epochs, weights=weights)

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
        after_round=focus,
        progress=progress,
    )

from __future__ import annotations

import importlib
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from botorch_roma import OfflineTask
from botorch_roma.baselines import ProxyOptions, VAEOptions, cbas
from botorch_roma.baselines.cbas import draw
from botorch_roma.baselines.ensemble import Ensemble
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.vae import DesignVAE, VectorVAE, make_vae

module = importlib.import_module("botorch_roma.baselines.cbas")  # not the function of this name

PROXY = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=2)
VAE = VAEOptions(latent_dim=3, hidden_sizes=(16,), epochs=3)


class Fit(NamedTuple):
    """The arguments of a training run, with the model before it."""

    model: DesignVAE
    points: Tensor
    epochs: int
    weights: Tensor | None


@dataclass
class Seen:
    """What happened in a call of the method."""

    fits: list[Fit] = field(default_factory=list)
    draws: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()
    fit_vae = module.fit_vae

    def watched_fit(vae: DesignVAE, points: Tensor, options: VAEOptions, **rest: Any) -> None:
        seen.fits.append(Fit(deepcopy(vae), points, rest["epochs"], rest.get("weights")))
        fit_vae(vae, points, options, **rest)

    def watched_draw(*args: Any) -> tuple[Tensor, Tensor]:
        seen.draws.append(draw(*args))
        return seen.draws[-1]

    monkeypatch.setattr(module, "fit_vae", watched_fit)
    monkeypatch.setattr(module, "draw", watched_draw)
    return seen


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_weights(task: OfflineTask, seen: Seen, quantile: float) -> None:
    """The probability above a threshold that never falls, times the ratio of the densities."""
    options = {"num_rounds": 7, "num_samples": 40, "round_epochs": 1, "quantile": quantile}
    cbas(task, 5, seed=2, proxy=PROXY, vae=VAE, **options)
    space = DesignSpace(task)
    ensemble, first = Ensemble(space, PROXY, seed=2), seen.fits[1].model
    threshold, falls = -torch.inf, 0
    for fit, (sample, z) in zip(seen.fits[1:], seen.draws[:-1], strict=True):
        assert torch.equal(fit.points, sample)
        mean, std = ensemble.predict(space.encode_points(sample))
        level = mean.mean(dim=0).quantile(quantile).item()
        falls += level < threshold
        threshold = max(threshold, level)
        above = (1.0 - Normal(mean, std).cdf(torch.tensor(threshold))).mean(dim=0)
        p, q = (model.log_likelihood(sample, z).detach().exp() for model in (first, fit.model))
        expected = above * p / q
        assert fit.weights is not None
        torch.testing.assert_close(fit.weights, expected / expected.mean(), rtol=1e-5, atol=1e-9)
    assert falls > 0


def test_rounds(vector_task: OfflineTask, seen: Seen) -> None:
    """First the visible rows without weights, then the samples; the candidates are the last."""
    X = cbas(vector_task, 5, proxy=PROXY, vae=VAE, num_rounds=2, num_samples=30, round_epochs=4)
    space = DesignSpace(vector_task)
    assert torch.equal(seen.fits[0].points, space.Z)
    assert seen.fits[0].weights is None
    assert [fit.epochs for fit in seen.fits] == [3, 4, 4]
    assert [len(sample) for sample, _ in seen.draws] == [30, 30, 5]
    torch.testing.assert_close(X, space.decode(seen.draws[-1][0]))


def test_no_rounds(vector_task: OfflineTask, seen: Seen) -> None:
    """More candidates than visible designs can be had, as they are drawn."""
    X = cbas(vector_task, 150, proxy=PROXY, vae=VAE, num_rounds=0)
    assert X.shape == (150, 3)
    assert len(seen.fits) == len(seen.draws) == 1


def test_limit_on_minibatches(vector_task: OfflineTask, seen: Seen) -> None:
    vae = VAEOptions(latent_dim=3, hidden_sizes=(16,), epochs=9, batch_size=50, max_batches=5)
    cbas(vector_task, 5, proxy=PROXY, vae=vae, num_rounds=0)
    assert seen.fits[0].epochs == 2


@pytest.mark.parametrize("kind", ["vectors", "tokens"])
def test_moves_to_better_predictions(
    vector_task: OfflineTask, token_task: OfflineTask, seen: Seen, kind: str
) -> None:
    task = vector_task if kind == "vectors" else token_task
    proxy = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=15, batch_size=25, lr=2e-2)
    vae = VAEOptions(latent_dim=3, hidden_sizes=(16,), epochs=20, batch_size=50, lr=2e-2)
    cbas(task, 5, proxy=proxy, vae=vae, num_rounds=5, num_samples=100, round_epochs=5)
    space = DesignSpace(task)
    ensemble = Ensemble(space, proxy, seed=0)
    means = [ensemble.predict(space.encode_points(Z))[0].mean().item() for Z, _ in seen.draws[:-1]]
    assert means[0] < means[1] < means[2]
    assert means[-1] > means[0] + 1.0


def test_draw(vector_task: OfflineTask) -> None:
    """Latents from the prior, points from the decoder there."""
    vae, _ = make_vae(DesignSpace(vector_task), VAE, 0)
    assert isinstance(vae, VectorVAE)
    points, z = draw(vae, 20_000, torch.Generator().manual_seed(0))
    assert not points.requires_grad
    torch.testing.assert_close(z.mean(dim=0), torch.zeros(3).double(), atol=0.03, rtol=0.0)
    torch.testing.assert_close(z.T.cov(), torch.eye(3).double(), atol=0.05, rtol=0.0)
    errors = (points - vae.decoder(z)).detach() / vae.log_std.exp()
    assert errors.std().item() == pytest.approx(1.0, rel=0.03)
    assert errors.mean().item() == pytest.approx(0.0, abs=0.03)


def test_candidates_are_valid_whatever_is_drawn(
    padded_task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = torch.tensor([[2, 2, 2, 2, 2], [2, 0, 1, 0, 1], [1, 2, 0, 2, 1], [0, 1, 0, 1, 0]])
    monkeypatch.setattr(module, "draw", lambda *_: (points, torch.zeros(4, 3)))
    X = cbas(padded_task, 4, proxy=PROXY, vae=VAE, num_rounds=0)
    assert padded_task.vocabulary is not None
    strings = padded_task.vocabulary.to_strings(X)
    assert strings[2:] == ["b", "ababa"]
    assert all(len(string) >= 1 for string in strings[:2])

from __future__ import annotations

import importlib
from copy import deepcopy
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask
from botorch_roma.baselines import ProxyOptions, VAEOptions, autofocused_cbas, cbas
from botorch_roma.baselines.ensemble import Ensemble
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.vae import DesignVAE, fit_vae, make_vae

module = importlib.import_module("botorch_roma.baselines.cbas")

TINY: dict[str, Any] = {
    "proxy": ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=2),
    "vae": VAEOptions(latent_dim=3, hidden_sizes=(16,), epochs=3, lr=0.01),
    "num_samples": 40,
    "round_epochs": 2,
}

Training = tuple[int, Tensor | None]


class Ratio(NamedTuple):
    """What a log-density ratio was asked of, and what it was."""

    model: DesignVAE
    first: DesignVAE
    points: Tensor
    value: Tensor


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Passes and weights of every training of the ensemble."""
    seen: list[Training] = []
    train = Ensemble.train

    def watched(self: Ensemble, epochs: int, *, weights: Tensor | None = None, **rest: Any) -> None:
        seen.append((epochs, weights))
        train(self, epochs, weights=weights, **rest)

    monkeypatch.setattr(Ensemble, "train", watched)
    return seen


@pytest.fixture
def ratios(monkeypatch: pytest.MonkeyPatch) -> list[Ratio]:
    seen: list[Ratio] = []
    log_ratio = module._log_ratio

    def watched(
        model: DesignVAE, first: DesignVAE, points: Tensor, generator: torch.Generator
    ) -> Tensor:
        value = log_ratio(model, first, points, generator)
        seen.append(Ratio(deepcopy(model), deepcopy(first), points, value))
        return value

    monkeypatch.setattr(module, "_log_ratio", watched)
    return seen


def test_weights(task: OfflineTask, trainings: list[Training], ratios: list[Ratio]) -> None:
    """The ratio to the power of `flattening`, with a mean of 1, once after each round."""
    autofocused_cbas(task, 5, **TINY, num_rounds=3, focus_epochs=4, flattening=0.3)
    assert [epochs for epochs, _ in trainings] == [2, 4, 4, 4]
    assert trainings[0][1] is None
    for (_, weights), ratio in zip(trainings[1:], ratios, strict=True):
        assert weights is not None
        powers = ratio.value.exp() ** 0.3
        torch.testing.assert_close(weights, powers / powers.mean())
        assert weights.mean().item() == pytest.approx(1.0)
        assert weights.std() > 0.01


def test_ratios_are_of_the_present_model_at_the_visible_rows(
    vector_task: OfflineTask, ratios: list[Ratio]
) -> None:
    autofocused_cbas(vector_task, 5, **TINY, num_rounds=2)
    space, eps = DesignSpace(vector_task), torch.zeros(4, 3).double()
    vae, points = make_vae(space, TINY["vae"], 0)
    generator = torch.Generator().manual_seed(0)
    fit_vae(vae, points, TINY["vae"], epochs=3, generator=generator)
    for ratio in ratios:
        assert torch.equal(ratio.points, space.Z)
        assert torch.equal(ratio.first.elbo(points[:4], eps), vae.elbo(points[:4], eps))
    one, two = (ratio.model.elbo(points[:4], eps) for ratio in ratios)
    assert not torch.allclose(one, two)
    assert not torch.allclose(one, vae.elbo(points[:4], eps))


@torch.no_grad()
def test_ratio_is_the_difference_of_the_bounds(
    task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same noise: nothing is left of it between a model and itself."""
    monkeypatch.setattr(module, "CHUNK_SIZE", 32)
    space = DesignSpace(task)
    (model, points), (first, _) = (make_vae(space, TINY["vae"], seed) for seed in (1, 0))
    ratio = module._log_ratio(model, first, points, torch.Generator().manual_seed(3))
    generator, noise = torch.Generator().manual_seed(3), []
    for chunk in points.split(32):
        noise.append(torch.randn(len(chunk), 3, generator=generator, dtype=torch.double))
    eps = torch.cat(noise)
    torch.testing.assert_close(ratio, model.elbo(points, eps) - first.elbo(points, eps))
    assert not module._log_ratio(first, first, points, torch.Generator()).any()


def test_no_weights_without_an_exponent(
    vector_task: OfflineTask, trainings: list[Training]
) -> None:
    autofocused_cbas(vector_task, 5, **TINY, num_rounds=2, flattening=0.0)
    for _, weights in trainings[1:]:
        torch.testing.assert_close(weights, torch.ones(100).double())


def test_differs_from_the_plain_method_by_what_it_says(vector_task: OfflineTask) -> None:
    """The first round is the same, as the ensemble is trained anew only after it."""
    for num_rounds, same in ((0, True), (3, False)):
        plain = cbas(vector_task, 5, **TINY, num_rounds=num_rounds)
        focused = autofocused_cbas(vector_task, 5, **TINY, num_rounds=num_rounds)
        assert torch.equal(plain, focused) is same

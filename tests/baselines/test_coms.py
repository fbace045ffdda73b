from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask
from botorch_roma.baselines import coms
from botorch_roma.baselines.coms import climb
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.network import ACTIVATIONS, ProxyNetwork, StackedWeights, stacked_heads

module = importlib.import_module("botorch_roma.baselines.coms")  # not the function of this name

TINY: dict[str, Any] = {"hidden_sizes": (16,), "epochs": 2, "num_steps": 3}


class Minibatch(NamedTuple):
    """The vectors of the data, those reached from them, their values, the loss and its slope."""

    Z: Tensor
    Z_adv: Tensor
    data: Tensor
    reached: Tensor
    loss: float
    weights: list[Tensor]
    gradient: list[Tensor]


@pytest.fixture
def minibatches(monkeypatch: pytest.MonkeyPatch) -> list[Minibatch]:
    """What each step of training has seen."""
    seen: list[Minibatch] = []
    heads: list[tuple[Tensor, Tensor]] = []
    take_step = module.take_step

    def watched_heads(weights: StackedWeights, Z: Tensor, activation: Any) -> tuple[Tensor, Tensor]:
        mean, log_std = stacked_heads(weights, Z, activation)
        heads.append((Z[0], mean.detach()[0]))
        return mean, log_std

    def watched_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        (Z, Z_adv), (data, reached) = (both.chunk(2) for both in heads[-1])
        parameters = optimizer.param_groups[0]["params"]
        before = [p.detach().clone() for p in parameters]
        take_step(optimizer, loss)
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        seen.append(Minibatch(Z, Z_adv, data, reached, loss.item(), before, gradient))

    monkeypatch.setattr(module, "stacked_heads", watched_heads)
    monkeypatch.setattr(module, "take_step", watched_step)
    return seen


@pytest.fixture
def climbs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[StackedWeights, Tensor, float, int]]:
    """The arguments of every climb, in training and after it."""
    seen: list[tuple[StackedWeights, Tensor, float, int]] = []

    def watched(
        weights: StackedWeights, activation: Any, Z: Tensor, length: float, num_steps: int
    ) -> Tensor:
        seen.append((weights.map(Tensor.clone), Z, length, num_steps))
        return climb(weights, activation, Z, length, num_steps)

    monkeypatch.setattr(module, "climb", watched)
    return seen


def alphas(minibatches: list[Minibatch], space: DesignSpace) -> tuple[list[float], list[float]]:
    """The weight and the gap of each minibatch, without noise, from its loss."""
    weights, gaps = [], []
    for batch in minibatches:
        rows = (batch.Z[:, None] == space.Z).all(dim=-1).int().argmax(dim=1)
        assert torch.equal(space.Z[rows], batch.Z)
        error = (batch.data - space.T[rows, 0]).square().mean()
        gaps.append((batch.reached.mean() - batch.data.mean()).item())
        weights.append((batch.loss - error.item()) / gaps[-1])
    return weights, gaps


@pytest.mark.parametrize("activation", ["leaky_relu", "softplus"])
@pytest.mark.parametrize("num_steps", [0, 1, 4])
def test_climb_is_gradient_ascent(activation: str, num_steps: int) -> None:
    network = ProxyNetwork(3, (8, 8), activation=activation).double()
    Z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    expected = Z
    for _ in range(num_steps):
        expected = expected.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(network(expected)[0].sum(), expected)
        expected = expected + 0.3 * gradient
    found = climb(network.weights, ACTIVATIONS[activation], Z, 0.3, num_steps)
    torch.testing.assert_close(found, expected)


def test_alpha_rises_while_the_gap_exceeds_the_limit(
    vector_task: OfflineTask, minibatches: list[Minibatch]
) -> None:
    options = {**TINY, "noise_std": 0.0, "batch_size": 20, "epochs": 3}
    coms(vector_task, 5, **options, overestimation_limit=-2.0, alpha=0.1, alpha_lr=0.05)
    found, gaps = alphas(minibatches, DesignSpace(vector_task))
    assert len(found) == 15
    expected = [0.1]
    for gap in gaps[:-1]:
        expected.append(expected[-1] + 0.05 * (gap + 2.0))
    assert found == pytest.approx(expected, abs=1e-6)
    assert expected[-1] > 1.0


def test_alpha_falls_to_zero_and_no_further(
    vector_task: OfflineTask, minibatches: list[Minibatch]
) -> None:
    options = {**TINY, "noise_std": 0.0, "batch_size": 20, "epochs": 3, "lr": 0.03}
    options |= {"particle_lr": 0.3, "overestimation_limit": 0.5}
    coms(vector_task, 5, **options, alpha=0.1, alpha_lr=0.2)
    found, gaps = alphas(minibatches, DesignSpace(vector_task))
    expected = [0.1]
    for gap in gaps[:-1]:
        expected.append(max(0.0, expected[-1] + 0.2 * (gap - 0.5)))
    assert found == pytest.approx(expected, abs=1e-6)
    start, end = expected.index(0.0), len(expected) - 1 - expected[::-1].index(0.0)
    assert end > start  # it stays there, though the sum has gone below 0,
    assert expected[-1] > 0.0  # and rises as soon as the gap does


def test_gradient_takes_what_ascent_reaches_as_given(
    vector_task: OfflineTask, minibatches: list[Minibatch]
) -> None:
    """Not as a function of the weights, which could make the proxy flat instead of low."""
    options = {**TINY, "noise_std": 0.0, "epochs": 1, "alpha": 0.7, "particle_lr": 0.5}
    coms(vector_task, 5, **options)
    (batch,), space = minibatches, DesignSpace(vector_task)
    network = ProxyNetwork(3, (16,), activation="leaky_relu").double()
    with torch.no_grad():
        for own, weight in zip(network.parameters(), batch.weights, strict=True):
            own.copy_(weight)
    rows = (batch.Z[:, None] == space.Z).all(dim=-1).int().argmax(dim=1)
    data, reached = network(batch.Z)[0][0], network(batch.Z_adv.detach())[0][0]
    loss = (data - space.T[rows, 0]).square().mean() + 0.7 * (reached.mean() - data.mean())
    expected = torch.autograd.grad(
        loss, list(network.parameters()), allow_unused=True, materialize_grads=True
    )
    torch.testing.assert_close(batch.gradient, list(expected))
    assert expected[0].abs().max() > 0.01


def test_minibatches(vector_task: OfflineTask, minibatches: list[Minibatch]) -> None:
    """All rows in each pass, and a limit on their number."""
    options = {**TINY, "noise_std": 0.0, "batch_size": 30}
    coms(vector_task, 5, **options)
    assert [len(batch.Z) for batch in minibatches] == [30, 30, 30, 10] * 2
    space = DesignSpace(vector_task)
    for half in (minibatches[:4], minibatches[4:]):
        Z = torch.cat([batch.Z for batch in half])
        assert torch.equal(Z.unique(dim=0), space.Z.unique(dim=0))
    minibatches.clear()
    coms(vector_task, 5, **{**options, "epochs": 50}, max_batches=13)
    assert len(minibatches) == 12


def test_noise(grid_task: OfflineTask, minibatches: list[Minibatch]) -> None:
    """On the inputs alone, in standard deviations."""
    space = DesignSpace(grid_task)
    coms(grid_task, 5, **TINY, noise_std=1e-3, batch_size=80)
    for batch in minibatches:
        distance = (batch.Z[:, None] - space.Z).abs().amax(dim=-1)
        noise = batch.Z - space.Z[distance.argmin(dim=1)]
        assert noise.std().item() == pytest.approx(1e-3, rel=0.2)
    first, second = (batch.Z.sort(dim=0).values for batch in minibatches)
    assert not torch.equal(first, second)


def test_where_ascent_leads(
    vector_task: OfflineTask,
    minibatches: list[Minibatch],
    climbs: list[tuple[StackedWeights, Tensor, float, int]],
) -> None:
    """From the noisy rows on the weights of that moment, then from the best on the last ones."""
    X = coms(vector_task, 5, **TINY, particle_lr=0.1, num_inner_steps=2)
    length = 0.1 * 3**0.5
    assert [c[2:] for c in climbs] == [(length, 2)] * 2 + [(length, 1)] * 3
    for batch, (weights, Z, *_) in zip(minibatches, climbs[:2], strict=True):
        assert torch.equal(batch.Z, Z)
        expected = climb(weights, ACTIVATIONS["leaky_relu"], Z, length, 2)
        torch.testing.assert_close(batch.Z_adv, expected)
    space = DesignSpace(vector_task)
    last, Z, *_ = climbs[2]
    assert torch.equal(Z, space.start(5))
    assert all(
        torch.equal(a, b) for a, b in zip(climbs[-1][0].tensors(), last.tensors(), strict=True)
    )
    expected = space.decode(climb(last, ACTIVATIONS["leaky_relu"], Z, length, 3))
    torch.testing.assert_close(X, expected)


def test_conservatism_lowers_the_prediction_where_ascent_leads(
    vector_task: OfflineTask, climbs: list[tuple[StackedWeights, Tensor, float, int]]
) -> None:
    options = {**TINY, "epochs": 20, "num_steps": 5, "lr": 3e-3, "batch_size": 20}
    gaps, values, activation = [], [], ACTIVATIONS["leaky_relu"]
    for alpha in (0.0, 3.0):
        climbs.clear()
        coms(vector_task, 8, **options, alpha=alpha, alpha_lr=0.0, particle_lr=0.2)
        weights, Z, length, _ = climbs[-5]
        both = torch.cat([Z, climb(weights, activation, Z, length, 5)])
        before, after = stacked_heads(weights, both[None], activation)[0][0].chunk(2)
        gaps.append((after - before).mean().item())
        values.append(after.mean().item())
    assert gaps[1] < 0.6 * gaps[0]
    assert values[1] < values[0] - 0.5


def test_learns_a_simple_function(
    vector_task: OfflineTask, climbs: list[tuple[StackedWeights, Tensor, float, int]]
) -> None:
    """And climbs it, to the upper corner of the box."""
    options = {"hidden_sizes": (16,), "epochs": 15, "lr": 2e-2, "batch_size": 25}
    X = coms(vector_task, 5, **options, num_steps=60)
    assert torch.equal(X, vector_task.bounds[1].expand(5, 3))
    space = DesignSpace(vector_task)
    mean, _ = stacked_heads(climbs[-1][0], space.Z[None], ACTIVATIONS["leaky_relu"])
    assert torch.corrcoef(torch.cat([mean, space.T.T]))[0, 1] > 0.9

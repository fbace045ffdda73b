from __future__ import annotations

import importlib
import math
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from botorch_roma import OfflineTask
from botorch_roma.baselines import mins
from botorch_roma.baselines.mins import _GAN, row_weights
from botorch_roma.baselines.space import DesignSpace

module = importlib.import_module("botorch_roma.baselines.mins")  # not the function of this name

TINY: dict[str, Any] = {"hidden_sizes": (16,), "latent_dim": 3, "epochs": 2, "critic_steps": 2}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def gan(vector_task: OfflineTask) -> _GAN:
    return _GAN(DesignSpace(vector_task), (16,), 3, seed=0)


@pytest.fixture
def gans(monkeypatch: pytest.MonkeyPatch) -> list[_GAN]:
    """The networks of every call of the method."""
    seen: list[_GAN] = []

    class Watched(_GAN):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            seen.append(self)

    monkeypatch.setattr(module, "_GAN", Watched)
    return seen


def by_hand(outcomes: list[float], num_bins: int) -> list[float]:
    low, high, tau = min(outcomes), max(outcomes), statistics.stdev(outcomes)
    width, n = (high - low) / num_bins, len(outcomes)
    bins = [min(int((y - low) / width), num_bins - 1) for y in outcomes]
    shares = {}
    for b in set(bins):
        n_b, y_b = bins.count(b), low + (b + 0.5) * width
        shares[b] = n_b / (n_b + n / num_bins) * math.exp(-abs(high - y_b) / tau)
    return [shares[b] / bins.count(b) / sum(shares.values()) for b in bins]


@pytest.mark.parametrize("num_bins", [1, 4, 20])
def test_row_weights(num_bins: int) -> None:
    T = torch.randn(60, generator=generator(), dtype=torch.double).exp()  # most bins are empty
    weights = row_weights(T, num_bins)
    assert weights.tolist() == pytest.approx(by_hand(T.tolist(), num_bins))
    assert weights.sum().item() == pytest.approx(1.0)


def test_better_bins_weigh_more() -> None:
    weights = row_weights(torch.linspace(-1.0, 1.0, 40, dtype=torch.double), 8).reshape(8, 5)
    assert bool((weights == weights[:, :1]).all())
    assert bool((weights[:, 0].diff() > 0.0).all())


def test_rows_are_drawn_with_their_weights(
    vector_task: OfflineTask, gans: list[_GAN], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.zeros(100).double()
    weights[[3, 7, 8]] = torch.tensor([0.5, 0.25, 0.25]).double()
    seen: list[Tensor] = []
    designs = _GAN.designs

    def watched(self: _GAN, rows: Tensor) -> Tensor:
        seen.append(rows)
        return designs(self, rows)

    monkeypatch.setattr(module, "row_weights", lambda T, num_bins: weights)
    monkeypatch.setattr(_GAN, "designs", watched)
    mins(vector_task, 5, **{**TINY, "epochs": 10}, batch_size=50)
    rows = torch.cat(seen)
    assert len(seen) == 20
    assert len(rows) == 1_000
    assert set(rows.tolist()) == {3, 7, 8}
    assert (rows == 3).double().mean().item() == pytest.approx(0.5, abs=0.06)


def test_penalty_of_a_linear_critic(gan: _GAN) -> None:
    """Its slope is the same everywhere; the outcome has no part in it."""
    linear = nn.Linear(4, 1).double()
    gan.critic = nn.Sequential(linear)
    X, fake = (torch.randn(9, 3, generator=generator(s), dtype=torch.double) for s in (0, 1))
    T = torch.linspace(-1.0, 1.0, 9).double()[:, None]
    w = linear.weight[0, 1:].detach()
    gap = ((fake - X) @ w).mean()
    for penalty in (0.0, 10.0):
        loss = gan.critic_loss(X, fake, T, penalty, generator())
        torch.testing.assert_close(loss.detach(), gap + penalty * (w.norm() - 1.0).square())
    (gradient,) = torch.autograd.grad(gan.critic_loss(X, X, T, 10.0, generator()), linear.weight)
    torch.testing.assert_close(gradient[0, 1:], 20.0 * (w.norm() - 1.0) * w / w.norm())
    assert gradient[0, 0] == 0.0


def test_penalty_is_taken_between_the_points(gan: _GAN) -> None:
    """Half the square of a norm has that norm for a slope: uniform between 0 and 1 here."""
    gan.critic = lambda V: 0.5 * V[:, 1:].square().sum(dim=1, keepdim=True)  # type: ignore[assignment]
    X, T = torch.zeros(20_000, 3).double(), torch.zeros(20_000, 1).double()
    fake = torch.full_like(X, 3.0**-0.5)
    loss = gan.critic_loss(X, fake, T, 10.0, generator())
    assert loss.item() == pytest.approx(0.5 + 10.0 / 3.0, rel=0.02)
    loss = gan.critic_loss(3.0 * fake, 3.0 * fake, T, 10.0, generator())
    assert loss.item() == pytest.approx(10.0 * 4.0)


def test_steps(vector_task: OfflineTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the generator, which raises the critic's value, after so many of the critic."""
    steps: list[torch.optim.Optimizer] = []
    take_step = module.take_step

    def watched(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        steps.append(optimizer)
        take_step(optimizer, loss)

    monkeypatch.setattr(module, "take_step", watched)
    options = {**TINY, "critic_steps": 3, "lr": 0.002, "betas": (0.1, 0.8), "batch_size": 30}
    mins(vector_task, 5, **options)  # twice four minibatches
    critic, generator = steps[0], steps[3]
    assert steps == [critic] * 3 + [generator] + [critic] * 3 + [generator] + [critic] * 2
    assert [o.param_groups[0]["params"][0].shape[1] for o in (critic, generator)] == [4, 4]
    assert [o.param_groups[0]["params"][-1].shape[0] for o in (critic, generator)] == [1, 3]
    for optimizer in (critic, generator):
        assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (0.002, (0.1, 0.8))
    steps.clear()
    mins(vector_task, 5, **{**options, "epochs": 50}, max_batches=13)
    assert steps.count(steps[0]) == 12


@pytest.mark.parametrize("kind", ["vectors", "tokens"])
def test_conditioning_on_a_better_outcome_gives_better_designs(
    vector_task: OfflineTask, token_task: OfflineTask, gans: list[_GAN], kind: str
) -> None:
    task = vector_task if kind == "vectors" else token_task
    options = {"hidden_sizes": (32,), "latent_dim": 3, "epochs": 70, "lr": 5e-3}
    X = mins(task, 8, **options, batch_size=64, critic_steps=3, betas=(0.5, 0.9), num_bins=5)

    def outcome(X: Tensor) -> float:
        if kind == "tokens":
            return (X == 2).double().sum(dim=1).mean().item()
        unit = (X - task.bounds[0]) / (task.bounds[1] - task.bounds[0])
        return unit.sum(dim=1).mean().item()

    (gan,) = gans
    values = []
    with torch.no_grad():
        for T in (gan.space.T.min(), gan.space.T.max()):
            points = gan.generate(T.expand(200, 1), 1.0, generator())
            values.append(outcome(gan.decode(points)))
    assert values[1] > values[0] + 0.8
    assert outcome(X) > outcome(task.X) + 0.3


def test_candidates_are_drawn_at_the_best_outcome(
    token_task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last temperature, which is reached from the first in equal steps."""
    seen: list[tuple[Tensor, float]] = []
    generate = _GAN.generate

    def watched(self: _GAN, T: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        seen.append((T, temperature))
        return generate(self, T, temperature, generator)

    monkeypatch.setattr(_GAN, "generate", watched)
    mins(token_task, 5, **TINY, batch_size=50, temperatures=(4.0, 2.0))
    assert [temperature for _, temperature in seen] == [4.0, 3.5, 3.0, 2.5, 2.0]
    best = DesignSpace(token_task).T.max().item()
    assert seen[-1][0].tolist() == [[best]] * 5
    assert seen[0][0].shape == (50, 1)
    assert seen[0][0].std() > 0.1


def test_generated_vectors(gan: _GAN) -> None:
    T = torch.linspace(-1.0, 1.0, 6).double()[:, None]
    points = gan.generate(T, 1.0, generator())
    z = torch.randn(6, 3, generator=generator(), dtype=torch.double)
    torch.testing.assert_close(points, gan.generator(torch.cat([T, z], dim=1)))
    torch.testing.assert_close(gan.decode(points.detach()), gan.space.decode(points.detach()))
    value = gan.criticize(points, T)
    torch.testing.assert_close(value, gan.critic(torch.cat([T, points], dim=1)))


@torch.no_grad()
def test_generated_tokens(padded_task: OfflineTask) -> None:
    """Distributions at each position, as soft as the temperature says; padding is a token."""
    gan = _GAN(DesignSpace(padded_task, "one_hot"), (16,), 3, seed=0)
    T = torch.zeros(500, 1).double()
    peaks = []
    for temperature in (0.05, 1.0, 20.0):
        tokens = gan.generate(T, temperature, generator()).unflatten(1, (5, 3))
        torch.testing.assert_close(tokens.sum(dim=-1), torch.ones(500, 5).double())
        peaks.append(tokens.amax(dim=-1).mean().item())
    assert peaks[0] > 0.95
    assert 0.45 < peaks[1] < 0.9
    assert peaks[2] < 0.4


def test_designs_survive_as_points(task: OfflineTask) -> None:
    gan = _GAN(DesignSpace(task, "one_hot"), (16,), 3, seed=0)
    rows = torch.tensor([5, 0, 5, 31])
    points = gan.designs(rows)
    assert points.dtype == torch.double
    torch.testing.assert_close(gan.decode(points), task.X[rows])
    if task.vocabulary is not None:
        assert points.shape == (4, 5 * task.vocabulary.num_classes)
        assert points.sum(dim=1).tolist() == [5.0] * 4


def test_networks(vector_task: OfflineTask) -> None:
    gan = _GAN(DesignSpace(vector_task), (7, 6), 4, seed=0)
    for net, sizes in ((gan.generator, (5, 7, 6, 3)), (gan.critic, (4, 7, 6, 1))):
        layers = [m for m in net if isinstance(m, nn.Linear)]
        assert [m.in_features for m in layers] == list(sizes[:-1])
        assert [m.out_features for m in layers] == list(sizes[1:])
        assert [type(m) for m in net] == [nn.Linear, nn.LeakyReLU] * 2 + [nn.Linear]
        assert all(m.negative_slope == 0.2 for m in net if isinstance(m, nn.LeakyReLU))

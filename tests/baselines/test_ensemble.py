from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from botorch_roma import OfflineTask
from botorch_roma.baselines import ensemble as module
from botorch_roma.baselines.ensemble import Aggregate, Ensemble, ProxyOptions
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.network import ProxyNetwork

PROXY = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=2)
HALF_LOG_2PI = 0.9189385332046727


@pytest.fixture
def space(vector_task: OfflineTask) -> DesignSpace:
    return DesignSpace(vector_task)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the networks were given, minibatch by minibatch."""
    seen: list[Tensor] = []
    forward = ProxyNetwork.forward

    def watched(self: ProxyNetwork, Z: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(Z)
        return forward(self, Z)

    monkeypatch.setattr(ProxyNetwork, "forward", watched)
    return seen


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loss of every step."""
    seen: list[float] = []
    take_step = module.take_step

    def watched(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        seen.append(loss.item())
        take_step(optimizer, loss)

    monkeypatch.setattr(module, "take_step", watched)
    return seen


def parameters(ensemble: Ensemble) -> Tensor:
    return torch.cat([p.detach().flatten() for p in ensemble.network.parameters()])


def rows_of(Z: Tensor, space: DesignSpace) -> list[int]:
    """Numbers of the visible rows whose vectors ``n x e`` these are."""
    same = (Z[:, None] == space.Z).all(dim=-1)
    assert bool((same.sum(dim=1) == 1).all())
    return same.int().argmax(dim=1).tolist()


def test_learns_a_simple_function(vector_task: OfflineTask) -> None:
    half = vector_task.to()
    half.X, half.Y = vector_task.X[:60], vector_task.Y[:60]
    space = DesignSpace(half)
    options = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=40, batch_size=16, lr=1e-2)
    mean, _ = Ensemble(space, options, seed=0).predict(space.encode(vector_task.X[60:]))
    truth = (vector_task.Y[60:, 0] - half.Y.mean()) / half.Y.std(correction=0)
    for member in mean:
        assert torch.corrcoef(torch.stack([member, truth]))[0, 1] > 0.9
        assert (member - truth).square().mean() < 0.1  # in the units of `T`, no other scale


def test_loss_is_the_weighted_likelihood(space: DesignSpace, losses: list[float]) -> None:
    ensemble = Ensemble(space, PROXY, seed=0)
    weights = torch.linspace(0.0, 2.0, 100, dtype=torch.double)
    for given in (None, weights):
        mean, std = ensemble.predict(space.Z)
        nats = -Normal(mean, std).log_prob(space.T[:, 0]) - HALF_LOG_2PI
        ensemble.train(1, weights=given)
        expected = (nats if given is None else weights * nats).mean(dim=1).sum()
        assert losses[-1] == pytest.approx(expected.item(), rel=1e-9)


def test_rows_of_weight_zero_have_no_influence(vector_task: OfflineTask) -> None:
    weights = torch.ones(100, dtype=torch.double)
    weights[::3] = 0.0

    def train(change: float, weights: Tensor | None) -> Tensor:
        space = DesignSpace(vector_task)
        ensemble = Ensemble(space, replace(PROXY, batch_size=16, bootstrap=True), seed=0)
        space.T[::3] += change
        ensemble.train(2, weights=weights)
        return parameters(ensemble)

    assert torch.equal(train(0.0, weights), train(5.0, weights))
    assert not torch.equal(train(0.0, None), train(5.0, None))


def test_each_network_has_an_order_of_its_own(space: DesignSpace, batches: list[Tensor]) -> None:
    Ensemble(space, replace(PROXY, batch_size=30), seed=0)
    assert [batch.shape for batch in batches] == [(2, n, 3) for n in (30, 30, 30, 10)] * 2
    passes = [torch.cat(batches[:4], dim=1), torch.cat(batches[4:], dim=1)]
    orders = [rows_of(Z, space) for both in passes for Z in both]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_bootstrap(space: DesignSpace, batches: list[Tensor]) -> None:
    """A resample for each network, with repeats, the same in each pass."""
    Ensemble(space, replace(PROXY, bootstrap=True), seed=0)
    first, second = ([sorted(rows_of(Z, space)) for Z in both] for both in batches)
    assert first == second
    assert first[0] != first[1]
    for rows in first:
        assert len(rows) == 100
        assert 50 < len(set(rows)) < 80  # 63 are to be expected


def test_training_goes_on_from_where_it_is(space: DesignSpace) -> None:
    once = Ensemble(space, replace(PROXY, epochs=5), seed=0)
    twice = Ensemble(space, PROXY, seed=0)
    assert not torch.equal(parameters(once), parameters(twice))
    twice.train(3)
    assert torch.equal(parameters(once), parameters(twice))


def test_prediction(space: DesignSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is that of the networks, in however many chunks it is made."""
    ensemble = Ensemble(space, PROXY, seed=0)
    mean, std = ensemble.predict(space.Z)
    assert mean.shape == std.shape == (2, 100)
    assert not mean.requires_grad
    own_mean, own_log_std = ensemble.network(space.Z)
    torch.testing.assert_close(mean, own_mean.detach())
    torch.testing.assert_close(std, own_log_std.detach().exp())
    monkeypatch.setattr(module, "CHUNK_SIZE", 7)
    chunked = ensemble.predict(space.Z)
    torch.testing.assert_close(chunked, (mean, std))


@pytest.mark.parametrize("activation", ["leaky_relu", "softplus"])
@pytest.mark.parametrize("aggregate", ["mean", "min"])
def test_ascent_direction(space: DesignSpace, activation: str, aggregate: Aggregate) -> None:
    options = replace(PROXY, num_members=3, activation=activation)
    ensemble = Ensemble(space, options, seed=0)
    Z = space.Z.clone().requires_grad_()
    mean, _ = ensemble.network(Z)
    assert len(mean.argmin(dim=0).unique()) > 1
    value = mean.mean(dim=0) if aggregate == "mean" else mean.min(dim=0).values
    (expected,) = torch.autograd.grad(value.sum(), Z)
    torch.testing.assert_close(ensemble.ascent_direction(space.Z, aggregate), expected)


def test_unknown_aggregate(space: DesignSpace) -> None:
    ensemble = Ensemble(space, PROXY, seed=0)
    with pytest.raises(ValueError, match=r"`aggregate` must be one of .* received 'max'"):
        ensemble.ascent_direction(space.Z, "max")  # type: ignore[arg-type]


def test_seeds(space: DesignSpace) -> None:
    """No two networks are the same, nor of two seeds in a row."""
    state = torch.get_rng_state()
    first, again, second = (Ensemble(space, PROXY, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(parameters(first), parameters(again))
    members = torch.cat([first.predict(space.Z)[0], second.predict(space.Z)[0]])
    assert torch.pdist(members).min() > 0.01
    assert torch.equal(torch.get_rng_state(), state)
    start = [
        Ensemble(space, replace(PROXY, epochs=1, lr=1e-12), seed=seed).predict(space.Z)[0]
        for seed in (0, 1)
    ]
    assert torch.pdist(torch.cat(start)).min() > 0.01  # the initial weights, too


def test_passes(vector_task: OfflineTask, token_task: OfflineTask) -> None:
    spaces = DesignSpace(vector_task), DesignSpace(token_task)
    assert [ProxyOptions().num_epochs(space) for space in spaces] == [50, 100]
    options = ProxyOptions(epochs=7, batch_size=30)  # four minibatches a pass
    assert options.num_epochs(spaces[0]) == 7
    assert replace(options, max_batches=11).num_epochs(spaces[0]) == 2


def test_limit_on_minibatches(space: DesignSpace, losses: list[float]) -> None:
    Ensemble(space, replace(PROXY, epochs=9, max_batches=11, batch_size=30), seed=0)
    assert len(losses) == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_members", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("epochs", 0),
        ("max_batches", 0),
        ("max_batches", 2.5),
        ("hidden_sizes", ()),
        ("hidden_sizes", (0,)),
        ("activation", "relu6"),
    ],
)
def test_bad_options(space: DesignSpace, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must "):
        Ensemble(space, replace(PROXY, **{name: value}), seed=0)

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from botorch_roma import OfflineTask
from botorch_roma.baselines import ProxyOptions, nemo
from botorch_roma.baselines.ensemble import Ensemble
from botorch_roma.baselines.nemo import _log_likelihood
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.network import ProxyNetwork

module = importlib.import_module("botorch_roma.baselines.nemo")  # not the function of this name

PROXY = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=2, activation="softplus")
HALF_LOG_2PI = 0.9189385332046727


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, list[Tensor]]]:
    """The loss of every step of the networks, and the weights before it."""
    seen: list[tuple[float, list[Tensor]]] = []
    take_step = module.take_step

    def watched(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        before = [p.detach().clone() for p in optimizer.param_groups[0]["params"]]
        seen.append((loss.item(), before))
        take_step(optimizer, loss)

    monkeypatch.setattr(module, "take_step", watched)
    return seen


def first_network(task: OfflineTask, proxy: ProxyOptions = PROXY) -> ProxyNetwork:
    return Ensemble(DesignSpace(task), replace(proxy, num_members=1), seed=0).network


def expectation(network: ProxyNetwork, Z: Tensor, outcomes: Tensor) -> Tensor:
    """The quantity that is climbed, where one network stands for all outcomes, ``n``."""
    mean, log_std = network(Z)
    p = Normal(mean, log_std.exp()).log_prob(outcomes[:, None]).exp()
    return (outcomes[:, None] * p).sum(dim=0) / p.sum(dim=0)


def bins(task: OfflineTask, num_bins: int, margin: float) -> Tensor:
    T = DesignSpace(task).T
    return torch.linspace(T.min().item(), T.max().item() + margin, num_bins, dtype=torch.double)


def test_likelihood() -> None:
    networks = ProxyNetwork(3, (8,), num_networks=4).double()
    Z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    mean, log_std = networks(Z)
    normal = Normal(mean, log_std.exp())
    for T in (
        torch.linspace(-1.0, 1.0, 6).double(),
        torch.linspace(-1.0, 1.0, 4).double()[:, None],
    ):
        found = _log_likelihood(networks, Z, T)
        assert found.shape == (4, 6)
        torch.testing.assert_close(found, normal.log_prob(T) + HALF_LOG_2PI)


def test_steps_with_networks_that_stand_still(vector_task: OfflineTask) -> None:
    """Gradient ascent on the mean of the distribution that is left."""
    path: list[Tensor] = []
    options = {"num_bins": 30, "margin": 0.7, "num_steps": 3, "step_size": 0.2}
    nemo(vector_task, 6, proxy=PROXY, **options, model_lr=1e-14, path=path)
    space, network = DesignSpace(vector_task), first_network(vector_task)
    Z, outcomes = space.start(6), bins(vector_task, 30, 0.7)
    expected = [space.decode(Z)]
    for _ in range(3):
        Z = Z.requires_grad_()
        (gradient,) = torch.autograd.grad(expectation(network, Z, outcomes).sum(), Z)
        Z = (Z + 0.2 * 3**0.5 * gradient).detach()
        expected.append(space.decode(Z))
    torch.testing.assert_close(path, expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(expected[-1], expected[0])


def test_climbed_quantity_rises(vector_task: OfflineTask) -> None:
    proxy = ProxyOptions(
        hidden_sizes=(16,), epochs=15, batch_size=25, lr=2e-2, activation="softplus"
    )
    path: list[Tensor] = []
    nemo(
        vector_task,
        6,
        proxy=proxy,
        num_bins=100,
        num_steps=15,
        step_size=0.006,
        model_lr=1e-14,
        path=path,
    )
    space, network = DesignSpace(vector_task), first_network(vector_task, proxy)
    with torch.no_grad():
        values = torch.stack(
            [expectation(network, space.encode(X), bins(vector_task, 100, 1.0)) for X in path]
        )
    assert bool((values.diff(dim=0) > -1e-9).all())
    assert bool((values[-1] > values[0] + 0.05).all())


def test_networks_learn_the_data_and_their_own_outcome_at_the_candidates(
    vector_task: OfflineTask, losses: list[tuple[float, list[Tensor]]]
) -> None:
    path: list[Tensor] = []
    options = {"num_bins": 3, "margin": 0.7, "num_steps": 3, "step_size": 0.01, "model_lr": 0.01}
    nemo(vector_task, 6, proxy=replace(PROXY, batch_size=50), **options, path=path)
    space, outcomes = DesignSpace(vector_task), bins(vector_task, 3, 0.7)
    generator = torch.Generator().manual_seed(0)
    networks = ProxyNetwork(3, (16,), num_networks=3, activation="softplus").double()
    trained = list(first_network(vector_task, replace(PROXY, batch_size=50)).parameters())
    assert len(losses) == 3
    for step, ((loss, weights), X) in enumerate(zip(losses, path, strict=False)):
        rows = torch.randint(100, (50,), generator=generator)
        with torch.no_grad():
            for own, weight in zip(networks.parameters(), weights, strict=True):
                own.copy_(weight)
            nats = torch.zeros(3).double()
            for Z, T in ((space.Z[rows], space.T[rows, 0]), (space.encode(X), outcomes[:, None])):
                mean, log_std = networks(Z)
                nats -= (Normal(mean, log_std.exp()).log_prob(T) + HALF_LOG_2PI).sum(dim=1)
        assert loss == pytest.approx(nats.sum().item() / 56, rel=1e-6)
        same = [torch.equal(a, b.expand_as(a)) for a, b in zip(weights, trained, strict=True)]
        assert all(same) is (step == 0)
    distinct = [weight.unique(dim=0).shape[0] for weight in losses[-1][1]]
    assert distinct[0] == 3


@pytest.mark.parametrize(
    ("options", "changes"),
    [({"num_bins": 12}, True), ({"margin": 0.0}, True), ({"model_lr": 0.01}, True), ({}, False)],
)
def test_options_matter(vector_task: OfflineTask, options: dict[str, Any], changes: bool) -> None:
    plain: dict[str, Any] = {"proxy": PROXY, "num_bins": 5, "num_steps": 3, "step_size": 0.05}
    first, second = (nemo(vector_task, 6, **{**plain, **more}) for more in ({}, options))
    assert torch.equal(first, second) is not changes


def test_one_network_whatever_the_ensemble(vector_task: OfflineTask) -> None:
    first, second = (
        nemo(vector_task, 6, proxy=replace(PROXY, num_members=n), num_bins=5, num_steps=2)
        for n in (1, 3)
    )
    assert torch.equal(first, second)

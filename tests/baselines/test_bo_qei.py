from __future__ import annotations

import importlib
import warnings
from typing import Any, NamedTuple

import pytest
import torch
from botorch.exceptions import (
    BadInitialCandidatesWarning,
    InputDataWarning,
    OptimizationWarning,
)
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from botorch_roma import OfflineTask
from botorch_roma.baselines import ProxyOptions, bo_qei
from botorch_roma.baselines.bo_qei import _subset
from botorch_roma.baselines.ensemble import Ensemble
from botorch_roma.baselines.space import DesignSpace

module = importlib.import_module("botorch_roma.baselines.bo_qei")  # not the function of this name

PROXY = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=2)
TINY: dict[str, Any] = {
    "proxy": PROXY,
    "num_rows": 20,
    "num_restarts": 1,
    "raw_samples": 8,
    "maxiter": 3,
}


class Seen(NamedTuple):
    """The data of every GP, and what was proposed from it, within which bounds."""

    data: list[tuple[Tensor, Tensor]]
    proposed: list[Tensor]
    bounds: list[Tensor]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen([], [], [])

    def watched_model(X: Tensor, Y: Tensor) -> SingleTaskGP:
        seen.data.append((X, Y))
        return SingleTaskGP(X, Y)

    def watched_search(acquisition: Any, bounds: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        assert acquisition.best_f == seen.data[-1][1].max()
        found, value = optimize_acqf(acquisition, bounds, **options)
        seen.proposed.append(found)
        seen.bounds.append(bounds)
        return found, value

    monkeypatch.setattr(module, "SingleTaskGP", watched_model)
    monkeypatch.setattr(module, "optimize_acqf", watched_search)
    return seen


def test_subset() -> None:
    """Half the best, half drawn from the rest."""
    T = torch.randn(100, generator=torch.Generator().manual_seed(0))
    order = T.argsort(descending=True).tolist()
    rows = _subset(T, 21, seed=0).tolist()
    assert rows[:10] == order[:10]
    assert len(set(rows)) == 21
    assert len(set(rows[10:]) & set(order[10:21])) < 6
    assert sorted(rows[10:]) != rows[10:]
    again, other = (_subset(T, 21, seed=seed).tolist() for seed in (0, 1))
    assert rows == again
    assert rows[:10] == other[:10]
    assert rows[10:] != other[10:]


@pytest.mark.parametrize(("num_rows", "expected"), [(1, 1), (11, 11), (12, 12), (50, 12)])
def test_size_of_the_subset(num_rows: int, expected: int) -> None:
    rows = _subset(torch.linspace(0.0, 1.0, 12), num_rows, seed=0).tolist()
    assert len(rows) == len(set(rows)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_of_the_model(grid_task: OfflineTask, seen: Seen, dtype: torch.dtype) -> None:
    """Visible designs with the ensemble's values, then what was proposed."""
    task = grid_task.to(dtype=dtype)
    bo_qei(task, 5, **TINY, num_iterations=2, batch_size=3)
    space = DesignSpace(task)
    ensemble, batch = Ensemble(space, PROXY, seed=0), seen.proposed[0].to(dtype)
    start = space.Z[_subset(space.T[:, 0], 20, 0)]
    Z = torch.cat([start, space.encode(space.decode(batch))])
    values = ensemble.predict(Z)[0].mean(dim=0).double()[:, None]
    for (X, Y), n in zip(seen.data, (20, 23), strict=True):
        torch.testing.assert_close(X, Z[:n].double())
        torch.testing.assert_close(Y, values[:n], rtol=1e-4, atol=1e-4)
    for bounds, proposed in zip(seen.bounds, seen.proposed, strict=True):
        assert torch.equal(bounds, space.bounds.double())
        assert proposed.shape == (3, 2)


def test_candidates_are_the_best_that_were_proposed(padded_task: OfflineTask, seen: Seen) -> None:
    """In the order of their predictions; none is one that the search started from."""
    X = bo_qei(padded_task, 5, **TINY, num_iterations=2, batch_size=4)
    space = DesignSpace(padded_task)
    designs = space.decode(torch.cat(seen.proposed))
    values = Ensemble(space, PROXY, seed=0).predict(space.encode(designs))[0].mean(dim=0)
    best = values.argsort(descending=True, stable=True)[:5]
    torch.testing.assert_close(X, designs[best])


def test_filled_up_with_visible_designs(vector_task: OfflineTask, seen: Seen) -> None:
    X = bo_qei(vector_task, 6, **TINY, num_iterations=1, batch_size=2)
    torch.testing.assert_close(X[2:], vector_task.start_designs(4)[0])
    proposed = DesignSpace(vector_task).decode(seen.proposed[0])
    torch.testing.assert_close(X[:2].sort(dim=0).values, proposed.sort(dim=0).values)


def test_warnings_of_the_search_are_silent(
    vector_task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that say nothing to a user; the tests make errors of all others."""
    categories = [
        BadInitialCandidatesWarning,
        InputDataWarning,
        NumericalWarning,
        OptimizationWarning,
    ]

    def search(*args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        for category in categories:
            warnings.warn("of some kind", category, stacklevel=1)
        return optimize_acqf(*args, **options)

    monkeypatch.setattr(module, "optimize_acqf", search)
    options = {**TINY, "num_iterations": 1, "batch_size": 2}
    bo_qei(vector_task, 2, **options)
    categories.append(UserWarning)
    with pytest.warns(UserWarning, match="of some kind"):
        bo_qei(vector_task, 2, **options)


def test_what_the_search_draws_is_seeded(
    vector_task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the global generator of torch stands."""

    def search(acquisition: Any, bounds: Tensor, *, q: int, **options: Any) -> tuple[Tensor, None]:
        return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(q, 3).to(bounds), None

    monkeypatch.setattr(module, "optimize_acqf", search)
    found = []
    for i, seed in enumerate((0, 0, 1)):
        torch.manual_seed(i)
        options = {**TINY, "num_iterations": 1, "batch_size": 2}
        found.append(bo_qei(vector_task, 2, seed=seed, **options))
    first, again, other = found
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


def test_finds_better_predictions(vector_task: OfflineTask) -> None:
    proxy = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=10, batch_size=25, lr=2e-2)
    options = {**TINY, "proxy": proxy, "raw_samples": 32, "maxiter": 10}
    X = bo_qei(vector_task, 2, **options, num_iterations=2, batch_size=2)
    space = DesignSpace(vector_task)
    ensemble = Ensemble(space, proxy, seed=0)
    found, start = (ensemble.predict(Z)[0].mean(dim=0) for Z in (space.encode(X), space.Z))
    assert found.min() > start.max()

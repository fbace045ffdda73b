"""Small tasks without an oracle, in double precision; nothing may change them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from botorch import fit_gpytorch_mll
from torch import Tensor

from botorch_roma import OfflineTask
from botorch_roma.latent import Vocabulary

LOW, HIGH = (0.0, -5.0, 100.0), (1.0, 5.0, 300.0)
KINDS = ["vectors", "grid", "tokens", "padded"]


def make_task(name: str, X: Tensor, Y: Tensor, **options: Any) -> OfflineTask:
    return OfflineTask(name=name, X=X, Y=Y, oracle=lambda X: X[:, 0], **options).without_oracle()


def uniform(n: int, d: int) -> Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.double)


def grid(X: Tensor) -> Tensor:
    return (10.0 * X).round() / 10.0


@pytest.fixture(scope="module", autouse=True)
def quick_gps() -> Iterator[None]:
    """GPs that are fitted with a few steps, where hundreds may be needed."""
    module = importlib.import_module("botorch_roma.baselines.bo_qei")
    fit = partial(fit_gpytorch_mll, optimizer_kwargs={"options": {"maxiter": 5}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit_gpytorch_mll", fit)
        yield


@pytest.fixture(scope="session")
def vector_task() -> OfflineTask:
    """Columns of very different scales; the outcome is the sum of their shares of the range."""
    unit, bounds = uniform(100, 3), torch.tensor([LOW, HIGH], dtype=torch.double)
    X = bounds[0] + (bounds[1] - bounds[0]) * unit
    return make_task("vectors", X, 10.0 * unit.sum(dim=-1, keepdim=True) - 7.0, bounds=bounds)


@pytest.fixture(scope="session")
def grid_task() -> OfflineTask:
    """Designs on a grid below 0.8, with a column that never varies."""
    X = grid(0.8 * uniform(80, 3))
    X[:, 1] = 0.3
    bounds = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.double)
    Y = X.sum(dim=-1, keepdim=True)
    return make_task("grid", X, Y, bounds=bounds, post_processing_func=grid)


@pytest.fixture(scope="session")
def token_task() -> OfflineTask:
    """Five letters out of three, the second always ``b``; the more ``c`` the better."""
    X = (3.0 * uniform(100, 5)).floor()
    X[:, 1] = 1.0
    Y = (X == 2).double().sum(dim=-1, keepdim=True)
    return make_task("tokens", X, Y, vocabulary=Vocabulary("abc"))


@pytest.fixture(scope="session")
def padded_task() -> OfflineTask:
    """One to five letters out of two; the shorter the better, which tempts to leave all out."""
    vocabulary = Vocabulary("ab", padded=True)
    draw = uniform(100, 6)
    X = (2.0 * draw[:, :5]).floor()
    lengths = 1 + (5.0 * draw[:, 5:]).floor()
    X[torch.arange(5) >= lengths] = 2.0
    return make_task("padded", X, (X[:, :1] == 1).double() - lengths, vocabulary=vocabulary)


@pytest.fixture(scope="session", params=KINDS)
def task(
    request: pytest.FixtureRequest,
    vector_task: OfflineTask,
    grid_task: OfflineTask,
    token_task: OfflineTask,
    padded_task: OfflineTask,
) -> OfflineTask:
    """All of them."""
    tasks = (vector_task, grid_task, token_task, padded_task)
    return dict(zip(KINDS, tasks, strict=True))[request.param]

"""Tiny fitted models that the tests of this folder share; nothing may change them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize
from torch import Tensor

from botorch_roma import RoMAModel, fit_roma_model
from botorch_roma.optim import generation

LOW, HIGH = (0.0, -5.0, 100.0), (1.0, 5.0, 300.0)


def _designs(n: int = 40) -> Tensor:
    """Designs whose columns have very different scales."""
    unit = torch.rand(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    low, high = torch.tensor([LOW, HIGH], dtype=torch.double)
    return low + (high - low) * unit


def _outcomes(X: Tensor) -> Tensor:
    low, high = torch.tensor([LOW, HIGH]).to(X)
    unit = (X - low) / (high - low)
    return 10.0 - 20.0 * (unit - 0.7).square().sum(dim=-1, keepdim=True)


def _fitted(X: Tensor, Y: Tensor, *, num_members: int = 1) -> RoMAModel:
    model = RoMAModel(X, Y, hidden_sizes=(8, 8), num_members=num_members)
    fit_roma_model(model, epochs=30, batch_size=16, lr=1e-2, num_ascent_steps=1, seed=0)
    return model


@pytest.fixture(scope="session")
def bounds() -> Tensor:
    """Bounds of the designs, ``2 x 3``."""
    return torch.tensor([LOW, HIGH], dtype=torch.double)


@pytest.fixture(scope="session")
def model() -> RoMAModel:
    """A fitted model of 40 designs in three inputs, one outcome."""
    X = _designs()
    return _fitted(X, _outcomes(X))


@pytest.fixture(scope="session")
def ensemble() -> RoMAModel:
    """The same with two members."""
    X = _designs()
    return _fitted(X, _outcomes(X), num_members=2)


@pytest.fixture(scope="session")
def two_outputs() -> RoMAModel:
    """The same with a second outcome."""
    X = _designs()
    return _fitted(X, torch.cat([_outcomes(X), X[:, :1] - 0.1 * X[:, 1:2]], dim=-1))


@pytest.fixture(scope="session")
def model_float32() -> RoMAModel:
    """The same in single precision."""
    X = _designs().float()
    return _fitted(X, _outcomes(X))


@pytest.fixture(scope="session")
def gp() -> SingleTaskGP:
    """A Gaussian process for the same designs, of the opposite outcome."""
    X = _designs()
    return SingleTaskGP(X, -_outcomes(X), input_transform=Normalize(3))


@pytest.fixture
def fake_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """In stage 2 every look at the clock takes a second, however busy the machine is."""
    clock = SimpleNamespace(monotonic=itertools.count().__next__)
    monkeypatch.setattr(generation, "time", clock)

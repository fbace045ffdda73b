"""Presets that take no time, in place of the real ones, and small tasks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask, Preset, load_task, presets
from botorch_roma.latent import Vocabulary


@pytest.fixture(autouse=True)
def quick_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps; the presets still differ."""
    changes = {
        "default": {},
        "fast": {},
        "selected": {"local_search_rounds": 2},
        "paper": {"step_rule": "gradient", "region": None},
        "author_code": {"mode": "shared", "initial_pseudo_label": "measured"},
    }
    for name, change in changes.items():
        preset = Preset(
            name,
            {"hidden_sizes": (8,)},
            {"epochs": 2, "num_ascent_steps": 1, "batch_size": 512, "lr": 1e-2},
            {"num_updates": 4, "num_adaptation_steps": 2, **change},
            latent={"epochs": 2, "latent_dim": 4, "hidden_sizes": (16,), "min_reconstruction": 0.0},
            select={"settings": [{"radius": 0.01}]} if name == "selected" else None,
        )
        monkeypatch.setitem(presets._FACTORIES, name, lambda *_, preset=preset: preset)


@pytest.fixture(scope="session")
def task() -> OfflineTask:
    return load_task("hartmann6", num_rows=200)


def grid(X: Tensor) -> Tensor:
    return (10.0 * X).round() / 10.0


@pytest.fixture(scope="session")
def token_task() -> OfflineTask:
    """Sequences of six letters out of three; the more of the last one the better."""
    tokens = torch.randint(3, (200, 6), generator=torch.Generator().manual_seed(0)).double()
    return OfflineTask(
        name="letters",
        X=tokens,
        Y=(tokens == 2).double().sum(dim=-1, keepdim=True),
        vocabulary=Vocabulary("abc"),
        oracle=lambda X: (X == 2).sum(dim=-1).double(),
        ranges={"full": (0.0, 6.0)},
    )


@pytest.fixture(scope="session")
def grid_task() -> OfflineTask:
    """Designs on a grid, with a column that never varies."""
    X = grid(torch.rand(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double))
    X[:, 1] = 0.5
    return OfflineTask(
        name="grid",
        X=X,
        Y=-(X - 0.6).square().sum(dim=-1, keepdim=True),
        bounds=torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.double),
        oracle=lambda designs: -(designs - 0.6).square().sum(dim=-1),
        ranges={"full": (-1.0, 0.0)},
        post_processing_func=grid,
    )

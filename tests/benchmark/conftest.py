"""Presets that take no time, in place of the real ones."""

from __future__ import annotations

import pytest

from botorch_roma import Preset, presets


@pytest.fixture(autouse=True)
def quick_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps; the three presets still differ."""
    changes = {
        "default": {},
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
        )
        monkeypatch.setitem(presets._FACTORIES, name, lambda *_, preset=preset: preset)

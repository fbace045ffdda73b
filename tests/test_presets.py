from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import pytest
import torch
from botorch.exceptions.errors import UnsupportedError

from botorch_roma import (
    PRESETS,
    Preset,
    RoMAModel,
    RoMAOptions,
    fit_roma_model,
    get_preset,
    propose,
)
from botorch_roma.latent import LatentSpace
from botorch_roma.optim import optimize_acqf_roma
from botorch_roma.selection import select_options

#: Task, discrete or not: radius of both stages, step size of the candidates, epochs.
TASKS: list[tuple[str | None, bool, tuple[float, float, int]]] = [
    ("superconductor", False, (5e-4, 3e-3, 50)),
    ("dkitty", False, (5e-3, 3e-3, 50)),
    ("ant", False, (5e-3, 3e-3, 100)),
    ("hopper", False, (5e-3, 2e-3, 200)),
    ("gfp", True, (5e-4, 2e-3, 100)),
    ("molecule", True, (5e-4, 2e-3, 100)),
    ("ackley6", False, (5e-4, 3e-3, 50)),  # as superconductor
    ("tfbind8", True, (5e-4, 2e-3, 100)),  # as GFP
    (None, False, (5e-4, 3e-3, 50)),
    (None, True, (5e-4, 2e-3, 100)),
]

#: What the two published variants share.
MODEL = {"hidden_sizes": (64, 64), "activation": "softplus", "num_members": 1}
FIT = {
    "noise_std": 0.2,
    "num_ascent_steps": 20,
    "batch_size": 128,
    "lr": 1e-3,
    "max_grad_norm": 1.0,
}
OPTIMIZE = {
    "num_adaptation_steps": 100,
    "alpha": 1.0,
    "num_updates": 500,
    "max_spread": None,
    "reencode_every": None,
    "min_distance": None,
    "early_stop": False,
    "reuse_steps": 0,
    "local_search_rounds": 0,
}
LATENT = {
    "latent_dim": 32,
    "hidden_sizes": (256, 256),
    "architecture": "mlp",
    "beta": 1.0,
    "epochs": 200,
    "batch_size": 128,
    "lr": 1e-3,
    "min_reconstruction": 0.0,
}

#: Where they differ, rule by rule.
RULES: dict[str, dict[str, Any]] = {
    "paper": {
        "pseudo_label_loss": "squared_error",
        "mode": "per_candidate",
        "initial_pseudo_label": "predicted",
        "step_rule": "gradient",
        "region": None,
    },
    "author_code": {
        "pseudo_label_loss": "nll",
        "mode": "shared",
        "initial_pseudo_label": "measured",
        "step_rule": "adam",
        "region": 4.0,
    },
}


@pytest.mark.parametrize(("task", "discrete", "row"), TASKS)
@pytest.mark.parametrize("name", RULES)
def test_published(
    name: str, task: str | None, discrete: bool, row: tuple[float, float, int]
) -> None:
    radius, lr, epochs = row
    preset = get_preset(name, task, discrete=discrete)
    loss = RULES[name]["pseudo_label_loss"]
    assert preset.name == name
    assert preset.model == MODEL
    assert preset.fit == {**FIT, "loss": loss, "radius": radius, "epochs": epochs}
    assert preset.optimize == {**OPTIMIZE, **RULES[name], "radius": radius, "lr": lr}
    assert (preset.encoding, preset.latent) == ("latent", LATENT)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    ("task", "num_rows", "epochs"),
    [
        ("tfbind8", 32_898, (31, 62)),
        ("utr", 140_000, (7, 14)),
        ("utr", 10_000_000, (1, 2)),
        ("tfbind8", 1_000, (100, 200)),
        ("gfp", 5_000, (100, 200)),  # tasks of the paper, at their size: as published
        ("hopper", 3_200, (200, 200)),
        ("superconductor", 17_926, (50, 114)),
        ("molecule", 41_401, (25, 50)),  # ours is larger
    ],
)
def test_no_task_takes_more_minibatches_than_the_papers(
    name: str, task: str, num_rows: int, epochs: tuple[int, int]
) -> None:
    preset = get_preset(name, task, discrete=True, num_rows=num_rows)
    assert (preset.fit["epochs"], preset.latent["epochs"]) == epochs


@pytest.mark.parametrize("name", RULES)
def test_every_rule_of_stage_two_is_stated(name: str) -> None:
    """A published variant must not move with our defaults; how weights are kept changes nothing."""
    assert set(get_preset(name).optimize) == RoMAOptions.names() - {"first_layer", "weight_form"}


def test_default() -> None:
    preset = get_preset()
    assert preset == get_preset("default", "ant")  # one for all tasks
    assert dataclasses.asdict(preset) == {
        "name": "default",
        "model": {"hidden_sizes": (128, 128), "num_members": 5},
        "fit": {"noise_std": None},
        "optimize": {
            "radius": 0.05,
            "step_rule": "gradient",
            "lr": None,
            "region": None,
            "num_updates": 100,
            "local_search_rounds": 5,
        },
        "encoding": "one_hot",
        "latent": {},
        "select": None,
    }


def test_fast_is_what_the_functions_do_by_themselves() -> None:
    preset = get_preset("fast")
    functions = ((RoMAModel, preset.model), (fit_roma_model, preset.fit))
    for function, settings in functions:
        parameters = inspect.signature(function).parameters
        assert settings == {name: parameters[name].default for name in settings}
    lr = preset.optimize["lr"]
    assert lr == RoMAOptions().step_size(7)
    assert RoMAOptions(**preset.optimize) == RoMAOptions(lr=lr)
    assert (preset.encoding, preset.latent, preset.select) == ("one_hot", {}, None)


def test_functions_by_themselves() -> None:
    assert dataclasses.asdict(RoMAOptions()) == {
        "radius": 0.02,
        "num_adaptation_steps": 10,
        "alpha": 1.0,
        "mode": "per_candidate",
        "pseudo_label_loss": "squared_error",
        "initial_pseudo_label": "predicted",
        "first_layer": "auto",
        "weight_form": "auto",
        "early_stop": False,
        "reuse_steps": 0,
        "step_rule": "adam",
        "lr": None,
        "num_updates": 300,
        "region": 4.0,
        "max_spread": None,
        "reencode_every": None,
        "min_distance": None,
        "local_search_rounds": 0,
    }


@pytest.mark.parametrize("name", PRESETS)
def test_settings_fit_the_functions_they_are_for(name: str) -> None:
    preset = get_preset(name)
    functions: dict[str, Any] = {
        "model": RoMAModel,
        "fit": fit_roma_model,
        "optimize": optimize_acqf_roma,
        "latent": LatentSpace.fit,
    }
    for stage, function in functions.items():
        assert set(getattr(preset, stage)) <= set(inspect.signature(function).parameters)
    RoMAOptions(**preset.optimize)
    if preset.select is not None:
        assert set(preset.select) <= set(inspect.signature(select_options).parameters)
        for setting in preset.select.get("settings", [{}]):
            RoMAOptions(**{**preset.optimize, **setting})


@pytest.mark.parametrize("name", PRESETS)
def test_as_dict(name: str) -> None:
    preset = get_preset(name)
    settings = preset.as_dict()
    assert set(settings) == {f.name for f in dataclasses.fields(preset)}
    assert json.loads(json.dumps(settings))["fit"] == preset.fit
    settings["fit"]["epochs"] = -1
    assert get_preset(name).fit.get("epochs") != -1
    assert preset.fit.get("epochs") != -1


def test_names() -> None:
    assert PRESETS == ("default", "fast", "selected", "paper", "author_code")
    with pytest.raises(ValueError, match=r"`preset` must be one of \['default', .*'quick'"):
        get_preset("quick")


def test_a_preset_selects_after_stage_one() -> None:
    preset = Preset("mine", select={"fit_settings": [{"epochs": 5}]})
    expected = r"`select` holds `fit_settings` = \[\{'epochs': 5\}\]"
    with pytest.raises(UnsupportedError, match=expected):
        preset.check_select()
    X = torch.rand(20, 2)
    with pytest.raises(UnsupportedError, match=expected):
        propose(X, X.sum(dim=1), q=2, preset=preset, fit_options={"epochs": 10**9})
    for select in (None, {"fit_settings": None, "hidden_fraction": 0.1}):
        assert Preset("mine", select=select).check_select() == select

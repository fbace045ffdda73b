from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask
from botorch_roma.baselines import ProxyOptions, gradient_ascent
from botorch_roma.benchmark import kinds as module
from botorch_roma.benchmark.kinds import COMPONENTS, BaselineMethod, ProxyCache, RoMAMethod
from botorch_roma.benchmark.methods import METHODS
from botorch_roma.latent import Vocabulary
from botorch_roma.optim.initializers import distinct_keys
from botorch_roma.presets import get_preset

NAMES = [m.name for m in METHODS.values() if m.family in ("trivial", "roma")]
VECTORS = [n for n in NAMES if not METHODS[n].discrete]
ROMA = [n for n in VECTORS if METHODS[n].family == "roma"]


def grid(X: Tensor) -> Tensor:
    return (10.0 * X).round() / 10.0


@pytest.mark.parametrize("name", VECTORS)
def test_candidates(task: OfflineTask, name: str) -> None:
    """Valid ones, the same again for the same seed, and without a call of the oracle."""
    blind, method = task.without_oracle(), METHODS[name]
    first, again, other = (method.run(blind, 6, seed, ProxyCache()) for seed in (0, 0, 1))
    X = first.candidates
    assert X.shape == (6, 6)
    assert len(set(distinct_keys(X, task.X.std(dim=0)))) == 6
    assert bool(((task.bounds[0] <= X) & (task.bounds[1] >= X)).all())
    assert torch.equal(X, again.candidates)
    assert torch.equal(X, other.candidates) != method.seeded
    assert (first.fit_seconds > 0.0) == (name in ROMA)
    assert task.num_oracle_calls == 0


@pytest.mark.parametrize("name", VECTORS)
def test_candidates_of_a_task_on_a_grid(grid_task: OfflineTask, name: str) -> None:
    X = METHODS[name].run(grid_task.without_oracle(), 6, 0, ProxyCache()).candidates
    assert torch.equal(X, grid(X))
    if name in ROMA:
        assert X[:, 1].eq(0.5).all()
        assert len(torch.unique(X, dim=0)) == 6


@pytest.mark.filterwarnings("ignore:.* found no design of their own")  # a VAE hardly trained
@pytest.mark.parametrize("name", NAMES)
def test_candidates_of_a_token_task(token_task: OfflineTask, name: str) -> None:
    blind = token_task.without_oracle()
    assert blind.vocabulary == Vocabulary("abc")
    first, again = (METHODS[name].run(blind, 6, 1, ProxyCache()) for _ in range(2))
    X = first.candidates
    assert X.shape == (6, 6)
    assert torch.equal(X, again.candidates)
    assert set(X.flatten().tolist()) <= {0.0, 1.0, 2.0}
    assert (first.reconstruction is not None) == (name == "fast_latent")
    if name in ROMA:
        assert len(torch.unique(X, dim=0)) == 6
    assert token_task.num_oracle_calls == 0


@pytest.mark.parametrize(
    ("ascent", "preset", "changes"),
    [
        ("gradient_ascent", "default", {"radius": 0.0}),
        ("fast_gradient_ascent", "fast", {"radius": 0.0, "region": None}),
    ],
)
def test_plain_ascent_on_the_proxy_of_a_preset(
    task: OfflineTask,
    monkeypatch: pytest.MonkeyPatch,
    ascent: str,
    preset: str,
    changes: dict[str, Any],
) -> None:
    calls: list[dict[str, Any]] = []
    real = module.optimize_acqf_roma

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "optimize_acqf_roma", spy)
    blind, proxies = task.without_oracle(), ProxyCache()
    for name in (ascent, preset):
        METHODS[name].run(blind, 4, 0, proxies)
    assert len(proxies.models) == 1
    assert calls[0] == calls[1] | changes


def counting(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return function(*args, **kwargs)

    return wrapper


def test_what_changes_no_result_is_no_part_of_the_settings(task: OfflineTask) -> None:
    """A stored run must go on under a name that such a setting does not change."""
    settings = RoMAMethod("fast").settings(task)
    assert "copy" not in settings["model"]
    assert not [name for part in settings.values() for name in part if "checkpoint" in name]
    assert "weight_form" not in settings["optimize"]
    for stage, names in module.LATER_OPTIONS.items():
        assert not set(names) & set(settings[stage])
    assert RoMAMethod("selected").settings(task)["optimize"]["local_search_rounds"] > 0


def test_a_later_option_in_use_is_a_part_of_the_settings(
    task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = get_preset("fast", num_rows=task.X.shape[0])
    changed = replace(preset, fit={**preset.fit, "conservatism": 0.5})
    monkeypatch.setattr(module, "get_preset", lambda *args, **kwargs: changed)
    assert RoMAMethod("fast").settings(task)["fit"]["conservatism"] == 0.5


def test_methods_share_a_proxy(task: OfflineTask, monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[Any] = []
    monkeypatch.setattr(module, "fit_roma_model", counting(module.fit_roma_model, fits))
    blind, proxies = task.without_oracle(), ProxyCache()
    seconds = [METHODS[name].run(blind, 4, 0, proxies).fit_seconds for name in ROMA]
    assert len(fits) == 1  # the quick presets have one stage 1 in common
    assert len(set(seconds)) == 1
    METHODS["default"].run(blind, 4, 1, proxies)
    assert [fit["seed"] for fit in fits] == [0, 1]
    ((first, _), (second, _)) = proxies.models.values()
    pairs = zip(first.network.tensors, second.network.tensors, strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_proxies_are_told_apart_by_task(task: OfflineTask, grid_task: OfflineTask) -> None:
    proxies = ProxyCache()
    for each in (task, grid_task):
        METHODS["default"].run(each.without_oracle(), 4, 0, proxies)
    assert len(proxies.models) == 2


@pytest.mark.parametrize("name", COMPONENTS)
def test_components_are_taken_out_one_by_one(task: OfflineTask, name: str) -> None:
    left = tuple(c for c in COMPONENTS if c != name)
    whole = RoMAMethod("fast").settings(task)
    less = RoMAMethod("fast", components=left).settings(task)
    expected = {
        "noise": ("fit", {"noise_std": 0.0}),
        "weight_perturbation": ("fit", {"radius": 0.0}),
        "adaptation": ("optimize", {"radius": 0.0}),
        "cap": ("optimize", {"region": None}),
        "adam": ("optimize", {"step_rule": "gradient", "lr": 0.01 * 6**0.5}),
    }
    stage, changes = expected[name]
    assert all(whole[stage][k] != v for k, v in changes.items())
    assert less == {**whole, stage: {**whole[stage], **changes}}


def test_plain_steps_are_scaled_by_the_encoded_inputs(token_task: OfflineTask) -> None:
    preset = RoMAMethod("fast", components=()).preset(token_task)
    assert preset.optimize["lr"] == pytest.approx(0.01 * 18**0.5)  # 6 positions of 3 tokens
    with pytest.raises(NotImplementedError, match="latents"):
        RoMAMethod("fast", "latent", components=()).preset(token_task)


def test_changes_come_last(task: OfflineTask) -> None:
    preset = RoMAMethod("fast", changes={"region": 7.0}, components=()).preset(task)
    assert preset.optimize["region"] == 7.0


@pytest.mark.parametrize("name", ["gradient_ascent", "default"])
def test_path_of_vectors(grid_task: OfflineTask, name: str) -> None:
    """From the start designs on, position by position, valid like the candidates."""
    blind = grid_task.without_oracle()
    result = METHODS[name].run(blind, 5, 0, ProxyCache(paths=True))
    assert len(result.path) == 5  # the quick presets have four updates
    assert torch.equal(result.path[0], grid_task.start_designs(5)[0])
    assert all(torch.equal(x, grid(x)) for x in result.path)
    assert not METHODS[name].run(blind, 5, 0, ProxyCache()).path


def test_path_of_tokens(token_task: OfflineTask) -> None:
    result = METHODS["default"].run(token_task.without_oracle(), 5, 0, ProxyCache(paths=True))
    assert torch.equal(result.path[0], token_task.start_designs(5)[0])
    assert len(result.path) == 5
    assert {t for x in result.path for t in x.flatten().tolist()} <= {0.0, 1.0, 2.0}


def test_baseline(task: OfflineTask) -> None:
    options = {"proxy": ProxyOptions(hidden_sizes=(8,), epochs=1), "num_steps": 3}
    method, blind = BaselineMethod(gradient_ascent, options), task.without_oracle()
    result = method.run(blind, 5, 2, ProxyCache(paths=True))
    assert torch.equal(result.candidates, gradient_ascent(blind, 5, seed=2, **options))
    assert result.optimize_seconds > 0.0
    assert len(result.path) == 4
    assert not method.run(blind, 5, 2, ProxyCache()).path


def test_settings_of_a_baseline_are_all_that_matters(task: OfflineTask) -> None:
    proxy = ProxyOptions(hidden_sizes=(8,))
    settings = BaselineMethod(gradient_ascent, {"proxy": proxy}).settings(task)
    assert settings["proxy"]["hidden_sizes"] == (8,)
    assert settings["proxy"]["lr"] == 3e-4  # of the class
    assert settings["num_steps"] == 200  # of the function
    wider = BaselineMethod(gradient_ascent, {"proxy": replace(proxy, lr=1e-3)})
    assert wider.settings(task) != settings

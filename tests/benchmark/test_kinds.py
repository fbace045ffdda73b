from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask, Preset, presets
from botorch_roma.baselines import ProxyOptions, cma_es, gradient_ascent
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
    for stage in ("fit", "optimize"):
        assert not set(module.LATER_OPTIONS[stage]) & set(settings[stage])
    assert "fit_settings" not in RoMAMethod("selected").settings(task)["select"]
    assert "diagonal" not in METHODS["cma_es"].settings(task)
    assert BaselineMethod(cma_es, {"diagonal": False}).settings(task)["diagonal"] is False
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
    monkeypatch.setattr(module, "fit_roma_models", counting(module.fit_roma_models, fits))
    blind, proxies = task.without_oracle(), ProxyCache()
    seconds = [METHODS[name].run(blind, 4, 0, proxies).fit_seconds for name in ROMA]
    assert len(fits) == 1  # the quick presets have one stage 1 in common
    assert len(set(seconds)) == 1
    METHODS["default"].run(blind, 4, 1, proxies)
    assert [fit["seeds"] for fit in fits] == [[0], [1]]
    ((first, _), (second, _)) = proxies.models.values()
    pairs = zip(first.network.tensors, second.network.tensors, strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_several_seeds_train_those_that_are_missing(
    task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[Any] = []
    monkeypatch.setattr(module, "fit_roma_models", counting(module.fit_roma_models, fits))
    blind, proxies = task.without_oracle(), ProxyCache()
    preset = RoMAMethod("default").preset(blind)
    ((model, _),) = proxies.get(blind, preset, [2])
    found = proxies.get(blind, preset, [1, 2, 3])
    assert [fit["seeds"] for fit in fits] == [[2], [1, 3]]
    assert found[1][0] is model
    assert found[0][1] == found[2][1] > 0.0  # the share of each
    assert [m.seed for m, _ in found] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:.* found no design of their own")  # on so coarse a grid
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("default", {"step_rule": "gradient", "lr": 5.0, "region": None}),
        ("fast", {"local_search_rounds": 2}),
        ("paper", {}),
        ("author_code", {}),
    ],
)
@pytest.mark.parametrize("kind", ["task", "grid_task", "token_task"])
def test_seeds_in_one_computation(
    request: pytest.FixtureRequest, kind: str, name: str, changes: dict[str, Any]
) -> None:
    """Each as alone but for rounding: in double, on a grid and for tokens the same designs."""
    blind = request.getfixturevalue(kind).without_oracle()
    method = RoMAMethod(name, changes={"lr": 0.6, "step_rule": "adam", **changes})  # far steps
    together = method.run_seeds(blind, 6, (4, 0), ProxyCache())
    assert not torch.equal(together[0].candidates, together[1].candidates)
    for seed, result in zip((4, 0), together, strict=True):
        alone = method.run(blind, 6, seed, ProxyCache())
        torch.testing.assert_close(result.candidates, alone.candidates, rtol=1e-9, atol=1e-9)
        assert min(result.fit_seconds, result.optimize_seconds) > 0.0
    assert together[0].optimize_seconds == together[1].optimize_seconds


def test_seconds_are_the_share_of_a_seed(
    task: OfflineTask, token_task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock is a second later; an encoding is that of one seed."""
    clock = SimpleNamespace(perf_counter=partial(next, itertools.count()))
    monkeypatch.setattr(module, "time", clock)
    for each, encoding in ((task, 0.0), (token_task, 1.0)):
        found = METHODS["default"].run_seeds
        assert found is not None
        results = found(each.without_oracle(), 4, range(4), ProxyCache())
        assert [r.fit_seconds for r in results] == [encoding + 0.25] * 4
        assert [r.optimize_seconds for r in results] == [0.25] * 4


def test_bytes_of_a_seed(task: OfflineTask, token_task: OfflineTask) -> None:
    """Designs, twice what the proxy sees, and twice the weights of the candidates, in double."""
    vectors, tokens = task.without_oracle(), token_task.without_oracle()
    method = METHODS["default"]  # width 8, one network
    assert method.seed_bytes(vectors, 5) == 8 * (120 * (6 + 2 * 6) + 2 * 5 * 6 * 8)
    reduced = 8 + 1  # of 18 inputs
    assert method.seed_bytes(tokens, 5) == 8 * (200 * (6 + 2 * 18) + 2 * 5 * reduced * 8)


def test_bytes_of_a_seed_count_layers_and_members(
    task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = Preset("default", {"hidden_sizes": (7, 5, 3), "num_members": 4})
    monkeypatch.setitem(presets._FACTORIES, "default", lambda *_: preset)
    weights = 4 * (6 * 7 + 7 * 5 + 5 * 3)
    needed = METHODS["default"].seed_bytes(task.without_oracle(), 10)
    assert needed == 8 * (120 * (6 + 2 * 6) + 2 * 10 * weights)


def test_seeds_with_parts_of_their_own_run_one_by_one(
    task: OfflineTask, token_task: OfflineTask
) -> None:
    vectors, tokens = task.without_oracle(), token_task.without_oracle()
    for name in ("selected", "bo_qei", "coms", "random"):
        assert METHODS[name].seed_bytes(vectors, 5) is None
    assert METHODS["fast_latent"].seed_bytes(tokens, 5) is None
    assert RoMAMethod("default", encoding="logits").seed_bytes(tokens, 5) is not None


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

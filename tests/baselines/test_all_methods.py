"""What all comparison methods promise, on vectors, a grid, tokens and padded tokens."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma import OfflineTask, baselines
from botorch_roma.baselines import ProxyOptions, VAEOptions

PROXY = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=2, lr=1e-2)
VAE = VAEOptions(latent_dim=3, hidden_sizes=(16,), epochs=3)
ASCENT: dict[str, Any] = {"num_steps": 3, "proxy": PROXY, "step_size": 0.5}
ADAPTIVE: dict[str, Any] = {"proxy": PROXY, "vae": VAE, "num_rounds": 2, "num_samples": 20}

#: Options with which each takes a fraction of a second; long steps leave the bounds.
OPTIONS: dict[str, dict[str, Any]] = {
    "autofocused_cbas": {**ADAPTIVE, "round_epochs": 1, "focus_epochs": 1},
    "bo_qei": {
        "proxy": PROXY,
        "num_rows": 20,
        "num_iterations": 1,
        "batch_size": 3,
        "num_restarts": 1,
        "raw_samples": 4,
        "maxiter": 2,
    },
    "cbas": {**ADAPTIVE, "round_epochs": 1},
    "cma_es": {"proxy": PROXY, "num_iterations": 2, "sigma": 2.0},
    "coms": {"hidden_sizes": (16,), "epochs": 2, "lr": 1e-2, "num_steps": 3, "particle_lr": 2.0},
    "gradient_ascent": ASCENT,
    "mins": {"hidden_sizes": (16,), "latent_dim": 3, "epochs": 2, "critic_steps": 2},
    "nemo": {**ASCENT, "num_bins": 15},
}
WITH_PATH = ("gradient_ascent", "nemo", "coms")
SINGLE = ("grid", "tokens")  # the tasks that are in single precision here
Q = 6


class Runs(NamedTuple):
    """Candidates of one seed, twice, and of another one; whether global states have changed."""

    task: OfflineTask
    first: Tensor
    again: Tensor
    other: Tensor
    changed: list[bool]


def states() -> list[Any]:
    _, keys, *rest = np.random.get_state()
    return [torch.random.get_rng_state().tolist(), list(keys), *rest]


def run(name: str, task: OfflineTask, q: int = Q, **options: Any) -> Tensor:
    return getattr(baselines, name)(task, q, **{**OPTIONS[name], **options})


@pytest.fixture(scope="module", params=OPTIONS)
def runs(request: pytest.FixtureRequest, task: OfflineTask) -> Runs:
    if task.name in SINGLE:
        task = task.to(dtype=torch.float32)
    task = task.without_oracle()
    found, changed = [], []
    for i, seed in enumerate((3, 3, 4)):
        torch.manual_seed(i)
        np.random.seed(i)
        before = states()
        found.append(run(request.param, task, seed=seed))
        changed.append(states() != before)
    return Runs(task, *found, changed)


def test_all_are_here() -> None:
    functions = {n for n in baselines.__all__ if inspect.isfunction(getattr(baselines, n))}
    assert functions == set(OPTIONS)
    assert len(baselines.__all__) == len(functions) + 2


def test_shape_and_dtype(runs: Runs) -> None:
    X, task = runs.first, runs.task
    assert X.shape == (Q, task.dim)
    assert X.dtype == task.X.dtype
    assert task.X.dtype == (torch.float32 if task.name in SINGLE else torch.float64)
    assert not X.requires_grad


def test_candidates_are_valid(runs: Runs) -> None:
    """Within the bounds, on the grid, constant where the data are; no empty sequences."""
    task = runs.task
    for X in (runs.first, runs.other):
        assert bool(((task.bounds[0] <= X) & (task.bounds[1] >= X)).all())
        for i, value in task.fixed_features.items():
            assert X[:, i].tolist() == [value] * Q
        if task.post_processing_func is not None:
            assert torch.equal(task.post_processing_func(X), X)
        if task.vocabulary is not None:
            assert torch.equal(X.floor(), X)
            assert torch.equal(task.vocabulary.canonical(X), X)
            assert bool((task.vocabulary.lengths(X) >= 1).all())


def test_candidates_are_not_the_start(runs: Runs) -> None:
    """Whose validity says nothing about a method."""
    assert not torch.allclose(runs.first, runs.task.start_designs(Q)[0], rtol=1e-4)


def test_seeds(runs: Runs) -> None:
    assert torch.equal(runs.first, runs.again)
    assert not torch.equal(runs.first, runs.other)


def test_global_random_states_are_left_alone(runs: Runs) -> None:
    assert runs.changed == [False] * 3


def test_oracle_is_not_asked(runs: Runs) -> None:
    assert (runs.task.num_oracle_calls, runs.task.num_oracle_queries) == (0, 0)
    with pytest.raises(RuntimeError, match="The oracle was asked"):
        runs.task.evaluate(runs.first)


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=3)
@given(
    n=st.integers(12, 30),
    d=st.integers(1, 6),
    power=st.tuples(st.integers(-8, 8), st.integers(-8, 8)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    data=st.data(),
)
def test_any_table(
    name: str,
    n: int,
    d: int,
    power: tuple[int, int],
    dtype: torch.dtype,
    data: st.DataObject,
) -> None:
    """Of any shape and scale, with a design that was measured twice."""
    q = data.draw(st.integers(1, n), label="q")
    seed = data.draw(st.integers(0, 2**31), label="seed")
    unit = torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    unit = torch.cat([unit, unit[:1]])
    X = (unit * 10.0 ** power[0]).to(dtype)
    Y = (unit.sum(dim=-1, keepdim=True) * 10.0 ** power[1]).to(dtype)
    bounds = torch.stack([X.min(dim=0).values, X.max(dim=0).values])
    task = OfflineTask(name="any", X=X, Y=Y, oracle=lambda X: X[:, 0], bounds=bounds)
    found = run(name, task.without_oracle(), q, seed=seed)
    assert found.shape == (q, d)
    assert found.dtype == dtype
    assert bool(((bounds[0] <= found) & (bounds[1] >= found)).all())
    assert torch.equal(run(name, task.without_oracle(), q, seed=seed), found)


@pytest.mark.parametrize("name", WITH_PATH)
def test_path(task: OfflineTask, name: str) -> None:
    """From the start designs, step by step, to the candidates."""
    path: list[Tensor] = []
    X = run(name, task, path=path)
    assert len(path) == 4
    torch.testing.assert_close(path[0], task.start_designs(Q)[0])
    assert torch.equal(path[-1], X)
    assert torch.equal(X, run(name, task))
    if task.vocabulary is None:
        assert not torch.allclose(path[1], path[0])


@pytest.mark.parametrize("name", OPTIONS)
def test_progress_is_shown(
    vector_task: OfflineTask,
    name: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On standard error, where it is asked for, and changes nothing."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # behave as on a terminal
    monkeypatch.setenv("TERM", "xterm")
    quiet = run(name, vector_task)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(run(name, vector_task, progress=True), quiet)
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err


@pytest.mark.parametrize("name", OPTIONS)
def test_encodings(token_task: OfflineTask, name: str) -> None:
    """Another one makes other candidates; all but one method have it for an option."""
    function: Callable[..., Tensor] = getattr(baselines, name)
    if "encoding" not in inspect.signature(function).parameters:
        assert name == "mins"
        return
    with pytest.raises(ValueError, match=r"`encoding` must be one of .* received 'ordinal'"):
        run(name, token_task, encoding="ordinal")


BAD: dict[str, list[tuple[str, Any]]] = {
    "autofocused_cbas": [
        ("num_rounds", -1),
        ("num_samples", 0),
        ("quantile", 1.1),
        ("quantile", -0.1),
        ("round_epochs", 0),
        ("focus_epochs", 0),
        ("flattening", 1.1),
        ("flattening", -0.1),
    ],
    "bo_qei": [
        ("num_rows", 0),
        ("num_iterations", 0),
        ("batch_size", 0),
        ("num_restarts", 0),
        ("raw_samples", 0),
        ("maxiter", 0),
    ],
    "cbas": [
        ("num_rounds", -1),
        ("num_samples", 0),
        ("quantile", 1.1),
        ("quantile", -0.1),
        ("round_epochs", 0),
    ],
    "cma_es": [("sigma", 0.0), ("sigma", float("nan")), ("num_iterations", 0)],
    "coms": [
        ("hidden_sizes", ()),
        ("activation", "relu6"),
        ("epochs", 0),
        ("max_batches", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("noise_std", -0.1),
        ("particle_lr", -0.1),
        ("num_inner_steps", -1),
        ("num_steps", -1),
        ("alpha", -0.1),
        ("alpha_lr", -0.1),
    ],
    "gradient_ascent": [("aggregate", "max"), ("num_steps", -1), ("step_size", -0.1)],
    "mins": [
        ("hidden_sizes", (0,)),
        ("latent_dim", 0),
        ("epochs", 0),
        ("max_batches", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("critic_steps", 0),
        ("gradient_penalty", -1.0),
        ("temperatures", (5.0, 0.0)),
        ("temperatures", (0.0, 1.0)),
        ("num_bins", 0),
    ],
    "nemo": [
        ("num_bins", 1),
        ("margin", -0.1),
        ("num_steps", 2.5),
        ("step_size", -0.1),
        ("model_lr", 0.0),
    ],
}


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [(name, *bad) for name, all_bad in BAD.items() for bad in [*all_bad, ("q", 0)]],
)
def test_bad_options(vector_task: OfflineTask, name: str, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{option}(\[\d\])?` must "):
        run(name, vector_task, **{option: value})

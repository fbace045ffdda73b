from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask, load_task
from botorch_roma.benchmark import methods as module
from botorch_roma.benchmark.methods import METHODS, ProxyCache, get_methods
from botorch_roma.latent import Vocabulary
from botorch_roma.optim.initializers import distinct_keys

NAMES = [
    "random",
    "start",
    "start_noise_0.2",
    "start_noise_1",
    "gradient_ascent",
    "author_code",
    "paper",
    "default",
    "default_latent",
]
VECTORS = NAMES[:-1]
ROMA = VECTORS[4:]


@pytest.fixture(scope="module")
def task() -> OfflineTask:
    return load_task("hartmann6", num_rows=200)


def grid(X: Tensor) -> Tensor:
    return (10.0 * X).round() / 10.0


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


def test_names_and_order() -> None:
    assert list(METHODS) == NAMES
    assert [m.name for m in get_methods()] == NAMES
    assert [m.name for m in get_methods(["paper", "random"])] == ["random", "paper"]
    assert len({m.label for m in METHODS.values()}) == len(NAMES)
    with pytest.raises(ValueError, match=r"`methods` must be one of .* received 'bo'"):
        get_methods(["random", "bo"])


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
    assert (first.reconstruction is not None) == (name == "default_latent")
    if name in ROMA:
        assert len(torch.unique(X, dim=0)) == 6
    assert token_task.num_oracle_calls == 0


def test_noise_flips_letters_of_tokens(token_task: OfflineTask) -> None:
    """In one-hot columns: a little noise changes nothing, a lot of it some of the letters."""
    blind = token_task.without_oracle()
    start = blind.start_designs(50)[0]
    little = METHODS["start_noise_0.2"].run(blind, 50, 0, ProxyCache()).candidates
    lot = METHODS["start_noise_1"].run(blind, 50, 0, ProxyCache()).candidates
    assert (little != start).double().mean() < 0.02
    assert 0.1 < (lot != start).double().mean() < 0.6


def test_methods_for_tokens_are_left_out_for_vectors() -> None:
    assert [m.name for m in get_methods(discrete=False)] == VECTORS
    with pytest.raises(ValueError, match=r"'default_latent', which is for token sequences"):
        get_methods(["default_latent"], discrete=False)


def test_trivial_methods(task: OfflineTask) -> None:
    blind, proxies = task.without_oracle(), ProxyCache()
    assert torch.equal(
        METHODS["start"].run(blind, 5, 0, proxies).candidates, task.start_designs(5)[0]
    )
    assert torch.equal(
        METHODS["random"].run(blind, 5, 3, proxies).candidates, task.random_designs(5, 3)
    )
    assert not proxies.models


@pytest.mark.parametrize(("name", "std"), [("start_noise_0.2", 0.2), ("start_noise_1", 1.0)])
def test_noise(task: OfflineTask, name: str, std: float) -> None:
    blind = task.without_oracle()
    blind.bounds = torch.tensor([[-9.0] * 6, [9.0] * 6]).to(task.X)
    X = METHODS[name].run(blind, 100, 0, ProxyCache()).candidates
    noise = (X - task.start_designs(100)[0]) / task.X.std(dim=0, correction=0)
    assert noise.std().item() == pytest.approx(std, rel=0.1)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.1 * std)


def test_gradient_ascent_is_default_without_adaptation_and_cap(
    task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    real = module.optimize_acqf_roma

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, "optimize_acqf_roma", spy)
    blind, proxies = task.without_oracle(), ProxyCache()
    for name in ("gradient_ascent", "default"):
        METHODS[name].run(blind, 4, 0, proxies)
    ascent, default = calls
    assert (ascent.pop("radius"), ascent.pop("region")) == (0.0, None)
    assert ascent == default


def counting(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return function(*args, **kwargs)

    return wrapper


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

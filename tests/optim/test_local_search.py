"""The finishing local search finds what there is to find, and stays where it may be."""

from __future__ import annotations

import itertools
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from botorch.acquisition import PosteriorMean
from torch import Tensor

from botorch_roma import RoMAModel, RoMAOptions, fit_roma_model, optimize_acqf_roma
from botorch_roma.adaptation import adapt_roma_model
from botorch_roma.interrupt import finish_on_interrupt
from botorch_roma.latent import ColumnEncoding, NumericEncoding, OneHotEncoding, Vocabulary
from botorch_roma.optim import local_search as module
from botorch_roma.optim import search
from botorch_roma.optim.distinct import spread_out
from botorch_roma.optim.encoded import encoded_problem
from botorch_roma.optim.local_search import adapted_values, local_search
from botorch_roma.optim.search import FeasibleSet

LENGTH = 5
ENCODING = OneHotEncoding(Vocabulary("abc"), LENGTH)
ALL = torch.tensor(list(itertools.product(range(3), repeat=LENGTH)), dtype=torch.double)
WEIGHTS = torch.tensor([1.0, 0.6, -0.3, 2.0, 0.2], dtype=torch.double)
ONES = torch.ones(LENGTH)


def height(X: Tensor) -> Tensor:
    """A sum over positions: every hill has one top."""
    return X @ WEIGHTS


def own_values(X: Tensor, N: Tensor) -> tuple[Tensor, Tensor]:
    return height(X), height(N)


def run(X: Tensor, num_rounds: int = 50, **options: Any) -> list[Tensor]:
    return list(
        local_search(
            X, own_values, ENCODING.neighbours, num_rounds=num_rounds, scale=ONES, **options
        )
    )


def rows(X: Tensor) -> set[tuple[float, ...]]:
    return {tuple(x) for x in X.tolist()}


class TestSearch:
    def test_finds_the_best_of_all_designs(self) -> None:
        found = run(ALL[[0, 1, 2, 3]])[-1]
        best = ALL[height(ALL).topk(4).indices]
        assert rows(found) == rows(best)

    def test_never_gets_worse_and_ends_by_itself(self) -> None:
        rounds = run(ALL[:6])
        medians = [height(X).median().item() for X in rounds]
        assert medians == sorted(medians)
        assert 1 < len(rounds) < 50
        assert all(len(rows(X)) == 6 for X in rounds)

    def test_number_of_rounds(self) -> None:
        (once,) = run(ALL[:1], num_rounds=1)
        assert (once != ALL[:1]).sum() == 1  # one token of one design
        assert run(ALL[:1], num_rounds=0) == []

    def test_same_in_small_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = run(ALL[:7])
        monkeypatch.setattr(module, "CHUNK_SIZE", 1)
        parts = run(ALL[:7])
        assert len(whole) == len(parts)
        for a, b in zip(whole, parts, strict=True):
            torch.testing.assert_close(height(a).sort().values, height(b).sort().values)

    def test_what_may_not_be_returned_is_not(self) -> None:
        best = ALL[height(ALL).topk(2).indices]
        found = run(ALL[:2], X_avoid=best[:1], allowed=lambda X: X[:, 4] == 0.0)[-1]
        left = ALL[ALL[:, 4] == 0.0]
        left = left[(left != best[0]).any(dim=1)]
        assert rows(found) == rows(left[height(left).topk(2).indices])

    @pytest.mark.parametrize("seed", range(5))
    def test_asks_only_while_it_matters_which_are_allowed(self, seed: int) -> None:
        heights = torch.rand(len(ALL), generator=torch.Generator().manual_seed(seed)).double()
        place = {tuple(x): i for i, x in enumerate(ALL.tolist())}
        asked = []

        def heights_of(X: Tensor) -> Tensor:
            found = [place[tuple(x)] for x in X.flatten(end_dim=-2).tolist()]
            return heights[found].reshape(X.shape[:-1])

        def allowed(X: Tensor) -> Tensor:
            asked.append(len(X))
            return X[:, 0] != X[:, 1]

        def round_of(pool: Tensor) -> Tensor:
            N = ENCODING.neighbours(pool)
            around = N.flatten(end_dim=1)
            both = torch.cat([pool, around[allowed(around)]]).unique(dim=0)
            return both[heights_of(both).topk(len(pool)).indices]

        start = ALL[torch.randperm(len(ALL), generator=torch.Generator().manual_seed(seed))[:20]]
        by_hand = round_of(start)
        every, asked = sum(asked), []
        (found,) = local_search(
            start,
            lambda X, N: (heights_of(X), heights_of(N)),
            ENCODING.neighbours,
            num_rounds=1,
            scale=ONES,
            allowed=allowed,
        )
        assert rows(found) == rows(by_hand)
        assert 0 < sum(asked) < every / 2

    def test_a_round_that_does_not_fit_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of its groups of one design, each of three seconds, two would."""
        monkeypatch.setattr(module, "CHUNK_SIZE", 1)
        seconds = iter([0.0, 3.0, 3.0, 6.0, 6.0])
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=seconds.__next__))
        looked_at: list[Tensor] = []

        def values(X: Tensor, N: Tensor) -> tuple[Tensor, Tensor]:
            looked_at.append(X)
            return own_values(X, N)

        options: dict[str, Any] = {"num_rounds": 9, "scale": ONES, "deadline": 8.0}
        assert list(local_search(ALL[:7], values, ENCODING.neighbours, **options)) == []
        assert torch.equal(torch.cat(looked_at), ALL[:2])

    def test_no_round_begins_after_the_deadline(self) -> None:
        assert run(ALL[:1], deadline=time.monotonic() - 1.0) == []
        assert len(run(ALL[:1], deadline=time.monotonic() + 100.0)) > 1

    @pytest.mark.usefixtures("hears_interrupts")
    def test_an_interrupt_ends_it(self) -> None:
        with finish_on_interrupt():
            signal.raise_signal(signal.SIGINT)
            assert run(ALL[:1]) == []

    def test_nan_is_no_gain(self) -> None:
        def values(X: Tensor, N: Tensor) -> tuple[Tensor, Tensor]:
            return height(X), torch.full_like(N[..., 0], torch.nan)

        (X,) = local_search(ALL[:3], values, ENCODING.neighbours, num_rounds=9, scale=ONES)
        assert rows(X) == rows(ALL[:3])


@pytest.fixture(scope="module")
def model() -> RoMAModel:
    X = ALL[torch.randperm(len(ALL), generator=torch.Generator().manual_seed(0))[:120]]
    model = RoMAModel(X, height(X).unsqueeze(1), ENCODING, hidden_sizes=(16,))
    fit_roma_model(model, epochs=40, batch_size=16, lr=1e-2, seed=0)
    return model


BOUNDS = ENCODING.design_bounds.double()


class TestValues:
    def test_each_design_asks_its_own_proxy(self, model: RoMAModel) -> None:
        options = RoMAOptions(radius=0.05, num_adaptation_steps=4)
        problem = encoded_problem(PosteriorMean(model), ENCODING, FeasibleSet(BOUNDS), None)
        X, N = ALL[[5, 77]], ENCODING.neighbours(ALL[[5, 77]])
        with torch.no_grad():
            own, others = adapted_values(problem.acq_function, options, problem.encode)(X, N)
            adapted = adapt_roma_model(model, X, radius=0.05, num_steps=4)
            expected = adapted.posterior(X.unsqueeze(1)).mean.flatten()
            around = adapted.posterior(N.unsqueeze(2)).mean[..., 0, 0]
            fitted = model.posterior(N.flatten(end_dim=1).unsqueeze(1)).mean.view(len(N), 2)
        torch.testing.assert_close(own, expected)
        torch.testing.assert_close(others, around)
        assert (others - fitted).abs().max() > 1e-3


class TestOptimize:
    def test_better_candidates(self, model: RoMAModel) -> None:
        acq = PosteriorMean(model)
        plain, before = optimize_acqf_roma(acq, BOUNDS, 8, num_updates=3)
        found, after = optimize_acqf_roma(acq, BOUNDS, 8, num_updates=3, local_search_rounds=20)
        assert before is not None
        assert after is not None
        assert after.min() > before.median()
        assert len(rows(found)) == 8
        assert rows(found) != rows(plain)

    def test_fixed_pending_and_constrained(self, model: RoMAModel) -> None:
        best, _ = optimize_acqf_roma(PosteriorMean(model), BOUNDS, 4, local_search_rounds=20)
        found, _ = optimize_acqf_roma(
            PosteriorMean(model),
            BOUNDS,
            4,
            num_updates=3,
            local_search_rounds=20,
            fixed_features={1: 0.0},
            X_avoid=best,
            nonlinear_inequality_constraints=[(lambda x: 1.5 - x[3], True)],
            batch_initial_conditions=ALL[(ALL[:, 1] == 0) & (ALL[:, 3] == 0)][:4],
        )
        assert (found[:, 1] == 0.0).all()
        assert (found[:, 3] < 1.5).all()
        assert not rows(found) & rows(best)

    def test_only_what_post_processing_leaves_alone(self, model: RoMAModel) -> None:
        def no_last_token(X: Tensor) -> Tensor:
            return torch.cat([X[:, :4], torch.zeros_like(X[:, 4:])], dim=1)

        found, _ = optimize_acqf_roma(
            PosteriorMean(model),
            BOUNDS,
            4,
            num_updates=0,
            local_search_rounds=20,
            batch_initial_conditions=ALL[[0, 3, 6, 9]],
            post_processing_func=no_last_token,
        )
        assert (found[:, 4] == 0.0).all()
        assert len(rows(found)) == 4

    def test_numbers_stay_as_they_are(self) -> None:
        generator = torch.Generator().manual_seed(0)
        kinds = torch.randint(3, (60, 2), generator=generator).double()
        X = torch.cat([torch.rand(60, 1, generator=generator, dtype=torch.double), kinds], dim=1)
        box = torch.tensor([[0.0], [1.0]], dtype=torch.double)
        encoding = ColumnEncoding([NumericEncoding(box), OneHotEncoding(Vocabulary("abc"), 2)])
        model = RoMAModel(X, X.sum(dim=1, keepdim=True), encoding, hidden_sizes=(8,))
        fit_roma_model(model, epochs=30, batch_size=16, lr=1e-2, seed=0)
        bounds = encoding.design_bounds.double()
        acq, start = PosteriorMean(model), X[:4]
        options: dict[str, Any] = {"num_updates": 0, "batch_initial_conditions": start}
        found, _ = optimize_acqf_roma(acq, bounds, 4, local_search_rounds=9, **options)
        assert set(found[:, 0].tolist()) <= set(start[:, 0].tolist())
        assert found[:, 1:].mean() > start[:, 1:].mean()

    def test_each_design_goes_back_along_the_path_that_led_to_it(
        self, model: RoMAModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That of the candidate that ended nearest; the search puts the best designs first."""
        seen: list[tuple[Tensor, Tensor]] = []

        def recorded(
            X: Tensor, values: Tensor, snapshots: list[Tensor], process: Any, *rest: Any
        ) -> Tensor:
            seen.append((X, process(snapshots[-1])))
            return spread_out(X, values, snapshots, process, *rest)

        monkeypatch.setattr(search, "spread_out", recorded)
        acq, start = PosteriorMean(model), ALL[[0, 40, 80, 121, 160, 242]]
        options: dict[str, Any] = {"num_updates": 2, "batch_initial_conditions": start}
        for num_rounds in (0, 1, 5):
            optimize_acqf_roma(
                acq, BOUNDS, 6, min_distance=1e-3, local_search_rounds=num_rounds, **options
            )
            X, ends = seen[-1]
            distance = torch.cdist(X, ends, p=0)  # tokens that differ
            assert torch.equal((ends != X).sum(dim=1).to(distance), distance.amin(dim=1))

    def test_without_tokens_there_is_nothing_to_do(self) -> None:
        X = torch.rand(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
        model = RoMAModel(X, X.sum(dim=1, keepdim=True), hidden_sizes=(8,))
        fit_roma_model(model, epochs=2, seed=0)
        bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)
        acq = PosteriorMean(model)
        plain, _ = optimize_acqf_roma(acq, bounds, 3, num_updates=2)
        found, _ = optimize_acqf_roma(acq, bounds, 3, num_updates=2, local_search_rounds=5)
        assert torch.equal(plain, found)

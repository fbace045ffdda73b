from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import CandidateGenerationError
from torch import Tensor

from botorch_roma.optim import distinct as distinct_module
from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.distinct import distinct_candidates, spread_out
from botorch_roma.optim.encoded import plain_problem
from botorch_roma.optim.generation import UpdateResult
from botorch_roma.optim.initializers import distinct_keys

SQUARE = torch.tensor([[0.0, 0.0], [9.0, 9.0]], dtype=torch.double)
SCALE = torch.ones(2, dtype=torch.double)


class Sum(AcquisitionFunction):
    def __init__(self) -> None:
        super().__init__(model=torch.nn.Identity())

    def forward(self, X: Tensor) -> Tensor:
        return X.sum(dim=(-1, -2))


def paths(*of_candidates: list[float]) -> UpdateResult:
    """Candidates that walk along the diagonal, recorded at every position."""
    steps = torch.tensor(of_candidates, dtype=torch.double)
    designs = [s.unsqueeze(-1).repeat(1, 2) for s in steps.T]
    return UpdateResult(designs[-1], designs[:-1], len(designs) - 1)


def resolve(
    result: UpdateResult,
    process: Callable[[Tensor], Tensor] | None = torch.round,
    avoid: list[float] | None = None,
    **options: Any,
) -> Tensor:
    X_avoid = None
    if avoid is not None:
        X_avoid = torch.tensor(avoid, dtype=torch.double).unsqueeze(-1).repeat(1, 2)
    problem = plain_problem(Sum(), FeasibleSet(SQUARE, **options))
    return distinct_candidates(result, problem, SCALE, process, X_avoid)


def diagonal(X: Tensor) -> list[float]:
    assert torch.equal(X[:, 0], X[:, 1])
    return X[:, 0].tolist()


def test_distinct_candidates_stay() -> None:
    assert diagonal(resolve(paths([0.0, 1.0, 2.2], [0.0, 1.0, 3.4]))) == [2.0, 3.0]


def test_back_along_the_own_path() -> None:
    """The last recorded position that nobody has."""
    result = paths([0.0, 4.0, 5.0, 5.2], [1.0, 2.0, 3.0, 5.1], [7.0, 6.0, 5.0, 4.9])
    assert diagonal(resolve(result)) == [5.0, 3.0, 6.0]


@pytest.mark.parametrize("length", [5, 20])
def test_long_paths(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processed a few positions at a time, from the end, and no further than needed."""
    sizes: list[int] = []

    def process(X: Tensor) -> Tensor:
        sizes.append(len(X))
        return X.round()

    stay = [5.0] * length
    result = paths([2.0, *stay], [3.0, *stay])
    with pytest.warns(OptimizationWarning, match="1 of 2 candidates .* as start designs"):
        assert diagonal(resolve(result, process)) == [5.0, 3.0]
    assert max(sizes) <= max(2, distinct_module.SNAPSHOTS_PER_STEP)
    early = paths([1.0, *[2.0] * length, 4.0, 5.0], [1.0, *[2.0] * length, 3.0, 5.0])
    sizes.clear()
    assert diagonal(resolve(early, process)) == [5.0, 3.0]
    assert len(sizes) == 2


def test_along_the_paths_of_others() -> None:
    result = paths([1.0, 4.0, 5.0], [5.0, 5.0, 5.0])
    assert diagonal(resolve(result)) == [5.0, 4.0]


def test_avoided_designs() -> None:
    result = paths([1.0, 4.0, 5.0], [2.0, 6.0, 7.0])
    assert diagonal(resolve(result, avoid=[5.0])) == [4.0, 7.0]
    with pytest.warns(OptimizationWarning, match="as start designs"):
        assert diagonal(resolve(result, avoid=[5.0, 4.0, 9.0])) == [1.0, 7.0]


def test_designs_nearby() -> None:
    """The best of those drawn around the candidate, within what is allowed."""
    result = paths([5.0, 5.0], [5.0, 5.0], [5.0, 5.0])
    with pytest.warns(OptimizationWarning, match="2 of 3 .* replaced by the best of some"):
        X = resolve(result, avoid=[4.0, 6.0], fixed_features={1: 5.0})
    assert X[:, 1].tolist() == [5.0] * 3
    assert X[0].tolist() == [5.0, 5.0]
    assert sorted(X[1:, 0].tolist()) == [4.0, 6.0]


def test_nearby_means_around_the_candidate_itself() -> None:
    result = paths([0.0, 0.0], [5.0, 5.0], [5.0, 5.0])
    with pytest.warns(OptimizationWarning, match="1 of 3"):
        X = resolve(result)
    assert X[:2].tolist() == [[0.0, 0.0], [5.0, 5.0]]
    assert X[2].min() >= 4.0


def test_nearby_is_the_same_each_time() -> None:
    result = paths([5.0, 5.0], [5.0, 5.0])
    with pytest.warns(OptimizationWarning):
        first, second = resolve(result, None), resolve(result, None)
    assert torch.equal(first, second)
    assert first[1].sum() > first[0].sum()


def test_nonlinear_constraints_hold_nearby() -> None:
    result = paths([5.0, 5.0], [5.0, 5.0], [5.0, 5.0])
    below = (lambda x: 10.0 - x.sum(), True)
    with pytest.warns(OptimizationWarning):
        X = resolve(result, nonlinear_inequality_constraints=[below])
    assert (X.sum(dim=-1) <= 10.0).all()
    assert len(set(distinct_keys(X, SCALE))) == 3


@pytest.mark.parametrize(("avoid", "word"), [(None, "distinct, and"), ([3.0], "distinct and new")])
def test_nothing_within_reach(avoid: list[float] | None, word: str) -> None:
    with pytest.raises(CandidateGenerationError, match=f"Only 1 of 2 candidates are {word}"):
        resolve(paths([5.0, 5.0], [5.0, 5.0]), torch.zeros_like, avoid)


def apart(result: UpdateResult, values: list[float], distance: float, **options: Any) -> Tensor:
    return spread_out(
        result.X,
        torch.tensor(values),
        [*result.snapshots, result.X],
        lambda X: X,
        lambda X: X / 2**0.5,  # so that steps along the diagonal count as they are
        distance,
        SCALE,
        **options,
    )


def test_all_but_the_best_go_back_until_they_are_apart() -> None:
    result = paths([0.0, 1.0, 2.0, 3.0], [0.0, 1.5, 2.5, 3.2], [9.0, 8.0, 7.0, 6.0])
    assert diagonal(apart(result, [1.0, 2.0, 3.0], 1.0)) == [2.0, 3.2, 6.0]
    assert diagonal(apart(result, [2.0, 1.0, 3.0], 1.0)) == [3.0, 1.5, 6.0]
    assert diagonal(apart(result, [1.0, 2.0, 3.0], 0.1)) == [3.0, 3.2, 6.0]
    assert diagonal(result.X) == [3.0, 3.2, 6.0]  # as it was


def test_no_candidate_goes_back_to_its_start_or_to_what_is_taken() -> None:
    result = paths([0.0, 1.0, 1.9, 2.0], [0.0, 1.0, 2.1, 2.2])
    with pytest.warns(OptimizationWarning, match=r"1 of 2 candidates .* `min_distance` = 1\.5"):
        assert diagonal(apart(result, [1.0, 2.0], 1.5)) == [1.0, 2.2]  # not 0.0
    avoid = torch.ones(1, 2, dtype=torch.double)
    with pytest.warns(OptimizationWarning, match="as far as they could be"):
        assert diagonal(apart(result, [1.0, 2.0], 1.0, X_avoid=avoid)) == [1.9, 2.2]


def test_candidates_that_cannot_part_stay_distinct() -> None:
    result = paths([0.0, 3.0, 4.0], [0.0, 4.0, 3.0])  # each ends where the other has been
    with pytest.warns(OptimizationWarning, match="1 of 2"):
        assert sorted(diagonal(apart(result, [1.0, 2.0], 5.0))) == [3.0, 4.0]

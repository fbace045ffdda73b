from __future__ import annotations

from typing import Any

import pytest
import torch
from botorch.exceptions.errors import InfeasibilityError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.rounding import DiscreteRounding

CHOICES = {1: [0.0, 1.0, 2.0, 3.0], 2: [-1.5, 0.25, 4.0]}
GROUPS = [[3, 4, 5]]
BOUNDS = torch.tensor(
    [[0.0, 0.0, -1.5, 0.0, 0.0, 0.0], [1.0, 3.0, 4.0, 1.0, 1.0, 1.0]], dtype=torch.double
)


def constraint(coefficients: dict[int, float], rhs: float) -> Any:
    return (
        torch.tensor(list(coefficients)),
        torch.tensor(list(coefficients.values()), dtype=torch.double),
        rhs,
    )


def draw(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(n, 6, generator=generator, dtype=torch.double)
    return BOUNDS[0] + unit * (BOUNDS[1] - BOUNDS[0])


def rounding(**options: Any) -> DiscreteRounding:
    return DiscreteRounding(FeasibleSet(BOUNDS, **options), CHOICES, GROUPS)


def assert_allowed(X: Tensor) -> None:
    for i, values in CHOICES.items():
        assert set(X[:, i].tolist()) <= set(values)
    assert (X[:, 3:].sum(dim=-1) == 1).all()
    assert set(X[:, 3:].flatten().tolist()) <= {0.0, 1.0}


def test_nearest_values() -> None:
    X = torch.tensor(
        [[0.3, 0.49, -0.6, 0.2, 0.9, 0.1], [0.7, 2.51, 2.2, 0.4, 0.1, 0.3]], dtype=torch.double
    )
    expected = torch.tensor(
        [[0.3, 0.0, 0.25, 0.0, 1.0, 0.0], [0.7, 3.0, 4.0, 1.0, 0.0, 0.0]], dtype=torch.double
    )
    before = X.clone()
    assert torch.equal(rounding()(X), expected)
    assert torch.equal(X, before)


def test_nearest_of_all_values() -> None:
    X = draw(500)
    got = rounding()(X)
    assert_allowed(got)
    for i, values in CHOICES.items():
        distance = (X[:, i : i + 1] - torch.tensor(values)).abs().min(dim=-1).values
        torch.testing.assert_close((got[:, i] - X[:, i]).abs(), distance)
    assert torch.equal(got[:, 0], X[:, 0])
    assert torch.equal(got[:, 3:].argmax(dim=-1), X[:, 3:].argmax(dim=-1))


def test_one_value() -> None:
    only = DiscreteRounding(FeasibleSet(BOUNDS[:, :2]), {1: [2.0]})
    assert only(draw(5)[:, :2])[:, 1].tolist() == [2.0] * 5


def test_fixed_features_stay() -> None:
    X = draw(20)
    X[:, 1] = 0.7
    got = rounding(fixed_features={1: 0.7})(X)
    assert (got[:, 1] == 0.7).all()
    assert set(got[:, 2].tolist()) <= set(CHOICES[2])


def test_continuous_inputs_give_way() -> None:
    """Rounded up, the integer breaks the constraint; the float makes room for it."""
    feasible = {"inequality_constraints": [constraint({0: -1.0, 1: -1.0}, -2.5)]}
    X = torch.tensor([[0.8, 1.6, 0.0, 1.0, 0.0, 0.0]], dtype=torch.double)
    got = rounding(**feasible)(X)
    torch.testing.assert_close(got[0, :2], torch.tensor([0.5, 2.0], dtype=torch.double))


def test_equality_with_a_continuous_input() -> None:
    feasible = {"equality_constraints": [constraint({0: 1.0, 1: 1.0}, 2.3)]}
    X = FeasibleSet(BOUNDS, **feasible).project(draw(30), final=True)
    got = rounding(**feasible)(X)
    assert_allowed(got)
    torch.testing.assert_close(got[:, 0] + got[:, 1], torch.full((30,), 2.3).double())


def test_integers_move_one_by_one() -> None:
    """Only discrete inputs in the constraint, and several steps from the rounded design."""
    bounds = torch.tensor([[0.0, 0.0], [9.0, 9.0]], dtype=torch.double)
    feasible = FeasibleSet(bounds, inequality_constraints=[constraint({0: -2.0, 1: -2.0}, -9.0)])
    values = [float(i) for i in range(10)]
    got = DiscreteRounding(feasible, {0: values, 1: values})(
        torch.tensor([[9.0, 9.0], [3.0, 2.0], [1.0, 2.0]], dtype=torch.double)
    )
    assert (got.sum(dim=-1) <= 4).all()
    assert (got == got.round()).all()
    assert got[1].sum() == 4
    assert got[2].tolist() == [1.0, 2.0]


def test_the_cheapest_step() -> None:
    """In units of the scale: the second input moves more easily."""
    bounds = torch.tensor([[0.0, 0.0], [9.0, 9.0]], dtype=torch.double)
    feasible = FeasibleSet(
        bounds,
        inequality_constraints=[constraint({0: -1.0, 1: -1.0}, -9.0)],
        scale=torch.tensor([1.0, 5.0], dtype=torch.double),
    )
    values = [float(i) for i in range(10)]
    got = DiscreteRounding(feasible, {0: values, 1: values})(
        torch.tensor([[5.0, 6.0]], dtype=torch.double)
    )
    assert got.tolist() == [[5.0, 4.0]]


def test_no_way() -> None:
    bounds = torch.tensor([[0.0, 0.0], [3.0, 3.0]], dtype=torch.double)
    feasible = FeasibleSet(bounds, equality_constraints=[constraint({0: 2.0, 1: 2.0}, 3.0)])
    values = [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(InfeasibilityError, match="could not be rounded within the linear"):
        DiscreteRounding(feasible, {0: values, 1: values})(
            torch.tensor([[0.5, 1.0]], dtype=torch.double)
        )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    coefficients=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0]), min_size=3, max_size=3),
)
def test_always_allowed_and_feasible(seed: int, coefficients: list[float]) -> None:
    """A constraint that the all-zeros corner satisfies with room to spare."""
    chosen = {i: c for i, c in enumerate(coefficients) if c}
    if not chosen:
        return
    low = sum(min(c * v for v in CHOICES.get(i, [0.0, 1.0])) for i, c in chosen.items())
    high = sum(max(c * v for v in CHOICES.get(i, [0.0, 1.0])) for i, c in chosen.items())
    feasible = {"inequality_constraints": [constraint(chosen, low + 0.4 * (high - low))]}
    X = FeasibleSet(BOUNDS, **feasible).project(draw(10, seed), final=True)
    process = rounding(**feasible)
    got = process(X)
    assert_allowed(got)
    assert (FeasibleSet(BOUNDS, **feasible).violation(got) <= 1e-6).all()
    torch.testing.assert_close(process(got), got)

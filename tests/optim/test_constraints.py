from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from botorch.exceptions.errors import InfeasibilityError, UnsupportedError
from botorch.optim.parameter_constraints import evaluate_feasibility
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from botorch_roma.optim.constraints import FeasibleSet, LinearConstraint

UNIT_BOX = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.double)


def linear(coefficients: list[float], rhs: float) -> LinearConstraint:
    """``sum x_i c_i >= rhs`` (or ``==``) over all inputs."""
    c = torch.tensor(coefficients, dtype=torch.double)
    return torch.arange(len(c)), c, rhs


@st.composite
def polytopes(draw: st.DrawFn) -> tuple[dict[str, Any], Tensor, Tensor]:
    """A nonempty polytope in a scaled box, with the point that makes it so, and points around."""
    d = draw(st.integers(2, 4))
    vectors = st.lists(st.integers(-2, 2), min_size=d, max_size=d).filter(any)
    inequalities = draw(st.lists(vectors, max_size=2))
    equalities = draw(st.lists(vectors, min_size=0 if inequalities else 1, max_size=1))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.double)

    scale = torch.tensor(draw(st.lists(st.sampled_from([0.1, 1.0, 5.0]), min_size=d, max_size=d)))
    scale = scale.double()
    inside = (2.0 * uniform(d) - 1.0) * scale
    settings: dict[str, Any] = {"bounds": torch.stack([-scale, scale]), "scale": scale}
    for name, rows in (("inequality", inequalities), ("equality", equalities)):
        constraints = []
        for row in rows:
            c = torch.tensor(row).double() / scale
            slack = 0.3 * uniform(1).item() if name == "inequality" else 0.0
            constraints.append((torch.arange(d), c, (c @ inside).item() - slack))
        settings[f"{name}_constraints"] = constraints or None
    if draw(st.booleans()):
        settings["fixed_features"] = {0: inside[0].item()}
    return settings, inside, 3.0 * (2.0 * uniform(5, d) - 1.0) * scale


def linprog_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    low, high = settings["bounds"].clone()
    for i, value in (settings.get("fixed_features") or {}).items():
        low[i] = high[i] = value
    result: dict[str, Any] = {"bounds": torch.stack([low, high], dim=1).numpy()}
    for name, key, sign in (("inequality", "ub", -1.0), ("equality", "eq", 1.0)):
        rows = settings[f"{name}_constraints"] or []
        if rows:
            result[f"A_{key}"] = np.stack([sign * c.numpy() for _, c, _ in rows])
            result[f"b_{key}"] = np.array([sign * rhs for *_, rhs in rows])
    return result


@given(polytopes())
def test_projection_is_the_nearest_design_in_units_of_scale(
    case: tuple[dict[str, Any], Tensor, Tensor],
) -> None:
    """The variational inequality: ``(x - p) . (y - p) <= 0`` for all allowed ``y``."""
    settings, _, X = case
    feasible_set = FeasibleSet(**settings)
    P = feasible_set.project(X)
    assert feasible_set.violation(P).max() < 1e-7
    assert bool(((settings["bounds"][0] <= P) & (settings["bounds"][1] >= P)).all())
    fixed = settings.get("fixed_features") or {}
    for i, value in fixed.items():
        assert P[:, i].eq(value).all()
    unit = settings["scale"].clone()
    unit[list(fixed)] = torch.inf  # the fixed part of the distance cannot be helped
    for x, p in zip(X, P, strict=True):
        direction = ((x - p) / unit.square()).numpy()
        furthest = linprog(-direction, **linprog_arguments(settings))
        assert furthest.success
        assert -furthest.fun - direction @ p.numpy() < 1e-5


@given(polytopes())
def test_projection_leaves_allowed_designs_alone(
    case: tuple[dict[str, Any], Tensor, Tensor],
) -> None:
    settings, inside, _ = case
    assert torch.allclose(FeasibleSet(**settings).project(inside[None]), inside[None], atol=1e-9)


def test_projection_agrees_with_a_quadratic_program() -> None:
    """An example whose clamped form is nearest to something else."""
    scale = torch.tensor([1.0, 2.0, 0.5], dtype=torch.double)
    constraint = linear([-1.0, -0.5, -2.0], -1.0)
    feasible_set = FeasibleSet(UNIT_BOX, inequality_constraints=[constraint], scale=scale)
    x = torch.tensor([2.0, 0.5, 0.3], dtype=torch.double)
    expected = minimize(
        lambda p: float((((p - x.numpy()) / scale.numpy()) ** 2).sum()),
        x0=np.zeros(3),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * 3,
        constraints={"type": "ineq", "fun": lambda p: 1.0 - p @ np.array([1.0, 0.5, 2.0])},
        options={"ftol": 1e-14},
    )
    assert torch.allclose(feasible_set.project(x[None])[0], torch.from_numpy(expected.x), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_final_projection_satisfies_botorch(dtype: torch.dtype) -> None:
    constraints = {
        "inequality_constraints": [linear([1.0, 1.0, 0.0], 1.2), linear([-1.0, 0.0, 1.0], -0.1)],
        "equality_constraints": [linear([1.0, -1.0, 1.0], 0.3)],
    }
    feasible_set = FeasibleSet(UNIT_BOX.to(dtype), **constraints)
    X = 4.0 * torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=dtype) - 2.0
    before = X.clone()
    P = feasible_set.project(X, final=True)
    assert torch.equal(X, before)
    assert P.dtype == dtype
    assert P.min() >= 0.0
    assert P.max() <= 1.0
    cast = {
        name: [(i, c.to(dtype), rhs) for i, c, rhs in rows] for name, rows in constraints.items()
    }
    assert evaluate_feasibility(P.unsqueeze(1), **cast, tolerance=1e-6).all()


def test_bounds_and_fixed_features_without_constraints() -> None:
    feasible_set = FeasibleSet(UNIT_BOX, fixed_features={-1: 0.25, 0: torch.tensor(0.5)})
    assert feasible_set.fixed == {2: 0.25, 0: 0.5}
    X = torch.tensor([[5.0, -3.0, 0.9], [0.1, 0.4, 0.2]], dtype=torch.double)
    expected = torch.tensor([[0.5, 0.0, 0.25], [0.5, 0.4, 0.25]], dtype=torch.double)
    assert torch.equal(feasible_set.project(X), expected)
    assert not feasible_set.has_linear


def test_indices_may_be_negative_or_few() -> None:
    constraint = (torch.tensor([-1, 0]), torch.tensor([1.0, 2.0], dtype=torch.double), 2.5)
    feasible_set = FeasibleSet(UNIT_BOX, inequality_constraints=[constraint])
    X = torch.zeros(1, 3, dtype=torch.double)
    assert feasible_set.violation(X).item() == 2.5
    P = feasible_set.project(X)
    assert (2.0 * P[0, 0] + P[0, 2]).item() == pytest.approx(2.5, abs=1e-7)
    assert P[0, 1] == 0.0


def test_inputs_that_never_vary_stay_where_they_are() -> None:
    scale = torch.tensor([1.0, 0.0, 1.0], dtype=torch.double)
    feasible_set = FeasibleSet(
        UNIT_BOX, inequality_constraints=[linear([1.0, 1.0, 1.0], 2.0)], scale=scale
    )
    X = torch.tensor([[0.1, 0.4, 0.2]], dtype=torch.double)
    P = feasible_set.project(X, final=True)
    assert P[0, 1] == 0.4
    assert P.sum().item() == pytest.approx(2.0, abs=1e-7)


def test_constraint_that_only_an_input_that_never_varies_could_satisfy() -> None:
    scale = torch.tensor([1.0, 0.0, 1.0], dtype=torch.double)
    feasible_set = FeasibleSet(
        UNIT_BOX, inequality_constraints=[linear([0.0, 1.0, 0.0], 0.9)], scale=scale
    )
    X = torch.tensor([[0.1, 0.4, 0.2]], dtype=torch.double)
    with pytest.raises(InfeasibilityError, match=r"largest violation left is 0\.5"):
        feasible_set.project(X, final=True)


def test_nonlinear_constraints() -> None:
    ball = (lambda x: 1.0 - x.square().sum(), True)
    feasible_set = FeasibleSet(UNIT_BOX, nonlinear_inequality_constraints=[ball])
    X = torch.tensor([[0.5, 0.5, 0.5], [0.9, 0.9, 0.9]], dtype=torch.double)
    assert feasible_set.nonlinear_feasible(X).tolist() == [True, False]
    start = torch.zeros(2, 3, dtype=torch.double)
    moved = feasible_set.retreat(start, X)
    assert torch.equal(moved[0], X[0])
    assert torch.allclose(moved[1], X[1] / 2)
    assert feasible_set.nonlinear_feasible(moved).all()
    wall = (lambda x: 1e-9 - x.sum(), True)
    stuck = FeasibleSet(UNIT_BOX, nonlinear_inequality_constraints=[wall])
    assert torch.equal(stuck.retreat(start, X), start)


@pytest.mark.parametrize(
    "arguments",
    [
        {"inequality_constraints": [linear([1.0, 1.0, 1.0], 3.5)]},
        {"equality_constraints": [linear([1.0, 1.0, 1.0], -0.5)]},
        {
            "inequality_constraints": [
                linear([1.0, 0.0, 0.0], 0.6),
                linear([-1.0, 0.0, 0.0], -0.5),
            ]
        },
        {
            "fixed_features": {0: 0.1, 1: 0.1},
            "inequality_constraints": [linear([1.0, 1.0, 1.0], 1.5)],
        },
    ],
)
def test_contradictions(arguments: dict[str, Any]) -> None:
    with pytest.raises(InfeasibilityError, match="`bounds` contradict each other"):
        FeasibleSet(UNIT_BOX, **arguments)


INDEX = torch.tensor([0, 1])
ONES = torch.ones(2, dtype=torch.double)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"fixed_features": {3: 0.5}},
            ValueError,
            r"`fixed_features` has the index 3, .*\[-3, 2\]",
        ),
        ({"fixed_features": {-4: 0.5}}, ValueError, "index -4"),
        ({"fixed_features": {"x": 0.5}}, ValueError, "index 'x'"),
        ({"fixed_features": {True: 0.5}}, ValueError, "index True"),
        ({"fixed_features": {1: 0.5, -2: 0.6}}, ValueError, "names input 1 twice, as 1 and -2"),
        ({"fixed_features": {1: 1.5}}, ValueError, r"`fixed_features\[1\]`.*\[0, 1\], .* 1\.5"),
        ({"fixed_features": {1: float("nan")}}, ValueError, r"`fixed_features\[1\]`.*received nan"),
        ({"fixed_features": {-1: torch.ones(4)}}, UnsupportedError, r"one number .*shape \(4,\)"),
        (
            {"inequality_constraints": [(torch.tensor([[0, 0], [1, 0]]), ONES, 0.0)]},
            UnsupportedError,
            r"`inequality_constraints\[0\]` links several candidates .*\(2, 2\)",
        ),
        (
            {"equality_constraints": [(torch.tensor([[0, 0], [1, 0]]), ONES, 0.0)]},
            UnsupportedError,
            r"`equality_constraints\[0\]` links several",
        ),
        (
            {"inequality_constraints": [(INDEX, ONES, 0.0), (INDEX, ONES[:1], 0.0)]},
            ValueError,
            r"`inequality_constraints\[1\]` .*\[0, 1\] and 1 coefficients",
        ),
        (
            {"equality_constraints": [(torch.tensor([0, 3]), ONES, 0.0)]},
            ValueError,
            r"`equality_constraints\[0\]` needs indices within \[-3, 2\].*\[0, 3\]",
        ),
        (
            {"inequality_constraints": [(INDEX, ONES * float("nan"), 0.0)]},
            ValueError,
            r"`inequality_constraints\[0\]` .*nan",
        ),
        (
            {"equality_constraints": [(INDEX, ONES, float("inf"))]},
            ValueError,
            r"`equality_constraints\[0\]` .*inf",
        ),
        (
            {"nonlinear_inequality_constraints": [(lambda X: X.sum(), False)]},
            UnsupportedError,
            r"`nonlinear_inequality_constraints\[0\]` links several candidates",
        ),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as info:
        FeasibleSet(UNIT_BOX, **arguments)
    assert type(info.value) is error

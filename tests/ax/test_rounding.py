"""Ax's rounding within constraints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

pytest.importorskip("ax")

from ax.api.configs import RangeParameterConfig
from ax.core.parameter import RangeParameter
from botorch.exceptions.errors import InfeasibilityError

from botorch_roma.ax import offline_experiment, roma_generation_strategy
from botorch_roma.ax.rounding import AxRounding
from botorch_roma.optim.constraints import FeasibleSet

BOUNDS = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 8.0]]).double()


def digits(X: Tensor) -> Tensor:
    """One digit for the first two columns."""
    return torch.cat([X[:, :2].round(decimals=1), X[:, 2:]], dim=-1)


def at_most(coefficients: list[float], bound: float) -> Any:
    return torch.arange(3), -torch.tensor(coefficients).double(), -bound


@pytest.fixture
def designs() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(40, 3, generator=generator, dtype=torch.double)
    return BOUNDS[0] + X * (BOUNDS[1] - BOUNDS[0])


def test_without_a_rounding_func(designs: Tensor) -> None:
    rounding = AxRounding(FeasibleSet(BOUNDS), {2: list(range(1, 9))}, [], None)
    X = rounding(designs)
    assert X[:, :2].equal(designs[:, :2])
    assert X[:, 2].equal(designs[:, 2].round())


def test_feasible_roundings_are_kept(designs: Tensor) -> None:
    rounding = AxRounding(FeasibleSet(BOUNDS), {2: list(range(1, 9))}, [], digits)
    assert rounding(designs).equal(
        designs.round(decimals=1)
        .round(decimals=1)
        .index_put((torch.arange(40), torch.full((40,), 2)), designs[:, 2].round())
    )


def test_constraints_hold_after_rounding(designs: Tensor) -> None:
    constraints = [at_most([1.0, 1.0, 0.0], 0.85), at_most([1.0, -2.0, 0.1], 0.33)]
    feasible_set = FeasibleSet(BOUNDS, inequality_constraints=constraints)
    X = feasible_set.project(designs, final=True)
    rounded = AxRounding(feasible_set, {2: list(range(1, 9))}, [], digits)(X)
    assert bool((feasible_set.violation(digits(feasible_set.project(X))) > 1e-6).any())
    assert feasible_set.violation(rounded).max() <= 1e-6
    assert rounded.equal(digits(rounded))
    assert rounded[:, 2].equal(rounded[:, 2].round())
    assert (rounded - X).abs()[:, :2].max() < 0.5  # not anywhere, but close by


def test_no_rounding_is_feasible() -> None:
    constraint = [at_most([1.0, 0.0, 0.0], 0.57), at_most([-1.0, 0.0, 0.0], -0.53)]
    feasible_set = FeasibleSet(BOUNDS, inequality_constraints=constraint)
    rounding = AxRounding(feasible_set, {}, [], digits)
    with pytest.raises(InfeasibilityError, match="to the `digits` of its parameters"):
        rounding(torch.tensor([[0.55, 0.2, 2.0]]).double())


@pytest.mark.parametrize("constraints", [[], ["x + z <= 0.85", "x - 2*z <= 0.33"]])
@pytest.mark.filterwarnings("ignore:.* found no design of their own")
def test_in_ax(constraints: list[str], quick: dict[str, Any]) -> None:
    """Candidates that differ before rounding only are replaced."""
    rng = np.random.default_rng(1)
    df = pd.DataFrame(rng.uniform(size=(60, 2)).round(1), columns=["x", "z"]).drop_duplicates()
    experiment = offline_experiment(
        df.assign(y=df["x"] + 0.3 * df["z"]),
        [
            RangeParameterConfig(name=name, bounds=(0.0, 1.0), parameter_type="float")
            for name in "xz"
        ],
        "y",
        parameter_constraints=constraints,
    )
    for name in "xz":
        parameter = experiment.search_space.parameters[name]
        assert isinstance(parameter, RangeParameter)
        parameter.set_digits(1)
    (run,) = roma_generation_strategy(**quick).gen(experiment, n=6)[0]
    arms = pd.DataFrame([arm.parameters for arm in run.arms])
    assert len(arms.drop_duplicates()) == 6
    assert (arms == arms.round(1)).all().all()
    if constraints:
        assert (arms["x"] + arms["z"] <= 0.85).all()
        assert (arms["x"] - 2 * arms["z"] <= 0.33).all()

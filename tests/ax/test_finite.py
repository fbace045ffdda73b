"""Finite search spaces, down to the last design."""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

pytest.importorskip("ax")

from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.experiment import Experiment
from ax.core.observation import ObservationFeatures
from ax.exceptions.core import SearchSpaceExhausted
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import CandidateGenerationError

import botorch_roma.ax.acquisition as acquisition_module
import botorch_roma.ax.finite as finite_module
from botorch_roma.ax import offline_experiment, roma_generation_strategy
from botorch_roma.ax.finite import check_not_exhausted
from botorch_roma.optim.constraints import FeasibleSet

BOUNDS = torch.tensor([[0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 1.0, 1.0]]).double()
CHOICES = {0: [0.0, 1.0, 2.0, 3.0]}
GROUPS = [[1, 2, 3]]


def rows(*values: tuple[int, int]) -> Tensor:
    """Designs of a number and the place of a letter."""
    X = torch.zeros(len(values), 4, dtype=torch.double)
    for x, (i, j) in zip(X, values, strict=True):
        x[0], x[1 + j] = i, 1.0
    return X


def left(n: int, avoid: Tensor, **options: Any) -> Tensor | None:
    return check_not_exhausted(n, avoid, CHOICES, GROUPS, FeasibleSet(BOUNDS, **options))


def test_designs_that_are_left() -> None:
    known = rows((0, 0), (1, 1), (1, 1), (3, 2))
    designs = left(9, known)
    assert designs is not None
    assert len(designs) == 9
    assert len(torch.cat([designs, known]).unique(dim=0)) == 12
    with pytest.raises(SearchSpaceExhausted, match=r"10 new designs .* of the 12 .* 3 are already"):
        left(10, known)


def test_known_designs_outside_of_the_search_space_do_not_count() -> None:
    outside = rows((7, 0), (8, 1), (9, 2))
    designs = left(12, outside)
    assert designs is not None
    assert len(designs) == 12


def test_fixed_inputs() -> None:
    known = rows((0, 0), (2, 0), (2, 1))
    designs = left(1, known, fixed_features={0: 2.0})
    assert designs is not None
    assert designs.equal(rows((2, 2)))
    with pytest.raises(SearchSpaceExhausted, match=r"2 new designs .* of the 3 .* 2 are already"):
        left(2, known, fixed_features={0: 2.0})
    fixed = {1: 0.0, 2: 1.0, 3: 0.0}
    designs = left(3, known, fixed_features=fixed)
    assert designs is not None
    assert sorted(designs[:, 0].tolist()) == [0.0, 1.0, 3.0]


def test_constraints() -> None:
    constraint = [(torch.tensor([0]), torch.tensor([-1.0]).double(), -1.0)]  # i <= 1
    known = rows((0, 0), (3, 0))
    designs = left(5, known, inequality_constraints=constraint)
    assert designs is not None
    assert designs[:, 0].max() == 1.0
    with pytest.raises(SearchSpaceExhausted, match=r"of the 6 designs .* 1 are already"):
        left(6, known, inequality_constraints=constraint)


def test_continuous_inputs() -> None:
    assert check_not_exhausted(99, rows((0, 0)), {}, GROUPS, FeasibleSet(BOUNDS)) is None


def test_too_many_to_be_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite_module, "MAX_ENUMERATED", 11)
    known = rows((0, 0), (1, 1), (7, 0))
    assert left(10, known) is None
    with pytest.raises(SearchSpaceExhausted, match=r"11 new designs .* of the 12 .* 2 are already"):
        left(11, known)


# In Ax


def finite(rows: int) -> Experiment:
    """Rows of a search space of 12 designs, and one row outside of it."""
    df = pd.DataFrame([(i, j) for i in range(4) for j in "abc"], columns=["i", "j"])
    df = pd.concat([df.sample(rows, random_state=1), pd.DataFrame({"i": [9], "j": ["a"]})])
    df["y"] = df["i"] + (df["j"] == "b")
    return offline_experiment(
        df,
        [
            RangeParameterConfig(name="i", bounds=(0, 3), parameter_type="int"),
            ChoiceParameterConfig(
                name="j", values=list("abc"), parameter_type="str", is_ordered=False
            ),
        ],
        "y",
    )


def generate(experiment: Experiment, quick: dict[str, Any], n: int, **options: Any) -> set[str]:
    (run,) = roma_generation_strategy(**quick).gen(experiment, n=n, **options)[0]
    assert not [arm for arm in run.arms if arm.signature in experiment.arms_by_signature]
    return {arm.signature for arm in run.arms}


@pytest.mark.filterwarnings("ignore:Rows of `df` lie out of the range")
@pytest.mark.filterwarnings("ignore:.* found no design of their own")
def test_the_last_designs(quick: dict[str, Any]) -> None:
    assert len(generate(finite(rows=8), quick, n=4)) == 4


def test_the_last_designs_are_out_of_reach(
    quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the best of them are returned."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise CandidateGenerationError("out of reach")

    monkeypatch.setattr(acquisition_module, "optimize_acqf_roma", fail)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(generate(finite(rows=8), quick, n=3)) == 3
    (message,) = [str(w.message) for w in caught if w.category is OptimizationWarning]
    assert "reached fewer than 3 new designs" in message
    assert "best of the 4 that are left" in message


@pytest.mark.filterwarnings("ignore:Rows of `df` lie out of the range")
@pytest.mark.parametrize("fixed", [None, {"j": "b"}, {"i": 1}])
def test_exhausted_search_space(quick: dict[str, Any], fixed: dict[str, Any] | None) -> None:
    n = 5 if fixed is None else 4
    features = None if fixed is None else ObservationFeatures(parameters=fixed)
    with pytest.raises(SearchSpaceExhausted, match=f"{n} new designs were requested"):
        generate(finite(rows=8), quick, n=n, fixed_features=features)

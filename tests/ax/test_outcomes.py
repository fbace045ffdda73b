"""Objective thresholds and rows that lack a metric."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

pytest.importorskip("ax")

from ax.core.experiment import Experiment
from ax.exceptions.core import UnsupportedError
from botorch.acquisition import qLogExpectedImprovement
from botorch.utils.datasets import SupervisedDataset

from botorch_roma.ax import offline_experiment, roma_generation_strategy
from botorch_roma.ax.outcomes import complete_surrogate, measured_thresholds

NAN = float("nan")


def surrogate(*columns: list[float]) -> Any:
    """Of one row per number, NaN where the metric is missing."""
    datasets = []
    for j, values in enumerate(columns):
        Y = torch.tensor(values).double().unsqueeze(-1)
        X = torch.arange(len(Y)).double().unsqueeze(-1)
        known = ~Y.isnan().squeeze(-1)
        dataset = SupervisedDataset(
            X[known], Y[known], feature_names=["x"], outcome_names=[f"m{j}"]
        )
        datasets.append(dataset)
    names = [f"m{j}" for j in range(len(columns))]
    return SimpleNamespace(training_data=datasets, _training_data=datasets, outcomes=names)


def config(weights: list[list[float]], limits: Any = None) -> Any:
    constraints = None
    if limits is not None:
        constraints = torch.tensor(limits[0]).double(), torch.tensor(limits[1]).double()
    return SimpleNamespace(
        objective_weights=torch.tensor(weights).double(), outcome_constraints=constraints
    )


def test_rows_with_all_metrics() -> None:
    whole = surrogate([1.0, NAN, 3.0, 4.0], [5.0, 6.0, NAN, 8.0])
    a, b = complete_surrogate(whole)._training_data
    assert a.X.equal(b.X)
    assert a.X.flatten().tolist() == [0.0, 3.0]
    assert (a.Y.flatten().tolist(), b.Y.flatten().tolist()) == ([1.0, 4.0], [5.0, 8.0])
    assert len(whole.training_data[0].X) == 3  # left as it was


def test_no_row_with_all_metrics() -> None:
    with pytest.raises(UnsupportedError, match=r"No row .* metrics \['m0', 'm1'\].*; measure some"):
        complete_surrogate(surrogate([1.0, NAN], [NAN, 6.0]))


def thresholds(*args: Any, given: Tensor | None = None) -> list[float]:
    return measured_thresholds(*args, given).tolist()


def test_thresholds_are_below_the_measured_front() -> None:
    whole = surrogate([0.0, 1.0, 2.0, -9.0], [2.0, 1.0, 0.0, -9.0], [0.0, 0.0, 5.0, 0.0])
    objectives = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    # nadir (0, 0) of a front that spans 2, less a tenth of that
    assert thresholds(whole, config(objectives)) == pytest.approx([-0.2, -0.2])
    minimised = [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert thresholds(whole, config(minimised)) == pytest.approx([-0.9, -10.1])
    # of feasible rows, where there are some, and of all rows otherwise
    limits = [[0.0, 0.0, 1.0]], [[1.0]]
    assert thresholds(whole, config(objectives, limits)) == pytest.approx([-0.1, 0.9])
    limits = [[0.0, 0.0, 1.0]], [[-1.0]]
    assert thresholds(whole, config(objectives, limits)) == pytest.approx([-0.2, -0.2])


def test_given_thresholds_are_kept() -> None:
    whole = surrogate([0.0, 1.0, 2.0], [2.0, 1.0, 0.0])
    given = torch.tensor([0.5, NAN]).double()
    result = thresholds(whole, config([[1.0, 0.0], [0.0, 1.0]]), given=given)
    assert result[0] == 0.5
    assert result[1] < 1.0


# In Ax


def generate(experiment: Experiment, quick: dict[str, Any], **options: Any) -> pd.DataFrame:
    (run,) = roma_generation_strategy(**quick, **options).gen(experiment, n=6)[0]
    arms = pd.DataFrame([arm.parameters for arm in run.arms])
    assert len(arms.drop_duplicates()) == 6
    return arms


@pytest.mark.parametrize("limit", [0.5, -1.0])
def test_no_design_is_predicted_to_be_feasible(
    limit: float, quick: dict[str, Any], table: pd.DataFrame
) -> None:
    df = table[["x", "k", "y", "cost"]].assign(tox=lambda d: d["k"] / 8 - d["x"])
    experiment = offline_experiment(
        df, objective="y, tox", outcome_constraints=[f"cost <= {limit}"]
    )
    generate(experiment, {**quick, "fit_options": {"epochs": 1}})


@pytest.mark.parametrize(
    ("objective", "options"),
    [("y, -cost", {}), ("0.3*y - cost", {"botorch_acqf_class": qLogExpectedImprovement})],
)
def test_partly_measured_metrics(
    objective: str, options: dict[str, Any], quick: dict[str, Any], table: pd.DataFrame
) -> None:
    df = table[["x", "k", "y", "cost"]].copy()
    df.loc[df.index % 2 == 0, "cost"] = np.nan
    generate(offline_experiment(df, objective=objective), quick, **options)

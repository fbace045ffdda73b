from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.core.data_utils import DataLoaderConfig, extract_experiment_data
from ax.core.experiment import Experiment
from hypothesis import given, settings
from hypothesis import strategies as st

from botorch_roma.ax import OfflineSubset, attach_offline_data, offline_experiment


def subset(experiment: Experiment, max_rows: int, seed: int = 0, config: Any = True) -> Any:
    adapter = SimpleNamespace(
        _optimization_config=experiment.optimization_config if config else None,
        _experiment=experiment,
    )
    data = extract_experiment_data(experiment, DataLoaderConfig())
    options = {"max_rows": max_rows, "seed": seed}
    transform = OfflineSubset(adapter=adapter, config=options)
    return transform.transform_experiment_data(data)


def make(table: pd.DataFrame, objective: str) -> Experiment:
    return offline_experiment(table[["x", "k", "y"]], objective=objective)


def test_few_rows_are_left_alone(table: pd.DataFrame) -> None:
    assert len(subset(make(table, "y"), 120).arm_data) == 120


@pytest.mark.parametrize(("objective", "ascending"), [("y", False), ("-y", True)])
def test_the_best_and_a_sample(objective: str, ascending: bool, table: pd.DataFrame) -> None:
    data = subset(make(table, objective), 40)
    assert len(data.arm_data) == len(data.observation_data) == 40
    kept = data.observation_data["mean"]["y"]
    best = table["y"].sort_values(ascending=ascending)
    assert set(best[:20]) <= set(kept)
    others = set(kept) - set(best[:20])
    assert others < set(best[20:])
    assert others != set(best[20:40])
    again, differently = subset(make(table, objective), 40), subset(make(table, objective), 40, 1)
    assert again.arm_data.index.equals(data.arm_data.index)
    assert not differently.arm_data.index.equals(data.arm_data.index)


def test_new_trials_come_first(table: pd.DataFrame) -> None:
    experiment = make(table, "y")
    worst = table[["x", "k"]].head(10).assign(y=-100.0, x=lambda d: d["x"] / 2)
    attach_offline_data(experiment, worst)
    data = subset(experiment, 40)
    assert (data.arm_data.index.get_level_values(0) == 1).sum() == 10
    many = subset(experiment, 12)
    assert (many.arm_data.index.get_level_values(0) == 1).sum() == 6


def test_the_newest_of_several_trials(table: pd.DataFrame) -> None:
    experiment = make(table, "y")
    for shift in (2, 3):
        attach_offline_data(
            experiment, table[["x", "k"]].head(8).assign(y=-100.0, x=lambda d, s=shift: d["x"] / s)
        )
    trials = subset(experiment, 20).arm_data.index.get_level_values(0)
    assert (trials == 2).sum() == 8
    assert (trials == 1).sum() == 2


def test_rows_without_the_objective_are_not_good(table: pd.DataFrame) -> None:
    df = table[["x", "k", "y", "cost"]].copy()
    unmeasured = df["cost"].nlargest(40).index
    df.loc[unmeasured, "y"] = np.nan
    experiment = offline_experiment(df, objective="y", outcome_constraints=["cost <= 1"])
    kept = subset(experiment, 40).observation_data["mean"]["y"]
    assert set(df["y"].nlargest(20)) <= set(kept)


@pytest.mark.filterwarnings("ignore:Rows of `df` lie out of the range")
def test_the_status_quo_stays(table: pd.DataFrame) -> None:
    worst = table.loc[table["y"].idxmin()]
    experiment = offline_experiment(
        table[["x", "k", "y"]],
        objective="y",
        status_quo={"x": float(worst["x"]), "k": int(worst["k"])},
    )
    new = table[["x", "k"]].head(30).assign(y=-100.0, x=lambda d: d["x"] / 2)
    attach_offline_data(experiment, new)
    for seed in range(3):
        data = subset(experiment, 10, seed)
        assert len(data.arm_data) == 10
        assert "status_quo" in data.arm_data.index.get_level_values(1)
        assert (data.arm_data.index.get_level_values(0) == 1).sum() >= 4


def test_without_an_objective(table: pd.DataFrame) -> None:
    data = subset(make(table, "y"), 30, config=False)
    assert len(data.arm_data) == 30


def test_several_objectives(table: pd.DataFrame) -> None:
    experiment = offline_experiment(table[["x", "k", "y", "cost"]], objective="y, -cost")
    data = subset(experiment, 40)
    metrics = table[["y", "cost"]]
    unit = (metrics - metrics.mean()) / metrics.std()
    best = table.loc[(unit["y"] - unit["cost"]).nlargest(20).index, "y"]
    assert set(best) <= set(data.observation_data["mean"]["y"])
    assert np.isfinite(data.observation_data["mean"]).all().all()


@settings(max_examples=12)
@given(
    y=st.lists(st.integers(-9, 9), min_size=2, max_size=15),
    max_rows=st.integers(1, 17),
    minimize=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_table(y: list[int], max_rows: int, minimize: bool, seed: int) -> None:
    """Rows of the table, as many as fit, the best half among them; the same for the same seed."""
    n, table = len(y), pd.DataFrame({"x": np.arange(len(y)) / 4, "y": np.array(y, dtype=float)})
    experiment = offline_experiment(table, objective="-y" if minimize else "y")
    data, again = subset(experiment, max_rows, seed), subset(experiment, max_rows, seed)
    assert len(data.arm_data) == len(data.observation_data) == min(n, max_rows)
    assert again.arm_data.equals(data.arm_data)
    rows = data.arm_data["x"].droplevel(0).mul(4).astype(int)
    assert rows.is_unique
    kept = data.observation_data["mean"]["y"].droplevel(0)
    assert kept.to_dict() == {arm: y[row] for arm, row in rows.items()}
    best = sorted(y, reverse=not minimize)[: (max_rows + 1) // 2]
    assert sorted(kept.tolist(), reverse=not minimize)[: len(best)] == best

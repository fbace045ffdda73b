from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.core.data_utils import DataLoaderConfig, extract_experiment_data
from ax.core.experiment import Experiment

from botorch_roma.ax import OfflineSubset, attach_offline_data, offline_experiment


def subset(experiment: Experiment, max_rows: int, seed: int = 0, config: Any = True) -> Any:
    adapter = SimpleNamespace(
        _optimization_config=experiment.optimization_config if config else None
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

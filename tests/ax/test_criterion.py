from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from botorch_roma.ax import MinResults, attach_offline_data, offline_experiment


def node(*trials: int) -> Any:
    return SimpleNamespace(trials_from_node=set(trials))


def test_counts_measured_arms_of_the_node(table: pd.DataFrame) -> None:
    df = table[["x", "k", "y", "cost"]]
    experiment = offline_experiment(df, objective="y", outcome_constraints=["cost <= 1"])
    more = df.head(6).assign(x=lambda d: d["x"] / 2)
    more.loc[:1, "cost"] = np.nan  # half measured
    attach_offline_data(experiment, more)
    criterion = MinResults(threshold=4, transition_to="GP")
    assert criterion.num_results(experiment, node(1)) == 4
    assert criterion.is_met(experiment, node(1))
    assert not MinResults(5, "GP").is_met(experiment, node(1))
    assert not criterion.is_met(experiment, node())


def test_pending_arms_do_not_count(table: pd.DataFrame) -> None:
    experiment = offline_experiment(table[["x", "k", "y"]], objective="y")
    trial = experiment.new_batch_trial()
    trial.add_arm(experiment.arms_by_name["0_0"].clone(clear_name=True))
    trial.mark_running(no_runner_required=True)
    assert MinResults(1, "GP").num_results(experiment, node(trial.index)) == 0

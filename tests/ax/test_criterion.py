from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.core.arm import Arm
from ax.core.data import Data
from ax.storage.json_store.decoder import object_from_json
from ax.storage.json_store.encoder import object_to_json
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_other_metrics_do_not_count(table: pd.DataFrame) -> None:
    client = Client()
    client.set_experiment(offline_experiment(table[["x", "k", "y"]], objective="y"))
    client.configure_tracking_metrics(["cost"])
    more = table[["x", "k", "y", "cost"]].head(3).assign(x=lambda d: d["x"] / 2)
    attach_offline_data(client, more)
    assert MinResults(1, "GP").num_results(client._experiment, node(1)) == 3


def test_failed_measurements_do_not_count(table: pd.DataFrame) -> None:
    experiment = offline_experiment(table[["x", "k", "y"]], objective="y")
    trial = experiment.new_batch_trial()
    trial.add_arms_and_weights([Arm({"x": 0.5, "k": k}) for k in (1, 2, 3)])
    trial.mark_running(no_runner_required=True)
    data = {
        "trial_index": 1,
        "arm_name": [arm.name for arm in trial.arms],
        "metric_name": "y",
        "metric_signature": "y",
        "mean": [np.nan, 1.0, np.nan],
        "sem": np.nan,
    }
    experiment.attach_data(Data(df=pd.DataFrame(data)))
    assert MinResults(1, "GP").num_results(experiment, node(1)) == 1


def test_results_that_come_as_a_table(table: pd.DataFrame) -> None:
    """They are in a trial of their own; the arms are those of the node."""
    experiment = offline_experiment(table[["x", "k", "y"]], objective="y")
    trial = experiment.new_batch_trial()
    trial.add_arms_and_weights([Arm({"x": 0.5, "k": k}) for k in (1, 2, 3)])
    trial.mark_running(no_runner_required=True)
    rows = pd.DataFrame([arm.parameters for arm in trial.arms[:2]]).assign(y=1.0)
    attach_offline_data(experiment, rows)
    assert MinResults(1, "GP").num_results(experiment, node(1)) == 2


def test_pending_arms_do_not_count(table: pd.DataFrame) -> None:
    experiment = offline_experiment(table[["x", "k", "y"]], objective="y")
    trial = experiment.new_batch_trial()
    trial.add_arm(experiment.arms_by_name["0_0"].clone(clear_name=True))
    trial.mark_running(no_runner_required=True)
    assert MinResults(1, "GP").num_results(experiment, node(trial.index)) == 0


@settings(max_examples=8)
@given(
    measured=st.lists(st.booleans(), min_size=1, max_size=6),
    threshold=st.integers(1, 7),
    split=st.booleans(),
)
def test_any_results(measured: list[bool], threshold: int, split: bool) -> None:
    """It counts measured arms, in one trial or in several, and is the same after it was stored."""
    known = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "cost": [2.0, 3.0]})
    experiment = offline_experiment(known, objective="y", outcome_constraints=["cost <= 3"])
    new = pd.DataFrame({"x": np.linspace(0.1, 0.9, len(measured)), "y": 1.0, "cost": 1.0})
    new.loc[~np.array(measured), "cost"] = np.nan
    trials = [attach_offline_data(experiment, new[::2])]
    if split and len(new) > 1:
        trials.append(attach_offline_data(experiment, new[1::2]))
    count = sum(measured if len(trials) == 2 else measured[::2])
    criterion = MinResults(threshold, "GP")
    for each in (criterion, object_from_json(object_to_json(criterion))):
        assert isinstance(each, MinResults)
        assert each.num_results(experiment, node(*(t.index for t in trials))) == count
        assert each.is_met(experiment, node(*(t.index for t in trials))) == (count >= threshold)
        assert not each.is_met(experiment, node())

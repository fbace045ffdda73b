"""Nodes that say what they lack, and never repeat a design."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.arm import Arm
from ax.core.base_trial import TrialStatus
from ax.core.experiment import Experiment
from ax.core.observation import ObservationFeatures
from ax.core.parameter import FixedParameter, ParameterType, RangeParameter
from ax.exceptions.core import DataRequiredError, UnsupportedError
from ax.storage.json_store.decoder import object_from_json
from ax.storage.json_store.encoder import object_to_json

from botorch_roma.ax import (
    OfflineNode,
    RoMAAcquisition,
    attach_offline_data,
    gp_generation_strategy,
    offline_experiment,
    roma_generation_strategy,
)
from botorch_roma.ax.node import checked_fixed_features


def signatures(experiment: Experiment, quick: dict[str, Any], n: int = 3) -> set[str]:
    (run,) = roma_generation_strategy(**quick).gen(experiment, n=n)[0]
    return {arm.signature for arm in run.arms}


@pytest.fixture
def experiment(table: pd.DataFrame) -> Experiment:
    return offline_experiment(table[["x", "k", "kind", "y"]], objective="y")


# New to the experiment


@pytest.mark.parametrize(
    "status", [TrialStatus.FAILED, TrialStatus.EARLY_STOPPED, TrialStatus.ABANDONED]
)
def test_ended_trials_do_not_come_again(
    status: TrialStatus, experiment: Experiment, quick: dict[str, Any]
) -> None:
    trial = experiment.new_batch_trial(roma_generation_strategy(**quick).gen(experiment, n=3)[0][0])
    trial.mark_running(no_runner_required=True)
    trial.mark_as(status, **({"unsafe": True} if status.is_early_stopped else {}))
    assert trial.status == status
    ended = {arm.signature for arm in trial.arms}
    assert not ended & signatures(experiment, quick)
    # the next starts are those after them, as with pending trials
    (run,) = roma_generation_strategy(**quick).gen(experiment, n=3)[0]
    (both,) = roma_generation_strategy(**quick).gen(offline_again(experiment), n=6)[0]
    assert rounded(both.arms) == rounded([*trial.arms, *run.arms])


def rounded(arms: list[Arm]) -> set[tuple[Any, ...]]:
    """Three designs are not computed in the same order of sums as six."""
    return {(round(a.parameters["x"], 9), a.parameters["k"], a.parameters["kind"]) for a in arms}


def offline_again(experiment: Experiment) -> Experiment:
    """The same table alone."""
    new = Experiment(
        search_space=experiment.search_space, optimization_config=experiment.optimization_config
    )
    rows = [arm.parameters for arm in experiment.trials[0].arms]
    df = experiment.lookup_data(trial_indices=[0]).df
    attach_offline_data(new, pd.DataFrame(rows).assign(y=df["mean"].to_numpy()))
    return new


def test_failed_trials_out_of_the_search_space(
    experiment: Experiment, quick: dict[str, Any]
) -> None:
    trial = experiment.new_batch_trial()
    trial.add_arm(Arm({"x": 7.0, "k": 3, "kind": "a"}))
    trial.mark_running(no_runner_required=True).mark_failed()
    assert len(signatures(experiment, quick)) == 3


# What is missing or unfit is named


def client_of(table: pd.DataFrame, quick: dict[str, Any], **options: Any) -> Client:
    client = Client()
    client.configure_experiment(
        parameters=[
            RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float"),
            RangeParameterConfig(name="k", bounds=(1, 8), parameter_type="int"),
        ]
    )
    client.configure_optimization(**{"objective": "y", **options})
    client.set_generation_strategy(roma_generation_strategy(**quick))
    return client


def test_no_data(table: pd.DataFrame, quick: dict[str, Any]) -> None:
    client = client_of(table, quick)
    with pytest.raises(DataRequiredError, match=r"has no data, .* attach a table with"):
        client.get_next_trials(max_trials=1)
    with pytest.raises(DataRequiredError, match="has no data"):
        gp_generation_strategy().gen(client._experiment, n=1)


def test_relative_constraints_without_a_status_quo(
    table: pd.DataFrame, quick: dict[str, Any]
) -> None:
    client = client_of(table, quick, outcome_constraints=["cost <= 1.1*baseline"])
    attach_offline_data(client, table)
    with pytest.raises(DataRequiredError, match=r"pass `status_quo` .* or call .*attach_baseline"):
        client.get_next_trials(max_trials=1)
    index = client.attach_baseline({"x": 0.5, "k": 4})
    with pytest.raises(DataRequiredError, match="no trial has all metrics of a status quo"):
        client.get_next_trials(max_trials=1)
    client.complete_trial(index, {"y": 0.5, "cost": 1.0})
    client.get_next_trials(max_trials=1)


@pytest.mark.filterwarnings("ignore:A not p.d.", "ignore:When all training points are infeasible")
def test_relative_constraints_refer_to_the_measured_status_quo(
    table: pd.DataFrame, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = RoMAAcquisition.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append((kwargs["surrogate"].outcomes, kwargs["torch_opt_config"].outcome_constraints))
        original(self, *args, **kwargs)

    monkeypatch.setattr(RoMAAcquisition, "__init__", init)
    df = table[["x", "k", "y", "cost"]]
    row = df.nsmallest(9, "cost").iloc[-1]
    experiment = offline_experiment(
        df,
        objective="y",
        outcome_constraints=["cost <= 1.1*baseline"],
        status_quo={"x": float(row["x"]), "k": int(row["k"])},
    )
    signatures(experiment, quick)
    ((names, (A, b)),) = seen
    assert A[0, names.index("cost")] == 1.0
    limit = (1.1 * row["cost"] - df["cost"].mean()) / df["cost"].std()
    assert b.item() == pytest.approx(limit, rel=0.02)
    gp = gp_generation_strategy(max_gp_rows=5)  # which leaves it the status quo, too
    gp.gen(experiment, n=1)
    assert gp.adapter.status_quo.arm_name == "status_quo"
    config = gp._nodes[0].generator_specs[0].generator_kwargs["transform_configs"]
    assert config["Derelativize"] == {"use_raw_status_quo": True}


def test_hierarchical_search_spaces(table: pd.DataFrame, quick: dict[str, Any]) -> None:
    client = Client()
    client.configure_experiment(
        parameters=[
            ChoiceParameterConfig(
                name="model",
                values=["linear", "tree"],
                parameter_type="str",
                dependent_parameters={"linear": ["x"], "tree": ["k"]},
            ),
            RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float"),
            RangeParameterConfig(name="k", bounds=(1, 8), parameter_type="int"),
        ]
    )
    client.configure_optimization(objective="y")
    df = table[["x", "k", "y"]].assign(model=["linear", "tree"] * 60)
    with pytest.raises(UnsupportedError, match=r"hierarchical search spaces: \['model'\]"):
        attach_offline_data(client, df)
    assert not client._experiment.trials
    client.set_generation_strategy(roma_generation_strategy(**quick))
    with pytest.raises(UnsupportedError, match=r"hierarchical search spaces: \['model'\]"):
        client.get_next_trials(max_trials=1)


def test_too_many_integers(table: pd.DataFrame, quick: dict[str, Any]) -> None:
    client = Client()
    client.configure_experiment(
        parameters=[RangeParameterConfig(name="x", bounds=(0, 10**15), parameter_type="int")]
    )
    client.configure_optimization(objective="y")
    attach_offline_data(client, pd.DataFrame({"x": np.arange(20) * 10**12, "y": np.arange(20.0)}))
    client.set_generation_strategy(roma_generation_strategy(**quick))
    with pytest.raises(UnsupportedError, match="'x' has 1000000000000001 integer values"):
        client.get_next_trials(max_trials=1)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"z": 1}, r"names 'z'; the parameters are \['x', 'k', 'kind'\]"),
        ({"kind": "q"}, r"sets 'kind' to 'q', which is not one of \['a', 'b', 'c'\]"),
        ({"k": 20}, r"sets 'k' to 20, which is not an integer within \[1, 8\]"),
        ({"k": 2.5}, r"sets 'k' to 2.5, which is not an integer"),
        ({"x": -0.1}, r"sets 'x' to -0.1, which is not a number within \[0\."),
        ({"x": "low"}, r"sets 'x' to 'low', which is not a number"),
    ],
)
def test_fixed_features(
    fixed: dict[str, Any], message: str, experiment: Experiment, quick: dict[str, Any]
) -> None:
    features = ObservationFeatures(parameters=fixed)
    with pytest.raises(ValueError, match=f"^`fixed_features` {message}"):
        roma_generation_strategy(**quick).gen(experiment, n=1, fixed_features=features)


def test_fixed_features_on_a_grid(quick: dict[str, Any]) -> None:
    """5.0 is meant where Ax's grid of -5 to 5 by 0.1 ends at 4.9999999999999645."""
    client = Client()
    p = RangeParameterConfig("p", (-5.0, 5.0), parameter_type="float", step_size=0.1)
    x = RangeParameterConfig("x", (0.0, 1.0), parameter_type="float")
    client.configure_experiment(parameters=[p, x])
    client.configure_optimization(objective="y")
    y = np.arange(20.0)
    attach_offline_data(client, pd.DataFrame({"p": y % 5 - 2, "x": y / 20.0, "y": y}))
    features = ObservationFeatures(parameters={"p": 5.0})
    strategy = roma_generation_strategy(**quick)
    ((run,),) = strategy.gen(client._experiment, n=2, fixed_features=features)
    last = client._experiment.search_space.parameters["p"].values[-1]
    assert last != 5.0
    assert [arm.parameters["p"] for arm in run.arms] == [last] * 2
    assert features.parameters == {"p": 5.0}


def test_fixed_parameters_stay_fixed(experiment: Experiment) -> None:
    space = experiment.search_space.clone()
    space.add_parameter(FixedParameter("site", ParameterType.INT, 3))
    space.add_parameter(RangeParameter("t", ParameterType.FLOAT, 0.0, 1.0))
    features = ObservationFeatures({"site": 3, "t": 1, "k": 8, "kind": "a"})
    assert checked_fixed_features(space, features) == features
    with pytest.raises(ValueError, match="'site' to 4, which is not its fixed value 3"):
        checked_fixed_features(space, ObservationFeatures({"site": 4}))


# Storage


@pytest.mark.parametrize("variant", ["roma", "roma_then_gp", "roma_and_gp"])
def test_json(variant: Any) -> None:
    nodes = roma_generation_strategy(variant)._nodes
    text = json.dumps(object_to_json(nodes))
    loaded = object_from_json(json.loads(text))
    assert [type(node) for node in loaded] == [OfflineNode] * len(nodes)
    for node, original in zip(loaded, nodes, strict=True):
        assert node.fallback_specs == {}
        assert node.should_deduplicate
        assert node == original

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.api.configs import (
    ChoiceParameterConfig,
    DerivedParameterConfig,
    RangeParameterConfig,
)
from ax.core.arm import Arm
from ax.core.experiment import Experiment
from ax.core.parameter import FixedParameter, ParameterType
from ax.exceptions.core import UserInputError
from ax.storage.json_store.decoder import object_from_json
from ax.storage.json_store.encoder import object_to_json
from botorch.exceptions import InputDataError
from botorch.exceptions.warnings import InputDataWarning
from hypothesis import given, settings
from hypothesis import strategies as st

from botorch_roma.ax import attach_offline_data, offline_experiment, roma_generation_strategy
from botorch_roma.ax.experiment import MeasuredArm

X = RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float")
K = RangeParameterConfig(name="k", bounds=(1, 8), parameter_type="int")


def configured(**options: Any) -> Client:
    client = Client()
    client.configure_experiment(parameters=[X, K])
    client.configure_optimization(**{"objective": "y", **options})
    return client


def test_arms_and_data_are_the_rows(table: pd.DataFrame) -> None:
    experiment = offline_experiment(table, objective="y", outcome_constraints=["cost <= 1"])
    (trial,) = experiment.trials.values()
    assert trial.status.is_completed
    arms = pd.DataFrame([arm.parameters for arm in trial.arms])
    columns = ["x", "k", "level", "kind", "flag", "size"]
    pd.testing.assert_frame_equal(arms[columns], table[columns])
    data = experiment.lookup_data().df.pivot(index="arm_name", columns="metric_name", values="mean")
    names = [arm.name for arm in trial.arms]
    np.testing.assert_array_equal(data.loc[names, "y"], table["y"])
    np.testing.assert_array_equal(data.loc[names, "cost"], table["cost"])
    assert isinstance(trial.arms[0].parameters["k"], int)
    assert isinstance(trial.arms[0].parameters["flag"], bool)


def test_signature_is_computed_once(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    (trial,) = offline_experiment(table, objective="y").trials.values()
    arm = trial.arms[3]
    plain = Arm(arm.parameters, arm.name)
    assert arm.signature == plain.signature
    assert arm == plain
    assert plain == arm
    assert hash(arm) == hash(plain)
    assert arm != trial.arms[4]
    assert arm != "0_3"
    assert arm.clone() == arm
    monkeypatch.setattr(Arm, "md5hash", None)
    assert arm.signature == trial.arms[3].signature


def test_stored_as_plain_arms(table: pd.DataFrame) -> None:
    experiment = offline_experiment(table, objective="y")
    text = json.dumps(object_to_json(experiment.trials[0].arms[:2]))
    assert "MeasuredArm" not in text
    assert object_from_json(json.loads(text)) == experiment.trials[0].arms[:2]


def test_a_configured_client(table: pd.DataFrame) -> None:
    client = configured(objective="-cost", outcome_constraints=["y >= 0"])
    attach_offline_data(client, table, sems={"y": "size"})
    data = client._experiment.lookup_data().df
    sems = data[data["metric_name"] == "y"]["sem"].to_numpy()
    np.testing.assert_array_equal(sems, table["size"])
    assert data[data["metric_name"] == "cost"]["sem"].isna().all()


@pytest.mark.parametrize("one_unknown", [False, True])
def test_repeated_designs_are_averaged(one_unknown: bool) -> None:
    df = pd.DataFrame(
        {"x": [0.5, 0.5, 0.1, 0.5], "k": [2, 2, 2, 2], "y": [1.0, 3.0, 7.0, 5.0], "se": 0.3}
    )
    df.loc[2, "se"] = np.nan
    if one_unknown:
        df.loc[3, "se"] = np.nan
    client = configured()
    with pytest.warns(InputDataWarning, match="2 rows of `df` repeat"):
        trial = attach_offline_data(client, df, sems={"y": "se"})
    data = client._experiment.lookup_data().df
    assert len(trial.arms) == 2
    assert data["mean"].tolist() == pytest.approx([3.0, 7.0])
    pooled = np.nan if one_unknown else 0.3 / np.sqrt(3.0)
    assert data["sem"].tolist() == pytest.approx([pooled, np.nan], nan_ok=True)


def test_missing_measurements_are_left_out(table: pd.DataFrame) -> None:
    table.loc[3, "cost"] = np.nan
    client = configured(outcome_constraints=["cost <= 1"])
    attach_offline_data(client, table)
    data = client._experiment.lookup_data().df
    assert data["metric_name"].value_counts().to_dict() == {"y": 120, "cost": 119}


def test_values_outside_of_the_range_are_kept(table: pd.DataFrame) -> None:
    table.loc[0, "x"] = 3.0
    with pytest.warns(InputDataWarning, match=r"out of the range .* \(rows by .*: \{'x': 1\}\)"):
        trial = attach_offline_data(configured(), table)
    assert trial.arms[0].parameters["x"] == 3.0


def grid(low: float, high: float, step: float) -> RangeParameterConfig:
    return RangeParameterConfig("p", (low, high), parameter_type="float", step_size=step)


@pytest.mark.parametrize("bounds", [(0.0, 5.0), (-5.0, 5.0), (20.0, 80.0)])
def test_rows_on_the_grid_of_a_step_size(bounds: tuple[float, float]) -> None:
    """Ax's grid of -5 to 5 by 0.1 ends at 4.9999999999999645, where a table says 5.0."""
    values = np.round(np.linspace(*bounds, round((bounds[1] - bounds[0]) / 0.1) + 1), 1)
    df = pd.DataFrame({"p": values, "y": np.arange(len(values), dtype=float)})
    client = Client()
    client.configure_experiment(parameters=[grid(*bounds, 0.1)])
    client.configure_optimization(objective="y")
    allowed = client._experiment.search_space.parameters["p"].values
    for table in (df, df.astype({"p": np.float32}), df.assign(p=allowed)):
        trial = attach_offline_data(client, table)
        assert [arm.parameters["p"] for arm in trial.arms] == allowed
    assert len(client._experiment.arms_by_name) == len(values)  # the same arms, not new ones
    with pytest.raises(InputDataError, match=r"'p' is 0\.05\d* in row 1, which is not one of"):
        attach_offline_data(client, pd.DataFrame({"p": [bounds[0], 0.05], "y": [1.0, 2.0]}))


@pytest.mark.parametrize(
    ("bounds", "step", "values"),
    [
        ((1.0, 1.3), 0.1, [1.0, 1.1, 1.2, 1.3]),  # Ax's own grid goes on to 1.4
        ((-0.2, 0.2), 0.1, [-0.2, -0.1, 0.0, 0.1, 0.2]),
        ((0, 30), 10, [0, 10, 20, 30]),
    ],
)
def test_grid_of_a_step_size(bounds: Any, step: float, values: list[float]) -> None:
    kind: Any = "int" if isinstance(step, int) else "float"
    parameters = [RangeParameterConfig("p", bounds, parameter_type=kind, step_size=step), X]
    df = pd.DataFrame({"p": values, "x": 0.5, "y": np.arange(len(values))})
    parameter: Any = offline_experiment(df, parameters, "y").search_space.parameters["p"]
    assert parameter.values == values
    assert {type(v).__name__ for v in parameter.values} == {kind}
    assert parameter.is_ordered


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": (0.0, 1.0), "step_size": 0.3}, "evenly divisible by the step size"),
        ({"bounds": (1.0, 2.0), "step_size": 0.5, "scaling": "log"}, "Non-linear parameter scal"),
    ],
)
def test_ax_refuses_a_step_size(options: dict[str, Any], message: str) -> None:
    df = pd.DataFrame({"p": [1.0, 1.0], "y": [1.0, 2.0]})
    with pytest.raises(UserInputError, match=message):
        offline_experiment(df, [RangeParameterConfig("p", parameter_type="float", **options)], "y")


def test_a_second_table(table: pd.DataFrame) -> None:
    client = configured()
    for rows in (table[:100], table[100:]):
        attach_offline_data(client, rows)
    assert [len(t.arms) for t in client._experiment.trials.values()] == [100, 20]


def state(experiment: Experiment) -> dict[int, tuple[str, int]]:
    return {i: (t.status.name, len(t.arms)) for i, t in experiment.trials.items()}


def test_tables_that_overlap(table: pd.DataFrame, quick: dict[str, Any]) -> None:
    client = configured()
    first = attach_offline_data(client, table[:80])
    second = attach_offline_data(client, table[70:].assign(y=lambda d: d["y"] + 0.1))
    assert state(client._experiment) == {0: ("COMPLETED", 80), 1: ("COMPLETED", 50)}
    assert [a.name for a in second.arms[:10]] == [a.name for a in first.arms[70:]]
    assert [a.name for a in second.arms[10:12]] == ["1_0", "1_1"]
    data = client._experiment.lookup_data(trial_indices=[1]).df
    assert data["arm_name"].tolist() == [a.name for a in second.arms]
    np.testing.assert_array_equal(data["mean"], table["y"][70:] + 0.1)
    roma_generation_strategy(**quick).gen(client._experiment, n=2)


def test_results_of_generated_arms_as_a_table(table: pd.DataFrame, quick: dict[str, Any]) -> None:
    client = configured()
    attach_offline_data(client, table)
    client.set_generation_strategy(roma_generation_strategy(**quick))
    trials = client.get_next_trials(max_trials=2)
    trial = attach_offline_data(client, pd.DataFrame(list(trials.values())).assign(y=1.0))
    assert [arm.name for arm in trial.arms] == ["1_0", "2_0"]
    client.mark_trial_abandoned(1)
    again = client.get_next_trials(max_trials=2)
    assert not [p for p in again.values() if p in trials.values()]
    assert len(client._generation_strategy.adapter.generator.surrogate.Xs[0]) == 122


def test_names_that_are_taken(table: pd.DataFrame) -> None:
    client = configured()
    client.attach_baseline({"x": 0.1, "k": 3}, arm_name="1_1")
    trial = attach_offline_data(client, table.head(3))
    assert [arm.name for arm in trial.arms] == ["1_0", "1_2", "1_3"]


def test_nothing_is_attached_on_an_error(table: pd.DataFrame) -> None:
    client = configured()
    attach_offline_data(client, table[:10])
    with pytest.raises(InputDataError, match="must hold finite numbers"):
        attach_offline_data(client, table.assign(y=np.inf))
    assert state(client._experiment) == {0: ("COMPLETED", 10)}


def test_status_quo(table: pd.DataFrame) -> None:
    options: dict[str, Any] = {
        "objective": "y",
        "outcome_constraints": ["cost <= 1.1*baseline"],
    }
    df = table[["x", "k", "y", "cost"]]
    row = {"x": float(df["x"][3]), "k": int(df["k"][3])}
    experiment = offline_experiment(df, status_quo=row, **options)
    assert experiment.status_quo == experiment.trials[0].arms[3]
    assert state(experiment) == {0: ("COMPLETED", 120)}
    with pytest.raises(ValueError, match=r"\['cost <= 1.1\*baseline'\] refer to a baseline; pass"):
        offline_experiment(df, **options)
    with pytest.raises(ValueError, match="`status_quo` must be one of the rows of `df`, received"):
        offline_experiment(df, status_quo={**row, "x": 0.123}, **options)
    with pytest.raises(ValueError, match="`status_quo` must give a value to each of"):
        offline_experiment(df, status_quo={"x": 0.123}, **options)


def test_name(table: pd.DataFrame) -> None:
    assert offline_experiment(table, objective="y", name="mine").name == "mine"


@pytest.mark.parametrize("column", [False, True])
def test_fixed_parameters(column: bool, table: pd.DataFrame) -> None:
    client = configured()
    client._experiment.search_space.add_parameter(FixedParameter("site", ParameterType.INT, 3))
    trial = attach_offline_data(client, table.assign(site=3) if column else table)
    assert [arm.parameters["site"] for arm in trial.arms] == [3] * 120


def test_other_values_of_a_fixed_parameter_are_refused(table: pd.DataFrame) -> None:
    """Ax would drop these rows when it trains."""
    client = configured()
    client._experiment.search_space.add_parameter(FixedParameter("site", ParameterType.INT, 3))
    df = table.assign(site=3)
    df.loc[5, "site"] = 4
    with pytest.raises(InputDataError, match=r"'site' is 4 in row 5, which is not one of \[3\]"):
        attach_offline_data(client, df)
    assert not client._experiment.trials


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows(rows: int, table: pd.DataFrame) -> None:
    with pytest.raises(InputDataError, match=f"at least two measured designs, received {rows}"):
        offline_experiment(table.head(rows), objective="y")


def test_derived_parameters(table: pd.DataFrame) -> None:
    def client() -> Client:
        new = Client()
        rest = DerivedParameterConfig(
            name="rest", expression_str="1.0 - 0.5*x", parameter_type="float"
        )
        new.configure_experiment(parameters=[X, K, rest])
        new.configure_optimization(objective="y")
        return new

    rest = 1.0 - 0.5 * table["x"]
    for df in (table, table.assign(rest=rest), table.assign(rest=rest + 1e-9)):
        trial = attach_offline_data(client(), df)
        computed = [arm.parameters["rest"] for arm in trial.arms]
        np.testing.assert_allclose(computed, rest, rtol=1e-12)
    with pytest.raises(InputDataError, match=r"Derived parameter 'rest' is .* in row 0, but its"):
        attach_offline_data(client(), table.assign(rest=rest + 0.1))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [np.nan, 0.2]}, InputDataError, "'x' has no value in row 'r0'"),
        ({"k": [1.5, 2]}, InputDataError, "'k' is 1.5 in row 'r0', which is not int"),
        ({"x": ["low", 0.2]}, InputDataError, "'x' is 'low' in row 'r0', which is not float"),
        ({"x": [np.inf, 0.2]}, InputDataError, "'x' is inf in row 'r0'"),
        ({"y": ["high", 0.2]}, InputDataError, "'y' of `df` .* received 'high' in row 'r0'"),
        ({"y": [0.1, np.inf]}, InputDataError, "'y' of `df` .* received .*inf.* in row 'r1'"),
        ({"y": [0.1, np.nan]}, InputDataError, r"1 rows of `df` \(the first is 'r1'\)"),
        ({"se": [0.1, -0.2]}, InputDataError, "negative standard error: -0.2"),
    ],
)
def test_bad_values(change: dict[str, Any], error: type[Exception], message: str) -> None:
    df = pd.DataFrame({"x": [0.1, 0.2], "k": [1, 2], "y": [1.0, 2.0], "se": [0.1, 0.1]})
    df = df.assign(**{key: pd.Series(value) for key, value in change.items()})
    df.index = pd.Index(["r0", "r1"])
    client = configured()
    with pytest.raises(error, match=message):
        attach_offline_data(client, df, sems={"y": "se"})
    assert not client._experiment.trials


def test_bad_choice() -> None:
    kind = ChoiceParameterConfig(
        name="kind", values=["a", "b", "c"], parameter_type="str", is_ordered=False
    )
    df = pd.DataFrame({"kind": ["a", "z"], "y": [1.0, 2.0]})
    with pytest.raises(InputDataError, match=r"'kind' is 'z' in row 1, which is not one of \['a'"):
        offline_experiment(df, [kind], "y")


def test_bad_arguments(table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="`objective` must name"):
        offline_experiment(table)
    with pytest.raises(ValueError, match=r"`df` has no columns \['z'\]; it has \['x'"):
        offline_experiment(table, objective="z")
    with pytest.raises(ValueError, match=r"`df` has no columns \['k'\]"):
        attach_offline_data(configured(), table.drop(columns="k"))
    with pytest.raises(ValueError, match=r"`sems` names \['z'\]"):
        attach_offline_data(configured(), table, sems={"z": "size"})
    with pytest.raises(InputDataError, match="`df` has no rows"):
        attach_offline_data(configured(), table[:0])
    with pytest.raises(ValueError, match=r"`parameters` has \['y'\], which are outcomes"):
        offline_experiment(
            table, [X, RangeParameterConfig(name="y", bounds=(-9, 9), parameter_type="float")], "y"
        )
    client = Client()
    client.configure_experiment(parameters=[X, K])
    with pytest.raises(ValueError, match=r"has no metrics, .*`client.configure_optimization"):
        attach_offline_data(client, table)
    assert not client._experiment.trials


#: Rows of a table: two inputs on a grid, so that designs repeat, an outcome and its error.
ROWS = st.lists(
    st.tuples(
        st.integers(0, 3).map(lambda i: i / 4),
        st.integers(1, 2),
        st.none() | st.integers(-8, 8).map(float),
        st.sampled_from([0.5, None]),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.filterwarnings("ignore:.* rows of `df` repeat designs")
@settings(max_examples=15)
@given(rows=ROWS, later=ROWS, client=st.booleans())
def test_any_table(rows: list[Any], later: list[Any], client: bool) -> None:
    """An arm for each distinct design, with the mean of its measurements; no table is changed."""
    made = configured(outcome_constraints=["cost >= 0"])
    target = made if client else made._experiment
    known: dict[tuple[float, int], str] = {}
    for index, values in enumerate((rows, later)):
        df = pd.DataFrame(values, columns=["x", "k", "y", "se"]).astype(float).assign(cost=1.0)
        before = df.copy()
        trial = attach_offline_data(target, df, sems={"y": "se"})
        pd.testing.assert_frame_equal(df, before)
        assert trial.index == index
        assert trial.status.is_completed
        assert all(isinstance(arm, MeasuredArm) for arm in trial.arms)
        names = {(arm.parameters["x"], arm.parameters["k"]): arm.name for arm in trial.arms}
        assert list(names) == list(dict.fromkeys((x, k) for x, k, *_ in values))
        assert {d: n for d, n in names.items() if d in known}.items() <= known.items()
        known |= names
        assert len(set(known.values())) == len(known)
        data = made._experiment.lookup_data(trial_indices=[index]).df
        means = data[data["metric_name"] == "y"].set_index("arm_name")["mean"]
        expected = df.groupby(["x", "k"])["y"].mean().dropna()
        assert means.to_dict() == pytest.approx({names[d]: y for d, y in expected.items()})
        assert (data["metric_name"] == "cost").sum() == len(names)

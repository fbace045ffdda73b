"""Search spaces, constraints, objectives: the arms that come out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.adapter.registry import Generators
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.experiment import Experiment
from ax.core.observation import ObservationFeatures
from ax.core.parameter import ChoiceParameter, FixedParameter, ParameterType, RangeParameter
from ax.exceptions.core import SearchSpaceExhausted, UnsupportedError
from botorch.acquisition import qLogExpectedImprovement, qSimpleRegret, qUpperConfidenceBound
from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement

import botorch_roma.ax.acquisition as acquisition_module
from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.ax import (
    RoMAAcquisition,
    attach_offline_data,
    offline_experiment,
    roma_generation_strategy,
)
from botorch_roma.ax.acquisition import one_hot_groups


def floating(name: str, low: float = 0.0, high: float = 1.0, **options: Any) -> Any:
    return RangeParameterConfig(name=name, bounds=(low, high), parameter_type="float", **options)


def integer(name: str, low: int, high: int, **options: Any) -> Any:
    return RangeParameterConfig(name=name, bounds=(low, high), parameter_type="int", **options)


def choice(name: str, values: list[Any], kind: Any, *, ordered: bool) -> Any:
    return ChoiceParameterConfig(name=name, values=values, parameter_type=kind, is_ordered=ordered)


def arms_of(
    experiment: Experiment, quick: dict[str, Any], n: int = 8, **gen_options: Any
) -> pd.DataFrame:
    """Parameters of ``n`` generated arms, after the checks that hold for all of them."""
    strategy = roma_generation_strategy(**quick)
    (run,) = strategy.gen(experiment, n=n, **gen_options)[0]
    assert len(run.arms) == n
    known = experiment.arms_by_signature
    for arm in run.arms:
        assert experiment.search_space.check_membership(arm.parameters, raise_error=True)
        assert arm.signature not in known
    assert len({arm.signature for arm in run.arms}) == n
    return pd.DataFrame([arm.parameters for arm in run.arms])


def frame(column: str, values: Any, target: Callable[[Any], Any], rows: int = 60) -> pd.DataFrame:
    """One column of interest and one more, so that designs are distinct."""
    rng = np.random.default_rng(0)
    df = pd.DataFrame({column: values(rng, rows), "other": rng.uniform(size=rows)})
    return df.assign(y=[target(v) for v in df[column]] - (df["other"] - 0.5) ** 2)


# Search spaces


def test_float(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: rng.uniform(-3.0, 3.0, n), lambda v: v)
    arms = arms_of(
        offline_experiment(df, [floating("p", -3.0, 3.0), floating("other")], "y"), quick
    )
    assert arms["p"].between(-3.0, 3.0).all()
    assert arms["p"].mean() > df["p"].quantile(0.8)


def test_log_scale(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: 10.0 ** rng.uniform(-6.0, 0.0, n), lambda v: -np.log10(v))
    parameters = [floating("p", 1e-6, 1.0, scaling="log"), floating("other")]
    arms = arms_of(offline_experiment(df, parameters, "y"), quick)
    assert arms["p"].between(1e-6, 1.0).all()
    assert np.log10(arms["p"]).mean() < np.log10(df["p"]).quantile(0.2)


def test_integer(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: rng.integers(1, 10, n), lambda v: 0.1 * v)
    arms = arms_of(offline_experiment(df, [integer("p", 1, 9), floating("other")], "y"), quick)
    assert arms["p"].map(lambda v: isinstance(v, int) and 1 <= v <= 9).all()
    assert arms["p"].mean() > 7


def test_integer_on_a_log_scale(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: 2 ** rng.integers(0, 9, n), lambda v: np.log2(v))
    parameters = [integer("p", 1, 256, scaling="log"), floating("other")]
    arms = arms_of(offline_experiment(df, parameters, "y"), quick)
    assert arms["p"].map(lambda v: isinstance(v, int) and 1 <= v <= 256).all()
    assert arms["p"].median() > 100


def test_step_size(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: rng.integers(0, 5, n) * 0.25, lambda v: v)
    parameters = [floating("p", 0.0, 1.0, step_size=0.25), floating("other")]
    arms = arms_of(offline_experiment(df, parameters, "y"), quick)
    assert set(arms["p"]) <= {0.0, 0.25, 0.5, 0.75, 1.0}


@pytest.mark.filterwarnings("ignore:.* found no design of their own")
def test_digits(quick: dict[str, Any]) -> None:
    """Candidates that differ before rounding only are replaced."""
    df = frame("p", lambda rng, n: rng.uniform(size=n).round(1), lambda v: v)
    experiment = offline_experiment(df, [floating("p"), floating("other")], "y")
    for name in ("p", "other"):
        parameter = experiment.search_space.parameters[name]
        assert isinstance(parameter, RangeParameter)
        parameter.set_digits(1)
    arms = arms_of(experiment, quick)
    assert (arms == arms.round(1)).all().all()


@pytest.mark.parametrize("values", [[1, 5, 25], [0.1, 0.2, 0.9], ["low", "mid", "high"]])
def test_ordered_choice(values: list[Any], quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: [values[i] for i in rng.integers(0, 3, n)], values.index)
    kind = type(values[0]).__name__
    parameters = [choice("p", values, kind, ordered=True), floating("other")]
    arms = arms_of(offline_experiment(df, parameters, "y"), quick)
    assert set(arms["p"]) <= set(values)
    assert (arms["p"] == values[2]).mean() > 0.5
    assert arms["p"].map(lambda v: type(v).__name__ == kind).all()


def test_unordered_choice(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: rng.choice(list("abcd"), n), lambda v: float(v == "b"))
    parameters = [choice("p", list("abcd"), "str", ordered=False), floating("other")]
    arms = arms_of(offline_experiment(df, parameters, "y"), quick)
    assert (arms["p"] == "b").all()


def test_boolean(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: rng.random(n) > 0.5, lambda v: -float(v))
    parameters = [choice("p", [False, True], "bool", ordered=True), floating("other")]
    arms = arms_of(offline_experiment(df, parameters, "y"), quick)
    assert arms["p"].map(lambda v: v is False).all()


def test_fixed_parameter(quick: dict[str, Any], table: pd.DataFrame) -> None:
    df = table[["x", "k", "y"]].assign(site=3)
    experiment = offline_experiment(df.drop(columns="site"), objective="y")
    experiment.search_space.add_parameter(FixedParameter("site", ParameterType.INT, 3))
    arms = arms_of(offline_experiment_again(experiment, df), quick)
    assert (arms["site"] == 3).all()


def offline_experiment_again(experiment: Experiment, df: pd.DataFrame) -> Experiment:
    """The same search space and objective, filled anew."""
    new = Experiment(
        search_space=experiment.search_space, optimization_config=experiment.optimization_config
    )
    attach_offline_data(new, df)
    return new


def test_mixed(quick: dict[str, Any], table: pd.DataFrame) -> None:
    parameters = [
        floating("x"),
        integer("k", 1, 8),
        floating("level", 1e-4, 1.0, scaling="log"),
        choice("kind", list("abc"), "str", ordered=False),
        choice("flag", [False, True], "bool", ordered=True),
        choice("size", [0.5, 1.0, 4.0], "float", ordered=True),
    ]
    df = table.drop(columns="cost")
    arms = arms_of(offline_experiment(df, parameters, "y"), quick, n=16)
    assert set(arms["kind"]) <= set("abc")
    assert set(arms["size"]) <= {0.5, 1.0, 4.0}
    assert (arms["kind"] == "b").mean() > 0.5


@pytest.mark.parametrize(
    ("constraint", "holds"),
    [
        ("x + 0.5*other <= 0.8", lambda a: a["x"] + 0.5 * a["other"] <= 0.8 + 1e-6),
        ("x + k <= 4.5", lambda a: a["x"] + a["k"] <= 4.5 + 1e-6),
        ("k + m <= 7", lambda a: a["k"] + a["m"] <= 7),
        ("k <= m", lambda a: a["k"] <= a["m"]),
    ],
)
def test_parameter_constraints(
    constraint: str, holds: Callable[[pd.DataFrame], pd.Series], quick: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    df = pd.DataFrame(rng.uniform(size=(80, 2)), columns=["x", "other"])
    df["k"], df["m"] = rng.integers(1, 9, 80), rng.integers(1, 9, 80)
    df["y"] = df["x"] + df["other"] + df["k"] - 0.5 * df["m"]
    parameters = [floating("x"), floating("other"), integer("k", 1, 8), integer("m", 1, 8)]
    experiment = offline_experiment(df, parameters, "y", parameter_constraints=[constraint])
    assert not holds(df).all()
    assert holds(arms_of(experiment, quick)).all()


def test_fixed_features(quick: dict[str, Any], table: pd.DataFrame) -> None:
    fixed = ObservationFeatures(parameters={"k": 2, "kind": "c", "level": 0.5})
    experiment = offline_experiment(table.drop(columns="cost"), objective="y")
    arms = arms_of(experiment, quick, fixed_features=fixed)
    assert set(arms["k"]) == {2}
    assert set(arms["kind"]) == {"c"}
    assert arms["level"].to_numpy() == pytest.approx(0.5)


def test_rows_outside_of_the_search_space(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: rng.uniform(-3.0, 3.0, n), lambda v: v)
    parameters = [floating("p", -1.0, 1.0), floating("other", 0.2, 0.8)]
    assert arms_of(offline_experiment(df, parameters, "y"), quick)["p"].between(-1.0, 1.0).all()


# Pending, known and exhausted designs


def test_second_batch_differs(quick: dict[str, Any], table: pd.DataFrame) -> None:
    """Pending designs are avoided, and their starts are passed over."""
    experiment = offline_experiment(table.drop(columns="cost"), objective="y")
    both = arms_of(experiment, quick, n=8)
    first = roma_generation_strategy(**quick).gen(experiment, n=4)[0][0]
    experiment.new_batch_trial(first).mark_running(no_runner_required=True)
    second = arms_of(experiment, quick, n=4)
    pd.testing.assert_frame_equal(
        second.reset_index(drop=True), both.iloc[4:].reset_index(drop=True)
    )


def test_half_measured_rows_are_not_pending(quick: dict[str, Any], table: pd.DataFrame) -> None:
    """For Ax they are, where a trial as a whole lacks a metric."""
    full = offline_experiment(table.drop(columns="cost"), objective="y")
    half = offline_experiment(table.head(60), objective="y", outcome_constraints=["cost <= 100"])
    attach_offline_data(half, table.tail(60).assign(cost=np.nan))
    spy = []
    original = RoMAAcquisition._start_designs

    def start_designs(self: RoMAAcquisition, *args: Any) -> Any:
        spy.append(original(self, *args))
        return spy[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoMAAcquisition, "_start_designs", start_designs)
        arms_of(full, quick, n=4)
        arms_of(half, quick, n=4)
    same = slice(0, 2)  # x and k
    assert spy[0][..., same].allclose(spy[1][..., same])
    assert len(spy[0][0]) == 4


def test_more_arms_than_rows(quick: dict[str, Any], table: pd.DataFrame) -> None:
    experiment = offline_experiment(table.drop(columns="cost").head(12), objective="y")
    arms_of(experiment, quick, n=20)


def finite(rows: int) -> Experiment:
    """Rows of a search space of 12 designs."""
    df = pd.DataFrame([(i, j) for i in range(4) for j in "abc"], columns=["i", "j"])
    df["y"] = df["i"] + (df["j"] == "b")
    parameters = [integer("i", 0, 3), choice("j", list("abc"), "str", ordered=False)]
    return offline_experiment(df.sample(rows, random_state=1), parameters, "y")


@pytest.mark.filterwarnings("ignore:.* found no design of their own")
def test_the_last_designs_of_a_finite_search_space(quick: dict[str, Any]) -> None:
    arms_of(finite(rows=8), quick, n=4)


@pytest.mark.parametrize("fixed", [None, ObservationFeatures(parameters={"j": "b"})])
def test_exhausted_search_space(quick: dict[str, Any], fixed: ObservationFeatures | None) -> None:
    n = 5 if fixed is None else 4
    with pytest.raises(SearchSpaceExhausted, match=f"{n} new designs were requested"):
        arms_of(finite(rows=8), quick, n=n, fixed_features=fixed)


# Objectives and outcomes


def test_minimisation(quick: dict[str, Any], table: pd.DataFrame) -> None:
    df = table.drop(columns="y")
    arms = arms_of(offline_experiment(df, objective="-cost"), quick)
    assert (arms["x"] + arms["k"] / 8).max() < df["cost"].quantile(0.2)


def test_scalarised_objective(quick: dict[str, Any], table: pd.DataFrame) -> None:
    arms = arms_of(offline_experiment(table, objective="0.1*y - cost"), quick)
    assert (arms["x"] + arms["k"] / 8).mean() < table["cost"].quantile(0.3)


@pytest.mark.parametrize("acqf", [ConstrainedPosteriorMean, qLogExpectedImprovement])
def test_outcome_constraints(acqf: Any, quick: dict[str, Any], table: pd.DataFrame) -> None:
    free = arms_of(offline_experiment(table.drop(columns="cost"), objective="y"), quick)
    assert (free["x"] + free["k"] / 8).mean() > 1.2
    experiment = offline_experiment(table, objective="y", outcome_constraints=["cost <= 0.8"])
    arms = arms_of(experiment, {**quick, "botorch_acqf_class": acqf})
    assert (arms["x"] + arms["k"] / 8).mean() < 0.85


def test_outcome_constraints_are_never_ignored(quick: dict[str, Any], table: pd.DataFrame) -> None:
    experiment = offline_experiment(table, objective="y", outcome_constraints=["cost <= 0.8"])
    with pytest.raises(UnsupportedError, match="qSimpleRegret would ignore the outcome"):
        arms_of(experiment, {**quick, "botorch_acqf_class": qSimpleRegret})


def test_other_acquisition_functions(quick: dict[str, Any], table: pd.DataFrame) -> None:
    experiment = offline_experiment(table.drop(columns="cost"), objective="y")
    options = {"botorch_acqf_class": qUpperConfidenceBound, "botorch_acqf_options": {"beta": 0.1}}
    arms_of(experiment, {**quick, **options})


def test_several_objectives(quick: dict[str, Any], table: pd.DataFrame) -> None:
    """Some cheap arms and some good ones."""
    experiment = offline_experiment(table, objective="y, -cost")
    arms = arms_of(experiment, quick, n=12)
    cost = arms["x"] + arms["k"] / 8
    assert cost.max() - cost.min() > 0.4


def test_several_objectives_are_never_summed(quick: dict[str, Any], table: pd.DataFrame) -> None:
    experiment = offline_experiment(table, objective="y, -cost")
    with pytest.raises(UnsupportedError, match="qSimpleRegret does not fit several objectives"):
        arms_of(experiment, {**quick, "botorch_acqf_class": qSimpleRegret})
    single = offline_experiment(table.drop(columns="cost"), objective="y")
    moo = {"botorch_acqf_class": qLogExpectedHypervolumeImprovement}
    with pytest.raises(UnsupportedError, match="does not fit a single objective"):
        arms_of(single, {**quick, **moo})


@pytest.mark.parametrize("missing", [False, True])
def test_standard_errors(
    missing: bool, quick: dict[str, Any], table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They reach the fit, unless some are unknown."""
    import botorch_roma.ax.surrogate as surrogate_module

    seen = []
    original = surrogate_module.fit_roma_model

    def fit(model: Any, **options: Any) -> Any:
        seen.append(model.train_Yvar)
        return original(model, **options)

    monkeypatch.setattr(surrogate_module, "fit_roma_model", fit)
    df = table.drop(columns="cost").assign(se=0.1)
    if missing:
        df.loc[df.index[:3], "se"] = np.nan
    experiment = offline_experiment(df, objective="y", sems={"y": "se"})
    if missing:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            arms_of(experiment, quick)
        assert any("3 of 120 measurements have no known" in str(w.message) for w in caught)
        assert seen == [None]
    else:
        arms_of(experiment, quick)
        expected = (0.1 / df["y"].std()) ** 2  # outcomes are standardised
        assert seen[0].flatten().tolist() == pytest.approx([expected] * len(df), rel=0.02)


# What is refused


def space_with(parameter: Any, df: pd.DataFrame) -> Experiment:
    experiment = offline_experiment(df.drop(columns=["cost"]), objective="y")
    space = experiment.search_space
    space._parameters[parameter.name] = parameter
    return offline_experiment_again(experiment, df)


def test_fidelity_parameters_are_refused(quick: dict[str, Any], table: pd.DataFrame) -> None:
    fidelity = RangeParameter(
        "x", ParameterType.FLOAT, 0.0, 1.0, is_fidelity=True, target_value=1.0
    )
    with pytest.raises(UnsupportedError, match=r"fidelity parameters, received \['x'\]"):
        arms_of(space_with(fidelity, table), quick)


def test_task_parameters_are_refused(quick: dict[str, Any], table: pd.DataFrame) -> None:
    task = ChoiceParameter(
        "k",
        ParameterType.INT,
        list(range(1, 9)),
        is_task=True,
        is_ordered=True,
        sort_values=True,
        target_value=1,
    )
    with pytest.raises(UnsupportedError, match=r"task parameters, received \['k'\]"):
        arms_of(space_with(task, table), quick)


def test_other_surrogates_are_refused(table: pd.DataFrame) -> None:
    experiment = offline_experiment(table.head(20)[["x", "k", "y"]], objective="y")
    adapter = Generators.BOTORCH_MODULAR(
        experiment=experiment,
        acquisition_class=RoMAAcquisition,
        botorch_acqf_class=ConstrainedPosteriorMean,
    )
    with pytest.raises(UnsupportedError, match="needs a surrogate of RoMA models"):
        adapter.gen(2)


# One optimisation


def test_a_batch_is_one_optimisation(
    quick: dict[str, Any], table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = acquisition_module.optimize_acqf_roma

    def optimize(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["q"])
        return original(*args, **kwargs)

    monkeypatch.setattr(acquisition_module, "optimize_acqf_roma", optimize)
    arms_of(offline_experiment(table.drop(columns="cost"), objective="y"), quick, n=64)
    assert calls == [64]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ([], []),
        (["a", "b_OH_PARAM_x"], []),
        (["a_OH_PARAM__0", "b", "a_OH_PARAM__1", "c_OH_PARAM__0"], [[0, 2], [3]]),
    ],
)
def test_one_hot_groups(names: Sequence[str], groups: list[list[int]]) -> None:
    if names[1:] == ["b_OH_PARAM_x"]:
        groups = [[1]]
    assert one_hot_groups(names) == groups

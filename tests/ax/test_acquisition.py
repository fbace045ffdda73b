"""Search spaces, constraints, objectives: the arms that come out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("ax")

from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.experiment import Experiment
from ax.core.observation import ObservationFeatures
from ax.core.parameter import FixedParameter, ParameterType
from botorch.acquisition import PosteriorMean, qLogExpectedImprovement, qUpperConfidenceBound
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.exceptions.errors import CandidateGenerationError
from botorch.models.model import ModelList

import botorch_roma.ax.acquisition as acquisition_module
from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.ax import (
    RoMAAcquisition,
    attach_offline_data,
    offline_experiment,
    roma_generation_strategy,
)
from botorch_roma.ax.acquisition import (
    construct_inputs_constrained_posterior_mean,
    one_hot_groups,
)
from botorch_roma.models.roma import RoMAModel


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


@pytest.mark.filterwarnings("ignore:Rows of `df` lie out of the range")
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


@pytest.mark.filterwarnings("ignore:Rows of `df` lie out of the range")
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


def test_more_arms_than_rows_are_reproducible(quick: dict[str, Any], table: pd.DataFrame) -> None:
    experiment = offline_experiment(table[["x", "k", "y"]].head(6), objective="y")
    pd.testing.assert_frame_equal(
        arms_of(experiment, quick, n=12), arms_of(experiment, quick, n=12)
    )


@pytest.mark.parametrize("n", [5, 8])
@pytest.mark.filterwarnings("ignore:.* (found no design|reached fewer than)")
def test_rows_that_are_the_same_once_features_are_fixed(n: int, quick: dict[str, Any]) -> None:
    """The table holds three start designs, the search space eight."""
    df = frame("p", lambda rng, rows: rng.integers(1, 4, rows), lambda v: 0.1 * v)
    experiment = offline_experiment(df, [integer("p", 1, 8), floating("other")], "y")
    fixed = ObservationFeatures(parameters={"other": 0.5})
    assert len(set(arms_of(experiment, quick, n=n, fixed_features=fixed)["p"])) == n


def test_one_design_and_others_pending(quick: dict[str, Any], table: pd.DataFrame) -> None:
    experiment = offline_experiment(table[["x", "k", "y"]], objective="y")
    run = roma_generation_strategy(**quick).gen(experiment, n=2)[0][0]
    experiment.new_batch_trial(run).mark_running(no_runner_required=True)
    fixed = ObservationFeatures(parameters={"x": 0.5, "k": 3})
    arms = arms_of(experiment, quick, n=1, fixed_features=fixed)
    assert arms.to_dict("list") == {"x": [0.5], "k": [3]}


@pytest.mark.filterwarnings("ignore:Rows of `df` lie out of the range")
def test_all_rows_outside_of_the_search_space(quick: dict[str, Any]) -> None:
    df = frame("p", lambda rng, n: rng.uniform(2.0, 3.0, n), lambda v: v)
    parameters = [floating("p", 0.0, 1.0), floating("other", -2.0, -1.0)]
    assert arms_of(offline_experiment(df, parameters, "y"), quick)["p"].between(0.0, 1.0).all()


# `optimize`, called as Ax calls it


Call = tuple[RoMAAcquisition, dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Acquisitions and arguments of all calls of ``optimize``."""
    seen: list[Call] = []
    original = RoMAAcquisition.optimize

    def optimize(self: RoMAAcquisition, **options: Any) -> Any:
        if not seen:
            seen.append((self, options))
        return original(self, **options)

    monkeypatch.setattr(RoMAAcquisition, "optimize", optimize)
    return seen


@pytest.fixture
def xk(quick: dict[str, Any], table: pd.DataFrame, calls: list[Call]) -> Call:
    """Columns x in [0, 1] and k in 1..8, best at (1, 8)."""
    df = table[["x", "k"]].assign(y=table["x"] + table["k"] / 8)
    arms_of(offline_experiment(df, [floating("x"), integer("k", 1, 8)], "y"), quick, n=2)
    return calls[0]


def test_rounding_func(xk: Call) -> None:
    acquisition, options = xk
    coarse = {**options, "n": 6, "rounding_func": lambda X: X.round(decimals=1)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        X = acquisition.optimize(**coarse)[0]
    assert X.equal(X.round(decimals=1))
    assert len(X.unique(dim=0)) == 6


def test_equality_constraints(xk: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    acquisition, options = xk
    equality = [(torch.tensor([0, 1]), torch.ones(2, dtype=torch.double), 4.5)]
    options = {**options, "n": 4, "equality_constraints": equality}
    original, passed = acquisition_module.optimize_acqf_roma, []

    def optimize(*args: Any, **kwargs: Any) -> Any:
        passed.append(kwargs["equality_constraints"])
        return original(*args, **kwargs)

    monkeypatch.setattr(acquisition_module, "optimize_acqf_roma", optimize)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(CandidateGenerationError, match="In Ax: request fewer arms"):
            acquisition.optimize(**options)  # x = 0.5, k = 4 is the only one
        X = acquisition.optimize(**{**options, "n": 1})[0]
    assert X.tolist() == [pytest.approx([0.5, 4.0])]
    assert passed == [equality] * 2

    def broken(*args: Any, **kwargs: Any) -> Any:
        return torch.tensor([[0.5, 5.0]]).double(), torch.zeros(1)

    monkeypatch.setattr(acquisition_module, "optimize_acqf_roma", broken)
    with pytest.raises(CandidateGenerationError, match="equality constraints"):
        acquisition.optimize(**{**options, "n": 1})


@pytest.mark.filterwarnings("ignore:.* (found no design|reached fewer than)")
def test_pending_designs_count_in_a_finite_search_space(
    quick: dict[str, Any], calls: list[Call]
) -> None:
    from ax.exceptions.core import SearchSpaceExhausted

    df = pd.DataFrame({"i": range(6), "y": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]})
    experiment = offline_experiment(df, [integer("i", 0, 9)], "y")
    trial = experiment.new_batch_trial(roma_generation_strategy(**quick).gen(experiment, n=2)[0][0])
    trial.mark_running(no_runner_required=True)
    calls.clear()
    last = arms_of(experiment, quick, n=2)["i"]
    assert sorted([*last, *[arm.parameters["i"] for arm in trial.arms]]) == [6, 7, 8, 9]
    acquisition, options = calls[0]
    with pytest.raises(SearchSpaceExhausted, match=r"of the 10 designs .* 8 are already"):
        acquisition.optimize(**{**options, "n": 3})


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


def test_units_of_the_default_acquisition_function() -> None:
    X = torch.rand(20, 2, dtype=torch.double)
    a, b = RoMAModel(X, 3.0 * X[:, :1]), RoMAModel(X, 0.5 * X[:, 1:])
    std = torch.cat([a.y_std, b.y_std])
    assert 2.0 < std[0] / std[1] < 20.0
    weights = torch.tensor([0.5, -2.0], dtype=torch.double)
    inputs = construct_inputs_constrained_posterior_mean(
        ModelList(a, b), ScalarizedPosteriorTransform(weights)
    )
    expected = ((0.5 * std[0]) ** 2 + (2.0 * std[1]) ** 2).sqrt()
    assert inputs["scale"] == pytest.approx(expected.item())
    assert inputs["outcome_scale"].equal(std)
    A, bound = torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[0.1]]).double()
    inputs = construct_inputs_constrained_posterior_mean(
        ModelList(a, b), ScalarizedPosteriorTransform(weights), (A, bound)
    )
    acquisition = ConstrainedPosteriorMean(**inputs)
    assert acquisition.min_variance.item() == pytest.approx(0.01 * std[1].item() ** 2)
    assert construct_inputs_constrained_posterior_mean(a)["scale"] == 1.0


def test_analytic_functions_and_pending_trials(quick: dict[str, Any], table: pd.DataFrame) -> None:
    """They have no argument for pending designs."""
    experiment = offline_experiment(table[["x", "k", "y"]], objective="y")
    run = roma_generation_strategy(**quick).gen(experiment, n=2)[0][0]
    experiment.new_batch_trial(run).mark_running(no_runner_required=True)
    arms_of(experiment, {**quick, "botorch_acqf_class": PosteriorMean}, n=3)


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

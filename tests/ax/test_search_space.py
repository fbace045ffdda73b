from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.core.parameter import ChoiceParameter, ParameterType, RangeParameter
from botorch.exceptions import InputDataError
from botorch.exceptions.warnings import InputDataWarning
from hypothesis import given
from hypothesis import strategies as st

from botorch_roma.ax import attach_offline_data, infer_parameters, offline_experiment


def test_inferred_search_space(table: pd.DataFrame) -> None:
    with pytest.warns(InputDataWarning, match=r"Columns \['site'\] of `df` never vary"):
        experiment = offline_experiment(table.assign(site="lab"), objective="y")
    parameters = experiment.search_space.parameters
    assert list(parameters) == ["x", "k", "level", "kind", "flag", "size", "cost"]
    x, k = parameters["x"], parameters["k"]
    assert isinstance(x, RangeParameter)
    assert isinstance(k, RangeParameter)
    assert (x.lower, x.upper) == (table["x"].min(), table["x"].max())
    assert (k.parameter_type, k.lower, k.upper) == (ParameterType.INT, 1, 8)
    kind = parameters["kind"]
    assert isinstance(kind, ChoiceParameter)
    assert kind.values == ["a", "b", "c"]
    assert not kind.is_ordered
    assert parameters["flag"].parameter_type == ParameterType.BOOL


NUMBERS = np.arange(60) % 7


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (pd.Series(NUMBERS, dtype=object), "int", (0, 6)),
        (pd.Series(NUMBERS / 2.0, dtype=object), "float", (0.0, 3.0)),
        (pd.array(NUMBERS, dtype="Int64"), "int", (0, 6)),
        (NUMBERS.astype("u1"), "int", (0, 6)),
        (NUMBERS.astype("f4"), "float", (0.0, 6.0)),
    ],
)
def test_numbers(values: Any, kind: str, expected: tuple[float, float]) -> None:
    (config,) = infer_parameters(pd.DataFrame({"q": values}))
    assert (config.parameter_type, config.bounds) == (kind, expected)
    assert type(config.bounds[0]).__name__ == kind


TWO = [True, False] * 30
SIZES = ["low", "mid", "high"] * 20


@pytest.mark.parametrize(
    ("values", "kind", "expected", "ordered"),
    [
        (pd.Series(TWO, dtype=object), "bool", [False, True], False),
        (pd.array(TWO, dtype="boolean"), "bool", [False, True], False),
        (SIZES, "str", ["high", "low", "mid"], False),
        (pd.array(SIZES, dtype="string"), "str", ["high", "low", "mid"], False),
        (pd.Categorical(SIZES, ["low", "mid", "high"], True), "str", ["low", "mid", "high"], True),
        (pd.Categorical(SIZES, ["low", "mid", "no", "high"]), "str", ["low", "mid", "high"], False),
        (pd.Categorical([4, 1, 2] * 20, [1, 2, 4], True), "int", [1, 2, 4], True),
    ],
)
def test_choices(values: Any, kind: str, expected: list[Any], ordered: bool) -> None:
    df = pd.DataFrame({"q": values, "x": NUMBERS, "y": NUMBERS / 2.0})
    config = infer_parameters(df[["q"]])[0]
    assert (config.parameter_type, config.values, config.is_ordered) == (kind, expected, ordered)
    trial = offline_experiment(df.iloc[:3], objective="y").trials[0]
    assert [arm.parameters["q"] for arm in trial.arms] == list(values[:3])
    if kind == "str" and len(expected) > 2:
        parameter = offline_experiment(df.iloc[:3], objective="y").search_space.parameters["q"]
        assert isinstance(parameter, ChoiceParameter)
        assert parameter.is_ordered == ordered


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.date_range("2020", periods=60), r"types \['Timestamp'\]; make them numbers"),
        (pd.to_timedelta(range(60)), r"types \['Timedelta'\]"),
        (pd.Series([1, "a"] * 30, dtype=object), r"types \['int', 'str'\]"),
        (pd.Categorical([1, "a"] * 30), r"the categories \[1, 'a'\], which are not all"),
        (np.arange(60) * 10**15, "whole numbers from 0 to 59000000000000000, which looks like"),
        (np.arange(60) * 1700, "whole numbers from 0 to 100300"),
    ],
)
def test_columns_that_are_refused(values: Any, message: str) -> None:
    df = pd.DataFrame({"q": values, "y": 1.0})
    with pytest.raises(InputDataError, match=f"Column 'q' of `df` .*{message}"):
        infer_parameters(df, exclude=["y"])


def test_many_integers_are_fine_up_to_a_limit() -> None:
    (config,) = infer_parameters(pd.DataFrame({"q": np.arange(60) * 1600}))
    assert config.parameter_type == "int"


def test_names_of_columns(table: pd.DataFrame) -> None:
    numbered = pd.DataFrame(np.random.default_rng(0).uniform(size=(9, 2))).assign(y=1.0)
    with pytest.raises(ValueError, match=r"must be named by texts, received \[0, 1\]; rename"):
        offline_experiment(numbered, objective="y")
    df = table[["x", "k", "y"]]
    for twice in ("x", "y"):
        with pytest.raises(ValueError, match=rf"several columns named \['{twice}'\]"):
            offline_experiment(pd.concat([df, df[[twice]]], axis=1), objective="y")
    experiment = offline_experiment(df, objective="y")
    with pytest.raises(ValueError, match=r"several columns named \['k'\]"):
        attach_offline_data(experiment, pd.concat([df, df[["k"]]], axis=1))


def test_repeated_labels_of_rows(table: pd.DataFrame) -> None:
    df = table[["x", "k", "y"]].set_axis([0] * len(table))
    df.iloc[3, 0] = np.nan
    with pytest.raises(InputDataError, match="'x' of `df` has a missing value in row 0"):
        infer_parameters(df)


def test_columns_that_are_no_parameters() -> None:
    df = pd.DataFrame({"name": [f"design {i}" for i in range(200)], "x": np.arange(200) / 7.0})
    with pytest.raises(InputDataError, match="'name' of `df` has 200 different texts"):
        infer_parameters(df)
    df.loc[5, "x"] = np.nan
    with pytest.raises(InputDataError, match="'x' of `df` has a missing value in row 5"):
        infer_parameters(df, exclude=["name"])


VALUES: dict[str, Any] = {
    "number": st.floats(-1e6, 1e6).map(lambda v: round(v, 3)),
    "integer": st.integers(-40_000, 40_000),
    "flag": st.booleans(),
    "text": st.sampled_from(["oak", "fir", "Oak", ""]),
}


@pytest.mark.filterwarnings("ignore:Columns .* never vary", "ignore:.* repeated")
@given(data=st.data(), n=st.integers(2, 12))
def test_every_row_of_any_table_is_in_its_space(data: st.DataObject, n: int) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True))
    columns = {k: data.draw(st.lists(VALUES[k], min_size=n, max_size=n)) for k in names}
    df = pd.DataFrame({"x": [i / 8 for i in range(n)], **columns, "y": [i * i for i in range(n)]})
    before = df.copy()
    configs = infer_parameters(df, exclude=["y"])
    assert [c.name for c in configs] == [c for c in df if c != "y" and df[c].nunique() > 1]
    assert infer_parameters(df, exclude=["y"]) == configs
    experiment = offline_experiment(df, configs, "y")
    (trial,) = experiment.trials.values()
    assert len(trial.arms) == n
    for i, arm in enumerate(trial.arms):
        assert experiment.search_space.check_membership(arm.parameters, raise_error=True)
        assert arm.parameters == {c.name: df[c.name][i] for c in configs}
    pd.testing.assert_frame_equal(df, before)

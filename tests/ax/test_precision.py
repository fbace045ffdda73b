from __future__ import annotations

import json
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.core.data import Data
from ax.storage.json_store.decoder import object_from_json
from ax.storage.json_store.encoder import object_to_json
from botorch.exceptions.warnings import InputDataWarning

from botorch_roma.ax import offline_experiment
from botorch_roma.ax.precision import as_stored


def stored(data: Data) -> Data:
    loaded: Any = object_from_json(json.loads(json.dumps(object_to_json(data))))
    return loaded


def data_of(table: pd.DataFrame, **options: Any) -> Data:
    return offline_experiment(table, objective="y", **options).lookup_data()


def test_storage_changes_nothing_more(table: pd.DataFrame) -> None:
    """Ax's storage rounds outcomes and their errors, in whatever unit; once it has, it is exact."""
    df = table.assign(se=table["y"].abs() / 3.0)
    data = data_of(df, outcome_constraints=["cost <= 1"], sems={"y": "se"})
    again = as_stored(data)
    assert not stored(data).df["mean"].equals(data.df["mean"])
    assert stored(again).df[["mean", "sem"]].equals(again.df[["mean", "sem"]])
    assert stored(data).df[["mean", "sem"]].equals(again.df[["mean", "sem"]])
    np.testing.assert_allclose(again.df["mean"], data.df["mean"], atol=1e-10, rtol=0.0)
    other = ["trial_index", "arm_name", "metric_name"]
    assert again.df[other].equals(data.df[other])


def test_small_units_are_left_alone(table: pd.DataFrame) -> None:
    """Of concentrations in mol/l, say, next to nothing would be left."""
    df = table.assign(y=1e-9 * table["y"])
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always", InputDataWarning)
        data = data_of(df, outcome_constraints=["cost <= 1"])
    (message,) = [str(w.message) for w in record if w.category is InputDataWarning]
    assert re.search(r"ten decimals .* 'y' \(\d\.\de-10\): .* a smaller unit", message)
    again = as_stored(data).df
    small = again["metric_name"] == "y"
    assert again[small]["mean"].equals(data.df[small]["mean"])
    assert not again[~small]["mean"].equals(data.df[~small]["mean"])


def test_nothing_to_store() -> None:
    assert as_stored(Data()).df.empty

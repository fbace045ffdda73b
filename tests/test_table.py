from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from botorch.exceptions import InputDataError

from botorch_roma.table import read_table

FRAME = pd.DataFrame(
    {
        "a": [0.5, 1.5, 2.5],
        "n": [1, 2, 3],
        "on": [True, False, True],
        "y": [3, 1, 2],
        "remark": ["x", "y", "z"],
    }
)


def test_data_frame() -> None:
    table = read_table(FRAME, "y", ignore=["remark"])
    assert table.columns == ["a", "n", "on"]
    assert table.objective == "y"
    assert table.integers == [1, 2]
    assert table.X.tolist() == [[0.5, 1.0, 1.0], [1.5, 2.0, 0.0], [2.5, 3.0, 1.0]]
    assert table.Y.tolist() == [[3.0], [1.0], [2.0]]
    assert table.X.dtype == table.Y.dtype == torch.double


def test_columns_need_not_be_in_order_nor_named_by_strings() -> None:
    frame = pd.DataFrame([[1.0, 5.0, 2.0], [3.0, 6.0, 4.0]], columns=[0, "y", 7])
    table = read_table(frame, "y")
    assert table.columns == ["0", "7"]
    assert table.X.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_the_frame_is_left_alone() -> None:
    frame = FRAME.copy()
    table = read_table(frame, "y", ignore=["remark"])
    table.X.zero_()
    pd.testing.assert_frame_equal(frame, FRAME)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors(dtype: torch.dtype) -> None:
    X, Y = torch.rand(4, 2, dtype=dtype), torch.rand(4, dtype=dtype)
    for outcome in (Y, Y.unsqueeze(-1)):
        table = read_table(X, outcome)
        assert torch.equal(table.X, X)
        assert torch.equal(table.Y, Y.unsqueeze(-1))
    assert table.columns == ["x0", "x1"]
    assert table.objective == "y"
    assert table.integers == []
    cast = read_table(X, Y, dtype=torch.float32)
    assert cast.X.dtype == cast.Y.dtype == torch.float32


def test_precision_of_a_frame() -> None:
    assert read_table(FRAME, "y", ignore=["remark"], dtype=torch.float32).X.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean"])
def test_nullable_columns_without_gaps(dtype: str) -> None:
    frame = pd.DataFrame({"a": pd.array([1, 0, 1], dtype=dtype), "y": [1.0, 2.0, 3.0]})
    assert read_table(frame, "y").X.flatten().tolist() == [1.0, 0.0, 1.0]


def test_column_names_the_argument() -> None:
    table = read_table(FRAME, "y", ignore=["remark"])
    assert table.column("bounds", "on").start == 2
    with pytest.raises(
        InputDataError, match=r"`bounds` names the column 'y', .*\['a', 'n', 'on'\]"
    ):
        table.column("bounds", "y")


def test_long_lists_of_names_are_cut() -> None:
    frame = pd.DataFrame(np.eye(30), columns=[f"c{i}" for i in range(30)])
    with pytest.raises(InputDataError, match=r"'c9', \.\.\. \(30 in all\)\]") as info:
        read_table(frame, "y")
    assert "c10" not in str(info.value)


NAN = float("nan")
PAIR = torch.rand(3, 2)

BAD_INPUT: list[tuple[Any, Any, dict[str, Any], str]] = [
    (FRAME, "z", {}, r"no column 'z'; its columns are \['a', 'n', 'on', 'y', 'remark'\]"),
    (FRAME, "y", {"ignore": ["b"]}, "no column 'b'"),
    (FRAME, "y", {}, r"'remark' is not numeric \(for example \['x'\]\).*`ignore`"),
    (FRAME, "remark", {}, "'remark' is not numeric"),
    (FRAME.assign(a=[1.0, NAN, NAN]), "n", {"ignore": ["remark"]}, "'a' has 2 missing .* row 1"),
    (FRAME.assign(y=[1.0, 2.0, NAN]), "y", {"ignore": ["remark"]}, "'y' has 1 missing .* row 2"),
    (
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "y": [1.0, 2.0]}),
        "y",
        {},
        "'a' has 1 missing .* row 1",
    ),
    (FRAME[["y"]], "y", {}, r"at least one input besides 'y', received 3 rows and the inputs \[\]"),
    (FRAME[["a", "y"]].iloc[:0], "y", {}, "received 0 rows"),
    (FRAME.iloc[:, [0, 0, 3]], "y", {}, "several columns named 'a'"),
    (
        FRAME.assign(a=pd.to_datetime(["2020-01-01"] * 3)),
        "y",
        {"ignore": ["remark"]},
        "'a' is not numeric",
    ),
    (FRAME.assign(a=[1j, 2.0, 3.0]), "y", {"ignore": ["remark"]}, "'a' is not numeric"),
    ([[1.0, 2.0]], "y", {}, "`train_X` must be a tensor or a pandas DataFrame, received list"),
    (FRAME, PAIR, {}, "`train_Y` must be the name of a column .* received Tensor"),
    (PAIR, "y", {}, "`train_Y` must be a tensor .* received 'y'"),
    (PAIR, PAIR, {}, r"`train_Y` must have one column, received shape \(3, 2\)"),
    (PAIR, PAIR[:, 0], {"ignore": ["a"]}, r"`ignore` needs a data frame, .*\['a'\]"),
]


@pytest.mark.parametrize(("train_X", "train_Y", "arguments", "message"), BAD_INPUT)
def test_bad_input(train_X: Any, train_Y: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputDataError, match=message) as info:
        read_table(train_X, train_Y, **arguments)
    assert type(info.value) is InputDataError


def test_objective_cannot_be_ignored() -> None:
    with pytest.raises(InputDataError, match="`ignore` names the objective 'y'"):
        read_table(FRAME, "y", ignore=["remark", "y"])

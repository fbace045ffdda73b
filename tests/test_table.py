from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from botorch.exceptions import InputDataError
from hypothesis import given
from hypothesis import strategies as st

from botorch_roma.latent import Vocabulary
from botorch_roma.table import Table, read_table

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


# Categories and sequences


MIXED = pd.DataFrame(
    {
        "site": ["acg", "tca", "acg", "gga"],
        "a": [0.5, 1.5, 2.5, 3.5],
        "kind": ["oak", "fir", "oak", "ash"],
        "n": [3, 1, 2, 5],
        "tail": ["b", "ba", "bab", "b"],
        "on": [True, False, True, True],
        "y": [3.0, 1.0, 2.0, 4.0],
    }
)


def mixed(**options: Any) -> Table:
    return read_table(MIXED, "y", sequences=["site", "tail"], **options)


def test_mixed_columns() -> None:
    """One token per category, one per position of a sequence; the order is that of the table."""
    table = mixed()
    assert table.columns == ["site", "a", "kind", "n", "tail", "on"]
    assert [(c.kind, c.start, c.width) for c in table.parts] == [
        ("sequence", 0, 3),
        ("number", 3, 1),
        ("category", 4, 1),
        ("integer", 5, 1),
        ("sequence", 6, 3),
        ("boolean", 9, 1),
    ]
    assert table.X.dtype == torch.double
    assert table.X.tolist() == [
        [0, 1, 2, 0.5, 2, 3, 1, 2, 2, 1],
        [3, 1, 0, 1.5, 1, 1, 1, 0, 2, 0],
        [0, 1, 2, 2.5, 2, 2, 1, 0, 1, 1],
        [2, 2, 0, 3.5, 0, 5, 1, 2, 2, 1],
    ]
    assert table.integers == [5, 9]
    assert table.has_tokens
    site, _, kind, _, tail, _ = table.parts
    assert site.vocabulary == Vocabulary("acgt")
    assert tail.vocabulary == Vocabulary("ab", padded=True)
    assert kind.values == ("ash", "fir", "oak")
    assert kind.vocabulary == Vocabulary("012")
    assert not read_table(FRAME, "y", ignore=["remark"]).has_tokens


def test_restore() -> None:
    """The user's own values and types, also of designs that are not in the table."""
    table = mixed()
    assert table.restore(table.X) == {name: MIXED[name].tolist() for name in table.columns}
    design = torch.tensor([[3, 3, 3, 0.25, 1, 7, 0, 0, 2, 0]])
    restored = table.restore(design)
    assert restored == {
        "site": ["ttt"],
        "a": [0.25],
        "kind": ["fir"],
        "n": [7],
        "tail": ["aa"],
        "on": [False],
    }
    types = {name: type(values[0]) for name, values in restored.items()}
    assert types["a"] is float
    assert types["n"] is int
    assert types["on"] is bool


@given(
    rows=st.lists(
        st.tuples(
            st.text(alphabet="ab", min_size=1, max_size=4),
            st.sampled_from(["x", "y z", "Ünal"]),
            st.integers(-5, 5),
            st.floats(-9, 9),
        ),
        min_size=4,
    ),
)
def test_round_trip(rows: list[tuple[str, str, int, float]]) -> None:
    frame = pd.DataFrame(rows, columns=["s", "kind", "n", "v"])
    table = read_table(frame.assign(y=1.0), "y", sequences=["s"])
    assert pd.DataFrame(table.restore(table.X)).equals(frame)


def test_precision_of_tokens() -> None:
    table = mixed(dtype=torch.float32)
    assert table.X.dtype == torch.float32
    assert table.restore(table.X)["tail"] == MIXED["tail"].tolist()


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(["b", "a", "b"], dtype="string"),
        pd.Series(["b", "a", "b"], dtype="category"),
        pd.Series([20, 3, 20], dtype="category"),
        pd.Series([0.5, 2.0, 0.5]).astype("category"),
        pd.Series(["NA", "", "NA"]),
        pd.Series(["0101", "1", "0101"]),
    ],
    ids=["string", "categorical", "integers", "floats", "na-and-empty", "digits"],
)
def test_categories_of_other_types(values: pd.Series[Any]) -> None:
    """Ordered as texts, and given back as they were."""
    table = read_table(pd.DataFrame({"c": values, "y": [1.0, 2.0, 3.0]}), "y")
    (column,) = table.parts
    assert column.kind == "category"
    assert list(column.values) == sorted(set(values.tolist()), key=str)
    restored = table.restore(table.X)["c"]
    assert restored == values.tolist()
    assert [type(v) for v in restored] == [type(v) for v in values.tolist()]


def test_texts_stay_texts_in_sequences() -> None:
    frame = pd.DataFrame({"s": ["0101", "NA", "1"], "y": [1.0, 2.0, 3.0]})
    table = read_table(frame, "y", sequences=["s"])
    assert table.restore(table.X)["s"] == ["0101", "NA", "1"]
    assert table.parts[0].vocabulary == Vocabulary("01AN", padded=True)


def test_a_single_category_and_a_single_sequence() -> None:
    frame = pd.DataFrame({"c": ["x"] * 3, "s": ["ab"] * 3, "y": [1.0, 2.0, 3.0]})
    table = read_table(frame, "y", sequences=["s"])
    assert table.X.tolist() == [[0.0, 0.0, 1.0]] * 3
    assert table.restore(table.X) == {"c": ["x"] * 3, "s": ["ab"] * 3}


def test_number_of_a_value() -> None:
    table = mixed()
    kind, site, a = (table.column("fixed_features", name) for name in ("kind", "site", "a"))
    assert kind.number("fixed_features['kind']", "fir") == 1.0
    assert a.number("fixed_features['a']", 0.25) == 0.25
    with pytest.raises(
        InputDataError,
        match=r"`fixed_features\['kind'\]` must be one of the categories of 'kind', "
        r"\['ash', 'fir', 'oak'\], received 'elm'",
    ):
        kind.number("fixed_features['kind']", "elm")
    with pytest.raises(InputDataError, match="`bounds` names the sequences 'site'; only numbers"):
        site.number("bounds", "acg")


def test_number_of_a_category_that_is_no_text() -> None:
    """A value as the user writes it, also on the command line."""
    values = pd.Series([20, 3, 20], dtype="category")
    (column,) = read_table(pd.DataFrame({"c": values, "y": [1.0, 2.0, 3.0]}), "y").parts
    assert column.number("fix", 20) == column.number("fix", "20") == 0.0
    assert column.number("fix", 3) == 1.0


@pytest.mark.parametrize("values", [["A", "B", "AB", "0"], ["1", "11", "111", "1111"]])
def test_categories_that_begin_like_others(values: list[str]) -> None:
    """Blood groups: a category is one token, so that no two of them can be read as a third."""
    table = read_table(pd.DataFrame({"c": values * 3, "y": range(12)}), "y")
    assert table.parts[0].values == tuple(sorted(values))
    assert table.restore(table.X)["c"] == values * 3


@pytest.mark.parametrize(
    "values",
    [
        [f"sample {i % 150}" for i in range(160)],
        [f"sample {i}" for i in range(160)],
        [100 + i % 7 for i in range(160)],
        [0.5 * (i % 7) for i in range(160)],
        [i % 2 == 0 for i in range(160)],
    ],
    ids=["many", "as-many-as-rows", "integers", "floats", "booleans"],
)
def test_categories_that_are_said_to_be(values: list[Any]) -> None:
    table = read_table(pd.DataFrame({"c": values, "y": range(160)}), "y", categories=["c"])
    (column,) = table.parts
    assert column.kind == "category"
    assert set(column.values) == set(values)
    restored = table.restore(table.X)["c"]
    assert restored == values
    assert {type(v) for v in restored} == {type(values[0])}
    assert column.number("fixed_features['c']", values[3]) == table.X[3, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None, "b"], "'c' has 1 missing values"),
        ([1.0, float("inf"), 2.0], "'c' holds inf in row 1"),
        (pd.to_datetime(["2024-01-01"] * 3), "'c' is not numeric .*nor does it hold texts"),
        ([1j, 2j, 1j], "nor does it hold texts"),
    ],
)
def test_what_cannot_be_categories(values: Any, message: str) -> None:
    frame = pd.DataFrame({"c": values, "y": [1.0, 2.0, 3.0]})
    with pytest.raises(InputDataError, match=message):
        read_table(frame, "y", categories=["c"])


def test_texts_that_are_no_categories() -> None:
    """As many as there are rows, or more than a hundred."""
    names = [f"sample {i}" for i in range(101)]
    frame = pd.DataFrame({"name": names * 2, "y": range(202)})
    message = (
        r"'name' is not numeric .*holds 101 different texts in 202 rows.*`ignore`.*`sequences` "
        ".*`categories`"
    )
    with pytest.raises(InputDataError, match=message):
        read_table(frame, "y")
    assert read_table(frame.replace("sample 100", "sample 0"), "y").parts[0].kind == "category"
    with pytest.raises(InputDataError, match="holds 2 different texts in 2 rows"):
        read_table(pd.DataFrame({"name": ["x", "y"], "y": [1.0, 2.0]}), "y")


@pytest.mark.parametrize(("rows", "fine"), [(22, True), (21, False)])
def test_one_repeated_text_makes_no_categories(rows: int, fine: bool) -> None:
    """Eleven values, once or twice each."""
    frame = pd.DataFrame({"name": [f"s{i % 11}" for i in range(rows)], "y": range(rows)})
    if fine:
        assert read_table(frame, "y").parts[0].kind == "category"
    else:
        with pytest.raises(InputDataError, match="holds 11 different texts in 21 rows, too many"):
            read_table(frame, "y")


def test_integers_that_post_processing_left_beside_an_integer() -> None:
    table = read_table(pd.DataFrame({"n": [1, 2, 5], "y": [1.0, 2.0, 3.0]}), "y")
    assert table.restore(torch.tensor([[1.9999999], [5.0000001]])) == {"n": [2, 5]}


@pytest.mark.parametrize(
    ("one", "other"),
    [("ignore", "sequences"), ("ignore", "categories"), ("sequences", "categories")],
)
def test_column_of_which_two_things_are_said(one: str, other: str) -> None:
    frame = pd.DataFrame({"s": ["ab", "ba"], "x": [1.0, 2.0], "y": [1.0, 2.0]})
    with pytest.raises(InputDataError, match=rf"`{one}` and `{other}` both name \['s'\]"):
        read_table(frame, "y", **{one: ["s"], other: ["s"]})


NAN = float("nan")
PAIR = torch.rand(3, 2)

BAD_INPUT: list[tuple[Any, Any, dict[str, Any], str]] = [
    (FRAME, "z", {}, r"no column 'z'; its columns are \['a', 'n', 'on', 'y', 'remark'\]"),
    (FRAME, "y", {"ignore": ["b"]}, "no column 'b'"),
    (FRAME, "y", {}, r"'remark' is not numeric \(row 0 holds 'x'\).*`ignore`"),
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
    (PAIR, PAIR[:, 0], {"sequences": ["a"]}, r"`sequences` needs a data frame, .*\['a'\]"),
    (MIXED, "y", {"sequences": ["seq"]}, "no column 'seq'; its columns are"),
    (PAIR, PAIR[:, 0], {"categories": ["a"]}, r"`categories` needs a data frame, .*\['a'\]"),
    (MIXED, "y", {"categories": ["y"]}, "`categories` names the objective 'y'"),
    (MIXED, "y", {"categories": ["z"]}, "no column 'z'"),
    (MIXED, "y", {"sequences": ["y"]}, "`sequences` names the objective 'y'"),
    (
        MIXED.assign(site=["acg", "", "a", "a"]),
        "y",
        {"sequences": ["site"]},
        "'site' cannot hold sequences: .*at least one character, received '' in row 1",
    ),
    (
        MIXED.assign(site=["acg", None, "a", NAN]),
        "y",
        {"sequences": ["site"]},
        "'site' has 2 missing values .* row 1",
    ),
    (MIXED, "y", {"sequences": ["n"]}, "'n' cannot hold sequences: .*received 3 in row 0"),
    (
        MIXED.assign(kind=["oak", None, "oak", "ash"]),
        "y",
        {"sequences": ["site", "tail"]},
        "'kind' has 1 missing values .* row 1",
    ),
    (
        MIXED.assign(kind=["oak", 1, "oak", 1]),
        "y",
        {"sequences": ["site", "tail"]},
        r"'kind' is not numeric \(row 0 holds 'oak'\), nor does it hold texts",
    ),
    (
        pd.DataFrame({"a": [2**70, 1], "y": [1.0, 2.0]}),
        "y",
        {},
        r"'a' is not numeric \(row 0 holds '1180591620717411303424', more than 64 bits\)",
    ),
    (
        pd.DataFrame({"a": [Decimal(1), Decimal(2)], "y": [1.0, 2.0]}),
        "y",
        {},
        r"'a' is not numeric \(row 0 holds '1' of type Decimal\), nor does it hold texts",
    ),
    (
        FRAME.assign(predicted_std=1.0),
        "y",
        {"ignore": ["remark"]},
        "'predicted_std' has the name of a column that candidates get; leave it out with `ignore`",
    ),
    (PAIR, PAIR[:, 0], {"ignore": ["a"]}, r"`ignore` needs a data frame, .*\['a'\]"),
]


@pytest.mark.parametrize(("train_X", "train_Y", "arguments", "message"), BAD_INPUT)
def test_bad_input(train_X: Any, train_Y: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputDataError, match=message) as info:
        read_table(train_X, train_Y, **arguments)
    assert type(info.value) is InputDataError


def test_names_that_candidates_get() -> None:
    frame = FRAME.assign(distance=1.0).rename(columns={"y": "predicted_mean"})
    table = read_table(frame, "predicted_mean", ignore=["remark", "distance"])
    assert "distance" not in table.columns


def test_objective_cannot_be_ignored() -> None:
    with pytest.raises(InputDataError, match="`ignore` names the objective 'y'"):
        read_table(FRAME, "y", ignore=["remark", "y"])

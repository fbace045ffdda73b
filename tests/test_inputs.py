from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from botorch.exceptions import InputDataError, InputDataWarning

from botorch_roma.inputs import (
    check_encoding,
    fixed_inputs,
    input_bounds,
    make_encoding,
    rounding_func,
)
from botorch_roma.latent import ColumnEncoding, LogitsEncoding, NumericEncoding, OneHotEncoding
from botorch_roma.table import Table, read_table


@pytest.fixture
def table() -> Table:
    """A number, an integer, a constant, a category, and sequences of two letters."""
    frame = pd.DataFrame(
        {
            "x": [0.0, 1.0, 4.0, 2.0],
            "n": [1, 3, 2, 5],
            "c": [7.0] * 4,
            "kind": ["oak", "fir", "oak", "fir"],
            "site": ["ab", "ba", "aa", "bb"],
            "y": [1.0, 2.0, 3.0, 4.0],
        }
    )
    return read_table(frame, "y", sequences=["site"])


def test_fixed(table: Table) -> None:
    asked = {"x": 9.0, -1: 1.0, "kind": "oak"}
    with pytest.warns(InputDataWarning, match=r"Columns \['c'\] never vary"):
        fixed = fixed_inputs(table, asked, None)
    assert fixed == {0: 9.0, 5: 1.0, 3: 1.0, 2: 7.0}  # fir is the first category


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"n": 1.5}, r"`fixed_features\['n'\]` must be an integer like its column, received 1\.5"),
        ({"x": "much"}, r"`fixed_features\['x'\]` must be a finite number, received 'much'"),
        ({"z": 1.0}, r"`fixed_features` names the column 'z', which is not among"),
        ({"kind": "ash"}, r"must be one of the categories of 'kind'"),
        ({"site": "ab"}, r"names the sequences 'site'"),
    ],
)
def test_bad_fixed(table: Table, fixed: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, InputDataError), match=message):
        fixed_inputs(table, fixed, None)


def test_bounds(table: Table) -> None:
    box = input_bounds(table, {"x": (-1.0, 1.0)}, 0.5, {1: 9.0}, None)
    low = [-1.0, -1.0, 7.0, 0.0, 0.0, 0.0]
    high = [1.0, 9.0, 7.0, 1.0, 1.0, 1.0]  # the integer: 5 + 2, and wide enough for what is fixed
    assert box.tolist() == [low, high]
    given = torch.stack([box[0] - 1.0, box[1]])
    assert torch.equal(input_bounds(table, given, 0.0, {}, None), given)


def test_bounds_of_an_encoding(table: Table) -> None:
    encoding = make_encoding(table, input_bounds(table, None, 0.0, {}, None), "one_hot", {})
    assert encoding is not None
    assert torch.equal(input_bounds(table, None, 0.0, {}, encoding), encoding.design_bounds)
    with pytest.raises(ValueError, match=r"`margin` widens bounds .* received 0\.1"):
        input_bounds(table, None, 0.1, {}, encoding)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"kind": (0.0, 1.0)}, r"`bounds\['kind'\]` names a column of texts"),
        ({"x": 1.0}, r"`bounds\['x'\]` must be \(lower, upper\), received 1\.0"),
        ({"x": (2.0, 1.0)}, r"`bounds\['x'\]` .* with lower <= upper, received \(2\.0, 1\.0\)"),
        ([(0.0, 1.0)], r"`bounds` must be a 2 x d tensor or a dictionary"),
    ],
)
def test_bad_bounds(table: Table, bounds: Any, message: str) -> None:
    with pytest.raises((ValueError, InputDataError), match=message):
        input_bounds(table, bounds, 0.0, {}, None)


def test_fixed_values_lie_within_their_bounds(table: Table) -> None:
    message = r"`fixed_features\['n'\]` must lie within its bounds \[0, 3\], received 9; change"
    box = input_bounds(table, None, 0.0, {}, None)
    box[:, 1] = torch.tensor([0.0, 3.0])
    for bounds in ({"n": (0.0, 3.0)}, box):
        with pytest.raises(ValueError, match=message):
            input_bounds(table, bounds, 0.0, {1: 9.0}, None)
        input_bounds(table, bounds, 0.0, {1: 3.0, 99: 7.0}, None)  # 99: refused by stage 2


def test_rounding(table: Table) -> None:
    box = input_bounds(table, {"n": (0.5, 3.7)}, 0.0, {}, None)
    rounding = rounding_func(table, box)
    assert rounding is not None
    X = table.X.clone()
    X[:, 1] = torch.tensor([0.6, 1.4, 2.6, 3.7], dtype=X.dtype)
    assert rounding(X)[:, 1].tolist() == [1.0, 1.0, 3.0, 3.0]
    assert torch.equal(rounding(X)[:, [0, 2, 3, 4, 5]], X[:, [0, 2, 3, 4, 5]])
    box[:, 1] = torch.tensor([1.2, 1.8], dtype=box.dtype)
    with pytest.raises(InputDataError, match=r"integer column 'n' hold no integer: \[1\.2, 1\.8\]"):
        rounding_func(table, box)
    assert rounding_func(read_table(torch.rand(3, 2), torch.rand(3)), box) is None


def test_encoding_column_by_column(table: Table) -> None:
    box = input_bounds(table, None, 0.0, {}, None)
    encoding = make_encoding(table, box, "logits", {})
    assert isinstance(encoding, ColumnEncoding)
    kinds = [NumericEncoding, NumericEncoding, NumericEncoding, OneHotEncoding, LogitsEncoding]
    assert [type(b) for b in encoding.blocks] == kinds
    assert torch.equal(encoding.decode(encoding.encode(table.X)), table.X)
    assert make_encoding(table, box, encoding, {}) is encoding
    assert make_encoding(read_table(torch.rand(3, 2), torch.rand(3)), box, "logits", {}) is None


@pytest.mark.parametrize(
    ("used", "given", "options", "message"),
    [
        ("spline", "spline", None, r"`encoding` must be one of .* received 'spline'"),
        ("one_hot", None, {"beta": 1.0}, r"`encoding_options` .* received \['beta'\]"),
    ],
)
def test_bad_encoding(table: Table, used: Any, given: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_encoding(table, used, given, options)
    plain = read_table(torch.rand(3, 2), torch.rand(3))
    with pytest.raises(ValueError, match="`encoding` is for the columns named in `sequences`"):
        check_encoding(plain, "one_hot", "one_hot", None)

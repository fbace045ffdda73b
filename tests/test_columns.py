from __future__ import annotations

import pytest

from botorch_roma.columns import check_once, parse_bounds, parse_fixed


def test_values_of_columns() -> None:
    assert parse_bounds(None) == parse_fixed(None) == {}
    assert parse_bounds(["a=0:1", "p=q=-3:2e1"]) == {"a": (0.0, 1.0), "p=q": (-3.0, 20.0)}
    assert parse_fixed(["a=1", "p=q=oak"]) == {"a": "1", "p=q": "oak"}


@pytest.mark.parametrize(
    "text",
    ["a", "a=1", "=0:1", "a=x:1", "a=1:", "a=:", "a=0:1:2"],
)
def test_another_form(text: str) -> None:
    with pytest.raises(ValueError, match=f"`--bounds` must be COLUMN=LOWER:UPPER, .*'{text}'"):
        parse_bounds([text])


def test_a_column_is_named_once() -> None:
    check_once("--ignore", ["a", "b"])
    with pytest.raises(ValueError, match="`--fix` names the column 'a' 2 times; name it once"):
        parse_fixed(["a=1", "a=2"])

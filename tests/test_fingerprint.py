from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from botorch.models.transforms import Normalize
from hypothesis import given
from hypothesis import strategies as st

import botorch_roma
from botorch_roma import chunks
from botorch_roma.fingerprint import MAX_NUMBERS, differences, digest, fingerprint
from botorch_roma.latent import OneHotEncoding, Vocabulary

LIMIT = 3.0


@dataclass
class Point:
    x: float
    y: Any = None


class Plain:
    def __init__(self, value: Any) -> None:
        self.value, self._cache = value, object()

    def method(self) -> Any:
        return self.value


def closing_over(value: Any) -> Callable[[Any], Any]:
    return lambda x: x + value


def same(one: Any, other: Any) -> bool:
    return not differences(fingerprint(value=one), fingerprint(value=other))


X = torch.arange(6.0).view(3, 2)
LARGE = torch.zeros(MAX_NUMBERS + 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (0.1, 0.1 + 1e-16),
        (None, 0),
        (True, 1),
        ("1", 1),
        ([1, 2], [2, 1]),
        ([], None),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({1, 2}, {1, 3}),
        (range(3), range(4)),
        (X, X + 1e-3),
        (X, X.double()),
        (X, X.view(2, 3)),
        (X.long(), X.long() + 1),
        (LARGE, LARGE + 1e-30),
        (np.arange(3.0), np.arange(3.0) + 1),
        (torch.float32, torch.float64),
        (Path("a"), Path("b")),
        (int, float),
        (Point(1.0), Point(2.0)),
        (Point(1.0, X), Point(1.0, -X)),
        (Plain(1), Plain(2)),
        (Plain(1).method, Plain(2).method),
        (closing_over(1.0), closing_over(2.0)),
        (closing_over(X), closing_over(-X)),
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x: x.sin(), lambda x: x.cos()),
        (lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x]),
        (lambda x=1: x, lambda x=2: x),
        (lambda x: x in {"a", "b"}, lambda x: x in {"a", "c"}),
        (functools.partial(max, 1), functools.partial(max, 2)),
        (math.sin, math.cos),
        (torch.nn.Tanh(), torch.nn.SiLU()),
        (Normalize(d=2), Normalize(d=3)),
        (OneHotEncoding(Vocabulary("ab"), 2), OneHotEncoding(Vocabulary("ac"), 2)),
    ],
)
def test_what_differs_is_seen(one: Any, other: Any) -> None:
    assert same(one, one)
    assert not same(one, other)
    assert not same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (float("nan"), float("nan")),
        (X, X * (1 + 1e-6)),
        (torch.tensor([torch.nan]), torch.tensor([torch.nan])),
        (LARGE, LARGE.clone()),
        (Plain(1), Plain(1)),
        (closing_over(X), closing_over(X.clone())),
        (lambda x: x + 1, lambda x: x + 1),
    ],
)
def test_what_is_the_same(one: Any, other: Any) -> None:
    assert same(one, other)


def test_global_values_that_a_function_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(x: float) -> bool:
        return x > LIMIT

    before = fingerprint(f=function)
    monkeypatch.setitem(globals(), "LIMIT", 4.0)
    assert differences(fingerprint(f=function), before) == ["`f.LIMIT` is 4.0 and was 3.0"]


def test_circles() -> None:
    point, plain = Point(1.0), Plain(None)
    point.y, plain.value = [point], {"self": plain}
    assert set(fingerprint(p=point, q=plain)) == {"p", "p.x", "q"}


def test_shared_parts_count_each_time() -> None:
    shared = [1]
    assert same([shared, shared], [[1], [1]])


def test_training_mode_and_what_no_state_dict_holds_do_not_matter() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    other.eval()
    other.register_buffer("rows", X, persistent=False)
    assert same(one, other)
    other.bias.data += 1
    assert not same(one, other)


def test_it_is_that_of_other_processes() -> None:
    """No place in memory, no order of a set, no line of a file."""
    code = (
        "import torch; from botorch_roma.fingerprint import fingerprint; limit = 2\n{}"
        "f = lambda x: x in {{'a', 'b', 'c', 'd'}} and x > limit\n"
        "print(fingerprint(f=f, s={{'a', 'b', 'c'}}, m=torch.nn.Tanh(), o=object()))"
    )
    root = Path(botorch_roma.__file__).parents[1]
    printed = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code.format("\n" * i)],
            env={"PYTHONPATH": str(root), "PYTHONHASHSEED": str(i)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for i in range(2)
    }
    assert len(printed) == 1
    assert "Tanh" in printed.pop()


@given(rows=st.integers(1, 40), column=st.booleans())
def test_digest(rows: int, column: bool) -> None:
    """To the last bit, in chunks or at once, whatever the strides."""
    X = torch.rand(rows, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    X = X[:, ::2] if column else X
    with pytest.MonkeyPatch.context() as patch:
        whole = digest(X)
        patch.setattr(chunks, "CHUNK_ROWS", 7)
        assert digest(X) == whole == digest(X.clone())
    other = X.clone()
    other[rows // 2, 1] += 1e-16
    assert torch.equal(other, X) == (digest(other) == whole)
    assert whole.startswith(f"float64, {rows} x {X.shape[1]}, ")


def test_digest_of_little() -> None:
    assert digest(None) == "None"
    assert digest(torch.tensor(1.0)).startswith("float32, one number, ")
    assert digest(torch.empty(0, 2)).startswith("float32, 0 x 2, ")

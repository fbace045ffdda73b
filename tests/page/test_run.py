from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from botorch.exceptions import InputDataError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from botorch_roma.page import Run
from botorch_roma.page.run import read_summary, token_shares

MakeRun = Callable[..., Any]


def save(run: Run, frame: pd.DataFrame, folder: Path, **summary: Any) -> Path:
    """The table, and a run as ``propose --json`` prints it."""
    frame.assign(remark="x").to_csv(folder / "data.csv", index=False)
    rows = pd.DataFrame(run.table.restore(run.candidates)).assign(
        predicted_mean=run.mean.numpy(),
        predicted_std=run.std.numpy(),
        distance=run.distance.numpy(),
    )
    told = dict(run.summary) | {"sequences": ["site"], "ignore": ["remark"], "data": "data.csv"}
    told |= {"candidates": rows.to_dict("records")}
    path = folder / "run.json"
    path.write_text(json.dumps(told | summary), "utf-8")
    return path


@pytest.fixture
def run(make_run: MakeRun, frame: pd.DataFrame) -> Any:
    return make_run(frame)


def test_a_saved_run_is_that_run(run: Run, frame: pd.DataFrame, tmp_path: Path) -> None:
    path = save(run, frame, tmp_path)
    for read in (Run.read(path), Run.read(path, tmp_path / "data.csv")):
        for name in ("candidates", "mean", "std", "distance", "best_known"):
            assert torch.equal(getattr(read, name), getattr(run, name))
        assert torch.equal(read.table.X, run.table.X)
        assert read.table.columns == run.table.columns
        assert read.summary["seed"] == 3
        assert not read.updates


KINDS = {
    "a number": st.floats(-1e300, 1e300),
    "n": st.integers(-(2**50), 2**50),
    "on": st.booleans(),
    "kind": st.sampled_from(["oak", "<b>fir</b>", "ä,ß"]),
    "site": st.text("acgt", min_size=1, max_size=4),
}


@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), n=st.integers(3, 12), updates=st.integers(0, 2))
def test_any_saved_run(make_run: MakeRun, tmp_path: Path, data: Any, n: int, updates: int) -> None:
    """To the last digit; proposals have the types of the table."""
    names = data.draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True))
    columns = {k: data.draw(st.lists(KINDS[k], min_size=n, max_size=n)) for k in names}
    frame = pd.DataFrame(
        {"x": [i / 8 for i in range(n)], **columns, "y": [i * i for i in range(n)]}
    )
    q = data.draw(st.integers(1, n), label="q")
    run = make_run(frame, q, num_updates=updates)
    path = save(run, frame, tmp_path, sequences=[c for c in names if c == "site"])
    content = path.read_bytes(), (tmp_path / "data.csv").read_bytes()
    read = Run.read(path)
    assert read.candidates.shape == (q, run.table.X.shape[1])
    for name in ("candidates", "mean", "std", "distance", "best_known"):
        assert torch.equal(getattr(read, name), getattr(run, name))
    assert torch.equal(read.table.X, run.table.X)
    assert [c.name for c in read.moved] == [c.name for c in run.moved]
    assert {c.name for c in read.moved} == {"x", *names} - {"site"}
    assert (path.read_bytes(), (tmp_path / "data.csv").read_bytes()) == content


def test_another_table(run: Run, frame: pd.DataFrame, tmp_path: Path) -> None:
    path = save(run, frame, tmp_path, rows=61)
    with pytest.raises(InputDataError, match=r"data\.csv' has 60 rows, and the run saw 61"):
        Run.read(path)
    other = frame.assign(kind="elm", remark="x")
    other.to_csv(tmp_path / "other.csv", index=False)
    path = save(run, frame, tmp_path)
    with pytest.raises(InputDataError, match=r"candidates\[0\].*categories of 'kind'"):
        Run.read(path, tmp_path / "other.csv")
    (tmp_path / "data.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file 'data\.csv'"):
        Run.read(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", None),
        ("rows", "60"),
        ("best_measured", None),
        ("rank_correlation", "high"),
        ("fixed", []),
        ("settings", {"fit": 3}),
        ("seconds", {"fit": None}),
        ("warnings", 5),
        ("candidates", []),
        ("candidates", [3]),
    ],
)
def test_damaged_runs(run: Run, frame: pd.DataFrame, tmp_path: Path, name: str, value: Any) -> None:
    path = save(run, frame, tmp_path, **{name: value})
    message = (
        rf"run\.json' cannot be read: `{name}.*` is missing or holds something else, .*; print"
    )
    with pytest.raises(InputDataError, match=message):
        Run.read(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", "x"),
        ("a", float("inf")),
        ("on", None),
        ("kind", ["oak"]),
        ("site", 3),
        ("distance", None),
        ("predicted_mean", float("nan")),
    ],
)
def test_damaged_candidates(
    run: Run, frame: pd.DataFrame, tmp_path: Path, name: str, value: Any
) -> None:
    path = save(run, frame, tmp_path)
    told = json.loads(path.read_text("utf-8"))
    for broken in ({**told["candidates"][1], name: value}, {}):
        told["candidates"][1] = broken
        path.write_text(json.dumps(told), "utf-8")
        with pytest.raises(InputDataError, match=r"`candidates\[1\]\['.*'\]` is missing or holds"):
            Run.read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"candidates": []}', '{"a": 1}\n{"b": 2}\n'])
def test_what_is_no_run(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    assert read_summary(path) is None
    with pytest.raises(InputDataError, match=r"runs\.jsonl' holds no run; pass what"):
        Run.read(path)
    path.write_bytes(b"\xff\xfe")
    assert read_summary(path) is None


def test_moved(run: Run) -> None:
    names = {c.name: c for c in run.inputs}
    run = dataclasses.replace(run, candidates=run.best_known.clone())
    run.candidates[:, names["n"].start] += 3.0
    run.candidates[:, names["kind"].start] = 0.0
    assert [c.name for c in run.moved[:2]] == ["n", "kind"]
    assert set(run.moved) == set(run.inputs)


def test_best_known_of_both_directions(make_run: MakeRun, frame: pd.DataFrame) -> None:
    for direction, rows in (
        ("maximize", frame.nlargest(50, "y")),
        ("minimize", frame.nsmallest(50, "y")),
    ):
        run = make_run(frame, direction=direction)
        assert sorted(run.best_known[:, 0].tolist()) == sorted(rows["a"])
    assert len(make_run(frame[["a", "y"]][:3], 3).best_known) == 3


def test_token_shares() -> None:
    shares = token_shares(torch.tensor([[0, 1], [0, 2], [1, 2], [0, 2]]), 3)
    assert shares.tolist() == [[0.75, 0.0], [0.25, 0.25], [0.0, 0.75]]

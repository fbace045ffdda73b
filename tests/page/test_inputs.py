from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from botorch_roma.page import inputs
from botorch_roma.page.inputs import heights, panels, parallel, value_range

pytest.importorskip("plotly", reason="needs the extra report")

MakeRun = Callable[..., Any]


def test_lines_of_designs(make_run: MakeRun, frame: pd.DataFrame) -> None:
    run = make_run(frame)
    columns = run.inputs
    figure = parallel(run, columns)
    known, proposed, chosen = figure.data
    places = heights(run, columns, run.candidates)
    assert places.min() == 0.0
    assert places.max() == 1.0
    lines = np.reshape(proposed.y, (10, len(columns) + 1))
    assert lines[:, :-1].tolist() == places.tolist()
    assert np.isnan(lines[:, -1]).all()
    assert len(known.y) == 50 * (len(columns) + 1)
    assert list(chosen.y) == places[0].tolist()
    low, high = value_range(run, columns[0])
    drawn = [run.best_known[:, 0], run.candidates[:, 0]]
    assert (low, high) == (min(d.min() for d in drawn), max(d.max() for d in drawn))
    texts = [a.text for a in figure.layout.annotations]
    assert texts[:2] == [f"{low:.4g}", f"{high:.4g}"]
    assert texts[-3:] == ["&lt;b&gt;fir&lt;/b&gt;", "ash", "oak"]
    assert list(figure.layout.xaxis.ticktext)[1] == "&lt;script&gt;alert(1)&lt;/script&gt;"


def test_of_many_categories_some_are_named(make_run: MakeRun) -> None:
    kinds = [f"kind {i:02}" for i in range(20)] * 3
    run = make_run(pd.DataFrame({"kind": kinds, "y": range(60)}))
    marks = {a.text: a.y for a in parallel(run, run.inputs).layout.annotations}
    assert len(marks) == inputs.MAX_NAMES
    assert marks["kind 00"] == 0.0
    assert marks["kind 02"] == pytest.approx(2 / 19)
    assert marks["kind 19"] == 1.0
    axis = panels(run, run.inputs).layout.xaxis
    assert list(axis.tickvals) == [0, 6, 13, 19]
    assert list(axis.ticktext) == ["kind 00", "kind 06", "kind 13", "kind 19"]


def test_names_that_are_cut_to_the_same_keep_their_bars(make_run: MakeRun) -> None:
    run = make_run(pd.DataFrame({"kind": [100 * "w" + c for c in "aabc"] * 15, "y": range(60)}))
    data, _ = panels(run, run.inputs).data
    assert list(data.x) == [0, 1, 2]
    assert list(data.y) == [50.0, 25.0, 25.0]


def test_booleans_are_named(make_run: MakeRun, frame: pd.DataFrame) -> None:
    run = make_run(frame)
    columns = [c for c in run.inputs if c.name == "on"]
    run.candidates[:, columns[0].start] = 1.0
    marks = {a.text: a.y for a in parallel(run, columns).layout.annotations}
    assert marks == {"False": 0.0, "True": 1.0}
    figure = panels(run, columns)
    assert list(figure.layout.xaxis.ticktext) == ["False", "True"]
    assert list(figure.data[1].y) == [0.0, 100.0]


def test_one_value_is_in_the_middle(make_run: MakeRun) -> None:
    frame = pd.DataFrame({"k": 7.0, "c": "one", "a": range(20), "y": range(20)})
    run = make_run(frame.assign(k=frame["k"].astype(int)))
    assert heights(run, run.inputs, run.candidates)[:, :2].tolist() == [[0.5, 0.5]] * 10
    texts = [a.text for a in parallel(run, run.inputs).layout.annotations]
    assert texts[:2] == ["7", "one"]


def test_histograms_count_all_rows(make_run: MakeRun, frame: pd.DataFrame) -> None:
    frame.loc[0, "a"] = 1e6  # far out: in the last bar
    run = make_run(frame)
    data, proposals = panels(run, [run.inputs[0]]).data
    assert sum(data.customdata) == 60
    assert sum(proposals.customdata) == 10
    whole = next(c for c in run.inputs if c.name == "n")
    data, _ = panels(run, [whole]).data
    assert list(data.x) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert list(data.customdata) == frame["n"].value_counts().sort_index().tolist()
    kind = next(c for c in run.inputs if c.name == "kind")
    data, proposals = panels(run, [kind]).data
    assert sum(data.y) == pytest.approx(100.0)
    assert proposals.y[1] == pytest.approx(10.0 * (frame["kind"][:10] == "ash").sum())


def test_not_too_many_lines(
    make_run: MakeRun, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MAX_LINES", 3)
    run = make_run(frame)
    assert [len(t.y) for t in parallel(run, run.inputs).data[:2]] == [21, 21]

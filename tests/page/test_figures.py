from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from botorch_roma.page import figures
from botorch_roma.page.figures import bars, bins, label

pytest.importorskip("plotly", reason="needs the extra report")

MakeRun = Callable[..., Any]


def test_label() -> None:
    assert label("a  <b>\n& c") == "a &lt;b&gt; &amp; c"
    assert label("x" * 40) == "x" * 27 + "…"
    assert label("<" * 40, 3) == "&lt;&lt;…"  # cut before it is escaped
    assert label(3) == "3"


def test_bars_hold_all_values() -> None:
    values = np.array([0.0, 0.1, 0.5, 1.0])
    bar = bars(values, bins(0.0, 1.0, 4))
    assert list(bar.customdata) == [2, 0, 1, 1]
    assert list(bar.y) == [50.0, 0.0, 25.0, 25.0]
    assert list(bars(np.ones(3), bins(1.0, 1.0)).customdata) == [3]


def test_outcomes(make_run: MakeRun, frame: pd.DataFrame) -> None:
    run = make_run(frame)
    measured, predicted = figures.outcomes(run).data
    assert sum(measured.customdata) == 60
    assert sum(predicted.customdata) == 10
    assert list(measured.x) == list(predicted.x)
    figure = figures.outcomes(run)
    assert figure.layout.shapes[0].x0 == frame["y"].max()


@pytest.mark.parametrize(("direction", "anchor"), [("maximize", "right"), ("minimize", "left")])
def test_the_best_is_named_where_it_hides_nothing(
    make_run: MakeRun, frame: pd.DataFrame, direction: str, anchor: str
) -> None:
    run = make_run(frame, direction=direction)
    (upright,) = figures.outcomes(run).layout.annotations
    assert upright.xanchor == anchor  # the text ends, or begins, at the line
    (level,) = figures.distances(run).layout.annotations
    assert (level.x, level.xanchor) == (0, "left")  # where no candidate is, as a rule


def test_distances(make_run: MakeRun, frame: pd.DataFrame) -> None:
    run = make_run(frame)
    figure = figures.distances(run)
    proposals, chosen = figure.data
    assert list(proposals.x) == run.distance.tolist()
    assert list(proposals.y) == run.mean.tolist()
    assert list(proposals.error_y.array) == run.std.tolist()
    assert proposals.customdata[:, 0].tolist() == list(range(1, 11))
    assert list(chosen.x) == []
    assert figure.layout.shapes[0].y0 == frame["y"].max()


@pytest.mark.parametrize("q", [1, 10])
def test_updates(make_run: MakeRun, frame: pd.DataFrame, q: int) -> None:
    run = make_run(frame, q, num_updates=4)
    figure = figures.updates(run)
    assert figure is not None
    curves = {trace.name: trace for trace in figure.data[:4]}
    for name in ("adapted", "fitted"):
        values = run.updates[name].numpy()
        assert list(curves[f"{name} proxy, median"].y) == np.median(values, axis=1).tolist()
        band = curves[f"{name} proxy, 10 to 90 %"].y
        assert band == pytest.approx(
            [*np.quantile(values, 0.9, axis=1), *np.quantile(values, 0.1, axis=1)[::-1]]
        )
    singles = figure.data[4:]
    assert len(singles) == min(4, q)
    columns = run.updates["adapted"].T.tolist()
    assert all(list(trace.y) in columns for trace in singles)
    assert figures.updates(make_run(frame)) is None


def test_tokens(make_run: MakeRun, frame: pd.DataFrame) -> None:
    run = make_run(frame)
    (column,) = run.sequences
    proposed, known = figures.tokens(run, column).data
    figure = figures.tokens(run, column)
    assert list(figure.layout.yaxis.ticktext) == ["a", "c", "g", "t", "(end)"]
    assert list(proposed.y) == list(figure.layout.yaxis.tickvals) == [0, 1, 2, 3, 4]
    assert proposed.customdata[4][0] == "(end)"
    assert list(proposed.x) == ["1", "2", "3", "4", "5", "6"]
    first = [s[0] for s in frame["site"][:10]]
    assert proposed.z[:4, 0] == pytest.approx([10.0 * first.count(s) for s in "acgt"])
    best = run.sequences[0].restore(run.best_known)
    assert known.z[4, 5] == pytest.approx(100.0 * sum(len(s) < 6 for s in best) / 50)


def test_symbols_that_cannot_be_seen(make_run: MakeRun, frame: pd.DataFrame) -> None:
    run = make_run(frame.assign(site=frame["site"].str.replace("a", " ").str.replace("c", "\t")))
    names = figures.tokens(run, run.sequences[0]).layout.yaxis.ticktext
    assert list(names)[:2] == ["'\\t'", "' '"]


def test_of_long_sequences_the_positions_that_differ(
    make_run: MakeRun, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_POSITIONS", 2)
    run = make_run(frame)
    (column,) = run.sequences
    run.candidates[:, column.start + 1] = 0.0
    run.candidates[:, column.start + 3] = 1.0
    assert list(figures.tokens(run, column).data[0].x) == ["2", "4"]

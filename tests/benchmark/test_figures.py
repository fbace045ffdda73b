from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botorch_roma.benchmark.figures import percentile_figure
from botorch_roma.benchmark.methods import METHODS

RANGES = {"visible": [0.0, 10.0], "full": [0.0, 20.0]}


def run(task: str, method: str, seed: int, values: Any) -> dict[str, Any]:
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "values": values,
        "ranges": RANGES,
        "substitute": "other data" if task == "b" else None,
    }


@pytest.fixture
def runs() -> pd.DataFrame:
    return pd.DataFrame(
        [
            run("a", "default", 0, [0.0, 5.0, 10.0]),
            run("a", "default", 1, [4.0, 9.0, 14.0]),
            run("a", "start", 0, [9.0, 9.0, 9.0]),
            run("b", "default", 0, [1.0, 1.0, 2.0]),
            run("b", "paper", 0, None),  # refused
        ]
    )


@pytest.mark.parametrize(("scale", "width"), [("full", 20.0), ("visible", 10.0)])
def test_curves(runs: pd.DataFrame, scale: str, width: float) -> None:
    figure = percentile_figure(runs, scale=scale)
    first, second, third = figure.axes if len(figure.axes) == 3 else (*figure.axes, None)
    assert third is None
    assert first.get_title() == "a"
    assert second.get_title() == "b (substitute)"
    assert scale in first.get_ylabel()
    start, default, best = first.get_lines()  # in the order of all tables
    assert start.get_ydata() == pytest.approx(9.0 / width)
    x, y = default.get_data()
    assert x[[0, 50, 100]].tolist() == [0.0, 50.0, 100.0]
    assert y[[0, 50, 100]] * width == pytest.approx([2.0, 7.0, 12.0])
    assert np.unique(best.get_ydata()).tolist() == [10.0 / width]
    assert len(second.get_lines()) == 2
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert labels == ["start designs (best visible)", "RoMA, default", "best visible design"]


def test_many_methods_are_told_apart_and_all_named() -> None:
    batches = [run("a", method, 0, [0.0, 10.0]) for method in METHODS]
    figure = percentile_figure(pd.DataFrame(batches))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(METHODS) + 1
    room, taken = figure.bbox, legend.get_window_extent()
    assert room.x0 <= taken.x0
    assert room.y0 <= taken.y0
    assert taken.x1 <= room.x1
    assert taken.y1 <= room.y1
    looks = [(k.get_color(), k.get_linestyle()) for k in figure.axes[0].get_lines()]
    assert len(set(looks)) == len(METHODS) + 1


def test_a_method_looks_the_same_in_every_figure(runs: pd.DataFrame) -> None:
    (few,) = percentile_figure(runs[runs["method"] == "start"]).axes
    many = percentile_figure(runs).axes[0]
    assert few.get_lines()[0].get_color() == many.get_lines()[0].get_color()


def test_unknown_scale(runs: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"`scale` must be one of .* received 'v2'"):
        percentile_figure(runs, scale="v2")


@settings(max_examples=4)
@given(
    batches=st.dictionaries(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["start", "default", "paper"])),
        st.none() | st.lists(st.floats(-5.0, 25.0), min_size=1, max_size=5),
        min_size=1,
    ),
    scale=st.sampled_from(["full", "visible"]),
)
def test_any_runs(batches: dict[tuple[str, str], list[float] | None], scale: str) -> None:
    """A panel for each task, in it a rising line for each batch and one for the best design."""
    rows = [run(task, method, 0, values) for (task, method), values in batches.items()]
    figure = percentile_figure(pd.DataFrame(rows), scale=scale)
    panels = {axis.get_title()[:1]: axis for axis in figure.axes if axis.axison}
    assert set(panels) == {task for task, _ in batches}
    low, high = RANGES[scale]
    for task, axis in panels.items():
        *lines, best = axis.get_lines()
        shown = [v for (t, _), v in batches.items() if t == task and v is not None]
        assert len(lines) == len(shown)
        assert np.unique(best.get_ydata()).tolist() == [10.0 / high]
        ends = [[y[0], y[-1]] for y in (line.get_ydata() for line in lines)]
        expected = [[(f(v) - low) / (high - low) for f in (min, max)] for v in shown]
        np.testing.assert_allclose(sorted(ends), sorted(expected), atol=1e-12)
        assert all((np.diff(line.get_ydata()) >= -1e-12).all() for line in lines)

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botorch_roma.benchmark.ablation import AblationTable, ablation_table

SCORES = {"only_none": [0.1, 0.2, 0.6], "only_noise": [0.5], "fast": [0.4, 0.6], "paper": [9.0]}


@pytest.fixture
def runs() -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {"task": task, "method": m, "seed": s, "full_50": v + shift, "full_100": 1.0}
        for task, shift in (("one", 0.0), ("two", 1.0))
        for m, values in SCORES.items()
        for s, v in enumerate(values)
    ]
    return pd.DataFrame([*rows, {**rows[-1], "task": "no_ablation", "method": "fast"}])


@pytest.fixture
def table(runs: pd.DataFrame) -> AblationTable:
    table = ablation_table(runs, percentile=50, scale="full")
    assert table is not None
    return table


def test_intervals_by_hand(table: AblationTable) -> None:
    assert list(table.mean.index) == ["only_none", "only_noise", "fast"]
    assert list(table.mean) == ["one", "two"]
    assert table.mean["one"].tolist() == pytest.approx([0.3, 0.5, 0.5])
    # three values of deviation sqrt(0.07): t of two degrees of freedom at 97.5 % is 4.302653
    none, noise, both = table.half_width["one"].tolist()
    assert none == pytest.approx(4.302653 * math.sqrt(0.07 / 3), rel=1e-6)
    assert math.isnan(noise)
    assert both == pytest.approx(12.706205 * 0.1, rel=1e-6)
    assert table.half_width["two"].tolist() == pytest.approx([none, math.nan, both], nan_ok=True)


def test_frame(table: AblationTable) -> None:
    frame = table.to_frame()
    assert list(frame)[:3] == ["one mean", "one low", "one high"]
    low, high = frame.loc["fast", ["one low", "one high"]]
    assert (low, high) == pytest.approx((0.5 - 1.2706205, 0.5 + 1.2706205))


def test_texts(table: AblationTable) -> None:
    lines = table.to_markdown().splitlines()
    assert lines[0] == "| components | one | two |"
    assert lines[2].startswith("| none of the components | 0.300 [-0.357, 0.957] | 1.300 [")
    assert lines[3] == "| noise alone | 0.500 | 1.500 |"
    assert lines[4].startswith("| all together | 0.500 [")
    assert r"noise alone & 0.500 & 1.500 \\" in table.to_latex()


def test_what_is_missing_stays_empty(runs: pd.DataFrame) -> None:
    part = runs[~((runs["task"] == "two") & (runs["method"] == "only_noise"))]
    table = ablation_table(part, percentile=50, scale="full")
    assert table is not None
    assert "| noise alone | 0.500 | |" in table.to_markdown()
    assert r"noise alone & 0.500 & -- \\" in table.to_latex()
    table.figure()


def test_figure(table: AblationTable) -> None:
    figure = table.figure()
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["none of the components", "noise alone", "all together"]
    points = figure.axes[1].get_lines()[0].get_xdata()
    assert [*points] == pytest.approx([1.3, 1.5, 1.5])


def test_runs_without_an_ablation(runs: pd.DataFrame) -> None:
    assert ablation_table(runs[runs["method"] == "fast"], percentile=100, scale="full") is None


@pytest.mark.parametrize(("percentile", "scale"), [(90, "full"), (100, "paper")])
def test_refusals(runs: pd.DataFrame, percentile: int, scale: str) -> None:
    with pytest.raises(ValueError, match="`percentile`" if scale == "full" else "`scale`"):
        ablation_table(runs, percentile=percentile, scale=scale)


@given(
    scores=st.dictionaries(
        st.tuples(st.sampled_from([*SCORES]), st.sampled_from(["one", "two"])),
        st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=4),
        min_size=1,
    ),
    percentile=st.sampled_from([100, 50]),
)
def test_any_runs(scores: dict[tuple[str, str], list[float]], percentile: int) -> None:
    """Intervals around the means, of tasks on which something was left out; else no table."""
    rows = [
        {"task": task, "method": m, "seed": s, f"full_{percentile}": v}
        for (m, task), values in scores.items()
        for s, v in enumerate(values)
    ]
    table = ablation_table(pd.DataFrame(rows), percentile=percentile, scale="full")
    tasks = {task for m, task in scores if m.startswith("only_")}
    assert (table is None) == (not tasks)
    if table is None:
        return
    assert set(table.mean) == tasks
    assert "paper" not in table.mean.index
    for method in table.mean.index:
        for task in tasks:
            values = scores.get((method, task), [])
            mean, half = table.mean.loc[method, task], table.half_width.loc[method, task]
            assert math.isnan(mean) == (not values)
            assert math.isnan(half) == (len(values) < 2)
            if values:
                assert mean == pytest.approx(sum(values) / len(values), abs=1e-12)
                assert math.isnan(half) or half >= 0.0

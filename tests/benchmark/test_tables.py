from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.tables import BEST_VISIBLE, average_scores, score_table

RANGES = {"a": {"visible": [0.0, 10.0], "full": [0.0, 20.0]}, "b": {"visible": [1.0, 3.0]}}
RANGES["b"]["full"] = [0.0, 4.0]

#: Method: task: score of every seed.
SCORES: dict[str, dict[str, list[float]]] = {
    "default": {"a": [0.8, 0.9, 1.0], "b": [0.5, 0.5, 0.5]},
    "start": {"a": [0.85], "b": [0.6]},
    "paper": {"a": [0.7, 0.7, 0.7], "b": [0.2, 0.6, 1.0]},
    "random": {"a": [0.1, 0.1, 0.1]},
}


@pytest.fixture
def runs() -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "task": task,
            "method": method,
            "seed": seed,
            "ranges": RANGES[task],
            "full_100": score,
            "full_50": score - 0.1,
            "visible_100": 2.0 * score,
            "visible_50": 2.0 * score - 0.1,
        }
        for method, tasks in SCORES.items()
        for task, scores in tasks.items()
        for seed, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def test_means_and_deviations(runs: pd.DataFrame) -> None:
    table = score_table(runs, percentile=100, scale="full")
    assert list(table.mean.index) == ["random", "start", "paper", "default"]  # as in all tables
    assert list(table.mean) == ["a", "b"]
    assert table.mean.loc["default"].tolist() == pytest.approx([0.9, 0.5])
    assert table.std.loc["default"].tolist() == pytest.approx([0.1, 0.0])
    assert table.std.loc["start"].isna().all()
    assert math.isnan(table.mean.loc["random", "b"])
    assert table.best_visible.to_dict() == {"a": 0.5, "b": 0.75}


@pytest.mark.parametrize(
    ("percentile", "scale", "value", "best"),
    [
        (100, "full", 0.9, 0.5),
        (50, "full", 0.8, 0.5),
        (100, "visible", 1.8, 1.0),
        (50, "visible", 1.7, 1.0),
    ],
)
def test_percentile_and_scale(
    runs: pd.DataFrame, percentile: int, scale: str, value: float, best: float
) -> None:
    table = score_table(runs, percentile=percentile, scale=scale)
    assert table.mean.loc["default", "a"] == pytest.approx(value)
    assert table.best_visible["a"] == best


def test_average_and_mean_rank_are_of_complete_methods(runs: pd.DataFrame) -> None:
    table = score_table(runs, percentile=100, scale="full")
    assert table.average.dropna().to_dict() == pytest.approx(
        {"start": 0.725, "paper": 0.65, "default": 0.7}
    )
    # a: default, start, paper; b: start and paper share the first place
    assert table.mean_rank.dropna().to_dict() == {"start": 1.75, "paper": 2.25, "default": 2.0}


def test_bold_is_within_one_deviation_of_the_best(runs: pd.DataFrame) -> None:
    chosen = score_table(runs, percentile=100, scale="full").among_the_best
    assert chosen["a"].to_dict() == {
        "random": False,
        "start": True,  # 0.85 against 0.9 - 0.1
        "paper": False,
        "default": True,
    }
    # the best are 0.6 without a deviation and 0.6 - 0.4: the larger one counts
    assert chosen["b"].to_dict() == {"random": False, "start": True, "paper": True, "default": True}


def test_frame(runs: pd.DataFrame) -> None:
    frame = score_table(runs, percentile=100, scale="full").to_frame()
    assert list(frame) == ["a mean", "a std", "b mean", "b std", "average", "mean rank"]
    assert list(frame.index) == [BEST_VISIBLE, "random", "start", "paper", "default"]
    assert frame.loc[BEST_VISIBLE, "average"] == 0.625
    assert frame.loc["default", "a std"] == pytest.approx(0.1)


def test_markdown(runs: pd.DataFrame) -> None:
    text = score_table(runs, percentile=100, scale="full").to_markdown()
    assert text.splitlines() == [
        "| method | a | b | average | mean rank |",
        "|---|---|---|---|---|",
        "| best visible design | 0.500 | 0.750 | 0.625 | |",
        "| random designs | 0.100 ± 0.000 | | | |",
        "| start designs (best visible) | **0.850** | **0.600** | 0.725 | 1.75 |",
        "| RoMA, paper | 0.700 ± 0.000 | **0.600 ± 0.400** | 0.650 | 2.25 |",
        "| RoMA, default | **0.900 ± 0.100** | **0.500 ± 0.000** | 0.700 | 2.00 |",
    ]


def test_latex(runs: pd.DataFrame) -> None:
    runs["task"] = runs["task"].replace("b", "b_2")
    lines = score_table(runs, percentile=100, scale="full").to_latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lcccc}"
    assert lines[-1] == r"\end{tabular}"
    assert lines[2] == r"method & a & b\_2 & average & mean rank \\"
    assert lines[5] == r"random designs & 0.100 $\pm$ 0.000 & -- & -- & -- \\"
    assert r"\textbf{0.900 $\pm$ 0.100}" in lines[8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"percentile": 99, "scale": "full"}, r"`percentile` must be one of .* received '99'"),
        ({"percentile": 50, "scale": "v2"}, r"`scale` must be one of .* received 'v2'"),
    ],
)
def test_bad_input(runs: pd.DataFrame, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_table(runs, **arguments)


@given(
    scores=st.dictionaries(
        st.tuples(st.sampled_from([*METHODS][:6]), st.sampled_from("ab"), st.integers(0, 3)),
        st.floats(-2.0, 2.0),
        min_size=1,
    ),
    percentile=st.sampled_from([100, 50]),
    scale=st.sampled_from(["full", "visible"]),
    data=st.data(),
)
def test_any_runs(
    scores: dict[tuple[str, str, int], float], percentile: int, scale: str, data: st.DataObject
) -> None:
    """Whatever their order and whatever is missing, every score counts once, where it belongs."""
    column = f"{scale}_{percentile}"
    rows = [
        {"method": m, "task": t, "seed": s, "ranges": RANGES[t], column: v}
        for (m, t, s), v in data.draw(st.permutations(sorted(scores.items())))
    ]
    table = score_table(pd.DataFrame(rows), percentile=percentile, scale=scale)
    methods, tasks = ({key[i] for key in scores} for i in (0, 1))
    assert list(table.mean.index) == [m for m in METHODS if m in methods]
    assert set(table.mean) == tasks
    for method in methods:
        for task in tasks:
            own = [v for (m, t, _), v in scores.items() if (m, t) == (method, task)]
            mean, std = table.mean.loc[method, task], table.std.loc[method, task]
            assert math.isnan(mean) == (not own)
            assert math.isnan(std) == (len(own) < 2)
            if own:
                assert mean == pytest.approx(sum(own) / len(own), abs=1e-12)
                assert math.isnan(std) or 0.0 <= std <= 4.0
    for task in tasks:  # the best is among the best
        assert table.among_the_best.loc[table.mean[task].idxmax(), task]
    ranks = table.mean_rank.dropna()
    assert ranks.between(1, len(methods)).all()
    for text in (table.to_markdown(), table.to_latex()):
        assert all(METHODS[m].label in text for m in methods)


@given(
    best=st.lists(st.floats(-9.0, 9.0), min_size=1, max_size=4),
    width=st.floats(0.5, 9.0),
    step=st.floats(-2.0, 2.0),
)
def test_average_scores(best: list[float], width: float, step: float) -> None:
    """The best visible designs have 1, the worst 0, and it is linear in between and beyond."""
    raw = {"best": best, "worst": [b - width for b in best], "step": [b + step for b in best]}
    found = average_scores(raw, best, [width] * len(best))
    assert found == pytest.approx({"best": 1.0, "worst": 0.0, "step": 1.0 + step / width})

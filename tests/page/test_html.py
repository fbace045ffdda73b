from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from botorch_roma.page import check_page, write_page
from botorch_roma.page.html import MAX_COLUMNS, MAX_ROWS, make_page
from botorch_roma.table import read_table

pytest.importorskip("plotly", reason="needs the extra report")

MakeRun = Callable[..., Any]
EVIL = "<script>alert(1)</script>"
FIGURES = ["outcomes", "distances", "updates", "parallel", "panels", "tokens-0"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the five million letters of plotly.js, which take time to parse."""
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly.js v0 */")


def test_the_page_needs_nothing_else(
    make_run: MakeRun, frame: pd.DataFrame, parse_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    page = parse_page(make_page(make_run(frame, num_updates=3)))
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "a", "base")
        assert not {"src", "href", "srcset", "action", "onclick", "onerror"} & set(attributes)
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_nothing_offers_to_send_the_data_away(make_run: MakeRun, frame: pd.DataFrame) -> None:
    text = make_page(make_run(frame, num_updates=3))
    drawn = text[text.index("<body>") :]
    assert "plotly.com" not in drawn
    assert drawn.count('"showSendToCloud": false') == len(FIGURES)
    assert drawn.count('"displaylogo": false') == len(FIGURES)


def test_figures_stand_once_and_in_order(
    make_run: MakeRun, frame: pd.DataFrame, parse_page: Any
) -> None:
    page = parse_page(make_page(make_run(frame, num_updates=3)))
    assert page.ids == [f"figure-{name}" for name in FIGURES]
    assert "was not recorded" not in page.text
    without = parse_page(make_page(make_run(frame.drop(columns="site"))))
    assert without.ids == [f"figure-{name}" for name in FIGURES if name not in FIGURES[2::3]]
    assert "was not recorded" in without.text
    sequences = parse_page(make_page(make_run(frame[["site", "y"]])))
    assert sequences.ids == ["figure-outcomes", "figure-distances", "figure-tokens-0"]


def test_texts_of_the_user_are_texts(
    make_run: MakeRun, frame: pd.DataFrame, parse_page: Any
) -> None:
    run = make_run(
        frame,
        num_updates=2,
        data=f"folder/{EVIL.replace('/', '')}.csv",
        warnings=[f"a warning of {EVIL}"],
        fixed={EVIL: "</main><b>"},
        objective=EVIL,
    )
    text = make_page(run)
    drawn = text[text.index("<body>") :]
    assert "alert(1)" in drawn
    assert "<script>alert" not in drawn
    assert "</script>alert" not in drawn
    page = parse_page(text)
    # parsed: the markup of the user is text in a heading, in the table, and in a warning
    assert page.text.count(EVIL) >= 4
    assert f"a warning of {EVIL}" in page.text
    assert f"{EVIL} = </main><b>" in page.text
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "script", "body", "main", "h1", "h2", "p"),
        *("section", "div", "span", "b", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"),
        *("button", "dl", "dt", "dd", "code"),
    }
    # in figures, plotly reads markup, which the entities are not
    assert '"\\u003cscript' not in drawn
    assert "&lt;script&gt;alert(1)&lt;\\u002fscript&gt;" in drawn


def test_numbers_are_those_of_the_run(
    make_run: MakeRun, frame: pd.DataFrame, parse_page: Any
) -> None:
    run = make_run(frame)
    head, *rows = parse_page(make_page(run)).rows
    names = [c for c in frame.columns if c != "y"]
    assert head == ["#", "predicted mean", "predicted deviation", "distance", *names]
    assert [int(row[0]) for row in rows] == list(range(1, 11))
    for i, expected in enumerate((run.mean, run.std, run.distance), start=1):
        assert [float(row[i]) for row in rows] == expected.tolist()
    values = run.table.restore(run.candidates)
    for i, name in enumerate(names, start=4):
        assert [row[i] for row in rows] == [
            str(int(v)) if isinstance(v, bool) else str(v) for v in values[name]
        ]


def test_data_of_the_script(make_run: MakeRun, frame: pd.DataFrame, parse_page: Any) -> None:
    run = make_run(frame)
    (data,) = [json.loads(s) for s in parse_page(make_page(run)).scripts if s.startswith('{"mean"')]
    assert data["mean"] == run.mean.tolist()
    assert data["distance"] == run.distance.tolist()
    assert np.shape(data["parallel"]) == (10, 6)


def test_head(make_run: MakeRun, frame: pd.DataFrame, parse_page: Any) -> None:
    text = parse_page(make_page(make_run(frame, fixed={"on": True}))).text
    for part in (
        "Proposals for y",
        "10 designs proposed from 60 measured rows with 7 inputs in data.csv ; larger is better",
        "0.500 rank correlation on 6 held-out rows",
        "y (maximize)",
        "preset default seed 3 held fixed on = True fit: epochs 5",
        "seconds, total 2.0 botorch_roma 0.0",
        "docs/limits.md",
    ):
        assert part in text
    assert "someone" not in text  # the folder of the table
    assert "Before you go on" not in text


def test_direction(make_run: MakeRun, frame: pd.DataFrame, parse_page: Any) -> None:
    best = frame["y"].min()
    run = make_run(frame, num_updates=2, direction="minimize", best_measured=best)
    text = parse_page(make_page(run)).text
    assert "smaller is better" in text
    assert "A curve that still falls" in text
    assert "Predicted better than the best measured row: 0 of 10 proposals." in text


@pytest.mark.parametrize(("correlation", "said"), [(None, "unknown"), (0.1, "0.100")])
def test_a_proxy_that_has_learnt_little(
    make_run: MakeRun, frame: pd.DataFrame, parse_page: Any, correlation: float | None, said: str
) -> None:
    text = parse_page(make_page(make_run(frame, rank_correlation=correlation))).text
    assert f"(rank correlation {said})" in text


def test_no_rows_held_out(make_run: MakeRun, frame: pd.DataFrame, parse_page: Any) -> None:
    text = parse_page(make_page(make_run(frame, rank_correlation=1.0, held_out=0))).text
    assert "too few rows to hold some out" in text
    assert "rank correlation on the training rows" in text


def test_known_designs_among_the_proposals(
    make_run: MakeRun, frame: pd.DataFrame, parse_page: Any
) -> None:
    run = make_run(frame)
    run.distance[:3] = 1e-9
    assert "3 of 10 proposals had been measured before" in parse_page(make_page(run)).text


def test_many_inputs(make_run: MakeRun, frame: pd.DataFrame, parse_page: Any) -> None:
    X = torch.rand(40, 5_126, generator=torch.Generator().manual_seed(0))
    table, candidates = read_table(X, X[:, :1]), X[:10].clone()
    candidates[:, 77] += 100.0
    run = dataclasses.replace(make_run(frame), table=table, candidates=candidates)
    text = make_page(run)
    page = parse_page(text)
    assert len(page.rows[0]) == 4 + MAX_COLUMNS
    assert "x77" in page.rows[0]
    assert "Of the 5,126 inputs the 20 are shown" in page.text
    assert "The 20 of 5,126 inputs whose values moved most" in page.text
    assert "The 12 of 5,126 inputs that moved most" in page.text
    assert len(text) < 6e6


@pytest.mark.parametrize(("n", "q"), [(2, 1), (2, 2), (1_100, 1_050)])
def test_few_and_many_designs(make_run: MakeRun, parse_page: Any, n: int, q: int) -> None:
    X = torch.rand(n, 2, generator=torch.Generator().manual_seed(0)).numpy()
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(y=X[:, 0])
    page = parse_page(make_page(make_run(frame, q, num_updates=2)))
    assert len(page.rows) == 1 + min(q, MAX_ROWS)
    assert page.text.startswith(f"Proposals for y Proposals for y {q:,} design")
    assert ("designs proposed" in page.text) == (q > 1)
    assert ("The first 1,000 of 1,050 designs" in page.text) == (q > MAX_ROWS)


def test_constant_columns_and_outcomes_of_any_size(make_run: MakeRun, parse_page: Any) -> None:
    X = np.random.default_rng(0).random(30)
    frame = pd.DataFrame({"a": 1e-300 * X, "k": 7.0, "z": 1e15 + X, "c": "one", "y": 1e200 * X})
    assert len(parse_page(make_page(make_run(frame))).ids) == 4


def test_written_completely_or_not_at_all(
    tmp_path: Path, make_run: MakeRun, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = tmp_path / "page.html", make_run(frame)
    write_page(run, path)
    with pytest.raises(FileExistsError, match=r"page\.html' exists already; pass --force"):
        write_page(run, path)
    before = path.read_text("utf-8")
    monkeypatch.setattr("botorch_roma.page.html._settings", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_page(run, path, force=True)
    monkeypatch.undo()
    assert path.read_text("utf-8") == before
    write_page(make_run(frame, seed=12_345), path, force=True)
    assert "12345" in path.read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_check_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_page(str(tmp_path / "a.HTML")) == tmp_path / "a.HTML"
    with pytest.raises(ValueError, match=r"suffix of the page.*'.html'.*received '.pdf'"):
        check_page(tmp_path / "a.pdf")
    with pytest.raises(FileNotFoundError, match="folder"):
        check_page(tmp_path / "no" / "a.html")
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ModuleNotFoundError, match=r'a\.html.*pip install "botorch-roma\[report\]"'):
        check_page("a.html")


#: Names that are markup, formulas and templates, in texts of any letters that can be seen.
NAMES = st.sampled_from([EVIL, "</script>", "a & b", "&lt;", "$x^2$", "%{y}", "'", '"']) | st.text(
    st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8
)


@settings(
    max_examples=4,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), names=st.lists(NAMES, min_size=1, max_size=3, unique=True))
def test_any_run(
    make_run: MakeRun, parse_page: Any, tmp_path: Path, data: Any, names: list[str]
) -> None:
    """Every name and every design can be read; no name becomes a tag; always the same page."""
    names = [name for name in names if name not in ("x", "y", "site")]
    n, path = data.draw(st.integers(2, 9), label="n"), tmp_path / "page.html"
    q = data.draw(st.integers(1, n), label="q")
    values = st.floats(-1e9, 1e9) | st.sampled_from([0.0, 1e300])
    columns = {k: data.draw(st.lists(values, min_size=n, max_size=n)) for k in names}
    frame = pd.DataFrame(
        {"x": [i / 8 for i in range(n)], **columns, "y": [i * i for i in range(n)]}
    )
    run = make_run(frame, q, num_updates=data.draw(st.integers(0, 2)))
    assert check_page(path, force=True) == path
    write_page(run, path, force=True)
    content = path.read_bytes()
    page = parse_page(path)
    assert len(page.rows) == 1 + q
    assert set(names) <= set(page.rows[0])
    letters = dict(zip(names, "abc", strict=False))
    plain = parse_page(
        make_page(dataclasses.replace(run, table=make_run(frame.rename(columns=letters), q).table))
    )
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    write_page(run, path, force=True)
    assert path.read_bytes() == content
    with pytest.raises(FileExistsError, match="exists already"):
        write_page(run, path)

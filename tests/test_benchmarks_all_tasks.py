"""The tables of the README and of all tasks hold what has been measured and stored."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.store import RunStore
from botorch_roma.benchmark.tables import best_visible

ROOT = Path(__file__).resolve().parents[1]
#: Rows that the README names otherwise than a report.
NAMES = {
    "128 random designs": "random",
    "start designs": "start",
    "the same without adaptation": "gradient_ascent",
    **{method.label: name for name, method in METHODS.items()},
}


@pytest.fixture
def script(benchmarks: Path) -> Any:
    import all_tasks

    return all_tasks


@pytest.fixture
def runs(script: Any) -> pd.DataFrame:
    frame: pd.DataFrame = script.stored_runs()
    return frame


def readme_tables() -> list[list[list[str]]]:
    """The cells of the README's tables of results, the header first, without emphasis."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| best / median |"):
            tables.append([])
            inside = True
        inside = inside and line.startswith("|")
        if inside and not line.startswith("|---"):
            cells = line.replace("*", "").replace("`", "").strip("|").split("|")
            tables[-1].append([cell.strip() for cell in cells])
    return tables


def number(value: float) -> str:
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def cell(runs: pd.DataFrame) -> str:
    """Best and median of the runs of a method on a task, as the README writes them."""
    texts = []
    for values in (runs["full_100"], runs["full_50"]):
        numbers = [values.mean(), *([values.std()] if len(values) > 1 else [])]
        texts.append(" ± ".join(map(number, numbers)))
    return " / ".join(texts)


def test_every_run_is_stored_once_and_has_eight_seeds(runs: pd.DataFrame) -> None:
    assert not runs.duplicated(["task", "method", "seed"]).any()
    seeds = runs[runs["method"] != "start"].groupby(["task", "method"])["seed"].agg(set)
    assert all(found == set(range(8)) for found in seeds)
    assert (runs["oracle_calls_before"] == 0).all()


def test_the_readme_says_what_was_measured(script: Any, runs: pd.DataFrame) -> None:
    tasks = {name.lower(): name for name in script.DEVELOPMENT + script.REPORTED}
    told: dict[tuple[str, str], str] = {}
    for header, *rows in readme_tables():
        columns = [tasks.get(name.split(" ")[0].lower()) for name in header[1:]]
        for label, *cells in rows:
            if not label.startswith("published"):
                name = NAMES.get(label, label)
                told |= {(name, t): c for t, c in zip(columns, cells, strict=True) if t}
    measured = {key: cell(part) for key, part in runs.groupby(["method", "task"])}
    for task, ranges in runs.groupby("task")["ranges"].first().items():
        measured["best visible design", task] = number(best_visible(ranges, "full"))
    assert told == {key: measured.get(key, "-") for key in told}
    baselines = {m.name for m in METHODS.values() if m.family == "baseline"}
    shown = baselines | {"default", "paper", "author_code", "random", "start", "start_noise_1"}
    assert set(told) >= set(product(shown, tasks))


def test_the_readme_says_how_long_it_took(script: Any) -> None:
    header, *rows = readme_tables()[0]
    column = header.index("time, s")
    timed = {r["method"]: r for r in RunStore(script.RESULTS / "run_time.jsonl").records()}
    told = {NAMES[row[0]]: row[column] for row in rows if row[column]}
    assert len(told) > 12
    for name, text in told.items():
        assert text == f"{timed[name]['fit_seconds'] + timed[name]['optimize_seconds']:.0f}"


def test_the_table_is_the_newest(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    script.main()
    stored = (script.RESULTS / "all_tasks.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == stored.strip()

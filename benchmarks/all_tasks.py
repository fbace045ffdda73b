"""One table over all tasks, and the mean ranks, of the runs in benchmarks/results.

    python benchmarks/all_tasks.py --output benchmarks/results/all_tasks.md

Nothing is run. Rows are the methods that have been run on all tasks. `paper` and `author_code` were
run on TFBind8 before there was a store; their rows are read from its table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.store import RunStore
from botorch_roma.benchmark.tables import SCALE_NOTES, markdown_table, score_table

RESULTS = Path(__file__).resolve().parent / "results"
DEVELOPMENT = ("tfbind8", "superconductor", "ackley6")
REPORTED = ("molecule", "utr", "gfp", "hopper", "ant")
TITLES = {100: "Best (100th percentile)", 50: "Median (50th percentile)"}


def stored_runs() -> pd.DataFrame:
    """All runs on the tasks of development and of the report."""
    stores = [RESULTS / "development" / "runs.jsonl"]
    stores += [RESULTS / f"{task}.jsonl" for task in REPORTED]
    runs = pd.concat([RunStore(path).frame() for path in stores], ignore_index=True)
    early = pd.read_csv(RESULTS / "tfbind8.csv")
    early = early[early["method"].isin(["paper", "author_code"])]
    return pd.concat([runs, early], ignore_index=True)


def on_all_tasks(runs: pd.DataFrame) -> pd.DataFrame:
    """Those of the methods that have been run on all of them."""
    tasks = runs.groupby("method")["task"].nunique()
    return runs[runs["method"].isin(tasks.index[tasks == len(DEVELOPMENT + REPORTED)])]


def mean_ranks(runs: pd.DataFrame) -> str:
    """Mean rank of every method over all tasks, those of development, and the others."""
    columns = {}
    for percentile, title in TITLES.items():
        for name, tasks in {
            "all": DEVELOPMENT + REPORTED,
            "development": DEVELOPMENT,
            "the others": REPORTED,
        }.items():
            part = runs[runs["task"].isin(tasks)]
            table = score_table(part, percentile=percentile, scale="full")
            columns[f"{title.split()[0].lower()}, {name}"] = table.mean_rank
    ranks = pd.DataFrame(columns).sort_values("median, all")
    rows = [[METHODS[m].label, *(f"{v:.2f}" for v in row)] for m, *row in ranks.itertuples()]
    return markdown_table([["method", *ranks], *rows])


def main(output: Annotated[Path | None, typer.Option(help="Where to write.")] = None) -> None:
    runs = on_all_tasks(stored_runs())
    runs = pd.concat([runs[runs["task"] == task] for task in DEVELOPMENT + REPORTED])
    text = [f"# All tasks\n\nScale `full`: {SCALE_NOTES['full']}.\n"]
    for percentile, title in TITLES.items():
        table = score_table(runs, percentile=percentile, scale="full")
        text.append(f"## {title}\n\n{table.to_markdown()}")
    text.append(f"## Mean rank\n\n{mean_ranks(runs)}")
    print("\n".join(text))
    if output is not None:
        output.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

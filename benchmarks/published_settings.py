"""What separates COMs and CbAS from their published figures on TFBind8, one change at a time.

    python benchmarks/published_settings.py
    python benchmarks/published_settings.py --rows "COMs, one-hot" --seeds 2

Every row is the method as the benchmark runs it, but for what its name says. Runs are appended to
--store as they end, and those that are there are not done again; the table is of all of them. The
oracle scores each finished batch once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
import torch
import typer

from botorch_roma.baselines import ProxyOptions, VAEOptions, cbas, coms
from botorch_roma.benchmark.jobs import TaskSpec, score
from botorch_roma.benchmark.kinds import BaselineMethod, ProxyCache
from botorch_roma.benchmark.methods import MAX_BATCHES, WIDTHS

RESULTS = Path(__file__).parent / "results" / "published_settings"
Q = 128


class Row(NamedTuple):
    """A method and its options."""

    method: BaselineMethod
    seeds: int = 8


def _coms(seeds: int = 8, **changes: Any) -> Row:
    options = {"hidden_sizes": WIDTHS, "max_batches": MAX_BATCHES}
    return Row(BaselineMethod(coms, options | changes), seeds)


def _cbas(seeds: int = 8, *, limit: int | None = MAX_BATCHES, width: int = 128, **o: Any) -> Row:
    proxy = ProxyOptions(
        num_members=5, hidden_sizes=(width, width), epochs=100, max_batches=limit, bootstrap=True
    )
    return Row(
        BaselineMethod(cbas, {"proxy": proxy, "vae": VAEOptions(max_batches=limit), **o}), seeds
    )


ROWS: dict[str, Row] = {
    "COMs": _coms(),
    "COMs, one-hot": _coms(encoding="one_hot"),
    "COMs, 50 epochs": _coms(max_batches=None),
    "COMs, one-hot, 50 epochs": _coms(encoding="one_hot", max_batches=None),
    "COMs, width 512": _coms(3, hidden_sizes=(512, 512)),
    "CbAS": _cbas(),
    "CbAS, one-hot": _cbas(encoding="one_hot"),
    "CbAS, width 256": _cbas(width=256),
    "CbAS, all epochs": _cbas(4, limit=None),
}


def read(store: Path) -> list[dict[str, Any]]:
    """The runs of a store."""
    if not store.exists():
        return []
    return [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines()]


def main(
    rows: Annotated[list[str] | None, typer.Option(help="Rows by name; all by default.")] = None,
    seeds: Annotated[int, typer.Option(help="No more seeds than this a row.")] = 8,
    task: str = "tfbind8",
    store: Path = RESULTS / "runs.jsonl",
) -> None:
    torch.set_num_threads(1)
    store.parent.mkdir(parents=True, exist_ok=True)
    there = {(run["task"], run["row"], run["seed"]) for run in read(store)}
    for name in rows or ROWS:
        for seed in range(min(seeds, ROWS[name].seeds)):
            if (task, name, seed) in there:
                continue
            loaded = TaskSpec(task).load()
            result = ROWS[name].method.run(loaded.without_oracle(), Q, seed, ProxyCache())
            record = score(loaded, result)
            run = {"task": task, "row": name, "seed": seed, **record}
            with store.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            print(name, seed, record["full_100"], record["full_50"], flush=True)
    runs = pd.DataFrame(run for run in read(store) if run["task"] == task)
    lines = ["| row | seeds | 100th | 50th | distinct | s |", "|---|---|---|---|---|---|"]
    for row, group in runs.groupby("row", sort=False):
        cells = [f"{group[c].mean():.3f} ± {group[c].std():.3f}" for c in ("full_100", "full_50")]
        means = [group["num_distinct"].mean(), group["optimize_seconds"].mean()]
        lines.append(
            f"| {row} | {len(group)} | {' | '.join(cells)} | "
            + " | ".join(f"{m:.0f}" for m in means)
            + " |"
        )
    table = "\n".join(lines)
    print(table)
    (store.parent / f"{task}.md").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

"""What separates COMs and CbAS from their published figures on TFBind8, one change at a time.

    python benchmarks/published_settings.py
    python benchmarks/published_settings.py --rows "COMs, one-hot" --seeds 2

Every row is the method as the benchmark runs it, but for what its name says. Runs are appended to
--store as they end, and those that are there are not done again; the table is of all of them. The
oracle scores each finished batch once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer

import botorch_roma
from botorch_roma.baselines import coms
from botorch_roma.baselines.cbas import CBAS_PROXY, CBAS_VAE, cbas
from botorch_roma.benchmark.jobs import TaskSpec, score
from botorch_roma.benchmark.kinds import BaselineMethod, ProxyCache
from botorch_roma.benchmark.methods import MAX_BATCHES, WIDTHS
from botorch_roma.benchmark.store import RunStore, config_hash, key_of
from botorch_roma.benchmark.tables import markdown_table

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
    proxy = replace(CBAS_PROXY, hidden_sizes=(width, width), max_batches=limit)
    vae = replace(CBAS_VAE, max_batches=limit)
    return Row(BaselineMethod(cbas, {"proxy": proxy, "vae": vae, **o}), seeds)


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


def main(
    rows: Annotated[list[str] | None, typer.Option(help="Rows by name; all by default.")] = None,
    seeds: Annotated[int, typer.Option(help="No more seeds than this a row.")] = 8,
    task: str = "tfbind8",
    store: Path = RESULTS / "runs.jsonl",
) -> None:
    torch.set_num_threads(1)
    store.parent.mkdir(parents=True, exist_ok=True)
    kept, loaded = RunStore(store), TaskSpec(task).load()
    view = loaded.without_oracle()
    there = {key_of(record) for record in kept.records()}
    for name in rows or ROWS:
        method = ROWS[name].method
        for seed in range(min(seeds, ROWS[name].seeds)):
            run = {
                "task": task,
                "method": name,
                "config": config_hash(method.settings(view)),
                "seed": seed,
                "version": botorch_roma.__version__,
            }
            if key_of(run) in there:
                continue
            run |= score(loaded, method.run(view, Q, seed, ProxyCache()))
            kept.append([run])
            print(name, seed, run["full_100"], run["full_50"], flush=True)
    runs = kept.frame()
    lines = [["row", "seeds", "100th", "50th", "distinct", "s"]]
    for row, group in runs[runs["task"] == task].groupby("method", sort=False):
        cells = [f"{group[c].mean():.3f} ± {group[c].std():.3f}" for c in ("full_100", "full_50")]
        means = [f"{group[c].mean():.0f}" for c in ("num_distinct", "optimize_seconds")]
        lines.append([str(row), str(len(group)), *cells, *means])
    table = markdown_table(lines)
    print(table)
    (store.parent / f"{task}.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

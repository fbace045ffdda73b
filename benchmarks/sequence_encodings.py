"""What sequences are for the proxy: one-hot, logits, latents, latents encoded anew.

    python benchmarks/sequence_encodings.py tfbind8 --seeds 8

Prints a Markdown table and, with --output DIR, writes it there with the runs behind it. Stage 1 and
stage 2 are those of `fast` throughout; the oracle scores each finished batch once.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from botorch_roma.benchmark.jobs import TaskSpec, score
from botorch_roma.benchmark.kinds import ProxyCache, RoMAMethod

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "one-hot": ("one_hot", {}),
    "logits": ("logits", {}),
    "latent": ("latent", {}),
    "latent, encoded anew every 50 updates": ("latent", {"reencode_every": 50}),
}


def run_seed(spec: TaskSpec, seed: int, q: int) -> list[dict[str, Any]]:
    """All rows of one seed; latent spaces and proxies are shared where they are the same."""
    torch.set_num_threads(1)
    task, proxies = spec.load(), ProxyCache()
    view = task.without_oracle()
    results = {
        name: RoMAMethod("fast", encoding, changes).run(view, q, seed, proxies)
        for name, (encoding, changes) in ROWS.items()
    }
    return [
        {"task": task.name, "method": name, "seed": seed, **score(task, result)}
        for name, result in results.items()
    ]


def main(
    task: Annotated[str, typer.Argument(help="A task of token sequences.")] = "tfbind8",
    seeds: int = 8,
    num: int = 128,
    data_dir: Path | None = None,
    workers: int = os.cpu_count() or 1,
    output: Annotated[Path | None, typer.Option(help="Folder for the tables.")] = None,
) -> None:
    """Run all encodings over seeds."""
    spec = TaskSpec(task, str(data_dir) if data_dir else None)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = pool.map(run_seed, [spec] * seeds, range(seeds), [num] * seeds)
        runs = pd.DataFrame([row for part in parts for row in part])
    lines = [
        "| encoding | 100th | 50th | distinct | reconstruction | stage 1, s | stage 2, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, group in runs.groupby("method", sort=False):
        accuracy = group["reconstruction"].astype(float).mean()
        cells = [
            str(name),
            *(f"{group[c].mean():.3f} ± {group[c].std():.3f}" for c in ("full_100", "full_50")),
            f"{group['num_distinct'].mean():.0f}",
            f"{accuracy:.1%}" if accuracy == accuracy else "-",
            *(f"{group[c].mean():.1f}" for c in ("fit_seconds", "optimize_seconds")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        runs.drop(columns="values").to_csv(output / f"encodings_{task}.csv", index=False)
        (output / f"encodings_{task}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

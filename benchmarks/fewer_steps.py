"""Fewer steps of the adaptation: what early stopping, reused and left-out steps save, and cost.

    python benchmarks/fewer_steps.py                        # two tasks, two seeds
    python benchmarks/fewer_steps.py tfbind8 --radius 0.05 --seeds 1

Settings are those of the preset `fast` but for what a row says. Times are CPU time of one thread
for an update of 128 candidates: medians of short runs in turn. Scores are of the finished batch,
on the scale of the full table. The adaptation of a candidate does not fall where some step but the
last does not lower its objective.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from unittest import mock

import torch
import typer
from torch import Tensor

from botorch_roma import inner_loop
from botorch_roma.benchmark.jobs import TaskSpec, score
from botorch_roma.benchmark.kinds import ProxyCache, RoMAMethod

ROWS: dict[str, dict[str, Any]] = {
    "10": {},
    "10, early stop": {"early_stop": True},
    "10, of them 5 reused": {"reuse_steps": 5},
    "10, of them 8 reused": {"reuse_steps": 8},
    "5": {"num_adaptation_steps": 5},
    "2": {"num_adaptation_steps": 2},
    "100": {"num_adaptation_steps": 100},
    "100, early stop": {"num_adaptation_steps": 100, "early_stop": True},
    "100, of them 90 reused": {"num_adaptation_steps": 100, "reuse_steps": 90},
}
Q, ROUNDS, UPDATES = 128, 7, 10


@contextmanager
def recorded() -> Iterator[list[Tensor]]:
    """The objectives of all candidates before every step."""
    objectives: list[Tensor] = []
    original = inner_loop.adaptation_gradient

    def gradient(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        objectives.append(result[0])
        return result

    with mock.patch.object(inner_loop, "adaptation_gradient", gradient):
        yield objectives


def never_lowered(objectives: list[Tensor], steps: int) -> float:
    """Share of adaptations, each of one candidate, with a step that did not lower its objective."""
    paths = torch.stack(objectives).view(-1, steps, Q)
    return (paths[:, 1:] >= paths[:, :-1]).any(dim=1).double().mean().item()


def update_times(view: Any, proxies: ProxyCache, radius: float) -> dict[str, float]:
    """CPU milliseconds of an update; the first, which has nothing to reuse, is taken off."""
    times: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(ROUNDS):
        for name, changes in ROWS.items():
            ends = []
            for updates in (1, 1 + UPDATES):
                settings = {**changes, "radius": radius, "num_updates": updates}
                start = time.process_time()
                RoMAMethod("fast", changes=settings).run(view, Q, 0, proxies)
                ends.append(time.process_time() - start)
            times[name].append(1e3 * (ends[1] - ends[0]) / UPDATES)
    return {name: statistics.median(t) for name, t in times.items()}


def main(
    tasks: Annotated[list[str] | None, typer.Argument()] = None,
    seeds: int = 2,
    radius: float = 0.02,
) -> None:
    torch.set_num_threads(1)
    print(f"Radius {radius:g}, {seeds} seeds, torch {torch.__version__}\n", flush=True)
    print(
        "| task | steps | ms per update | 100th | 50th | do not fall |\n|---|---|---|---|---|---|"
    )
    for task_name in tasks or ["tfbind8", "superconductor"]:
        task, proxies = TaskSpec(task_name).load(), ProxyCache()
        view = task.without_oracle()
        proxies.get(view, RoMAMethod("fast").preset(view), [0])
        times = update_times(view, proxies, radius)
        for name, changes in ROWS.items():
            scores, falls = [], []
            for seed in range(seeds):
                method = RoMAMethod("fast", changes={**changes, "radius": radius})
                with recorded() as objectives:
                    result = method.run(view, Q, seed, proxies)
                scores.append(score(task, result))
                if "early" not in name and "reused" not in name:
                    falls.append(never_lowered(objectives, int(name)))
            columns = [
                f"{statistics.mean(s[k] for s in scores):.3f}" for k in ("full_100", "full_50")
            ]
            share = f"{100 * statistics.mean(falls):.1f} %" if falls else ""
            print(
                f"| {task_name} | {name} | {times[name]:.1f} | {' | '.join(columns)} | {share} |",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)

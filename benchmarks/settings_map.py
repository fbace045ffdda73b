"""What each setting of `default` does on the development tasks: one thing changed at a time.

    python benchmarks/settings_map.py run tfbind8 superconductor ackley6 quadratic60 --seeds 1
    python benchmarks/settings_map.py draw

`run` appends one line of JSON a row to --store and goes on where it was left; `draw` makes the
figures and a table from it. Scores are of the batch after every tenth update, on the scale of the
full table, without the finishing local search. The oracle is asked on the way: for development
tasks only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
import typer
from botorch.acquisition import PosteriorMean
from matplotlib.axes import Axes

from botorch_roma import RoMAModel
from botorch_roma.benchmark.jobs import TaskSpec
from botorch_roma.benchmark.kinds import ProxyCache, _num_inputs
from botorch_roma.optim.optimize import prepare_search
from botorch_roma.presets import Preset, get_preset
from botorch_roma.tasks import OfflineTask

app = typer.Typer(add_completion=False, help=__doc__)
RESULTS = Path(__file__).parent / "results" / "settings_map"
Q, EVERY, MINIBATCHES, BATCH_SIZE = 128, 10, 5_000, 128

#: Changes over `default`. Noise and steps along the gradient are in units of `1 / sqrt(d)` and
#: `sqrt(d)`, epochs in units of the default number.
ROWS: list[dict[str, Any]] = [
    {"adaptation radius": 0.05, "updates": 300},
    *({"adaptation radius": radius, "updates": 300} for radius in (0.0, 0.02, 0.03, 0.1)),
    {"members": 1},
    {"members": 3},
    {"step": 0.03, "updates": 300},
    {"step": 0.3},
    {"Adam": 0.01, "updates": 300},
    {"Adam": 0.03},
    {"cap": 1.0},
    {"cap": 4.0},
    *(
        {"pre-training radius": outer, "adaptation radius": inner}
        for outer in (0.0, 0.02)
        for inner in (0.0, 0.02, 0.05, 0.1)
    ),
    *(
        {"noise": noise, "adaptation radius": inner}
        for noise in (0.0, 1.0)
        for inner in (0.0, 0.05)
    ),
    *({"width": 64, "adaptation radius": inner} for inner in (0.0, 0.05)),
    *(
        {"epochs": share, "adaptation radius": inner}
        for share in (0.25, 0.5)
        for inner in (0.0, 0.05)
    ),
    *({"epochs": 2.0, "adaptation radius": inner} for inner in (0.0, 0.05)),
    *({"width": 256, "adaptation radius": inner} for inner in (0.0, 0.05)),
]


def preset_of(changes: dict[str, Any], task: OfflineTask) -> Preset:
    """`default` with one thing changed, on a task."""
    preset = get_preset("default", task.name)
    inputs = task.dim if task.vocabulary is None else _num_inputs(task, preset)
    model, fit, optimize = preset.model, preset.fit, preset.optimize | {"num_updates": 100}
    for name, value in changes.items():
        if name == "adaptation radius":
            optimize["radius"] = value
        elif name == "updates":
            optimize["num_updates"] = value
        elif name == "step":
            optimize["lr"] = value * inputs**0.5
        elif name == "Adam":
            optimize |= {"step_rule": "adam", "lr": value}
        elif name == "cap":
            optimize["region"] = value
        elif name == "pre-training radius":
            fit["radius"] = value
        elif name == "noise":
            fit["noise_std"] = value / inputs**0.5
        elif name == "epochs":
            rows = task.X.shape[0] - min(200, task.X.shape[0] // 10)
            fit["epochs"] = round(value * max(20, -(-MINIBATCHES // -(-rows // BATCH_SIZE))))
        elif name == "width":
            model["hidden_sizes"] = (value, value)
        else:
            assert name == "members", name  # members are taken from the five: see `fitted`
    return preset


def fitted(changes: dict[str, Any], task: OfflineTask, seed: int, proxies: ProxyCache) -> RoMAModel:
    """The proxy; fewer members than five are the first of the five, as they are trained alike."""
    preset = preset_of(changes, task)
    model, _ = proxies.get(task, preset, seed)
    count = changes.get("members")
    if count is None:
        return model
    encoding, _ = proxies.encoding(task, preset, seed)
    options = preset.model | {"num_members": count}
    smaller = RoMAModel(task.X, task.Y, encoding, seed=seed, **options)
    state = {
        name: value[:count] if name.startswith("network.") else value
        for name, value in model.state_dict().items()
    }
    smaller.load_state_dict(state)
    return smaller


def along(changes: dict[str, Any], task: OfflineTask, model: RoMAModel) -> dict[int, list[float]]:
    """Best and median of the batch on the way, by number of updates."""
    search, options = prepare_search(
        PosteriorMean(model),
        task.bounds,
        Q,
        fixed_features=None if task.vocabulary is not None else task.fixed_features,
        post_processing_func=task.post_processing_func,
        **preset_of(changes, task).optimize,
    )
    result = search.run(options)
    scores = {}
    for i in range(0, len(result.snapshots), max(1, EVERY // result.every)):
        X = search.distinct(result.until(i))
        value = task.normalize(task.evaluate(X), scale="full").double()
        scores[i * result.every] = [value.max().item(), value.median().item()]
    return scores


def lines(store: Path) -> Iterator[dict[str, Any]]:
    """The rows of a store."""
    if store.exists():
        yield from map(json.loads, store.read_text(encoding="utf-8").splitlines())


@app.command()
def run(
    tasks: Annotated[list[str], typer.Argument(help="Development tasks.")],
    seeds: int = 1,
    store: Path = RESULTS / "rows.jsonl",
    rows: Annotated[int, typer.Option(help="So many of the rows, from the first.")] = len(ROWS),
) -> None:
    """Run what is not in the store yet, on one thread."""
    torch.set_num_threads(1)
    store.parent.mkdir(parents=True, exist_ok=True)
    there = {json.dumps([r["task"], r["seed"], r["changes"]]) for r in lines(store)}
    for seed in range(seeds):
        for name in tasks:
            task, proxies = TaskSpec(name).load(), ProxyCache()
            for changes in ROWS[:rows]:
                if json.dumps([name, seed, changes]) in there:
                    continue
                start = time.process_time()
                model = fitted(changes, task.without_oracle(), seed, proxies)
                trained = time.process_time()
                row = {
                    "task": name,
                    "seed": seed,
                    "changes": changes,
                    "scores": along(changes, task, model),
                    "fit_seconds": round(trained - start, 1),
                    "optimize_seconds": round(time.process_time() - trained, 1),
                }
                with store.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(row["task"], seed, changes, list(row["scores"].values())[-1], flush=True)


if __name__ == "__main__":
    app()

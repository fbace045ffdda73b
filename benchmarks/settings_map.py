"""What each setting of `default` does on the development tasks: one thing changed at a time.

    python benchmarks/settings_map.py run tfbind8 superconductor ackley6 quadratic60 --seeds 1
    python benchmarks/settings_map.py draw

`run` appends one line of JSON a row to --store and goes on where it was left; `draw` makes the
figures and a table from it. Scores are of the batch after every eighth update, on the scale of the
full table, without the finishing local search. The oracle is asked on the way: for development
tasks only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from botorch.acquisition import PosteriorMean
from matplotlib.figure import Figure

from botorch_roma import RoMAModel
from botorch_roma.benchmark.jobs import TaskSpec
from botorch_roma.benchmark.kinds import ProxyCache
from botorch_roma.optim.optimize import prepare_search
from botorch_roma.presets import Preset, get_preset
from botorch_roma.tasks import OfflineTask

app = typer.Typer(add_completion=False, help=__doc__)
RESULTS = Path(__file__).parent / "results" / "settings_map"
Q, MINIBATCHES, BATCH_SIZE = 128, 5_000, 128

#: Updates from one score to the next, and the updates that are compared: a path of 300 updates
#: keeps every eighth position.
EVERY, SHORT, LONG = 8, 96, 296

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
    *({"pre-training radius": 0.05, "adaptation radius": inner} for inner in (0.0, 0.05)),
]


def preset_of(changes: dict[str, Any], task: OfflineTask) -> Preset:
    """`default` with one thing changed, on a task."""
    preset = get_preset("default", task.name)
    inputs = task.dim * (1 if task.vocabulary is None else task.vocabulary.num_classes)
    model, fit, optimize = preset.model, preset.fit, preset.optimize  # changed where they are
    optimize["num_updates"] = 100
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
    """The proxy; fewer members than five are the first of the five, as each is trained alone."""
    [(model, _)] = proxies.get(task, preset_of(changes, task), [seed])
    count = changes.get("members")
    return model if count is None else model.subset_members([*range(count)])


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
    for i in range(0, len(result.snapshots), EVERY // result.every):
        X = search.distinct(result.until(i))
        value = task.normalize(task.evaluate(X), scale="full").double()
        scores[i * result.every] = [value.max().item(), value.median().item()]
    return scores


def read(store: Path) -> Iterator[dict[str, Any]]:
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
    there = {json.dumps([r["task"], r["seed"], r["changes"]]) for r in read(store)}
    for seed in range(seeds):
        for name in tasks:
            task, proxies = TaskSpec(name).load(), ProxyCache()
            for changes in ROWS[:rows]:
                if json.dumps([name, seed, changes]) in there:
                    continue
                start = time.process_time()
                model = fitted(changes, task.without_oracle(), seed, proxies)
                trained = time.process_time()
                scores = along(changes, task, model)
                row = {
                    "task": name,
                    "seed": seed,
                    "changes": changes,
                    "scores": scores,
                    "fit_seconds": round(trained - start, 1),
                    "optimize_seconds": round(time.process_time() - trained, 1),
                }
                with store.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(name, seed, changes, list(scores.values())[-1], flush=True)


def table(store: Path) -> pd.DataFrame:
    """All scores, one line for each task, seed, row and number of updates."""
    return pd.DataFrame(
        {
            "task": row["task"],
            "seed": row["seed"],
            "row": json.dumps({k: v for k, v in row["changes"].items() if k != "updates"}),
            "update": int(update),
            "best": best,
            "median": median,
        }
        for row in read(store)
        for update, (best, median) in row["scores"].items()
    )


def at(scores: pd.DataFrame, changes: dict[str, Any], update: int, column: str) -> pd.Series:
    """A score by task, the mean over seeds."""
    rows = scores[(scores["row"] == json.dumps(changes)) & (scores["update"] == update)]
    return rows.groupby("task")[column].mean()


#: The default value of each factor.
DEFAULTS: dict[str, Any] = {
    "pre-training radius": 0.005,
    "noise": 0.5,
    "width": 128,
    "members": 5,
    "epochs": 1.0,
    "step": 0.1,
    "cap": None,
}


def values_of(factor: str) -> list[Any]:
    """The values of a factor that were tried, in order."""
    tried = {row[factor] for row in ROWS if factor in row} | {DEFAULTS[factor]}
    return sorted(tried, key=lambda v: float("inf") if v is None else v)


def changed(factor: str, value: Any, radius: float) -> dict[str, Any]:
    """The row that has one factor changed, by what is recorded of it."""
    if value == DEFAULTS[factor]:
        return {"adaptation radius": radius}
    if factor in ("members", "step", "cap"):
        return {factor: value}  # at the default radius alone
    return {factor: value, "adaptation radius": radius}


def draw_factors(scores: pd.DataFrame, tasks: Sequence[str]) -> Figure:
    """The median after 96 updates against every factor: with adaptation, and without."""
    figure = Figure(figsize=(13.0, 6.4), layout="constrained")
    panels = figure.subplots(2, 4).flatten()
    for axis, factor in zip(panels, DEFAULTS, strict=False):
        values = values_of(factor)
        for k, task in enumerate(tasks):
            for radius, style in ((0.05, "o-"), (0.0, "x:")):
                if not radius and factor in ("members", "step", "cap"):
                    continue
                points = [
                    at(scores, changed(factor, v, radius), SHORT, "median").get(task)
                    for v in values
                ]
                axis.plot(range(len(values)), points, style, color=f"C{k}")
        axis.set(title=factor)
        names = ["none" if v is None else f"{v:g}" for v in values]
        default = values.index(DEFAULTS[factor])
        names[default] = f"[{names[default]}]"
        axis.set_xticks(range(len(values)), names)
    for k, task in enumerate(tasks):
        panels[-1].plot([], [], "o-", color=f"C{k}", label=task)
    panels[-1].plot([], [], "ko-", label="adaptation radius 0.05")
    panels[-1].plot([], [], "kx:", label="no adaptation")
    panels[-1].legend(loc="center", frameon=False)
    panels[-1].axis("off")
    figure.supylabel("median of 128, scale of the full table")
    return figure


def draw_updates(scores: pd.DataFrame, tasks: Sequence[str]) -> Figure:
    """Median and best along the updates, one line for each adaptation radius."""
    figure = Figure(figsize=(13.0, 3.6), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, task in zip(panels, tasks, strict=True):
        for k, radius in enumerate((0.0, 0.02, 0.03, 0.05, 0.1)):
            key = json.dumps({"adaptation radius": radius})
            rows = scores[(scores["task"] == task) & (scores["row"] == key)]
            mean = rows.groupby("update")[["best", "median"]].mean()
            axis.plot(mean.index, mean["median"], color=f"C{k}", label=f"{radius:g}")
            axis.plot(mean.index, mean["best"], ":", color=f"C{k}", lw=1)
        axis.axvline(SHORT, color="grey", lw=0.5)
        axis.set(title=task, xlabel="update")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(
        handles, labels, title="adaptation radius", loc="outside right center", frameon=False
    )
    figure.supylabel("median (best dotted) of 128")
    return figure


@app.command()
def draw(
    store: Path = RESULTS / "rows.jsonl",
    out: Annotated[Path, typer.Option(help="Folder for the figures and the table.")] = RESULTS,
) -> None:
    """Draw what is in the store."""
    scores = table(store)
    if scores.empty:
        raise typer.BadParameter(f"{store} holds no rows; `settings_map.py run` makes them.")
    out.mkdir(parents=True, exist_ok=True)
    tasks = [*dict.fromkeys(scores["task"])]
    draw_factors(scores, tasks).savefig(out / "factors.png", dpi=110)
    draw_updates(scores, tasks).savefig(out / "updates.png", dpi=110)
    lines = ["# One setting changed at a time: best / median of 128", ""]
    lines += [f"| changed | {' | '.join(tasks)} |", f"|---|{'---|' * len(tasks)}"]
    for row in ROWS:
        changes = {k: v for k, v in row.items() if k != "updates"}
        name = ", ".join(f"{k} {v:g}" for k, v in changes.items())
        for update in (SHORT, LONG) if "updates" in row else (SHORT,):
            both = [at(scores, changes, update, c) for c in ("best", "median")]
            cells = [f"{both[0][t]:.3f} / {both[1][t]:.3f}" if t in both[0] else "-" for t in tasks]
            lines.append(f"| {name}, {update} updates | {' | '.join(cells)} |")
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()

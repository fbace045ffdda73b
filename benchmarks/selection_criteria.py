"""Which criterion, from the table alone, picks the setting that is best in truth?

    python benchmarks/selection_criteria.py run tfbind8 superconductor ackley6 quadratic60
    python benchmarks/selection_criteria.py compare --output selection_criteria.md

`run` hides the best fifth of the visible designs, fits each setting of `settings_map.py` to the
rest, and appends a line of JSON to --store. The criteria: how the fit ranks the hidden designs
(rank correlation); what is lost by taking the 128 of them that it likes best (top-k regret); and
the simulated run, from the best of the rest, judged by an ensemble that has seen everything, as
`botorch_roma.selection` does (of distinct designs, as the map has them). The oracle is never asked.
`compare` holds the criteria against what the same settings came to in truth, on the full table, in
the store of `settings_map.py`: after 96 updates, and, for the simulated run, with the number of
updates that it chooses.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from botorch.acquisition import PosteriorMean
from scipy.stats import spearmanr
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))

import settings_map

from botorch_roma import RoMAModel
from botorch_roma.benchmark.jobs import TaskSpec
from botorch_roma.benchmark.kinds import ProxyCache
from botorch_roma.benchmark.tables import markdown_table
from botorch_roma.optim.optimize import prepare_search
from botorch_roma.selection import (
    HIDDEN_FRACTION,
    SEED_OFFSET,
    Judgement,
    _choose,
    _Judge,
    check_rest,
)
from botorch_roma.tasks import OfflineTask

app = typer.Typer(add_completion=False, help=__doc__)
RESULTS = Path(__file__).parent / "results"
Q = settings_map.Q

#: Name of a criterion, and whether more of it is better.
CRITERIA = {"simulated run": True, "rank correlation": True, "top-k regret": False}

#: What is changed in stage 1, and the adaptation radii that each proxy has been run with.
STAGE_ONE = {"pre-training radius", "noise", "width", "epochs"}
RADII = (0.0, 0.05)


def rest_of(task: OfflineTask) -> tuple[OfflineTask, Tensor]:
    """The task without its best fifth, and the rows that are hidden."""
    order = task.Y[:, 0].argsort(stable=True)
    left = check_rest(task.Y, Q, HIDDEN_FRACTION)
    rest, rows = task.without_oracle(), order[:left].sort().values
    rest.X, rest.Y = task.X[rows], task.Y[rows]
    return rest, order[left:]


@torch.no_grad()
def on_the_hidden(model: RoMAModel, X: Tensor, Y: Tensor) -> dict[str, float]:
    """Rank correlation, and top-k regret in standard deviations of the hidden outcomes."""
    predicted = model.network(model.standardize_inputs(X))[0].mean(dim=0)
    true = Y[:, 0]
    taken, best = true[predicted.topk(Q).indices], true.topk(Q).values
    return {
        "rank correlation": float(spearmanr(predicted.cpu(), true.cpu()).statistic),
        "top-k regret": ((best.mean() - taken.mean()) / true.std()).item(),
    }


def simulated(
    changes: dict[str, Any], rest: OfflineTask, model: RoMAModel, judge: _Judge
) -> dict[int, float]:
    """What the judge gives for the batch on the way, by number of updates."""
    search, options = prepare_search(
        PosteriorMean(model),
        rest.bounds,
        Q,
        fixed_features=None if rest.vocabulary is not None else rest.fixed_features,
        post_processing_func=rest.post_processing_func,
        **settings_map.preset_of(changes, rest).optimize,
    )
    result = search.run(options)
    steps = range(0, len(result.snapshots), settings_map.EVERY // result.every)
    return {i * result.every: judge(search.distinct(result.until(i))) for i in steps}


@app.command()
def run(
    tasks: Annotated[list[str], typer.Argument(help="Development tasks.")],
    seed: int = 0,
    store: Path = RESULTS / "selection_criteria.jsonl",
) -> None:
    """Run what is not in the store yet, on one thread."""
    torch.set_num_threads(1)
    there = {json.dumps([r["task"], r["seed"], r["changes"]]) for r in settings_map.read(store)}
    for name in tasks:
        task, proxies, full = TaskSpec(name).load().without_oracle(), ProxyCache(), ProxyCache()
        rest, hidden = rest_of(task)
        missing = [
            changes
            for changes in settings_map.ROWS
            if json.dumps([name, seed, changes]) not in there
        ]
        for changes in missing:
            judge = _Judge(settings_map.fitted({}, task, seed, full), hidden)
            start = time.process_time()
            model = settings_map.fitted(changes, rest, seed + SEED_OFFSET, proxies)
            row = {
                "task": name,
                "seed": seed,
                "changes": changes,
                **on_the_hidden(model, task.X[hidden], task.Y[hidden]),
                "simulated": simulated(changes, rest, model, judge),
                "seconds": round(time.process_time() - start, 1),
            }
            with store.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(name, changes, row["rank correlation"], row["top-k regret"], flush=True)


def stored(store: Path) -> list[dict[str, Any]]:
    """The rows of a store, those of a task together, in the order of the map.

    Each with the "true" medians of its batch by number of updates, from the map.
    """
    rows = [*settings_map.read(store)]
    if not rows:
        raise typer.BadParameter(f"{store} holds no rows; make some with `run`.")
    if len({row["seed"] for row in rows}) > 1:
        raise typer.BadParameter(f"{store} holds several seeds, which are not compared; name one.")
    tasks = [*dict.fromkeys(row["task"] for row in rows)]
    settings = [*map(json.dumps, settings_map.ROWS)]

    def key(row: dict[str, Any]) -> tuple[str, int, str]:
        return row["task"], row["seed"], json.dumps(row["changes"])

    def place(row: dict[str, Any]) -> tuple[int, int]:
        task, _, changes = key(row)
        return tasks.index(task), settings.index(changes)

    truth = {key(r): r["scores"] for r in settings_map.read(settings_map.RESULTS / "rows.jsonl")}
    for row in rows:
        row["true"] = {update: median for update, (_, median) in truth[key(row)].items()}
    return sorted(rows, key=place)


def joined(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Every setting after 96 updates: the criteria, and the true median of its batch."""
    update = str(settings_map.SHORT)
    return pd.DataFrame(
        {
            "task": r["task"],
            "changes": r["changes"],
            "true": r["true"][update],
            "simulated run": r["simulated"][update],
            **{name: r[name] for name in CRITERIA if name in r},
        }
        for r in rows
    )


def of_stage_one(changes: dict[str, Any], radius: float) -> bool:
    """Whether stage 2 is as in every other such row: one adaptation radius, and nothing else."""
    return changes.get("adaptation radius") == radius and changes.keys() <= STAGE_ONE | {
        "adaptation radius",
        "updates",  # compared after 96 in any case
    }


def comparison(rows: pd.DataFrame) -> pd.DataFrame:
    """For each task and criterion: its correlation with the truth, and what its pick comes to.

    What is unchanged is `default`, or its stage 1 with the adaptation radius in question.
    """
    questions = {
        "all settings": [True] * len(rows),
        **{
            f"stage 1, then radius {radius:g}": [of_stage_one(c, radius) for c in rows["changes"]]
            for radius in RADII
        },
    }
    lines = []
    for question, members in questions.items():
        for task, part in rows[members].groupby("task", sort=False):
            for name, more in CRITERIA.items():
                score = part[name] if more else -part[name]
                picked = part[score == score.max()]  # settings of stage 2 share a fit
                lines.append(
                    {
                        "in question": f"{question} ({len(part)})",
                        "task": task,
                        "criterion": name,
                        "correlation with the truth": spearmanr(score, part["true"]).statistic,
                        "median of its pick": picked["true"].mean(),
                        "unchanged": part["true"].iloc[0],
                        "best of all": part["true"].max(),
                        "mean of all": part["true"].mean(),
                    }
                )
    return pd.DataFrame(lines)


def updates_chosen(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """What the number of updates that the simulated run chooses comes to in truth."""
    lines = []
    for task, part in groupby(rows, key=itemgetter("task")):
        ways, true = [], []
        for i, row in enumerate(part):
            true.append(row["true"])
            way = [Judgement(i, int(k), 0, v) for k, v in row["simulated"].items() if int(k)]
            ways.append(way)
        chosen = [true[i][str(_choose(way).num_updates)] for i, way in enumerate(ways)]
        pick = _choose([judgement for way in ways for judgement in way])
        lines.append(
            {
                "task": task,
                "mean with the updates chosen": mean(chosen),
                "with 96": mean(t[str(settings_map.SHORT)] for t in true),
                "with the best of each": mean(max(t.values()) for t in true),
                "setting and updates chosen": true[pick.setting][str(pick.num_updates)],
            }
        )
    return pd.DataFrame(lines)


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.3f}"


@app.command()
def compare(
    store: Path = RESULTS / "selection_criteria.jsonl",
    output: Annotated[Path | None, typer.Option(help="Where to write.")] = None,
) -> None:
    """Print, and write, how the criteria do."""
    rows = stored(store)
    text = "# Criteria for the choice of settings, against the truth\n\n" + "\n".join(
        markdown_table([[*table], *([*map(_cell, row)] for row in table.itertuples(index=False))])
        for table in (comparison(joined(rows)), updates_chosen(rows))
    )
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    app()

"""RoMA in Ax: overhead, against the direct path, against Ax's own methods, costs of analyses.

    python benchmarks/in_ax.py overhead           # Ax's own time at 1,000, 5,000 and 10,000 rows
    python benchmarks/in_ax.py tfbind8            # as 8 choice parameters, and the direct path
    python benchmarks/in_ax.py problems           # benchmark_replication: RoMA, GP, Sobol
    python benchmarks/in_ax.py analyses           # seconds per analysis card at 5,000 rows

Each prints a Markdown table and, with --output DIR, writes it there with the runs behind it.
RoMA is the preset `fast` throughout.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig

from botorch_roma.ax import offline_experiment, roma_generation_strategy
from botorch_roma.tasks import load_task

app = typer.Typer(add_completion=False, help=__doc__.splitlines()[0])
Output = Annotated[Path | None, typer.Option(help="Folder for the tables.")]
LETTERS = "ACGT"
PRESET = "fast"
QUICK: dict[str, Any] = {
    "preset": PRESET,
    "fit_options": {"epochs": 1},
    "optimizer_options": {"num_updates": 1},
}


def _report(name: str, runs: pd.DataFrame, table: pd.DataFrame, output: Path | None) -> None:
    rows: list[Iterable[Any]] = [
        table.columns,
        ["---"] * table.shape[1],
        *table.itertuples(index=False),
    ]
    cells = [[_cell(c) for c in row] for row in rows]
    text = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    print(f"\n{text}")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        runs.to_csv(output / f"ax_{name}.csv", index=False)
        (output / f"ax_{name}.md").write_text(f"{text}\n", encoding="utf-8")


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if np.isnan(value) else f"{value:,.1f}"


def _random_table(rows: int, d: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(rows, d))
    df = pd.DataFrame(X, columns=[f"x{i}" for i in range(d)])
    return df.assign(y=-((X - 0.4) ** 2).sum(axis=1))


def _mean_std(values: pd.Series) -> str:
    return f"{values.mean():.3f} ± {values.std():.3f}"


@app.command()
def overhead(
    rows: str = "1000,5000,10000", d: int = 60, n: int = 128, output: Output = None
) -> None:
    """Ax's own time: the proxy is trained for one epoch and moved by one update."""
    runs = []
    for size in (int(r) for r in rows.split(",")):
        df = _random_table(size, d)
        start = time.perf_counter()
        experiment = offline_experiment(df, objective="y")
        filled = time.perf_counter()
        roma_generation_strategy(**QUICK).gen(experiment, n=n)
        generated = time.perf_counter()
        client = Client()
        client.set_experiment(experiment)
        client.set_generation_strategy(roma_generation_strategy(**QUICK))
        begin = time.perf_counter()
        client.get_next_trials(max_trials=8)
        runs.append(
            {
                "rows": size,
                "build the experiment, s": filled - start,
                f"one batch of {n}, s": generated - filled,
                "8 single trials, s": time.perf_counter() - begin,
            }
        )
        print(runs[-1], flush=True)
    _report("overhead", pd.DataFrame(runs), pd.DataFrame(runs), output)


@app.command()
def tfbind8(seeds: int = 8, data_dir: Path | None = None, output: Output = None) -> None:
    """TFBind8 as 8 unordered choice parameters, scored; and the direct path on the same seeds."""
    from botorch_roma.benchmark.runner import TaskSpec, run_benchmark

    torch.set_num_threads(1)
    task = load_task("tfbind8", data_dir=data_dir)
    tokens = task.X.long().numpy()
    names = [f"p{i}" for i in range(tokens.shape[1])]
    df = pd.DataFrame(np.array(list(LETTERS))[tokens], columns=names)
    df["y"] = task.Y.flatten().double().numpy()
    parameters = [
        ChoiceParameterConfig(name=p, values=list(LETTERS), parameter_type="str", is_ordered=False)
        for p in names
    ]
    experiment = offline_experiment(df, parameters, "y")
    runs = []
    for seed in range(seeds):
        start = time.perf_counter()
        run = roma_generation_strategy(preset=PRESET, seed=seed).gen(experiment, n=128)[0][0]
        arms = pd.DataFrame([arm.parameters for arm in run.arms])[names]
        codes = torch.tensor(arms.map(LETTERS.index).to_numpy()).to(task.X)
        scores = task.normalize(task.evaluate(codes)).flatten()
        runs.append(
            {
                "path": "Ax",
                "seed": seed,
                "100th": scores.max().item(),
                "50th": scores.double().quantile(0.5).item(),
                "distinct": len(arms.drop_duplicates()),
                "new": len(arms.merge(df, how="left", on=names).query("y.isna()")),
                "seconds": time.perf_counter() - start,
            }
        )
        print(runs[-1], flush=True)
    spec = TaskSpec("tfbind8", data_dir=None if data_dir is None else str(data_dir))
    direct = run_benchmark(spec, methods=[PRESET], num_seeds=seeds)
    for row in direct.to_dict("records"):
        runs.append(
            {
                "path": "direct",
                "seed": row["seed"],
                "100th": row["full_100"],
                "50th": row["full_50"],
                "distinct": row["num_distinct"],
                "new": float("nan"),
                "seconds": row["fit_seconds"] + row["optimize_seconds"],
            }
        )
    frame = pd.DataFrame(runs)
    table = [
        {"path": path, "seeds": len(g)}
        | {c: _mean_std(g[c]) for c in ("100th", "50th")}
        | {c: g[c].mean() for c in ("distinct", "new", "seconds")}
        for path, g in frame.groupby("path")
    ]
    _report("tfbind8", frame, pd.DataFrame(table), output)


@app.command()
def problems(
    names: str = "hartmann6,ackley4,levy4,hartmann30",
    seeds: int = 5,
    offline_trials: int = 16,
    batch_size: int = 16,
    output: Output = None,
) -> None:
    """One batch without feedback after an offline start of Sobol designs, by three methods."""
    from ax.benchmark.benchmark import benchmark_replication
    from ax.benchmark.problems.registry import get_benchmark_problem

    from botorch_roma.ax.benchmark import offline_benchmark_method

    runs = []
    for name in names.split(","):
        for seed in range(seeds):
            for method in ("sobol", "gp", "roma"):
                problem = get_benchmark_problem(name, num_trials=offline_trials + 1)
                chosen = offline_benchmark_method(
                    method,
                    num_offline_trials=offline_trials,
                    batch_size=batch_size,
                    seed=seed,
                    **({"preset": PRESET} if method == "roma" else {}),
                )
                result = benchmark_replication(problem, chosen, seed=seed)
                batch = _last_batch(problem, result.experiment)
                trace = result.optimization_trace
                runs.append(
                    {
                        "problem": name,
                        "method": method,
                        "seed": seed,
                        "offline best": trace[-2],
                        "batch best": batch.min(),
                        "batch median": batch.median(),
                        "best of all": trace[-1],
                        "seconds": result.fit_time + result.gen_time,
                    }
                )
                print(runs[-1], flush=True)
    frame = pd.DataFrame(runs)
    columns = ["offline best", "batch best", "batch median"]
    table = [
        {"problem": problem, "method": method, **{c: _mean_std(g[c]) for c in columns}}
        | {"seconds": g["seconds"].mean()}
        for (problem, method), g in frame.groupby(["problem", "method"], sort=False)
    ]
    _report("problems", frame, pd.DataFrame(table), output)


def _last_batch(problem: Any, experiment: Any) -> pd.Series:
    """True values of the last batch (smaller is better in all of these problems)."""
    arms = experiment.trials[max(experiment.trials)].arms
    values = [problem.test_function.evaluate_true(arm.parameters) for arm in arms]
    return pd.Series([float(v.flatten()[0]) for v in values])


@app.command()
def analyses(rows: int = 5000, d: int = 10, output: Output = None) -> None:
    """Seconds per card, and of predictions, with a fully trained proxy."""
    from ax.analysis.plotly.arm_effects import ArmEffectsPlot
    from ax.analysis.plotly.cross_validation import CrossValidationPlot
    from ax.analysis.plotly.parallel_coordinates import ParallelCoordinatesPlot
    from ax.analysis.plotly.sensitivity import SensitivityAnalysisPlot

    client = Client()
    client.set_experiment(offline_experiment(_random_table(rows, d), objective="y"))
    client.set_generation_strategy(roma_generation_strategy(preset=PRESET))
    runs = []

    def timed(what: str, call: Any) -> None:
        start = time.perf_counter()
        call()
        runs.append({"what": what, "seconds": time.perf_counter() - start})
        print(runs[-1], flush=True)

    timed("first trial (training included)", lambda: client.get_next_trials(max_trials=1))
    point = {f"x{i}": 0.5 for i in range(d)}
    timed("predict 1 point", lambda: client.predict([point]))
    timed("predict 1,000 points", lambda: client.predict([point] * 1000))
    for what, analysis in (
        ("ParallelCoordinatesPlot()", ParallelCoordinatesPlot()),
        ("SensitivityAnalysisPlot()", SensitivityAnalysisPlot()),
        ("ArmEffectsPlot(metric_name)", ArmEffectsPlot("y")),
        ("CrossValidationPlot(folds=5)", CrossValidationPlot(folds=5)),
    ):
        timed(what, lambda a=analysis: client.compute_analyses([a], display=False))
    frame = pd.DataFrame(runs)
    _report("analyses", frame, frame, output)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    app()

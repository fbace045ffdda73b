r"""
Run methods on a task over seeds: candidates first, then one oracle call for each batch.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from botorch_roma.benchmark.methods import (
    METHODS,
    Method,
    MethodResult,
    ProxyCache,
    TaskView,
    get_methods,
)
from botorch_roma.optim.initializers import distinct_keys
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask, load_task
from botorch_roma.validation import check_int

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TaskSpec:
    """A task by name, so that worker processes can load it themselves."""

    name: str
    data_dir: str | None = None
    dtype: torch.dtype = torch.float32
    options: tuple[tuple[str, Any], ...] = ()

    def load(self) -> OfflineTask:
        """Load the task."""
        return load_task(self.name, data_dir=self.data_dir, dtype=self.dtype, **dict(self.options))


@dataclass(frozen=True)
class Job:
    """Methods of one group, with one seed."""

    spec: TaskSpec
    methods: tuple[str, ...]
    seed: int
    q: int


@functools.lru_cache(maxsize=1)
def _load(spec: TaskSpec) -> OfflineTask:
    return spec.load()


def run_job(job: Job) -> list[tuple[str, MethodResult]]:
    """Generate the candidates of a job on one thread; no oracle is within reach.

    Raises:
        RuntimeError: If the oracle of the task was called all the same.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices; and rounding must not depend on the workers
    try:
        task, proxies = _load(job.spec), ProxyCache()
        view, calls = TaskView.of(task), task.num_oracle_calls
        results = [
            (name, METHODS[name].run(view, job.q, job.seed, proxies)) for name in job.methods
        ]
        if task.num_oracle_calls > calls:
            raise RuntimeError(f"The oracle of {task.name!r} was called while generating.")
        return results
    finally:
        torch.set_num_threads(threads)


def _make_jobs(spec: TaskSpec, methods: list[Method], seeds: range, q: int) -> list[Job]:
    """One job per group and seed, the expensive ones first."""
    groups: dict[str, list[str]] = {}
    for method in methods:
        groups.setdefault(method.group, []).append(method.name)
    known = [*dict.fromkeys(m.group for m in METHODS.values())]
    order = sorted(groups, key=known.index, reverse=True)
    return [Job(spec, tuple(groups[g]), seed, q) for g in order for seed in seeds]


def _run_jobs(jobs: list[Job], num_workers: int) -> Iterator[tuple[Job, Any]]:
    if num_workers == 1:
        for job in jobs:
            yield job, run_job(job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context) as pool:
        futures: dict[Future[Any], Job] = {pool.submit(run_job, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_benchmark(
    spec: TaskSpec,
    *,
    methods: list[str] | None = None,
    num_seeds: int = 8,
    q: int = 128,
    num_workers: int = 1,
    progress: bool = False,
) -> pd.DataFrame:
    r"""Run methods on a task over seeds ``0, 1, ...``.

    Args:
        spec: The task.
        methods: Names of :data:`~botorch_roma.benchmark.methods.METHODS`; all by default.
        num_seeds: Number of seeds.
        q: Number of candidates of each run.
        num_workers: Number of processes, each with one thread; the results do not depend on it.
        progress: Show a progress bar on standard error.

    Returns:
        One row per method and seed: ``task``, ``method``, ``seed``, the 100th and 50th percentile
        on both scales (``full_100``, ``full_50``, ``visible_100``, ``visible_50``),
        ``num_distinct``, ``reconstruction`` (held-out sequences that come back from the latent
        space, where there is one), ``oracle_calls_before`` (0 by construction, checked),
        ``fit_seconds``, ``optimize_seconds``.

    Raises:
        ValueError: For unknown methods, or numbers below 1.
        RuntimeError: If the oracle was called before the final evaluation.
    """
    import pandas as pd

    check_int("num_seeds", num_seeds, minimum=1)
    check_int("q", q, minimum=1)
    check_int("num_workers", num_workers, minimum=1)
    task = spec.load()
    chosen = get_methods(methods, discrete=task.vocabulary is not None)
    jobs = _make_jobs(spec, chosen, range(num_seeds), q)
    finished = _run_jobs(jobs, num_workers)
    results: dict[tuple[str, int], MethodResult] = {}
    for _ in track(range(len(jobs)), total=len(jobs), description=spec.name, enabled=progress):
        job, outcome = next(finished)
        results.update({(name, job.seed): result for name, result in outcome})
    calls_before = task.num_oracle_calls
    if calls_before:
        raise RuntimeError(
            f"The oracle of {spec.name!r} was called {calls_before} times too early."
        )
    rows = [
        score(task, method.name, seed, results[method.name, seed], calls_before)
        for method in chosen
        for seed in range(num_seeds)
    ]
    return pd.DataFrame(rows)


def score(
    task: OfflineTask, method: str, seed: int, result: MethodResult, calls_before: int
) -> dict[str, Any]:
    """The row of a finished batch; asks the oracle, once.

    Args:
        task: The task.
        method: Name of the row.
        seed: Seed of the run.
        result: What the method returned.
        calls_before: Oracle calls counted before, for the row.
    """
    values = task.evaluate(result.candidates).flatten()
    row: dict[str, Any] = {"task": task.name, "method": method, "seed": seed}
    for scale in ("full", "visible"):
        scores = task.normalize(values, scale=scale).double()
        row[f"{scale}_100"] = scores.max().item()
        row[f"{scale}_50"] = scores.quantile(0.5).item()
    row["num_distinct"] = len(set(distinct_keys(result.candidates, task.X.std(dim=0))))
    row["reconstruction"] = result.reconstruction
    row["oracle_calls_before"] = calls_before
    row["fit_seconds"] = round(result.fit_seconds, 2)
    row["optimize_seconds"] = round(result.optimize_seconds, 2)
    return row

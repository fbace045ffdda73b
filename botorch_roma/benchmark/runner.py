r"""
Run methods on tasks over seeds: what is in the store is not run again.
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from botorch.exceptions.warnings import BotorchWarning

from botorch_roma.benchmark.jobs import Job, TaskSpec, run_job
from botorch_roma.benchmark.launchers import LAUNCHERS
from botorch_roma.benchmark.plan import make_jobs, plan_task
from botorch_roma.benchmark.store import RunStore, key_of
from botorch_roma.progress import track
from botorch_roma.validation import check_choice, check_device, check_int

if TYPE_CHECKING:
    import pandas as pd


def run_benchmark(
    specs: TaskSpec | Sequence[TaskSpec],
    *,
    methods: list[str] | None = None,
    num_seeds: int = 8,
    q: int = 128,
    store: RunStore | None = None,
    num_workers: int = 1,
    batch_seeds: int | None = 1,
    num_positions: int = 0,
    launcher: str = "processes",
    device: str = "cpu",
    progress: bool = False,
) -> pd.DataFrame:
    r"""Run methods on tasks over seeds ``0, 1, ...``.

    Every finished run is stored at once. Interrupted, even killed, and started again with
    the same store, the runner makes the missing runs only.

    Args:
        specs: The task or tasks.
        methods: As for :func:`~botorch_roma.benchmark.methods.get_methods`.
        num_seeds: Number of seeds; a method without randomness is run with the first only.
        q: Number of candidates of each run.
        store: Where the finished runs are. Default: nowhere, they are returned only.
        num_workers: Number of processes, each with one thread; the results do not depend on it.
            With Ray, the number of cores that a local cluster is started with; a running one is
            used as it is.
        batch_seeds: Most seeds that a method runs in one computation, where it can: RoMA, unless it
            trains a latent space or selects options for each seed, and without ``num_positions``.
            Each seed gives what it gives alone up to rounding, which a long training amplifies
            until it can be seen, and is stored as such; an interrupted batch is lost. None for
            ``num_seeds / num_workers``, as far as half of the free memory goes: results depend on
            ``num_workers`` then, to the same extent. By default one by one.
        num_positions: Score this many batches on the way to the candidates beside them, where a
            method moves designs step by step; they go to columns of their own.
        launcher: ``"processes"`` of this machine, or a ``"ray"`` cluster; the results do not depend
            on it.
        device: Where candidates are generated. Not a part of a run's identity, since results differ
            by rounding and random draws only; runs elsewhere than on the CPU have ``device``, its
            name, and their seconds do not compare.
        progress: Show a progress bar on standard error.

    Returns:
        One row for each task, method and seed, with the fields of
        :func:`~botorch_roma.benchmark.jobs.run_identity` and of
        :func:`~botorch_roma.benchmark.jobs.score`, ``refused`` (why there are none), and
        ``peak_memory_mb`` (of the process, with the data). Where ``batch_seeds`` is more than 1,
        seconds are the share of one seed, and the memory is that of all of them.

    Raises:
        ValueError: For unknown methods and launchers, and numbers out of range.
        ModuleNotFoundError: For the launcher ``"ray"`` without Ray (extra ``ray``).
        RuntimeError: If runs failed, once all the others are finished and stored. So does a method
            that asks the oracle.
    """
    if store is None:
        with tempfile.TemporaryDirectory() as folder:
            return run_benchmark(
                specs,
                methods=methods,
                num_seeds=num_seeds,
                q=q,
                store=RunStore(Path(folder, "runs.jsonl")),
                num_workers=num_workers,
                batch_seeds=batch_seeds,
                num_positions=num_positions,
                launcher=launcher,
                device=device,
                progress=progress,
            )
    import pandas as pd

    check_int("num_seeds", num_seeds, minimum=1)
    check_int("q", q, minimum=1)
    check_int("num_workers", num_workers, minimum=1)
    if batch_seeds is not None:
        check_int("batch_seeds", batch_seeds, minimum=1)
    check_int("num_positions", num_positions, minimum=0)
    check_choice("launcher", launcher, LAUNCHERS)
    check_device("device", device)
    specs = [specs] if isinstance(specs, TaskSpec) else list(specs)
    plans = [plan_task(spec, methods, num_seeds, q, num_positions) for spec in specs]
    finished = {key_of(record) for record in store.records()}
    jobs = make_jobs(plans, finished, q, num_positions, device, num_workers, batch_seeds)
    run = functools.partial(
        _run, launcher=launcher, num_workers=num_workers, store=store, progress=progress
    )
    failures = run(jobs)
    batches = [failure for failure in failures if len(failure[0].seeds) > 1]
    num_jobs = len(jobs)
    if batches:
        job, trace = batches[0]
        warnings.warn(
            f"{len(batches)} jobs with several seeds failed and are run seed by seed, first "
            f"{_name(job)}: {_reason(trace)}",
            BotorchWarning,
            stacklevel=2,
        )
        alone = [replace(job, seeds=(seed,)) for job, _ in batches for seed in job.seeds]
        failures = [failure for failure in failures if len(failure[0].seeds) == 1] + run(alone)
        num_jobs += len(alone) - len(batches)
    if failures:
        job, trace = failures[0]
        error = RuntimeError(
            f"{len(failures)} of {num_jobs} jobs failed, first {_name(job)}: {_reason(trace)}; "
            "with a store the finished runs are kept, and the same call makes the others."
        )
        error.add_note(trace)
        raise error
    found = {key_of(record): record for record in store.records()}
    return pd.DataFrame([found[key_of(i)] for plan in plans for i in plan.identities])


def _run(
    jobs: Sequence[Job], launcher: str, num_workers: int, store: RunStore, progress: bool
) -> list[tuple[Job, str]]:
    """Run jobs and store what they give; those that failed, with their tracebacks."""
    outcomes = LAUNCHERS[launcher](run_job, jobs, num_workers)
    failures = []
    for _ in track(range(len(jobs)), total=len(jobs), description="benchmark", enabled=progress):
        job, outcome = next(outcomes)
        if isinstance(outcome, str):
            failures.append((job, outcome))
        else:
            store.append(outcome)
    return failures


def _name(job: Job) -> str:
    seeds = f"seed{'s' * (len(job.seeds) > 1)} {', '.join(map(str, job.seeds))}"
    return f"{', '.join(job.methods)} on {job.spec.name}, {seeds}"


def _reason(trace: str) -> str:
    return trace.strip().splitlines()[-1]

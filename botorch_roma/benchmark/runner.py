r"""
Run methods on tasks over seeds: what is in the store is not run again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from botorch_roma.benchmark.jobs import Job, TaskSpec, run_identity, run_job
from botorch_roma.benchmark.launchers import LAUNCHERS
from botorch_roma.benchmark.methods import METHODS, get_methods
from botorch_roma.benchmark.store import Record, RunStore, key_of
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
        ``peak_memory_mb`` (of the process, with the data).

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
                num_positions=num_positions,
                launcher=launcher,
                device=device,
                progress=progress,
            )
    import pandas as pd

    check_int("num_seeds", num_seeds, minimum=1)
    check_int("q", q, minimum=1)
    check_int("num_workers", num_workers, minimum=1)
    check_int("num_positions", num_positions, minimum=0)
    check_choice("launcher", launcher, LAUNCHERS)
    check_device("device", device)
    specs = [specs] if isinstance(specs, TaskSpec) else list(specs)
    wanted = (methods, num_seeds, q, num_positions)
    identities = [i for spec in specs for i in _identities(spec, *wanted)]
    finished = {key_of(record) for record in store.records()}
    missing = [i for i in identities if key_of(i) not in finished]
    jobs = _make_jobs(specs, missing, q, num_positions, device)
    outcomes = LAUNCHERS[launcher](run_job, jobs, num_workers)
    failures: list[tuple[Job, str]] = []
    for _ in track(range(len(jobs)), total=len(jobs), description="benchmark", enabled=progress):
        job, outcome = next(outcomes)
        if isinstance(outcome, str):
            failures.append((job, outcome))
        else:
            store.append(outcome)
    if failures:
        job, trace = failures[0]
        error = RuntimeError(
            f"{len(failures)} of {len(jobs)} jobs failed, first {', '.join(job.methods)} on "
            f"{job.spec.name}, seed {job.seed}: {trace.strip().splitlines()[-1]}; with a store the "
            "finished runs are kept, and the same call makes the others."
        )
        error.add_note(trace)
        raise error
    found = {key_of(record): record for record in store.records()}
    return pd.DataFrame([found[key_of(i)] for i in identities])


def _identities(
    spec: TaskSpec, methods: list[str] | None, num_seeds: int, q: int, num_positions: int
) -> Iterator[Record]:
    """What a finished benchmark of one task consists of, in the order of its table."""
    task = spec.load()
    chosen = get_methods(methods, discrete=task.vocabulary is not None)
    task.start_designs(q)  # raises where `q` is too large
    blind = task.without_oracle()
    for method in chosen:
        for seed in range(num_seeds if method.seeded else 1):
            yield run_identity(spec, blind, method.name, seed, q, num_positions)


def _make_jobs(
    specs: list[TaskSpec], runs: list[Record], q: int, num_positions: int, device: str
) -> list[Job]:
    """One job per task, group and seed; task by task, the expensive ones first."""
    groups = [*dict.fromkeys(m.group for m in METHODS.values())][::-1]

    def names(spec: TaskSpec, group: str, seed: int) -> tuple[str, ...]:
        return tuple(
            r["method"]
            for r in runs
            if (r["task"], r["seed"]) == (spec.name, seed) and METHODS[r["method"]].group == group
        )

    seeds = sorted({r["seed"] for r in runs})
    jobs = [
        Job(s, names(s, group, i), i, q, num_positions, device)
        for s in specs
        for group in groups
        for i in seeds
    ]
    return [job for job in jobs if job.methods]

r"""
Where the jobs of a benchmark run: in this process, in processes of this machine, on a Ray cluster.

A launcher is ``(work, jobs, num_workers) -> outcomes``: it yields each job with what ``work`` made
of it or, for one of thousands must not stop the others, the traceback of its error.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any

from botorch_roma.benchmark.jobs import Job
from botorch_roma.benchmark.store import Record

Work = Callable[[Job], list[Record]]
Outcomes = Iterator[tuple[Job, list[Record] | str]]
Launcher = Callable[[Work, Sequence[Job], int], Outcomes]


def run_in_processes(work: Work, jobs: Sequence[Job], num_workers: int) -> Outcomes:
    """Run jobs in ``num_workers`` processes, or one after the other in this one."""
    if num_workers == 1:
        for job in jobs:
            yield job, attempt(work, job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context) as pool:
        futures: dict[Future[list[Record] | str], Job] = {
            pool.submit(attempt, work, job): job for job in jobs
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_on_ray(work: Work, jobs: Sequence[Job], num_workers: int) -> Outcomes:
    r"""Run jobs on a Ray cluster, a core each.

    The one that this process is connected to or that ``RAY_ADDRESS`` names; otherwise a local one
    of ``num_workers`` cores is started, and stopped at the end. The machines of a cluster need
    this package and the data.

    Raises:
        ModuleNotFoundError: Without Ray.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "`launcher` is 'ray', and Ray is not installed: pip install botorch-roma[ray].",
            name="ray",
        ) from error
    own = not ray.is_initialized()
    if own:
        _connect(ray, num_workers)
    try:
        remote = ray.remote(num_cpus=1)(attempt)
        waiting = {remote.remote(work, job): job for job in jobs}
        while waiting:
            (done,), _ = ray.wait([*waiting], num_returns=1)
            yield waiting.pop(done), ray.get(done)
    finally:
        if own:
            ray.shutdown()


def _connect(ray: Any, num_workers: int) -> None:
    """Connect to the cluster that is named, or start one here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if not os.environ.get("RAY_ADDRESS"):
        options |= {"num_cpus": num_workers, "include_dashboard": False}
    ray.init(**options)


def attempt(work: Work, job: Job) -> list[Record] | str:
    """The records of a job, or the traceback of its error."""
    try:
        return work(job)
    except Exception:
        return traceback.format_exc()


#: Launchers by name.
LAUNCHERS: dict[str, Launcher] = {"processes": run_in_processes, "ray": run_on_ray}

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pandas as pd
import pytest

from botorch_roma.benchmark import launchers
from botorch_roma.benchmark.jobs import Job, TaskSpec
from botorch_roma.benchmark.launchers import LAUNCHERS, run_in_processes, run_on_ray
from botorch_roma.benchmark.runner import run_benchmark
from botorch_roma.benchmark.store import MEASURED, Record

SPEC = TaskSpec("branin2", options=(("num_rows", 200), ("seed", 3)))
JOBS = [Job(SPEC, ("random",), (seed,), 5) for seed in range(3)]


def work(job: Job) -> list[Record]:
    """Fails for seed 1; says where it ran."""
    if job.seeds == (1,):
        raise ValueError("no such seed")
    return [{"seed": job.seeds[0], "process": os.getpid()}]


def check(outcomes: list[tuple[Job, list[Record] | str]]) -> set[int]:
    """All jobs are there, the failed one with its traceback; returns the processes."""
    found = {job.seeds[0]: outcome for job, outcome in outcomes}
    assert sorted(found) == [0, 1, 2]
    assert isinstance(found[1], str)
    assert found[1].rstrip().endswith("ValueError: no such seed")
    rest = [found[0], found[2]]
    assert all(isinstance(r, list) for r in rest)
    assert [r[0]["seed"] for r in rest] == [0, 2]  # type: ignore[index]
    return {r[0]["process"] for r in rest}  # type: ignore[index]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_processes(num_workers: int) -> None:
    processes = check(list(run_in_processes(work, JOBS, num_workers)))
    assert (os.getpid() in processes) == (num_workers == 1)


def test_jobs_that_nobody_waits_for_are_given_up() -> None:
    outcomes = run_in_processes(work, JOBS * 20, 2)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(outcomes)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install botorch-roma\[ray\]"):
        list(run_on_ray(work, JOBS, 2))


def test_runner_uses_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(work: launchers.Work, jobs: list[Job], num_workers: int) -> launchers.Outcomes:
        seen.append((len(jobs), num_workers))
        return run_in_processes(work, jobs, 1)

    monkeypatch.setitem(LAUNCHERS, "ray", spy)
    arguments = {"methods": ["random"], "num_seeds": 2, "q": 4}
    runs = run_benchmark(SPEC, **arguments, num_workers=3, launcher="ray")
    assert seen == [(2, 3)]
    assert len(runs) == 2
    with pytest.raises(ValueError, match=r"`launcher` must be one of .* received 'slurm'"):
        run_benchmark(SPEC, **arguments, launcher="slurm")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="needs Ray, the extra `ray`")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # the workers import this module, and the package from where this process has it
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {"env_vars": {"PYTHONPATH": path}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ray_with_two_workers_gives_the_same(local_ray: None) -> None:
    arguments = {"methods": ["random", "start", "start_noise_1"], "num_seeds": 3, "q": 5}
    ray, here = (
        run_benchmark(SPEC, **arguments, num_workers=2, launcher=name)
        for name in ("ray", "processes")
    )
    pd.testing.assert_frame_equal(
        ray.drop(columns=[*MEASURED]), here.drop(columns=[*MEASURED]), check_exact=True
    )

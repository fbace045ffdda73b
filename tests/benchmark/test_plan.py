from __future__ import annotations

import pickle
from typing import Any

import pytest

from botorch_roma.benchmark import plan as module
from botorch_roma.benchmark.jobs import Job, TaskSpec
from botorch_roma.benchmark.methods import get_methods
from botorch_roma.benchmark.plan import Plan, make_jobs, plan_task
from botorch_roma.benchmark.store import Record, key_of

SPEC = TaskSpec("branin2", options=(("num_rows", 200), ("seed", 3)))
NAMES = [m.name for m in get_methods(["trivial", "roma", "coms"])]


def run(method: str, seed: int) -> Record:
    return {"task": "toy", "method": method, "config": "", "seed": seed, "version": "1"}


def plan(num_seeds: int, names: list[str], seed_bytes: int | None = 2**20) -> Plan:
    """Of a task of vectors or tokens with `seed_bytes` for all methods of RoMA but two."""
    alone = ("selected", "fast_latent", "coms", "random", "start")
    needed = {n: None if n in alone or n.startswith("start") else seed_bytes for n in names}
    return Plan(TaskSpec("toy"), [run(m, s) for m in names for s in range(num_seeds)], needed)


def jobs(plan: Plan, finished: Any = (), **changes: Any) -> list[Job]:
    arguments = {"device": "cpu", "num_workers": 1, "batch_seeds": None, **changes}
    return make_jobs([plan], finished, 5, 3, **arguments)


def test_jobs_share_proxies_and_the_long_ones_come_first() -> None:
    work = jobs(plan(2, NAMES), {key_of(run("paper", 1))}, batch_seeds=1)
    assert [(job.methods, job.seeds) for job in work] == [
        (("fast_latent",), (0,)),
        (("fast_latent",), (1,)),
        (("selected",), (0,)),
        (("selected",), (1,)),
        (("author_code", "paper"), (0,)),
        (("author_code",), (1,)),
        (("fast_gradient_ascent", "fast"), (0,)),
        (("fast_gradient_ascent", "fast"), (1,)),
        (("gradient_ascent", "default"), (0,)),
        (("gradient_ascent", "default"), (1,)),
        (("coms",), (0,)),
        (("coms",), (1,)),
        (("random", "start", "start_noise_0.2", "start_noise_1"), (0,)),
        (("random", "start", "start_noise_0.2", "start_noise_1"), (1,)),
    ]
    assert all(pickle.loads(pickle.dumps(job)) == job for job in work)
    assert {(job.q, job.num_positions, job.device) for job in work} == {(5, 3, "cpu")}


def test_seeds_of_which_the_same_is_missing_are_run_together() -> None:
    finished = {key_of(run("paper", 1)), key_of(run("author_code", 3)), key_of(run("paper", 3))}
    work = jobs(plan(5, ["author_code", "paper", "selected", "coms"]), finished)
    assert [(job.methods, job.seeds) for job in work] == [
        *((("selected",), (seed,)) for seed in range(5)),
        (("author_code", "paper"), (0, 2, 4)),
        (("author_code",), (1,)),
        *((("coms",), (seed,)) for seed in range(5)),
    ]


@pytest.mark.parametrize("changes", [{"batch_seeds": 3}, {"num_workers": 3}])
@pytest.mark.parametrize("there", [0, 1, 2])
def test_what_is_there_does_not_change_who_is_run_together(
    there: int, changes: dict[str, Any]
) -> None:
    """A killed benchmark goes on with the same computations, whichever had ended."""
    names = ["gradient_ascent", "default"]
    first = jobs(plan(8, names), **changes)
    assert [job.seeds for job in first] == [(0, 1), (2, 3, 4), (5, 6, 7)]
    finished = {key_of(run(name, seed)) for name in names for seed in first[there].seeds}
    assert jobs(plan(8, names), finished, **changes) == first[:there] + first[there + 1 :]
    assert jobs(plan(8, names), {key_of(run(n, s)) for n in names for s in range(8)}) == []


@pytest.mark.parametrize(
    ("num_seeds", "changes", "sizes"),
    [
        (8, {}, [8]),
        (8, {"num_workers": 2}, [4, 4]),
        (5, {"num_workers": 2}, [2, 3]),
        (3, {"num_workers": 8}, [1, 1, 1]),
        (8, {"batch_seeds": 3}, [2, 3, 3]),
        (8, {"batch_seeds": 3, "num_workers": 8}, [2, 3, 3]),
        (2, {"batch_seeds": 100}, [2]),
    ],
)
def test_sizes(num_seeds: int, changes: dict[str, Any], sizes: list[int]) -> None:
    work = jobs(plan(num_seeds, ["default"]), **changes)
    assert [len(job.seeds) for job in work] == sizes
    assert [s for job in work for s in job.seeds] == [*range(num_seeds)]


@pytest.mark.parametrize(
    ("free", "names", "num_workers", "size"),
    [
        (None, ["default"], 1, 8),
        (17, ["default"], 1, 8),
        (8, ["default"], 1, 4),
        (8, ["gradient_ascent", "default"], 1, 2),
        (8, ["default"], 2, 2),
        (1, ["default"], 1, 1),
    ],
)
def test_default_leaves_half_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, free: int | None, names: list[str], num_workers: int, size: int
) -> None:
    """Free memory in units of what a seed takes; who sets a size knows better."""
    needed = 2**20
    monkeypatch.setattr(module, "free_memory", lambda device: free and free * needed)
    work = jobs(plan(8, names, needed), num_workers=num_workers)
    assert {len(job.seeds) for job in work} == {size}
    (job,) = jobs(plan(8, names, needed), num_workers=num_workers, batch_seeds=8)
    assert len(job.seeds) == 8


def test_plan() -> None:
    found = plan_task(SPEC, ["start", "paper", "default", "selected", "coms"], 2, 5, 0)
    assert found.spec == SPEC
    assert [(r["method"], r["seed"]) for r in found.identities] == [
        ("start", 0),  # the same whatever the seed
        ("coms", 0),
        ("coms", 1),
        ("paper", 0),
        ("paper", 1),
        ("default", 0),
        ("default", 1),
        ("selected", 0),
        ("selected", 1),
    ]
    together = {name for name, needed in found.seed_bytes.items() if needed is not None}
    assert together == {"paper", "default"}
    along = plan_task(SPEC, ["paper", "default"], 2, 5, 3)
    assert along.seed_bytes == {"paper": None, "default": None}  # a path is that of one seed
    assert {r["config"] for r in along.identities}.isdisjoint(r["config"] for r in found.identities)

r"""
What a benchmark consists of, and the jobs that make what is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from botorch_roma.benchmark.jobs import Job, TaskSpec, run_identity
from botorch_roma.benchmark.methods import METHODS, get_methods
from botorch_roma.benchmark.store import Key, Record, key_of
from botorch_roma.limits import free_memory

#: Share of the free memory that the seeds of all workers may take together, by estimate.
MEMORY_SHARE: float = 0.5


@dataclass(frozen=True)
class Plan:
    """What a finished benchmark of one task consists of.

    Attributes:
        spec: The task.
        identities: The runs, in the order of the table.
        seed_bytes: By method, see :class:`~botorch_roma.benchmark.kinds.Method`; None also where
            positions are scored.
    """

    spec: TaskSpec
    identities: list[Record]
    seed_bytes: dict[str, int | None]


def plan_task(
    spec: TaskSpec, methods: list[str] | None, num_seeds: int, q: int, num_positions: int
) -> Plan:
    r"""Plan the runs of one task.

    Args:
        spec: The task.
        methods: As for :func:`~botorch_roma.benchmark.runner.run_benchmark`, as all others.
        num_seeds: Number of seeds.
        q: Number of candidates.
        num_positions: Positions that are scored on the way; a path is that of one seed.

    Raises:
        ValueError: For unknown tasks and methods, and more candidates than start designs.
    """
    task = spec.load()
    chosen = get_methods(methods, discrete=task.vocabulary is not None)
    task.start_designs(q)  # raises where `q` is too large
    blind = task.without_oracle()
    identities = [
        run_identity(spec, blind, method.name, seed, q, num_positions)
        for method in chosen
        for seed in range(num_seeds if method.seeded else 1)
    ]
    seed_bytes = {m.name: None if num_positions else m.seed_bytes(blind, q) for m in chosen}
    return Plan(spec, identities, seed_bytes)


def make_jobs(
    plans: Sequence[Plan],
    finished: Collection[Key],
    q: int,
    num_positions: int,
    device: str,
    num_workers: int,
    batch_seeds: int | None,
) -> list[Job]:
    r"""The jobs that are left: of one task, one group and one or several seeds each.

    Args:
        plans: One for each task.
        finished: The runs that are there already.
        q: Number of candidates.
        num_positions: Positions that are scored on the way.
        device: Where candidates are generated.
        num_workers: Number of processes that share the jobs.
        batch_seeds: Most seeds of a job, where its methods can run several; None for so many
            that each process has one batch, and that all fit into :data:`MEMORY_SHARE`.

    Returns:
        The jobs, task by task, the expensive groups first. Which seeds are run together does not
        depend on ``finished``: a benchmark that goes on computes what it would have computed.
    """
    groups = [*dict.fromkeys(m.group for m in METHODS.values())][::-1]
    jobs = []
    for plan, group in itertools.product(plans, groups):
        runs = [run for run in plan.identities if METHODS[run["method"]].group == group]
        if not runs:
            continue
        needed = [plan.seed_bytes[name] for name in dict.fromkeys(run["method"] for run in runs)]
        seeds = sorted({run["seed"] for run in runs})
        size = _batch_size(len(seeds), needed, device, num_workers, batch_seeds)
        for batch in _evenly(seeds, size):
            alike: dict[tuple[str, ...], list[int]] = {}
            for seed in batch:
                names = [
                    run["method"]
                    for run in runs
                    if run["seed"] == seed and key_of(run) not in finished
                ]
                alike.setdefault(tuple(names), []).append(seed)
            jobs += [
                Job(plan.spec, names, tuple(missing), q, num_positions, device)
                for names, missing in alike.items()
                if names
            ]
    return jobs


def _batch_size(
    num_seeds: int,
    seed_bytes: Sequence[int | None],
    device: str,
    num_workers: int,
    batch_seeds: int | None,
) -> int:
    """How many of some seeds are run in one computation, at most."""
    needed = [n for n in seed_bytes if n is not None]
    if len(needed) < len(seed_bytes):
        return 1
    if batch_seeds is not None:
        return batch_seeds
    size, free = -(-num_seeds // num_workers), free_memory(device)
    if free is None:
        return size
    return max(1, min(size, int(MEMORY_SHARE * free) // num_workers // sum(needed)))


def _evenly(seeds: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """As few batches of at most ``size`` as there can be, of about as many seeds each."""
    number = -(-len(seeds) // size)
    limits = [len(seeds) * i // number for i in range(number + 1)]
    return [tuple(seeds[a:b]) for a, b in itertools.pairwise(limits)]

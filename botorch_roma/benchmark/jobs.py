r"""
Jobs of a benchmark: candidates first, then one oracle call for each batch.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from botorch.exceptions import ModelFittingError
from torch import Tensor

import botorch_roma
from botorch_roma.benchmark.kinds import Method, MethodResult, ProxyCache
from botorch_roma.benchmark.memory import peak_memory
from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.store import Record, config_hash
from botorch_roma.optim.initializers import distinct_keys
from botorch_roma.tasks import OfflineTask, load_task

SCORES: tuple[str, ...] = ("full_100", "full_50", "visible_100", "visible_50")


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
    """Methods of one group; see :func:`run_identity` for the numbers.

    Attributes:
        seeds: One seed, or several that each of the methods runs in one computation.
    """

    spec: TaskSpec
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    q: int
    num_positions: int = 0
    device: str = "cpu"


@functools.lru_cache(maxsize=1)
def _load(spec: TaskSpec) -> OfflineTask:
    return spec.load()


def run_identity(
    spec: TaskSpec, blind: OfflineTask, method: str, seed: int, q: int, num_positions: int = 0
) -> Record:
    r"""The fields that a run is known by.

    Args:
        spec: The task.
        blind: Its visible part.
        method: Name of the method.
        seed: Seed of the run.
        q: Number of candidates.
        num_positions: Positions along the way to the candidates that are scored beside them.

    Returns:
        ``task``, ``method``, ``config`` (a hash of everything set: the task's options, the number
        of candidates, the method's settings), ``seed``, ``version``.
    """
    settings = {
        "task": [dict(spec.options), str(spec.dtype), list(blind.X.shape)],
        "q": q,
        "method": METHODS[method].settings(blind),
    }
    if num_positions:
        settings["num_positions"] = num_positions
    return {
        "task": spec.name,
        "method": method,
        "config": config_hash(settings),
        "seed": seed,
        "version": botorch_roma.__version__,
    }


def run_job(job: Job) -> list[Record]:
    r"""Generate the candidates of a job on its device and score them on the CPU, on one thread.

    While they are generated, no oracle is within reach. A method that refuses a task (its proxy or
    latent space cannot be fitted) gives a record without values, with the reason in ``refused``.

    Returns:
        One record for each method and seed. Besides what identifies it and its figures it has
        ``batch_seeds``, the number of seeds in its computation. The seconds are its time divided by
        that, ``peak_memory_mb`` is that of all of them.

    Raises:
        RuntimeError: If the oracle of the task was called all the same.
        ModelFittingError: If a method with several seeds refuses; it does not tell which of them.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices; and rounding must not depend on the workers
    try:
        task, proxies = _load(job.spec), ProxyCache(paths=job.num_positions > 0)
        blind = task.without_oracle().to(device=job.device)
        return [r for name in job.methods for r in _run_method(task, blind, name, job, proxies)]
    finally:
        torch.set_num_threads(threads)


def _run_method(
    task: OfflineTask, blind: OfflineTask, method: str, job: Job, proxies: ProxyCache
) -> list[Record]:
    calls, refused = task.num_oracle_calls, None
    results: list[MethodResult] | list[None]
    with peak_memory() as peak:
        try:
            results = [
                replace(  # fetching it waits for the device
                    result,
                    candidates=result.candidates.to(task.X),
                    path=[X.to(task.X) for X in result.path],
                )
                for result in _results(METHODS[method], blind, job, proxies)
            ]
        except ModelFittingError as error:
            if len(job.seeds) > 1:
                raise
            results, refused = [None], str(error)
    if task.num_oracle_calls > calls:
        raise RuntimeError(f"The oracle of {task.name!r} was called while generating.")
    return [
        {
            **run_identity(job.spec, blind, method, seed, job.q, job.num_positions),
            "num_rows": task.num_rows,
            "dim": task.dim,
            "ranges": {scale: list(pair) for scale, pair in task.ranges.items()},
            "substitute": task.substitute,
            **(score(task, result, job.num_positions) if result is not None else {}),
            "refused": refused,
            "peak_memory_mb": peak.megabytes,
            "batch_seeds": len(job.seeds),
            **({} if blind.X.is_cpu else {"device": device_name(blind.X.device)}),
        }
        for seed, result in zip(job.seeds, results, strict=True)
    ]


def _results(
    method: Method, blind: OfflineTask, job: Job, proxies: ProxyCache
) -> list[MethodResult]:
    """What a method makes of each seed of a job."""
    if len(job.seeds) == 1:
        return [method.run(blind, job.q, job.seeds[0], proxies)]
    assert method.run_seeds is not None, method.name
    return method.run_seeds(blind, job.q, job.seeds, proxies)


def device_name(device: torch.device) -> str:
    """What a table calls a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def score(task: OfflineTask, result: MethodResult, num_positions: int = 0) -> Record:
    r"""The figures of a finished batch; asks the oracle, once.

    Args:
        task: The task.
        result: What a method returned.
        num_positions: Ask it about this many batches more, evenly spaced on the way to the
            candidates, start and end included.

    Returns:
        ``full_100``, ``full_50``, ``visible_100``, ``visible_50``, ``num_distinct``,
        ``reconstruction``, ``oracle_calls_before`` (those of the methods, checked to be 0),
        ``fit_seconds``, ``optimize_seconds``, ``evaluate_seconds``, and ``values``, in the units of
        the task. With positions also ``best_position_{score}``, the highest of each score along the
        way: no method could know where to stop for it.
    """
    start = time.perf_counter()
    values = task.evaluate(result.candidates).flatten()
    seconds = time.perf_counter() - start
    record: Record = _percentiles(task, values)
    if num_positions and result.path:
        last = len(result.path) - 1
        chosen = sorted({round(last * i / max(1, num_positions - 1)) for i in range(num_positions)})
        along = [_percentiles(task, task.evaluate(result.path[i]).flatten()) for i in chosen]
        record |= {f"best_position_{s}": max(p[s] for p in [record, *along]) for s in SCORES}
    return {
        **record,
        "num_distinct": len(set(distinct_keys(result.candidates, task.X.std(dim=0)))),
        "reconstruction": result.reconstruction,
        "oracle_calls_before": 0,
        "fit_seconds": round(result.fit_seconds, 2),
        "optimize_seconds": round(result.optimize_seconds, 2),
        "evaluate_seconds": round(seconds, 2),
        "values": [float(f"{value:.7g}") for value in values.tolist()],
    }


def _percentiles(task: OfflineTask, values: Tensor) -> dict[str, float]:
    """The :data:`SCORES` of the values of a batch."""
    record = {}
    for scale in ("full", "visible"):
        scores = task.normalize(values, scale=scale).double()
        record[f"{scale}_100"] = scores.max().item()
        record[f"{scale}_50"] = scores.quantile(0.5).item()
    return record

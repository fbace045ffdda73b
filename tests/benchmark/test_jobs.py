from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from botorch.exceptions import ModelFittingError

from botorch_roma import OfflineTask
from botorch_roma.benchmark import jobs
from botorch_roma.benchmark.jobs import SCORES, Job, TaskSpec, run_identity, run_job, score
from botorch_roma.benchmark.kinds import Method, MethodResult, ProxyCache
from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.store import MEASURED, key_of

SPEC = TaskSpec("branin2", options=(("num_rows", 200), ("seed", 3)))


@pytest.fixture(autouse=True)
def fresh_view() -> Iterator[None]:
    """A worker keeps the last task."""
    jobs._load.cache_clear()
    yield
    jobs._load.cache_clear()


@pytest.fixture(scope="module")
def task() -> OfflineTask:
    return SPEC.load()


def test_spec(task: OfflineTask) -> None:
    assert (task.name, task.num_rows, task.X.dtype) == ("branin2", 120, torch.float32)
    assert pickle.loads(pickle.dumps(SPEC)) == SPEC
    assert hash(SPEC) == hash(TaskSpec("branin2", options=(("num_rows", 200), ("seed", 3))))


def test_records(task: OfflineTask) -> None:
    random, start = run_job(Job(SPEC, ("random", "start"), seeds=(4,), q=7))
    assert list(random) == [
        "task",
        "method",
        "config",
        "seed",
        "version",
        "num_rows",
        "dim",
        "ranges",
        "substitute",
        "full_100",
        "full_50",
        "visible_100",
        "visible_50",
        "num_distinct",
        "reconstruction",
        "oracle_calls_before",
        "fit_seconds",
        "optimize_seconds",
        "evaluate_seconds",
        "values",
        "refused",
        "peak_memory_mb",
        "batch_seeds",
    ]
    for record, X in ((random, task.random_designs(7, 4)), (start, task.start_designs(7)[0])):
        assert (record["task"], record["seed"], record["num_distinct"]) == ("branin2", 4, 7)
        assert (record["oracle_calls_before"], record["refused"]) == (0, None)
        assert (record["num_rows"], record["dim"], record["substitute"]) == (120, 2, None)
        assert record["ranges"] == {scale: list(pair) for scale, pair in task.ranges.items()}
        values = task.evaluate(X).flatten().double()
        assert record["values"] == pytest.approx(values.tolist(), rel=1e-6)
        for scale in ("full", "visible"):
            low, high = task.ranges[scale]
            scores = ((values - low) / (high - low)).sort().values
            assert record[f"{scale}_100"] == pytest.approx(scores[-1].item(), rel=1e-5)
            assert record[f"{scale}_50"] == pytest.approx(scores[3].item(), rel=1e-5)


def test_median_of_an_even_number_and_duplicates(task: OfflineTask) -> None:
    X = task.start_designs(3)[0][[0, 1, 2, 2]]
    record = score(task, MethodResult(X))
    scores = task.normalize(task.evaluate(X), scale="full").flatten().sort().values
    assert record["full_50"] == pytest.approx(scores[1:3].mean().item(), rel=1e-5)
    assert record["num_distinct"] == 3


def test_the_oracle_is_asked_once(task: OfflineTask) -> None:
    counted = task.to()
    score(counted, MethodResult(task.start_designs(4)[0]))
    assert (counted.num_oracle_calls, counted.num_oracle_queries) == (1, 4)


def test_number_of_threads_makes_no_difference() -> None:
    job, seen, ends = Job(SPEC, ("default",), (0,), 5), [], []
    method = METHODS["default"]

    def run(*args: Any) -> MethodResult:
        seen.append(torch.get_num_threads())
        return method.run(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "default", Method("default", "", run))
        for threads in (1, 2):
            torch.set_num_threads(threads)
            (record,) = run_job(job)
            assert record["method"] == "default"
            assert torch.get_num_threads() == threads
            ends.append(record["values"])
    assert seen == [1, 1]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(("num_positions", "asked"), [(1, [0]), (2, [0, 4]), (3, [0, 2, 4])])
def test_best_position(task: OfflineTask, num_positions: int, asked: list[int]) -> None:
    """Evenly spaced, start and end included; the candidates count, too."""
    path = [task.random_designs(5, seed) for seed in range(5)]
    counted = task.to()
    record = score(counted, MethodResult(path[-1], path=path), num_positions)
    assert counted.num_oracle_calls == 1 + num_positions
    batches = [task.normalize(task.evaluate(path[i])) for i in {*asked, 4}]
    assert record["best_position_full_100"] == max(b.max().item() for b in batches)
    medians = [b.double().quantile(0.5).item() for b in batches]
    assert record["best_position_full_50"] == pytest.approx(max(medians))
    assert record["full_50"] == pytest.approx(medians[-1])


def test_no_positions_without_a_path(task: OfflineTask) -> None:
    counted = task.to()
    record = score(counted, MethodResult(task.random_designs(5, 0)), 3)
    assert counted.num_oracle_calls == 1
    assert not [name for name in record if name.startswith("best")]


def test_refusal_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(blind: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        raise ModelFittingError("It loses the start designs.")

    monkeypatch.setitem(METHODS, "start", Method("start", "", refuse))
    random, refused = run_job(Job(SPEC, ("random", "start"), seeds=(0,), q=5))
    assert random["refused"] is None
    assert refused["refused"] == "It loses the start designs."
    assert set(refused) == {
        *("task", "method", "config", "seed", "version"),
        *("num_rows", "dim", "ranges", "substitute"),
        *("refused", "peak_memory_mb", "batch_seeds"),
    }


def test_several_seeds_in_one_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record each, as alone; seconds are the share of one."""
    spec = TaskSpec("branin2", None, torch.double, SPEC.options)
    methods = ("gradient_ascent", "default")
    alone = [r for s in (3, 1) for r in run_job(Job(spec, methods, (s,), 5))]
    with monkeypatch.context() as patch:
        for name in methods:  # one after the other is not asked for
            patch.setitem(METHODS, name, replace(METHODS[name], run=None))  # type: ignore[arg-type]
        together = run_job(Job(spec, methods, (3, 1), 5))
    assert [(r["method"], r["seed"]) for r in together] == [(m, s) for m in methods for s in (3, 1)]
    found = {key_of(record): record for record in together}
    assert {r["batch_seeds"] for r in alone} == {1}
    for expected in alone:
        record = found[key_of(expected)]
        assert record["batch_seeds"] == 2
        assert list(record) == list(expected)
        assert record["values"] == pytest.approx(expected["values"], rel=1e-6)
        for name in SCORES:
            assert record[name] == pytest.approx(expected[name], rel=1e-6)
        for name in set(record) - {*MEASURED, *SCORES, "values"}:
            assert record[name] == expected[name]
    assert together[0]["values"] != together[1]["values"]


def test_refusal_among_several_seeds_is_for_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(
        blind: OfflineTask, q: int, seeds: Sequence[int], proxies: ProxyCache
    ) -> list[MethodResult]:
        raise ModelFittingError("One of them loses the start designs.")

    monkeypatch.setitem(METHODS, "default", replace(METHODS["default"], run_seeds=refuse))
    with pytest.raises(ModelFittingError, match="One of them"):
        run_job(Job(SPEC, ("default",), (0, 1), 5))


def test_identity(task: OfflineTask) -> None:
    blind = task.without_oracle()
    identity = run_identity(SPEC, blind, "default", 3, 5)
    assert {k: identity[k] for k in ("task", "method", "seed")} == {
        "task": "branin2",
        "method": "default",
        "seed": 3,
    }
    assert run_identity(SPEC, blind, "default", 4, 5)["config"] == identity["config"]
    assert run_identity(SPEC, blind, "gradient_ascent", 3, 5)["config"] != identity["config"]
    assert run_identity(SPEC, blind, "default", 3, 5, 2)["config"] != identity["config"]
    smaller = TaskSpec("branin2", options=(("num_rows", 100),)).load().without_oracle()
    assert run_identity(SPEC, smaller, "default", 3, 5)["config"] != identity["config"]


def test_defaults_are_part_of_the_identity(
    task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new default of a function that a preset does not set is another configuration."""
    settings = METHODS["default"].settings(task.without_oracle())
    assert settings["optimize"]["alpha"] == 1.0
    assert settings["fit"]["batch_size"] == 512  # the quick preset's
    assert settings["model"]["activation"] == "softplus"
    assert "latent" not in settings


def test_on_another_device(device: torch.device) -> None:
    (record,) = run_job(Job(SPEC, ("gradient_ascent_single",), (0,), 5, 2, str(device)))
    assert record["num_distinct"] == 5
    assert "best_position_full_50" in record
    assert ("device" in record) == (device.type != "cpu")


def test_candidates_are_made_where_the_job_says(
    task: OfflineTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        assert {t.device.type for t in (task.X, task.Y, task.bounds)} == {"meta"}
        return MethodResult(torch.zeros(q, task.dim, dtype=torch.double))

    monkeypatch.setitem(METHODS, "random", Method("random", "", run))
    (record,) = run_job(Job(SPEC, ("random",), (0,), 5, device="meta"))
    assert record["device"] == "meta"
    assert len(record["values"]) == 5

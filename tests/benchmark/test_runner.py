from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from botorch_roma import OfflineTask, Preset, presets
from botorch_roma.benchmark import runner
from botorch_roma.benchmark.methods import (
    METHODS,
    Method,
    MethodResult,
    ProxyCache,
    TaskView,
    get_methods,
)
from botorch_roma.benchmark.runner import Job, TaskSpec, run_benchmark, run_job

SPEC = TaskSpec("branin2", options=(("num_rows", 200), ("seed", 3)))
TRIVIAL = ["random", "start", "start_noise_0.2"]
RESULTS = [
    "task",
    "method",
    "seed",
    "full_100",
    "full_50",
    "visible_100",
    "visible_50",
    "num_distinct",
    "reconstruction",
    "oracle_calls_before",
]


@pytest.fixture(autouse=True)
def fresh_view() -> Iterator[None]:
    """The runner keeps the last task."""
    runner._load.cache_clear()
    yield
    runner._load.cache_clear()


@pytest.fixture(scope="module")
def task() -> OfflineTask:
    return SPEC.load()


def test_spec() -> None:
    task = SPEC.load()
    assert (task.name, task.num_rows, task.X.dtype) == ("branin2", 120, torch.float32)
    assert pickle.loads(pickle.dumps(SPEC)) == SPEC
    assert hash(SPEC) == hash(TaskSpec("branin2", options=(("num_rows", 200), ("seed", 3))))


def test_scores(task: OfflineTask) -> None:
    runs = run_benchmark(SPEC, methods=["start", "random"], num_seeds=2, q=7)
    assert list(runs) == [*RESULTS, "fit_seconds", "optimize_seconds"]
    assert runs[["method", "seed"]].to_numpy().tolist() == [
        ["random", 0],
        ["random", 1],
        ["start", 0],
        ["start", 1],
    ]
    assert runs["task"].eq("branin2").all()
    assert runs["num_distinct"].eq(7).all()
    assert runs["oracle_calls_before"].eq(0).all()
    for row in runs.to_dict("records"):
        X = task.random_designs(7, row["seed"])
        if row["method"] == "start":
            X = task.start_designs(7)[0]
        values = task.evaluate(X).flatten().double()
        for scale in ("full", "visible"):
            low, high = task.ranges[scale]
            scores = ((values - low) / (high - low)).sort().values
            assert row[f"{scale}_100"] == pytest.approx(scores[-1].item(), rel=1e-5)
            assert row[f"{scale}_50"] == pytest.approx(scores[3].item(), rel=1e-5)


def test_median_of_an_even_number(task: OfflineTask) -> None:
    runs = run_benchmark(SPEC, methods=["start"], num_seeds=1, q=4)
    scores = task.normalize(task.evaluate(task.start_designs(4)[0]), scale="full").flatten()
    assert runs["full_50"].item() == pytest.approx(scores[1:3].mean().item(), rel=1e-5)


def test_all_methods_without_a_query() -> None:
    runs = run_benchmark(SPEC, num_seeds=1, q=5)
    assert runs["method"].tolist() == [m.name for m in get_methods(discrete=False)]
    assert runs["oracle_calls_before"].eq(0).all()
    assert runs[["full_100", "visible_50"]].notna().all().all()


def test_number_of_workers_makes_no_difference() -> None:
    arguments = {"methods": TRIVIAL, "num_seeds": 2, "q": 5}
    one, two = (run_benchmark(SPEC, **arguments, num_workers=n) for n in (1, 2))
    pd.testing.assert_frame_equal(one[RESULTS], two[RESULTS], check_exact=True)


def test_number_of_threads_makes_no_difference() -> None:
    job, seen, ends = Job(SPEC, ("default",), 0, 5), [], []
    method = METHODS["default"]

    def run(*args: Any) -> MethodResult:
        seen.append(torch.get_num_threads())
        return method.run(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "default", Method("default", "", run, "default"))
        for threads in (1, 2):
            torch.set_num_threads(threads)
            ((name, result),) = run_job(job)
            assert name == "default"
            assert torch.get_num_threads() == threads
            ends.append(result.candidates)
    assert seen == [1, 1]
    assert torch.equal(ends[0], ends[1])


def test_jobs_share_proxies_and_the_long_ones_come_first() -> None:
    jobs = runner._make_jobs(SPEC, get_methods(), range(2), 5)
    assert [(job.methods, job.seed) for job in jobs[::2]] == [
        (("default_latent",), 0),
        (("author_code", "paper"), 0),
        (("gradient_ascent", "default"), 0),
        (("random", "start", "start_noise_0.2", "start_noise_1"), 0),
    ]
    assert [job.seed for job in jobs] == [0, 1] * 4
    assert all(pickle.loads(pickle.dumps(job)) == job for job in jobs)


def test_method_that_asks_the_oracle_of_its_view(monkeypatch: pytest.MonkeyPatch) -> None:
    def cheat(view: TaskView, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        X = view.random_designs(q, seed)
        view.random_designs.__self__.evaluate(X)  # type: ignore[attr-defined]
        return MethodResult(X)

    monkeypatch.setitem(METHODS, "random", Method("random", "", cheat))
    with pytest.raises(RuntimeError, match="The oracle was asked about 5 designs"):
        run_benchmark(SPEC, methods=["random"], num_seeds=1, q=5)


def test_method_that_gets_hold_of_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    task = SPEC.load()

    def cheat(view: TaskView, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        task.evaluate(view.X[:1])
        return MethodResult(view.random_designs(q, seed))

    monkeypatch.setattr(TaskSpec, "load", lambda self: task)
    monkeypatch.setitem(METHODS, "random", Method("random", "", cheat))
    with pytest.raises(RuntimeError, match="oracle of 'branin2' was called while gen"):
        run_benchmark(SPEC, methods=["random"], num_seeds=2, q=5)


def test_progress_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    run_benchmark(SPEC, methods=["random"], num_seeds=1, q=2)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    run_benchmark(SPEC, methods=["random"], num_seeds=1, q=2, progress=True)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["bo"]}, r"`methods` must be one of .* received 'bo'"),
        ({"num_seeds": 0}, r"`num_seeds` .* received 0"),
        ({"q": 0}, r"`q` .* received 0"),
        ({"q": 1.5}, r"`q` .* received 1\.5"),
        ({"num_workers": 0}, r"`num_workers` .* received 0"),
        ({"q": 121, "methods": ["start"]}, r"120 distinct .* received 121"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_benchmark(SPEC, **{"num_seeds": 1, "methods": ["random"], **arguments})


def test_unknown_task() -> None:
    with pytest.raises(ValueError, match=r"`name` must be one of .* received 'branin3'"):
        run_benchmark(TaskSpec("branin3"), num_seeds=1)


@pytest.mark.slow
def test_tfbind8(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end: 128 distinct sequences, and no query."""
    fit = {"epochs": 1, "num_ascent_steps": 1}
    optimize = {"num_updates": 20, "num_adaptation_steps": 2, "lr": 0.1}
    preset = Preset("default", {"hidden_sizes": (16,)}, fit, optimize)
    monkeypatch.setitem(presets._FACTORIES, "default", lambda *_: preset)
    spec = TaskSpec("tfbind8", str(data_dir))
    ((_, result),) = run_job(Job(spec, ("default",), seed=0, q=128))
    X = result.candidates
    assert X.shape == (128, 8)
    assert len(torch.unique(X, dim=0)) == 128
    assert set(X.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
    task = spec.load()
    known = torch.cdist(X, task.start_designs(128)[0]).min(dim=1).values.eq(0.0)
    assert known.sum() < 64
    runs = run_benchmark(spec, methods=["start", "default"], num_seeds=1)
    assert runs["oracle_calls_before"].eq(0).all()
    assert runs["num_distinct"].eq(128).all()
    assert runs["visible_100"].iloc[0] == 1.0

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from botorch.exceptions import BotorchWarning, ModelFittingError
from hypothesis import given, settings
from hypothesis import strategies as st

from botorch_roma import OfflineTask, Preset, presets
from botorch_roma.benchmark import jobs, runner
from botorch_roma.benchmark.jobs import Job, TaskSpec, run_job
from botorch_roma.benchmark.kinds import Method, MethodResult, ProxyCache
from botorch_roma.benchmark.launchers import LAUNCHERS, Outcomes, Work, run_in_processes
from botorch_roma.benchmark.methods import METHODS, get_methods
from botorch_roma.benchmark.runner import run_benchmark
from botorch_roma.benchmark.store import KEY, MEASURED, RunStore

SPEC = TaskSpec("branin2", options=(("num_rows", 200), ("seed", 3)))
TRIVIAL = ["random", "start", "start_noise_0.2"]


@pytest.fixture(autouse=True)
def fresh_view() -> Iterator[None]:
    """The runner keeps the last task."""
    jobs._load.cache_clear()
    yield
    jobs._load.cache_clear()


def test_all_methods_without_a_query() -> None:
    runs = run_benchmark(SPEC, num_seeds=1, q=5)
    assert runs["method"].tolist() == [m.name for m in get_methods(discrete=False)]
    assert runs["oracle_calls_before"].eq(0).all()
    assert runs[["full_100", "visible_50"]].notna().all().all()


def test_number_of_workers_makes_no_difference() -> None:
    arguments = {"methods": TRIVIAL, "num_seeds": 2, "q": 5}
    one, two = (run_benchmark(SPEC, **arguments, num_workers=n) for n in (1, 2))
    pd.testing.assert_frame_equal(
        one.drop(columns=[*MEASURED]), two.drop(columns=[*MEASURED]), check_exact=True
    )


def test_rows_in_the_order_of_the_table() -> None:
    runs = run_benchmark(SPEC, methods=["start", "random"], num_seeds=2, q=7)
    assert runs[["method", "seed"]].to_numpy().tolist() == [
        ["random", 0],
        ["random", 1],
        ["start", 0],  # the same whatever the seed
    ]
    assert runs["task"].eq("branin2").all()


def test_positions_have_columns_of_their_own() -> None:
    arguments = {"methods": ["random", "default"], "num_seeds": 1, "q": 5}
    plain, along = (run_benchmark(SPEC, **arguments, num_positions=n) for n in (0, 3))
    assert "best_position_full_100" not in plain
    assert along["full_100"].tolist() == plain["full_100"].tolist()
    random, default = along.to_dict("records")
    assert random["best_position_full_100"] != random["best_position_full_100"]  # NaN
    assert default["best_position_full_50"] >= default["full_50"]
    assert set(along["config"]).isdisjoint(plain["config"])


def test_several_tasks() -> None:
    specs = [SPEC, TaskSpec("ackley6", options=(("num_rows", 100),))]
    runs = run_benchmark(specs, methods=["random"], num_seeds=2, q=3)
    assert runs[["task", "seed"]].to_numpy().tolist() == [
        ["branin2", 0],
        ["branin2", 1],
        ["ackley6", 0],
        ["ackley6", 1],
    ]
    alone = run_benchmark(specs[1], methods=["random"], num_seeds=2, q=3)
    assert runs["full_50"].tolist()[2:] == alone["full_50"].tolist()


@settings(max_examples=5)
@given(
    methods=st.lists(st.sampled_from([*TRIVIAL, "default"]), min_size=1, unique=True),
    num_seeds=st.integers(1, 2),
    q=st.integers(1, 5),
    num_rows=st.integers(40, 80),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_benchmark(
    methods: list[str], num_seeds: int, q: int, num_rows: int, dtype: torch.dtype
) -> None:
    """A row for each method and seed, with scores of its own batch, and the same again."""
    spec = TaskSpec("branin2", dtype=dtype, options=(("num_rows", num_rows),))
    assert spec.load().X.dtype == dtype
    arguments: dict[str, Any] = {"methods": methods, "num_seeds": num_seeds, "q": q}
    runs, again = (run_benchmark(spec, **arguments) for _ in range(2))
    expected = {(m, s) for m in methods for s in range(1 if m == "start" else num_seeds)}
    assert set(zip(runs["method"], runs["seed"], strict=True)) == expected
    assert len(runs) == len(expected)
    assert runs["oracle_calls_before"].eq(0).all()
    for record in runs.to_dict("records"):
        assert len(record["values"]) == q
        low, high = record["ranges"]["full"]
        assert record["full_100"] == pytest.approx((max(record["values"]) - low) / (high - low))
        assert record["full_50"] <= record["full_100"]
        assert 1 <= record["num_distinct"] <= q
    same = [frame.drop(columns=[*MEASURED]) for frame in (runs, again)]
    pd.testing.assert_frame_equal(*same, check_exact=True)


def content(of: RunStore) -> pd.DataFrame:
    """What must not depend on interruptions."""
    return of.frame().drop(columns=[*MEASURED]).sort_values([*KEY], ignore_index=True)


class TestStore:
    """What is there is not run again."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> RunStore:
        return RunStore(tmp_path / "runs.jsonl")

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
        """The jobs that are run from here on."""
        seen: list[Job] = []

        def watched(job: Job) -> Any:
            seen.append(job)
            return run_job(job)

        monkeypatch.setattr(runner, "run_job", watched)
        return seen

    def test_what_is_there_stays(self, store: RunStore, asked: list[Job]) -> None:
        one = run_benchmark(SPEC, methods=TRIVIAL, num_seeds=2, q=5, store=store)
        before, number = store.path.read_bytes(), len(asked)
        again = run_benchmark(SPEC, methods=TRIVIAL, num_seeds=2, q=5, store=store)
        pd.testing.assert_frame_equal(one, again)
        assert len(asked) == number
        assert store.path.read_bytes() == before
        run_benchmark(SPEC, methods=TRIVIAL, num_seeds=3, q=5, store=store)
        assert [(job.methods, job.seeds) for job in asked[number:]] == [
            (("random", "start_noise_0.2"), (2,))
        ]

    @pytest.mark.parametrize(
        "changes",
        [
            {"q": 6},
            {"specs": TaskSpec("branin2", options=(("num_rows", 201), ("seed", 3)))},
            {"specs": TaskSpec("branin2", None, torch.double, SPEC.options)},
        ],
    )
    def test_another_configuration_is_run(self, store: RunStore, changes: dict[str, Any]) -> None:
        arguments = {"specs": SPEC, "methods": ["random"], "num_seeds": 1, "q": 5, "store": store}
        one = run_benchmark(**arguments)
        other = run_benchmark(**{**arguments, **changes})
        assert len(store.records()) == 2
        assert one["config"].item() != other["config"].item()

    def test_another_version_is_run(self, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
        run_benchmark(SPEC, methods=["random"], num_seeds=1, q=5, store=store)
        monkeypatch.setattr("botorch_roma.__version__", "9.9")
        run_benchmark(SPEC, methods=["random"], num_seeds=1, q=5, store=store)
        assert [r["version"] for r in store.records()][1] == "9.9"

    def test_a_failure_does_not_stop_the_others(
        self, store: RunStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(blind: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
            if seed == 1:
                raise ZeroDivisionError("seed one")
            return MethodResult(blind.random_designs(q, seed))

        arguments = {"methods": ["random"], "num_seeds": 3, "q": 5, "store": store}
        with monkeypatch.context() as patch:
            patch.setitem(METHODS, "random", Method("random", "", fails))
            message = r"1 of 3 jobs failed, first random on branin2, seed 1: ZeroDiv.*seed one"
            with pytest.raises(RuntimeError, match=message) as caught:
                run_benchmark(SPEC, **arguments)
        assert "in fails" in caught.value.__notes__[0]
        assert [r["seed"] for r in store.records()] == [0, 2]
        assert run_benchmark(SPEC, **arguments)["seed"].tolist() == [0, 1, 2]

    @pytest.mark.parametrize("first", [1, 3])
    def test_goes_on_with_other_batches(
        self, store: RunStore, asked: list[Job], first: int
    ) -> None:
        """What is there, one by one or not, stays; the rest is run in batches, or one by one."""
        arguments = {"methods": ["default"], "q": 5, "store": store}
        run_benchmark(SPEC, **arguments, num_seeds=3, batch_seeds=first)
        before, number = store.path.read_bytes(), len(asked)
        run_benchmark(SPEC, **arguments, num_seeds=7, batch_seeds=4 - first)
        seeds = [job.seeds for job in asked]
        assert seeds[:number] == ([(0, 1, 2)] if first == 3 else [(0,), (1,), (2,)])
        assert seeds[number:] == ([(3,), (4, 5, 6)] if first == 1 else [(s,) for s in range(3, 7)])
        assert store.path.read_bytes().startswith(before)
        ends = [record["batch_seeds"] for record in store.records()]
        assert ends == ([1] * 4 + [3] * 3 if first == 1 else [3] * 3 + [1] * 4)

    def test_interruption_loses_one_batch(
        self, store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And the same call goes on to the same store, to the last digit."""
        real, seen = METHODS["default"].run_seeds, []

        def stops(blind: OfflineTask, q: int, seeds: Any, proxies: ProxyCache) -> Any:
            seen.append(seeds)
            if 4 in seeds:
                raise KeyboardInterrupt
            assert real is not None
            return real(blind, q, seeds, proxies)

        arguments = {"methods": ["default"], "q": 5, "num_seeds": 7, "batch_seeds": 3}
        with monkeypatch.context() as patch:
            patch.setitem(METHODS, "default", replace(METHODS["default"], run_seeds=stops))
            with pytest.raises(KeyboardInterrupt):
                run_benchmark(SPEC, **arguments, store=store)
        assert seen == [(0, 1), (2, 3), (4, 5, 6)]
        assert [record["seed"] for record in store.records()] == [0, 1, 2, 3]
        undisturbed = RunStore(tmp_path / "undisturbed.jsonl")
        run_benchmark(SPEC, **arguments, store=undisturbed)
        run_benchmark(SPEC, **arguments, store=store)
        assert store.frame()["batch_seeds"].tolist() == [2, 2, 2, 2, 3, 3, 3]
        pd.testing.assert_frame_equal(content(store), content(undisturbed), check_exact=True)

    def test_failure_in_a_batch_costs_no_other_seed(
        self, store: RunStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The seeds of a batch that fails are run one by one; refusals are those of one seed."""
        real = METHODS["default"]

        def one(blind: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
            if seed == 1:
                raise ZeroDivisionError("seed one")
            if seed == 2:
                raise ModelFittingError("seed two")
            return real.run(blind, q, seed, proxies)

        def several(blind: OfflineTask, q: int, seeds: Any, proxies: ProxyCache) -> Any:
            return [one(blind, q, seed, proxies) for seed in seeds]

        arguments = {"methods": ["default"], "q": 5, "num_seeds": 6, "store": store}
        with monkeypatch.context() as patch:
            patch.setitem(METHODS, "default", replace(real, run=one, run_seeds=several))
            message = "1 of 4 jobs failed, first default on branin2, seed 1: ZeroDiv.*seed one"
            warned = "1 jobs with several seeds .*, first default on branin2, seeds 0, 1, 2: ZeroD"
            with (
                pytest.warns(BotorchWarning, match=warned),
                pytest.raises(RuntimeError, match=message),
            ):
                run_benchmark(SPEC, **arguments, batch_seeds=3)
        records = {record["seed"]: record for record in store.records()}
        assert [*records] == [3, 4, 5, 0, 2]
        assert records[2]["refused"] == "seed two"
        assert [r["batch_seeds"] for r in records.values()] == [3, 3, 3, 1, 1]

    @pytest.mark.slow
    def test_killed_at_any_moment(self, store: RunStore, tmp_path: Path) -> None:
        code = (
            "from pathlib import Path; from botorch_roma.benchmark.runner import *; "
            "from botorch_roma.benchmark.store import RunStore; "
            f"run_benchmark({SPEC!r}, methods={TRIVIAL!r}, num_seeds=40, q=5, num_workers=2, "
            f"store=RunStore(Path({str(store.path)!r})))"
        ).replace("torch.float32", "__import__('torch').float32")
        rng = random.Random(0)
        for _ in range(10):
            process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(5.0, 15.0))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        arguments = {"methods": TRIVIAL, "num_seeds": 40, "q": 5}
        run_benchmark(SPEC, **arguments, store=store)
        undisturbed = RunStore(tmp_path / "undisturbed.jsonl")
        run_benchmark(SPEC, **arguments, store=undisturbed)
        pd.testing.assert_frame_equal(content(store), content(undisturbed), check_exact=True)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_each_worker_has_a_batch(monkeypatch: pytest.MonkeyPatch, num_workers: int) -> None:
    def here(work: Work, jobs: Sequence[Job], num_workers: int) -> Outcomes:
        return run_in_processes(work, jobs, 1)  # others would not know the quick presets

    monkeypatch.setitem(LAUNCHERS, "processes", here)
    arguments = {"methods": ["start_noise_1", "default"], "num_seeds": 4, "q": 5}
    spec = TaskSpec("branin2", None, torch.double, SPEC.options)
    runs = run_benchmark(spec, **arguments, num_workers=num_workers, batch_seeds=None)
    assert runs["batch_seeds"].tolist() == [1] * 4 + [4 // num_workers] * 4
    alone = run_benchmark(spec, **arguments)
    assert alone["batch_seeds"].tolist() == [1] * 8
    pd.testing.assert_frame_equal(
        runs.drop(columns=[*MEASURED]), alone.drop(columns=[*MEASURED]), rtol=1e-6
    )


def test_method_that_asks_for_values(monkeypatch: pytest.MonkeyPatch) -> None:
    def cheat(blind: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        X = blind.random_designs(q, seed)
        blind.evaluate(X)
        return MethodResult(X)

    monkeypatch.setitem(METHODS, "random", Method("random", "", cheat))
    with pytest.raises(RuntimeError, match="The oracle was asked about 5 designs"):
        run_benchmark(SPEC, methods=["random"], num_seeds=1, q=5)


def test_method_that_gets_hold_of_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    task = SPEC.load()

    def cheat(blind: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        task.evaluate(blind.X[:1])
        return MethodResult(blind.random_designs(q, seed))

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
        ({"batch_seeds": 0}, r"`batch_seeds` .* received 0"),
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
    task = spec.load()
    X = METHODS["default"].run(task.without_oracle(), 128, 0, ProxyCache()).candidates
    assert X.shape == (128, 8)
    assert len(torch.unique(X, dim=0)) == 128
    assert set(X.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
    known = torch.cdist(X, task.start_designs(128)[0]).min(dim=1).values.eq(0.0)
    assert known.sum() < 64
    runs = run_benchmark(spec, methods=["start", "default"], num_seeds=1)
    assert runs["oracle_calls_before"].eq(0).all()
    assert runs["num_distinct"].eq(128).all()
    assert runs["visible_100"].iloc[0] == 1.0

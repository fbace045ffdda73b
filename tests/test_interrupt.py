from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from botorch.exceptions import OptimizationWarning

import botorch_roma
from botorch_roma import propose
from botorch_roma.files import read_frame, write_frame
from botorch_roma.interrupt import finish_on_interrupt, is_interrupted
from botorch_roma.optim import generation

pytestmark = pytest.mark.usefixtures("hears_interrupts")


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


class TestFinishOnInterrupt:
    def test_the_first_is_noted_the_second_raised(self) -> None:
        with finish_on_interrupt():
            assert not is_interrupted()
            ctrl_c()
            assert is_interrupted()
            with pytest.raises(KeyboardInterrupt):
                ctrl_c()
        assert not is_interrupted()

    def test_outside_it_is_raised(self) -> None:
        with finish_on_interrupt():
            pass
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()

    def test_a_block_within_a_block(self) -> None:
        with finish_on_interrupt():
            with finish_on_interrupt():
                ctrl_c()
            assert is_interrupted()
        assert not is_interrupted()

    def test_errors_leave_the_handler_as_it_was(self) -> None:
        with pytest.raises(OSError, match="full"), finish_on_interrupt():
            raise OSError("full")
        assert not is_interrupted()

    def test_other_threads_get_no_signals(self) -> None:
        seen: list[Any] = []

        def work() -> None:
            with finish_on_interrupt():
                seen.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [signal.default_int_handler]

    def test_who_ignores_it_goes_on_ignoring_it(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with finish_on_interrupt():
            ctrl_c()
            assert not is_interrupted()
        signal.signal(signal.SIGINT, signal.default_int_handler)


X = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
OPTIONS: dict[str, Any] = {
    "q": 3,
    "fit_options": {"epochs": 2, "num_ascent_steps": 1},
    "model_options": {"hidden_sizes": (8,)},
    "optimize_options": {"num_updates": 6, "num_adaptation_steps": 1},
}


class TestPropose:
    @pytest.fixture
    def after_three(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Ctrl-C in the third update; what is returned counts the updates."""
        steps: list[int] = []
        real = generation.Ascent.step

        def step(*args: Any) -> torch.Tensor:
            steps.append(1)
            if len(steps) == 3:
                ctrl_c()
            return real(*args)

        monkeypatch.setattr(generation.Ascent, "step", step)
        return steps

    def test_the_candidates_reached_are_returned(self, after_three: list[int]) -> None:
        with pytest.warns(OptimizationWarning, match="Interrupted after 3 of 6 updates"):
            proposal = propose(X, X.sum(dim=-1), keep_on_interrupt=True, **OPTIONS)
        assert len(after_three) == 3
        three = {**OPTIONS, "optimize_options": {"num_updates": 3, "num_adaptation_steps": 1}}
        assert torch.equal(proposal.candidates, propose(X, X.sum(dim=-1), **three).candidates)

    def test_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(generation.Ascent, "step", lambda *_: [ctrl_c(), ctrl_c()])
        with pytest.raises(KeyboardInterrupt):
            propose(X, X.sum(dim=-1), keep_on_interrupt=True, **OPTIONS)

    def test_only_where_it_is_asked_for(self, after_three: list[int]) -> None:
        with pytest.raises(KeyboardInterrupt):
            propose(X, X.sum(dim=-1), **OPTIONS)


# As a process

#: A process that says when it gets to a place in the code, and waits there to be interrupted.
DRIVER = """
import sys, time
from botorch_roma import cli, presets, training
from botorch_roma.optim import generation

place, reached = sys.argv.pop(1), []
updates = {"num_updates": 50, "num_adaptation_steps": 1}
preset = presets.Preset("default", {"hidden_sizes": (8,)}, {"epochs": 50}, updates)
presets._FACTORIES["default"] = lambda *_: preset

def wait(real, when):
    def call(*args, **kwargs):
        reached.append(1)
        if len(reached) == when:
            print("here", flush=True)
            time.sleep(30)
        return real(*args, **kwargs)
    return call

if place == "stage 1":
    training.Training._step = wait(training.Training._step, 5)
else:
    real = generation.Ascent.step
    def step(*args):
        reached.append(1)
        if len(reached) == 4:
            print("here", flush=True)
            end = time.monotonic() + 30
            while time.monotonic() < end and not generation.is_interrupted():
                time.sleep(0.01)
        return real(*args)
    generation.Ascent.step = step
cli.main()
"""


PROPOSE = ["propose", "data.csv", "--objective", "y", "--num", "4", "--out", "o.csv"]


class Process:
    def __init__(self, place: str, folder: Path, *options: str) -> None:
        frame = pd.DataFrame(np.random.default_rng(0).random((30, 3)), columns=["a", "b", "y"])
        write_frame(frame, folder / "data.csv")
        root = str(Path(botorch_roma.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, place, *PROPOSE, *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "here\n"
        time.sleep(0.05)
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        assert "Traceback" not in err
        return self.process.returncode, out, err


def test_process_in_stage_2(tmp_path: Path) -> None:
    process = Process("stage 2", tmp_path)
    process.interrupt()
    status, out, err = process.end()
    assert status == 0
    assert err == (
        "warning: Interrupted after 4 of 50 updates: the candidates reached by then are returned.\n"
    )
    assert "written to o.csv" in out
    assert len(read_frame(tmp_path / "o.csv").drop_duplicates()) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv", "o.csv"]


def test_process_in_stage_1(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("before")
    process = Process("stage 1", tmp_path, "--force")
    process.interrupt()
    status, out, err = process.end()
    assert status == 130
    assert out == ""
    assert err == "interrupted before there was a result: 'o.csv' is as it was\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv", "o.csv"]
    assert (tmp_path / "o.csv").read_text() == "before"

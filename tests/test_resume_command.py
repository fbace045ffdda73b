"""The command with `--checkpoint`: killed for good, and interrupted."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import botorch_roma
from botorch_roma import cli
from botorch_roma.files import read_frame, write_frame
from botorch_roma.optim import generation
from botorch_roma.presets import Preset
from botorch_roma.training import Training

#: A process whose children run the command, some milliseconds a step, and are killed at random.
DRIVER = """
import contextlib, io, json, os, random, signal, sys, time
from pathlib import Path
from rich.console import Console
from botorch_roma import cli, presets, training
from botorch_roma.optim import generation

updates = {"num_updates": 20, "num_adaptation_steps": 1}
presets._FACTORIES["default"] = lambda *_: presets.Preset(
    "default", {"hidden_sizes": (8,)}, {"epochs": 5, "batch_size": 8}, updates
)
steps, table = Path("steps"), Path("o.csv")

def slow(real, name):
    def call(*args):
        with steps.open("a") as file:
            file.write(name)
        time.sleep(0.02)
        return real(*args)
    return call

training.Training._step = slow(training.Training._step, "m")
generation.Ascent.step = slow(generation.Ascent.step, "u")

def start(*options):
    process = os.fork()
    if not process:
        sys.argv += options
        cli.main()
    return process

def taken():
    text = steps.read_text() if steps.exists() else ""
    return len(text)

def ended(process):
    return os.waitpid(process, os.WNOHANG)[0] != 0

cli.out = Console(file=io.StringIO())
with contextlib.suppress(SystemExit):
    cli.main()  # here, so that the children need to import nothing
undisturbed, expected = steps.read_text(), table.read_bytes()
moments, kills, lost = random.Random(0), 0, []
steps.unlink()
table.unlink()
while not table.exists():
    before = taken()
    process = start("--checkpoint", "run", "--checkpoint-interval", "0")
    more = before + moments.randint(1, 9)
    over = ended(process)
    while not over and taken() < more:
        time.sleep(0.001)
        over = ended(process)
    time.sleep(moments.uniform(0.0, 0.03))  # anywhere in a step, or in a save
    if not over:
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        kills += os.WIFSIGNALED(status)
print(json.dumps([undisturbed, table.read_bytes() == expected, kills, taken()]))
"""

COMMAND = ["propose", "data.csv", "--objective", "y", "--num", "4", "--out", "o.csv"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    frame = pd.DataFrame(np.random.default_rng(0).random((30, 3)), columns=["a", "b", "y"])
    write_frame(frame, tmp_path / "data.csv")
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_process_killed_at_random_moments(table: Path) -> None:
    """The table is that of a run that nobody disturbed; a killed one loses a step."""
    root = str(Path(botorch_roma.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", DRIVER, *COMMAND],
        cwd=table,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    undisturbed, same, kills, taken = json.loads(result.stdout)
    assert undisturbed == "m" * 20 + "u" * 20
    assert same
    assert kills >= 3
    assert len(undisturbed) < taken <= len(undisturbed) + kills


def call(monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[int, str]:
    """Status and standard error of the command, in this process."""
    err = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["botorch-roma", *COMMAND, *options])
    monkeypatch.setattr(cli, "out", Console(file=io.StringIO()))
    monkeypatch.setattr(cli, "err", Console(file=err))
    with warnings.catch_warnings(), pytest.raises(SystemExit) as info:
        cli.main()
    return int(info.value.code or 0), err.getvalue()


@pytest.mark.usefixtures("hears_interrupts")
def test_command(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = Preset("default", {"hidden_sizes": (8,)}, {"epochs": 3}, {"num_updates": 6})
    monkeypatch.setitem(botorch_roma.presets._FACTORIES, "default", lambda *_: preset)
    monkeypatch.chdir(table)
    assert call(monkeypatch)[0] == 0
    expected = Path("o.csv").read_bytes()
    Path("o.csv").unlink()
    options = ["--checkpoint", "run"]
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", ctrl_c_before(Training._step))
        status, err = call(patch, *options)
    assert status == 130
    assert err == (
        "interrupted before there was a result: 'o.csv' was not written; the same command goes on "
        "from 'run'\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(generation.Ascent, "step", ctrl_c_before(generation.Ascent.step))
        status, err = call(patch, *options)
    assert status == 0
    assert err == (
        "warning: Interrupted after 1 of 6 updates: the candidates reached by then are returned. "
        "The same call goes on from the checkpoint.\n"
    )
    assert call(monkeypatch, *options, "--force") == (0, "")
    assert Path("o.csv").read_bytes() == expected
    status, err = call(monkeypatch, *options, "--force", "--seed", "1")
    assert status == 1
    assert err.startswith("error: The checkpoint '")
    assert "stage-1.checkpoint' is of another run: `seed` is 1 and was 0; repeat the call" in err
    assert err.count("\n") == 1
    assert Path("o.csv").read_bytes() == expected
    assert len(read_frame(Path("o.csv"))) == 4


def ctrl_c_before(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return real(*args)

    return call

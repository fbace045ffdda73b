from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from botorch_roma.tasks import TASKS, TaskInfo, load_task, registry
from botorch_roma.tasks.synthetic import SYNTHETIC_FUNCTIONS, load_synthetic

REAL = [name for name in TASKS if name not in SYNTHETIC_FUNCTIONS]


def test_names() -> None:
    assert REAL == [
        "tfbind8",
        "tfbind10",
        "utr",
        "gfp",
        "molecule",
        "superconductor",
        "hopper",
        "ant",
    ]


@pytest.mark.parametrize("name", REAL)
def test_missing_data(name: str, tmp_path: Path) -> None:
    info = TASKS[name]
    assert info.status(tmp_path).startswith(f"missing: {len(info.files)} of {len(info.files)} f")
    if info.status(tmp_path).partition("files")[2] and name == "molecule":
        pytest.skip(info.status(tmp_path))  # its loader needs the packages first
    message = rf"`data_dir`: .*{re.escape(Path(info.files[0]).name)}.* layout .* Source: "
    with pytest.raises(FileNotFoundError, match=message):
        load_task(name, data_dir=tmp_path)


def test_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = TaskInfo(load_synthetic, "vectors", 1, 1, "", files=("t/a.npy", "t/b.npy"))
    assert info.status(tmp_path) == "missing: 2 of 2 files"
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.npy").touch()
    assert info.status(tmp_path) == "missing: 1 of 2 files"
    (tmp_path / "t" / "b.npy").touch()
    assert info.status(tmp_path) == "ready"
    monkeypatch.setenv("BOTORCH_ROMA_DATA", str(tmp_path))
    assert info.status() == "ready"
    more = TaskInfo(load_synthetic, "vectors", 1, 1, "", packages=("torch", "no_such_package"))
    assert more.status() == "missing: package no_such_package"


@pytest.mark.parametrize("name", SYNTHETIC_FUNCTIONS)
def test_synthetic(name: str) -> None:
    info, task = TASKS[name], load_task(name, dtype=torch.float32, num_rows=50)
    assert info.status() == "ready"
    assert info.dim == task.dim
    assert task.X.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_sizes(name: str, data_dir: Path) -> None:
    """What the list says is what is loaded."""
    info = registry.TASKS[name]
    status = info.status(data_dir)
    if status != "ready":
        pytest.skip(f"{name}: {status}")
    task = load_task(name, data_dir=data_dir, dtype=torch.float32)
    assert (info.num_rows, info.dim) == (task.num_rows, task.dim)
    assert (info.kind == "tokens") == (task.vocabulary is not None)
    assert bool(info.substitute) == (task.substitute is not None)

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=10)
@given(
    name=st.sampled_from(sorted(SYNTHETIC_FUNCTIONS)),
    num_rows=st.integers(10, 60),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_any_synthetic_task(name: str, num_rows: int, dtype: torch.dtype, seed: int) -> None:
    options: dict[str, Any] = {"num_rows": num_rows, "dtype": dtype, "seed": seed}
    task, twin = load_task(name, **options), load_task(name, **options)
    assert isinstance(TASKS[name], TaskInfo)
    assert task.name == name
    assert task.X.shape == (task.num_rows, TASKS[name].dim)
    assert task.Y.shape == (task.num_rows, 1)
    assert task.X.dtype == task.Y.dtype == task.bounds.dtype == dtype
    assert bool(((task.bounds[0] <= task.X) & (task.bounds[1] >= task.X)).all())
    assert torch.equal(task.X, twin.X)
    assert torch.equal(task.Y, twin.Y)
    assert not torch.equal(task.X, load_task(name, **{**options, "seed": seed + 1}).X)
    assert (task.num_oracle_calls, task.num_oracle_queries) == (0, 0)
    torch.testing.assert_close(task.evaluate(task.X), task.Y, rtol=1e-3, atol=1e-3)


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

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from botorch_roma.tasks.arrays import CACHE_VARIABLE
from botorch_roma.tasks.cache import cached_arrays

KEY = {"data": "abc", "versions": {"rdkit": "1"}}


class Computation:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"x": np.arange(6).reshape(2, 3), "names": np.array(["[C]", "[O]"])}

    def check(self, arrays: dict[str, np.ndarray]) -> None:
        assert sorted(arrays) == ["names", "x"]
        assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert arrays["names"].tolist() == ["[C]", "[O]"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "a" / "cache"))
    return tmp_path / "a" / "cache"


def entry(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_computed_once(folder: Path) -> None:
    compute = Computation()
    for _ in range(3):
        compute.check(cached_arrays("table", KEY, compute))
    assert compute.calls == 1
    assert entry(folder).name.startswith("table-")
    assert entry(folder).suffix == ".npz"


def test_every_part_of_the_key_counts(folder: Path) -> None:
    compute = Computation()
    for key in (KEY, {**KEY, "data": "abd"}, {**KEY, "versions": {"rdkit": "2"}}):
        cached_arrays("table", key, compute)
    cached_arrays("other", KEY, compute)
    assert compute.calls == 4
    assert len(list(folder.iterdir())) == 4


def test_without_the_cache(folder: Path) -> None:
    compute = Computation()
    cached_arrays("table", KEY, compute)
    compute.check(cached_arrays("table", KEY, compute, use_cache=False))
    assert compute.calls == 2
    shutil.rmtree(folder)
    cached_arrays("table", KEY, compute, use_cache=False)
    assert not folder.exists()


@pytest.mark.parametrize("size", [0, 1, 100, 400])
def test_truncated_entry_is_replaced(folder: Path, size: int) -> None:
    compute = Computation()
    cached_arrays("table", KEY, compute)
    entry(folder).write_bytes(entry(folder).read_bytes()[:size])
    with pytest.warns(RuntimeWarning, match=r"table-.*npz is damaged .* computed anew") as caught:
        compute.check(cached_arrays("table", KEY, compute))
    assert caught[0].filename == __file__
    compute.check(cached_arrays("table", KEY, compute))
    assert compute.calls == 2


def test_no_damaged_byte_changes_the_result(folder: Path) -> None:
    compute = Computation()
    cached_arrays("table", KEY, compute)
    path = entry(folder)
    content = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for i in range(len(content)):
            path.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
            compute.check(cached_arrays("table", KEY, compute))
    assert compute.calls > len(content) // 2


def test_objects_are_never_unpickled(folder: Path) -> None:
    compute = Computation()
    cached_arrays("table", KEY, compute)
    np.savez(entry(folder), x=np.array([Computation()], dtype=object), cache_key=np.array("k"))
    with pytest.warns(RuntimeWarning, match="is damaged .*Object arrays cannot be loaded"):
        compute.check(cached_arrays("table", KEY, compute))


def test_lone_array(folder: Path) -> None:
    compute = Computation()
    cached_arrays("table", KEY, compute)
    with entry(folder).open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.warns(RuntimeWarning, match="is damaged"):
        compute.check(cached_arrays("table", KEY, compute))


def test_entry_of_another_key(folder: Path) -> None:
    compute = Computation()
    other = {**KEY, "data": "abd"}
    cached_arrays("table", other, compute)
    wrong = entry(folder)
    cached_arrays("table", KEY, compute)
    right = next(path for path in folder.iterdir() if path != wrong)
    shutil.copy(wrong, right)
    with pytest.warns(RuntimeWarning, match=r'computed from .*"abd".*, not from .*"abc"'):
        compute.check(cached_arrays("table", KEY, compute))
    assert compute.calls == 3


def test_folder_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where a folder should be")
    compute = Computation()
    with pytest.warns(RuntimeWarning, match=f"cannot be written .* set {CACHE_VARIABLE}"):
        compute.check(cached_arrays("table", KEY, compute))


def test_failed_computation_leaves_nothing(folder: Path) -> None:
    def fail() -> dict[str, np.ndarray]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cached_arrays("table", KEY, fail)
    assert not folder.exists()

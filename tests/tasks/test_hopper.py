from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from botorch_roma.tasks import OfflineTask, hopper
from botorch_roma.tasks.arrays import Edition, find_file
from botorch_roma.tasks.hopper import POLICY_LAYOUT, load_hopper, unpack_policy

STEM = "hopper_controller/hopper_controller"
DIM = 5_126


@pytest.fixture
def tiny_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three random policies."""
    monkeypatch.setattr(hopper, "HOPPER_EDITIONS", {3: Edition(3, 2.0, "made up")})
    (tmp_path / STEM).parent.mkdir()
    x = np.random.default_rng(0).normal(scale=0.1, size=(3, DIM)).astype(np.float32)
    np.save(tmp_path / f"{STEM}-x-0.npy", x)
    np.save(tmp_path / f"{STEM}-y-0.npy", np.arange(3, dtype=np.float32)[:, None])
    np.save(tmp_path / f"{STEM}-meta.npy", np.zeros((3, 4)))
    return tmp_path


@pytest.fixture(scope="module")
def task(data_dir: Path) -> OfflineTask:
    if not find_file(f"{STEM}-x-0.npy", data_dir).is_file():
        pytest.skip("needs the table of hopper_controller/")
    return load_hopper(data_dir, dtype=torch.float32, num_rollouts=2)


@pytest.fixture(scope="module")
def simulator() -> None:
    pytest.importorskip("mujoco", reason="needs the extra `mujoco`")
    pytest.importorskip("gymnasium", reason="needs the extra `mujoco`")


class TestReading:
    def test_tiny_table(self, tiny_dir: Path) -> None:
        task = load_hopper(tiny_dir, verify_checksums=False)
        assert (task.num_rows, task.dim) == (3, DIM)
        assert task.ranges["full"] == (87.93491, 1361.6106)
        assert torch.equal(task.bounds, torch.stack([task.X.amin(dim=0), task.X.amax(dim=0)]))
        assert task.num_oracle_calls == 0
        assert task.substitute == "made up"

    def test_nothing_is_imported_before_the_first_call(
        self, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "mujoco", None)
        task = load_hopper(tiny_dir, verify_checksums=False)
        task.start_designs(2)
        with pytest.raises(ImportError, match=r'"botorch-roma\[mujoco\]"'):
            task.evaluate(task.X)

    def test_unknown_table(self, tiny_dir: Path) -> None:
        with pytest.raises(ValueError, match="checksum"):
            load_hopper(tiny_dir)
        np.save(tiny_dir / f"{STEM}-y-0.npy", np.zeros((3, 1)))
        with pytest.raises(ValueError, match="task 'hopper' has 3 rows"):
            load_hopper(tiny_dir, verify_checksums=False)

    def test_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"2 of 2 files .*hopper_controller-x-0.npy"):
            load_hopper(tmp_path)

    @pytest.mark.parametrize("name", ["num_rollouts", "num_workers"])
    def test_malformed_numbers(self, tiny_dir: Path, name: str) -> None:
        options: dict[str, Any] = {name: 0}
        with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1"):
            load_hopper(tiny_dir, verify_checksums=False, **options)


def test_layout() -> None:
    policy = unpack_policy(np.arange(DIM))
    assert {name: part.shape for name, part in policy.items()} == POLICY_LAYOUT
    assert policy["W1"][1, 0] == 64
    assert policy["b1"][0] == 11 * 64
    assert policy["logstd"].tolist() == [DIM - 3, DIM - 2, DIM - 1]


class TestTable:
    def test_all_rows_are_visible(self, task: OfflineTask) -> None:
        assert (task.num_rows, task.dim) == (3_200, DIM)
        assert task.X.dtype == torch.float32
        assert task.X.element_size() * task.X.numel() < 66e6
        assert task.Y.max().item() == pytest.approx(1358.2552, abs=1e-3)
        assert task.normalize(task.Y, scale="visible").max() == 1.0

    def test_is_called_a_substitute(self, task: OfflineTask) -> None:
        assert "SUBSTITUTE" in repr(task)
        assert "PPO" in (task.substitute or "")
        assert "Trabucco" in task.provenance


@pytest.mark.usefixtures("simulator")
class TestOracle:
    def test_repeats_the_table(self, task: OfflineTask) -> None:
        rows = torch.arange(0, 3_200, 160)
        returns = task._oracle.returns(task.X[rows])  # type: ignore[attr-defined]
        stored = task.Y[rows, 0]
        for returned in returns.T:
            # Starts differ. With the weights transposed it is about -0.4.
            assert np.corrcoef(returned, stored)[0, 1] > 0.85
        assert (returns.mean(dim=1) - stored).abs().median() < 0.05 * stored.mean()

    def test_is_deterministic_under_a_seed(self, tiny_dir: Path) -> None:
        same, again, other = (
            load_hopper(tiny_dir, verify_checksums=False, seed=seed) for seed in (4, 4, 5)
        )
        Y = same.evaluate(same.X)
        assert torch.equal(again.evaluate(again.X), Y)
        assert torch.equal(again.evaluate(again.X.flip(0)), Y.flip(0))
        assert (other.evaluate(other.X) != Y).any()

    def test_the_last_weights_are_not_used(self, tiny_dir: Path) -> None:
        task = load_hopper(tiny_dir, verify_checksums=False)
        design = task.X[:1].clone()
        Y = task.evaluate(design)
        design[:, -3:] = task.bounds[1, -3:]
        assert torch.equal(task.evaluate(design), Y)
        design[:, 0] = task.bounds[:, 0].mean()
        assert (task.evaluate(design) != Y).all()

    def test_pickle(self, tiny_dir: Path) -> None:
        task = load_hopper(tiny_dir, verify_checksums=False)
        copy = pickle.loads(pickle.dumps(task))
        assert torch.equal(copy.evaluate(task.X), task.evaluate(task.X))

    @pytest.mark.slow
    def test_processes_change_nothing(self, tiny_dir: Path) -> None:
        alone, together = (
            load_hopper(tiny_dir, verify_checksums=False, num_rollouts=2, num_workers=n)
            for n in (1, 2)
        )
        assert torch.equal(alone.evaluate(alone.X), together.evaluate(together.X))

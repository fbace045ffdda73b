from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from botorch_roma.tasks import OfflineTask, ant
from botorch_roma.tasks.ant import LEG_BOUNDS, load_ant
from botorch_roma.tasks.ant_simulator import POLICY_SHAPES
from botorch_roma.tasks.arrays import Edition, find_file, known_checksums

STEM = "ant_morphology/ant_morphology"
POLICY = "ant_morphology/ant_policy.npz"


@pytest.fixture
def tiny_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve designs in two shards, the first and the last of the uniform family."""
    monkeypatch.setattr(ant, "ANT_EDITIONS", {10: Edition(4, 4.0, "made up")})
    (tmp_path / STEM).parent.mkdir()
    low, high = np.array(list(LEG_BOUNDS.values()) * 4).T
    x = np.random.default_rng(0).uniform(low, high, size=(12, 60)).astype(np.float32)
    y = np.arange(12, dtype=np.float32)[:, None]
    for i in range(2):
        np.save(tmp_path / f"{STEM}-x-{i}.npy", x[6 * i : 6 * i + 6])
        np.save(tmp_path / f"{STEM}-y-{i}.npy", y[6 * i : 6 * i + 6])
    np.save(tmp_path / f"{STEM}-kind.npy", np.array([-1, *[0] * 5, *[4] * 5, -1]))
    arrays: dict[str, Any] = {name: np.zeros(shape) for name, shape in POLICY_SHAPES.items()}
    np.savez(tmp_path / POLICY, **arrays)
    return tmp_path


@pytest.fixture(scope="module")
def task(data_dir: Path) -> OfflineTask:
    if not find_file(POLICY, data_dir).is_file():
        pytest.skip("needs the table of ant_morphology/")
    return load_ant(data_dir)


class TestReading:
    def test_perturbed_rows_up_to_the_40th_percentile(self, tiny_dir: Path) -> None:
        task = load_ant(tiny_dir, verify_checksums=False)
        assert task.Y.flatten().tolist() == [1.0, 2.0, 3.0, 4.0]
        assert task.ranges["full"] == (1.0, 10.0)
        assert task.dim == 60
        assert task.substitute == "made up"
        assert task.num_oracle_calls == 0

    def test_bounds_are_those_of_the_legs(self, tiny_dir: Path) -> None:
        task = load_ant(tiny_dir, dtype=torch.float32, verify_checksums=False)
        assert task.bounds.dtype == torch.float32
        assert task.bounds.shape == (2, 60)
        assert task.bounds[:, 5].tolist() == [-180.0, 180.0]
        assert task.bounds[:, 29].tolist() == pytest.approx([0.2, 0.8])

    def test_nothing_is_imported_before_the_first_call(
        self, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "mujoco", None)
        task = load_ant(tiny_dir, verify_checksums=False)
        task.start_designs(2)
        with pytest.raises(ImportError, match=r'"botorch-roma\[mujoco\]"'):
            task.evaluate(task.X)

    @pytest.mark.parametrize("name", [f"{STEM}-x-1.npy", f"{STEM}-kind.npy", POLICY])
    def test_missing_file(self, tiny_dir: Path, name: str) -> None:
        (tiny_dir / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"1 of \d files are missing .*{name}"):
            load_ant(tiny_dir, verify_checksums=False)

    @pytest.mark.parametrize("size", [0, 100, 1_000_000])
    def test_truncated_policy(self, tiny_dir: Path, size: int) -> None:
        path = tiny_dir / POLICY
        path.write_bytes(path.read_bytes()[:size])
        message = rf"ant_policy.npz \({path.stat().st_size} bytes\) is no complete .npz archive"
        if size == 1_000_000:
            path.write_bytes(path.read_bytes()[:-30])
            message = r"ant_policy.npz .* is no complete .npz archive"
        with pytest.raises(ValueError, match=message):
            load_ant(tiny_dir, verify_checksums=False)

    def test_another_policy(self, tiny_dir: Path) -> None:
        np.savez(tiny_dir / POLICY, weights=np.zeros(3))
        with pytest.raises(ValueError, match=r"`policy` must hold .* received \{'weights': \(3,\)"):
            load_ant(tiny_dir, verify_checksums=False)

    def test_another_number_of_kinds(self, tiny_dir: Path) -> None:
        np.save(tiny_dir / f"{STEM}-kind.npy", np.zeros(11))
        with pytest.raises(ValueError, match=r"12 rows, received shapes \(12, 60\) and \(11,\)"):
            load_ant(tiny_dir, verify_checksums=False)

    @pytest.mark.parametrize("name", [f"{STEM}-kind.npy", POLICY])
    def test_checksums(self, task: OfflineTask, data_dir: Path, tmp_path: Path, name: str) -> None:
        folder = find_file(POLICY, data_dir).parent
        shutil.copytree(folder, tmp_path / folder.name)
        for path in (tmp_path / folder.name, tmp_path / name):
            path.chmod(0o755)
        if name == POLICY:
            with np.load(tmp_path / name) as archive:
                np.savez_compressed(tmp_path / name, **dict(archive))
        else:
            np.save(tmp_path / name, np.load(tmp_path / name).astype(np.int8))
        with pytest.raises(ValueError, match=rf"{name} has the SHA-256 checksum"):
            load_ant(tmp_path)
        assert torch.equal(load_ant(tmp_path, verify_checksums=False).X, task.X)


class TestTable:
    def test_visible_part(self, task: OfflineTask) -> None:
        assert (task.num_rows, task.dim) == (3_200, 60)
        assert task.Y.max().item() == pytest.approx(122.55461, abs=1e-5)
        assert task.ranges["full"] == pytest.approx((22.817572, 370.3611))
        assert task.fixed_features == {}

    def test_is_called_a_substitute(self, task: OfflineTask) -> None:
        assert "SUBSTITUTE" in repr(task)
        assert "nothing compares" in (task.substitute or "")
        assert "morphing-agents" in task.provenance

    def test_oracle_agrees_with_the_table(self, data_dir: Path, task: OfflineTask) -> None:
        pytest.importorskip("mujoco", reason="needs the extra `mujoco`")
        pytest.importorskip("morphing_agents", reason="needs morphing-agents")
        order = task.Y.flatten().argsort()
        low, high = task.X[order[[0, 1, 2]]], task.X[order[[-1, -2, -3]]]
        task = load_ant(data_dir, num_rollouts=2)
        Y = task.evaluate(torch.cat([low, high]))
        assert Y[:3].mean() < 80.0
        assert Y[3:].mean() > 100.0


def test_files_of_the_table() -> None:
    names = [f"{STEM}-{kind}-{i}.npy" for kind in "xy" for i in range(2)]
    assert list(known_checksums(STEM)) == names

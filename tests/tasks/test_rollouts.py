from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from botorch_roma.tasks.rollouts import RolloutOracle, import_simulator, quiet_mujoco

X = torch.arange(10.0).reshape(5, 2)


def noisy_sum(design: np.ndarray, generators: list[np.random.Generator]) -> np.ndarray:
    return np.array([design.sum() + generator.standard_normal() for generator in generators])


class TestRolloutOracle:
    def test_mean_over_the_rollouts(self) -> None:
        oracle = RolloutOracle(noisy_sum, num_rollouts=4, seed=3)
        returns = oracle.returns(X)
        assert returns.shape == (5, 4)
        assert returns.dtype == torch.float64
        torch.testing.assert_close(oracle(X), returns.mean(dim=1).float())
        assert oracle(X.double()).dtype == torch.float64

    def test_all_designs_meet_the_same_starts(self) -> None:
        noise = RolloutOracle(noisy_sum, num_rollouts=3).returns(X) - X.sum(dim=1, keepdim=True)
        torch.testing.assert_close(noise, noise[:1].expand(5, 3))
        assert noise[0].unique().numel() == 3

    def test_value_does_not_depend_on_the_batch(self) -> None:
        oracle = RolloutOracle(noisy_sum, num_rollouts=2)
        assert torch.equal(oracle.returns(X)[[4, 1]], oracle.returns(X[[4, 1]]))
        assert torch.equal(oracle.returns(X), oracle.returns(X))

    def test_more_rollouts_keep_the_first_ones(self) -> None:
        few, many = (RolloutOracle(noisy_sum, num_rollouts=n).returns(X) for n in (2, 6))
        assert torch.equal(few, many[:, :2])

    def test_seed(self) -> None:
        one, other = (RolloutOracle(noisy_sum, seed=seed)(X) for seed in (0, 1))
        assert (one != other).all()

    def test_one_thread_while_simulating(self) -> None:
        def threads(design: np.ndarray, generators: list[np.random.Generator]) -> np.ndarray:
            pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
            return np.array([max(pool["num_threads"] for pool in pools)])

        assert RolloutOracle(threads)(X).tolist() == [1.0] * 5

    @pytest.mark.slow
    def test_processes_change_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # In a module of its own, which the processes can import.
        source = "import os, numpy as np\n\ndef simulate(design, generators):\n"
        source += "    noise = [generator.standard_normal() for generator in generators]\n"
        source += "    return np.array([design[0], os.getpid(), *noise])\n"
        (tmp_path / "toy_simulator.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        simulate = importlib.import_module("toy_simulator").simulate
        alone, together = (
            RolloutOracle(simulate, num_rollouts=3, seed=7, num_workers=n).returns(X).numpy()
            for n in (1, 2)
        )
        assert (alone[:, [0, 2, 3, 4]] == together[:, [0, 2, 3, 4]]).all()
        assert alone[0, 1] not in together[:, 1]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("num_rollouts", 0), ("num_rollouts", 1.5), ("seed", -1), ("num_workers", True)],
    )
    def test_malformed_numbers(self, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=rf"`{name}` must be an integer .* {value}"):
            RolloutOracle(noisy_sum, **{name: value})

    def test_pickle(self) -> None:
        oracle = RolloutOracle(np.add, num_rollouts=2, seed=5)
        assert pickle.loads(pickle.dumps(oracle)).seed == 5


class TestImportSimulator:
    def test_present(self) -> None:
        assert import_simulator("json", "nothing") is sys.modules["json"]

    def test_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "mujoco", None)
        with pytest.raises(ImportError, match=r"needs 'mujoco'.*install it with: pip install x"):
            import_simulator("mujoco", "pip install x")


def test_quiet_mujoco_puts_the_handler_back() -> None:
    handlers: list[Any] = ["before"]
    mujoco = SimpleNamespace(
        get_mju_user_warning=lambda: handlers[-1], set_mju_user_warning=handlers.append
    )
    with quiet_mujoco(mujoco):
        assert handlers[-1]("unstable") is None
    assert handlers[-1] == "before"

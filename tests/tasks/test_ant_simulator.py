from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from botorch_roma.tasks import ant_simulator
from botorch_roma.tasks.ant import LEG_BOUNDS
from botorch_roma.tasks.ant_simulator import (
    FLIGHT_HEIGHT,
    HORIZON,
    POLICY_SHAPES,
    AntSimulator,
)
from botorch_roma.tasks.arrays import find_file, read_archive
from botorch_roma.tasks.rollouts import RolloutOracle

STEM = "ant_morphology/ant_morphology"
FAILED = 20.0

# The body that all perturbed ones are drawn around: four legs a quarter turn apart.
DEFAULT_BODY = np.concatenate(
    [[0, 0, 0, 0, 0, c, 0, 5, 0, 30, 50, 20, 0.2, 0.2, 0.4] for c in (0, 90, 180, -90)]
).astype(float)


def zero_policy() -> dict[str, np.ndarray]:
    return {name: np.zeros(shape) for name, shape in POLICY_SHAPES.items()}


def generators(n: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(n)]


class FakeEnv:
    """A body whose reward is 1 at every step, and that may fly, break or become unstable."""

    num_states = 3

    def __init__(self, legs: Any) -> None:
        self.legs, self.height, self.is_unstable, self.steps = legs, 1.25, False, 0
        self.fate: Callable[[FakeEnv], bool] = lambda env: False
        self.starts: list[np.ndarray] = []

    def reset(self) -> None:
        self.steps = 0

    def start(self, jitter: np.ndarray) -> np.ndarray:
        self.starts.append(jitter)
        return np.zeros(179)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        assert action.shape == (12,)
        self.steps += 1
        return np.zeros(179), 1.0, self.fate(self), {}


@pytest.fixture
def fake_env(monkeypatch: pytest.MonkeyPatch) -> FakeEnv:
    """Stands in for MuJoCo and the package."""
    env = FakeEnv([])
    low, high = np.array(list(LEG_BOUNDS.values())).T

    def make(legs: Any) -> FakeEnv:
        env.legs = legs
        return env

    agents = SimpleNamespace(make=make, leg=lambda *leg: leg, lower=low, upper=high)
    mujoco = SimpleNamespace(
        get_mju_user_warning=lambda: None, set_mju_user_warning=lambda handler: None
    )
    monkeypatch.setattr(ant_simulator, "_morphing_agents", lambda: agents)
    monkeypatch.setattr(ant_simulator, "import_simulator", lambda *args: mujoco)
    return env


class TestRules:
    def test_sum_of_the_rewards(self, fake_env: FakeEnv) -> None:
        simulator = AntSimulator(zero_policy(), failed_value=FAILED)
        assert simulator(DEFAULT_BODY, generators(3)).tolist() == [float(HORIZON)] * 3
        assert np.concatenate(fake_env.legs).tolist() == DEFAULT_BODY.tolist()

    def test_every_rollout_has_its_own_start(self, fake_env: FakeEnv) -> None:
        AntSimulator(zero_policy(), failed_value=FAILED)(DEFAULT_BODY, generators(40))
        starts = np.stack(fake_env.starts)
        assert np.unique(starts).size == starts.size
        assert 0.009 < np.abs(starts).max() <= 0.01
        AntSimulator(zero_policy(), failed_value=FAILED, start_jitter=0.0)(
            DEFAULT_BODY, generators(1)
        )
        assert (fake_env.starts[-1] == 0).all()

    def test_designs_are_clipped(self, fake_env: FakeEnv) -> None:
        AntSimulator(zero_policy(), failed_value=FAILED)(np.full(60, 1e3), generators(1))
        assert [leg[14] for leg in fake_env.legs] == [0.8] * 4

    @pytest.mark.parametrize("height", [FLIGHT_HEIGHT, FLIGHT_HEIGHT + 0.01])
    def test_flight(self, fake_env: FakeEnv, height: float) -> None:
        def fly(env: FakeEnv) -> bool:
            # Only in the second rollout, and it comes down again.
            up = len(env.starts) == 2 and env.steps == 50
            env.height = height if up else 1.25
            return False

        fake_env.fate = fly
        simulator = AntSimulator(zero_policy(), failed_value=FAILED)
        value = FAILED if height > FLIGHT_HEIGHT else HORIZON
        assert simulator(DEFAULT_BODY, generators(3)).tolist() == [value] * 3
        assert len(fake_env.starts) == (2 if height > FLIGHT_HEIGHT else 3)

    def test_broken_simulation(self, fake_env: FakeEnv) -> None:
        simulator = AntSimulator(zero_policy(), failed_value=FAILED)
        fake_env.fate = lambda env: env.steps == HORIZON
        assert simulator(DEFAULT_BODY, generators(2)).tolist() == [FAILED] * 2
        fake_env.fate = lambda env: setattr(env, "is_unstable", env.steps > 5) or False
        assert simulator(DEFAULT_BODY, generators(2)).tolist() == [FAILED] * 2

    def test_malformed_policy(self) -> None:
        policy = zero_policy()
        policy["base_network.network.2.bias"] = np.zeros(3)
        with pytest.raises(ValueError, match=r"`policy` must hold .*2.bias': \(3,\)"):
            AntSimulator(policy, failed_value=FAILED)


class TestPackages:
    def test_missing_morphing_agents(self, monkeypatch: pytest.MonkeyPatch) -> None:
        warning = {f"mjWARN_{name}": 0 for name in ("BADQPOS", "BADQVEL", "BADQACC")}
        mujoco = SimpleNamespace(mjtWarning=SimpleNamespace(**warning))
        monkeypatch.setitem(sys.modules, "mujoco", mujoco)
        monkeypatch.setattr(sys, "path", [])
        ant_simulator._morphing_agents.cache_clear()
        message = r"needs 'morphing_agents'.*pip install --no-deps morphing-agents==1\.5\.1"
        with pytest.raises(ImportError, match=message):
            AntSimulator(zero_policy(), failed_value=FAILED)(DEFAULT_BODY, generators(1))

    def test_stand_ins_do_not_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        others = {name: ModuleType(name) for name in ("gym", "gym.envs", "morphing_agents")}
        for name, module in others.items():
            monkeypatch.setitem(sys.modules, name, module)
        before = dict(sys.modules)
        with ant_simulator._stand_ins(FakeEnv):
            import gym.envs.mujoco.mujoco_env  # type: ignore[import-not-found]

            assert gym.envs.mujoco.mujoco_env.MujocoEnv is FakeEnv
            assert "morphing_agents" not in sys.modules
        assert sys.modules == before


@pytest.fixture(scope="module")
def policy(data_dir: Path) -> dict[str, np.ndarray]:
    pytest.importorskip("mujoco", reason="needs the extra `mujoco`")
    pytest.importorskip(
        "morphing_agents", reason="needs `pip install --no-deps morphing-agents==1.5.1`"
    )
    path = find_file("ant_morphology/ant_policy.npz", data_dir)
    if not path.is_file():
        pytest.skip("needs the table of ant_morphology/")
    return read_archive(path, None)


@pytest.fixture(scope="module")
def table(data_dir: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Designs, values and families of all 10,000 rows."""
    parts = [[find_file(f"{STEM}-{kind}-{i}.npy", data_dir) for i in (0, 1)] for kind in "xy"]
    x, y = (np.concatenate([np.load(path) for path in paths]) for paths in parts)
    return x.astype(float), y[:, 0], np.load(find_file(f"{STEM}-kind.npy", data_dir))


class TestSimulation:
    def test_repeats_the_table(self, policy: dict[str, np.ndarray], table: Any) -> None:
        x, y, kind = table
        rows = np.flatnonzero(kind >= 0)[::400]
        simulator = AntSimulator(policy, failed_value=FAILED, start_jitter=0.0)
        error = [abs(simulator(x[i], generators(1))[0] - y[i]) for i in rows]
        # Exact on current x86-64 processors; another order of summation in the products of the
        # policy costs about 0.6, another start of the rollout 20.
        assert np.mean(error) < 3.0

    def test_flying_bodies_fail(self, policy: dict[str, np.ndarray], table: Any) -> None:
        x, y, kind = table
        exploits = np.flatnonzero((kind < 0) & (y > 400.0))
        assert len(exploits) == 11
        simulator = AntSimulator(policy, failed_value=FAILED)
        for i in exploits:
            assert simulator(x[i], generators(1)).tolist() == [FAILED]

    def test_default_body(
        self, policy: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        oracle = RolloutOracle(AntSimulator(policy, failed_value=FAILED), num_rollouts=8)
        returns = oracle.returns(torch.from_numpy(DEFAULT_BODY).unsqueeze(0))
        assert returns.mean().item() == pytest.approx(265.0, abs=45.0)
        assert returns.std().item() > 5.0
        # A rollout leaves nothing behind that the next one meets.
        assert torch.equal(oracle.returns(torch.from_numpy(DEFAULT_BODY).unsqueeze(0)), returns)
        assert not list(tmp_path.iterdir())

    def test_unstable_simulation_is_noticed_and_silent(
        self,
        policy: dict[str, np.ndarray],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        simulator = AntSimulator(policy, failed_value=FAILED, start_jitter=1e12)
        assert simulator(DEFAULT_BODY, generators(2)).tolist() == [FAILED] * 2
        assert capfd.readouterr() == ("", "")
        assert not list(tmp_path.iterdir())  # MuJoCo's log file

    def test_bounds(self, policy: dict[str, np.ndarray]) -> None:
        agents = ant_simulator._morphing_agents()
        assert tuple(LEG_BOUNDS) == agents.leg._fields
        assert list(LEG_BOUNDS.values()) == list(zip(agents.lower, agents.upper, strict=True))
        assert "gym" not in sys.modules

    @pytest.mark.slow
    def test_processes_change_nothing(self, policy: dict[str, np.ndarray], table: Any) -> None:
        simulator = pickle.loads(pickle.dumps(AntSimulator(policy, failed_value=FAILED)))
        X = torch.from_numpy(table[0][-3:])
        alone, together = (
            RolloutOracle(simulator, num_rollouts=2, num_workers=n).returns(X) for n in (1, 2)
        )
        assert torch.equal(alone, together)

r"""
The simulator behind the task ``"ant"``: the environment of ``morphing-agents`` on MuJoCo.

That package was written for gym and mujoco-py, which can no longer be installed. What it takes
from them is little, and stands in for them here while it is imported, and only then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from botorch_roma.tasks.arrays import Array
from botorch_roma.tasks.rollouts import MUJOCO_INSTALL, import_simulator, quiet_mujoco

MORPHING_AGENTS_INSTALL = f"{MUJOCO_INSTALL} && pip install --no-deps morphing-agents==1.5.1"

HORIZON = 100  # steps of 0.05 s
NUM_LEGS = 4

# Of every position and velocity at the start, in its unit: m, rad, m/s, rad/s.
START_JITTER = 0.01

# Height of the torso in m above which a body flies. It starts at 1.25 m. Jumps of 4 to 5 m reach
# means up to 327, the best runner known about 300.
FLIGHT_HEIGHT = 3.5

_LAYERS = tuple(f"base_network.network.{i}" for i in (0, 2, 4))
_SIZES = (179, 256, 256, 24)

#: Name and shape of the weights of the policy.
POLICY_SHAPES = {
    f"{name}.{kind}": shape
    for name, inputs, outputs in zip(_LAYERS, _SIZES[:-1], _SIZES[1:], strict=True)
    for kind, shape in (("weight", (outputs, inputs)), ("bias", (outputs,)))
}


class AntSimulator:
    r"""Returns of a fixed policy on a body, over 100 steps of 0.05 s.

    A step is worth the forward velocity, less half the squared action and a contact cost, plus 1.
    The return is chaotic, so every position and velocity of the start is moved by a uniform draw
    from ``[-start_jitter, start_jitter]``. Then the standard deviation of a rollout is 26 on
    average over perturbed bodies, 12 over the visible ones and 42 over the best.

    A body that exploits the simulator fails: if in one of its rollouts the torso rises above
    ``FLIGHT_HEIGHT``, 3.5 m, or the simulation becomes unstable, that ends the simulation, and all
    rollouts of the design are worth ``failed_value``. Perturbed bodies stay below it (3.35 m is
    the highest of 1,979); of the 35 uniform ones with a return above 250, 34 do not.

    Args:
        policy: Weights by name, a network 179-256-256-24 with ReLU; the action is the tanh of the
            first 12 outputs.
        failed_value: Value of a body that fails.
        start_jitter: See above. Default: 0.01; 0 gives the rollout behind the table.

    Raises:
        ValueError: If the policy is another network.
    """

    def __init__(
        self,
        policy: Mapping[str, Array],
        *,
        failed_value: float,
        start_jitter: float = START_JITTER,
    ) -> None:
        shapes = {name: array.shape for name, array in policy.items()}
        if shapes != POLICY_SHAPES:
            raise ValueError(
                f"`policy` must hold arrays of the shapes {POLICY_SHAPES}, received {shapes}; "
                "fetch the file anew."
            )
        # Observations are float64, and the product would convert the weights at every step.
        self._layers = [
            (policy[f"{name}.weight"].astype(float), policy[f"{name}.bias"].astype(float))
            for name in _LAYERS
        ]
        self.failed_value = failed_value
        self.start_jitter = start_jitter

    def __call__(self, design: Array, generators: list[np.random.Generator]) -> Array:
        """Return of one rollout of a design, ``60``, per generator, which draws its start.

        Raises:
            ImportError: If MuJoCo or morphing-agents is not installed.
        """
        agents = _morphing_agents()
        with quiet_mujoco(import_simulator("mujoco", MUJOCO_INSTALL)):
            legs = np.clip(np.split(design, NUM_LEGS), agents.lower, agents.upper)
            env = agents.make([agents.leg(*leg) for leg in legs])
            returns = []
            for generator in generators:
                total = self._rollout(env, generator)
                if total is None:
                    return np.full(len(generators), self.failed_value)
                returns.append(total)
        return np.array(returns)

    def _rollout(self, env: Any, generator: np.random.Generator) -> float | None:
        """Return of a rollout; ``None`` if it fails."""
        env.reset()
        jitter = generator.uniform(-self.start_jitter, self.start_jitter, size=env.num_states)
        observation = env.start(jitter)
        total = np.float32(0.0)
        for _ in range(HORIZON):
            observation, reward, broken, _ = env.step(self._act(observation))
            if broken or env.is_unstable or env.height > FLIGHT_HEIGHT:
                return None
            total += np.float32(reward)
        return float(total)

    def _act(self, observation: Array) -> Array:
        (W1, b1), (W2, b2), (W3, b3) = self._layers
        hidden = np.maximum(0.0, W1 @ observation + b1)
        hidden = np.maximum(0.0, W2 @ hidden + b2)
        action: Array = np.tanh(np.split(W3 @ hidden + b3, 2)[0])
        return action


class _MorphingAgents(NamedTuple):
    """What is used of the package."""

    make: Any
    leg: Any
    lower: Array
    upper: Array


@lru_cache(maxsize=1)
def _morphing_agents() -> _MorphingAgents:
    mujoco = import_simulator("mujoco", MUJOCO_INSTALL)
    with _stand_ins(_environment_class(mujoco)):
        env = import_simulator("morphing_agents.mujoco.ant.env", MORPHING_AGENTS_INSTALL)
        elements = import_simulator("morphing_agents.mujoco.ant.elements", MORPHING_AGENTS_INSTALL)
    root = Path(env.__file__).parents[2]
    env.pkg_resources.resource_filename = lambda package, name: str(root / name)
    return _MorphingAgents(
        env.AntEnv,
        elements.LEG,
        np.array(elements.LEG_LOWER_BOUND, dtype=float),
        np.array(elements.LEG_UPPER_BOUND, dtype=float),
    )


def _environment_class(mujoco: Any) -> type:
    """A base class with what an environment of ``morphing_agents`` takes from gym's."""
    unstable = [
        getattr(mujoco.mjtWarning, f"mjWARN_{name}") for name in ("BADQPOS", "BADQVEL", "BADQACC")
    ]

    class MujocoEnv:
        reset_model: Any
        _get_obs: Any

        def __init__(self, path: str, frame_skip: int) -> None:
            self.frame_skip = frame_skip
            self.model = mujoco.MjModel.from_xml_path(path)
            self.data = mujoco.MjData(self.model)
            self.sim = SimpleNamespace(data=self.data)
            self.init_qpos = self.data.qpos.copy()
            self.init_qvel = self.data.qvel.copy()

        @property
        def dt(self) -> float:
            return float(self.model.opt.timestep * self.frame_skip)

        @property
        def num_states(self) -> int:
            return int(self.model.nq + self.model.nv)

        @property
        def height(self) -> float:
            return float(self.get_body_com("torso")[2])

        @property
        def is_unstable(self) -> bool:
            return any(self.data.warning[kind].number for kind in unstable)

        def get_body_com(self, name: str) -> Array:
            position: Array = self.data.body(name).xpos
            return position

        def do_simulation(self, action: Array, num_steps: int) -> None:
            self.data.ctrl[:] = action
            mujoco.mj_step(self.model, self.data, num_steps)
            mujoco.mj_rnePostConstraint(self.model, self.data)  # contact forces, for the cost

        def state_vector(self) -> Array:
            return np.concatenate([self.data.qpos, self.data.qvel])

        def set_state(self, qpos: Array, qvel: Array) -> None:
            self.data.qpos[:], self.data.qvel[:] = qpos, qvel
            mujoco.mj_forward(self.model, self.data)

        def reset(self) -> Any:
            mujoco.mj_resetData(self.model, self.data)
            return self.reset_model()

        def start(self, jitter: Array) -> Any:
            qpos, qvel = np.split(jitter, [self.model.nq])
            self.set_state(self.init_qpos + qpos, self.init_qvel + qvel)
            return self._get_obs()

    return MujocoEnv


@contextmanager
def _stand_ins(environment_class: type) -> Iterator[None]:
    """Let ``morphing_agents`` be imported afresh, with stand-ins for what it imports.

    Afterwards ``sys.modules`` is what it was: another copy of the package, one that other code
    has put in its place, and an installed gym are left alone.
    """
    wrapper = type("Wrapper", (), {})
    pickler = type("EzPickle", (), {"__init__": lambda self, *args, **kwargs: None})
    modules: dict[str, dict[str, Any]] = {
        "gym": {"Wrapper": wrapper},
        "gym.utils": {"EzPickle": pickler},
        "gym.envs": {},
        "gym.envs.mujoco": {},
        "gym.envs.mujoco.mujoco_env": {"MujocoEnv": environment_class},
        "pkg_resources": {},
    }
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_touched(name)}
    for name, content in modules.items():
        module = sys.modules[name] = ModuleType(name)
        module.__dict__.update({**content, "__path__": []})
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if _is_touched(name)]:
            del sys.modules[name]
        sys.modules.update(saved)


def _is_touched(name: str) -> bool:
    return name.partition(".")[0] in ("gym", "morphing_agents", "pkg_resources")

r"""
HopperController: the weights of a policy that makes a one-legged robot hop.

The task is that of Design-Bench [Trabucco2022design]_ with a table made anew; its oracle runs the
policy in Gymnasium's Hopper-v4.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from botorch_roma.tasks.arrays import (
    FULL_RANGES,
    Array,
    Edition,
    PathLike,
    read_table,
    split_table,
)
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.rollouts import (
    MUJOCO_INSTALL,
    RolloutOracle,
    import_simulator,
    quiet_mujoco,
)

#: Name and shape of the parts of a design, in its order; weights map rows to columns.
POLICY_LAYOUT = {
    "W1": (11, 64),
    "b1": (64,),
    "W2": (64, 64),
    "b2": (64,),
    "W3": (64, 3),
    "b3": (3,),
    "logstd": (3,),
}

# Steps of 8 ms after which a rollout ends, if the robot has not fallen before.
HORIZON = 1_000

HOPPER_EDITIONS = {
    3_200: Edition(
        3_200,
        1358.25525,
        "The table is made anew: snapshots of 32 PPO runs on Gymnasium's Hopper, the best ones "
        "left out as in the original one, which cannot be had; the oracle is the exact one on "
        "the current MuJoCo.",
    )
}
HOPPER_SOURCE = (
    "Generated with PPO on Gymnasium's Hopper (MIT; MuJoCo, Apache 2.0), in the layout of "
    "Design-Bench (Trabucco et al. 2022, MIT)."
)


def load_hopper(
    data_dir: PathLike | None = None,
    *,
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
    num_rollouts: int = 1,
    seed: int = 0,
    num_workers: int = 1,
) -> OfflineTask:
    r"""Hopper: 5,126 weights of a policy, its return in the simulator. A SUBSTITUTE.

    All 3,200 rows are visible, best 1358.3. A design is the policy ``tanh(tanh(o W1 + b1) W2 + b2)
    W3 + b3`` in the order of ``POLICY_LAYOUT``; the last three numbers, ``logstd``, have no effect
    on the deterministic action. The ``"full"`` scale is that of Design-Bench v2, so it is not quite
    the range of this table.

    The oracle is exact up to the start of a rollout, which is drawn: one seeded rollout, as in
    Design-Bench, or the mean of several. Over starts, the standard deviation of a rollout is 25 on
    average over 80 random rows and 137 over the best 48, so average several where the best designs
    are to be told apart.

    In float32 the designs take 66 MB, half of what they take in float64.

    Args:
        data_dir: Folder that holds ``hopper_controller/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the files must be the known ones, byte for byte. Default: True.
        num_rollouts: Rollouts that the oracle averages. Default: 1.
        seed: Seed of the starts of the rollouts, the same for all designs. Default: 0.
        num_workers: Processes of the oracle; its values do not depend on it. Default: 1.

    Returns:
        The task, bounded by the smallest box around its rows.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
        ImportError: On the first ``evaluate``, if Gymnasium or MuJoCo is not installed.
    """
    stem = "hopper_controller/hopper_controller"
    x, y = read_table(stem, data_dir, HOPPER_SOURCE, verify_checksums)
    visible, edition = split_table(y, 100, HOPPER_EDITIONS, "hopper")
    X = torch.from_numpy(x[visible]).to(dtype)
    return OfflineTask(
        name="hopper",
        X=X,
        Y=torch.from_numpy(y[visible]).to(dtype).unsqueeze(-1),
        bounds=torch.stack([X.amin(dim=0), X.amax(dim=0)]),
        oracle=RolloutOracle(
            simulate_hopper, num_rollouts=num_rollouts, seed=seed, num_workers=num_workers
        ),
        ranges={"full": FULL_RANGES[stem]},
        description=(
            "Return of a policy with 5,126 weights in Gymnasium's Hopper-v4; all rows are "
            f"visible, exact oracle, mean of {num_rollouts} rollouts."
        ),
        substitute=edition.substitute,
        provenance=HOPPER_SOURCE,
    )


def unpack_policy(design: Array) -> dict[str, Array]:
    """Parts of a design, ``5_126``, by the names and shapes of ``POLICY_LAYOUT``."""
    ends = np.cumsum([np.prod(shape) for shape in POLICY_LAYOUT.values()])
    parts = np.split(design, ends[:-1])
    return {
        name: part.reshape(shape)
        for (name, shape), part in zip(POLICY_LAYOUT.items(), parts, strict=True)
    }


def simulate_hopper(design: Array, generators: list[np.random.Generator]) -> Array:
    """Return of one rollout of a design per generator, which draws its start.

    Raises:
        ImportError: If Gymnasium or MuJoCo is not installed.
    """
    policy = unpack_policy(design)
    mujoco = import_simulator("mujoco", MUJOCO_INSTALL)
    with quiet_mujoco(mujoco):
        return np.array([_rollout(_environment(), policy, each) for each in generators])


def _rollout(env: Any, policy: dict[str, Array], generator: np.random.Generator) -> float:
    env.np_random = generator
    observation, _ = env.reset()
    total = 0.0
    for _ in range(HORIZON):
        hidden = np.tanh(observation @ policy["W1"] + policy["b1"])
        hidden = np.tanh(hidden @ policy["W2"] + policy["b2"])
        # Not clipped: the simulator limits the torque, the cost is that of what was asked for.
        action = hidden @ policy["W3"] + policy["b3"]
        observation, reward, fallen, _, _ = env.step(action)
        total += float(reward)
        if fallen:
            break
    return total


@lru_cache(maxsize=1)
def _environment() -> Any:
    # The class itself: `gymnasium.make` warns that there is a later version, of another reward.
    module = import_simulator("gymnasium.envs.mujoco.hopper_v4", MUJOCO_INSTALL)
    return module.HopperEnv()

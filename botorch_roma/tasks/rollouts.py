r"""
Oracles that simulate: the mean return of seeded rollouts, in parallel processes on request.

The simulators are optional packages: they are imported when an oracle is called, not before.
"""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from botorch_roma.tasks.arrays import Array
from botorch_roma.validation import check_int

MUJOCO_INSTALL = 'pip install "botorch-roma[mujoco]"'

# Designs do not take equally long: smaller shares than one a worker keep all of them busy.
_SHARES_PER_WORKER = 4


class Simulator(Protocol):
    """Maps a design, ``d``, and one generator per rollout to the returns of the rollouts.

    A generator draws the start of its rollout. The simulator is sent to the worker processes, so
    it can be pickled.
    """

    def __call__(self, design: Array, generators: list[np.random.Generator]) -> Array:
        """Return of each rollout of the design, one per generator."""
        ...


class RolloutOracle:
    r"""The mean return of a design over several rollouts.

    The start of rollout ``i`` depends on ``seed`` and ``i`` alone. All designs meet the same
    starts, so the value of a design depends neither on the batch that it comes in nor on the
    number of processes, and the first starts stay what they are if more are asked for.

    Args:
        simulator: Returns the rollouts of one design.
        num_rollouts: Number of rollouts of a design. Default: 1.
        seed: Seed of the starts. Default: 0.
        num_workers: Number of processes, each with one thread. They are started anew for every
            call, by spawning: a script needs the usual ``if __name__ == "__main__":``.
            Default: 1, no further process.

    Raises:
        ValueError: If one of the numbers is no integer or too small.
    """

    def __init__(
        self, simulator: Simulator, *, num_rollouts: int = 1, seed: int = 0, num_workers: int = 1
    ) -> None:
        self.simulator = simulator
        self.num_rollouts = check_int("num_rollouts", num_rollouts, minimum=1)
        self.seed = check_int("seed", seed, minimum=0)
        self.num_workers = check_int("num_workers", num_workers, minimum=1)

    def __call__(self, X: Tensor) -> Tensor:
        """Mean return of each of the ``n x d`` designs, shape ``n``."""
        return self.returns(X).mean(dim=-1).to(X)

    def returns(self, X: Tensor) -> Tensor:
        """Return of every rollout of the ``n x d`` designs, ``n x num_rollouts`` in float64."""
        designs = X.detach().double().cpu().numpy()
        num_workers = min(self.num_workers, len(designs))
        if num_workers == 1:
            return torch.from_numpy(self._simulate(designs))
        shares = np.array_split(designs, min(len(designs), _SHARES_PER_WORKER * num_workers))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(num_workers, context) as pool:
            return torch.from_numpy(np.concatenate(list(pool.map(self._simulate, shares))))

    def _simulate(self, designs: Array) -> Array:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        streams = [[self.seed, i] for i in range(self.num_rollouts)]
        # Small matrices; and rounding must not depend on the number of threads.
        with threadpool_limits(limits=1, user_api="blas"):
            returns = [
                self.simulator(design, [np.random.default_rng(stream) for stream in streams])
                for design in designs
            ]
        return np.array(returns, dtype=np.float64)


def import_simulator(module: str, remedy: str) -> Any:
    """Import an optional module.

    Args:
        module: Its full name.
        remedy: The command that installs it.

    Raises:
        ImportError: If it cannot be imported; says what is missing and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"The oracle of this task needs {module.split('.')[0]!r}, which cannot be imported "
            f"({error}); install it with: {remedy}"
        ) from error


@contextmanager
def quiet_mujoco(mujoco: Any) -> Iterator[None]:
    """Keep MuJoCo's warnings off the terminal and out of a log file in the working directory.

    It counts them in ``MjData.warning`` all the same.
    """
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)

r"""
All tasks by name: how each is loaded, what it is, and whether its data are there.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch

from botorch_roma.tasks.ant import load_ant
from botorch_roma.tasks.arrays import find_file, known_checksums
from botorch_roma.tasks.design_bench import load_superconductor, load_tfbind8
from botorch_roma.tasks.hopper import load_hopper
from botorch_roma.tasks.molecule import GSK3_FILE, load_molecule
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.sequences import TFBIND10_LAYOUT, load_gfp, load_tfbind10, load_utr
from botorch_roma.tasks.synthetic import SYNTHETIC_FUNCTIONS, load_synthetic

Kind = Literal["vectors", "tokens"]


@dataclass(frozen=True)
class TaskInfo:
    r"""A task before it is loaded.

    Attributes:
        load: Its loader.
        kind: ``"vectors"``, or ``"tokens"`` for sequences.
        num_rows: Number of visible rows.
        dim: Columns of a design: inputs, or positions of a sequence.
        oracle: What scores a finished batch.
        substitute: What stands in for the original: data, oracle or both; empty for nothing.
        files: Files of the data, below the data folder.
        packages: Packages that the task imports beyond the dependencies.
    """

    load: Callable[..., OfflineTask]
    kind: Kind
    num_rows: int
    dim: int
    oracle: str
    substitute: str = ""
    files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def status(self, data_dir: str | os.PathLike[str] | None = None) -> str:
        """Whether the data of the task are there, and the packages that it imports.

        Args:
            data_dir: As for :func:`load_task`.

        Returns:
            ``"ready"``, or what is missing.
        """
        absent = [p for p in self.packages if importlib.util.find_spec(p) is None]
        missing = [f for f in self.files if not find_file(f, data_dir).is_file()]
        lacks = [f"{len(missing)} of {len(self.files)} files"] if missing else []
        lacks += [f"package {p}" for p in absent]
        return f"missing: {', '.join(lacks)}" if lacks else "ready"


def _tables(*stems: str) -> tuple[str, ...]:
    return tuple(name for stem in stems for name in known_checksums(stem))


_REAL: dict[str, TaskInfo] = {
    "tfbind8": TaskInfo(
        load_tfbind8,
        "tokens",
        32_898,
        8,
        "look-up in the full table",
        files=_tables("tf_bind_8-SIX6_REF_R1/tf_bind_8"),
    ),
    "tfbind10": TaskInfo(
        load_tfbind10,
        "tokens",
        TFBIND10_LAYOUT.visible_rows,
        10,
        "look-up in the full table",
        files=tuple(
            f"tf_bind_10-pho4/tf_bind_10-{kind}-{shard}.npy"
            for kind in "xy"
            for shard in range(TFBIND10_LAYOUT.num_shards)
        ),
    ),
    "utr": TaskInfo(
        load_utr,
        "tokens",
        140_000,
        50,
        "trained network",
        "oracle",
        files=_tables("utr/utr"),
    ),
    "gfp": TaskInfo(
        load_gfp,
        "tokens",
        5_000,
        237,
        "trained network",
        "data (rebuilt) and oracle",
        files=_tables("gfp/gfp"),
    ),
    "molecule": TaskInfo(
        load_molecule,
        "tokens",
        41_401,
        62,
        "random forest on measured activity",
        "data and oracle",
        files=(GSK3_FILE,),
        packages=("rdkit", "selfies"),
    ),
    "superconductor": TaskInfo(
        load_superconductor,
        "vectors",
        17_926,
        86,
        "random forest on the full table",
        "data and oracle",
        files=_tables("superconductor/superconductor"),
    ),
    "hopper": TaskInfo(
        load_hopper,
        "vectors",
        3_200,
        5_126,
        "simulator",
        "data",
        files=_tables("hopper_controller/hopper_controller"),
        packages=("gymnasium", "mujoco"),
    ),
    "ant": TaskInfo(
        load_ant,
        "vectors",
        3_200,
        60,
        "simulator, mean of 8 rollouts",
        "data and policy",
        files=_tables("ant_morphology/ant_morphology"),
        packages=("mujoco", "morphing_agents"),
    ),
}
_SYNTHETIC: dict[str, TaskInfo] = {
    name: TaskInfo(
        partial(load_synthetic, name), "vectors", 6_000, function().dim, "the function itself"
    )
    for name, function in SYNTHETIC_FUNCTIONS.items()
}

#: Every task that :func:`load_task` knows, by name.
TASKS: Mapping[str, TaskInfo] = MappingProxyType({**_REAL, **_SYNTHETIC})


def load_task(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    dtype: torch.dtype = torch.float64,
    **kwargs: Any,
) -> OfflineTask:
    """Load a task by its name.

    Args:
        name: A key of ``TASKS``, e.g. ``"tfbind8"`` or ``"hartmann6"``.
        data_dir: Folder of the data, in the layout of Design-Bench, or the folder that holds it
            as ``design_bench_data`` beside others. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``. Synthetic tasks read no data and
            ignore it.
        dtype: Floating point dtype of the task. Default: ``torch.float64``.
        kwargs: Further arguments of the loader, e.g. ``num_rollouts`` for ``"hopper"`` or ``seed``
            and ``num_rows`` for the synthetic ones.

    Returns:
        The task, its oracle not yet called.

    Raises:
        ValueError: If ``name`` is unknown, and as the loader does.
        FileNotFoundError: If the data of the task are missing.

    Example:
        >>> task = load_task("quadratic60", dtype=torch.float32)
        >>> task.num_rows
        6000
    """
    if name not in TASKS:
        raise ValueError(f"`name` must be one of {sorted(TASKS)}, received {name!r}.")
    info = TASKS[name]
    if info.files:
        kwargs["data_dir"] = data_dir
    return info.load(dtype=dtype, **kwargs)

r"""
Offline tasks: a dataset measured once, and an oracle that scores finished batches only.

A task knows no method, and no method reaches the oracle of a task.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from botorch_roma.tasks.design_bench import load_superconductor, load_tfbind8
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.synthetic import SYNTHETIC_FUNCTIONS, load_synthetic, make_synthetic_task

__all__ = [
    "TASKS",
    "OfflineTask",
    "load_superconductor",
    "load_task",
    "load_tfbind8",
    "make_synthetic_task",
]

_DESIGN_BENCH: dict[str, Callable[..., OfflineTask]] = {
    "superconductor": load_superconductor,
    "tfbind8": load_tfbind8,
}

#: Name of every task that ``load_task`` knows, with the function that loads it.
TASKS: Mapping[str, Callable[..., OfflineTask]] = MappingProxyType(
    {**_DESIGN_BENCH, **{name: partial(load_synthetic, name) for name in SYNTHETIC_FUNCTIONS}}
)


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
        data_dir: Folder of the data. Default: the environment variable ``BOTORCH_ROMA_DATA``,
            then ``~/.cache/botorch_roma``. Synthetic tasks read no data and ignore it.
        dtype: Floating point dtype of the task. Default: ``torch.float64``.
        kwargs: Further arguments of the loader, e.g. ``encoding="logits"`` for ``"tfbind8"`` or
            ``seed`` and ``num_rows`` for the synthetic ones.

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
    if name in _DESIGN_BENCH:
        kwargs["data_dir"] = data_dir
    return TASKS[name](dtype=dtype, **kwargs)

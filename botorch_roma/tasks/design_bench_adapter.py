r"""
Tasks of the package Design-Bench 2.0.20 as offline tasks [Trabucco2022design]_.

What is needed of the package is in the task that is handed over: nothing is imported here. Where
it does not run as it is, see :mod:`botorch_roma.tasks.design_bench_compat`.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks.arrays import FULL_RANGES, Array
from botorch_roma.tasks.design_bench import DNA, SUPERCONDUCTOR_SOURCE, TFBIND8_SOURCE
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.sequences import AMINO_ACIDS

DESIGN_BENCH_SOURCE = "Design-Bench (Trabucco et al. 2022, MIT)."

# Rows read at a time; Design-Bench's own 32 take seconds for large tables.
_READ_ROWS = 8_192


class Original(NamedTuple):
    """The full table of a task of version 2 as it was published."""

    low: float
    high: float
    num_rows: int | None = None
    source: str = DESIGN_BENCH_SOURCE


# What is known beyond the range: number of rows, source.
_KNOWN: Mapping[str, tuple[Any, ...]] = {
    "tf_bind_8-SIX6_REF_R1/tf_bind_8": (65_792, TFBIND8_SOURCE),
    "utr/utr": (280_000,),
    "gfp/gfp": (56_086,),
    "superconductor/superconductor": (21_263, SUPERCONDUCTOR_SOURCE),
}
ORIGINALS: Mapping[str, Original] = {
    stem: Original(low, high, *_KNOWN.get(stem, ())) for stem, (low, high) in FULL_RANGES.items()
}

# Last part of a dataset's name to its symbols, in the order of their tokens.
SYMBOLS: Mapping[str, Sequence[str]] = {
    "tf_bind_8": DNA.symbols,
    "tf_bind_10": DNA.symbols,
    "gfp": AMINO_ACIDS.symbols,
}


class DesignBenchOracle:
    r"""The oracle of a Design-Bench task, on designs as they are in its files.

    Design-Bench takes designs in the form that its task object has at the time: logits or tokens,
    normalised or not. Here they are always taken, and values returned, in the units of the files.

    A noisy oracle draws from numpy's global generator. That is seeded for every call and put back
    after it, so the same batch has the same values.

    Args:
        task: A task of Design-Bench.
        seed: Seed of the noise.
    """

    def __init__(self, task: Any, seed: int = 0) -> None:
        self._task, self._seed = task, seed
        self._raw = raw_dataset(task.dataset)
        example = next(iter(self._raw.iterate_samples(return_y=False)))
        self._shape = example.shape
        self._dtype = example.dtype if np.issubdtype(example.dtype, np.floating) else np.int32

    def __call__(self, X: Tensor) -> Tensor:
        """Value of each of the ``n x d`` designs, shape ``n``."""
        designs = X.detach().cpu().numpy().astype(self._dtype).reshape(-1, *self._shape)
        with _seeded_numpy(self._seed):
            values = self._task.predict(designs, dataset=self._raw)
        return torch.from_numpy(values.reshape(-1)).to(X)

    def __reduce__(self) -> tuple[Any, ...]:
        compat = sys.modules.get("botorch_roma.tasks.design_bench_compat")
        folders = compat.enabled_folders() if compat is not None else None
        return _restore, (folders, pickle.dumps((self._task, self._seed)))


def from_design_bench(
    task: Any,
    *,
    dtype: torch.dtype = torch.double,
    symbols: Sequence[str] | None = None,
    name: str | None = None,
    seed: int = 0,
) -> OfflineTask:
    r"""Make an offline task of a task of the package Design-Bench 2.0.20.

    The visible rows are those of ``task``, as they are in its files: tokens of a discrete task,
    raw units otherwise, whatever normalisation or mapping to logits ``task`` has now. ``task`` is
    left as it was found, and may be mapped later. Its oracle is the oracle; Design-Bench fits a
    forest or a Gaussian process when it makes ``task``, hence before the first call, on rows drawn
    from numpy's global generator: seed that with ``np.random.seed`` before, to have it again.

    Args:
        task: What ``design_bench.make(...)`` returned.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        symbols: What the tokens 0, 1, ... of a discrete task stand for. Default: nucleotides or
            amino acids for TFBind8, TFBind10 and GFP, otherwise numbers.
        name: Name of the task. Default: its dataset and its oracle.
        seed: Seed of the oracle, if that is noisy. Default: 0.

    Returns:
        The task, to be maximised as in Design-Bench. Continuous designs are bounded by the
        smallest box around the visible rows. The ``"full"`` scale has the constants of version 2
        where they are known, otherwise the range of the full table.

    Raises:
        ValueError: If ``task`` is no task of Design-Bench, or ``symbols`` do not fit it.

    Example, where Design-Bench and its data are there::

        from botorch_roma.tasks.design_bench_compat import enable

        design_bench = enable("~/design_bench_data")
        task = from_design_bench(design_bench.make("Superconductor-RandomForest-v0"))
    """
    if not all(hasattr(task, name) for name in ("dataset", "oracle", "predict")):
        raise ValueError(
            f"`task` must be a task of Design-Bench, received {type(task).__name__}; make one: "
            "task = design_bench.make('TFBind8-Exact-v0')."
        )
    raw = raw_dataset(task.dataset)
    full_y = np.concatenate([raw.get_shard_y(i) for i in range(raw.get_num_shards())])
    x, y = raw.x, raw.y
    X = torch.from_numpy(x.reshape(len(x), -1)).to(dtype)
    original = ORIGINALS.get(raw.name)
    low, high = original[:2] if original else (float(full_y.min()), float(full_y.max()))
    return OfflineTask(
        name=name or f"{Path(raw.name).name}-{task.oracle_name}",
        X=X,
        Y=torch.from_numpy(y).to(dtype),
        bounds=None if task.is_discrete else torch.stack([X.amin(dim=0), X.amax(dim=0)]),
        vocabulary=_vocabulary(raw, symbols) if task.is_discrete else None,
        oracle=DesignBenchOracle(task, seed),
        ranges={"full": (low, high)},
        description=(
            f"Design-Bench, {raw.y_name} of {raw.x_name}; {len(x):,} of {len(full_y):,} rows are "
            f"visible, oracle {task.oracle_name}."
        ),
        substitute=" ".join([*_table_notes(original, full_y), *_oracle_notes(task)]) or None,
        provenance=original.source if original else DESIGN_BENCH_SOURCE,
    )


def raw_dataset(dataset: Any) -> Any:
    """A copy of a dataset of Design-Bench that hands out designs and values as in its files."""
    raw = copy(dataset)
    raw.is_normalized_x = raw.is_normalized_y = False
    if hasattr(raw, "is_logits"):
        raw.is_logits = False
    raw.internal_batch_size = _READ_ROWS
    return raw


def _restore(folders: tuple[Any, Any] | None, content: bytes) -> DesignBenchOracle:
    """Build a pickled oracle anew, in a process where Design-Bench may need help first."""
    if folders is not None and "design_bench" not in sys.modules:
        from botorch_roma.tasks.design_bench_compat import enable

        enable(folders[0], cache_dir=folders[1])
    return DesignBenchOracle(*pickle.loads(content))


@contextmanager
def _seeded_numpy(seed: int) -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _vocabulary(dataset: Any, symbols: Sequence[str] | None) -> Vocabulary:
    count = dataset.num_classes
    if symbols is None:
        # Brackets, for "12" would be the symbol 12 as well as 1 and 2.
        numbers = [str(i) if count <= 10 else f"[{i}]" for i in range(count)]
        symbols = SYMBOLS.get(Path(dataset.name).name, numbers)
    if len(symbols) != count:
        raise ValueError(
            f"`symbols` must name the {count} tokens of {dataset.name}, received {len(symbols)}: "
            f"{list(symbols)[:30]}."
        )
    return Vocabulary(symbols)


def _table_notes(original: Original | None, y: Array) -> list[str]:
    """Why the full table is not the published one."""
    if original is None:
        return []
    low, high, num_rows, _ = original
    slack = 1e-5 * (high - low)
    same_range = abs(y.min() - low) < slack and abs(y.max() - high) < slack
    if same_range and num_rows in (None, len(y)):
        return []
    rows = f"{num_rows:,} rows, " if num_rows is not None else ""
    return [
        f"The table has {len(y):,} rows, values from {y.min():g} to {y.max():g}; the published one "
        f"has {rows}values from {low:g} to {high:g}."
    ]


def _oracle_notes(task: Any) -> list[str]:
    """Why the oracle is not the published one."""
    if hasattr(task.oracle, "params"):
        return [
            f"The oracle ({task.oracle_name}, rank correlation "
            f"{task.oracle.params['rank_correlation']:.3f} on rows held out) is fitted anew by "
            "Design-Bench, for the published one can no longer be had."
        ]
    compat = sys.modules.get("botorch_roma.tasks.design_bench_compat")
    replaced = compat is not None and compat.is_enabled()
    if replaced and type(task.oracle).__name__ == "HopperControllerOracle":
        return ["The oracle is Gymnasium's Hopper-v4, in place of Hopper-v2 of gym."]
    return []

r"""
An oracle that is a network, trained once on the full table and kept in a file.

Design-Bench scores sequences that nobody measured with trained networks, whose weights are gone.
These stand in for them.

On one thread the same table, settings and version of torch give the same weights. Bitwise equality
over machines is not promised: :class:`OracleReport` names the fingerprint of the weights, so that
two results can be seen to come from one oracle, and the file of the cache can be passed on.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from botorch.exceptions.warnings import BotorchWarning
from botorch.logging import logger
from torch import Tensor

from botorch_roma.tasks.arrays import CACHE_VARIABLE, Array, PathLike, resolve_cache_dir
from botorch_roma.tasks.offline_task import OfflineTask
from botorch_roma.tasks.oracle_cache import (
    ORACLE_FORMAT,
    fingerprint_weights,
    read_oracle,
    write_oracle,
)
from botorch_roma.tasks.oracle_networks import OracleEnsemble, OracleSettings, fit_ensemble

# Keeps the split apart from other draws of the same seed.
_SPLIT_STREAM = 0x0AC1E


class OracleWarning(BotorchWarning):
    """A file of the cache cannot be used or written."""


@dataclass(frozen=True)
class OracleReport:
    """What is known of a trained oracle.

    Args:
        name: Name of the task.
        path: Its file in the cache.
        fingerprint: SHA-256 of its weights.
        rank_correlation: Spearman's coefficient on the held-out rows, in -1..1.
        r_squared: Share of the variance of the held-out values that it explains, at most 1.
        num_held_out: Rows that were not trained on.
        num_training: Rows that were.
        cpu_seconds: Processor time that the training took, over all threads.
    """

    name: str
    path: Path
    fingerprint: str
    rank_correlation: float
    r_squared: float
    num_held_out: int
    num_training: int
    cpu_seconds: float

    def __str__(self) -> str:
        """All of it in a sentence."""
        return (
            f"Oracle of {self.name!r}: rank correlation {self.rank_correlation:.3f} (R2 "
            f"{self.r_squared:.3f}) on {self.num_held_out:,} held-out rows, trained on "
            f"{self.num_training:,} rows in {self.cpu_seconds:.0f} s of processor time; "
            f"fingerprint {self.fingerprint[:12]}, {self.path}"
        )


class TrainedOracle:
    r"""A network that predicts the values of sequences; trained or loaded when first asked.

    A file of the cache that is damaged, or that belongs to something else, is replaced: the
    oracle is trained anew, with an :class:`OracleWarning`. Where the cache cannot be written, it
    warns as well, and lasts as long as the process. Two processes may train at the same time: the
    file that is there first is the one that both use.

    Args:
        name: Name of the task, part of the file's name.
        tokens: Sequences of the full table, ``n x length``.
        y: Their values, ``n``.
        num_classes: Number of tokens.
        settings: Networks and training.
        cache_dir: Folder of the cache. Default: the environment variable ``BOTORCH_ROMA_CACHE``,
            then ``~/.cache/botorch_roma``.

    Raises:
        ValueError: If fewer rows than a batch are left for training, or all values are equal.
    """

    def __init__(
        self,
        name: str,
        tokens: Array,
        y: Array,
        *,
        num_classes: int,
        settings: OracleSettings,
        cache_dir: PathLike | None = None,
    ) -> None:
        if len(y) < settings.num_held_out + settings.batch_size or y.min() == y.max():
            raise ValueError(
                f"`y` of task {name!r} must hold different values, in at least a batch of "
                f"{settings.batch_size} rows beside the {settings.num_held_out} held out; "
                f"received {len(y)} rows; choose other settings."
            )
        self.name, self.settings = name, settings
        self._tokens, self._y, self._num_classes = tokens, y, num_classes
        self._cache_dir = cache_dir
        self._ensemble: OracleEnsemble | None = None
        self._report: OracleReport | None = None

    @property
    def report(self) -> OracleReport | None:
        """What is known of the oracle; None before it is trained or loaded."""
        return self._report

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's coefficient on the held-out rows; None before it is trained or loaded."""
        return None if self._report is None else self._report.rank_correlation

    @cached_property
    def key(self) -> str:
        """SHA-256 of all that decides about the weights: table, settings, version of the files."""
        table = hashlib.sha256()
        for array in (self._tokens.astype(np.int32), self._y.astype(np.float32)):
            table.update(f"{array.shape}".encode())
            table.update(array.tobytes())
        parts = {
            "format": ORACLE_FORMAT,
            "num_classes": self._num_classes,
            "settings": asdict(self.settings),
            "table": table.hexdigest(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def path(self) -> Path:
        """File of the oracle in the cache, whether it exists or not."""
        folder = resolve_cache_dir(self._cache_dir) / "oracles"
        return folder / f"{self.name}-{self.key[:16]}.oracle"

    def held_out_rows(self) -> Array:
        """Indices of the rows that are not trained on, ``num_held_out``."""
        rng = np.random.default_rng([_SPLIT_STREAM, self.settings.seed])
        return rng.permutation(len(self._y))[: self.settings.num_held_out]

    def prepare(self, *, progress: bool = False, retrain: bool = False) -> OracleReport:
        """Load the oracle, or train it and keep it, unless it is ready.

        Args:
            progress: Whether a bar on standard error shows the training.
            retrain: Whether to train in any case and replace the file.

        Returns:
            What is known of the oracle.
        """
        if self._report is None and not retrain:
            self._load(warn=True)
        if self._report is None or retrain:
            logger.info(f"Training the oracle of task {self.name!r}; this takes some minutes.")
            ensemble, metadata = self._train(progress)
            if retrain or not self._load(warn=False):  # another process may have been faster
                self._save(ensemble, metadata)
        assert self._report is not None
        return self._report

    def __call__(self, X: Tensor) -> Tensor:
        """Value of each of the ``n x length`` token sequences, shape ``n``."""
        self.prepare()
        assert self._ensemble is not None
        with torch.no_grad():
            return self._ensemble(X.cpu()).to(X)

    def _train(self, progress: bool) -> tuple[OracleEnsemble, dict[str, float]]:
        from scipy.stats import spearmanr

        started = time.process_time()
        held_out = self.held_out_rows()
        training = np.setdiff1d(np.arange(len(self._y)), held_out)
        values = torch.from_numpy(self._y.astype(np.float64))
        tokens = torch.from_numpy(self._tokens[training])
        ensemble = fit_ensemble(
            tokens, values[training], self._num_classes, self.settings, progress=progress
        )
        true = values[held_out]
        with torch.no_grad():
            predicted = ensemble(torch.from_numpy(self._tokens[held_out]))
        residual = (predicted - true).pow(2).mean() / true.var(correction=0)
        return ensemble, {
            "rank_correlation": float(spearmanr(predicted, true).statistic),
            "r_squared": 1.0 - residual.item(),
            "num_held_out": len(held_out),
            "num_training": len(training),
            "cpu_seconds": time.process_time() - started,
        }

    def _save(self, ensemble: OracleEnsemble, metadata: dict[str, float]) -> None:
        self._keep(ensemble, metadata)
        try:
            write_oracle(self.path, self.key, ensemble.state_dict(), metadata)
        except OSError as error:
            self._warn(f"cannot be written and will be trained again by the next process: {error}")

    def _load(self, *, warn: bool) -> bool:
        """Take the oracle from the cache; whether that worked."""
        rows = np.linspace(0, len(self._y) - 1, 2).astype(int)  # the shape; values are loaded
        ensemble = OracleEnsemble(
            torch.from_numpy(self._tokens[rows]),
            torch.from_numpy(self._y[rows].astype(np.float64)),
            self._num_classes,
            self.settings,
        )
        try:
            weights, metadata = read_oracle(self.path, self.key)
            ensemble.load_state_dict(weights)
            self._keep(ensemble, metadata)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            if warn:
                self._warn(f"cannot be used, the oracle is trained anew: {error}")
            return False
        return True

    def _keep(self, ensemble: OracleEnsemble, metadata: dict[str, float]) -> None:
        fingerprint = fingerprint_weights(ensemble.state_dict())
        self._report = OracleReport(self.name, self.path, fingerprint, **metadata)  # type: ignore[arg-type]
        self._ensemble = ensemble

    def _warn(self, problem: str) -> None:
        warnings.warn(
            f"The file {str(self.path)!r} of the oracle {problem}. Another folder can be chosen "
            f"with `cache_dir` or {CACHE_VARIABLE}.",
            OracleWarning,
            stacklevel=5,
        )


def train_oracle(
    task: OfflineTask, *, progress: bool = True, retrain: bool = False
) -> OracleReport:
    """Train the oracle of a task, or load it from the cache, before it is asked.

    The oracle is asked nothing: the counters of the task stand where they stood.

    Args:
        task: A task with a trained oracle, e.g. ``load_utr()``.
        progress: Whether to show a bar on standard error. Default: True.
        retrain: Whether to train in any case and replace the file. Default: False.

    Returns:
        What is known of the oracle.

    Raises:
        ValueError: If the oracle of the task is not a trained one.

    Example, where the data of the task are there::

        print(train_oracle(load_task("utr")))  # rank correlation on held-out rows, and more
    """
    oracle = task._oracle
    if not isinstance(oracle, TrainedOracle):
        kind = getattr(oracle, "__name__", type(oracle).__name__)
        raise ValueError(
            f"`task` must have an oracle that is trained; that of task {task.name!r} is "
            f"{kind}: there is nothing to train."
        )
    return oracle.prepare(progress=progress, retrain=retrain)

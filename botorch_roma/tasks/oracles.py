r"""
Oracles: what scores a finished batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from botorch_roma.latent.vocabulary import check_tokens
from botorch_roma.tasks.arrays import Array

FOREST_ROWS = 2_000
FOREST_SEED = 0


class TableOracle:
    r"""Looks sequences up in a complete table of all ``num_classes ** length`` of them.

    Args:
        tokens: All sequences, ``n x length``; rows may repeat.
        y: Their values, ``n``.
        num_classes: Size of the alphabet. Default: 4.
        last_wins: Whether rows of one sequence may disagree; the last one then counts.
            Default: False.
        missing: Value of a sequence that is in no row. Default: there must be none.

    Raises:
        ValueError: If a token is out of range, a sequence is missing, or its rows disagree.
    """

    def __init__(
        self,
        tokens: Tensor,
        y: Tensor,
        *,
        num_classes: int = 4,
        last_wins: bool = False,
        missing: float | None = None,
    ) -> None:
        check_tokens(tokens, num_classes)
        self._num_classes = num_classes
        index = self._index(tokens)
        num_sequences = num_classes ** tokens.shape[-1]
        last = torch.full((num_sequences,), -1)
        last.scatter_reduce_(0, index, torch.arange(len(index)), "amax")
        self._values = torch.where(last < 0, torch.nan if missing is None else missing, y[last])
        #: Number of sequences that are in no row.
        self.num_missing = int((last < 0).sum())
        agree = last_wins or torch.equal(self._values[index], y)
        if (missing is None and self.num_missing > 0) or not agree:
            raise ValueError(
                f"`tokens` must hold all {num_sequences} sequences, `y` one value for each; "
                f"received {num_sequences - self.num_missing} sequences; the table is damaged."
            )

    def __call__(self, X: Tensor) -> Tensor:
        """Value of each of the ``n x length`` token sequences, shape ``n``."""
        return self._values[self._index(X.cpu())].to(X)

    def _index(self, tokens: Tensor) -> Tensor:
        index = torch.zeros(len(tokens), dtype=torch.long)
        for column in tokens.T:  # not all at once: 4 ** 10 sequences stand in 8 million rows
            index = index * self._num_classes + column.long()
        return index


class ForestOracle:
    r"""A random forest on 2,000 rows of the full table, fitted when it is first called.

    Settings as in Design-Bench v2: 100 trees, depth up to 100, all features. Rows and trees are
    seeded, so every run has the same oracle. Before the first call there is no forest.

    Args:
        x: Designs of the full table, ``n x d``.
        y: Their values, ``n``.
        n_jobs: Processes that fit and predict. Default: 1.
    """

    def __init__(self, x: Array, y: Array, *, n_jobs: int = 1) -> None:
        self._x, self._y, self._n_jobs = x, y, n_jobs
        self._forest: Any = None

    @property
    def is_fitted(self) -> bool:
        """Whether the oracle has been called."""
        return self._forest is not None

    def training_rows(self) -> Array:
        """Indices of the rows that the forest is fitted on, ``2_000``."""
        rng = np.random.default_rng(FOREST_SEED)
        return rng.choice(len(self._x), size=FOREST_ROWS, replace=False)

    def __call__(self, X: Tensor) -> Tensor:
        """Value of each of the ``n x d`` designs, shape ``n``."""
        if self._forest is None:
            self._forest = self._fit()
        return torch.from_numpy(self._forest.predict(X.double().cpu().numpy())).to(X)

    def _fit(self) -> Any:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            n_estimators=100,
            max_depth=100,
            max_features=1.0,
            random_state=FOREST_SEED,
            n_jobs=self._n_jobs,
        )
        rows = self.training_rows()
        return forest.fit(self._x[rows], self._y[rows])

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

    Raises:
        ValueError: If a token is out of range, a sequence is missing, or its rows disagree.
    """

    def __init__(self, tokens: Tensor, y: Tensor, *, num_classes: int = 4) -> None:
        check_tokens(tokens, num_classes)
        self._place = num_classes ** torch.arange(tokens.shape[-1])
        index = (tokens.long() * self._place).sum(dim=-1)
        self._values = torch.full((num_classes ** tokens.shape[-1],), torch.nan, dtype=y.dtype)
        self._values[index] = y
        if self._values.isnan().any() or not torch.equal(self._values[index], y):
            raise ValueError(
                f"`tokens` must hold all {self._values.numel()} sequences, `y` one value for each; "
                f"received {torch.unique(index).numel()} sequences; the table is damaged."
            )

    def __call__(self, X: Tensor) -> Tensor:
        """Value of each of the ``n x length`` token sequences, shape ``n``."""
        return self._values[(X.long().cpu() * self._place).sum(dim=-1)].to(X)


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

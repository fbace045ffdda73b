r"""
What stage 1 reads of a table, standardised: all at once, or rows when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from botorch_roma.chunks import chunks
from botorch_roma.models.roma import RoMAModel


class StandardizedRows:
    r"""Standardised inputs of the tables of some models below each other, ``M n x e``.

    Indexed as a tensor of that shape is, it gathers the rows asked for, transforms and z-scores
    them; what it makes is never larger than that.

    Args:
        models: Models over ``n`` rows each.
        index: Rows to keep, all of one model; all rows by default.
    """

    def __init__(self, models: Sequence[RoMAModel], index: Tensor | None = None) -> None:
        self.models, self.index = models, index
        self.device = models[0].train_X.device

    @torch.no_grad()
    def __getitem__(self, rows: Tensor) -> Tensor:
        r"""Standardised rows ``k x e``, or ``L x k x e`` for ``L x k`` indices.

        Each line of indices is of one model.
        """
        if rows.dim() > 1:
            return torch.stack([self[line] for line in rows])
        n = self.models[0].train_X.shape[0]
        which = int(rows[0]) // n if len(self.models) > 1 else 0
        model = self.models[which]
        return model.standardize_inputs(model.train_X[rows - n * which])

    def select(self, rows: Tensor) -> StandardizedRows:
        r"""Some rows, all of one model, for :meth:`chunks` to go through."""
        return StandardizedRows(self.models, rows)

    def chunks(self) -> Iterator[Tensor]:
        r"""The standardised rows that were selected, some at a time, ``k x e``."""
        index = self.index
        if index is None:
            index = torch.arange(self.models[0].train_X.shape[0], device=self.device)
        width = self.models[0].train_X.shape[1]
        for part in chunks(index.unsqueeze(-1).expand(-1, width)):  # as many rows as of the table
            yield self[part[:, 0]]


@torch.no_grad()
def standardized_outcomes(model: RoMAModel) -> tuple[Tensor, Tensor | None]:
    r"""Outcomes ``n x m`` of a model's data and the variances of their noise, standardised."""
    model.eval()
    T = model.standardize_outcomes(model.train_Y, X=model.train_X)
    return T, model.standardized_noise_variances()


@torch.no_grad()
def standardized_tables(
    models: Sequence[RoMAModel],
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    r"""Standardised inputs ``n x e`` and outcomes of the models' data; one if all have the same.

    Copies of the first table are let go at once: seeds take no memory for it.
    """
    tables: list[tuple[Tensor, Tensor, Tensor | None]] = []
    for model in models:
        T, V = standardized_outcomes(model)  # evaluates the model
        table = (model.standardize_inputs(model.train_X), T, V)
        tables.append(tables[0] if tables and _same(table, tables[0]) else table)
    return tables[:1] if all(table is tables[0] for table in tables) else tables


def _same(table: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> bool:
    """Whether two tables hold the same, part by part."""
    return all(
        a is b or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(table, other, strict=True)
    )


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts below each other; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat([*parts])

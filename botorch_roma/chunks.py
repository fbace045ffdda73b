r"""
Tables of many rows, some rows at a time: nothing here makes a tensor of the size of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

#: Numbers in a chunk of rows, at most; and its rows.
CHUNK_NUMBERS: int = 2**20
CHUNK_ROWS: int = 2**14


def chunks(X: Tensor) -> Iterator[Tensor]:
    r"""Views of consecutive rows of ``n x ...``, all of them in order; one at least."""
    width = max(1, X.shape[1:].numel())
    yield from X.split(max(1, min(CHUNK_ROWS, CHUNK_NUMBERS // width)))


def never_varies(X: Tensor) -> Tensor:
    r"""Which columns of ``n x d`` have one value in all rows, ``d`` of bool."""
    return torch.stack([(X[0] == chunk).all(dim=0) for chunk in chunks(X)]).all(dim=0)


def column_std(X: Tensor) -> Tensor:
    r"""Standard deviation of each column of ``n x d``; 0 where, and only where, it never varies."""
    std = X.std(dim=0, correction=0)  # rounding leaves that of a constant column above 0
    return _zero_where(never_varies(X), std)


def transformed_moments(X: Tensor, transform: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of what a transform makes of the rows of a table.

    Sums are taken in double. The second pass is over centred values, so nothing cancels.

    Args:
        X: The table, ``n x d``.
        transform: Rows ``r x d`` to rows ``r' x e``, each row on its own.

    Returns:
        Mean and standard deviation, ``e`` each, in the dtype of the transformed rows; a deviation
        of 0 where a column never varies.
    """
    first = transform(X[:1])[0]
    total, count = torch.zeros_like(first, dtype=torch.double), 0
    constant = torch.ones_like(first, dtype=torch.bool)
    for chunk in chunks(X):
        values = transform(chunk)
        total += values.sum(dim=0, dtype=torch.double)
        count += values.shape[0]
        constant &= (values == first).all(dim=0)
    mean = total / count
    squares = torch.zeros_like(mean)
    for chunk in chunks(X):
        squares += (transform(chunk).double() - mean).square().sum(dim=0)
    std = (squares / count).sqrt().to(first)
    return mean.to(first), _zero_where(constant, std)


def _zero_where(constant: Tensor, std: Tensor) -> Tensor:
    r"""``std``, 0 where ``constant``, and above 0 elsewhere, also where squares underflow."""
    smallest = torch.finfo(std.dtype).tiny
    return torch.where(constant, torch.zeros_like(std), std.clamp_min(smallest))

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from botorch_roma.chunks import chunks, column_std, never_varies, transformed_moments


def draw(*shape: int) -> Tensor:
    """Values in (0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("n", [0, 1, 16, 17, 100])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_chunks_are_views_in_order(n: int, shape: tuple[int, ...]) -> None:
    X = draw(n, *shape)
    parts = list(chunks(X))
    assert torch.equal(torch.cat(parts), X)
    assert max(len(p) for p in parts) <= 16
    assert all(p.data_ptr() == 0 or p.untyped_storage().data_ptr() == X.data_ptr() for p in parts)


def test_wide_rows_make_short_chunks() -> None:
    parts = list(chunks(torch.zeros(3, 1).expand(3, 2**20)))
    assert [len(p) for p in parts] == [1, 1, 1]
    assert len(next(chunks(torch.zeros(1).expand(5, 2**21)))) == 1  # one at least


@pytest.mark.usefixtures("small_chunks")
def test_columns_that_never_vary() -> None:
    X = draw(40, 4)
    X[:, 1] = 0.1
    X[:, 2] = 0.1
    X[39, 2] = 0.2  # in the last chunk alone
    assert never_varies(X).tolist() == [False, True, False, False]
    std = column_std(X)
    assert std[1] == 0.0
    assert torch.equal(std[[0, 2, 3]], X.std(dim=0, correction=0)[[0, 2, 3]])


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_of_transformed_rows(dtype: torch.dtype) -> None:
    X = (1e4 + draw(50, 3)).to(dtype)  # far from 0: squares would cancel
    X[:, 1] = 7.0
    mean, std = transformed_moments(X, lambda x: torch.cat([2.0 * x, x[:, :1]], dim=1))
    expected = torch.cat([2.0 * X, X[:, :1]], dim=1).double()
    assert mean.dtype == std.dtype == dtype
    close: dict[str, Any] = {"rtol": 1e-12 if dtype == torch.float64 else 1e-6, "atol": 0.0}
    torch.testing.assert_close(mean, expected.mean(dim=0).to(dtype), **close)
    torch.testing.assert_close(std, expected.std(dim=0, correction=0).to(dtype), **close)
    assert std[1] == 0.0

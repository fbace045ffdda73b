from __future__ import annotations

import pytest
import torch
from torch import Tensor

from botorch_roma.history import rank_correlation


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Values in (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def test_rank_correlation() -> None:
    x = draw(20)
    assert rank_correlation(x, x**3) == pytest.approx(1.0)
    assert rank_correlation(x, -x.exp()) == pytest.approx(-1.0)
    assert abs(rank_correlation(x, draw(20, seed=1))) < 0.5


def test_ties_share_their_rank() -> None:
    one, other = torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(one, other) == pytest.approx(0.948683298)


def test_constant() -> None:
    assert rank_correlation(torch.ones(5), draw(5)) is None
    assert rank_correlation(draw(1), draw(1)) is None

from __future__ import annotations

import pytest
import torch
from botorch.models.transforms import Normalize
from torch import Tensor

from botorch_roma import RoMAModel
from botorch_roma.rows import StandardizedRows, standardized_tables

N, D = 40, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Values in (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def models() -> list[RoMAModel]:
    tables = [draw(N, D), 3.0 * draw(N, D, seed=1)]
    return [RoMAModel(X, X[:, :1], Normalize(D), copy=False) for X in tables]


def standardized(models: list[RoMAModel]) -> Tensor:
    with torch.no_grad():
        return torch.cat([m.standardize_inputs(m.train_X) for m in models])


def test_indexed_as_the_tables_below_each_other(models: list[RoMAModel]) -> None:
    rows, Z = StandardizedRows(models), standardized(models)
    index = torch.tensor([[3, 0, 39], [40, 79, 41]])  # each line of one model
    assert torch.equal(rows[index], Z[index])
    assert torch.equal(rows[index[1]], Z[index[1]])
    alone = StandardizedRows(models[:1])
    assert torch.equal(alone[index[:1]], Z[index[:1]])


@pytest.mark.usefixtures("small_chunks")
def test_chunks_of_the_rows_selected(models: list[RoMAModel]) -> None:
    Z = standardized(models)
    index = torch.arange(79, 40, -1)
    parts = list(StandardizedRows(models).select(index).chunks())
    assert [len(p) for p in parts] == [16, 16, 7]
    assert torch.equal(torch.cat(parts), Z[index])
    assert torch.equal(torch.cat(list(StandardizedRows(models[:1]).chunks())), Z[:N])


def test_one_table_of_several_models_is_there_once(models: list[RoMAModel]) -> None:
    X = models[0].train_X
    twins = [RoMAModel(X, X[:, :1], Normalize(D)) for _ in range(3)]
    ((Z, T, V),) = standardized_tables(twins)
    assert torch.equal(Z, standardized(twins[:1]))
    assert torch.equal(T, twins[0].standardize_outcomes(X[:, :1], X=X))
    assert V is None
    noisy = RoMAModel(X, X[:, :1], Normalize(D), train_Yvar=torch.ones_like(X[:, :1]))
    first, second, third, fourth = standardized_tables([*twins[:1], models[1], *twins[1:2], noisy])
    assert first is third
    assert torch.equal(second[0], standardized(models[1:]))
    assert torch.equal(fourth[0], first[0])
    assert fourth[2] is not None

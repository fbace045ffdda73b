from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from botorch_roma.tasks import oracles
from botorch_roma.tasks.oracles import ForestOracle, TableOracle

# Every sequence of two letters: a table small enough to write by hand.
ALL_PAIRS = torch.cartesian_prod(torch.arange(4), torch.arange(4))


class TestTableOracle:
    def test_looks_up(self) -> None:
        """In whatever order the table is, and with rows that repeat."""
        order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
        order = torch.cat([order, order[:3]])
        oracle = TableOracle(ALL_PAIRS[order].to(torch.uint8), order.double())
        values = oracle(ALL_PAIRS.double())
        assert values.tolist() == list(range(16))
        assert values.dtype == torch.double

    def test_dtype_is_that_of_the_designs(self) -> None:
        oracle = TableOracle(ALL_PAIRS, torch.arange(16.0).double())
        assert oracle(ALL_PAIRS[:2].float()).dtype == torch.float32

    def test_other_alphabets(self) -> None:
        oracle = TableOracle(
            torch.arange(3).unsqueeze(-1), torch.tensor([5.0, 7.0, 9.0]), num_classes=3
        )
        assert oracle(torch.tensor([[2.0], [0.0]])).tolist() == [9.0, 5.0]

    def test_pickles(self) -> None:
        oracle = pickle.loads(pickle.dumps(TableOracle(ALL_PAIRS, torch.arange(16.0))))
        assert oracle(torch.tensor([[3.0, 3.0]])).tolist() == [15.0]

    def test_incomplete_table(self) -> None:
        message = r"all 16 sequences.*received 15 sequences; the table is damaged"
        with pytest.raises(ValueError, match=message):
            TableOracle(ALL_PAIRS[1:], torch.zeros(15))

    def test_rows_that_disagree(self) -> None:
        tokens = torch.cat([ALL_PAIRS, ALL_PAIRS[:1]])
        with pytest.raises(ValueError, match="`y` one value for each; received 16 sequences"):
            TableOracle(tokens, torch.arange(17.0))

    def test_values_that_are_missing(self) -> None:
        y = torch.arange(16.0)
        y[3] = torch.nan
        with pytest.raises(ValueError, match="the table is damaged"):
            TableOracle(ALL_PAIRS, y)

    def test_unknown_token(self) -> None:
        with pytest.raises(ValueError, match=r"`tokens` must be integers from 0 to 3, .* with 4"):
            TableOracle(ALL_PAIRS + 1, torch.arange(16.0))


@pytest.fixture
def table() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).random((60, 2)).astype(np.float32)
    return x, x[:, 0] - x[:, 1]


class TestForestOracle:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(oracles, "FOREST_ROWS", 40)

    def designs(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).double()

    def test_fitted_when_it_is_first_called_and_once(
        self, table: tuple[np.ndarray, np.ndarray]
    ) -> None:
        oracle = ForestOracle(*table)
        assert not oracle.is_fitted
        first = oracle(self.designs(table[0]))
        assert oracle.is_fitted
        forest = oracle._forest
        assert torch.equal(oracle(self.designs(table[0])), first)
        assert oracle._forest is forest
        assert first.shape == (60,)

    def test_knows_its_rows_better_than_others(self, table: tuple[np.ndarray, np.ndarray]) -> None:
        oracle, (x, y) = ForestOracle(*table), table
        error = (oracle(self.designs(x)) - torch.from_numpy(y)).abs().numpy()
        rows = oracle.training_rows()
        others = np.setdiff1d(np.arange(60), rows)
        assert len(np.unique(rows)) == 40
        assert 0.0 < error[rows].mean() < error[others].mean() < 0.2

    def test_deterministic_whatever_the_dtype(self, table: tuple[np.ndarray, np.ndarray]) -> None:
        np.random.seed(1)
        first = ForestOracle(*table)(self.designs(table[0]))
        np.random.seed(2)
        again = ForestOracle(*table)
        assert torch.equal(again(self.designs(table[0])), first)
        single = again(torch.from_numpy(table[0]))
        assert single.dtype == torch.float32
        torch.testing.assert_close(single, first.float())

    def test_published_settings(self, table: tuple[np.ndarray, np.ndarray]) -> None:
        oracle = ForestOracle(*table, n_jobs=2)
        oracle(self.designs(table[0][:1]))
        parameters = oracle._forest.get_params()
        expected = {"n_estimators": 100, "max_depth": 100, "max_features": 1.0, "n_jobs": 2}
        assert {name: parameters[name] for name in expected} == expected

    def test_pickles_before_and_after_the_fit(self, table: tuple[np.ndarray, np.ndarray]) -> None:
        oracle = ForestOracle(*table)
        early = pickle.loads(pickle.dumps(oracle))
        assert not early.is_fitted
        values = oracle(self.designs(table[0]))
        late = pickle.loads(pickle.dumps(oracle))
        assert late.is_fitted
        assert torch.equal(early(self.designs(table[0])), values)
        assert torch.equal(late(self.designs(table[0])), values)


def test_size_of_the_published_forest() -> None:
    assert (oracles.FOREST_ROWS, oracles.FOREST_SEED) == (2_000, 0)


# Every sequence of two letters of three.
THREE_PAIRS = torch.cartesian_prod(torch.arange(3), torch.arange(3))
NINE = torch.arange(9.0)


class TestIncompleteTables:
    @pytest.mark.parametrize("last_wins", [False, True])
    def test_missing_sequences_are_refused(self, last_wins: bool) -> None:
        with pytest.raises(ValueError, match=r"all 9 sequences.*received 8 sequences"):
            TableOracle(THREE_PAIRS[1:], NINE[1:], num_classes=3, last_wins=last_wins)

    def test_missing_sequences_have_a_value_where_one_is_given(self) -> None:
        oracle = TableOracle(THREE_PAIRS[2:], NINE[2:], num_classes=3, missing=-1.0)
        assert oracle.num_missing == 2
        assert oracle(THREE_PAIRS.float()).tolist() == [-1.0, -1.0, *range(2, 9)]

    def test_last_row_wins(self) -> None:
        tokens, y = THREE_PAIRS.repeat(3, 1), torch.arange(27.0)
        assert TableOracle(tokens, y, num_classes=3, last_wins=True)(THREE_PAIRS).tolist() == list(
            range(18, 27)
        )
        for missing in (None, 0.0):
            with pytest.raises(ValueError, match="one value for each"):
                TableOracle(tokens, y, num_classes=3, missing=missing)

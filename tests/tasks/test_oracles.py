from __future__ import annotations

import pytest
import torch

from botorch_roma.tasks.oracles import TableOracle

# Every sequence of two letters, in the order of their numbers.
PAIRS = torch.cartesian_prod(torch.arange(3), torch.arange(3))
VALUES = torch.arange(9.0)


class TestTableOracle:
    def test_looks_up(self) -> None:
        order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
        oracle = TableOracle(PAIRS[order].to(torch.uint8), VALUES[order], num_classes=3)
        assert torch.equal(oracle(PAIRS.double()), VALUES.double())
        assert oracle.num_missing == 0

    @pytest.mark.parametrize("last_wins", [False, True])
    def test_missing_sequences_are_refused(self, last_wins: bool) -> None:
        with pytest.raises(ValueError, match=r"all 9 sequences.*received 8 sequences"):
            TableOracle(PAIRS[1:], VALUES[1:], num_classes=3, last_wins=last_wins)

    def test_missing_sequences_have_a_value_where_one_is_given(self) -> None:
        oracle = TableOracle(PAIRS[2:], VALUES[2:], num_classes=3, missing=-1.0)
        assert oracle.num_missing == 2
        assert oracle(PAIRS.float()).tolist() == [-1.0, -1.0, *range(2, 9)]

    def test_last_row_wins(self) -> None:
        tokens, y = PAIRS.repeat(3, 1), torch.arange(27.0)
        assert TableOracle(tokens, y, num_classes=3, last_wins=True)(PAIRS).tolist() == list(
            range(18, 27)
        )
        for missing in (None, 0.0):
            with pytest.raises(ValueError, match="one value for each"):
                TableOracle(tokens, y, num_classes=3, missing=missing)

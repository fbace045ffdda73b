from __future__ import annotations

from typing import Any

import pytest
import torch

from botorch_roma.baselines.training import num_epochs, take_step


@pytest.mark.parametrize(
    ("max_batches", "num_rows", "expected"),
    [
        (None, 100, 5),
        (1_000, 100, 5),
        (50, 100, 5),
        (49, 100, 4),
        (30, 100, 3),
        (33, 101, 3),  # the last of 11 minibatches is one row
        (32, 101, 2),
        (30, 91, 3),
        (1, 100, 1),  # one pass is the least
    ],
)
def test_passes_under_a_limit(max_batches: int | None, num_rows: int, expected: int) -> None:
    assert num_epochs(5, max_batches, num_rows, 10) == expected


@pytest.mark.parametrize("name", ["epochs", "max_batches", "batch_size"])
@pytest.mark.parametrize("value", [0, 1.5])
def test_bad_numbers(name: str, value: Any) -> None:
    options: dict[str, Any] = {"epochs": 5, "max_batches": 3, "batch_size": 10, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1"):
        num_epochs(num_rows=20, **options)


def test_a_step_forgets_the_gradient_before() -> None:
    x = torch.nn.Parameter(torch.tensor([2.0, -1.0]))
    optimizer = torch.optim.SGD([x], lr=0.25)
    take_step(optimizer, x.square().sum())
    assert x.tolist() == [1.0, -0.5]
    take_step(optimizer, x.square().sum())
    assert x.tolist() == [0.5, -0.25]

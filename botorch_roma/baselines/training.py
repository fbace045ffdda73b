r"""
What the training loops of the comparison methods share.
"""

from __future__ import annotations

import torch
from torch import Tensor

from botorch_roma.validation import check_int


def num_epochs(epochs: int, max_batches: int | None, num_rows: int, batch_size: int) -> int:
    r"""Passes over the data under a limit on minibatches; at least one.

    Args:
        epochs: Passes without the limit.
        max_batches: The limit; None for none.
        num_rows: Number of rows.
        batch_size: Rows in a minibatch.

    Raises:
        ValueError: For numbers below 1.
    """
    check_int("epochs", epochs, minimum=1)
    check_int("batch_size", batch_size, minimum=1)
    if max_batches is None:
        return epochs
    batches = -(-num_rows // batch_size)
    return max(1, min(epochs, check_int("max_batches", max_batches, minimum=1) // batches))


def take_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of an optimiser down a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()

r"""
What is left of a training for later: its curves, and what they are made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from scipy.stats import rankdata
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

#: Below this rank correlation the command and the page say that the proxy has learnt little.
LOW_CORRELATION: float = 0.2


@dataclass
class FitHistory:
    r"""What happened during :func:`~botorch_roma.fit.fit_roma_model`, one entry per finished epoch.

    Attributes:
        loss: Mean training loss at the perturbed weights, on noisy inputs.
        validation_loss: Loss on the held-out rows (on the training rows where none are held
            out), plain weights and inputs.
        rank_correlation: Spearman correlation of prediction and outcome on the same rows, mean over
            outputs; None where it is undefined: for one row, or where all predictions or all
            outcomes are equal.
        seconds: Wall time since the start.
        best_epoch: Epoch with the lowest validation loss, counted from 0 (mean over networks).
        timed_out: Whether ``timeout_sec`` ended the training; the best state was kept then.
        validation_indices: Indices of the held-out rows.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    rank_correlation: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1
    timed_out: bool = False
    validation_indices: list[int] = field(default_factory=list)

    def to_frame(self) -> pd.DataFrame:
        """The curves as a data frame with one row per epoch; what is undefined is missing."""
        import pandas as pd

        names = ("loss", "validation_loss", "rank_correlation", "seconds")
        return pd.DataFrame({name: getattr(self, name) for name in names}, dtype=float)


def rank_correlation(prediction: Tensor, outcome: Tensor) -> float | None:
    r"""Spearman's rank correlation of two vectors; None where one of them is constant."""
    ranks = [torch.as_tensor(rankdata(t.detach().cpu().numpy())) for t in (prediction, outcome)]
    if min(r.std(correction=0).item() for r in ranks) == 0.0:
        return None
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()

r"""
What becomes of trained networks: their variance calibrated, their predictions given a scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from botorch_roma.network import Layer, soft_bound_log_std


def variance_scale(mean: Tensor, raw_log_std: Tensor, T: Tensor, V: Tensor | None) -> Tensor:
    r"""Factor ``c`` of the head variance that calibrates each output on held-out rows.

    With the ensemble's spread and the known noise on top, ``mean(residual^2 / (c * head +
    spread + noise)) = 1``, which falls in ``c``: solved by bisection. Where these are too wide
    by themselves ``c`` is left tiny.

    Args:
        mean: Predicted means, ``E x O x N``: members, outputs, rows.
        raw_log_std: Log-std before its soft bound, likewise.
        T: Standardised outcomes, ``N x O``.
        V: Known variances of their noise, ``N x O``, or None.

    Returns:
        The factors, ``O``.
    """
    head = torch.exp(2.0 * soft_bound_log_std(raw_log_std)).mean(dim=0)
    spread = mean.var(dim=0, correction=0) if len(mean) > 1 else torch.zeros_like(head)
    if V is not None:
        spread = spread + V.mT
    squares = (T.mT - mean.mean(dim=0)).square()
    low = torch.full_like(head[:, :1], 1e-6)
    high = (squares / head).mean(dim=-1, keepdim=True).clamp_min(1e-6)  # right without spread
    for _ in range(60 if spread.any() else 0):
        middle = (low + high) / 2
        too_small = (squares / (middle * head + spread)).mean(dim=-1, keepdim=True) > 1
        low, high = torch.where(too_small, middle, low), torch.where(too_small, high, middle)
    return high.squeeze(-1)


def standardize_head(head: Layer, mean: Tensor) -> None:
    r"""Change the mean heads so that what the networks predict has mean 0 and deviation 1.

    A ranking loss leaves both free, and stage 2 counts in standard deviations of the outcome.

    Args:
        head: The mean heads of ``S`` networks, changed in place.
        mean: What they predict for the data now, ``S x N``.
    """
    std = mean.std(dim=-1, correction=0, keepdim=True)
    std = torch.where(std > 0, std, torch.ones_like(std))
    head.bias.sub_(mean.mean(dim=-1, keepdim=True)).div_(std)
    head.weight.div_(std.unsqueeze(-1))

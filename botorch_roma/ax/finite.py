r"""
Finite search spaces: how many designs are left, counted exactly where they can be written down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from ax.exceptions.core import SearchSpaceExhausted
from torch import Tensor

from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.initializers import distinct_keys

#: Designs up to which a finite search space is written down.
MAX_ENUMERATED: int = 100_000

#: Columns that move together (one input or one one-hot group), and the values they can take.
Block = tuple[list[int], Tensor]


def check_not_exhausted(
    n: int,
    avoid: Tensor,
    choices: Mapping[int, Sequence[float]],
    groups: Sequence[Sequence[int]],
    feasible_set: FeasibleSet,
) -> Tensor | None:
    r"""The designs of a finite search space that are new.

    Args:
        n: Number of designs asked for.
        avoid: Designs that are not new, ``m x d``, also ones outside of the search space.
        choices: Index to allowed values of discrete inputs.
        groups: Indices of the columns of each one-hot encoded input.
        feasible_set: Bounds, fixed features and linear constraints.

    Returns:
        All new, feasible designs, or None where a search space is infinite, or too large to be
        written down (:data:`MAX_ENUMERATED`).

    Raises:
        SearchSpaceExhausted: If there are fewer than ``n`` of them.
    """
    blocks = _blocks(choices, groups, feasible_set)
    if blocks is None:
        return None
    scale = feasible_set.scale
    size = math.prod(len(values) for _, values in blocks)
    if size > MAX_ENUMERATED:
        if size - len(avoid) < n:
            avoid = avoid[_on_grid(avoid, blocks)]
            known = len(set(distinct_keys(avoid, scale)))
            _raise_if_fewer(n, size, known)
        return None
    designs = _product(blocks, feasible_set.bounds)
    if feasible_set.has_linear:
        designs = designs[feasible_set.violation(designs) <= feasible_set.tolerance]
    known_keys = set(distinct_keys(avoid, scale))
    new = torch.tensor([k not in known_keys for k in distinct_keys(designs, scale)])
    _raise_if_fewer(n, len(designs), int((~new).sum()))
    return designs[new.to(designs.device)]


def _raise_if_fewer(n: int, size: int, known: int) -> None:
    if size - known < n:
        raise SearchSpaceExhausted(
            f"{n} new designs were requested, but of the {size} designs of this search space "
            f"(within its constraints and fixed features) {known} are already in the experiment; "
            "request fewer, or widen the search space."
        )


def _blocks(
    choices: Mapping[int, Sequence[float]],
    groups: Sequence[Sequence[int]],
    feasible_set: FeasibleSet,
) -> list[Block] | None:
    """The factors of the search space, or None if one of them is continuous."""
    bounds, fixed = feasible_set.bounds, feasible_set.fixed
    blocks: list[Block] = []
    grouped: set[int] = set()
    for group in groups:
        grouped.update(group)
        if set(group) <= fixed.keys():
            values = bounds.new_tensor([[fixed[i] for i in group]])
        else:
            values = torch.eye(len(group)).to(bounds)
        blocks.append((list(group), values))
    for i in range(bounds.shape[1]):
        if i in grouped:
            continue
        if i in fixed:
            blocks.append(([i], bounds.new_tensor([[fixed[i]]])))
        elif i in choices:
            blocks.append(([i], bounds.new_tensor(list(choices[i])).unsqueeze(-1)))
        else:
            return None
    return blocks


def _product(blocks: Sequence[Block], bounds: Tensor) -> Tensor:
    """All designs, one value of each block."""
    size = math.prod(len(values) for _, values in blocks)
    rest = torch.arange(size, device=bounds.device)
    designs = bounds.new_zeros(size, bounds.shape[1])
    for columns, values in blocks:
        designs[:, columns] = values[rest % len(values)]
        rest = rest // len(values)
    return designs


def _on_grid(X: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Which of the rows take an allowed value in every block."""
    fits = torch.ones(len(X), dtype=torch.bool, device=X.device)
    for columns, values in blocks:
        distance = torch.cdist(X[:, columns], values, p=float("inf"))
        fits &= distance.min(dim=-1).values <= 1e-6 * values.abs().max().clamp_min(1.0)
    return fits

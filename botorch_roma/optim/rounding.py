r"""
Discrete inputs: the nearest allowed values, within the linear constraints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from botorch.exceptions.errors import InfeasibilityError
from torch import Tensor

from botorch_roma.optim.constraints import FeasibleSet

#: Steps of discrete inputs, one value at a time, tried to make one design feasible again.
MAX_REPAIR_STEPS: int = 1000


class DiscreteRounding:
    r"""A ``post_processing_func`` that rounds discrete inputs.

    A one-hot group becomes the corner of its largest entry, a discrete input its nearest allowed
    value. Where that breaks a linear constraint, the continuous inputs give way, and if that is
    not enough discrete inputs move, one value at a time, to satisfy it.

    Args:
        feasible_set: Bounds, fixed features and linear constraints.
        discrete_choices: Index to allowed values.
        one_hot_groups: Indices of the columns of each one-hot encoded input.

    Example:
        >>> rounding = DiscreteRounding(FeasibleSet(bounds), {3: [0.0, 0.5, 1.0]})
        >>> acq = PosteriorMean(model)
        >>> best, values = optimize_acqf_roma(acq, bounds, q=128, post_processing_func=rounding)
    """

    def __init__(
        self,
        feasible_set: FeasibleSet,
        discrete_choices: Mapping[int, Sequence[float]] | None = None,
        one_hot_groups: Sequence[Sequence[int]] = (),
    ) -> None:
        self.feasible_set = feasible_set
        self.groups = [list(group) for group in one_hot_groups]
        grouped = {i for group in self.groups for i in group}
        self.choices = {
            i: feasible_set.bounds.new_tensor(sorted(values))
            for i, values in (discrete_choices or {}).items()
            if i not in grouped and i not in feasible_set.fixed
        }
        self._discrete = sorted({*grouped, *self.choices, *feasible_set.fixed})

    def __call__(self, X: Tensor) -> Tensor:
        r"""Rounded designs, ``n x d``.

        Raises:
            InfeasibilityError: If no rounding of a design was found that is feasible.
        """
        X = X.clone()
        for group in self.groups:
            largest = X[:, group].argmax(dim=-1, keepdim=True)
            X[:, group] = torch.zeros_like(X[:, group]).scatter_(1, largest, 1.0)
        for i, values in self.choices.items():
            X[:, i] = values[_nearest(values, X[:, i])]
        if self.feasible_set.has_linear:
            broken = self.feasible_set.violation(X) > self.feasible_set.tolerance
            for row in broken.nonzero().flatten().tolist():
                X[row] = self._repair(X[row])
        return X

    def _repair(self, x: Tensor) -> Tensor:
        r"""A feasible design close to a rounded one that is not, ``d``."""
        allowed = self.feasible_set
        for _ in range(MAX_REPAIR_STEPS):
            fixed = {i: x[i].item() for i in self._discrete}
            try:
                return FeasibleSet(
                    allowed.bounds,
                    fixed_features=fixed,
                    inequality_constraints=allowed.inequality_constraints,
                    equality_constraints=allowed.equality_constraints,
                    scale=allowed.scale,
                ).project(x.unsqueeze(0), final=True)[0]
            except InfeasibilityError:  # not with these values of the discrete inputs
                moved = self._step(x)
            if moved is None:
                break
            x = moved
        raise InfeasibilityError(
            "A candidate's discrete inputs could not be rounded within the linear constraints; "
            "relax these, or pass other `batch_initial_conditions`."
        )

    def _step(self, x: Tensor) -> Tensor | None:
        r"""The cheapest step of one discrete input that mends the worst broken constraint."""
        gaps = [(b - x @ a, a) for a, b in self.feasible_set.inequalities]
        for a, b in self.feasible_set.equalities:
            gaps += [(b - x @ a, a), (x @ a - b, -a)]
        for _, a in sorted(gaps, key=lambda gap: -gap[0].item()):
            best: tuple[float, int, Tensor] | None = None
            for i, values in self.choices.items():
                at = int(_nearest(values, x[i : i + 1])) + int(a[i].sign())
                if a[i] == 0 or not 0 <= at < len(values):
                    continue
                unit = self.feasible_set.scale[i].clamp_min(1e-12)
                cost = ((values[at] - x[i]).abs() / unit / a[i].abs()).item()
                if best is None or cost < best[0]:
                    best = (cost, i, values[at])
            if best is not None:
                x = x.clone()
                x[best[1]] = best[2]
                return x
        return None


def _nearest(values: Tensor, x: Tensor) -> Tensor:
    r"""Index of the entry of sorted ``values`` nearest to each entry of ``x``."""
    above = torch.searchsorted(values, x.contiguous()).clamp(1, max(1, len(values) - 1))
    below = above - 1
    above = above.clamp(max=len(values) - 1)
    return torch.where(x - values[below] <= values[above] - x, below, above)

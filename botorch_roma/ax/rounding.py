r"""
Ax's own rounding (``digits``), kept within the linear constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from botorch.exceptions.errors import InfeasibilityError
from torch import Tensor

from botorch_roma.optim.constraints import FeasibleSet, LinearConstraint
from botorch_roma.optim.rounding import DiscreteRounding

#: How often the constraints are tightened before a design is given up.
MAX_TRIES: int = 30


class AxRounding:
    r"""A ``post_processing_func``: discrete inputs first, then what Ax rounds itself.

    Ax rounds parameters with ``digits`` without regard to constraints. Where that breaks one, the
    constraint is tightened by as much as it was broken, and the design is projected and rounded
    anew.

    Args:
        feasible_set: Bounds, fixed features and linear constraints.
        discrete_choices: Index to allowed values.
        one_hot_groups: Indices of the columns of each one-hot encoded input.
        rounding_func: Ax's rounding of ``n x d`` designs, if any.
    """

    def __init__(
        self,
        feasible_set: FeasibleSet,
        discrete_choices: Mapping[int, Sequence[float]],
        one_hot_groups: Sequence[Sequence[int]],
        rounding_func: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.feasible_set = feasible_set
        self.choices = discrete_choices
        self.groups = one_hot_groups
        self.rounding_func = rounding_func
        self.discrete = DiscreteRounding(feasible_set, discrete_choices, one_hot_groups)

    def __call__(self, X: Tensor) -> Tensor:
        r"""Rounded designs, ``n x d``.

        Raises:
            InfeasibilityError: If no rounding of a design was found that is feasible.
        """
        X = self.discrete(X)
        if self.rounding_func is None:
            return X
        rounded = self.rounding_func(X).to(X)
        if self.feasible_set.has_linear:
            broken = self.feasible_set.violation(rounded) > self.feasible_set.tolerance
            for row in broken.nonzero().flatten().tolist():
                rounded[row] = self._repair(X[row : row + 1], rounded[row : row + 1])
        return rounded

    def _repair(self, X: Tensor, rounded: Tensor) -> Tensor:
        r"""A rounded, feasible design close to ``X``, both ``1 x d``."""
        assert self.rounding_func is not None
        allowed = self.feasible_set
        given: list[LinearConstraint] = allowed.inequality_constraints or []
        margins = [0.0] * len(given)
        for _ in range(MAX_TRIES):
            for k, (a, b) in enumerate(allowed.inequalities):
                gap = b - (rounded @ a).item()
                margins[k] += gap if gap > allowed.tolerance else 0.0
            tightened = [
                (i, c, b + margin) for (i, c, b), margin in zip(given, margins, strict=True)
            ]
            try:
                smaller = FeasibleSet(
                    allowed.bounds,
                    fixed_features=allowed.fixed,
                    inequality_constraints=tightened,
                    equality_constraints=allowed.equality_constraints,
                    scale=allowed.scale,
                )
                discrete = DiscreteRounding(smaller, self.choices, self.groups)
                moved = discrete(smaller.project(X, final=True))
            except InfeasibilityError:
                break
            rounded = self.rounding_func(moved).to(X)
            if not bool((allowed.violation(rounded) > allowed.tolerance).any()):
                return rounded[0]
        raise InfeasibilityError(
            "A candidate could not be rounded to the `digits` of its parameters within the "
            "parameter constraints; allow more digits, or relax the constraints."
        )

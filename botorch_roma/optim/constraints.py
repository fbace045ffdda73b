r"""
The set of allowed designs: bounds, fixed features, linear and nonlinear constraints.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from botorch.exceptions.errors import (
    CandidateGenerationError,
    InfeasibilityError,
    UnsupportedError,
)
from botorch.optim.parameter_constraints import (
    get_constraint_tolerance,
    project_to_feasible_space_via_slsqp,
)
from scipy.optimize import linprog
from torch import Tensor

from botorch_roma.validation import check_bounds, check_mapping

LinearConstraint = tuple[Tensor, Tensor, float]
NonlinearConstraint = tuple[Callable[[Tensor], Tensor], bool]

MAX_CYCLES: int = 2000


class FeasibleSet:
    r"""Allowed designs, with projection in the scale of the data.

    Args:
        bounds: Lower and upper bounds, ``2 x d``.
        fixed_features: Index to value; negative indices count from the end.
        inequality_constraints: ``(indices, coefficients, rhs)`` for ``sum x_i c_i >= rhs``.
        equality_constraints: The same for ``==``.
        nonlinear_inequality_constraints: ``(callable, True)`` with ``callable(x) >= 0`` at a
            feasible ``x`` of shape ``d``.
        scale: Length unit of each input, ``d``; projections are orthogonal in these units. An
            input with scale 0 is left where it is.

    Raises:
        ValueError: Malformed bounds, fixed features or constraints.
        UnsupportedError: Constraints that link several candidates.
        InfeasibilityError: Constraints that contradict each other.
    """

    def __init__(
        self,
        bounds: Tensor,
        *,
        fixed_features: Mapping[int, float | Tensor] | None = None,
        inequality_constraints: list[LinearConstraint] | None = None,
        equality_constraints: list[LinearConstraint] | None = None,
        nonlinear_inequality_constraints: list[NonlinearConstraint] | None = None,
        scale: Tensor | None = None,
    ) -> None:
        self.bounds = check_bounds(bounds)
        d = bounds.shape[1]
        self.fixed = _check_fixed_features(fixed_features, bounds)
        self.scale = torch.ones_like(bounds[0]) if scale is None else scale
        self.inequalities = _rows("inequality_constraints", inequality_constraints, bounds)
        self.equalities = _rows("equality_constraints", equality_constraints, bounds)
        self.nonlinear = _check_nonlinear(nonlinear_inequality_constraints)
        self.inequality_constraints = inequality_constraints
        self.equality_constraints = equality_constraints
        self.tolerance = get_constraint_tolerance(bounds.dtype)
        self.free = self.scale > 0
        self.free[list(self.fixed)] = False
        self._fixed_values = bounds.new_tensor(list(self.fixed.values()))
        if self.has_linear:
            self._check_not_contradictory(d)

    @property
    def has_linear(self) -> bool:
        """Whether there are linear constraints."""
        return bool(self.inequalities or self.equalities)

    def _check_not_contradictory(self, d: int) -> None:
        lower, upper = (b.double().cpu().numpy().copy() for b in self.bounds)
        for i, value in self.fixed.items():
            lower[i] = upper[i] = value
        stack = [
            (np.stack([a.double().cpu().numpy() for a, _ in rows]), np.array([b for _, b in rows]))
            if rows
            else (None, None)
            for rows in (self.inequalities, self.equalities)
        ]
        (a_ub, b_ub), (a_eq, b_eq) = stack
        result = linprog(
            np.zeros(d),
            A_ub=None if a_ub is None else -a_ub,
            b_ub=None if b_ub is None else -b_ub,
            A_eq=a_eq,
            b_eq=b_eq,
            bounds=np.stack([lower, upper], axis=1),
        )
        if result.status == 2:
            raise InfeasibilityError(
                "`inequality_constraints`, `equality_constraints`, `fixed_features` and `bounds` "
                f"contradict each other: no design satisfies all of them ({result.message}). "
                "Relax one of them."
            )

    def fix(self, X: Tensor) -> Tensor:
        r"""``... x d`` designs with the fixed features overwritten (a copy where there are any)."""
        if self.fixed:
            X = X.clone()
            X[..., list(self.fixed)] = self._fixed_values
        return X

    def project(self, X: Tensor, *, final: bool = False) -> Tensor:
        r"""The nearest designs within bounds, fixed features and linear constraints.

        Args:
            X: Designs, ``B x d``.
            final: Make sure that the constraints hold to BoTorch's tolerance.

        Raises:
            InfeasibilityError: If ``final`` and a design cannot be made feasible.
        """
        wanted = self.fix(X)
        X = self._clamp(wanted)
        if not self.has_linear:
            return X
        rows = (self.violation(X) > self.tolerance).nonzero().flatten()
        if len(rows):  # the nearest design to `wanted` is not the nearest to its clamped form
            X[rows] = self._dykstra(wanted[rows])
        if final:
            self._polish(X)
        return X

    def _clamp(self, X: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(X, self.bounds[1]), self.bounds[0])

    def violation(self, X: Tensor) -> Tensor:
        r"""Largest violation of a linear constraint by each of ``B x d`` designs, ``B``."""
        worst = torch.zeros_like(X[:, 0])
        for a, b in self.inequalities:
            worst = torch.maximum(worst, b - X @ a)
        for a, b in self.equalities:
            worst = torch.maximum(worst, (X @ a - b).abs())
        return worst

    def _dykstra(self, X: Tensor) -> Tensor:
        r"""Dykstra's alternating projections, in units of ``scale``, on the free inputs.

        A feasible iterate need not be the nearest one: stop once the corrections stand still.
        """
        unit = torch.where(self.free, self.scale, torch.zeros_like(self.scale))
        safe = torch.where(self.free, self.scale, torch.ones_like(self.scale))
        rows = [(a, b, False) for a, b in self.inequalities]
        rows += [(a, b, True) for a, b in self.equalities]
        memory = [torch.zeros_like(X) for _ in rows]
        box = torch.zeros_like(X)
        eps = torch.finfo(X.dtype).eps
        for _ in range(MAX_CYCLES):
            before = [*memory, box]
            for k, (a, b, equality) in enumerate(rows):
                normal = a * unit
                length = normal.square().sum()
                if length == 0:  # only of inputs that cannot move
                    continue
                Y = X + memory[k]
                gap = (b - Y @ a) / length
                X = Y + (gap if equality else gap.clamp_min(0.0)).unsqueeze(-1) * normal * safe
                memory[k] = Y - X
            Y = X + box
            X = self._clamp(Y)
            box = Y - X
            still = 0.1 * self.tolerance * safe + 8 * eps * X.abs()
            after = [*memory, box]
            if all(
                bool(((p - q).abs() <= still).all()) for p, q in zip(before, after, strict=True)
            ):
                break
        return X

    def _polish(self, X: Tensor) -> None:
        r"""Repair in place, with BoTorch's quadratic program, what Dykstra left violated."""
        kept = (~self.free).nonzero().flatten().tolist()
        for i in (self.violation(X) > self.tolerance).nonzero().flatten().tolist():
            with contextlib.suppress(CandidateGenerationError):  # what is left is reported below
                X[i] = project_to_feasible_space_via_slsqp(
                    X[i : i + 1],
                    self.bounds,
                    inequality_constraints=self.inequality_constraints,
                    equality_constraints=self.equality_constraints,
                    fixed_features={j: X[i, j].item() for j in kept} or None,
                )[0]
        worst = self.violation(X).max().item()
        if not worst <= 10 * self.tolerance:
            raise InfeasibilityError(
                "No candidate close by satisfies `inequality_constraints` and "
                f"`equality_constraints`: the largest violation left is {worst:g}. Relax them or "
                "pass feasible `batch_initial_conditions`."
            )

    def nonlinear_feasible(self, X: Tensor) -> Tensor:
        r"""Which of ``B x d`` designs satisfy all nonlinear constraints, ``B`` of bool."""
        feasible = [all(float(c(x)) >= 0.0 for c in self.nonlinear) for x in X.detach()]
        return torch.tensor(feasible, device=X.device)

    def with_nonlinear(self, constraints: list[NonlinearConstraint]) -> FeasibleSet:
        """The same set with other nonlinear constraints."""
        other = copy.copy(self)
        other.nonlinear = _check_nonlinear(constraints)
        return other

    def check_nonlinear(self, X: Tensor) -> None:
        r"""Raise ``InfeasibilityError`` if ``B x d`` start designs break nonlinear constraints."""
        if not self.nonlinear:
            return
        bad = (~self.nonlinear_feasible(X)).nonzero().flatten()
        if len(bad):
            raise InfeasibilityError(
                f"{len(bad)} of {len(X)} start designs (the first is number {int(bad[0])}) violate "
                "`nonlinear_inequality_constraints`; pass feasible `batch_initial_conditions`."
            )

    def retreat(self, X: Tensor, X_new: Tensor) -> Tensor:
        r"""Shorten steps from feasible ``X`` until the nonlinear constraints hold again."""
        if not self.nonlinear:
            return X_new
        result, step = X_new, 1.0
        bad = ~self.nonlinear_feasible(result)
        while bool(bad.any()) and step > 1e-3:
            step /= 2
            result = torch.where(bad.unsqueeze(-1), self.project(X + step * (X_new - X)), result)
            bad = bad.clone()
            bad[bad.clone()] = ~self.nonlinear_feasible(result[bad])
        return torch.where(bad.unsqueeze(-1), X, result)


def _check_fixed_features(
    fixed_features: Mapping[int, float | Tensor] | None, bounds: Tensor
) -> dict[int, float]:
    check_mapping("fixed_features", fixed_features)
    d, fixed = bounds.shape[1], {}
    for index, value in (fixed_features or {}).items():
        if isinstance(index, bool) or not isinstance(index, int) or not -d <= index < d:
            raise ValueError(
                f"`fixed_features` has the index {index!r}, it must be within [{-d}, {d - 1}]."
            )
        if isinstance(value, Tensor) and value.numel() != 1:
            raise UnsupportedError(
                f"`fixed_features[{index}]` must be one number for all candidates, received a "
                f"tensor of shape {tuple(value.shape)}."
            )
        try:
            i, number = index % d, float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"`fixed_features[{index}]` must be a number, received {value!r}."
            ) from None
        if not bounds[0, i] <= number <= bounds[1, i]:
            raise ValueError(
                f"`fixed_features[{index}]` must lie within its bounds "
                f"[{bounds[0, i].item():g}, {bounds[1, i].item():g}], received {number:g}."
            )
        if i in fixed:
            raise ValueError(
                f"`fixed_features` names input {i} twice, as {i} and {i - d}; leave one out."
            )
        fixed[i] = number
    return fixed


def _rows(
    name: str, constraints: list[LinearConstraint] | None, bounds: Tensor
) -> list[tuple[Tensor, float]]:
    r"""Linear constraints as dense rows ``(a, b)``."""
    d, rows = bounds.shape[1], []
    for k, constraint in enumerate(constraints or []):
        try:
            indices, coefficients, rhs = constraint
            good = isinstance(indices, Tensor) and isinstance(coefficients, Tensor)
            rhs = float(rhs)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ValueError(
                f"`{name}[{k}]` must be (indices, coefficients, right-hand side), two tensors and "
                f"a number, received {constraint!r}."
            )
        if indices.dim() != 1:
            raise UnsupportedError(
                f"`{name}[{k}]` links several candidates (indices of shape "
                f"{tuple(indices.shape)}); RoMA moves candidates independently, use 1-d indices."
            )
        if indices.shape != coefficients.shape or bool((indices < -d).any() | (indices >= d).any()):
            raise ValueError(
                f"`{name}[{k}]` needs indices within [{-d}, {d - 1}] and one coefficient each, "
                f"received indices {indices.tolist()} and {coefficients.numel()} coefficients."
            )
        if not (torch.isfinite(coefficients).all() and math.isfinite(rhs)):
            raise ValueError(
                f"`{name}[{k}]` must have finite coefficients and right-hand side, received "
                f"{coefficients.tolist()} and {float(rhs)}."
            )
        a = torch.zeros_like(bounds[0])
        a.index_add_(0, indices.to(a.device).long() % d, coefficients.to(a))
        rows.append((a, float(rhs)))
    return rows


def _check_nonlinear(
    constraints: list[NonlinearConstraint] | None,
) -> list[Callable[[Tensor], Tensor]]:
    for k, constraint in enumerate(constraints or []):
        try:
            function, is_intrapoint = constraint
        except (TypeError, ValueError):
            function, is_intrapoint = None, False
        if not callable(function):
            raise ValueError(
                f"`nonlinear_inequality_constraints[{k}]` must be (function, True), received "
                f"{constraint!r}."
            )
        if not is_intrapoint:
            raise UnsupportedError(
                f"`nonlinear_inequality_constraints[{k}]` links several candidates; RoMA moves "
                "candidates independently, use intra-point constraints."
            )
    return [c for c, _ in constraints or []]

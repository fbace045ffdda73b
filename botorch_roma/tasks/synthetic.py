r"""
Offline tasks made from test functions: free of data files, with an oracle that costs nothing.

Designs are drawn uniformly, and only the lower part of them is shown, as Design-Bench does: the
top of the range has to be found, not copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from botorch.test_functions.base import ConstrainedBaseTestProblem
from botorch.test_functions.synthetic import (
    Ackley,
    Branin,
    Hartmann,
    SyntheticTestFunction,
)
from torch import Tensor

from botorch_roma.tasks.offline_task import OfflineTask

# Keeps the table apart from `OfflineTask.random_designs` of the same seed, which would otherwise
# draw its first rows again, hidden ones among them.
_TABLE_STREAM = 0x5EED_0000


class ShiftedAckley(SyntheticTestFunction):
    r"""Ackley's function on ``[-10, 10]^d``, its minimum moved towards a corner of the box.

    ``f(x) = Ackley(x - x_opt)`` with ``x_opt = (6.5, -6.5, 6.5, ...)`` and ``f(x_opt) = 0``. The
    unshifted function is solved by the centre of the box; here the centre is worth about 0.26 on
    the full scale of the ``ackley6`` task, the minimiser 1.35.

    Args:
        dim: Dimension of the designs. Default: 6.
    """

    _optimal_value = 0.0
    _check_grad_at_opt = False

    def __init__(self, dim: int = 6) -> None:
        self.dim = dim
        self.continuous_inds = list(range(dim))
        self._optimizers = [tuple(6.5 if i % 2 == 0 else -6.5 for i in range(dim))]
        super().__init__(bounds=[(-10.0, 10.0)] * dim)
        self._ackley = Ackley(dim=dim)

    def _evaluate_true(self, X: Tensor) -> Tensor:
        # The inner function is asked without its own bounds check: X - x_opt may leave its box.
        return self._ackley._evaluate_true(X - self.get_buffer("optimizers")[0].to(X))


class RotatedQuadratic(SyntheticTestFunction):
    r"""A rotated quadratic bowl with cosine ripples on ``[-1, 1]^d``.

    ``f(x) = sum_i c_i z_i^2 + 0.5 (1 - cos(3 z_i))`` with ``z = R (x - x_opt)``, a random
    rotation ``R`` and curvatures ``c_i`` from 1 to 10 (geometric, then scaled to mean 1). Each
    coordinate of ``x_opt`` lies 0.6 to 0.9 from the centre, so uniform designs in ``d = 60``
    never come near the minimum ``f(x_opt) = 0``.

    Args:
        dim: Dimension of the designs. Default: 60.
        seed: Seed of the rotation and of the minimiser. Default: 0.
    """

    _optimal_value = 0.0

    def __init__(self, dim: int = 60, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        draw = partial(torch.rand, generator=generator, dtype=torch.float64)
        gauss = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
        sign = 1.0 - 2.0 * (draw(dim) < 0.5).double()
        self.dim = dim
        self.continuous_inds = list(range(dim))
        self._optimizers = [tuple((sign * (0.6 + 0.3 * draw(dim))).tolist())]
        super().__init__(bounds=[(-1.0, 1.0)] * dim)
        curvature = torch.logspace(0.0, 1.0, dim, dtype=torch.float64)
        self.register_buffer("curvature", curvature / curvature.mean())
        self.register_buffer("rotation", torch.linalg.qr(gauss).Q)

    def _evaluate_true(self, X: Tensor) -> Tensor:
        z = (X - self.get_buffer("optimizers")[0].to(X)) @ self.get_buffer("rotation").to(X).T
        bowl = self.get_buffer("curvature").to(X) * z.pow(2)
        return (bowl + 0.5 * (1.0 - torch.cos(3.0 * z))).sum(dim=-1)


SYNTHETIC_FUNCTIONS: dict[str, Callable[[], SyntheticTestFunction]] = {
    "ackley6": ShiftedAckley,
    "branin2": Branin,
    "hartmann6": Hartmann,
    "quadratic60": RotatedQuadratic,
}


def make_synthetic_task(
    function: SyntheticTestFunction,
    *,
    num_rows: int = 10_000,
    visible_fraction: float = 0.6,
    noise_std: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.double,
    name: str | None = None,
) -> OfflineTask:
    r"""Make an offline task from a noiseless test function.

    ``num_rows`` designs are drawn uniformly within the bounds of the function and measured; the
    rows up to the quantile ``visible_fraction`` of the measured values are visible. The oracle is
    the function itself, without noise, turned so that larger is better. The ``"full"`` scale is
    the range of all measured values, before any are hidden.

    Args:
        function: Any continuous, unconstrained, noiseless test function of BoTorch.
        num_rows: Rows of the full table. Default: 10,000.
        visible_fraction: Fraction of the rows that is visible, the lowest ones. Default: 0.6.
        noise_std: Standard deviation of the noise on the measured values, in their units.
            Default: 0.
        seed: Seed of designs and noise; the global random state is left alone. Default: 0.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        name: Name of the task. Default: the class of the function and its dimension.

    Returns:
        The task, its oracle not yet called.

    Raises:
        ValueError: If the function or one of the numbers does not fit the above.

    Example:
        >>> task = make_synthetic_task(Hartmann(dim=3), num_rows=2_000)
    """
    _check_function(function)
    _check_numbers(num_rows, visible_fraction, noise_std, dtype)
    generator = torch.Generator().manual_seed(seed + _TABLE_STREAM)
    oracle = partial(_maximised, function)
    bounds = function.get_buffer("bounds")
    low, high = bounds.double()
    unit = torch.rand(num_rows, function.dim, generator=generator, dtype=torch.float64)
    X = (low + (high - low) * unit).to(dtype)
    noise = torch.randn(num_rows, generator=generator, dtype=torch.float64)
    Y = oracle(X).double() + noise_std * noise
    visible = Y.le(Y.quantile(visible_fraction))
    return OfflineTask(
        name=name or f"{type(function).__name__.lower()}{function.dim}",
        X=X[visible],
        Y=Y[visible].unsqueeze(-1).to(dtype),
        bounds=bounds.to(dtype),
        oracle=oracle,
        ranges={"full": (Y.min().item(), Y.max().item())},
        description=(
            f"{type(function).__name__}, d = {function.dim}, maximised: {num_rows:,} uniform rows, "
            f"the lowest {100 * visible_fraction:g} % visible, noise of {noise_std:g}."
        ),
        provenance="Generated; test functions of BoTorch and of this package.",
    )


def load_synthetic(name: str, **options: Any) -> OfflineTask:
    """Make one of the named tasks.

    Args:
        name: A key of ``SYNTHETIC_FUNCTIONS``: ``"ackley6"``, ``"branin2"``, ``"hartmann6"`` or
            ``"quadratic60"``.
        options: Keyword arguments of ``make_synthetic_task``.

    Returns:
        The task, its oracle not yet called.

    Raises:
        ValueError: If ``name`` is unknown, and as ``make_synthetic_task``.
    """
    if name not in SYNTHETIC_FUNCTIONS:
        raise ValueError(f"`name` must be one of {sorted(SYNTHETIC_FUNCTIONS)}, received {name!r}.")
    return make_synthetic_task(SYNTHETIC_FUNCTIONS[name](), **{"name": name, **options})


def _maximised(function: SyntheticTestFunction, X: Tensor) -> Tensor:
    """Value of ``n x d`` designs with larger being better, shape ``n``."""
    # Clamped in the dtype of the function, which refuses a bound that float32 rounded up.
    bounds = function.get_buffer("bounds")
    values: Tensor = function(X.to(bounds).clamp(bounds[0], bounds[1]), noise=False)
    return (-values if function.is_minimization_problem else values).to(X)


def _check_function(function: SyntheticTestFunction) -> None:
    problem = None
    if not isinstance(function, SyntheticTestFunction):
        problem = f"is no SyntheticTestFunction but {type(function).__name__}"
    elif function.num_objectives != 1 or isinstance(function, ConstrainedBaseTestProblem):
        problem = "has several objectives or constraints"
    elif function.discrete_inds or function.categorical_inds:
        problem = "has discrete inputs, which uniform rows would miss"
    elif function.noise_std not in (None, 0, 0.0):
        problem = f"has noise_std={function.noise_std}; give it to the task as `noise_std` instead"
    if problem is not None:
        raise ValueError(
            "`function` must be a continuous, unconstrained, noiseless test function of "
            f"botorch.test_functions; the one received {problem}."
        )


def _check_numbers(
    num_rows: int, visible_fraction: float, noise_std: float, dtype: torch.dtype
) -> None:
    if isinstance(num_rows, bool) or not isinstance(num_rows, int) or num_rows < 2:
        raise ValueError(f"`num_rows` must be an integer of at least 2, received {num_rows!r}.")
    if not 0.0 < visible_fraction <= 1.0:
        raise ValueError(f"`visible_fraction` must lie in (0, 1], received {visible_fraction!r}.")
    if not (math.isfinite(noise_std) and noise_std >= 0.0):
        raise ValueError(f"`noise_std` must be finite and at least 0, received {noise_std!r}.")
    if not dtype.is_floating_point:
        raise ValueError(f"`dtype` must be floating point, received {dtype}.")

r"""
The one-call path: a table of measured designs in, designs worth measuring out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataError, InputDataWarning
from torch import Tensor

from botorch_roma.fit import FitHistory, fit_roma_model
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.initializers import input_scale
from botorch_roma.optim.optimize import optimize_acqf_roma
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.presets import Preset, get_preset
from botorch_roma.table import Table, read_table
from botorch_roma.validation import (
    check_bounds,
    check_device,
    check_float,
    check_int,
    check_training_data,
    constant_columns,
)

if TYPE_CHECKING:
    import pandas as pd

Bounds = Tensor | Mapping[str, tuple[float, float]]


@dataclass
class Proposal:
    r"""Designs worth measuring, best predicted first.

    Attributes:
        candidates: ``q x d``, in the user's space.
        mean: Outcome ``q`` that the fitted proxy predicts, in the user's units and direction. A
            prediction outside of the data, by the model that was climbed: no promise.
        std: Its predictive standard deviation, ``q``.
        distance: Distance to the nearest known design, ``q``, in standard deviations of the
            data per input (root mean square over the inputs); 0 for a known design.
        model: The fitted model.
        history: History of stage 1.
        trajectory: Record of stage 2, if one was asked for.
        columns: Names of the inputs, for a data frame.
        objective: Name of the outcome, for a data frame.
        fixed_features: Inputs that were held fixed, by index.
        bounds: The ``2 x d`` bounds used.
        integers: Indices of the inputs that are integers.
    """

    candidates: Tensor
    mean: Tensor
    std: Tensor
    distance: Tensor
    model: RoMAModel
    history: FitHistory
    trajectory: Trajectory | None
    columns: list[str]
    objective: str
    fixed_features: dict[int, float]
    bounds: Tensor
    integers: list[int]

    def to_frame(self) -> pd.DataFrame:
        """Candidates with the columns ``predicted_mean``, ``predicted_std``, ``distance``."""
        import pandas as pd

        frame = pd.DataFrame(self.candidates.cpu().numpy(), columns=self.columns)
        frame = frame.astype({self.columns[i]: "int64" for i in self.integers})
        for name in ("mean", "std", "distance"):
            label = name if name == "distance" else f"predicted_{name}"
            frame[label] = getattr(self, name).cpu().numpy()
        return frame


def propose(
    train_X: Tensor | pd.DataFrame,
    train_Y: Tensor | str,
    bounds: Bounds | None = None,
    q: int = 128,
    *,
    maximize: bool | None = None,
    minimize: bool | None = None,
    preset: str | Preset = "default",
    margin: float = 0.0,
    ignore: list[str] | None = None,
    fixed_features: Mapping[Any, float] | None = None,
    fit_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    optimize_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    timeout_sec: float | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    record_trajectory: bool = False,
    progress: bool = False,
) -> Proposal:
    r"""Propose ``q`` new designs from a table of measured ones, without a query.

    Trains a robust proxy (stage 1 of [Yu2021roma]_), then moves the best known designs uphill
    with a proxy adapted to each of them (stage 2).

    Args:
        train_X: Designs ``n x d``, or a data frame that holds designs and outcome.
        train_Y: Outcomes ``n x 1`` (or ``n``), or the name of the outcome's column. All other
            columns must be numeric; integer columns are proposed as integers.
        bounds: ``2 x d`` tensor, or for a data frame ``{column: (lower, upper)}``. Without an
            entry the range of the data, widened by ``margin``.
        q: Number of designs to propose.
        maximize: Whether larger outcomes are better; True by default.
        minimize: The opposite of ``maximize``, for convenience.
        preset: ``"default"``, ``"paper"``, ``"author_code"`` or a
            :class:`~botorch_roma.presets.Preset`.
        margin: Fraction of the range of the data added to bounds on either side.
        ignore: Columns of the data frame that are no designs (identifiers, remarks).
        fixed_features: Inputs to hold fixed: index (or column name) to value.
        fit_options: Further arguments of :func:`~botorch_roma.fit.fit_roma_model`.
        model_options: Further arguments of :class:`~botorch_roma.models.RoMAModel`.
        optimize_options: Further arguments of
            :func:`~botorch_roma.optim.optimize_acqf_roma`, constraints for instance.
        seed: Seed of both stages.
        timeout_sec: Time budget in seconds; at most half of it goes to stage 1.
        device: Where to compute; that of ``train_X`` by default, the CPU for a data frame.
        dtype: Precision; that of ``train_X`` by default, double for a data frame.
        record_trajectory: Record stage 2.
        progress: Show progress bars on standard error.

    Returns:
        The proposal, with :meth:`Proposal.to_frame`.

    Raises:
        InputDataError: Missing or text columns, NaN, constant outcome, too few rows.
        ValueError: Bounds, ``q`` or options out of range.

    Example:
        >>> proposal = propose(pd.read_csv("designs.csv"), "strength", q=128)
        >>> proposal.to_frame().to_csv("candidates.csv", index=False)
    """
    sign = _direction(maximize, minimize)
    check_int("q", q, minimum=1)
    check_int("seed", seed, minimum=0)
    check_float("margin", margin)
    if timeout_sec is not None:
        check_float("timeout_sec", timeout_sec, exclusive=True, unit=" seconds")
    check_device("device", device)
    if "fixed_features" in (optimize_options or {}):
        raise ValueError(
            "`optimize_options` must not hold `fixed_features`, received "
            f"{(optimize_options or {})['fixed_features']!r}; pass it to `propose` itself."
        )
    table = read_table(train_X, train_Y, ignore=ignore, device=device, dtype=dtype)
    check_training_data(table.X, table.Y)
    fixed = _fixed(table, fixed_features)
    box = _bounds(table, bounds, margin, fixed)
    chosen = get_preset(preset) if isinstance(preset, str) else preset
    with warnings.catch_warnings():
        # constant columns have been reported by `_fixed`
        warnings.filterwarnings("ignore", "`train_X` is constant", InputDataWarning)
        model = RoMAModel(
            table.X, sign * table.Y, **{"seed": seed, **chosen.model, **(model_options or {})}
        )
    fit = {"seed": seed, "timeout_sec": timeout_sec and timeout_sec / 2, "progress": progress}
    history = fit_roma_model(model, **{**fit, **chosen.fit, **(fit_options or {})})
    left = None if timeout_sec is None else max(timeout_sec - history.seconds[-1], 1e-3)
    trajectory = Trajectory() if record_trajectory else None
    optimize = {
        "fixed_features": fixed,
        "post_processing_func": _rounding(table, box),
        "timeout_sec": left,
        "trajectory": trajectory,
        "progress": progress,
    }
    candidates, values = optimize_acqf_roma(
        PosteriorMean(model),
        box,
        q,
        **{**optimize, **chosen.optimize, **(optimize_options or {})},
    )
    assert values is not None  # return_acq_values is True
    order = values.argsort(descending=True)
    candidates, values = candidates[order], values[order]
    with torch.no_grad():
        posterior: Any = model.posterior(candidates.unsqueeze(1))
        std = posterior.variance.sqrt().flatten()
    return Proposal(
        candidates=candidates,
        mean=sign * values,
        std=std,
        distance=nearest_distance(candidates, model),
        model=model,
        history=history,
        trajectory=trajectory,
        columns=table.columns,
        objective=table.objective,
        fixed_features=fixed,
        bounds=box,
        integers=table.integers,
    )


def nearest_distance(X: Tensor, model: RoMAModel) -> Tensor:
    r"""Distance of ``n x d`` designs to the nearest training design, ``n``.

    Root mean square over the inputs that vary, in standard deviations of the data.
    """
    scale = input_scale(model)
    varies = scale > 0
    known = (model.train_X / scale)[:, varies]
    nearest = [
        torch.cdist(chunk, known, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1).values
        for chunk in (X / scale)[:, varies].split(64)
    ]
    return torch.cat(nearest) / max(float(varies.sum()), 1.0) ** 0.5


def _direction(maximize: bool | None, minimize: bool | None) -> float:
    if maximize is not None and minimize is not None and maximize == minimize:
        raise ValueError(
            f"`maximize` and `minimize` contradict each other, received {maximize} and {minimize}."
        )
    return -1.0 if minimize or maximize is False else 1.0


def _fixed(table: Table, fixed_features: Mapping[Any, float] | None) -> dict[int, float]:
    """Fixed features by index: those asked for, and the columns that never vary."""
    d = table.X.shape[1]
    fixed = {}
    for key, value in (fixed_features or {}).items():
        index = table.index("fixed_features", key) if isinstance(key, str) else key
        i = index % d if -d <= index < d else index
        fixed[i] = _finite(f"fixed_features[{key!r}]", value)
        if i in table.integers and not fixed[i].is_integer():
            raise ValueError(
                f"`fixed_features[{key!r}]` must be an integer like its column, received {value!r}."
            )
    constant = [i for i in constant_columns(table.X) if i not in fixed]
    if constant:
        warnings.warn(
            f"Columns {[table.columns[i] for i in constant]} never vary in the data: nothing is "
            "known about their effect, so they keep their value in all proposals.",
            InputDataWarning,
            stacklevel=3,
        )
    return {**fixed, **{i: table.X[0, i].item() for i in constant}}


def _bounds(
    table: Table, bounds: Bounds | None, margin: float, fixed: Mapping[int, float]
) -> Tensor:
    """Bounds from the data, overwritten by those given."""
    X = table.X
    if isinstance(bounds, Tensor):
        return check_bounds(bounds.to(X), X.shape[1])
    low, high = X.min(dim=0).values, X.max(dim=0).values
    box = torch.stack([low - margin * (high - low), high + margin * (high - low)])
    for i, value in fixed.items():
        if 0 <= i < X.shape[1]:
            box[0, i], box[1, i] = box[0, i].clamp(max=value), box[1, i].clamp(min=value)
    if bounds is not None and not isinstance(bounds, Mapping):
        raise ValueError(
            "`bounds` must be a 2 x d tensor or a dictionary {column: (lower, upper)}, received "
            f"{type(bounds).__name__}."
        )
    for column, pair in (bounds or {}).items():
        try:
            lower, upper = pair
        except (TypeError, ValueError):
            raise ValueError(
                f"`bounds[{column!r}]` must be (lower, upper), received {pair!r}."
            ) from None
        name = f"bounds[{column!r}]"
        both = box.new_tensor([_finite(name, lower), _finite(name, upper)])
        box[:, table.index("bounds", column)] = both
    return check_bounds(box, X.shape[1])


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number, received {value!r}.")
    return number


def _rounding(table: Table, box: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Round integer columns, staying inside the bounds."""
    if not table.integers:
        return None
    low, high = box[0, table.integers].ceil(), box[1, table.integers].floor()
    if bool((low > high).any()):
        i = table.integers[int((low > high).nonzero()[0])]
        raise InputDataError(
            f"`bounds` of the integer column {table.columns[i]!r} hold no integer: "
            f"[{box[0, i].item():g}, {box[1, i].item():g}]."
        )

    def post_processing_func(X: Tensor) -> Tensor:
        X = X.clone()
        rounded = X[..., table.integers].round()
        X[..., table.integers] = torch.maximum(torch.minimum(rounded, high), low)
        return X

    return post_processing_func

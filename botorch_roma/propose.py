r"""
The one-call path: a table of measured designs in, designs worth measuring out.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataError, InputDataWarning
from botorch.exceptions.errors import UnsupportedError
from torch import Tensor

from botorch_roma.fit import FitHistory, fit_roma_model
from botorch_roma.latent import (
    ColumnEncoding,
    Encoding,
    LatentSpace,
    NumericEncoding,
    make_sequence_encoding,
)
from botorch_roma.latent.space import SequenceEncoding
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.initializers import input_scale
from botorch_roma.optim.optimize import optimize_acqf_roma
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.presets import Preset, get_preset
from botorch_roma.table import Table, read_table
from botorch_roma.validation import (
    check_bounds,
    check_choice,
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
        candidates: ``q x d``: numbers, and tokens for categories and sequences.
        mean: Outcome ``q`` that the fitted proxy predicts, in the user's units and direction. A
            prediction outside of the data, by the model that was climbed: no promise.
        std: Its predictive standard deviation, ``q``.
        distance: Distance to the nearest known design, ``q``, in standard deviations of the
            data per input (root mean square over the inputs that the proxy sees: the encoded ones,
            where there is an encoding); 0, but for rounding, for a known design.
        model: The fitted model.
        history: History of stage 1.
        trajectory: Record of stage 2, if one was asked for.
        table: The data: the user's columns and where they are in the designs.
        fixed_features: Columns of the designs that were held fixed, by index.
        bounds: The ``2 x d`` bounds used.
        encoding: How tokens were encoded; None for numbers alone.
    """

    candidates: Tensor
    mean: Tensor
    std: Tensor
    distance: Tensor
    model: RoMAModel
    history: FitHistory
    trajectory: Trajectory | None
    table: Table
    fixed_features: dict[int, float]
    bounds: Tensor
    encoding: Encoding | None

    @property
    def columns(self) -> list[str]:
        """Names of the inputs."""
        return self.table.columns

    @property
    def objective(self) -> str:
        """Name of the outcome."""
        return self.table.objective

    @property
    def reconstruction(self) -> dict[str, float]:
        """Share of held-out sequences that come back from the latent space of their column.

        With a latent space in place of columns, for tensors of tokens, its key is ``"tokens"``.
        """
        if isinstance(self.encoding, LatentSpace):
            return {"tokens": self.encoding.history.sequence_accuracy[-1]}
        blocks: Any = self.encoding.blocks if isinstance(self.encoding, ColumnEncoding) else []
        spaces = zip(self.columns, blocks, strict=False)
        return {
            name: space.history.sequence_accuracy[-1]
            for name, space in spaces
            if isinstance(space, LatentSpace)
        }

    def to_frame(self) -> pd.DataFrame:
        """The user's columns, and ``predicted_mean``, ``predicted_std``, ``distance``."""
        import pandas as pd

        frame = pd.DataFrame(self.table.restore(self.candidates))
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
    sequences: Sequence[str] = (),
    encoding: str | Encoding | None = None,
    encoding_options: Mapping[str, Any] | None = None,
    maximize: bool | None = None,
    minimize: bool | None = None,
    preset: str | Preset = "default",
    margin: float = 0.0,
    ignore: list[str] | None = None,
    fixed_features: Mapping[Any, Any] | None = None,
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
        train_Y: Outcomes ``n x 1`` (or ``n``), or the name of the outcome's column. Integer
            columns are proposed as integers, columns of texts that repeat as categories.
        bounds: ``2 x d`` tensor, or for a data frame ``{column: (lower, upper)}``. Without an
            entry the range of the data, widened by ``margin``.
        q: Number of designs to propose.
        sequences: Columns of the data frame that hold sequences of characters, of equal length
            or not.
        encoding: What sequences are for the proxy: ``"one_hot"``, ``"logits"``, or ``"latent"`` (a
            :class:`~botorch_roma.latent.LatentSpace` is trained first); that of the preset by
            default. For tensors of tokens an :class:`~botorch_roma.latent.Encoding`.
        encoding_options: Over the preset's, for
            :meth:`LatentSpace.fit <botorch_roma.latent.LatentSpace.fit>`.
        maximize: Whether larger outcomes are better; True by default.
        minimize: The opposite of ``maximize``, for convenience.
        preset: ``"default"``, ``"paper"``, ``"author_code"`` or a
            :class:`~botorch_roma.presets.Preset`.
        margin: Fraction of the range of the data added to bounds on either side.
        ignore: Columns of the data frame that are no designs (identifiers, remarks).
        fixed_features: Inputs to hold fixed: index (or column name) to value (or category).
        fit_options: Further arguments of :func:`~botorch_roma.fit.fit_roma_model`.
        model_options: Further arguments of :class:`~botorch_roma.models.RoMAModel`.
        optimize_options: Further arguments of
            :func:`~botorch_roma.optim.optimize_acqf_roma`, constraints for instance.
        seed: Seed of both stages.
        timeout_sec: Time budget in seconds; at most half of it goes to stage 1, and half of that
            to latent spaces.
        device: Where to compute; that of ``train_X`` by default, the CPU for a data frame.
        dtype: Precision; that of ``train_X`` by default, double for a data frame.
        record_trajectory: Record stage 2.
        progress: Show progress bars on standard error.

    Returns:
        The proposal, with :meth:`Proposal.to_frame`.

    Raises:
        InputDataError: Missing columns or values, constant outcome, too few rows, texts that
            are neither categories nor ``sequences``.
        ModelFittingError: If a latent space loses the start designs.
        ValueError: Bounds, ``q`` or options out of range.

    Example:
        >>> proposal = propose(pd.read_csv("designs.csv"), "strength", q=128)
        >>> proposal.to_frame().to_csv("candidates.csv", index=False)
        >>> propose(pd.read_csv("dna.csv"), "binding", sequences=["site"])
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
    start = time.monotonic()
    table = read_table(
        train_X, train_Y, ignore=ignore, sequences=sequences, device=device, dtype=dtype
    )
    check_training_data(table.X, table.Y)
    num_sequences = sum(c.kind == "sequence" for c in table.parts)
    if isinstance(preset, str):
        preset = get_preset(preset, discrete=num_sequences > 0, num_rows=table.X.shape[0])
    _check_encoding(table, encoding or preset.encoding, encoding, encoding_options)
    fixed = _fixed(table, fixed_features, encoding)
    box = _bounds(table, bounds, margin, fixed, encoding)
    rounding = _rounding(table, box)
    encoding = make_encoding(
        table,
        box,
        encoding or preset.encoding,
        {
            "seed": seed,
            "timeout_sec": timeout_sec and timeout_sec / (4 * max(1, num_sequences)),
            "progress": progress,
            **preset.latent,
            **(encoding_options or {}),
        },
    )
    with warnings.catch_warnings():
        # constant columns have been reported by `_fixed`
        warnings.filterwarnings("ignore", "`train_X` is constant", InputDataWarning)
        model = RoMAModel(
            table.X,
            sign * table.Y,
            encoding,
            **{"seed": seed, **preset.model, **(model_options or {})},
        )

    def left(share: float) -> float | None:
        if timeout_sec is None:
            return None
        return max(share * timeout_sec - (time.monotonic() - start), 1e-3)

    fit = {"seed": seed, "timeout_sec": left(0.5), "progress": progress}
    history = fit_roma_model(model, **{**fit, **preset.fit, **(fit_options or {})})
    trajectory = Trajectory() if record_trajectory else None
    optimize = {
        "fixed_features": fixed,
        "post_processing_func": rounding,
        "timeout_sec": left(1.0),
        "trajectory": trajectory,
        "progress": progress,
    }
    candidates, values = optimize_acqf_roma(
        PosteriorMean(model),
        box,
        q,
        **{**optimize, **preset.optimize, **(optimize_options or {})},
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
        table=table,
        fixed_features=fixed,
        bounds=box,
        encoding=encoding,
    )


def nearest_distance(X: Tensor, model: RoMAModel) -> Tensor:
    r"""Distance of ``n x d`` designs to the nearest training design, ``n``.

    Root mean square over the inputs that vary, in standard deviations of the data.
    """
    if hasattr(model, "input_transform"):
        X, model = model.transform_inputs(X), model.encoded()
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


def make_encoding(
    table: Table, bounds: Tensor, sequences: str | Encoding, latent_options: Mapping[str, Any]
) -> Encoding | None:
    r"""The encoding of a table's designs, column by column; None for numbers alone.

    Args:
        table: The table.
        bounds: Bounds of the designs, ``2 x d``.
        sequences: ``"one_hot"``, ``"logits"`` or ``"latent"``; an encoding is taken as it is.
        latent_options: Arguments of :meth:`LatentSpace.fit`.
    """
    if isinstance(sequences, Encoding):
        return sequences
    if not table.has_tokens:
        return None
    blocks: list[Encoding] = []
    for column in table.parts:
        if column.vocabulary is None:
            blocks.append(NumericEncoding(bounds[:, column.place]))
            continue
        name = "one_hot" if column.kind == "category" else sequences
        tokens = table.X[:, column.place]
        blocks.append(make_sequence_encoding(name, tokens, column.vocabulary, **latent_options))
    return ColumnEncoding(blocks).to(table.X)


def _check_encoding(
    table: Table,
    used: str | Encoding,
    given: str | Encoding | None,
    options: Mapping[str, Any] | None,
) -> None:
    """Refuse an encoding that does not fit, and what would have no effect."""
    has_sequences = any(c.kind == "sequence" for c in table.parts)
    if isinstance(used, Encoding):
        if used.dim != table.X.shape[1]:
            raise ValueError(
                f"`encoding` must be one of {table.X.shape[1]} columns, those of the designs, "
                f"received one of {used.dim}."
            )
    else:
        check_choice("encoding", used, get_args(SequenceEncoding))
    if isinstance(given, str) and not has_sequences:
        raise ValueError(
            f"`encoding` is for the columns named in `sequences`, received {given!r} and none of "
            "those; for tensors of tokens pass an Encoding."
        )
    if options and not (used == "latent" and has_sequences):
        raise ValueError(
            f"`encoding_options` are for latent spaces, received {sorted(options)} and none is "
            'trained; pass `encoding="latent"` and name the columns in `sequences`.'
        )


def _fixed(
    table: Table, fixed_features: Mapping[Any, Any] | None, encoding: str | Encoding | None
) -> dict[int, float]:
    """Fixed features by index: those asked for, and the columns that never vary."""
    d = table.X.shape[1]
    fixed = {}
    for key, value in (fixed_features or {}).items():
        name = f"fixed_features[{key!r}]"
        index, number = key, value
        if isinstance(key, str):
            column = table.column("fixed_features", key)
            index, number = column.start, column.number(name, value)
        i = index % d if -d <= index < d else index
        fixed[i] = _finite(name, number)
        if i in table.integers and not fixed[i].is_integer():
            raise ValueError(f"`{name}` must be an integer like its column, received {value!r}.")
    alone = {c.start: c.name for c in table.parts if c.kind != "sequence"}
    if isinstance(encoding, Encoding):
        alone = {i: name for i, name in alone.items() if _is_number(encoding, i)}
    constant = [i for i in constant_columns(table.X) if i not in fixed and i in alone]
    if constant:
        warnings.warn(
            f"Columns {[alone[i] for i in constant]} never vary in the data: nothing is "
            "known about their effect, so they keep their value in all proposals.",
            InputDataWarning,
            stacklevel=3,
        )
    return {**fixed, **{i: table.X[0, i].item() for i in constant}}


def _bounds(
    table: Table,
    bounds: Bounds | None,
    margin: float,
    fixed: Mapping[int, float],
    encoding: str | Encoding | None,
) -> Tensor:
    """Bounds from the data or the tokens, overwritten by those given."""
    X = table.X
    if isinstance(bounds, Tensor):
        return check_bounds(bounds.to(X), X.shape[1])
    if isinstance(encoding, Encoding):
        if margin:
            raise ValueError(
                "`margin` widens bounds that are taken from the data, an Encoding has its own; "
                f"received {margin}, pass `bounds`."
            )
        box = encoding.design_bounds.to(X).clone()
    else:
        box = _data_bounds(table, margin, fixed)
    if bounds is not None and not isinstance(bounds, Mapping):
        raise ValueError(
            "`bounds` must be a 2 x d tensor or a dictionary {column: (lower, upper)}, received "
            f"{type(bounds).__name__}."
        )
    for name, pair in (bounds or {}).items():
        try:
            lower, upper = pair
        except (TypeError, ValueError):
            raise ValueError(
                f"`bounds[{name!r}]` must be (lower, upper), received {pair!r}."
            ) from None
        column, argument = table.column("bounds", name), f"bounds[{name!r}]"
        if column.vocabulary is not None:
            raise InputDataError(
                f"`{argument}` names a column of texts, received {pair!r}; only numbers have "
                "bounds."
            )
        both = box.new_tensor([_finite(argument, lower), _finite(argument, upper)])
        box[:, column.start] = both
    return check_bounds(box, X.shape[1])


def _data_bounds(table: Table, margin: float, fixed: Mapping[int, float]) -> Tensor:
    """The range of the data with a margin, all tokens, and the fixed values."""
    X = table.X
    low, high = X.min(dim=0).values, X.max(dim=0).values
    box = torch.stack([low - margin * (high - low), high + margin * (high - low)])
    for column in table.parts:
        if column.vocabulary is not None:
            box[0, column.place] = 0.0
            box[1, column.place] = column.vocabulary.num_classes - 1.0
    for i, value in fixed.items():
        if 0 <= i < X.shape[1]:
            box[0, i], box[1, i] = box[0, i].clamp(max=value), box[1, i].clamp(min=value)
    return box


def _is_number(encoding: Encoding, i: int) -> bool:
    """Whether column ``i`` of the designs is a number for an encoding."""
    try:
        encoding.numeric_column(i)
    except UnsupportedError:
        return False
    return True


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
            f"`bounds` of the integer column {_name(table, i)!r} hold no integer: "
            f"[{box[0, i].item():g}, {box[1, i].item():g}]."
        )

    def post_processing_func(X: Tensor) -> Tensor:
        X = X.clone()
        rounded = X[..., table.integers].round()
        X[..., table.integers] = torch.maximum(torch.minimum(rounded, high), low)
        return X

    return post_processing_func


def _name(table: Table, i: int) -> str:
    """Name of the user's column that is column ``i`` of the designs."""
    return next(c.name for c in table.parts if c.start <= i < c.start + c.width)

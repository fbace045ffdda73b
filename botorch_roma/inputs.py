r"""
What of a table may move, and how: encoding, fixed features, bounds, whole numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch
from botorch.exceptions import InputDataError, InputDataWarning
from botorch.exceptions.errors import UnsupportedError
from torch import Tensor

from botorch_roma.checkpoint import CheckpointFolder
from botorch_roma.latent import ColumnEncoding, Encoding, NumericEncoding, make_sequence_encoding
from botorch_roma.latent.space import SequenceEncoding
from botorch_roma.table import Table
from botorch_roma.validation import check_bounds, check_choice, constant_columns

#: Bounds of all inputs, or of some columns by name.
Bounds = Tensor | Mapping[str, tuple[float, float]]


def make_encoding(
    table: Table,
    bounds: Tensor,
    sequences: str | Encoding,
    latent_options: Mapping[str, Any],
    checkpoints: CheckpointFolder | None = None,
) -> Encoding | None:
    r"""The encoding of a table's designs, column by column; None for numbers alone.

    Args:
        table: The table.
        bounds: Bounds of the designs, ``2 x d``.
        sequences: ``"one_hot"``, ``"logits"`` or ``"latent"``; an encoding is taken as it is.
        latent_options: Arguments of
            :meth:`LatentSpace.fit <botorch_roma.latent.LatentSpace.fit>`.
        checkpoints: Where the trainings of latent spaces are saved; nowhere by default.
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
        saved = checkpoints.stage(f"latent-{column.start}") if checkpoints else {}
        blocks.append(
            make_sequence_encoding(name, tokens, column.vocabulary, **latent_options, **saved)
        )
    return ColumnEncoding(blocks).to(table.X)


def check_encoding(
    table: Table,
    used: str | Encoding,
    given: str | Encoding | None,
    options: Mapping[str, Any] | None,
) -> None:
    r"""Refuse an encoding that does not fit, and what would have no effect.

    Args:
        table: The table.
        used: The encoding of sequences, by name or itself.
        given: That asked for by the user.
        options: Options of a latent space asked for by the user.

    Raises:
        ValueError: Names the argument.
    """
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


def fixed_inputs(
    table: Table, fixed_features: Mapping[Any, Any] | None, encoding: str | Encoding | None
) -> dict[int, float]:
    r"""Fixed features by index: those asked for, and the columns that never vary.

    Args:
        table: The table.
        fixed_features: Index or name of a column to its value.
        encoding: Where it is an :class:`~botorch_roma.latent.Encoding`, only what it keeps as a
            number is held fixed for never varying.

    Raises:
        InputDataError: For unknown columns and categories, and for sequences.
        ValueError: For values that are no finite number, or no integer where the column is one.
    """
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


def input_bounds(
    table: Table,
    bounds: Bounds | None,
    margin: float,
    fixed: Mapping[int, float],
    encoding: str | Encoding | None,
) -> Tensor:
    r"""Bounds from the data or the tokens, overwritten by those given, ``2 x d``.

    Args:
        table: The table.
        bounds: All bounds, ``2 x d``, or those of some columns by name.
        margin: Fraction of the range of the data that is added on either side.
        fixed: Fixed features, which the bounds are widened to.
        encoding: An :class:`~botorch_roma.latent.Encoding` has bounds of its own.

    Raises:
        InputDataError: For unknown columns and columns of texts.
        ValueError: For malformed bounds, fixed values outside of them, and a margin that is too
            large, or beside the bounds of an encoding.
    """
    X = table.X
    if isinstance(bounds, Tensor):
        return _check_fixed(check_bounds(bounds.to(X), X.shape[1]), fixed, table)
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
        low, high = _finite(argument, lower), _finite(argument, upper)
        if low > high:
            raise ValueError(
                f"`{argument}` must be (lower, upper) with lower <= upper, received {pair!r}."
            )
        box[:, column.start] = box.new_tensor([low, high])
    return _check_fixed(check_bounds(box, X.shape[1]), fixed, table)


def _check_fixed(box: Tensor, fixed: Mapping[int, float], table: Table) -> Tensor:
    """Refuse fixed values out of their bounds: before stage 1, and by the name of the column."""
    names = {c.start: c.name for c in table.parts}
    for i, value in fixed.items():
        # what is no column is refused by stage 2, which knows its columns
        if i in names and not box[0, i] <= value <= box[1, i]:
            raise ValueError(
                f"`fixed_features[{names[i]!r}]` must lie within its bounds "
                f"[{box[0, i].item():g}, {box[1, i].item():g}], received {value:g}; change either."
            )
    return box


def _data_bounds(table: Table, margin: float, fixed: Mapping[int, float]) -> Tensor:
    """The range of the data with a margin, all tokens, and the fixed values."""
    X = table.X
    low, high = X.min(dim=0).values, X.max(dim=0).values
    box = torch.stack([low - margin * (high - low), high + margin * (high - low)])
    if not box.isfinite().all():
        raise ValueError(
            f"`margin` must leave the bounds finite, received {margin:g}; choose a smaller one."
        )
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


def rounding_func(table: Table, box: Tensor) -> Callable[[Tensor], Tensor] | None:
    r"""A function that rounds integer columns, staying inside the bounds; None without any.

    Args:
        table: The table.
        box: Bounds, ``2 x d``.

    Raises:
        InputDataError: If the bounds of an integer column hold no integer.
    """
    if not table.integers:
        return None
    low, high = box[0, table.integers].ceil(), box[1, table.integers].floor()
    if bool((low > high).any()):
        i = table.integers[int((low > high).nonzero()[0])]
        raise InputDataError(
            f"`bounds` of the integer column {_name(table, i)!r} hold no integer: "
            f"[{box[0, i].item():g}, {box[1, i].item():g}]; widen them."
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

r"""
Checks of arguments and data; every message names the argument, the value and the remedy.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from botorch.exceptions import BotorchTensorDimensionError, InputDataError, InputDataWarning
from torch import Tensor

from botorch_roma.chunks import chunks, never_varies

#: Seeds beyond, with what is added to them for members and outputs, are none for torch.
MAX_SEED: int = 2**62


def check_int(name: str, value: Any, *, minimum: int) -> int:
    """Return ``value`` as an int, or raise ``ValueError`` if it is none or below ``minimum``."""
    try:
        number = minimum - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = minimum - 1
    if number < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}, received {value!r}.")
    return number


def check_seed(name: str, value: Any) -> int:
    """Return ``value`` as a seed, or raise ``ValueError`` if it is none that torch takes."""
    number = check_int(name, value, minimum=0)
    if number > MAX_SEED:
        raise ValueError(f"`{name}` must be at most {MAX_SEED}, received {number}; choose another.")
    return number


def check_float(
    name: str, value: Any, *, minimum: float = 0.0, exclusive: bool = False, unit: str = ""
) -> float:
    """Return ``value`` as a float, or raise ``ValueError`` if it is not finite or too small."""
    low = "above" if exclusive else "at least"
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < minimum or (exclusive and number == minimum):
        raise ValueError(
            f"`{name}` must be a finite number {low} {minimum:g}{unit}, received {value!r}."
        )
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return ``value``, or raise ``ValueError`` if it is none of ``choices``."""
    allowed = list(choices)
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {allowed}, received {value!r}.")
    return str(value)


def check_flag(name: str, value: Any) -> bool:
    """Return ``value``, or raise ``ValueError`` if it is neither True nor False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, received {value!r}.")
    return value


def check_callable(name: str, value: Any) -> None:
    """Raise ``ValueError`` if ``value`` is neither None nor something to call."""
    if value is not None and not callable(value):
        raise ValueError(f"`{name}` must be a function or None, received {value!r}.")


def check_mapping(name: str, value: Any, known: Collection[str] | None = None) -> None:
    """Raise ``ValueError`` if ``value`` is neither None nor a mapping, or has a key not known."""
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"`{name}` must map names to values, received {value!r}.")
    unknown = [] if known is None else [key for key in value or () if key not in known]
    if unknown:
        raise ValueError(
            f"`{name}` has unknown keys {unknown}; known are {sorted(known or ())}, correct or "
            "leave them out."
        )


def check_path(name: str, value: Any) -> None:
    """Raise ``ValueError`` if ``value`` is neither None nor a path."""
    if value is not None and not isinstance(value, str | os.PathLike):
        raise ValueError(f"`{name}` must be a path or None, received {value!r}.")


def check_dtype(name: str, value: Any) -> None:
    """Raise ``InputDataError`` if ``value`` is neither None nor single nor double precision."""
    if value not in (None, torch.float32, torch.float64):
        raise InputDataError(
            f"`{name}` must be torch.float32 or torch.float64, received {value!r}; choose one."
        )


def check_device(name: str, value: str | torch.device | None) -> None:
    """Raise ``ValueError`` if nothing can be put on the device ``value``."""
    try:
        torch.zeros(1, device=value).item()  # devices without data (meta) can be made, not read
    except Exception as error:  # of a device that is not there torch raises anything
        reason = str(error).split(". ")[0].splitlines()[0].rstrip(".")
        raise ValueError(
            f"`{name}` must be a device of this machine, received {str(value)!r}: {reason}; "
            "try 'cpu'."
        ) from None


def check_tensor(name: str, value: Any, *, dim: int, rows: int | None = None) -> Tensor:
    r"""Return ``value`` if it is a finite floating point tensor of ``dim`` dimensions.

    Raises:
        InputDataError: If it is no tensor, not floating point, or not finite.
        BotorchTensorDimensionError: If its number of dimensions or rows differs.
    """
    if not isinstance(value, Tensor):
        raise InputDataError(f"`{name}` must be a torch.Tensor, received {type(value).__name__}.")
    if value.dim() != dim:
        raise BotorchTensorDimensionError(
            f"`{name}` must have {dim} dimensions, received shape {tuple(value.shape)}."
        )
    if rows is not None and value.shape[0] != rows:
        raise BotorchTensorDimensionError(
            f"`{name}` must have {rows} rows, received shape {tuple(value.shape)}."
        )
    if value.dtype not in (torch.float32, torch.float64):  # losses overflow in half precision
        what = "of single or double precision" if value.is_floating_point() else "floating point"
        raise InputDataError(
            f"`{name}` must be {what}, received {value.dtype}; call `.double()` on it."
        )
    check_finite(name, value)
    return value


def check_finite(name: str, value: Tensor) -> None:
    """Raise ``InputDataError`` for NaN and infinite values, with the index of the first."""
    bad, start = 0, 0
    first: list[int] = []
    for chunk in chunks(value):
        infinite = ~torch.isfinite(chunk)
        if infinite.any():
            i, *rest = infinite.nonzero()[0].tolist()
            first = first or [start + i, *rest]
            bad += int(infinite.sum())
        start += chunk.shape[0]
    if bad:
        raise InputDataError(
            f"`{name}` holds {bad} NaN or infinite values (the first at index {first}); drop or "
            "impute these rows."
        )


def check_same_kind(name: str, value: Tensor, train_X: Tensor) -> None:
    """Raise ``InputDataError`` if ``value`` has another dtype or device than the model's data."""
    if value.dtype != train_X.dtype or value.device != train_X.device:
        raise InputDataError(
            f"`{name}` must share dtype and device with the model's `train_X`, received "
            f"{value.dtype} on {value.device} for {train_X.dtype} on {train_X.device}; move it "
            "with `.to(train_X)`."
        )


def check_training_data(train_X: Tensor, train_Y: Tensor) -> None:
    r"""Check an offline dataset: ``train_X`` is ``n x d``, ``train_Y`` is ``n x m``, ``n >= 2``.

    Raises:
        InputDataError: NaN, infinite or non-floating values, different dtypes or devices,
            fewer than two rows, a constant outcome.
        BotorchTensorDimensionError: Wrong shapes.
    """
    check_tensor("train_X", train_X, dim=2)
    check_tensor("train_Y", train_Y, dim=2, rows=train_X.shape[0])
    if train_X.dtype != train_Y.dtype or train_X.device != train_Y.device:
        raise InputDataError(
            "`train_X` and `train_Y` must share dtype and device, received "
            f"{train_X.dtype} on {train_X.device} and {train_Y.dtype} on {train_Y.device}; move "
            "one with `.to`."
        )
    n, d = train_X.shape
    if n < 2 or d < 1 or train_Y.shape[1] < 1:
        raise InputDataError(
            "An offline dataset needs at least two rows, one input and one outcome, received "
            f"`train_X` of shape {tuple(train_X.shape)} and `train_Y` of {tuple(train_Y.shape)}; "
            "add what is missing."
        )
    constant = (train_Y == train_Y[0]).all(dim=0).nonzero().flatten().tolist()
    if constant:
        raise InputDataError(
            f"`train_Y` is constant in column {constant[0]} (value "
            f"{train_Y[0, constant[0]].item():g}): there is nothing to learn from it; choose "
            "another outcome, or add rows that differ."
        )


def check_noise_variances(train_Yvar: Tensor, train_Y: Tensor) -> None:
    r"""Check measured noise variances, of the shape of ``train_Y``.

    Raises:
        InputDataError: Negative, NaN or infinite values, another dtype or device.
        BotorchTensorDimensionError: Another shape.
    """
    check_tensor("train_Yvar", train_Yvar, dim=2)
    if train_Yvar.shape != train_Y.shape:
        raise BotorchTensorDimensionError(
            f"`train_Yvar` must have the shape of `train_Y`, {tuple(train_Y.shape)}, received "
            f"{tuple(train_Yvar.shape)}."
        )
    if train_Yvar.dtype != train_Y.dtype or train_Yvar.device != train_Y.device:
        raise InputDataError(
            "`train_Yvar` and `train_Y` must share dtype and device, received "
            f"{train_Yvar.dtype} on {train_Yvar.device} and {train_Y.dtype} on {train_Y.device}; "
            "move one with `.to`."
        )
    negative = (train_Yvar < 0).nonzero()
    if len(negative):
        i, k = negative[0].tolist()
        raise InputDataError(
            f"`train_Yvar` must hold variances, 0 or more, received {train_Yvar[i, k].item():g} at "
            f"index {[i, k]}."
        )


def constant_columns(X: Tensor) -> list[int]:
    r"""Indices of the columns of the ``n x d`` tensor ``X`` that never vary."""
    return never_varies(X).nonzero().flatten().tolist()


def warn_constant_columns(X: Tensor, stacklevel: int = 2) -> None:
    """Warn that nothing is known about columns of ``train_X`` that never vary."""
    columns = constant_columns(X)
    if columns:
        warnings.warn(
            f"`train_X` is constant in columns {columns}: nothing is known about their effect. "
            "Pass them as `fixed_features` or drop them.",
            InputDataWarning,
            stacklevel=stacklevel + 1,
        )


def check_bounds(bounds: Tensor, d: int | None = None) -> Tensor:
    r"""Check ``2 x d`` bounds: finite, lower not above upper.

    Raises:
        ValueError: Naming the shape, or the first column and its two values.
    """
    if not isinstance(bounds, Tensor):
        raise ValueError(f"`bounds` must be a 2 x d tensor, received {type(bounds).__name__}.")
    if bounds.dim() != 2 or bounds.shape[0] != 2 or (d is not None and bounds.shape[1] != d):
        expected = "d" if d is None else str(d)
        raise ValueError(
            f"`bounds` must be a 2 x {expected} tensor, received shape {tuple(bounds.shape)}."
        )
    bad = ~torch.isfinite(bounds).all(dim=0) | (bounds[0] > bounds[1])
    if bad.any():
        i = int(bad.nonzero()[0])
        raise ValueError(
            "`bounds` must be finite with lower <= upper; column "
            f"{i} has lower={bounds[0, i].item()} and upper={bounds[1, i].item()}."
        )
    return bounds

r"""
Tables of measured designs: from tensors or a data frame to tensors with names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from botorch.exceptions import InputDataError
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    r"""Designs and outcomes with their names.

    Attributes:
        X: Designs, ``n x d``.
        Y: Outcomes, ``n x 1``.
        columns: Names of the ``d`` inputs.
        objective: Name of the outcome.
        integers: Indices of the inputs that are integers.
    """

    X: Tensor
    Y: Tensor
    columns: list[str]
    objective: str
    integers: list[int]

    def index(self, argument: str, column: str) -> int:
        """Index of an input by its name.

        Raises:
            InputDataError: If there is no such input; names ``argument``.
        """
        if column not in self.columns:
            raise InputDataError(
                f"`{argument}` names the column {column!r}, which is not among the inputs "
                f"{_shorten(self.columns)}."
            )
        return self.columns.index(column)


def read_table(
    train_X: Tensor | pd.DataFrame,
    train_Y: Tensor | str,
    *,
    ignore: list[str] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Table:
    r"""A table from tensors, or from a data frame and the name of its outcome column.

    Args:
        train_X: Designs ``n x d``, or a data frame.
        train_Y: Outcomes ``n x 1`` or ``n``, or the name of a column.
        ignore: Columns of the data frame to leave out.
        device: Where to put the tensors.
        dtype: Their precision; double for a data frame by default.

    Raises:
        InputDataError: For missing, text or empty columns, missing values, wrong types.
    """
    if isinstance(train_X, Tensor):
        if not isinstance(train_Y, Tensor):
            raise InputDataError(
                f"`train_Y` must be a tensor where `train_X` is one, received {train_Y!r}."
            )
        if ignore:
            raise InputDataError(f"`ignore` needs a data frame, received a tensor and {ignore}.")
        Y = train_Y.unsqueeze(-1) if train_Y.dim() == 1 else train_Y
        if Y.dim() == 2 and Y.shape[1] != 1:
            raise InputDataError(
                f"`train_Y` must have one column, received shape {tuple(train_Y.shape)}; for "
                "several outcomes use RoMAModel and optimize_acqf_roma."
            )
        X = train_X.to(device=device, dtype=dtype)
        names = [f"x{i}" for i in range(X.shape[-1] if X.dim() else 0)]
        return Table(X, Y.to(device=device, dtype=dtype), names, "y", [])
    return _from_frame(train_X, train_Y, ignore or [], device, dtype or torch.double)


def _from_frame(
    frame: pd.DataFrame,
    objective: Tensor | str,
    ignore: list[str],
    device: str | torch.device | None,
    dtype: torch.dtype,
) -> Table:
    import pandas as pd
    from pandas.api import types

    if not isinstance(frame, pd.DataFrame):
        raise InputDataError(
            f"`train_X` must be a tensor or a pandas DataFrame, received {type(frame).__name__}."
        )
    if not isinstance(objective, str):
        raise InputDataError(
            "`train_Y` must be the name of a column where `train_X` is a data frame, received "
            f"{type(objective).__name__}."
        )
    frame = frame.rename(columns=str)
    repeated = frame.columns[frame.columns.duplicated()].tolist()
    if repeated:
        raise InputDataError(f"The table has several columns named {repeated[0]!r}; rename them.")
    for name in (objective, *ignore):
        if name not in frame.columns:
            raise InputDataError(
                f"The table has no column {name!r}; its columns are "
                f"{_shorten(list(frame.columns))}."
            )
    if objective in ignore:
        raise InputDataError(f"`ignore` names the objective {objective!r}; leave one of them out.")
    frame = frame.drop(columns=ignore)
    for name in frame.columns:
        column = frame[name]
        if not types.is_numeric_dtype(column) or types.is_complex_dtype(column):
            raise InputDataError(
                f"The column {name!r} is not numeric (for example {column.iloc[:1].tolist()}); "
                "leave it out with `ignore` or encode it as numbers."
            )
        missing = int(column.isna().sum())
        if missing:
            raise InputDataError(
                f"The column {name!r} has {missing} missing values (the first in row "
                f"{int(column.isna().to_numpy().argmax())}); drop or impute these rows."
            )
    inputs = [c for c in frame.columns if c != objective]
    if not inputs or frame.empty:
        raise InputDataError(
            f"The table needs rows and at least one input besides {objective!r}, received "
            f"{len(frame)} rows and the inputs {inputs}."
        )
    integers = [
        i
        for i, c in enumerate(inputs)
        if types.is_integer_dtype(frame[c]) or types.is_bool_dtype(frame[c])
    ]
    X = torch.tensor(frame[inputs].to_numpy(dtype="float64"), dtype=dtype, device=device)
    Y = torch.tensor(frame[[objective]].to_numpy(dtype="float64"), dtype=dtype, device=device)
    return Table(X, Y, inputs, objective, integers)


def _shorten(names: list[str], limit: int = 10) -> str:
    """A list of names for a message, cut after ``limit``."""
    shown = ", ".join(map(repr, names[:limit]))
    return f"[{shown}]" if len(names) <= limit else f"[{shown}, ... ({len(names)} in all)]"

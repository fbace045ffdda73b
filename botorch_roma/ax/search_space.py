r"""
The search space of a table: a parameter for every column.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.parameter import ChoiceParameter
from botorch.exceptions import InputDataError
from botorch.exceptions.warnings import InputDataWarning

ParameterConfig = RangeParameterConfig | ChoiceParameterConfig

#: Text columns with more values than this are no choice parameters, unless they are given as such.
MAX_INFERRED_VALUES: int = 100

#: Whole numbers that span more than this are rather identifiers or real numbers.
MAX_INFERRED_INTEGERS: int = 100_000

#: Numbers this close to an allowed value, in parts of the smallest step between two, are meant to
#: be that value.
GRID_TOLERANCE: float = 1e-3

#: Allowed values that a message lists.
MAX_LISTED_VALUES: int = 12


def infer_parameters(df: pd.DataFrame, exclude: Sequence[str] = ()) -> list[ParameterConfig]:
    r"""Ax's parameter configurations for the columns of a table.

    Args:
        df: The table.
        exclude: Columns that are no parameters.

    Returns:
        A range for every column of numbers (integers stay integers), an unordered choice for every
        column of texts, booleans or categories, an ordered one for ordered categories. Columns
        that never vary are left out, with a warning.

    Raises:
        ValueError: For names of columns that are no texts or not unique.
        InputDataError: For missing values, texts that are rather names than categories, whole
            numbers that span more than 100,000, dates, and columns of mixed types.
    """
    check_frame(df)
    if missing := [name for name in exclude if name not in df.columns]:
        raise ValueError(f"`exclude` names {missing}; the columns are {list(df.columns)}.")
    columns = [c for c in df.columns if c not in exclude]
    check_columns(df, columns)
    configs: list[ParameterConfig] = []
    constant = []
    for column in columns:
        values = df[column].infer_objects()
        if values.isna().any():
            row = label(values, values.isna().argmax())
            raise InputDataError(
                f"Column {column!r} of `df` has a missing value in row {row!r}; drop or fill it, "
                "or pass `parameters` without it."
            )
        if values.nunique() < 2:
            constant.append(column)
        else:
            configs.append(_config(column, values))
    if constant:
        warnings.warn(
            f"Columns {constant} of `df` never vary and are left out of the search space.",
            InputDataWarning,
            stacklevel=2,
        )
    return configs


def exact_grid(config: ParameterConfig) -> ParameterConfig:
    """A parameter with a step size as the choice between the numbers that its user would write.

    Ax adds the step up, which gives 4.9999999999999645 for 5, and 1.4 within 1 to 1.3. What it
    refuses is left to it.
    """
    if not isinstance(config, RangeParameterConfig) or not (config.step_size or 0.0) > 0.0:
        return config
    step = float(config.step_size or 0.0)
    lower, upper = config.bounds
    steps = (upper - lower) / step
    if config.scaling not in (None, "linear") or not math.isclose(steps, round(steps)):
        return config
    kind = int if config.parameter_type == "int" else float
    values = [kind(float(f"{lower + k * step:.12g}")) for k in range(round(steps) + 1)]
    return ChoiceParameterConfig(
        name=config.name, values=values, parameter_type=config.parameter_type, is_ordered=True
    )


def meant_value(parameter: ChoiceParameter, value: Any) -> Any:
    """The value of a parameter that is meant, to rounding; None if there is none."""
    if value in parameter.values:
        return value
    if not parameter.is_numeric or not isinstance(value, int | float) or isinstance(value, bool):
        return None
    allowed: list[Any] = sorted(parameter.values)
    step = min((b - a for a, b in itertools.pairwise(allowed)), default=0.0)
    nearest = min(allowed, key=lambda v: abs(v - value))
    return nearest if abs(nearest - value) <= GRID_TOLERANCE * step else None


def one_of(values: Sequence[Any]) -> str:
    """Allowed values for a message."""
    if len(values) <= MAX_LISTED_VALUES:
        return f"one of {list(values)}"
    listed = ", ".join(repr(v) for v in values[: MAX_LISTED_VALUES - 2])
    return f"one of [{listed}, ..., {values[-1]!r}] ({len(values)} values)"


def label(rows: pd.DataFrame | pd.Series, position: Any) -> Any:
    """Label of a row, to be shown in a message."""
    return rows.index.tolist()[int(position)]


def check_frame(df: Any) -> None:
    """Raise ``InputDataError`` for what is no data frame."""
    if not isinstance(df, pd.DataFrame):
        raise InputDataError(f"`df` must be a pandas DataFrame, received {type(df).__name__}.")


def check_columns(df: pd.DataFrame, names: Sequence[Any]) -> None:
    r"""Raise ``ValueError`` for columns that are missing, not unique, or not named by texts."""
    names = list(dict.fromkeys(names))
    missing = [n for n in names if n not in df.columns]
    if missing:
        raise ValueError(f"`df` has no columns {missing}; it has {list(df.columns)}.")
    no_text = [n for n in names if not isinstance(n, str)]
    if no_text:
        raise ValueError(
            f"Columns of `df` must be named by texts, received {no_text}; rename them, for "
            "instance `df.rename(columns=str)`."
        )
    twice = [n for n in names if (df.columns == n).sum() > 1]
    if twice:
        raise ValueError(f"`df` has several columns named {twice}; rename or drop all but one.")


def _config(column: str, values: pd.Series) -> ParameterConfig:
    """The parameter of a column that varies."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories = values.cat.categories
        if not values.cat.ordered:
            categories = categories[categories.isin(values.unique())]
        return _choice(column, categories.tolist(), ordered=bool(values.cat.ordered))
    if pd.api.types.is_bool_dtype(values):
        return _choice(column, [False, True])
    if pd.api.types.is_integer_dtype(values):
        return _integers(column, int(values.min()), int(values.max()))
    if pd.api.types.is_float_dtype(values):
        bounds = float(values.min()), float(values.max())
        return RangeParameterConfig(name=column, bounds=bounds, parameter_type="float")
    kinds = sorted({type(v).__name__ for v in values})
    if kinds != ["str"]:
        raise InputDataError(
            f"Column {column!r} of `df` holds values of the types {kinds}; make them numbers, "
            "booleans or texts throughout (dates could become days), drop the column, or pass "
            "`parameters` without it."
        )
    if values.nunique() > MAX_INFERRED_VALUES:
        raise InputDataError(
            f"Column {column!r} of `df` has {values.nunique()} different texts, too many for a "
            "choice parameter; drop the column, or pass `parameters`."
        )
    return _choice(column, sorted(values.unique().tolist()))


def _integers(column: str, low: int, high: int) -> RangeParameterConfig:
    if high - low > MAX_INFERRED_INTEGERS:
        raise InputDataError(
            f"Column {column!r} of `df` holds whole numbers from {low} to {high}, which looks like "
            "an identifier or a real number; drop the column, convert it to float, or pass "
            "`parameters`."
        )
    return RangeParameterConfig(name=column, bounds=(low, high), parameter_type="int")


def _choice(column: str, values: list[Any], *, ordered: bool = False) -> ChoiceParameterConfig:
    names: dict[type, Any] = {bool: "bool", int: "int", float: "float", str: "str"}
    kinds = {type(v) for v in values}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind not in names:
        raise InputDataError(
            f"Column {column!r} of `df` has the categories {values}, which are not all texts, all "
            "integers, all floats or all booleans; convert them, or pass `parameters`."
        )
    return ChoiceParameterConfig(
        name=column, values=values, parameter_type=names[kind], is_ordered=ordered
    )

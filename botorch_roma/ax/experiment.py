r"""
A table of measured designs as an Ax experiment: one batch trial, one data frame.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.arm import Arm
from ax.core.batch_trial import BatchTrial
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.parameter import PARAMETER_PYTHON_TYPE_MAP, FixedParameter, Parameter
from botorch.exceptions import InputDataError
from botorch.exceptions.warnings import InputDataWarning

ParameterConfig = RangeParameterConfig | ChoiceParameterConfig

#: Text columns with more values than this are no choice parameters, unless they are given as such.
MAX_INFERRED_VALUES: int = 100


class MeasuredArm(Arm):
    """An arm that computes its signature once.

    Ax asks for signatures in loops within loops over the arms of a batch; hashing thousands of
    them anew each time is most of what its plots of a large table would do. Stored as an ``Arm``.
    """

    @cached_property
    def signature(self) -> str:
        """Unique representation of the arm's parameters, which never change."""
        return self.md5hash(self._parameters)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Arm)
            and self._parameters == other._parameters
            and self._name == other._name
        )

    __hash__ = Arm.__hash__


def offline_experiment(
    df: pd.DataFrame,
    parameters: Sequence[ParameterConfig] | None = None,
    objective: str = "",
    *,
    outcome_constraints: Sequence[str] | None = None,
    parameter_constraints: Sequence[str] | None = None,
    sems: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Experiment:
    r"""Make an Ax experiment of a table of designs that were measured once.

    For ``Client`` users: ``client.set_experiment(offline_experiment(...))``, or
    :func:`attach_offline_data` to a client that has been configured already.

    Args:
        df: One row per measurement: columns for the parameters and for the metrics.
        parameters: Ax's parameter configurations; their names are columns of ``df``. By default
            every column that is no metric becomes a parameter: numbers get the range of the data,
            texts and booleans are unordered choices, columns that never vary are left out.
        objective: As in ``Client.configure_optimization``: ``"activity"``, ``"-cost"``,
            ``"a + 0.5 * b"``, or ``"a, b"`` for several.
        outcome_constraints: As in ``Client.configure_optimization``, ``"toxicity <= 0.2"``.
        parameter_constraints: As in ``Client.configure_experiment``, ``"x1 + x2 <= 1"``.
        sems: Metric to the column of its standard errors.
        name: Name of the experiment.

    Returns:
        The experiment, with one completed batch trial.

    Raises:
        ValueError: An empty objective; columns that do not exist.
        InputDataError: Missing or unfit values, named with their row.

    Example:
        >>> experiment = offline_experiment(df, objective="activity")
        >>> runs = roma_generation_strategy().gen(experiment, n=128)
    """
    if not objective:
        raise ValueError(
            "`objective` must name what to optimise, for instance 'activity' or '-cost', received "
            f"{objective!r}."
        )
    client = Client()
    metrics = _metric_names(objective, outcome_constraints)
    _check_columns(df, [*metrics, *(sems or {}).values()])
    if parameters is None:
        parameters = infer_parameters(df, exclude=[*metrics, *(sems or {}).values()])
    client.configure_experiment(
        parameters=parameters, parameter_constraints=parameter_constraints, name=name
    )
    client.configure_optimization(objective=objective, outcome_constraints=outcome_constraints)
    attach_offline_data(client, df, sems=sems)
    return client._experiment


def _metric_names(objective: str, outcome_constraints: Sequence[str] | None) -> list[str]:
    """Metrics of an objective and its constraints, as Ax reads them."""
    client = Client()
    client.configure_experiment(
        parameters=[RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float")]
    )
    client.configure_optimization(objective=objective, outcome_constraints=outcome_constraints)
    return sorted(client._experiment.metrics)


def infer_parameters(df: pd.DataFrame, exclude: Sequence[str] = ()) -> list[ParameterConfig]:
    r"""Ax's parameter configurations for the columns of a table.

    Args:
        df: The table.
        exclude: Columns that are no parameters.

    Returns:
        A range for every column of numbers (integers stay integers), an unordered choice for every
        column of texts or booleans. Columns that never vary are left out, with a warning.

    Raises:
        InputDataError: For missing values, and texts that are rather names than categories.
    """
    configs: list[ParameterConfig] = []
    constant = []
    for column in df.columns:
        if column in exclude:
            continue
        values = df[column]
        if values.isna().any():
            raise InputDataError(
                f"Column {column!r} of `df` has a missing value in row {values.isna().idxmax()!r}; "
                "drop or fill it, or pass `parameters` without it."
            )
        if values.nunique() < 2:
            constant.append(column)
        elif pd.api.types.is_bool_dtype(values):
            configs.append(_choice(column, [False, True], "bool"))
        elif pd.api.types.is_numeric_dtype(values):
            kind: Any = "int" if pd.api.types.is_integer_dtype(values) else "float"
            cast = int if kind == "int" else float
            bounds = cast(values.min()), cast(values.max())
            configs.append(RangeParameterConfig(name=column, bounds=bounds, parameter_type=kind))
        elif values.nunique() <= MAX_INFERRED_VALUES:
            configs.append(_choice(column, sorted(values.astype(str).unique()), "str"))
        else:
            raise InputDataError(
                f"Column {column!r} of `df` has {values.nunique()} different texts, too many for a "
                "choice parameter; drop the column, or pass `parameters`."
            )
    if constant:
        warnings.warn(
            f"Columns {constant} of `df` never vary and are left out of the search space.",
            InputDataWarning,
            stacklevel=2,
        )
    return configs


def _choice(name: str, values: list[Any], kind: Any) -> ChoiceParameterConfig:
    return ChoiceParameterConfig(name=name, values=values, parameter_type=kind, is_ordered=False)


def attach_offline_data(
    target: Client | Experiment, df: pd.DataFrame, *, sems: Mapping[str, str] | None = None
) -> BatchTrial:
    r"""Attach a table of measurements as one completed batch trial with one data frame.

    Much faster than ``client.attach_trial`` row by row, whose time is quadratic in the number of
    rows. Designs that occur several times become one arm with the mean of the measurements.

    Args:
        target: A configured client or an experiment; its parameters and metrics are columns.
        df: The table. A missing metric is a measurement that was not made; one is needed per row.
        sems: Metric to the column of its standard errors; unknown by default.

    Returns:
        The trial.

    Raises:
        ValueError: Columns that do not exist; unknown metrics in ``sems``.
        InputDataError: Missing or unfit values, named with their row; nothing is attached then.
    """
    experiment = target._experiment if isinstance(target, Client) else target
    sems = dict(sems or {})
    metrics = sorted(experiment.metrics)
    if unknown := sorted(set(sems) - set(metrics)):
        raise ValueError(f"`sems` names {unknown}; the metrics of the experiment are {metrics}.")
    if df.empty:
        raise InputDataError("`df` has no rows; pass at least two measured designs.")
    free = {
        name: p
        for name, p in experiment.search_space.parameters.items()
        if not isinstance(p, FixedParameter) or name in df.columns
    }
    present = [m for m in metrics if m in df.columns]
    needed = (
        [m for m in experiment.optimization_config.metric_names]
        if (experiment.optimization_config is not None)
        else present
    )
    _check_columns(df, [*free, *needed, *sems.values()])
    columns = [_parameter_values(p, df[name]) for name, p in free.items()]
    fixed = {
        name: p.value
        for name, p in experiment.search_space.parameters.items()
        if isinstance(p, FixedParameter) and name not in free
    }
    means = _numbers(df, present, allow_missing=True)
    errors = np.full_like(means, np.nan)
    for metric, column in sems.items():
        errors[:, present.index(metric)] = _numbers(df, [column], allow_missing=True)[:, 0]
    if (errors < 0).any():
        raise InputDataError(f"`sems` holds a negative standard error: {np.nanmin(errors)}.")
    unmeasured = np.isnan(means).all(axis=1)
    if unmeasured.any():
        raise InputDataError(
            f"{int(unmeasured.sum())} rows of `df` (the first is {df.index[unmeasured.argmax()]!r})"
            f" have none of the metrics {present}; drop them: they would count as pending."
        )
    designs = list(zip(*columns, strict=True))
    first, group = _groups(designs)
    if len(first) < len(designs):
        means, errors = _pool(group, len(first), means, errors)
    trial = experiment.new_batch_trial()
    prefix = f"{trial.index}_"
    trial.add_arms_and_weights(
        [
            MeasuredArm(dict(zip(free, designs[row], strict=True)) | fixed, name=f"{prefix}{k}")
            for k, row in enumerate(first)
        ]
    )
    names = np.array([arm.name for arm in trial.arms], dtype=object)
    experiment.attach_data(_data(experiment, trial.index, names, present, means, errors))
    trial.mark_running(no_runner_required=True).mark_completed()
    return trial


def _check_columns(df: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [n for n in dict.fromkeys(names) if n not in df.columns]
    if missing:
        raise ValueError(f"`df` has no columns {missing}; it has {list(df.columns)}.")


def _numbers(df: pd.DataFrame, columns: Sequence[str], *, allow_missing: bool) -> np.ndarray:
    """Columns as an ``n x k`` array of floats."""
    arrays = []
    for column in columns:
        values = pd.to_numeric(df[column], errors="coerce").to_numpy(dtype=float)
        bad = np.isinf(values) | (np.isnan(values) & ~(df[column].isna() & allow_missing))
        if bad.any():
            row = bad.argmax()
            raise InputDataError(
                f"Column {column!r} of `df` must hold finite numbers, received "
                f"{df[column].iloc[row]!r} in row {df.index[row]!r}."
            )
        arrays.append(values)
    return np.stack(arrays, axis=1) if arrays else np.empty((len(df), 0))


def _parameter_values(parameter: Parameter, values: pd.Series) -> list[Any]:
    """Values of a parameter in its own Python type, valid or out of its range (Ax allows that)."""
    name = parameter.name
    kind: Any = PARAMETER_PYTHON_TYPE_MAP[parameter.parameter_type]
    if values.isna().any():
        row = int(values.isna().argmax())
        raise InputDataError(
            f"Parameter {name!r} has no value in row {values.index[row]!r}; drop or fill the row."
        )
    converted = []
    for row, value in zip(values.index, values.tolist(), strict=True):
        try:
            new = kind(value)
            fits = kind is str or kind is bool or (math.isfinite(new) and float(value) == new)
            fits &= kind is not bool or value in (True, False)
        except (TypeError, ValueError):
            fits = False
        choices = getattr(parameter, "values", None)
        if not fits or (choices is not None and new not in choices):
            expected = f"one of {choices}" if choices is not None else kind.__name__
            raise InputDataError(
                f"Parameter {name!r} is {value!r} in row {row!r}, which is not {expected}; correct "
                "the row or the parameter."
            )
        converted.append(new)
    return converted


def _groups(designs: list[tuple[Any, ...]]) -> tuple[list[int], np.ndarray]:
    """Row of the first occurrence of every distinct design, and the number of each row's design."""
    number: dict[tuple[Any, ...], int] = {}
    group = np.array([number.setdefault(design, len(number)) for design in designs])
    first = np.unique(group, return_index=True)[1]
    return first.tolist(), group


def _pool(
    group: np.ndarray, size: int, means: np.ndarray, errors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means over repeated measurements, and the standard errors of these means where known."""
    warnings.warn(
        f"{len(group) - size} rows of `df` repeat designs of other rows; they are averaged.",
        InputDataWarning,
        stacklevel=3,
    )
    frame = pd.DataFrame(means).groupby(group)
    count = frame.count().to_numpy()
    squares = pd.DataFrame(np.where(np.isnan(means), np.nan, errors**2)).groupby(group)
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = np.sqrt(squares.sum(min_count=1).to_numpy()) / count
    complete = squares.count().to_numpy() == count  # one unknown error makes the pooled one unknown
    return frame.mean().to_numpy(), np.where(complete, pooled, np.nan)


def _data(
    experiment: Experiment,
    trial_index: int,
    arm_names: np.ndarray,
    metrics: Sequence[str],
    means: np.ndarray,
    errors: np.ndarray,
) -> Data:
    frames = []
    for k, metric in enumerate(metrics):
        measured = ~np.isnan(means[:, k])
        frames.append(
            pd.DataFrame(
                {
                    "trial_index": trial_index,
                    "arm_name": arm_names[measured],
                    "metric_name": metric,
                    "metric_signature": experiment.metrics[metric].signature,
                    "mean": means[measured, k],
                    "sem": errors[measured, k],
                }
            )
        )
    return Data(df=pd.concat(frames, ignore_index=True))

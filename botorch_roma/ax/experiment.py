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
from ax.api.configs import RangeParameterConfig
from ax.core.arm import Arm
from ax.core.batch_trial import BatchTrial
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.parameter import (
    PARAMETER_PYTHON_TYPE_MAP,
    ChoiceParameter,
    DerivedParameter,
    FixedParameter,
    Parameter,
    RangeParameter,
)
from botorch.exceptions import InputDataError
from botorch.exceptions.warnings import InputDataWarning

from botorch_roma.ax.node import refuse_hierarchical
from botorch_roma.ax.precision import warn_of_lost_digits
from botorch_roma.ax.search_space import (
    ParameterConfig,
    check_columns,
    check_frame,
    exact_grid,
    infer_parameters,
    label,
    meant_value,
    one_of,
)

__all__ = ["MeasuredArm", "attach_offline_data", "offline_experiment"]


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
    status_quo: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Experiment:
    r"""Make an Ax experiment of a table of designs that were measured once.

    For ``Client`` users: ``client.set_experiment(offline_experiment(...))``, or
    :func:`attach_offline_data` to a client that has been configured already.

    Args:
        df: One row per measurement: columns for the parameters and for the metrics.
        parameters: Ax's parameter configurations; their names are columns of ``df``. By default
            every column that is no metric becomes a parameter, see
            :func:`~botorch_roma.ax.infer_parameters`.
        objective: As in ``Client.configure_optimization``: ``"activity"``, ``"-cost"``,
            ``"a + 0.5 * b"``, or ``"a, b"`` for several.
        outcome_constraints: As in ``Client.configure_optimization``, ``"toxicity <= 0.2"``.
        parameter_constraints: As in ``Client.configure_experiment``, ``"x1 + x2 <= 1"``.
        sems: Metric to the column of its standard errors.
        status_quo: Parameter values of the row that constraints such as
            ``"cost <= 1.1 * baseline"`` refer to.
        name: Name of the experiment.

    Returns:
        The experiment, with one completed batch trial.

    Raises:
        ValueError: An empty objective; columns that do not exist; parameters that are metrics; a
            status quo that is missing or no row.
        InputDataError: Fewer than two rows; missing or unfit values, named with their row.

    Warns:
        InputDataWarning: Rows out of the range of a parameter; repeated designs.

    Example:
        >>> experiment = offline_experiment(df, objective="activity")
        >>> runs = roma_generation_strategy().gen(experiment, n=128)
    """
    if not objective:
        raise ValueError(
            "`objective` must name what to optimise, for instance 'activity' or '-cost', received "
            f"{objective!r}."
        )
    check_frame(df)
    if len(df) < 2:
        raise InputDataError(
            f"`df` must hold at least two measured designs, received {len(df)} rows; add some."
        )
    client = Client()
    metrics = _metric_names(objective, outcome_constraints)
    outcomes = [*metrics, *(sems or {}).values()]
    check_columns(df, outcomes)
    if parameters is None:
        parameters = infer_parameters(df, exclude=outcomes)
    if both := sorted({p.name for p in parameters} & set(outcomes)):
        raise ValueError(
            f"`parameters` has {both}, which are outcomes of this experiment (metrics or standard "
            "errors); leave them out."
        )
    client.configure_experiment(
        parameters=[exact_grid(p) for p in parameters],
        parameter_constraints=parameter_constraints,
        name=name,
    )
    client.configure_optimization(objective=objective, outcome_constraints=outcome_constraints)
    experiment = client._experiment
    config = experiment.optimization_config
    if status_quo is not None:
        if set(status_quo) != set(experiment.search_space.parameters):
            raise ValueError(
                f"`status_quo` must give a value to each of the parameters "
                f"{list(experiment.search_space.parameters)}, received {dict(status_quo)}."
            )
        row = _designs(experiment, pd.DataFrame([dict(status_quo)]))[0]
        experiment.status_quo = Arm(row, name="status_quo")
    elif config is not None and any(c.relative for c in config.all_constraints):
        raise ValueError(
            f"`outcome_constraints` {list(outcome_constraints or [])} refer to a baseline; pass "
            "the parameter values of its row as `status_quo`."
        )
    trial = attach_offline_data(client, df, sems=sems)
    if experiment.status_quo is not None and experiment.status_quo not in trial.arms:
        raise ValueError(
            f"`status_quo` must be one of the rows of `df`, received {dict(status_quo or {})}; add "
            "its measurements to the table."
        )
    return experiment


def _metric_names(objective: str, outcome_constraints: Sequence[str] | None) -> list[str]:
    """Metrics of an objective and its constraints, as Ax reads them."""
    client = Client()
    client.configure_experiment(
        parameters=[RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float")]
    )
    client.configure_optimization(objective=objective, outcome_constraints=outcome_constraints)
    return sorted(client._experiment.metrics)


def attach_offline_data(
    target: Client | Experiment, df: pd.DataFrame, *, sems: Mapping[str, str] | None = None
) -> BatchTrial:
    r"""Attach a table of measurements as one completed batch trial with one data frame.

    Much faster than ``client.attach_trial`` row by row, whose time is quadratic in the number of
    rows. Designs that occur several times become one arm with the mean of the measurements; those
    that the experiment knows already, from another table or as RoMA's own arms, keep their names.

    Args:
        target: A configured client or an experiment; its parameters and metrics are columns.
            Derived parameters are computed where they are not.
        df: The table. A missing metric is a measurement that was not made; one is needed per row.
        sems: Metric to the column of its standard errors; unknown by default.

    Returns:
        The trial.

    Raises:
        ValueError: No metrics yet; columns that do not exist; unknown metrics in ``sems``.
        InputDataError: Missing or unfit values, named with their row. Nothing is attached then.
        UnsupportedError: Hierarchical search spaces.
    """
    if isinstance(target, Client) and target._maybe_experiment is None:
        raise ValueError(
            "`target` must hold an experiment, received a Client without one; call "
            "`client.configure_experiment` first."
        )
    experiment = target._experiment if isinstance(target, Client) else target
    if not isinstance(experiment, Experiment):
        raise ValueError(
            f"`target` must be an Experiment or a Client of Ax, received {type(target).__name__}."
        )
    check_frame(df)
    refuse_hierarchical(experiment.search_space)
    sems = dict(sems or {})
    metrics = sorted(experiment.metrics)
    if not metrics:
        raise ValueError(
            "The experiment has no metrics, so that no column of `df` is an outcome; call "
            "`client.configure_optimization(objective=...)` first."
        )
    if unknown := sorted(set(sems) - set(metrics)):
        raise ValueError(f"`sems` names {unknown}; the metrics of the experiment are {metrics}.")
    if df.empty:
        raise InputDataError("`df` has no rows; pass at least two measured designs.")
    config = experiment.optimization_config
    present = [m for m in metrics if m in df.columns]
    needed = present if config is None else sorted({*present, *config.metric_names})
    check_columns(df, [*needed, *sems.values()])
    designs = _designs(experiment, df)
    means = _numbers(df, present, allow_missing=True)
    errors = np.full_like(means, np.nan)
    for metric, column in sems.items():
        errors[:, present.index(metric)] = _numbers(df, [column], allow_missing=True)[:, 0]
    if (errors < 0).any():
        raise InputDataError(
            f"`sems` holds a negative standard error: {np.nanmin(errors):g}; correct the column."
        )
    unmeasured = np.isnan(means).all(axis=1)
    if unmeasured.any():
        raise InputDataError(
            f"{int(unmeasured.sum())} rows of `df` (the first is "
            f"{label(df, unmeasured.argmax())!r}) have none of the metrics {present}; drop them: "
            "they would count as pending."
        )
    warn_of_lost_digits(present, means)
    first, group = _groups([tuple(design.values()) for design in designs])
    if len(first) < len(designs):
        means, errors = _pool(group, len(first), means, errors)
    arms = _arms(experiment, [designs[row] for row in first])
    trial = experiment.new_batch_trial()
    trial.add_arms_and_weights(arms)
    names = np.array([arm.name for arm in arms], dtype=object)
    experiment.attach_data(_data(experiment, trial.index, names, present, means, errors))
    trial.mark_running(no_runner_required=True).mark_completed()
    if isinstance(target, Client):  # to its database, if it has one, as after Ax's own methods
        target._save_experiment_to_db_if_possible(experiment=experiment)
    return trial


def _designs(experiment: Experiment, df: pd.DataFrame) -> list[dict[str, Any]]:
    """Parameter values of every row, of all parameters of the experiment."""
    parameters = experiment.search_space.parameters
    derived = [p for p in parameters.values() if isinstance(p, DerivedParameter)]
    fixed = {
        name: p.value
        for name, p in parameters.items()
        if isinstance(p, FixedParameter) and name not in df.columns
    }
    free = {n: p for n, p in parameters.items() if n not in fixed and p not in derived}
    given = {p.name: p for p in derived if p.name in df.columns}
    check_columns(df, [*free, *given])
    columns = {n: _parameter_values(p, df[n]) for n, p in {**free, **given}.items()}
    _warn_outside(free, columns)
    designs = []
    for k, row in enumerate(df.index.tolist()):
        design = {name: columns[name][k] for name in free} | fixed
        for p in derived:
            value = design[p.name] = p.compute(design)
            if p.name in given and not _agree(columns[p.name][k], value):
                raise InputDataError(
                    f"Derived parameter {p.name!r} is {columns[p.name][k]!r} in row {row!r}, but "
                    f"its expression '{p.expression_str}' gives {value!r}; correct or drop the "
                    "column."
                )
        designs.append(design)
    return designs


def _warn_outside(parameters: Mapping[str, Parameter], columns: Mapping[str, list[Any]]) -> None:
    """Warn of numbers out of the range of their parameter, which Ax keeps."""
    outside = {
        name: sum(not p.lower <= value <= p.upper for value in columns[name])
        for name, p in parameters.items()
        if isinstance(p, RangeParameter)
    }
    outside = {name: count for name, count in outside.items() if count}
    if outside:
        warnings.warn(
            f"Rows of `df` lie out of the range of a parameter (rows by parameter: {outside}). "
            "They are learned from, but not proposed; drop them or widen the range if that is not "
            "meant.",
            InputDataWarning,
            stacklevel=4,
        )


def _agree(given: Any, value: Any) -> bool:
    if isinstance(value, float):
        return math.isclose(given, value, rel_tol=1e-6, abs_tol=1e-6)
    return bool(given == value)


def _arms(experiment: Experiment, designs: Sequence[dict[str, Any]]) -> list[Arm]:
    """Named arms: designs that the experiment knows have the names of their arms."""
    number = 0
    prefix = f"{max(experiment.trials, default=-1) + 1}_"
    arms: list[Arm] = []
    for design in designs:
        known = experiment.arms_by_signature.get(Arm.md5hash(design))
        if known is None:
            while f"{prefix}{number}" in experiment.arms_by_name:
                number += 1
            name = f"{prefix}{number}"
            number += 1
        else:
            name = known.name
        arms.append(MeasuredArm(design, name=name))
    return arms


def _numbers(df: pd.DataFrame, columns: Sequence[str], *, allow_missing: bool) -> np.ndarray:
    """Columns as an ``n x k`` array of floats."""
    arrays = []
    for column in columns:
        values = pd.to_numeric(df[column], errors="coerce").to_numpy(dtype=float)
        bad = np.isinf(values) | (np.isnan(values) & ~(df[column].isna() & allow_missing))
        if bad.any():
            row = bad.argmax()
            value = df[column].iloc[row]
            shown = repr(value) if isinstance(value, str) else str(value)
            raise InputDataError(
                f"Column {column!r} of `df` must hold finite numbers, received "
                f"{shown} in row {label(df, row)!r}; drop or correct the row."
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
            f"Parameter {name!r} has no value in row {label(values, row)!r}; drop or fill the row."
        )
    converted = []
    for row, value in zip(values.index.tolist(), values.tolist(), strict=True):
        try:
            new = kind(value)
            fits = kind is str or kind is bool or (math.isfinite(new) and float(value) == new)
            fits &= kind is not bool or value in (True, False)
        except (TypeError, ValueError):
            fits = False
        expected = kind.__name__
        if isinstance(parameter, FixedParameter):
            fits, expected = fits and new == parameter.value, one_of([parameter.value])
        elif isinstance(parameter, ChoiceParameter):
            new = meant_value(parameter, new) if fits else None
            fits, expected = new is not None, one_of(parameter.values)
        if not fits:
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

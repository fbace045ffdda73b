r"""
Measured outcomes as acquisition functions need them: of all metrics, row by row.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import torch
from ax.exceptions.core import UnsupportedError
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.torch_base import TorchOptConfig
from botorch.utils.datasets import SupervisedDataset
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from torch import Tensor


def complete_surrogate(surrogate: Surrogate) -> Surrogate:
    r"""The same surrogate, with the training data of the rows in which no metric is missing.

    Raises:
        UnsupportedError: If there is no such row.
    """
    complete = copy.copy(surrogate)
    complete._training_data = _complete(surrogate.training_data)
    return complete


def _complete(datasets: Sequence[SupervisedDataset]) -> list[SupervisedDataset]:
    first = datasets[0].X
    if all(d.X.shape == first.shape and d.X.equal(first) for d in datasets):
        return list(datasets)
    positions = [_positions(d.X) for d in datasets]
    shared = [key for key in positions[0] if all(key in p for p in positions)]
    if not shared:
        metrics = [name for d in datasets for name in d.outcome_names]
        raise UnsupportedError(
            f"No row of the data has all of the metrics {metrics}, which several objectives and "
            "improvements over measured designs need; measure some designs in full, or make one "
            "objective of them (such as 'a + 0.5 * b') with the default acquisition function."
        )
    result = []
    for dataset, position in zip(datasets, positions, strict=True):
        rows = torch.tensor([position[key] for key in shared], device=dataset.X.device)
        result.append(
            SupervisedDataset(
                dataset.X[rows],
                dataset.Y[rows],
                Yvar=None if dataset.Yvar is None else dataset.Yvar[rows],
                feature_names=dataset.feature_names,
                outcome_names=dataset.outcome_names,
            )
        )
    return result


def _positions(X: Tensor) -> dict[tuple[bytes, int], int]:
    """Row of every design and, of designs measured several times, of every repetition."""
    count: Counter[bytes] = Counter()
    positions = {}
    for i, row in enumerate(X.cpu().numpy()):
        key = row.tobytes()
        positions[key, count[key]] = i
        count[key] += 1
    return positions


def measured_thresholds(
    surrogate: Surrogate, config: TorchOptConfig, thresholds: Tensor | None
) -> Tensor:
    r"""Objective thresholds, with those that are not given inferred from measured outcomes.

    Predictions would do the same only while some design is predicted to be feasible. Where no
    measured design is feasible all of them count.

    Args:
        surrogate: Holds the data.
        config: Objectives and outcome constraints.
        thresholds: Given thresholds, one per objective, to be maximised; NaN where not given.

    Returns:
        Thresholds, one per objective, to be maximised.
    """
    datasets = _complete(surrogate.training_data)
    column = {n: d.Y[:, [j]] for d in datasets for j, n in enumerate(d.outcome_names)}
    Y = torch.cat([column[name] for name in surrogate.outcomes], dim=-1)
    if config.outcome_constraints is not None:
        A, b = config.outcome_constraints
        feasible = (Y @ A.to(Y).mT <= b.to(Y).reshape(-1)).all(dim=-1)
        Y = Y[feasible] if bool(feasible.any()) else Y
    objectives = Y @ config.objective_weights.to(Y).mT
    return infer_reference_point(
        pareto_Y=objectives[is_non_dominated(objectives)], max_ref_point=thresholds, scale=0.1
    )

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("ax")

from ax.adapter.cross_validation import cross_validate
from ax.core.experiment import Experiment
from botorch.utils.datasets import SupervisedDataset

import botorch_roma.ax.surrogate as surrogate_module
from botorch_roma.ax import RoMASurrogate, offline_experiment, roma_generation_strategy
from botorch_roma.ax.surrogate import NUM_FOLDS, _fold_left_out, _folds_of


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Training designs of every fit."""
    seen: list[Any] = []
    original = surrogate_module.fit_roma_model

    def fit(model: Any, **options: Any) -> Any:
        seen.append(model.train_X)
        return original(model, **options)

    monkeypatch.setattr(surrogate_module, "fit_roma_model", fit)
    return seen


@pytest.fixture
def experiment(table: pd.DataFrame) -> Experiment:
    return offline_experiment(table[["x", "k", "y"]].head(60), objective="y")


def adapter_of(experiment: Experiment, quick: dict[str, Any]) -> Any:
    strategy = roma_generation_strategy(**quick)
    strategy.gen(experiment, n=1)
    return strategy.adapter


def test_cross_validation_in_folds_trains_as_asked(
    experiment: Experiment, quick: dict[str, Any], fits: list[Any]
) -> None:
    adapter = adapter_of(experiment, quick)
    cross_validate(adapter, folds=3)
    assert [len(X) for X in fits] == [60, 40, 40, 40]


def test_cross_validation_in_five_folds_trains_as_asked(
    experiment: Experiment, quick: dict[str, Any], fits: list[Any]
) -> None:
    adapter = adapter_of(experiment, quick)
    cross_validate(adapter, folds=5)
    assert [len(X) for X in fits] == [60, *[48] * 5]
    left_out = [{tuple(x) for x in fits[0].tolist()} - {tuple(x) for x in X.tolist()} for X in fits]
    assert [len(rows) for rows in left_out] == [0, *[12] * 5]
    assert len(set().union(*left_out)) == 60


def test_leave_one_out_takes_five_fits(
    experiment: Experiment, quick: dict[str, Any], fits: list[Any]
) -> None:
    """Every design is predicted by a network that has not seen it."""
    adapter = adapter_of(experiment, {**quick, "fit_options": {"epochs": 200}})
    results = cross_validate(adapter)
    assert len(results) == 60
    assert len(fits) == 1 + NUM_FOLDS
    whole = fits[0]
    for X in fits[1:]:
        left_out = [x for x in whole if not (x == X).all(dim=-1).any()]
        assert len({int(f) for f in _folds_of(torch.stack(left_out))}) == 1
    assert sum(60 - len(X) for X in fits[1:]) == 60
    predicted = [r.predicted.means_dict["y"] for r in results]
    observed = [r.observed.data.means_dict["y"] for r in results]
    assert np.corrcoef(predicted, observed)[0, 1] > 0.3
    cross_validate(adapter)  # known by now
    assert len(fits) == 1 + NUM_FOLDS


def test_new_data_make_new_folds(
    experiment: Experiment, quick: dict[str, Any], fits: list[Any]
) -> None:
    strategy = roma_generation_strategy(**quick)
    trial = experiment.new_trial(strategy.gen(experiment, n=1)[0][0])
    cross_validate(strategy.adapter)
    trial.mark_running(no_runner_required=True)
    trial.update_trial_data(raw_data={"y": (1.0, 0.0)})
    trial.mark_completed()
    strategy.gen(experiment, n=1)
    count = len(fits)
    cross_validate(strategy.adapter)
    assert len(fits) == count + NUM_FOLDS


def test_few_rows_are_left_out_one_by_one(
    table: pd.DataFrame, quick: dict[str, Any], fits: list[Any]
) -> None:
    adapter = adapter_of(offline_experiment(table[["x", "k", "y"]].head(7), objective="y"), quick)
    cross_validate(adapter)
    assert [len(X) for X in fits] == [7, *[6] * 7]


def dataset(X: torch.Tensor) -> SupervisedDataset:
    return SupervisedDataset(
        X, X.sum(dim=-1, keepdim=True), feature_names=["a"], outcome_names=["y"]
    )


def test_fold_left_out() -> None:
    X = torch.arange(40.0).double().unsqueeze(-1)
    folds = _folds_of(X)
    assert set(folds.tolist()) == set(range(NUM_FOLDS))
    for i in (0, 17, 39):
        rest = torch.cat([X[:i], X[i + 1 :]])
        assert _fold_left_out([dataset(X)], [dataset(rest)]) == folds[i]
    same = (folds == folds[0]).nonzero().flatten()[:2]
    other = (folds != folds[0]).nonzero().flatten()[0]
    keep = torch.ones(40, dtype=torch.bool)
    keep[same] = False
    assert _fold_left_out([dataset(X)], [dataset(X[keep])]) == folds[0]
    keep[other] = False
    assert _fold_left_out([dataset(X)], [dataset(X[keep])]) is None  # of two folds
    assert _fold_left_out([dataset(X)], [dataset(X)]) is None
    assert _fold_left_out([dataset(X)], [dataset(X[:30])]) is None  # too many
    assert (folds == folds[0]).sum() > 4
    assert _fold_left_out([dataset(X)], [dataset(X[folds != folds[0]])]) is None  # a whole fold
    assert _fold_left_out([dataset(X)], [dataset(X[:-1] + 0.5)]) is None  # other designs
    assert _fold_left_out([dataset(X)], [dataset(X), dataset(X)]) is None


def test_equal_designs_are_in_the_same_fold() -> None:
    X = torch.rand(5, 3, dtype=torch.double).repeat(4, 1)
    assert (_folds_of(X).view(4, 5) == _folds_of(X)[:5]).all()


def test_defaults() -> None:
    surrogate = RoMASurrogate()
    assert surrogate.refit_on_cv
    assert not surrogate.warm_start_refit

r"""
``RoMAModel`` as the surrogate of Ax's ``BoTorchGenerator``.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ax.core.search_space import SearchSpaceDigest
from ax.generators.torch.botorch_modular.surrogate import ModelConfig, Surrogate, SurrogateSpec
from ax.generators.torch.botorch_modular.utils import fit_botorch_model
from botorch.utils.datasets import SupervisedDataset
from torch import Tensor

from botorch_roma.fit import fit_roma_model
from botorch_roma.models.roma import RoMAModel

#: Networks that answer a leave-one-out cross-validation.
NUM_FOLDS: int = 5

#: Share of the rows up to which leaving out counts as leaving one design out.
MAX_LEFT_OUT: float = 0.1


@fit_botorch_model.register(RoMAModel)
def _fit_botorch_model_roma(
    model: RoMAModel, mll_class: Any = None, mll_options: Mapping[str, Any] | None = None
) -> None:
    """Stage 1; Ax passes no other options to a fit than ``mll_options``."""
    fit_roma_model(model, **{"seed": model.seed, **(mll_options or {})})


def roma_surrogate_spec(
    model_options: Mapping[str, Any] | None = None,
    fit_options: Mapping[str, Any] | None = None,
) -> SurrogateSpec:
    r"""The specification of a :class:`~botorch_roma.models.RoMAModel` for Ax generators.

    Args:
        model_options: Options of :class:`~botorch_roma.models.RoMAModel`.
        fit_options: Options of :func:`~botorch_roma.fit.fit_roma_model`.

    Example:
        >>> from ax.adapter.registry import Generators
        >>> from botorch_roma.acquisition import ConstrainedPosteriorMean
        >>> from botorch_roma.ax import RoMAAcquisition
        >>> adapter = Generators.BOTORCH_MODULAR(
        ...     experiment=experiment, data=experiment.lookup_data(),
        ...     surrogate=RoMASurrogate(roma_surrogate_spec()),
        ...     acquisition_class=RoMAAcquisition, botorch_acqf_class=ConstrainedPosteriorMean,
        ... )
    """
    config = ModelConfig(
        botorch_model_class=RoMAModel,
        model_options=dict(model_options or {}),
        mll_options=dict(fit_options or {}),
        input_transform_classes=None,  # inputs are z-scored inside the model
        name="RoMA",
    )
    return SurrogateSpec(model_configs=[config])


class RoMASurrogate(Surrogate):
    r"""Ax's surrogate, with a cross-validation that a network can afford.

    Most of Ax's analyses begin with leave-one-out cross-validation, ``n`` fits for ``n`` designs.
    Here a fit without one design (or few, up to a tenth) is answered by one of five networks,
    that of the fold of the design, which has seen none of its fold. So every prediction is one of
    a design that was held out, at five fits in all. Cross-validations that leave out more, as
    with ``folds=5``, train as asked.

    Args:
        surrogate_spec: See :func:`roma_surrogate_spec`.
        allow_batched_models: As for Ax's surrogate.
        refit_on_cv: As for Ax's surrogate; without it a network is judged on its training data.
        warm_start_refit: As for Ax's surrogate.
        metric_to_best_model_config: As for Ax's surrogate.
    """

    def __init__(
        self,
        surrogate_spec: SurrogateSpec | None = None,
        allow_batched_models: bool = True,
        refit_on_cv: bool = True,
        warm_start_refit: bool = False,
        metric_to_best_model_config: dict[str, ModelConfig] | None = None,
    ) -> None:
        super().__init__(
            surrogate_spec=surrogate_spec or roma_surrogate_spec(),
            allow_batched_models=allow_batched_models,
            refit_on_cv=refit_on_cv,
            warm_start_refit=warm_start_refit,
            metric_to_best_model_config=metric_to_best_model_config,
        )
        self._whole: RoMASurrogate | None = None  # of a clone: the surrogate of all data
        self._folds: dict[int, Surrogate] = {}

    def clone_reset(self) -> RoMASurrogate:
        """A surrogate without data, made by Ax for each fold of a cross-validation."""
        clone: Any = super().clone_reset()
        clone._whole = self
        return clone  # of this class, says Ax's code

    def fit(
        self,
        datasets: Sequence[SupervisedDataset],
        search_space_digest: SearchSpaceDigest,
        candidate_metadata: Any = None,
        state_dict: Mapping[str, Tensor] | None = None,
        refit: bool = True,
        repeat_model_selection_if_dataset_changed: bool = True,
    ) -> None:
        """Fit as Ax's surrogate does, or take over the network of a fold."""
        options: dict[str, Any] = {
            "search_space_digest": search_space_digest,
            "state_dict": state_dict,
            "refit": refit,
            "repeat_model_selection_if_dataset_changed": repeat_model_selection_if_dataset_changed,
        }
        whole = self._whole
        if whole is None:
            self._folds = {}
        fold = None if whole is None or not refit else _fold_left_out(whole.training_data, datasets)
        if whole is None or fold is None:
            super().fit(datasets, candidate_metadata=candidate_metadata, **options)
            return
        if fold not in whole._folds:
            kept = [d.clone(mask=_folds_of(d.X) != fold) for d in whole.training_data]
            surrogate = Surrogate(**self._serialize_attributes_as_kwargs())
            surrogate.fit(kept, **options)
            whole._folds[fold] = surrogate
        trained = whole._folds[fold]
        for name in ("_model", "_submodels", "_outcomes", "_training_data", "_last_datasets"):
            setattr(self, name, getattr(trained, name))


def _folds_of(X: Tensor) -> Tensor:
    r"""The fold of each row of ``n x d``: equal designs are in the same one."""
    rows = X.detach().double().cpu().numpy()
    return torch.tensor([zlib.crc32(row.tobytes()) % NUM_FOLDS for row in rows], device=X.device)


def _fold_left_out(
    whole: Sequence[SupervisedDataset], part: Sequence[SupervisedDataset]
) -> int | None:
    r"""The fold of the few designs that are missing from a part of the data, if it is one."""
    if len(whole) != len(part):
        return None
    if min(len(d.X) for d in whole) < 2 * NUM_FOLDS:
        return None  # folds of next to nothing; so few rows are left out one by one
    folds: set[int] = set()
    for all_rows, rows in zip(whole, part, strict=True):
        few = max(1.0, MAX_LEFT_OUT * len(all_rows.X))
        if all_rows.outcome_names != rows.outcome_names or not (
            0 <= len(all_rows.X) - len(rows.X) <= few
        ):
            return None
        kept = Counter(row.tobytes() for row in rows.X.cpu().numpy())
        missing = []
        for i, row in enumerate(all_rows.X.cpu().numpy()):
            key = row.tobytes()
            if kept[key]:
                kept[key] -= 1
            else:
                missing.append(i)
        if kept.total():  # a design that the whole does not have
            return None
        folds.update(_folds_of(all_rows.X[missing]).tolist())
    return folds.pop() if len(folds) == 1 else None

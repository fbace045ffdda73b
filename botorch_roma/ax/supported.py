r"""
What RoMA can optimise in Ax, and clear refusals of the rest.
"""

from __future__ import annotations

import inspect
from typing import Any

from ax.core.search_space import SearchSpaceDigest
from ax.exceptions.core import UnsupportedError
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.torch_base import TorchOptConfig
from ax.storage.botorch_modular_registry import CLASS_TO_REGISTRY
from botorch.acquisition import AcquisitionFunction, OneShotAcquisitionFunction
from botorch.acquisition.active_learning import qNegIntegratedPosteriorVariance
from botorch.acquisition.input_constructors import get_acqf_input_constructor
from botorch.acquisition.joint_entropy_search import qJointEntropySearch
from botorch.acquisition.max_value_entropy_search import MaxValueBase
from botorch.acquisition.multi_objective.base import (
    MultiObjectiveAnalyticAcquisitionFunction,
    MultiObjectiveMCAcquisitionFunction,
)
from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement
from botorch.acquisition.predictive_entropy_search import qPredictiveEntropySearch
from botorch.models.model import ModelList

from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.models.roma import RoMAModel

#: They learn from imagined measurements of a candidate; a proxy that is adapted has none.
LOOK_AHEAD: tuple[type, ...] = (
    OneShotAcquisitionFunction,
    MaxValueBase,
    qJointEntropySearch,
    qPredictiveEntropySearch,
    qNegIntegratedPosteriorVariance,
)


def check_acqf_class(acqf_class: Any) -> None:
    r"""Raise where Ax could not build, RoMA not optimise, or storage not keep a class.

    Raises:
        ValueError: What is no class of acquisition functions, or unknown to BoTorch's input
            constructors or to Ax's storage.
        UnsupportedError: Acquisition functions that make no sense with RoMA.
    """
    if not (isinstance(acqf_class, type) and issubclass(acqf_class, AcquisitionFunction)):
        raise ValueError(
            "`botorch_acqf_class` must be a class of acquisition functions, for instance "
            f"botorch.acquisition.qLogExpectedImprovement, received {acqf_class!r}."
        )
    _refuse_look_ahead(acqf_class)
    name = acqf_class.__name__
    try:
        get_acqf_input_constructor(acqf_class)
    except RuntimeError as error:
        raise ValueError(
            f"`botorch_acqf_class` is {name}, for which BoTorch has no input constructor; register "
            "one with `botorch.acquisition.input_constructors.acqf_input_constructor`."
        ) from error
    if acqf_class not in CLASS_TO_REGISTRY[AcquisitionFunction]:
        raise ValueError(
            f"`botorch_acqf_class` is {name}, which Ax could not store; call "
            "`ax.storage.botorch_modular_registry.register_acquisition_function` with it first, "
            "here and wherever the experiment will be loaded."
        )


def _refuse_look_ahead(acqf_class: type[AcquisitionFunction]) -> None:
    name = acqf_class.__name__
    if issubclass(acqf_class, LOOK_AHEAD):
        raise UnsupportedError(
            f"{name} looks ahead to measurements of a candidate, which RoMA's proxies do not "
            "support; leave `botorch_acqf_class` out or use for instance qLogExpectedImprovement."
        )
    if "X_baseline" in inspect.signature(acqf_class).parameters:
        raise UnsupportedError(
            f"{name} evaluates its `X_baseline` together with every candidate, which has no "
            "meaning with one proxy per candidate; leave `botorch_acqf_class` out or use for "
            "instance qLogExpectedImprovement."
        )


def refuse_unsupported(
    surrogate: Surrogate, digest: SearchSpaceDigest, config: TorchOptConfig
) -> None:
    """Raise for what would be silently ignored otherwise."""
    model = surrogate.model
    for part in model.models if isinstance(model, ModelList) else [model]:
        if not isinstance(part, RoMAModel):
            raise UnsupportedError(
                "RoMAAcquisition needs a surrogate of RoMA models (see `roma_surrogate_spec`), "
                f"received {type(part).__name__}."
            )
    for what, indices in (
        ("fidelity parameters", digest.fidelity_features),
        ("task parameters", digest.task_features),
    ):
        if indices:
            names = [digest.feature_names[i] for i in indices]
            raise UnsupportedError(
                f"RoMA does not support {what}, received {names}; fix or remove them."
            )
    if config.use_learned_objective:
        raise UnsupportedError("RoMA does not support learned preferences as the objective.")


def fitting_class(
    acqf_class: type[AcquisitionFunction], config: TorchOptConfig
) -> type[AcquisitionFunction]:
    """The acquisition function to use; raises if it would ignore objectives or constraints."""
    name = acqf_class.__name__
    if config.is_moo and acqf_class is ConstrainedPosteriorMean:
        return qLogExpectedHypervolumeImprovement
    _refuse_look_ahead(acqf_class)
    multi = (MultiObjectiveMCAcquisitionFunction, MultiObjectiveAnalyticAcquisitionFunction)
    if config.is_moo != issubclass(acqf_class, multi):
        kind = "several objectives" if config.is_moo else "a single objective"
        remedy = (
            "qLogExpectedHypervolumeImprovement" if config.is_moo else "qLogExpectedImprovement"
        )
        raise UnsupportedError(
            f"{name} does not fit {kind}; leave `botorch_acqf_class` out or use {remedy}."
        )
    arguments = inspect.signature(acqf_class).parameters
    knows = {"constraints", "outcome_constraints"} & arguments.keys()
    if config.outcome_constraints is not None and not knows:
        raise UnsupportedError(
            f"{name} would ignore the outcome constraints of this experiment; use the default "
            "ConstrainedPosteriorMean, or for instance qLogExpectedImprovement."
        )
    return acqf_class

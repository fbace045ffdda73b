"""What RoMA can optimise in Ax, and clear refusals of the rest."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

pytest.importorskip("ax")

import botorch.acquisition as acqf
from ax.adapter.registry import Generators
from ax.core.experiment import Experiment
from ax.core.parameter import ChoiceParameter, ParameterType, RangeParameter
from ax.exceptions.core import UnsupportedError
from ax.storage.botorch_modular_registry import (
    CLASS_TO_REGISTRY,
    CLASS_TO_REVERSE_REGISTRY,
    register_acquisition_function,
)
from botorch.acquisition.active_learning import qNegIntegratedPosteriorVariance
from botorch.acquisition.input_constructors import ACQF_INPUT_CONSTRUCTOR_REGISTRY
from botorch.acquisition.max_value_entropy_search import qMaxValueEntropy
from botorch.acquisition.multi_objective.logei import (
    qLogExpectedHypervolumeImprovement,
    qLogNoisyExpectedHypervolumeImprovement,
)

from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.ax import (
    RoMAAcquisition,
    attach_offline_data,
    offline_experiment,
    roma_generation_strategy,
)
from botorch_roma.ax.storage import ACQUISITION_FUNCTIONS
from botorch_roma.ax.supported import check_acqf_class


def generate(experiment: Experiment, quick: dict[str, Any], **options: Any) -> None:
    roma_generation_strategy(**quick, **options).gen(experiment, n=2)


# Acquisition functions


@pytest.mark.parametrize(
    "acqf_class",
    [
        acqf.qKnowledgeGradient,
        qMaxValueEntropy,
        qNegIntegratedPosteriorVariance,
        acqf.qLogNoisyExpectedImprovement,
        acqf.qNoisyExpectedImprovement,
        qLogNoisyExpectedHypervolumeImprovement,
    ],
)
def test_look_ahead_is_refused(acqf_class: Any) -> None:
    with pytest.raises(UnsupportedError, match=f"^{acqf_class.__name__} .*`botorch_acqf_class`"):
        roma_generation_strategy(botorch_acqf_class=acqf_class)


def test_look_ahead_is_refused_without_a_strategy(table: pd.DataFrame) -> None:
    from botorch_roma.ax import RoMASurrogate, roma_surrogate_spec

    experiment = offline_experiment(table.head(20)[["x", "k", "y"]], objective="y")
    adapter = Generators.BOTORCH_MODULAR(
        experiment=experiment,
        surrogate=RoMASurrogate(roma_surrogate_spec(fit_options={"epochs": 2})),
        acquisition_class=RoMAAcquisition,
        botorch_acqf_class=acqf.qKnowledgeGradient,
    )
    with pytest.raises(UnsupportedError, match="qKnowledgeGradient looks ahead"):
        adapter.gen(2)


@pytest.mark.parametrize("value", ["qLogExpectedImprovement", None, int])
def test_no_acquisition_function(value: Any) -> None:
    with pytest.raises(ValueError, match="`botorch_acqf_class` must be a class of acquisition"):
        roma_generation_strategy(botorch_acqf_class=value)


def test_what_ax_could_not_store_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(acqf.PosteriorMean):
        pass

    with pytest.raises(ValueError, match="Mine, for which BoTorch has no input constructor"):
        check_acqf_class(Mine)
    constructor = ACQF_INPUT_CONSTRUCTOR_REGISTRY[acqf.PosteriorMean]
    monkeypatch.setitem(ACQF_INPUT_CONSTRUCTOR_REGISTRY, Mine, constructor)
    with pytest.raises(ValueError, match=r"Mine, which Ax could not store; call .*register_acq"):
        check_acqf_class(Mine)
    for registry in (CLASS_TO_REGISTRY, CLASS_TO_REVERSE_REGISTRY):
        names = registry[acqf.AcquisitionFunction]
        monkeypatch.setitem(registry, acqf.AcquisitionFunction, dict(names))
    register_acquisition_function(Mine)
    check_acqf_class(Mine)


@pytest.mark.parametrize("acqf_class", ACQUISITION_FUNCTIONS)
def test_registered_functions(acqf_class: Any) -> None:
    check_acqf_class(acqf_class)


def test_outcome_constraints_are_never_ignored(quick: dict[str, Any], table: pd.DataFrame) -> None:
    experiment = offline_experiment(table, objective="y", outcome_constraints=["cost <= 0.8"])
    with pytest.raises(UnsupportedError, match="qSimpleRegret would ignore the outcome"):
        generate(experiment, quick, botorch_acqf_class=acqf.qSimpleRegret)


def test_several_objectives_are_never_summed(quick: dict[str, Any], table: pd.DataFrame) -> None:
    experiment = offline_experiment(table, objective="y, -cost")
    with pytest.raises(UnsupportedError, match="qSimpleRegret does not fit several objectives"):
        generate(experiment, quick, botorch_acqf_class=acqf.qSimpleRegret)
    single = offline_experiment(table.drop(columns="cost"), objective="y")
    with pytest.raises(UnsupportedError, match="does not fit a single objective"):
        generate(single, quick, botorch_acqf_class=qLogExpectedHypervolumeImprovement)


# Search spaces and surrogates


def space_with(parameter: Any, df: pd.DataFrame) -> Experiment:
    experiment = offline_experiment(df.drop(columns=["cost"]), objective="y")
    space = experiment.search_space
    space._parameters[parameter.name] = parameter
    new = Experiment(search_space=space, optimization_config=experiment.optimization_config)
    attach_offline_data(new, df)
    return new


def test_fidelity_parameters_are_refused(quick: dict[str, Any], table: pd.DataFrame) -> None:
    fidelity = RangeParameter(
        "x", ParameterType.FLOAT, 0.0, 1.0, is_fidelity=True, target_value=1.0
    )
    with pytest.raises(UnsupportedError, match=r"fidelity parameters, received \['x'\]"):
        generate(space_with(fidelity, table), quick)


def test_task_parameters_are_refused(quick: dict[str, Any], table: pd.DataFrame) -> None:
    task = ChoiceParameter(
        "k",
        ParameterType.INT,
        list(range(1, 9)),
        is_task=True,
        is_ordered=True,
        sort_values=True,
        target_value=1,
    )
    with pytest.raises(UnsupportedError, match=r"task parameters, received \['k'\]"):
        generate(space_with(task, table), quick)


def test_other_surrogates_are_refused(table: pd.DataFrame) -> None:
    experiment = offline_experiment(table.head(20)[["x", "k", "y"]], objective="y")
    adapter = Generators.BOTORCH_MODULAR(
        experiment=experiment,
        acquisition_class=RoMAAcquisition,
        botorch_acqf_class=ConstrainedPosteriorMean,
    )
    with pytest.raises(UnsupportedError, match="needs a surrogate of RoMA models"):
        adapter.gen(2)

r"""
``OfflineNode``: a generation node that says what it lacks, and never repeats a design.
"""

from __future__ import annotations

from typing import Any

from ax.core.base_trial import TrialStatus
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.core.observation import ObservationFeatures
from ax.core.parameter import (
    ChoiceParameter,
    FixedParameter,
    Parameter,
    ParameterType,
    RangeParameter,
)
from ax.core.search_space import SearchSpace
from ax.exceptions.core import DataRequiredError, UnsupportedError
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import TransitionCriterion
from ax.storage.json_store.decoder import object_from_json

from botorch_roma.ax.precision import as_stored
from botorch_roma.ax.search_space import meant_value, one_of

#: Trials whose arms count neither as measured nor as pending for Ax, so that they could come again.
ENDED_WITHOUT_RESULT: tuple[TrialStatus, ...] = (TrialStatus.FAILED, TrialStatus.EARLY_STOPPED)

#: Integer parameters with more values than this: Ax makes a list of the values.
MAX_INTEGERS: int = 10_000_000


class OfflineNode(GenerationNode):
    r"""A node of one generator whose arms are new to the experiment.

    Ax lets arms of failed trials come again, and a method without chance proposes just those: here
    they count as pending. What an experiment lacks is named before anything is trained, and errors
    are raised: Ax's own nodes make a Sobol design and a line in the log of some.

    Args:
        name: Name of the node.
        generator_specs: One generator.
        transition_criteria: As for Ax's nodes.
        previous_node_name: As for Ax's nodes.
    """

    def __init__(
        self,
        name: str,
        generator_specs: list[GeneratorSpec],
        transition_criteria: list[TransitionCriterion] | None = None,
        previous_node_name: str | None = None,
    ) -> None:
        super().__init__(
            name=name,
            generator_specs=generator_specs,
            transition_criteria=transition_criteria,
            previous_node_name=previous_node_name,
            should_deduplicate=True,
            fallback_specs={},
        )

    def gen(
        self,
        *,
        experiment: Experiment,
        pending_observations: dict[str, list[ObservationFeatures]] | None,
        skip_fit: bool = False,
        data: Data | None = None,
        n: int | None = None,
        **gs_gen_kwargs: Any,
    ) -> GeneratorRun | None:
        """Generate as Ax's node does, after the checks, avoiding what failed."""
        data = experiment.lookup_data() if data is None else data
        _check_experiment(experiment, data)
        if (fixed := gs_gen_kwargs.get("fixed_features")) is not None:
            gs_gen_kwargs["fixed_features"] = checked_fixed_features(experiment.search_space, fixed)
        return super().gen(
            experiment=experiment,
            pending_observations=_with_failed_arms(experiment, pending_observations),
            skip_fit=skip_fit,
            data=as_stored(data),
            n=n,
            **gs_gen_kwargs,
        )

    def _gen(self, experiment: Experiment, *args: Any, **kwargs: Any) -> GeneratorRun:
        config = experiment.optimization_config
        adapter = self._fitted_adapter
        if (
            config is not None
            and any(c.relative for c in config.all_constraints)
            and adapter is not None
            and adapter.status_quo is None
        ):
            raise DataRequiredError(
                "The optimization config has constraints relative to a baseline, but no trial has "
                "all metrics of a status quo; pass `status_quo` to `offline_experiment`, or call "
                "`client.attach_baseline` and complete that trial."
            )
        return super()._gen(experiment, *args, **kwargs)

    @classmethod
    def deserialize_init_args(
        cls, args: dict[str, Any], decoder_registry: Any = None, class_decoder_registry: Any = None
    ) -> dict[str, Any]:
        """Arguments of a node from JSON."""
        registries: dict[str, Any] = {
            key: value
            for key, value in (
                ("decoder_registry", decoder_registry),
                ("class_decoder_registry", class_decoder_registry),
            )
            if value is not None
        }
        return {key: object_from_json(value, **registries) for key, value in args.items()}


def offline_node_to_dict(node: OfflineNode) -> dict[str, Any]:
    """A node as a dictionary that Ax's JSON storage can write."""
    return {
        "__type": type(node).__name__,
        "name": node.name,
        "generator_specs": node.generator_specs,
        "transition_criteria": list(node.transition_criteria),
        "previous_node_name": node._previous_node_name,
    }


def refuse_hierarchical(search_space: SearchSpace) -> None:
    """Raise for parameters that exist only under some values of others."""
    dependent = [p.name for p in search_space.parameters.values() if p.is_hierarchical]
    if dependent:
        raise UnsupportedError(
            f"RoMA does not support hierarchical search spaces: {dependent} have "
            "`dependent_parameters`; give every parameter a value in every design, or make one "
            "experiment of each branch."
        )


def _check_experiment(experiment: Experiment, data: Data) -> None:
    refuse_hierarchical(experiment.search_space)
    for p in experiment.search_space.parameters.values():
        if not isinstance(p, RangeParameter) or p.parameter_type != ParameterType.INT:
            continue
        if p.upper - p.lower >= MAX_INTEGERS:
            raise UnsupportedError(
                f"Parameter {p.name!r} has {int(p.upper - p.lower) + 1} integer values, more than "
                f"{MAX_INTEGERS}; make it a float parameter and round it, or use coarser units."
            )
    if data.df.empty:
        raise DataRequiredError(
            "The experiment has no data, and RoMA learns from measured designs; attach a table "
            "with `attach_offline_data`, or complete some trials."
        )


def checked_fixed_features(
    search_space: SearchSpace, fixed_features: ObservationFeatures
) -> ObservationFeatures:
    r"""Fixed values, on the grid of their parameters; ``ValueError`` for others."""
    exact = dict(fixed_features.parameters)
    for name, value in fixed_features.parameters.items():
        if name not in search_space.parameters:
            raise ValueError(
                f"`fixed_features` names {name!r}; the parameters are "
                f"{list(search_space.parameters)}."
            )
        parameter = search_space.parameters[name]
        allowed = _allowed(parameter, value)
        if allowed is not None:
            raise ValueError(
                f"`fixed_features` sets {name!r} to {value!r}, which is not {allowed}; choose "
                "another value, or widen the search space."
            )
        if isinstance(parameter, ChoiceParameter):
            exact[name] = meant_value(parameter, value)
    return fixed_features.clone(replace_parameters=exact)


def _allowed(parameter: Parameter, value: Any) -> str | None:
    """What the parameter can be, if that does not include a value."""
    if isinstance(parameter, ChoiceParameter):
        return one_of(parameter.values) if meant_value(parameter, value) is None else None
    if isinstance(parameter, FixedParameter):
        return None if value == parameter.value else f"its fixed value {parameter.value!r}"
    if isinstance(parameter, RangeParameter):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        inside = number and parameter.lower <= value <= parameter.upper
        whole = inside and (parameter.parameter_type != ParameterType.INT or value == int(value))
        kind = "an integer" if parameter.parameter_type == ParameterType.INT else "a number"
        return None if whole else f"{kind} within [{parameter.lower}, {parameter.upper}]"
    return None


def _with_failed_arms(
    experiment: Experiment, pending: dict[str, list[ObservationFeatures]] | None
) -> dict[str, list[ObservationFeatures]] | None:
    """Pending observations, and with them the arms of trials that ended without a result."""
    space = experiment.search_space
    failed = [
        ObservationFeatures.from_arm(arm, trial_index=trial.index)
        for status in ENDED_WITHOUT_RESULT
        for trial in experiment.trials_by_status[status]
        for arm in trial.arms
        if space.check_membership(arm.parameters)
    ]
    if not failed:
        return pending
    signatures = {metric.signature for metric in experiment.metrics.values()}
    pending = pending or {}
    return {s: [*pending.get(s, []), *failed] for s in signatures | pending.keys()}

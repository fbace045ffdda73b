r"""
Generation strategies: RoMA alone, before a GP, or side by side with one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
from ax.adapter.registry import Generators, MBM_X_trans, Y_trans
from ax.adapter.transforms.base import Transform
from ax.adapter.transforms.derelativize import Derelativize
from ax.adapter.transforms.standardize_y import StandardizeY
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import AutoTransitionAfterGen
from botorch.acquisition import AcquisitionFunction
from botorch.exceptions.errors import UnsupportedError

from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.ax.acquisition import RoMAAcquisition
from botorch_roma.ax.criterion import MinResults
from botorch_roma.ax.node import OfflineNode
from botorch_roma.ax.subset import OfflineSubset
from botorch_roma.ax.supported import check_acqf_class
from botorch_roma.ax.surrogate import RoMASurrogate, roma_surrogate_spec
from botorch_roma.fit import check_fit_options, fit_roma_model
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.optimize import optimize_acqf_roma
from botorch_roma.optim.options import RoMAOptions
from botorch_roma.presets import get_preset
from botorch_roma.validation import check_choice, check_int, check_mapping

Variant = Literal["roma", "roma_then_gp", "roma_and_gp"]

#: Ax's default transforms but for those that bend outcomes: they squeeze the lower tail, and of
#: offline data that is most of what there is to learn from.
ROMA_TRANSFORMS: list[type[Transform]] = [*MBM_X_trans, Derelativize, StandardizeY]

#: A constraint relative to a baseline is one to its measurement, not to a prediction of it.
DERELATIVIZE: dict[str, Any] = {"Derelativize": {"use_raw_status_quo": True}}

#: A strategy trains and optimises again and again, each time on other data.
CHECKPOINT: set[str] = {"checkpoint", "checkpoint_interval"}

#: What Ax decides itself, or has no use for here.
RESERVED: dict[str, set[str]] = {
    "model_options": {"train_X", "train_Y", "train_Yvar", "input_transform", "outcome_transform"},
    "fit_options": {"model", *CHECKPOINT},
    "optimizer_options": {
        *("acq_function", "bounds", "q", "inequality_constraints", "equality_constraints"),
        *("fixed_features", "post_processing_func", "batch_initial_conditions", "X_avoid"),
        *("return_best_only", "return_acq_values", "num_restarts", "raw_samples", "ic_generator"),
        *("gen_candidates", "sequential", "acq_function_sequence", "return_full_tree"),
        *("retry_on_optimization_warning", "ic_gen_kwargs", "trajectory", "options"),
        *("nonlinear_inequality_constraints", *CHECKPOINT),
    },
}
TARGETS: dict[str, Callable[..., Any]] = {
    "model_options": RoMAModel.__init__,
    "fit_options": fit_roma_model,
    "optimizer_options": optimize_acqf_roma,
}


def roma_generation_strategy(
    variant: Variant = "roma",
    *,
    preset: str = "default",
    model_options: Mapping[str, Any] | None = None,
    fit_options: Mapping[str, Any] | None = None,
    optimizer_options: Mapping[str, Any] | None = None,
    botorch_acqf_class: type[AcquisitionFunction] = ConstrainedPosteriorMean,
    botorch_acqf_options: Mapping[str, Any] | None = None,
    min_results: int = 16,
    max_gp_rows: int = 500,
    seed: int = 0,
    torch_device: Any = None,
    name: str | None = None,
) -> GenerationStrategy:
    r"""RoMA as a generation strategy, for ``Client.set_generation_strategy`` [Yu2021roma]_.

    The experiment must hold data, see :func:`~botorch_roma.ax.offline_experiment`. A batch is best
    asked for in one call, ``gs.gen(experiment, n=128)``;
    ``client.get_next_trials(max_trials=k)`` gives the same designs one by one. Weights are not
    stored: after a reload the proxy is trained again, to the same weights under the same seed.

    Args:
        variant: ``"roma"``: all trials from RoMA. ``"roma_then_gp"``: a GP takes over once
            ``min_results`` of RoMA's designs have been measured. ``"roma_and_gp"``: trials (or
            batches) come from RoMA and from a GP in turn.
        preset: ``"default"``, ``"fast"`` (one small network in place of five larger ones),
            ``"paper"`` or ``"author_code"``, see :func:`~botorch_roma.presets.get_preset`.
        model_options: Over the preset's, for :class:`~botorch_roma.models.RoMAModel`.
        fit_options: Over the preset's, for :func:`~botorch_roma.fit.fit_roma_model`.
        optimizer_options: Over the preset's, for
            :func:`~botorch_roma.optim.optimize_acqf_roma`.
        botorch_acqf_class: Acquisition function; the default knows outcome constraints, and makes
            way for ``qLogExpectedHypervolumeImprovement`` where there are several objectives.
        botorch_acqf_options: Its options.
        min_results: Measured arms after which ``"roma_then_gp"`` moves on.
        max_gp_rows: Observations that the GP is fitted to, chosen by
            :class:`~botorch_roma.ax.OfflineSubset`.
        seed: Seed of both stages.
        torch_device: Device of the data and the model.
        name: Name of the strategy.

    Raises:
        ValueError: Unknown variants, presets and options; options and acquisition functions that
            could not be stored.
        UnsupportedError: Acquisition functions that RoMA cannot optimise; presets that select.

    Example:
        >>> client.set_generation_strategy(roma_generation_strategy("roma_then_gp"))
        >>> client.get_next_trials(max_trials=8)
    """
    check_choice("variant", variant, get_args(Variant))
    check_int("min_results", min_results, minimum=1)
    check_int("max_gp_rows", max_gp_rows, minimum=2)
    check_int("seed", seed, minimum=0)
    check_acqf_class(botorch_acqf_class)
    chosen = get_preset(preset)
    if chosen.select is not None:
        raise UnsupportedError(
            f"`preset` = {preset!r} selects options from the data, which the generation strategy "
            "does not; call `select_options` on the table and pass its choice as "
            "`optimizer_options`."
        )
    given = {
        "model_options": {**chosen.model, **_mapping("model_options", model_options)},
        "fit_options": {**chosen.fit, **_mapping("fit_options", fit_options)},
        "optimizer_options": {
            **chosen.optimize,
            **_mapping("optimizer_options", optimizer_options),
        },
    }
    acqf_options = _mapping("botorch_acqf_options", botorch_acqf_options)
    options = {key: _check_options(key, value) for key, value in given.items()}
    check_fit_options(options["fit_options"])  # now, not at the first trial
    RoMAOptions.from_mapping(options["optimizer_options"])
    options["model_options"].setdefault("seed", seed)
    spec = GeneratorSpec(
        generator_enum=Generators.BOTORCH_MODULAR,
        generator_kwargs={
            "surrogate": RoMASurrogate(
                roma_surrogate_spec(options["model_options"], options["fit_options"])
            ),
            "acquisition_class": RoMAAcquisition,
            "botorch_acqf_class": botorch_acqf_class,
            "botorch_acqf_options": {
                k: _primitive(f"botorch_acqf_options[{k!r}]", v) for k, v in acqf_options.items()
            },
            "transforms": list(ROMA_TRANSFORMS),
            "transform_configs": dict(DERELATIVIZE),
            "fit_tracking_metrics": False,
            # else cross-validation would judge the network on rows that it was trained on
            "refit_on_cv": True,
            "warm_start_refit": False,
            **({} if torch_device is None else {"torch_device": torch_device}),
        },
        generator_gen_kwargs={
            "model_gen_options": {"optimizer_kwargs": options["optimizer_options"]}
        },
        generator_key_override="RoMA",
    )
    transition: list[Any] = []
    if variant == "roma_then_gp":
        transition = [MinResults(threshold=min_results, transition_to="GP")]
    elif variant == "roma_and_gp":
        transition = [AutoTransitionAfterGen(transition_to="GP", continue_trial_generation=False)]
    nodes = [OfflineNode("RoMA", [spec], transition)]
    if variant != "roma":
        back = AutoTransitionAfterGen(transition_to="RoMA", continue_trial_generation=False)
        gp = _gp_spec(max_gp_rows, seed)
        nodes.append(OfflineNode("GP", [gp], [back] if variant == "roma_and_gp" else []))
    return GenerationStrategy(nodes=nodes, name=name or variant)


def gp_generation_strategy(
    *, max_gp_rows: int = 500, seed: int = 0, name: str = "gp"
) -> GenerationStrategy:
    r"""Ax's default GP method on a subset of an offline table, to compare RoMA with.

    Args:
        max_gp_rows: Observations that the GP is fitted to, chosen by
            :class:`~botorch_roma.ax.OfflineSubset`.
        seed: Seed of that choice.
        name: Name of the strategy.

    Example:
        >>> roma_arms = roma_generation_strategy().gen(experiment, n=64)
        >>> gp_arms = gp_generation_strategy().gen(experiment, n=2)
    """
    check_int("max_gp_rows", max_gp_rows, minimum=2)
    return GenerationStrategy(nodes=[OfflineNode("GP", [_gp_spec(max_gp_rows, seed)])], name=name)


def _gp_spec(max_rows: int, seed: int) -> GeneratorSpec:
    return GeneratorSpec(
        generator_enum=Generators.BOTORCH_MODULAR,
        generator_kwargs={
            "transforms": [OfflineSubset, *MBM_X_trans, *Y_trans],
            "transform_configs": {
                "OfflineSubset": {"max_rows": max_rows, "seed": seed},
                **DERELATIVIZE,
            },
        },
        generator_key_override="GP",
    )


def _check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as storable primitives; raises for unknown names."""
    known = set(inspect.signature(TARGETS[name]).parameters) - {"self"} - RESERVED[name]
    check_mapping(name, options, known)
    return {key: _primitive(f"{name}[{key!r}]", value) for key, value in options.items()}


def _mapping(name: str, options: Any) -> Mapping[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ValueError(f"`{name}` must map names of options to values, received {options!r}.")
    return options


def _primitive(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_primitive(name, v) for v in value]
    raise ValueError(
        f"`{name}` must be a number, a text, a boolean, None or a list of these, so that Ax can "
        f"store it, received {type(value).__name__}."
    )

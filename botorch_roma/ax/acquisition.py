r"""
``RoMAAcquisition``: stage 2 of RoMA in the place of Ax's acquisition optimisation.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ax.adapter.transforms.one_hot import OH_PARAM_INFIX
from ax.core.search_space import SearchSpaceDigest
from ax.exceptions.core import SearchSpaceExhausted, UnsupportedError
from ax.generators.torch.botorch_modular.acquisition import Acquisition
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.torch.botorch_modular.utils import validate_candidates
from ax.generators.torch_base import TorchOptConfig
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.input_constructors import acqf_input_constructor
from botorch.acquisition.multi_objective.base import (
    MultiObjectiveAnalyticAcquisitionFunction,
    MultiObjectiveMCAcquisitionFunction,
)
from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import Model, ModelList
from torch import Tensor

from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.initializers import (
    distinct_keys,
    gen_top_designs,
    input_scale,
    roma_models,
)
from botorch_roma.optim.optimize import optimize_acqf_roma
from botorch_roma.optim.rounding import DiscreteRounding

#: Sobol designs that compete as starts where the data hold too few, per start needed.
SOBOL_PER_START: int = 4


@acqf_input_constructor(ConstrainedPosteriorMean)
def construct_inputs_constrained_posterior_mean(
    model: Model,
    posterior_transform: PosteriorTransform | None = None,
    constraints_tuple: tuple[Tensor, Tensor] | None = None,
    X_pending: Tensor | None = None,
) -> dict[str, Any]:
    r"""Arguments of :class:`~botorch_roma.acquisition.ConstrainedPosteriorMean` from Ax's.

    Args:
        model: The surrogate's model, restricted to the outcomes that matter.
        posterior_transform: Weights of the objectives.
        constraints_tuple: ``(A, b)``, the outcome constraints ``A f(x) <= b``.
        X_pending: Not used: :class:`RoMAAcquisition` itself avoids pending designs.
    """
    models: Any = model.models if isinstance(model, ModelList) else [model]
    outcome_scale = torch.cat([m.y_std for m in models])
    scale = 1.0
    weights = getattr(posterior_transform, "weights", None)
    if weights is not None:
        scale = (weights.square() @ outcome_scale.square()).sqrt().clamp_min(1e-12).item()
    return {
        "model": model,
        "posterior_transform": posterior_transform,
        "outcome_constraints": constraints_tuple,
        "scale": scale,
        "outcome_scale": outcome_scale,
    }


class RoMAAcquisition(Acquisition):
    r"""Ax's wrapper of an acquisition function, optimised by RoMA [Yu2021roma]_.

    Candidate ``i`` of a batch starts from the ``i``-th best design of the data; where ``p``
    designs are pending the next batch starts from the ``p + 1``-th. Candidates lie in the search
    space, satisfy its constraints, and are neither observed nor pending.

    The acquisition function is the one named by the generator. In place of the default,
    :class:`~botorch_roma.acquisition.ConstrainedPosteriorMean`, several objectives get
    ``qLogExpectedHypervolumeImprovement``. Settings of stage 2 come as ``optimizer_kwargs``.

    Raises:
        UnsupportedError: Surrogates other than RoMA, fidelities, tasks, learned preferences, and
            outcome constraints or several objectives with an acquisition function that would
            ignore them.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        search_space_digest: SearchSpaceDigest,
        torch_opt_config: TorchOptConfig,
        botorch_acqf_class: type[AcquisitionFunction] | None,
        botorch_acqf_options: dict[str, Any] | None = None,
        botorch_acqf_classes_with_options: (
            list[tuple[type[AcquisitionFunction], dict[str, Any]]] | None
        ) = None,
        n: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        _refuse_unsupported(surrogate, search_space_digest, torch_opt_config)
        chosen = botorch_acqf_classes_with_options or [
            (botorch_acqf_class or ConstrainedPosteriorMean, botorch_acqf_options or {})
        ]
        chosen = [(_fitting_class(c, torch_opt_config), o) for c, o in chosen]
        super().__init__(
            surrogate=surrogate,
            search_space_digest=search_space_digest,
            torch_opt_config=torch_opt_config,
            botorch_acqf_class=None,
            botorch_acqf_classes_with_options=chosen,
            n=n,
            options=options,
        )
        # also those outside of the present constraints: each was a start
        pending = torch_opt_config.pending_observations or []
        self._pending = torch.cat([*pending, surrogate.Xs[0][:0]]).unique(dim=0)

    def optimize(
        self,
        n: int,
        search_space_digest: SearchSpaceDigest,
        inequality_constraints: list[tuple[Tensor, Tensor, float]] | None = None,
        equality_constraints: list[tuple[Tensor, Tensor, float]] | None = None,
        fixed_features: dict[int, float] | None = None,
        rounding_func: Callable[[Tensor], Tensor] | None = None,
        optimizer_options: dict[str, Any] | None = None,
        candidate_set: Tensor | None = None,
        sampling_strategy: Any = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Generate ``n`` distinct, new, feasible designs.

        Args:
            n: Number of candidates.
            search_space_digest: The search space after Ax's transforms.
            inequality_constraints: As in ``optimize_acqf``.
            equality_constraints: As in ``optimize_acqf``.
            fixed_features: Index to value, after Ax's transforms.
            rounding_func: Ax's rounding, applied to candidates before they are compared.
            optimizer_options: Arguments of
                :func:`~botorch_roma.optim.optimize_acqf_roma`.
            candidate_set: Choose among these designs instead, as Ax does.
            sampling_strategy: Used with ``candidate_set``.

        Returns:
            Candidates ``n x d``, their acquisition values ``n`` and arm weights ``n``.

        Raises:
            SearchSpaceExhausted: If a finite search space holds fewer than ``n`` new designs.
            CandidateGenerationError: If ``n`` new designs could not be reached.
        """
        if candidate_set is not None or sampling_strategy is not None:
            return super().optimize(
                n=n,
                search_space_digest=search_space_digest,
                candidate_set=candidate_set,
                sampling_strategy=sampling_strategy,
            )
        model = roma_models(self.acqf)[0]
        bounds = model.train_X.new_tensor(search_space_digest.bounds).mT
        feasible_set = FeasibleSet(
            bounds,
            fixed_features=fixed_features,
            inequality_constraints=inequality_constraints,
            equality_constraints=equality_constraints,
            scale=input_scale(model),
        )
        choices = {i: list(v) for i, v in search_space_digest.discrete_choices.items()}
        groups = one_hot_groups(search_space_digest.feature_names)
        rounding = DiscreteRounding(feasible_set, choices, groups)
        known = torch.cat(self.surrogate.Xs).to(bounds)
        pending = self._pending.to(bounds)
        avoid = torch.cat([known, pending])
        _check_not_exhausted(n, avoid, choices, groups, feasible_set)

        def process(X: Tensor) -> Tensor:
            X = rounding(X)
            return X if rounding_func is None else rounding_func(X).to(X)

        candidates, values = optimize_acqf_roma(
            self.acqf,
            bounds,
            q=n,
            inequality_constraints=inequality_constraints,
            equality_constraints=equality_constraints,
            fixed_features=fixed_features,
            post_processing_func=process,
            batch_initial_conditions=self._start_designs(n, known, pending, feasible_set),
            X_avoid=avoid,
            **(optimizer_options or {}),
        )
        validate_candidates(
            candidates,
            bounds,
            discrete_choices=search_space_digest.discrete_choices or None,
            inequality_constraints=inequality_constraints,
            feature_names=search_space_digest.feature_names,
            equality_constraints=equality_constraints,
        )
        assert values is not None  # they were asked for
        return candidates, values, torch.ones_like(values)

    def _start_designs(
        self, n: int, known: Tensor, pending: Tensor, feasible_set: FeasibleSet
    ) -> Tensor:
        r"""The best ``n`` designs after as many as there are pending, ``1 x n x d``."""
        model, scale = roma_models(self.acqf)[0], feasible_set.scale
        # for Ax a measured trial that lacks one of several metrics is pending, too
        offset = len(set(distinct_keys(pending, scale)) - set(distinct_keys(known, scale)))
        need, distinct = n + offset, len(set(distinct_keys(model.train_X, scale)))
        start = gen_top_designs(
            self.acqf,
            feasible_set.bounds,
            need,
            num_restarts=1,
            raw_samples=SOBOL_PER_START * need if distinct < need else None,
            options={"seed": model.seed},
            feasible_set=feasible_set,
        )
        return start[:, offset:]


def one_hot_groups(feature_names: Sequence[str]) -> list[list[int]]:
    r"""Columns of each choice parameter that Ax's ``OneHot`` transform has encoded."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(feature_names):
        parameter, infix, _ = name.rpartition(OH_PARAM_INFIX)
        if infix:
            groups[parameter].append(i)
    return list(groups.values())


def _refuse_unsupported(
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


def _fitting_class(
    acqf_class: type[AcquisitionFunction], config: TorchOptConfig
) -> type[AcquisitionFunction]:
    """The acquisition function to use; raises if it would ignore objectives or constraints."""
    name = acqf_class.__name__
    if config.is_moo and acqf_class is ConstrainedPosteriorMean:
        return qLogExpectedHypervolumeImprovement
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


def _check_not_exhausted(
    n: int,
    avoid: Tensor,
    choices: dict[int, list[float]],
    groups: list[list[int]],
    feasible_set: FeasibleSet,
) -> None:
    """Raise where a finite search space has fewer new designs than are asked for."""
    grouped = {i for group in groups for i in group}
    d = feasible_set.bounds.shape[1]
    if any(i not in choices and i not in grouped and i not in feasible_set.fixed for i in range(d)):
        return  # a continuous parameter
    sizes = [len(v) for i, v in choices.items() if i not in feasible_set.fixed]
    sizes += [len(g) for g in groups if not set(g) <= feasible_set.fixed.keys()]
    designs = math.prod(sizes)
    fixed = list(feasible_set.fixed)
    values = avoid.new_tensor(list(feasible_set.fixed.values()))
    known = (
        avoid[(avoid[:, fixed] == values).all(dim=-1)].unique(dim=0).shape[0]
        if fixed
        else (avoid.unique(dim=0).shape[0])
    )
    if designs - known < n:
        raise SearchSpaceExhausted(
            f"{n} new designs were requested, but of the {designs} designs of this search space "
            f"{known} are already in the experiment; request fewer, or widen the search space."
        )

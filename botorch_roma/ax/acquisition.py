r"""
``RoMAAcquisition``: stage 2 of RoMA in the place of Ax's acquisition optimisation.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ax.adapter.transforms.one_hot import OH_PARAM_INFIX
from ax.core.search_space import SearchSpaceDigest
from ax.generators.torch.botorch_modular.acquisition import Acquisition
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.torch.botorch_modular.utils import validate_candidates
from ax.generators.torch_base import TorchOptConfig
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import AnalyticAcquisitionFunction
from botorch.acquisition.input_constructors import acqf_input_constructor
from botorch.acquisition.objective import PosteriorTransform
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import CandidateGenerationError
from botorch.models.model import Model, ModelList
from botorch.utils.sampling import draw_sobol_samples
from torch import Tensor

from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.ax.finite import check_not_exhausted
from botorch_roma.ax.outcomes import complete_surrogate, measured_thresholds
from botorch_roma.ax.rounding import AxRounding
from botorch_roma.ax.supported import fitting_class, refuse_unsupported
from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.generation import final_values
from botorch_roma.optim.initializers import (
    distinct_keys,
    gen_top_designs,
    input_scale,
    roma_models,
)
from botorch_roma.optim.optimize import optimize_acqf_roma

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
        refuse_unsupported(surrogate, search_space_digest, torch_opt_config)
        chosen = botorch_acqf_classes_with_options or [
            (botorch_acqf_class or ConstrainedPosteriorMean, botorch_acqf_options or {})
        ]
        chosen = [(fitting_class(c, torch_opt_config), o) for c, o in chosen]
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

    def _update_objective_thresholds(self, torch_opt_config: TorchOptConfig) -> None:
        """Infer the thresholds that are not given, from measured outcomes."""
        given = self._objective_thresholds
        if torch_opt_config.is_moo and (given is None or bool(given.isnan().any())):
            self._objective_thresholds = measured_thresholds(
                self.surrogate, torch_opt_config, given
            )

    def _construct_botorch_acquisition(
        self,
        botorch_acqf_class: type[AcquisitionFunction],
        botorch_acqf_options: dict[str, Any],
        model: Model,
    ) -> AcquisitionFunction:
        """As Ax does, from the rows that have all metrics; pending designs only if they fit in."""
        if botorch_acqf_class is ConstrainedPosteriorMean:
            return super()._construct_botorch_acquisition(
                botorch_acqf_class, botorch_acqf_options, model
            )
        whole, X_pending = self.surrogate, self.X_pending
        self.surrogate = complete_surrogate(whole)
        if issubclass(botorch_acqf_class, AnalyticAcquisitionFunction):
            self.X_pending = None  # no argument of theirs; `optimize` avoids pending designs
        try:
            return super()._construct_botorch_acquisition(
                botorch_acqf_class, botorch_acqf_options, model
            )
        finally:
            self.surrogate, self.X_pending = whole, X_pending

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
        process = AxRounding(feasible_set, choices, groups, rounding_func)
        known = torch.cat(self.surrogate.Xs).to(bounds)
        pending = self._pending.to(bounds)
        avoid = torch.cat([known, pending])
        left = check_not_exhausted(n, avoid, choices, groups, feasible_set)
        start = self._start_designs(n, known, pending, feasible_set)
        try:
            candidates, values = optimize_acqf_roma(
                self.acqf,
                bounds,
                q=n,
                inequality_constraints=inequality_constraints,
                equality_constraints=equality_constraints,
                fixed_features=fixed_features,
                post_processing_func=process,
                batch_initial_conditions=start,
                X_avoid=avoid,
                **(optimizer_options or {}),
            )
        except CandidateGenerationError as error:
            if left is None:
                raise CandidateGenerationError(
                    f"{error} In Ax: request fewer arms, widen the search space, allow more "
                    "`digits`, or relax the parameter constraints."
                ) from error
            candidates, values = self._best_of(left, n)
            candidates = process(candidates)
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

    def _best_of(self, designs: Tensor, n: int) -> tuple[Tensor, Tensor]:
        r"""The ``n`` designs of ``m x d`` with the highest acquisition values."""
        warnings.warn(
            f"RoMA's candidates reached fewer than {n} new designs of this finite search space; "
            f"the best of the {len(designs)} that are left are returned.",
            OptimizationWarning,
            stacklevel=3,
        )
        values = final_values(self.acqf, designs.unsqueeze(1))
        best = values.topk(n).indices
        return designs[best], values[best]

    def _start_designs(
        self, n: int, known: Tensor, pending: Tensor, feasible_set: FeasibleSet
    ) -> Tensor:
        r"""The best ``n`` designs after as many as there are pending, ``1 x n x d``."""
        model, scale = roma_models(self.acqf)[0], feasible_set.scale
        # for Ax a measured trial that lacks one of several metrics is pending, too
        offset = len(set(distinct_keys(pending, scale)) - set(distinct_keys(known, scale)))
        need, raw_samples = n + offset, None
        found = _num_distinct(model.train_X, need, feasible_set)
        if found < need:  # few rows, or many that are the same within constraints
            raw_samples = SOBOL_PER_START * need
            sobol = draw_sobol_samples(feasible_set.bounds, raw_samples, 1, seed=model.seed)
            sobol = feasible_set.project(sobol.squeeze(1))
            found = _num_distinct(torch.cat([model.train_X, sobol]), need, feasible_set)
        start = gen_top_designs(
            self.acqf,
            feasible_set.bounds,
            min(need, found),
            num_restarts=1,
            raw_samples=raw_samples,
            options={"seed": model.seed},
            feasible_set=feasible_set,
        )
        start = start[:, min(offset, max(0, found - n)) :]
        # where there are no more designs than this, candidates part on their way
        return start[:, torch.arange(n, device=start.device) % start.shape[1]]


def _num_distinct(X: Tensor, need: int, feasible_set: FeasibleSet) -> int:
    r"""Number of designs of ``n x d`` that are distinct once made feasible, at most ``need``."""
    seen: set[bytes] = set()
    for chunk in X.split(max(2 * need, 256)):
        seen.update(distinct_keys(feasible_set.project(chunk), feasible_set.scale))
        if len(seen) >= need:
            return need
    return len(seen)


def one_hot_groups(feature_names: Sequence[str]) -> list[list[int]]:
    r"""Columns of each choice parameter that Ax's ``OneHot`` transform has encoded."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(feature_names):
        parameter, infix, _ = name.rpartition(OH_PARAM_INFIX)
        if infix:
            groups[parameter].append(i)
    return list(groups.values())

r"""
``optimize_acqf_roma``: stage 2 of RoMA with the interface of ``optimize_acqf``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from botorch.acquisition import AcquisitionFunction
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import UnsupportedError
from torch import Tensor

from botorch_roma.adaptation import Mode
from botorch_roma.closed_form import FirstLayer, Loss
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.constraints import FeasibleSet, LinearConstraint, NonlinearConstraint
from botorch_roma.optim.distinct import distinct_candidates
from botorch_roma.optim.encoded import (
    check_survival,
    encoded_problem,
    find_encoding,
    plain_problem,
    surviving_set,
)
from botorch_roma.optim.generation import final_values, run_updates
from botorch_roma.optim.initializers import (
    DISTINCT_TOLERANCE,
    gen_top_designs,
    input_scale,
    roma_models,
)
from botorch_roma.optim.options import InitialPseudoLabel, RoMAOptions, StepRule
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.validation import check_bounds, check_float, check_int, check_tensor

__all__ = ["optimize_acqf_roma"]


def optimize_acqf_roma(
    acq_function: AcquisitionFunction,
    bounds: Tensor,
    q: int,
    num_restarts: int = 1,
    raw_samples: int | None = None,
    options: Mapping[str, Any] | None = None,
    inequality_constraints: list[LinearConstraint] | None = None,
    equality_constraints: list[LinearConstraint] | None = None,
    nonlinear_inequality_constraints: list[NonlinearConstraint] | None = None,
    fixed_features: Mapping[int, float | Tensor] | None = None,
    post_processing_func: Callable[[Tensor], Tensor] | None = None,
    batch_initial_conditions: Tensor | None = None,
    return_best_only: bool = True,
    gen_candidates: None = None,
    sequential: bool = False,
    acq_function_sequence: None = None,
    *,
    ic_generator: Callable[..., Tensor] | None = None,
    X_avoid: Tensor | None = None,
    timeout_sec: float | None = None,
    return_acq_values: bool = True,
    return_full_tree: bool = False,
    retry_on_optimization_warning: bool = False,
    radius: float = 0.02,
    num_adaptation_steps: int = 10,
    alpha: float = 1.0,
    mode: Mode = "per_candidate",
    pseudo_label_loss: Loss = "squared_error",
    initial_pseudo_label: InitialPseudoLabel = "predicted",
    first_layer: FirstLayer = "auto",
    step_rule: StepRule = "adam",
    lr: float = 1e-2,
    num_updates: int = 300,
    region: float | None = 4.0,
    reencode_every: int | None = None,
    trajectory: Trajectory | None = None,
    progress: bool = False,
    **ic_gen_kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    r"""Turn the best known designs into ``q`` new ones, without a query [Yu2021roma]_.

    Every candidate starts from its own design and climbs the acquisition function of a proxy that
    is adapted to it before every step. Candidates are independent of each other (``q = 1``
    acquisition values) and distinct at the end: one that ends in a design that is already
    taken goes back along its own recorded path (up to 64 positions), then along those of others,
    to a design that is not; failing that, to the best of some designs drawn around it.

    Where the model has an :class:`~botorch_roma.latent.Encoding` as its ``input_transform``, the
    vectors of the encoding move, and everything that goes in or comes out is designs (tokens,
    say); the trajectory alone holds vectors.

    The arguments up to ``retry_on_optimization_warning`` are those of
    :func:`botorch.optim.optimize_acqf`; what does not apply is refused.

    Args:
        acq_function: An acquisition function over a fitted RoMA model: analytic or Monte Carlo.
        bounds: ``2 x d`` bounds; they hold at every step.
        q: Number of candidates.
        num_restarts: Number of start batches; with more than one, the best ``q`` distinct
            candidates of all batches are returned.
        raw_samples: Sobol designs that compete with the training designs as starts.
        options: ``{"seed": int}`` seeds the Sobol designs.
        inequality_constraints: ``(indices, coefficients, rhs)``, within a candidate.
        equality_constraints: ``(indices, coefficients, rhs)``, within a candidate.
        nonlinear_inequality_constraints: ``(callable, True)``, within a candidate.
        fixed_features: Index to value.
        post_processing_func: Applied to the final ``n x d`` candidates, for instance rounding.
        batch_initial_conditions: Start designs, ``q x d`` or ``num_restarts x q x d``, in place of
            ``raw_samples`` and ``ic_generator``; by default the best designs of the training data.
        return_best_only: If False, return all ``num_restarts x q x d`` candidates.
        gen_candidates: Not supported (use ``optimize_acqf(gen_candidates=gen_candidates_roma)``).
        sequential: Not supported: candidates move side by side.
        acq_function_sequence: Not supported.
        ic_generator: Makes the start designs; called as by ``optimize_acqf``.
        X_avoid: Designs that may not be returned, ``n x d``, such as pending ones.
        timeout_sec: Time budget in seconds; the candidates reached by then are returned.
        return_acq_values: If False, the second return value is None.
        return_full_tree: Not supported.
        retry_on_optimization_warning: Not supported.
        radius: See :class:`~botorch_roma.optim.options.RoMAOptions`, as for all down to ``region``.
        num_adaptation_steps: Steps of each adaptation.
        alpha: Weight of the pseudo-label term.
        mode: ``"per_candidate"`` or ``"shared"``.
        pseudo_label_loss: ``"squared_error"`` or ``"nll"``.
        initial_pseudo_label: ``"predicted"`` or ``"measured"``.
        first_layer: ``"auto"``, ``"dense"`` or ``"reduced"``.
        step_rule: ``"adam"`` or ``"gradient"``.
        lr: Step size in z-scored inputs.
        num_updates: Number of updates.
        region: Trust region of the cap in standard deviations of the outcome, or None.
        reencode_every: Decode and encode the candidates after this many updates, or None.
        trajectory: An empty :class:`~botorch_roma.optim.trajectory.Trajectory` to fill.
        progress: Show a progress bar on standard error.
        ic_gen_kwargs: Passed on to ``ic_generator``.

    Returns:
        Candidates ``q x d`` and the value of ``acq_function`` at each of them, ``q``; with
        ``return_best_only=False`` ``num_restarts x q x d`` and ``num_restarts x q``. The values
        are those of the fitted proxy, which is optimistic where it was climbed; what the
        adapted proxies predicted on the way is in the trajectory.

    Raises:
        ValueError: Malformed arguments; too few distinct start designs.
        UnsupportedError: Arguments that do not apply; no RoMA model in ``acq_function``.
        ModelFittingError: If the model has not been fitted.
        InfeasibilityError: Contradictory constraints, no feasible start.
        CandidateGenerationError: NaN from the acquisition function; fewer than ``q`` distinct
            designs within reach.

    Example:
        >>> candidates, values = optimize_acqf_roma(PosteriorMean(model), bounds, q=128)
    """
    _refuse(
        gen_candidates=gen_candidates,
        sequential=sequential,
        acq_function_sequence=acq_function_sequence,
        return_full_tree=return_full_tree,
        retry_on_optimization_warning=retry_on_optimization_warning,
    )
    settings = RoMAOptions(
        radius=radius,
        num_adaptation_steps=num_adaptation_steps,
        alpha=alpha,
        mode=mode,
        pseudo_label_loss=pseudo_label_loss,
        initial_pseudo_label=initial_pseudo_label,
        first_layer=first_layer,
        step_rule=step_rule,
        lr=lr,
        num_updates=num_updates,
        region=region,
        reencode_every=reencode_every,
    )
    model = roma_models(acq_function)[0]
    _check_arguments(model, bounds, q, num_restarts, raw_samples, options, timeout_sec)
    bounds = bounds.to(model.train_X)
    scale = input_scale(model)
    if X_avoid is not None:
        X_avoid = _check_avoid(X_avoid, bounds)
    feasible_set = FeasibleSet(
        bounds,
        fixed_features=fixed_features,
        inequality_constraints=inequality_constraints,
        equality_constraints=equality_constraints,
        nonlinear_inequality_constraints=nonlinear_inequality_constraints,
        scale=scale,
    )
    encoding, start_set = find_encoding(acq_function), feasible_set
    if encoding is None:
        problem = plain_problem(acq_function, feasible_set)
    else:
        _refuse(raw_samples=raw_samples, ic_generator=ic_generator)  # they would make vectors
        problem = encoded_problem(
            acq_function, encoding, feasible_set, nonlinear_inequality_constraints
        )
        start_set = surviving_set(feasible_set, encoding, nonlinear_inequality_constraints)
    if ic_gen_kwargs and ic_generator is None:
        raise UnsupportedError(
            f"Unknown arguments {sorted(ic_gen_kwargs)}; keyword arguments are passed on to "
            "`ic_generator`, which is not given."
        )
    if batch_initial_conditions is not None:
        _refuse(raw_samples=raw_samples, ic_generator=ic_generator)  # there is nothing to generate
        start = _check_start(batch_initial_conditions, bounds, q, scale)
    elif ic_generator is None:
        start = gen_top_designs(
            acq_function,
            bounds,
            q,
            num_restarts,
            raw_samples,
            options=options,
            feasible_set=start_set,
        )
    else:
        start = ic_generator(
            acq_function=acq_function,
            bounds=bounds,
            q=q,
            num_restarts=num_restarts,
            raw_samples=raw_samples,
            fixed_features=fixed_features,
            options=options,
            inequality_constraints=inequality_constraints,
            equality_constraints=equality_constraints,
            **ic_gen_kwargs,
        )
        start = _check_start(start, bounds, q, scale, name="ic_generator")
    shape, start = start.shape[:2], start.flatten(end_dim=1)
    if encoding is not None:
        start = feasible_set.project(start, final=True)
        encoding.check_designs(start)
        check_survival(feasible_set, start_set, start)
    result = run_updates(
        problem.encode(start),
        problem.acq_function,
        problem.feasible_set,
        settings,
        snap=problem.snap,
        timeout_sec=timeout_sec,
        trajectory=trajectory,
        progress=progress,
    )
    X = distinct_candidates(
        result,
        problem,
        scale,
        post_processing_func,
        X_avoid,
        start=None if encoding is None else start,
    )
    _warn_infeasible(X, feasible_set, scale)
    values = final_values(acq_function, X.unsqueeze(1))
    if not return_best_only:
        return X.reshape(*shape, -1), values.reshape(shape) if return_acq_values else None
    if X.shape[0] > q:
        best = values.topk(q).indices
        X, values = X[best], values[best]
    return X, values if return_acq_values else None


def _refuse(**arguments: Any) -> None:
    """Raise for arguments of ``optimize_acqf`` that have no meaning here."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise UnsupportedError(
                f"`{name}` is not supported by optimize_acqf_roma here (candidates move side by "
                f"side from start designs that are generated or given), received {value!r}."
            )


def _check_arguments(
    model: RoMAModel,
    bounds: Tensor,
    q: int,
    num_restarts: int,
    raw_samples: int | None,
    options: Mapping[str, Any] | None,
    timeout_sec: float | None,
) -> None:
    check_bounds(bounds, model.train_X.shape[1])
    check_int("q", q, minimum=1)
    check_int("num_restarts", num_restarts, minimum=1)
    if raw_samples is not None:
        check_int("raw_samples", raw_samples, minimum=1)
    if timeout_sec is not None:
        check_float("timeout_sec", timeout_sec, exclusive=True, unit=" seconds")
    unknown = set(options or {}) - {"seed"}
    if unknown:
        raise UnsupportedError(
            f"`options` has unsupported keys {sorted(unknown)}; the settings of RoMA are keyword "
            f"arguments: {sorted(RoMAOptions.names())}."
        )


def _check_start(
    start: Tensor, bounds: Tensor, q: int, scale: Tensor, name: str = "batch_initial_conditions"
) -> Tensor:
    r"""Start designs as ``num_restarts x q x d``, inside the bounds."""
    if isinstance(start, Tensor) and start.dim() == 2:
        start = start.unsqueeze(0)
    check_tensor(name, start, dim=3)
    if start.shape[1:] != (q, bounds.shape[1]):
        raise ValueError(
            f"`{name}` must have shape num_restarts x {q} x {bounds.shape[1]} (q x d), "
            f"received {tuple(start.shape)}."
        )
    start = start.detach().to(bounds)
    slack = DISTINCT_TOLERANCE * scale
    outside = ((start < bounds[0] - slack) | (start > bounds[1] + slack)).nonzero()
    if len(outside):
        r, i, j = outside[0].tolist()
        raise ValueError(
            f"`{name}` must lie within `bounds`; design {i} of batch {r} has {start[r, i, j]:g} in "
            f"column {j}, whose bounds are [{bounds[0, j]:g}, {bounds[1, j]:g}]."
        )
    return start


def _check_avoid(X_avoid: Tensor, bounds: Tensor) -> Tensor:
    check_tensor("X_avoid", X_avoid, dim=2)
    if X_avoid.shape[1] != bounds.shape[1]:
        raise ValueError(
            f"`X_avoid` must have shape n x {bounds.shape[1]}, received {tuple(X_avoid.shape)}."
        )
    return X_avoid.to(bounds)


def _warn_infeasible(X: Tensor, feasible_set: FeasibleSet, scale: Tensor) -> None:
    """Warn where ``post_processing_func`` has moved candidates out of the allowed designs."""
    slack = DISTINCT_TOLERANCE * scale
    out = ((feasible_set.bounds[0] - slack > X) | (feasible_set.bounds[1] + slack < X)).any(dim=-1)
    out |= feasible_set.violation(X) > 10 * feasible_set.tolerance
    if bool(out.any()):
        warnings.warn(
            f"`post_processing_func` moved {int(out.sum())} of {X.shape[0]} candidates out of "
            "`bounds` or linear constraints.",
            OptimizationWarning,
            stacklevel=3,
        )

r"""
``optimize_acqf_roma``: stage 2 of RoMA with the interface of ``optimize_acqf``.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from botorch.acquisition import AcquisitionFunction, PosteriorMean
from botorch.exceptions.errors import UnsupportedError
from torch import Tensor

from botorch_roma.adaptation import Mode
from botorch_roma.checkpoint import DEFAULT_INTERVAL, open_checkpoint
from botorch_roma.closed_form import FirstLayer, Loss
from botorch_roma.inner_loop import WeightForm
from botorch_roma.models.joined import join_models
from botorch_roma.optim.constraints import LinearConstraint, NonlinearConstraint
from botorch_roma.optim.generation import UpdateResult, run_updates
from botorch_roma.optim.initializers import roma_models
from botorch_roma.optim.options import InitialPseudoLabel, RoMAOptions, StepRule
from botorch_roma.optim.search import Search, check_known, refuse
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.validation import check_flag, check_float, check_mapping

__all__ = ["optimize_acqf_roma", "optimize_acqfs_roma"]


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
    weight_form: WeightForm = "auto",
    early_stop: bool = False,
    reuse_steps: int = 0,
    step_rule: StepRule = "adam",
    lr: float | None = None,
    num_updates: int = 300,
    region: float | None = 4.0,
    max_spread: float | None = None,
    reencode_every: int | None = None,
    min_distance: float | None = None,
    local_search_rounds: int = 0,
    trajectory: Trajectory | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_interval: float = DEFAULT_INTERVAL,
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
    :func:`botorch.optim.optimize_acqf`; what does not apply is refused. The settings from
    ``radius`` on are by default those of the preset ``"fast"``;
    :func:`~botorch_roma.presets.get_preset` gives those that are recommended.

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
        timeout_sec: Time budget in seconds; the candidates reached by then are returned. An update
            that would not fit is left out, with a warning if it is the first.
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
        weight_form: ``"auto"``, ``"dense"`` or ``"factored"``.
        early_stop: Whether a candidate ends its adaptation where the objective no longer falls.
        reuse_steps: Latest steps of an adaptation that the next begins with; not in the paper.
        step_rule: ``"adam"`` or ``"gradient"``.
        lr: Step size in z-scored inputs; by default 0.01 with Adam, ``0.1 * sqrt(d)`` along the
            gradient.
        num_updates: Number of updates.
        region: Trust region of the cap in standard deviations of the outcome, or None.
        max_spread: How far the members of an ensemble may differ, in standard deviations of the
            outcome, or None; not in the paper.
        reencode_every: Decode and encode the candidates after this many updates, or None.
        min_distance: Distance that candidates keep from each other, in standard deviations of the
            data, or None; not in the paper.
        local_search_rounds: Rounds of the finishing local search where designs hold tokens.
        trajectory: An empty :class:`~botorch_roma.optim.trajectory.Trajectory` to fill.
        checkpoint: A file to save the state to as it goes on, and to go on from where it is there,
            see :mod:`botorch_roma.checkpoint`; none by default. The time budget is that of all runs
            together. What draws random numbers must be seeded. Ctrl-C ends the call once all is
            saved.
        checkpoint_interval: Seconds from one save to the next.
        progress: Show a progress bar on standard error.
        ic_gen_kwargs: Passed on to ``ic_generator``.

    Returns:
        Candidates ``q x d`` and the value of ``acq_function`` at each of them, ``q``; with
        ``return_best_only=False`` ``num_restarts x q x d`` and ``num_restarts x q``. The values
        are those of the fitted proxy, which is optimistic where it was climbed; what the
        adapted proxies predicted on the way is in the trajectory.

    Raises:
        ValueError: Malformed arguments; too few distinct start designs; a checkpoint of another
            optimisation.
        InputDataError: For a damaged checkpoint.
        UnsupportedError: Arguments that do not apply; no RoMA model in ``acq_function``.
        ModelFittingError: If the model has not been fitted.
        InfeasibilityError: Contradictory constraints, no feasible start.
        CandidateGenerationError: NaN from the acquisition function; fewer than ``q`` distinct
            designs within reach.

    Example:
        >>> candidates, values = optimize_acqf_roma(PosteriorMean(model), bounds, q=128)
    """
    refuse(
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
        weight_form=weight_form,
        early_stop=early_stop,
        reuse_steps=reuse_steps,
        step_rule=step_rule,
        lr=lr,
        num_updates=num_updates,
        region=region,
        max_spread=max_spread,
        reencode_every=reencode_every,
        min_distance=min_distance,
        local_search_rounds=local_search_rounds,
    )
    if timeout_sec is not None:
        check_float("timeout_sec", timeout_sec, exclusive=True, unit=" seconds")
    check_flag("return_best_only", return_best_only)
    check_flag("return_acq_values", return_acq_values)
    check_flag("progress", progress)
    if not (trajectory is None or isinstance(trajectory, Trajectory)):
        raise ValueError(
            f"`trajectory` must be a new Trajectory() or None, received {trajectory!r}."
        )
    check_mapping("options", options)
    if checkpoint is not None and raw_samples is not None and "seed" not in (options or {}):
        raise ValueError(
            f"`options` must hold a seed with `raw_samples` and `checkpoint`, received {options}: "
            "other start designs make another optimisation."
        )
    start = time.monotonic()
    search = Search.prepare(
        acq_function,
        bounds,
        q,
        num_restarts=num_restarts,
        raw_samples=raw_samples,
        options=options,
        inequality_constraints=inequality_constraints,
        equality_constraints=equality_constraints,
        nonlinear_inequality_constraints=nonlinear_inequality_constraints,
        fixed_features=fixed_features,
        post_processing_func=post_processing_func,
        batch_initial_conditions=batch_initial_conditions,
        ic_generator=ic_generator,
        X_avoid=X_avoid,
        ic_gen_kwargs=ic_gen_kwargs,
    )
    search.check(settings)  # before there is a checkpoint of what cannot be
    key = partial(search.fingerprint, settings, trajectory)
    with open_checkpoint(checkpoint, checkpoint_interval, search.start.device, key) as file:
        start -= 0.0 if file is None else file.before
        deadline = None if timeout_sec is None else start + timeout_sec
        result = search.run(
            settings,
            timeout_sec=None if deadline is None else max(deadline - time.monotonic(), 1e-3),
            trajectory=trajectory,
            checkpoint=file,
            progress=progress,
        )
        X, values = search.finish(
            result, settings, best_only=return_best_only, deadline=deadline, checkpoint=file
        )
    return X, values if return_acq_values else None


def optimize_acqfs_roma(
    acq_functions: Sequence[AcquisitionFunction], bounds: Tensor, q: int, **options: Any
) -> list[tuple[Tensor, Tensor | None]]:
    r"""Several optimisations side by side: a model trained under several seeds, say.

    Each gives what :func:`optimize_acqf_roma` would give alone, up to rounding, in a fraction of
    the time.

    Args:
        acq_functions: One :class:`~botorch.acquisition.PosteriorMean` for each model; the models
            differ in their weights only.
        bounds: ``2 x d`` bounds.
        q: Number of candidates of each.
        options: Of :func:`optimize_acqf_roma`, for all; no ``trajectory``, no ``timeout_sec``, no
            ``checkpoint``.

    Returns:
        Candidates and values for each acquisition function.

    Raises:
        UnsupportedError: For other acquisition functions, and models that differ in architecture,
            data, encoding or transforms, and unknown options.
        ValueError, InfeasibilityError, CandidateGenerationError: As :func:`optimize_acqf_roma`.

    Example:
        >>> models = [RoMAModel(train_X, train_Y) for _ in range(2)]
        >>> histories = fit_roma_models(models, seeds=[0, 1])
        >>> batches = optimize_acqfs_roma([PosteriorMean(m) for m in models], bounds, q=128)
    """
    arguments = _arguments(bounds, q, options)
    refuse(**{name: arguments[name] for name in (*_REFUSED, *_NOT_SIDE_BY_SIDE)})
    if not acq_functions:
        raise ValueError(
            "`acq_functions` is empty; it must hold at least one acquisition function."
        )
    for function in acq_functions:
        if type(function) is not PosteriorMean:
            raise UnsupportedError(
                "`acq_functions` must be of type PosteriorMean to be optimised side by side, "
                f"received {type(function).__name__}; call `optimize_acqf_roma` for each."
            )
    settings = RoMAOptions.from_mapping(arguments)
    searches = [_prepare(function, arguments) for function in acq_functions]
    problems = [search.problem for search in searches]
    inner: Any = problems[0].acq_function
    joined = PosteriorMean(
        join_models([roma_models(p.acq_function)[0] for p in problems]),
        posterior_transform=inner.posterior_transform,
        maximize=inner.maximize,
    )
    result = run_updates(
        torch.cat([p.encode(s.start) for p, s in zip(problems, searches, strict=True)]),
        joined,
        problems[0].feasible_set,
        settings,
        snap=problems[0].snap,
        progress=arguments["progress"],
    )
    count = len(result.X) // len(searches)
    found = []
    for g, search in enumerate(searches):
        rows = slice(g * count, (g + 1) * count)
        own = UpdateResult(result.X[rows], [x[rows] for x in result.snapshots], result.num_updates)
        X, values = search.finish(own, settings, best_only=arguments["return_best_only"])
        found.append((X, values if arguments["return_acq_values"] else None))
    return found


def prepare_search(
    acq_function: AcquisitionFunction, bounds: Tensor, q: int, **options: Any
) -> tuple[Search, RoMAOptions]:
    r"""The search that :func:`optimize_acqf_roma` would run with these arguments, and its settings.

    Args:
        acq_function: As there.
        bounds: ``2 x d`` bounds.
        q: Number of candidates.
        options: As there.
    """
    arguments = _arguments(bounds, q, options)
    refuse(**{name: arguments[name] for name in _REFUSED})
    search, settings = _prepare(acq_function, arguments), RoMAOptions.from_mapping(arguments)
    search.check(settings)
    return search, settings


def check_options(
    bounds: Tensor, q: int, options: Mapping[str, Any], num_members: int, *, encoded: bool
) -> None:
    r"""Refuse options of :func:`optimize_acqf_roma` before there is a model, as far as one can.

    Args:
        bounds: ``2 x d`` bounds.
        q: Number of candidates.
        options: The options.
        num_members: Members of the model's ensemble.
        encoded: Whether the model will have an encoding of its designs.

    Raises:
        ValueError, UnsupportedError: As by that function.
    """
    arguments = _arguments(bounds, q, options)
    refuse(**{name: arguments[name] for name in _REFUSED})
    check_known(arguments["ic_generator"], arguments["ic_gen_kwargs"])
    RoMAOptions.from_mapping(arguments).check_applies(num_members, encoded=encoded)


def _arguments(bounds: Tensor, q: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``optimize_acqf_roma`` with its defaults."""
    call = inspect.signature(optimize_acqf_roma).bind(None, bounds, q, **options)
    call.apply_defaults()
    return dict(call.arguments)


def _prepare(acq_function: AcquisitionFunction, arguments: Mapping[str, Any]) -> Search:
    names = inspect.signature(Search.prepare).parameters
    searched = {k: v for k, v in arguments.items() if k in names and k != "acq_function"}
    return Search.prepare(acq_function, **searched)


_REFUSED: tuple[str, ...] = (
    "gen_candidates",
    "sequential",
    "acq_function_sequence",
    "return_full_tree",
    "retry_on_optimization_warning",
)

_NOT_SIDE_BY_SIDE: tuple[str, ...] = ("trajectory", "timeout_sec", "checkpoint")

r"""
One optimisation: what it starts from, where it may go, and what becomes of its result.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from botorch.acquisition import AcquisitionFunction
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import UnsupportedError
from torch import Tensor

from botorch_roma._compat import outcome_constraints
from botorch_roma.checkpoint import Checkpoint
from botorch_roma.fingerprint import Fingerprint, digest, fingerprint
from botorch_roma.latent.encoding import Encoding
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.constraints import FeasibleSet, LinearConstraint, NonlinearConstraint
from botorch_roma.optim.distinct import (
    PostProcessing,
    distinct_candidates,
    pairwise_distance,
    spread_out,
)
from botorch_roma.optim.encoded import (
    Problem,
    check_survival,
    encoded_problem,
    find_encoding,
    plain_problem,
    surviving_set,
)
from botorch_roma.optim.generation import UpdateResult, check_settings, final_values, run_updates
from botorch_roma.optim.initializers import (
    DISTINCT_TOLERANCE,
    distance_unit,
    gen_top_designs,
    input_scale,
    roma_models,
)
from botorch_roma.optim.local_search import adapted_values, local_search
from botorch_roma.optim.options import RoMAOptions
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.validation import (
    check_bounds,
    check_callable,
    check_int,
    check_mapping,
    check_tensor,
)


@dataclass(frozen=True)
class Search:
    r"""An optimisation that is ready to run.

    Attributes:
        acq_function: The user's acquisition function.
        q: Number of candidates of a batch.
        shape: Number of batches, and ``q``.
        start: Start designs, ``num_restarts * q x d``.
        problem: The same in what moves: the vectors of an encoding, or the designs themselves.
        designs: The allowed designs.
        scale: Length unit of each column, ``d``.
        post_processing_func: Applied to final candidates.
        X_avoid: Designs that may not be returned, ``n x d``.
        encoding: The encoding of the designs, if there is one.
    """

    acq_function: AcquisitionFunction
    q: int
    shape: tuple[int, ...]
    start: Tensor
    problem: Problem
    designs: FeasibleSet
    scale: Tensor
    post_processing_func: PostProcessing | None
    X_avoid: Tensor | None
    encoding: Encoding | None

    @classmethod
    def prepare(
        cls,
        acq_function: AcquisitionFunction,
        bounds: Tensor,
        q: int,
        *,
        num_restarts: int,
        raw_samples: int | None,
        options: Mapping[str, Any] | None,
        inequality_constraints: list[LinearConstraint] | None,
        equality_constraints: list[LinearConstraint] | None,
        nonlinear_inequality_constraints: list[NonlinearConstraint] | None,
        fixed_features: Mapping[int, float | Tensor] | None,
        post_processing_func: PostProcessing | None,
        batch_initial_conditions: Tensor | None,
        ic_generator: Callable[..., Tensor] | None,
        X_avoid: Tensor | None,
        ic_gen_kwargs: Mapping[str, Any],
    ) -> Search:
        """Check the arguments of ``optimize_acqf_roma`` and make the start designs."""
        model = roma_models(acq_function)[0]
        _check_arguments(model, bounds, q, num_restarts, raw_samples, options)
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
            refuse(raw_samples=raw_samples, ic_generator=ic_generator)  # they would make vectors
            problem = encoded_problem(
                acq_function, encoding, feasible_set, nonlinear_inequality_constraints
            )
            start_set = surviving_set(feasible_set, encoding, nonlinear_inequality_constraints)
        check_callable("ic_generator", ic_generator)
        check_callable("post_processing_func", post_processing_func)
        check_known(ic_generator, ic_gen_kwargs)
        if batch_initial_conditions is not None:
            refuse(
                raw_samples=raw_samples, ic_generator=ic_generator
            )  # there is nothing to generate
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
        return cls(
            acq_function,
            q,
            tuple(shape),
            start,
            problem,
            feasible_set,
            scale,
            post_processing_func,
            X_avoid,
            encoding,
        )

    def check(self, settings: RoMAOptions) -> None:
        """Raise ``UnsupportedError`` for settings that have no meaning with the models."""
        check_settings(settings, self.acq_function, encoded=self.encoding is not None)

    def fingerprint(
        self, settings: RoMAOptions, trajectory: Trajectory | None = None
    ) -> Fingerprint:
        """All that the result depends on, for a checkpoint of it."""
        models = roma_models(self.acq_function)
        data = fingerprint(
            train_X=[digest(m.train_X) for m in models],
            train_Y=[digest(m.train_Y) for m in models],
        )
        return data | fingerprint(
            q=self.q,
            num_restarts=self.shape[0],
            **vars(settings),
            trajectory=None if trajectory is None else f"positions={trajectory.positions}",
            bounds=self.designs.bounds,
            fixed_features=self.designs.fixed,
            inequality_constraints=self.designs.inequality_constraints,
            equality_constraints=self.designs.equality_constraints,
            nonlinear_inequality_constraints=self.designs.nonlinear,
            post_processing_func=self.post_processing_func,
            X_avoid=self.X_avoid,
            acq_function=self.acq_function,
            constraints=outcome_constraints(self.acq_function),
            batch_initial_conditions=self.start,
        )

    def run(
        self,
        settings: RoMAOptions,
        *,
        timeout_sec: float | None = None,
        trajectory: Trajectory | None = None,
        checkpoint: Checkpoint | None = None,
        progress: bool = False,
    ) -> UpdateResult:
        r"""The updates from the start designs, as of ``run_updates``."""
        problem = self.problem
        return run_updates(
            problem.encode(self.start),
            problem.acq_function,
            problem.feasible_set,
            settings,
            snap=problem.snap,
            timeout_sec=timeout_sec,
            trajectory=trajectory,
            checkpoint=checkpoint,
            progress=progress,
        )

    def finish(
        self,
        result: UpdateResult,
        settings: RoMAOptions,
        *,
        best_only: bool,
        deadline: float | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Distinct candidates and their acquisition values: ``q``, or all with their batches."""
        ends = self.distinct(result)
        *_, X = self.refine(ends, settings, deadline, checkpoint)
        if settings.min_distance is not None and X is not ends:
            result = result.subset(self._origins(X, ends))
        values = final_values(self.acq_function, X.unsqueeze(1))
        if best_only and X.shape[0] > self.q:
            best = values.topk(self.q).indices
            X, values = X[best], values[best]
            result = result.subset(best)
        if settings.min_distance is not None:
            X = self._spread_out(X, values, result, settings.min_distance)
            values = final_values(self.acq_function, X.unsqueeze(1))
        _warn_infeasible(X, self.designs, self.scale)
        if best_only:
            return X, values
        return X.reshape(*self.shape, -1), values.reshape(self.shape)

    def _spread_out(
        self, X: Tensor, values: Tensor, result: UpdateResult, min_distance: float
    ) -> Tensor:
        return spread_out(
            X,
            values,
            result.snapshots,
            self.designs_of,
            self._coordinates(),
            min_distance,
            self.scale,
            self.X_avoid,
        )

    def _origins(self, X: Tensor, ends: Tensor) -> Tensor:
        r"""Whose path leads to each of the designs that the local search has found, ``B``.

        That of the candidate ``B x d`` that ends nearest: the search keeps no order.
        """
        coordinates = self._coordinates()
        return pairwise_distance(coordinates(X), coordinates(ends)).argmin(dim=1)

    def _coordinates(self) -> Callable[[Tensor], Tensor]:
        r"""Makes points of designs, whose distance is as ``min_distance`` counts."""
        varies, unit = distance_unit(roma_models(self.problem.acq_function)[0])
        return lambda designs: self.problem.encode(designs)[:, varies] / unit

    def designs_of(self, Z: Tensor) -> Tensor:
        r"""The designs ``B x d`` that positions stand for, not all of them distinct."""
        X = self.problem.decode(self.problem.feasible_set.project(Z, final=True))
        return X if self.post_processing_func is None else self.post_processing_func(X)

    def distinct(self, result: UpdateResult) -> Tensor:
        r"""The candidates ``B x d`` of a result, decoded, post-processed and distinct."""
        return distinct_candidates(
            result,
            self.problem,
            self.scale,
            self.post_processing_func,
            self.X_avoid,
            start=self.start if self.encoding is not None else None,
        )

    def refine(
        self,
        X: Tensor,
        settings: RoMAOptions,
        deadline: float | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Iterator[Tensor]:
        r"""Candidates ``B x d``, and what each round of the local search makes of them."""
        yield X
        if self.encoding is not None and settings.local_search_rounds:
            yield from local_search(
                X,
                adapted_values(self.problem.acq_function, settings, self.problem.encode),
                self.encoding.neighbours,
                num_rounds=settings.local_search_rounds,
                scale=self.scale,
                allowed=self._stays(),
                X_avoid=self.X_avoid,
                deadline=deadline,
                checkpoint=checkpoint,
            )

    def _stays(self) -> Callable[[Tensor], Tensor]:
        r"""Tells which of ``r x d`` designs are allowed as they are, ``r`` of bool.

        What never varies in the data has to be left alone: of a letter that no design has in its
        place the proxy knows nothing, and gradient steps do not bring it up either.
        """
        model = roma_models(self.problem.acq_function)[0]
        never = input_scale(model) == 0  # it reads the whole table: once
        as_ever = model.train_X[0, never]

        def allowed(X: Tensor) -> Tensor:
            stays = (self.designs.fix(X) == X).all(dim=-1)
            stays &= (self.problem.encode(X)[:, never] == as_ever).all(dim=-1)
            if self.post_processing_func is not None:
                stays &= (self.post_processing_func(X) == X).all(dim=-1)
            if self.designs.nonlinear and stays.any():
                stays[stays.clone()] = self.designs.nonlinear_feasible(X[stays])
            return stays

        return allowed


def refuse(**arguments: Any) -> None:
    """Raise for arguments of ``optimize_acqf`` that have no meaning here."""
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise UnsupportedError(
                f"`{name}` is not supported by optimize_acqf_roma here (candidates move side by "
                f"side from start designs that are generated or given), received {value!r}; "
                "leave it out."
            )


def check_known(
    ic_generator: Callable[..., Tensor] | None, ic_gen_kwargs: Mapping[str, Any]
) -> None:
    """Refuse arguments of no known name where there is nobody to pass them on to."""
    if ic_gen_kwargs and ic_generator is None:
        known = [option.name for option in fields(RoMAOptions)]
        close = {n: get_close_matches(n, known, n=1) for n in sorted(ic_gen_kwargs)}
        meant = ", ".join(f"`{near[0]}` for `{name}`" for name, near in close.items() if near)
        raise UnsupportedError(
            f"Unknown arguments {sorted(ic_gen_kwargs)}; keyword arguments are passed on to "
            "`ic_generator`, which is not given."
            + (f" Did you mean {meant}?" if meant else " The settings of stage 2: `RoMAOptions`.")
        )


def _check_arguments(
    model: RoMAModel,
    bounds: Tensor,
    q: int,
    num_restarts: int,
    raw_samples: int | None,
    options: Mapping[str, Any] | None,
) -> None:
    check_bounds(bounds, model.train_X.shape[1])
    check_int("q", q, minimum=1)
    check_int("num_restarts", num_restarts, minimum=1)
    if raw_samples is not None:
        check_int("raw_samples", raw_samples, minimum=1)
    check_mapping("options", options)
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
            stacklevel=4,
        )

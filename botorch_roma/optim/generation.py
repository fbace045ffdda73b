r"""
Stage 2b of RoMA: move the candidates, adapting the proxy before every step.

    theta_t  =  adapted weights at x_t, with pseudo label f(x_t; theta_{t-1})
    x_{t+1}  =  x_t + step along grad_x acquisition(x_t; theta_t)                 [Yu2021roma]_

The adaptation restarts from the fitted weights at every update, unless ``reuse_steps`` is set. All
candidates move side by side.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from botorch.acquisition import AcquisitionFunction
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import CandidateGenerationError, UnsupportedError
from botorch.logging import logger
from torch import Tensor

from botorch_roma.checkpoint import Checkpoint
from botorch_roma.inner_loop import OutOfTime
from botorch_roma.interrupt import is_interrupted
from botorch_roma.optim.ascent import Ascent
from botorch_roma.optim.constraints import FeasibleSet, LinearConstraint, NonlinearConstraint
from botorch_roma.optim.encoded import find_encoding
from botorch_roma.optim.initializers import input_scale, roma_models
from botorch_roma.optim.options import RoMAOptions
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.progress import track
from botorch_roma.validation import check_float, check_same_kind, check_tensor

#: Intermediate positions kept (up to twice as many) for candidates that end in the same design.
NUM_SNAPSHOTS: int = 32


def gen_candidates_roma(
    initial_conditions: Tensor,
    acquisition_function: AcquisitionFunction,
    lower_bounds: float | Tensor | None = None,
    upper_bounds: float | Tensor | None = None,
    inequality_constraints: list[LinearConstraint] | None = None,
    equality_constraints: list[LinearConstraint] | None = None,
    nonlinear_inequality_constraints: list[NonlinearConstraint] | None = None,
    options: Mapping[str, Any] | None = None,
    fixed_features: Mapping[int, float | Tensor] | None = None,
    timeout_sec: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Generate candidates with RoMA; for ``optimize_acqf(gen_candidates=gen_candidates_roma)``.

    Args:
        initial_conditions: Start designs, ``b x q x d``. All ``b * q`` points move side by side,
            each with its own weights; for ``q > 1`` the acquisition function is joint.
        acquisition_function: An acquisition function over a fitted RoMA model.
        lower_bounds: Lower bounds, a number or ``d``.
        upper_bounds: Upper bounds, a number or ``d``.
        inequality_constraints: As in ``optimize_acqf``, within a candidate.
        equality_constraints: As in ``optimize_acqf``, within a candidate.
        nonlinear_inequality_constraints: As in ``optimize_acqf``, within a candidate.
        options: Settings of :class:`~botorch_roma.optim.options.RoMAOptions`; other keys are
            ignored, as by BoTorch's own generators.
        fixed_features: Index to value.
        timeout_sec: Time budget in seconds; the candidates reached by then are returned.

    Returns:
        Candidates ``b x q x d`` and their acquisition values ``b``, those of
        ``acquisition_function`` itself (of the fitted, not the adapted weights).

    Raises:
        ModelFittingError: If the model has not been fitted.
        CandidateGenerationError: If the acquisition function returns NaN.
        ValueError, UnsupportedError, InfeasibilityError: For bounds, constraints and options.

    Example:
        >>> best, values = optimize_acqf(
        ...     PosteriorMean(model), bounds, q=1, num_restarts=128, raw_samples=512,
        ...     gen_candidates=gen_candidates_roma, return_best_only=False,
        ... )
    """
    if isinstance(initial_conditions, Tensor) and initial_conditions.dim() != 3:
        raise ValueError(
            "`initial_conditions` must have shape b x q x d, received "
            f"{tuple(initial_conditions.shape)}."
        )
    check_tensor("initial_conditions", initial_conditions, dim=3)
    train_X = roma_models(acquisition_function)[0].train_X
    check_same_kind("initial_conditions", initial_conditions, train_X)
    if timeout_sec is not None:
        check_float("timeout_sec", timeout_sec, exclusive=True, unit=" seconds")
    if find_encoding(acquisition_function) is not None:
        raise UnsupportedError(
            "`gen_candidates_roma` moves vectors, and the model of `acquisition_function` has an "
            "encoding of its designs; use `optimize_acqf_roma`, which decodes them."
        )
    b, q, d = initial_conditions.shape
    bounds = _as_bounds(lower_bounds, upper_bounds, initial_conditions)
    feasible_set = FeasibleSet(
        bounds,
        fixed_features=fixed_features,
        inequality_constraints=inequality_constraints,
        equality_constraints=equality_constraints,
        nonlinear_inequality_constraints=nonlinear_inequality_constraints,
        scale=input_scale(roma_models(acquisition_function)[0]),
    )
    settings = RoMAOptions.from_mapping(options or {})
    if settings.min_distance is not None:
        raise UnsupportedError(
            f"`min_distance` is {settings.min_distance:g}, but `gen_candidates_roma` returns all "
            "designs that it is given and chooses none; leave it out."
        )
    result = run_updates(
        initial_conditions.detach().reshape(b * q, d),
        acquisition_function,
        feasible_set,
        settings,
        points_per_batch=q,
        timeout_sec=timeout_sec,
    )
    candidates = result.X.reshape(b, q, d)
    return candidates, final_values(acquisition_function, candidates)


def final_values(acq_function: AcquisitionFunction, X: Tensor) -> Tensor:
    r"""Acquisition values ``b`` of final candidates ``b x q x d``.

    Raises:
        CandidateGenerationError: If one of them is NaN.
    """
    with torch.no_grad():
        values: Tensor = acq_function(X)
    if torch.isnan(values).any():
        raise CandidateGenerationError(
            f"{type(acq_function).__name__} returned NaN at {int(torch.isnan(values).sum())} of "
            f"{values.numel()} final candidates; check the acquisition function."
        )
    return values


def _as_bounds(lower: float | Tensor | None, upper: float | Tensor | None, like: Tensor) -> Tensor:
    r"""``2 x d`` bounds from numbers, tensors or None (unbounded)."""
    limit = torch.finfo(like.dtype).max / 4
    for name, value in (("lower_bounds", lower), ("upper_bounds", upper)):
        if not (value is None or isinstance(value, Tensor | int | float)):
            raise ValueError(f"`{name}` must be a number, a tensor or None, received {value!r}.")
    rows = [
        torch.as_tensor(default if value is None else value).to(like).expand(like.shape[-1])
        for value, default in ((lower, -limit), (upper, limit))
    ]
    return torch.stack(rows).clamp(-limit, limit)


@dataclass
class UpdateResult:
    r"""What :func:`run_updates` returns.

    Attributes:
        X: Final candidates, ``B x d``.
        snapshots: Earlier positions of all candidates, ``B x d`` each, first the start.
        num_updates: Updates done.
        every: Updates from one snapshot to the next.
    """

    X: Tensor
    snapshots: list[Tensor] = field(default_factory=list)
    num_updates: int = 0
    every: int = 1

    @classmethod
    def from_state(cls, state: Mapping[str, Any], like: Tensor) -> UpdateResult:
        """Of what a checkpoint holds, on the device of a tensor."""
        snapshots = [x.to(like) for x in state["snapshots"]]
        return cls(state["X"].to(like), snapshots, state["num_updates"], state["every"])

    def add(self, X: Tensor) -> None:
        """Note what an update has made of the candidates."""
        self.X = X
        self.num_updates += 1
        if self.num_updates % self.every == 0:
            self.snapshots.append(X)
        if len(self.snapshots) > 2 * NUM_SNAPSHOTS:  # however many there will be in the time budget
            self.snapshots, self.every = self.snapshots[::2], 2 * self.every

    def subset(self, indices: Tensor) -> UpdateResult:
        """The result of some candidates."""
        return replace(self, X=self.X[indices], snapshots=[x[indices] for x in self.snapshots])

    def until(self, k: int) -> UpdateResult:
        """The result as it was at snapshot ``k``."""
        return UpdateResult(
            self.snapshots[k], self.snapshots[: k + 1], k * self.every, every=self.every
        )


def check_settings(
    options: RoMAOptions, acq_function: AcquisitionFunction, *, encoded: bool
) -> None:
    """Raise ``UnsupportedError`` for settings that have no meaning with the models."""
    members = min(model.num_members for model in roma_models(acq_function))
    options.check_applies(members, encoded=encoded)


def run_updates(
    X: Tensor,
    acq_function: AcquisitionFunction,
    feasible_set: FeasibleSet,
    options: RoMAOptions,
    *,
    points_per_batch: int = 1,
    snap: Callable[[Tensor], Tensor] | None = None,
    timeout_sec: float | None = None,
    trajectory: Trajectory | None = None,
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> UpdateResult:
    r"""The loop of stage 2 from ``B x d`` start designs.

    Args:
        X: Start designs, ``B x d``.
        acq_function: An acquisition function over fitted RoMA models.
        feasible_set: The allowed designs.
        options: Settings of stage 2.
        points_per_batch: Number of consecutive candidates that the acquisition function sees
            jointly.
        snap: Moves designs to the nearest ones that an encoding stands for.
        timeout_sec: Time budget in seconds, from now.
        trajectory: A record to fill.
        checkpoint: Where to save to, and to go on from.
        progress: Show a progress bar on standard error.
    """
    if trajectory is not None and (trajectory.x or trajectory.predicted):
        raise ValueError(
            f"`trajectory` must be empty, received one of {len(trajectory.predicted)} updates; "
            "pass a new `Trajectory()`."
        )
    check_settings(options, acq_function, encoded=snap is not None)
    start = time.monotonic()
    X = feasible_set.project(X, final=True)
    feasible_set.check_nonlinear(X)
    result = UpdateResult(X, [X])
    saved = None if checkpoint is None else checkpoint.parts.get("updates")
    if saved is not None:
        result = UpdateResult.from_state(saved, like=X)
        if trajectory is not None:
            trajectory.extend(saved["trajectory"])
        if saved["finished"]:
            return result
    end = math.inf if timeout_sec is None else start + timeout_sec
    ascent = Ascent(X, acq_function, options, points_per_batch, lambda: time.monotonic() >= end)
    if checkpoint is not None and saved is not None:
        ascent.load_state(saved["ascent"])
        checkpoint.restore_random_state()

    def state() -> dict[str, Any]:
        lists = {} if trajectory is None else trajectory.lists()
        return {**vars(result), "finished": False, "ascent": ascent.state(), "trajectory": lists}

    before: float | None = None
    bar = track(
        range(result.num_updates, options.num_updates),
        total=options.num_updates - result.num_updates,
        description="stage 2",
        enabled=progress,
        shorter=None if timeout_sec is not None else "fewer `num_updates`, or `timeout_sec`",
    )
    interrupted = False
    for t in bar:
        interrupted = is_interrupted()
        if checkpoint is not None:
            checkpoint.offer("updates", state)
        now = time.monotonic()
        last = 0.0 if before is None else now - before  # one more that takes as long has to fit
        if now + last >= end:
            logger.info(f"RoMA stage 2: time budget used up after {t} updates.")
            break
        if interrupted:
            later = "" if checkpoint is None else " The same call goes on from the checkpoint."
            warnings.warn(
                f"Interrupted after {t} of {options.num_updates} updates: the candidates reached "
                f"by then are returned.{later}",
                OptimizationWarning,
                stacklevel=3,
            )
            break
        before = now
        X = result.X
        try:
            step = ascent.step(X, trajectory)
        except OutOfTime:
            logger.info(f"RoMA stage 2: time budget used up in update {t}, which is left out.")
            break
        X_new = feasible_set.project(X + step)
        if snap is not None and options.reencode_every and (t + 1) % options.reencode_every == 0:
            X_new = feasible_set.project(snap(X_new))
        X = feasible_set.retreat(X, ascent.within_spread(X, X_new))
        ascent.relabel(X)
        result.add(X)
    if (
        timeout_sec is not None
        and not interrupted
        and options.num_updates > result.num_updates == 0
    ):
        warnings.warn(
            f"The time budget left {timeout_sec:.3g} s for stage 2, in which no update could be "
            "finished: the candidates are the start designs. Give it more time, or reduce "
            "`num_adaptation_steps`, `q` or `hidden_sizes`.",
            OptimizationWarning,
            stacklevel=3,
        )
    result.X = feasible_set.project(result.X, final=True)
    if trajectory is not None:
        trajectory.append(x=result.X)
    if checkpoint is not None and not interrupted:
        timed_out = result.num_updates < options.num_updates
        checkpoint.finish("updates", state(), timed_out=timed_out)
    return result

r"""
Distinct candidates: each one that ends in a taken design gets another one nearby.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import CandidateGenerationError
from torch import Tensor

from botorch_roma.optim.encoded import Problem, unchanged
from botorch_roma.optim.generation import UpdateResult
from botorch_roma.optim.initializers import distinct_keys

PostProcessing = Callable[[Tensor], Tensor]

#: Snapshots post-processed at once: most duplicates are resolved by the last few, and
#: post-processing can be slow (Ax's rounding takes milliseconds a row).
SNAPSHOTS_PER_STEP: int = 8

#: Designs drawn around a candidate, and how far, in standard deviations of the data.
NUM_NEARBY: int = 64
NEARBY_WIDTHS: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


def distinct_candidates(
    result: UpdateResult,
    problem: Problem,
    scale: Tensor,
    post_processing_func: PostProcessing | None = None,
    X_avoid: Tensor | None = None,
    start: Tensor | None = None,
) -> Tensor:
    r"""Final candidates, decoded and post-processed; each duplicate replaced.

    A duplicate goes back along its own recorded path, then along those of the others, then to a
    start design (which an encoding may have lost on the way), then to the best of some designs
    drawn around it.

    Args:
        result: Final candidates and snapshots.
        problem: What the result solves; its acquisition function chooses among designs drawn.
        scale: Length unit of each column of a design, ``d``.
        post_processing_func: Applied to ``n x d`` designs before they are compared.
        X_avoid: Designs that may not be returned, ``n x d``.
        start: The start designs before they were encoded, ``B x d``; those that break nonlinear
            constraints themselves are left out.

    Returns:
        Candidates, ``B x d``.

    Raises:
        CandidateGenerationError: If there are not that many designs within reach.
    """
    post = post_processing_func or unchanged

    def process(Z: Tensor) -> Tensor:
        return post(problem.decode(Z))

    X = process(result.X).clone()
    seen = set() if X_avoid is None else set(distinct_keys(X_avoid, scale))
    avoided = len(seen)
    duplicates = []
    for i, key in enumerate(distinct_keys(X, scale)):
        if key in seen:
            duplicates.append(i)
        seen.add(key)
    if not duplicates:
        return X

    def allowed(designs: Tensor) -> Tensor:
        return process(problem.feasible_set.project(designs, final=True))

    others = _positions_of_all(result.snapshots, allowed)  # what is taken stays taken: one pass
    starts = iter(()) if start is None else _start_designs(start, problem, post)
    from_start = from_nearby = 0
    for i in duplicates:
        found = _first_new(_own_positions(result.snapshots, i, allowed), seen, scale)
        found = found or _first_new(others, seen, scale) or _first_new(starts, seen, scale)
        if found is None:
            design = _nearby(problem.encode(X[i]), problem, allowed, seen, scale)
            if design is None:
                raise CandidateGenerationError(
                    f"Only {X.shape[0] - len(duplicates) + duplicates.index(i)} of {X.shape[0]} "
                    f"candidates are distinct{' and new' if avoided else ''}, and no other design "
                    "is within reach; reduce `q`, or pass other `batch_initial_conditions`."
                )
            from_nearby += 1
        else:
            design, is_start = found
            from_start += is_start
        seen.update(distinct_keys(design.unsqueeze(0), scale))
        X[i] = design
    for count, what in (
        (from_start, "are returned as start designs"),
        (from_nearby, "were replaced by the best of some designs drawn around them"),
    ):
        if count:
            warnings.warn(
                f"{count} of {X.shape[0]} candidates found no design of their own on the recorded "
                f"paths and {what}.",
                OptimizationWarning,
                stacklevel=4,
            )
    return X


Position = tuple[Tensor, bool]


def spread_out(
    X: Tensor,
    values: Tensor,
    snapshots: list[Tensor],
    process: PostProcessing,
    coordinates: PostProcessing,
    min_distance: float,
    scale: Tensor,
    X_avoid: Tensor | None = None,
) -> Tensor:
    r"""Candidates that keep some distance from each other.

    The best one stays. Each of the others, best first, goes back along its own recorded path as far
    as it takes to be that far from all before it; where nothing on its path is, to the place
    that is farthest from them.

    Args:
        X: Distinct candidates, ``B x d``.
        values: What they are worth, ``B``.
        snapshots: Recorded positions of all candidates, the first being the starts, which are
            nobody's new design.
        process: Makes ``n x d`` designs of positions.
        coordinates: Makes ``n x k`` points of designs, between which distances are measured.
        min_distance: The distance.
        scale: Length unit of each column of a design, ``d``.
        X_avoid: Designs that may not be returned, ``n x d``.

    Returns:
        Distinct candidates, ``B x d``.
    """
    X, close = X.clone(), 0
    taken = set(distinct_keys(X, scale))  # with what is still to be looked at
    taken.update([] if X_avoid is None else distinct_keys(X_avoid, scale))
    points = coordinates(X)
    chosen: list[int] = []
    for i in values.argsort(descending=True).tolist():
        others = points[chosen]
        if chosen and _distance(points[i : i + 1], others) < min_distance:
            path = [s[i : i + 1] for s in reversed(snapshots[1:])]
            own = torch.cat([X[i : i + 1], *([process(torch.cat(path))] if path else [])])
            here = coordinates(own)
            distance = _distance(here, others)
            distance[1:][[key in taken for key in distinct_keys(own[1:], scale)]] = -1.0
            far = (distance >= min_distance).nonzero().flatten()
            k = int(far[0]) if len(far) else int(distance.argmax())
            close += not len(far)
            X[i], points[i] = own[k], here[k]
        chosen.append(i)
    if close:
        warnings.warn(
            f"{close} of {len(X)} candidates found no place on their paths that is `min_distance` "
            f"= {min_distance:g} away from all better ones; they are as far as they could be.",
            OptimizationWarning,
            stacklevel=5,
        )
    return X


def pairwise_distance(points: Tensor, others: Tensor) -> Tensor:
    r"""Distances of ``n x k`` points to ``m x k`` others, ``n x m``."""
    mode = "donot_use_mm_for_euclid_dist"  # which would cancel
    return torch.cdist(points, others, compute_mode=mode)


def _distance(points: Tensor, others: Tensor) -> Tensor:
    r"""Distance of ``n x k`` points to the nearest of ``m x k`` others, ``n``."""
    return pairwise_distance(points, others).amin(dim=1)


def _own_positions(snapshots: list[Tensor], i: int, allowed: PostProcessing) -> Iterator[Position]:
    r"""Recorded designs of one candidate, the last first, and whether each is its start."""
    for stop in range(len(snapshots), 0, -SNAPSHOTS_PER_STEP):
        first = max(0, stop - SNAPSHOTS_PER_STEP)
        designs = allowed(torch.stack([s[i] for s in snapshots[first:stop]]))
        for t in reversed(range(first, stop)):
            yield designs[t - first], t == 0


def _positions_of_all(snapshots: list[Tensor], allowed: PostProcessing) -> Iterator[Position]:
    r"""Recorded designs of all candidates, the last first."""
    for t in reversed(range(len(snapshots))):
        for design in allowed(snapshots[t]):
            yield design, t == 0


def _start_designs(start: Tensor, problem: Problem, post: PostProcessing) -> Iterator[Position]:
    r"""The start designs ``B x d`` that may be returned themselves, post-processed."""
    for x in post(start):
        if bool(problem.designs.nonlinear_feasible(x.unsqueeze(0)).all()):
            yield x, True


def _first_new(positions: Iterator[Position], seen: set[bytes], scale: Tensor) -> Position | None:
    for design, is_start in positions:
        if distinct_keys(design.unsqueeze(0), scale)[0] not in seen:
            return design, is_start
    return None


def _nearby(
    x: Tensor, problem: Problem, allowed: PostProcessing, seen: set[bytes], scale: Tensor
) -> Tensor | None:
    r"""The best new design of those drawn around the vector ``x``, as close as there is one."""
    feasible_set = problem.feasible_set
    generator = torch.Generator().manual_seed(0)
    for width in NEARBY_WIDTHS:
        noise = torch.randn(NUM_NEARBY, len(x), generator=generator, dtype=torch.double)
        designs = allowed(x + width * feasible_set.scale * noise.to(x))
        new = torch.tensor([k not in seen for k in distinct_keys(designs, scale)])
        designs = designs[new.to(designs.device)]
        if feasible_set.nonlinear and len(designs):
            designs = designs[problem.designs.nonlinear_feasible(designs)]
        if len(designs):
            with torch.no_grad():
                values = problem.acq_function(problem.encode(designs).unsqueeze(1))
            return designs[values.argmax()]
    return None

r"""
Stage 2 on encoded designs: the same problem, stated in the vectors that the proxy sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.objective import (
    IdentityMCObjective,
    LinearMCObjective,
    MCAcquisitionObjective,
    PosteriorTransform,
    ScalarizedPosteriorTransform,
)
from botorch.exceptions.errors import InfeasibilityError, UnsupportedError
from botorch.models.model import ModelList
from botorch.posteriors import Posterior
from torch import Tensor
from torch.nn import Module

from botorch_roma._compat import replace_modules
from botorch_roma.latent.encoding import Encoding
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.constraints import FeasibleSet, LinearConstraint, NonlinearConstraint
from botorch_roma.optim.initializers import input_scale, roma_models


def find_encoding(acq_function: AcquisitionFunction) -> Encoding | None:
    r"""The encoding of the designs that the RoMA models of an acquisition function share.

    Raises:
        UnsupportedError: If only some of the models have it, or not all the same.
    """
    found = [getattr(m, "input_transform", None) for m in roma_models(acq_function)]
    encodings = [e for e in found if isinstance(e, Encoding)]
    if not encodings:
        return None
    others = [
        type(part).__name__
        for m in acq_function.modules()
        if isinstance(m, ModelList)
        for part in m.models
        if not isinstance(part, RoMAModel)
    ]
    if others or any(e is not found[0] and not e.equals(encodings[0]) for e in found if e):
        raise UnsupportedError(
            "All models of `acq_function` must be RoMA models with the same encoding, received "
            f"{[type(e).__name__ for e in found] + others}."
        )
    inner = [m for m in acq_function.modules() if isinstance(m, AcquisitionFunction)][1:]
    if inner:
        raise UnsupportedError(
            f"{type(acq_function).__name__} around {type(inner[0]).__name__} reads or holds "
            "designs itself, which are vectors where a model has an encoding; pass "
            f"{type(inner[0]).__name__} itself, `fixed_features`, or constraints."
        )
    if len(encodings) < len(found):
        raise UnsupportedError(
            f"{len(found) - len(encodings)} of {len(found)} RoMA models have no encoding as their "
            "`input_transform`, the others have; give all of them the same."
        )
    return encodings[0]


@dataclass(frozen=True)
class Problem:
    r"""What stage 2 works on.

    Attributes:
        acq_function: Over models whose inputs are the vectors that move.
        feasible_set: The vectors allowed.
        designs: The designs allowed.
        encode: Designs ``... x d`` to vectors ``... x e``.
        decode: Vectors ``... x e`` to designs ``... x d``.
        snap: Moves vectors to the encoding of the design that they stand for; None without an
            encoding.
    """

    acq_function: AcquisitionFunction
    feasible_set: FeasibleSet
    designs: FeasibleSet
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    snap: Callable[[Tensor], Tensor] | None


def unchanged(X: Tensor) -> Tensor:
    """Designs that are vectors themselves."""
    return X


def plain_problem(acq_function: AcquisitionFunction, feasible_set: FeasibleSet) -> Problem:
    """Designs are vectors themselves."""
    return Problem(acq_function, feasible_set, feasible_set, unchanged, unchanged, None)


def encoded_problem(
    acq_function: AcquisitionFunction,
    encoding: Encoding,
    designs: FeasibleSet,
    nonlinear_inequality_constraints: list[NonlinearConstraint] | None,
) -> Problem:
    r"""The problem in the vectors of an encoding.

    Args:
        acq_function: The acquisition function over designs.
        encoding: The encoding.
        designs: The designs allowed.
        nonlinear_inequality_constraints: Those of the designs.

    Raises:
        UnsupportedError: For bounds, fixed features and linear constraints that the encoding
            cannot express.
        ValueError: For fixed features that are no tokens.
    """
    encoded: dict[Module, Module] = {m: m.encoded() for m in roma_models(acq_function)}
    train_X = roma_models(acq_function)[0].train_X
    for module in acq_function.modules():
        if isinstance(module, _BLIND):
            continue
        if isinstance(module, MCAcquisitionObjective):
            encoded[module] = _DecodedObjective(module, encoding)
        elif isinstance(module, PosteriorTransform):
            encoded[module] = _DecodedTransform(module, encoding)
    inner: Any = replace_modules(acq_function, encoded)
    pending = getattr(inner, "X_pending", None)
    if pending is not None:
        inner.X_pending = encoding.encode(pending)
    model = roma_models(inner)[0]
    feasible_set = FeasibleSet(
        encoding.encode_bounds(designs.bounds).to(train_X),
        fixed_features=_fixed_columns(encoding, designs.fixed, train_X[:1]),
        inequality_constraints=_numeric(encoding, designs.inequality_constraints),
        equality_constraints=_numeric(encoding, designs.equality_constraints),
        nonlinear_inequality_constraints=[
            (_decoded(callable_, encoding), True)
            for callable_, _ in nonlinear_inequality_constraints or []
        ],
        scale=input_scale(model),
    )
    return Problem(inner, feasible_set, designs, encoding.encode, encoding.decode, encoding.snap)


def surviving_set(
    designs: FeasibleSet,
    encoding: Encoding,
    nonlinear_inequality_constraints: list[NonlinearConstraint] | None,
) -> FeasibleSet:
    r"""The designs allowed that also meet nonlinear constraints once encoded and decoded.

    Args:
        designs: The designs allowed.
        encoding: The encoding; a latent space does not return every design.
        nonlinear_inequality_constraints: Those of the designs.
    """
    if not nonlinear_inequality_constraints:
        return designs
    decoded = [_decoded(callable_, encoding) for callable_, _ in nonlinear_inequality_constraints]
    survives = [(lambda x, c=c: c(encoding.encode(x.unsqueeze(0))[0]), True) for c in decoded]
    return designs.with_nonlinear([*nonlinear_inequality_constraints, *survives])


def check_survival(designs: FeasibleSet, surviving: FeasibleSet, start: Tensor) -> None:
    r"""Raise for start designs ``n x d`` that break a constraint only once encoded and decoded.

    Raises:
        InfeasibilityError: If there is one; names it.
    """
    lost = designs.nonlinear_feasible(start) & ~surviving.nonlinear_feasible(start)
    if bool(lost.any()):
        raise InfeasibilityError(
            f"{int(lost.sum())} of {len(start)} start designs (the first is number "
            f"{int(lost.nonzero()[0])}) satisfy `nonlinear_inequality_constraints`, but the "
            "designs that the encoding makes of them do not; leave them out of "
            "`batch_initial_conditions`, or use an encoding that loses nothing (one-hot)."
        )


class _DecodedObjective(MCAcquisitionObjective):
    """An objective that may look at designs, where vectors move."""

    def __init__(self, objective: MCAcquisitionObjective, encoding: Encoding) -> None:
        super().__init__()
        self.objective = objective
        self._encoding = [encoding]  # not a module of the acquisition function

    def forward(self, samples: Tensor, X: Tensor | None = None) -> Tensor:
        return self.objective(samples, X=None if X is None else self._encoding[0].decode(X))


class _DecodedTransform(PosteriorTransform):
    """A posterior transform that may look at designs, where vectors move."""

    def __init__(self, transform: PosteriorTransform, encoding: Encoding) -> None:
        super().__init__()
        self.transform = transform
        if hasattr(transform, "scalarize"):
            self.scalarize = transform.scalarize
        self._encoding = [encoding]

    def evaluate(self, Y: Tensor, X: Tensor | None = None) -> Tensor:
        return self.transform.evaluate(Y, X=None if X is None else self._encoding[0].decode(X))

    def forward(self, posterior: Posterior, X: Tensor | None = None) -> Posterior:
        return self.transform(posterior, X=None if X is None else self._encoding[0].decode(X))


#: What does not look at designs.
_BLIND = (IdentityMCObjective, LinearMCObjective, ScalarizedPosteriorTransform)


def _fixed_columns(
    encoding: Encoding, fixed: Mapping[int, float], template: Tensor
) -> dict[int, float]:
    r"""Fixed columns of a design as fixed columns of its encoding."""
    if not fixed:
        return {}
    columns = [c for i in fixed for c in encoding.columns_of(i)]  # or what cannot be fixed
    design = template.clone()
    for i, value in fixed.items():
        design[:, i] = value
    try:
        encoded = encoding.encode(design)[0]
    except ValueError as error:
        raise ValueError(f"`fixed_features` cannot be encoded: {error}") from None
    return {c: encoded[c].item() for c in columns}


def _numeric(
    encoding: Encoding, constraints: list[LinearConstraint] | None
) -> list[LinearConstraint] | None:
    r"""Linear constraints with the columns of the encoding that hold the numbers."""
    if not constraints:
        return None
    renamed = []
    for indices, coefficients, rhs in constraints:
        columns = [encoding.numeric_column(int(i) % encoding.dim) for i in indices]
        renamed.append((torch.tensor(columns, device=indices.device), coefficients, rhs))
    return renamed


def _decoded(constraint: Callable[[Tensor], Tensor], encoding: Encoding) -> Any:
    return lambda z: constraint(encoding.decode(z))

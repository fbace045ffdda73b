r"""
The finishing local search over single substitutions, for designs that hold tokens.

Gradients move the vectors of an encoding and see one direction at a time; the substitutions that a
discrete design has around it can be counted and asked one by one. The pool of candidates is widened
by all of them, the best are kept, and so on until nothing changes. As everywhere in stage 2, each
candidate asks the proxy that is adapted to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from botorch.acquisition import AcquisitionFunction
from torch import Tensor

from botorch_roma._compat import replace_modules
from botorch_roma.checkpoint import Checkpoint
from botorch_roma.interrupt import is_interrupted
from botorch_roma.optim.ascent import make_adaptations
from botorch_roma.optim.initializers import distinct_keys, roma_models
from botorch_roma.optim.options import RoMAOptions

#: Neighbours evaluated at once, about.
CHUNK_SIZE: int = 8192

Values = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def adapted_values(
    acq_function: AcquisitionFunction, options: RoMAOptions, encode: Callable[[Tensor], Tensor]
) -> Values:
    r"""Acquisition values of designs and of their neighbours, by the proxies adapted to the former.

    Args:
        acq_function: An acquisition function over fitted RoMA models, of encoded designs.
        options: Settings of stage 2. The pseudo label is the prediction of the fitted proxy.
        encode: Designs ``... x d`` to vectors ``... x e``.

    Returns:
        A function of designs ``n x d`` and neighbours ``k x n x d`` to values ``n`` and ``k x n``.
    """
    models = roma_models(acq_function)
    # of other designs in every round
    adaptations = make_adaptations(models, replace(options, reuse_steps=0))

    def values(X: Tensor, N: Tensor) -> tuple[Tensor, Tensor]:
        adapted = {}
        for model in models:
            Z = model.eval().standardize_inputs(encode(X))
            adapted[model] = adaptations[model](Z, model.network(Z)[0])
        found = replace_modules(acq_function, adapted)(
            encode(torch.cat([X.unsqueeze(0), N])).unsqueeze(-2)
        )
        return found[0], found[1:]

    return values


def local_search(
    X: Tensor,
    values: Values,
    neighbours: Callable[[Tensor], Tensor],
    *,
    num_rounds: int,
    scale: Tensor,
    allowed: Callable[[Tensor], Tensor] | None = None,
    X_avoid: Tensor | None = None,
    deadline: float | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Tensor]:
    r"""The best ``n`` of designs and their neighbours, round after round.

    Args:
        X: Distinct designs, ``n x d``.
        values: Designs ``r x d`` and their neighbours ``k x r x d`` to values ``r`` and ``k x r``;
            larger is better.
        neighbours: Designs ``r x d`` to the designs ``k x r x d`` next to them.
        num_rounds: Rounds at most; it ends where a round has no designs left to look around.
        scale: Length unit of each column, ``d``, in which designs are told apart.
        allowed: Which of ``r x d`` designs may be returned, ``r`` of bool; all by default.
        X_avoid: Designs that may not be returned, ``m x d``.
        deadline: In seconds of ``time.monotonic``; a round that would take longer is left out.
        checkpoint: Where to save to, and to go on from.

    Yields:
        ``n x d`` after each round, distinct.
    """
    group = max(1, CHUNK_SIZE // max(1, len(neighbours(X[:1]))))
    pool = _Pool(X, scale, allowed, X_avoid)
    state = _State.load(checkpoint, X)
    for X in state.rounds:
        pool.take_fresh()
        yield X
        pool.replace(X, state.values.clone())
    if checkpoint is not None and (state.rounds or state.evaluated):
        checkpoint.restore_random_state()
    stop, late, last = state.finished, False, 0.0
    while len(state.rounds) < num_rounds and not stop:
        fresh = pool.take_fresh()
        stop = is_interrupted()
        if stop or not len(fresh):
            break
        found = []
        for i, part in enumerate(fresh.split(group)):
            N = neighbours(part)
            if i == len(state.evaluated):
                begun = time.monotonic()
                late = deadline is not None and begun + last >= deadline
                if late:
                    break
                with torch.no_grad():
                    state.evaluated.append(values(part, N))
                last = time.monotonic() - begun
                if checkpoint is not None:
                    checkpoint.offer("local search", lambda: vars(state))
            own, others = state.evaluated[i]
            pool.update(part, own)
            found.append((N.flatten(end_dim=1), others.flatten()))
        if late:  # designs that were not looked around yet have no value
            break
        for designs, theirs in found:
            pool.add(designs, theirs)
        state.rounds.append(pool.X)
        state.values, state.evaluated = pool.values.clone(), []
        yield pool.X
    if checkpoint is not None and not stop:
        checkpoint.finish("local search", vars(state), timed_out=late)


@dataclass
class _State:
    """Where a local search is: its rounds, the values after them, and those known of the next."""

    rounds: list[Tensor]
    values: Tensor
    evaluated: list[tuple[Tensor, Tensor]]
    finished: bool = False

    @classmethod
    def load(cls, checkpoint: Checkpoint | None, X: Tensor) -> _State:
        """What a checkpoint holds, or nothing yet; on the device of ``X``."""
        saved = {} if checkpoint is None else checkpoint.parts.get("local search", {})
        return cls(
            [x.to(X) for x in saved.get("rounds", [])],
            saved.get("values", X[:0, 0]).to(X),
            [(own.to(X), others.to(X)) for own, others in saved.get("evaluated", [])],
            saved.get("finished", False),
        )


class _Pool:
    """The best designs so far, and which of them have been looked around."""

    def __init__(
        self,
        X: Tensor,
        scale: Tensor,
        allowed: Callable[[Tensor], Tensor] | None,
        X_avoid: Tensor | None,
    ) -> None:
        self.X, self.scale, self.allowed = X, scale, allowed
        self.values = torch.full_like(X[:, 0], -torch.inf)
        self.keys = distinct_keys(X, scale)
        self.explored: set[bytes] = set()
        self.avoid = set() if X_avoid is None else set(distinct_keys(X_avoid, scale))

    def replace(self, X: Tensor, values: Tensor) -> None:
        """Other designs, and their values."""
        self.X, self.values, self.keys = X, values, distinct_keys(X, self.scale)

    def take_fresh(self) -> Tensor:
        """The designs that have not been looked around, which they now have."""
        fresh = [i for i, key in enumerate(self.keys) if key not in self.explored]
        self.explored.update(self.keys)
        return self.X[fresh]

    def update(self, X: Tensor, values: Tensor) -> None:
        """New values of designs ``r x d`` of the pool."""
        place = {key: i for i, key in enumerate(self.keys)}
        self.values[[place[key] for key in distinct_keys(X, self.scale)]] = values

    def add(self, X: Tensor, values: Tensor) -> None:
        """Keep the best of the pool and of designs ``r x d``, as many as there were."""
        better = (values > self.values.min()).nonzero().flatten()  # NaN is not
        if not len(better):
            return
        better = better[values[better].argsort(descending=True, stable=True)]
        known, new = self.avoid.union(self.keys), list[int]()
        # whether a design is allowed can take a millisecond (molecules): only while it matters
        for part in better.split(len(self.keys)):
            if len(new) + (self.values >= values[part[0]]).sum() >= len(self.keys):
                break
            if self.allowed is not None:
                part = part[self.allowed(X[part])]
            for i, key in zip(part.tolist(), distinct_keys(X[part], self.scale), strict=True):
                if key not in known:
                    known.add(key)
                    new.append(i)
        X, values = torch.cat([self.X, X[new]]), torch.cat([self.values, values[new]])
        order = values.argsort(descending=True, stable=True)[: len(self.keys)]
        self.X, self.values = X[order], values[order]
        self.keys = distinct_keys(self.X, self.scale)

r"""
Start designs: the highest-scoring distinct rows of the offline data, as in [Yu2021roma]_.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from botorch.acquisition import AcquisitionFunction, OneShotAcquisitionFunction
from botorch.acquisition.objective import PosteriorTransform
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import InfeasibilityError, UnsupportedError
from botorch.models.model import Model
from botorch.posteriors import Posterior
from botorch.utils.sampling import draw_sobol_samples
from gpytorch.settings import min_variance
from torch import Tensor

from botorch_roma._compat import outcome_constraints, replace_modules
from botorch_roma.chunks import chunks, column_std
from botorch_roma.limits import check_memory
from botorch_roma.models.adapted import AdaptedRoMAModel
from botorch_roma.models.base import independent_posterior, select_outputs
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.constraints import FeasibleSet, LinearConstraint

#: Rows evaluated at once when all training designs are ranked.
CHUNK_SIZE: int = 4096

#: Uncertainty about measured outcomes when start designs are ranked, in their standard deviation.
MEASURED_STD: float = 0.1

#: Two designs are the same if they differ by less than this in units of the data's scale.
DISTINCT_TOLERANCE: float = 1e-6

#: A start design is a row of the data if it differs by less, in units of the data's scale: latents
#: of the same design differ in their last digits with the number of designs encoded at once.
SAME_DESIGN: float = 1e-4


def roma_models(acq_function: AcquisitionFunction) -> list[RoMAModel]:
    r"""The RoMA models that an acquisition function uses, directly or in a ``ModelList``.

    The one with the most data comes first.

    Raises:
        UnsupportedError: If there is none, if it is an adapted one, or if the acquisition
            function looks ahead (one-shot knowledge gradient) or evaluates a baseline together
            with the candidates (noisy EI).
    """
    if not isinstance(acq_function, AcquisitionFunction):
        raise UnsupportedError(
            "`acq_function` must be an acquisition function over a RoMAModel, such as "
            f"PosteriorMean(model), received {type(acq_function).__name__}."
        )
    # BoTorch would say that its fantasies are too many for one candidate, which misleads
    if isinstance(acq_function, OneShotAcquisitionFunction):
        raise UnsupportedError(
            f"{type(acq_function).__name__} looks ahead to measurements of a candidate, which "
            "RoMA's proxies do not support; use a function that does not, for instance "
            "qLogExpectedImprovement."
        )
    if getattr(acq_function, "X_baseline", None) is not None:
        raise UnsupportedError(
            f"{type(acq_function).__name__} evaluates its `X_baseline` together with every "
            "candidate, which has no meaning with one proxy per candidate; use one without, for "
            "instance qLogExpectedImprovement."
        )
    if any(isinstance(m, AdaptedRoMAModel) for m in acq_function.modules()):
        raise UnsupportedError(
            "`acq_function` uses an AdaptedRoMAModel; pass one over the fitted RoMAModel, which is "
            "adapted anew before every step."
        )
    models = [m for m in acq_function.modules() if isinstance(m, RoMAModel)]
    models.sort(key=lambda m: -m.train_X.shape[0])  # start designs come from the first one's data
    if not models:
        model = getattr(acq_function, "model", None)
        raise UnsupportedError(
            "`acq_function` must use a RoMAModel (directly or in a ModelList), received "
            f"{type(acq_function).__name__} over {type(model).__name__}."
        )
    return models


class _MeasuredModel(Model):
    r"""Answers with measured outcomes: ``posterior(X[i])`` is a Gaussian around ``Y[i]``.

    It is no spike: the logarithm of an improvement of zero, or of the probability of a broken
    constraint, would drown everything else.
    """

    def __init__(self, Y: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("Y", Y)
        # not narrower than gpytorch lets a variance be
        self.register_buffer("variance", std.square().clamp_min(2 * min_variance.value(Y.dtype)))

    Y: Tensor
    variance: Tensor

    @property
    def num_outputs(self) -> int:
        return self.Y.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size()

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Posterior:
        shape = (-1, X.shape[-2], -1)  # pending points do not matter
        mean = self.Y.unsqueeze(-2).expand(shape)
        posterior: Posterior = independent_posterior(mean, self.variance.expand_as(mean))
        if output_indices is not None:
            posterior = select_outputs(posterior, output_indices)
        if posterior_transform is not None:
            return posterior_transform(posterior=posterior, X=X)
        return posterior


def measured_acquisition_values(
    acq_function: AcquisitionFunction, rows: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Acquisition values of training designs by their measured, not predicted, outcomes.

    So a posterior transform (minimisation, scalarisation), an objective or constraints rank the
    start designs as they rank candidates. Where one of several models has no measurement of a
    design its prediction has to do.

    Args:
        acq_function: An acquisition function over at least one RoMA model.
        rows: Indices of rows of the first RoMA model's training data, ``n``.

    Returns:
        Values of shape ``n``; and which designs satisfied the constraints of the acquisition
        function (those that BoTorch knows as ``constraints``) when they were measured.
    """
    models, constraints = roma_models(acq_function), outcome_constraints(acq_function)
    train_X = models[0].train_X
    values, feasible = [], []
    with torch.no_grad():
        outcomes = {m: _measured_outcomes(m, train_X) for m in models}
        std = {m: MEASURED_STD * m.train_Y.std(dim=0, correction=0) for m in models}
        acq_function(train_X[rows[:1]].unsqueeze(-2))  # a sampler is made now, for all to share
        for chunk in rows.split(CHUNK_SIZE):
            measured = {m: _MeasuredModel(Y[chunk], std[m]) for m, Y in outcomes.items()}
            acquisition: Any = replace_modules(acq_function, measured)
            points = train_X[chunk].unsqueeze(-2)
            values.append(acquisition(points))
            fine = torch.ones_like(values[-1], dtype=torch.bool)
            for constraint in constraints:  # an improvement, however unlikely, can outweigh them
                fine &= constraint(acquisition.model.posterior(points).mean).squeeze(-1) <= 0
            feasible.append(fine)
    return torch.cat(values), torch.cat(feasible)


def _measured_outcomes(model: RoMAModel, X: Tensor) -> Tensor:
    r"""Outcomes ``n x m`` of designs ``n x d``: measured by this model's data, or predicted."""
    if model.train_X.shape == X.shape and model.train_X.equal(X):
        return model.train_Y
    known = {x.tobytes(): i for i, x in enumerate(model.train_X.cpu().numpy())}
    found = [known.get(x.tobytes(), -1) for x in X.cpu().numpy()]
    index = torch.tensor(found, device=X.device).unsqueeze(-1)
    posteriors: Iterator[Any] = (model.posterior(c.unsqueeze(-2)) for c in X.split(CHUNK_SIZE))
    predicted = [p.mean.squeeze(-2) for p in posteriors]
    return torch.where(index >= 0, model.train_Y[index.squeeze(-1)], torch.cat(predicted))


def distinct_keys(X: Tensor, scale: Tensor) -> list[bytes]:
    r"""One hashable key per row of ``n x d``: its cell in a grid as fine as the tolerance."""
    unit = torch.where(scale > 0, scale, torch.ones_like(scale)) * DISTINCT_TOLERANCE
    # doubles, for integers overflow far from the origin; 0.0 makes one zero of both
    cells = torch.round(X.detach().double() / unit.double()).add_(0.0).cpu().numpy()
    return [row.tobytes() for row in cells]


def input_scale(model: RoMAModel) -> Tensor:
    r"""Standard deviation of each input in the data, ``d``; 0 where it never varies.

    Steps of candidates are measured in it, so without an input transform they are steps in
    z-scored inputs, and inputs of which nothing is known stay where they are.
    """
    return column_std(model.train_X)


def distance_unit(model: RoMAModel) -> tuple[Tensor, Tensor]:
    r"""What distances between designs are measured in: root mean square of standard deviations.

    Returns:
        Which inputs vary, ``d`` of bool, and what each of these is divided by.
    """
    scale = input_scale(model)
    varies = scale > 0
    return varies, scale[varies] * max(float(varies.sum()), 1.0) ** 0.5


def gen_top_designs(
    acq_function: AcquisitionFunction,
    bounds: Tensor,
    q: int,
    num_restarts: int,
    raw_samples: int | None = None,
    fixed_features: Mapping[int, float | Tensor] | None = None,
    options: Mapping[str, Any] | None = None,
    inequality_constraints: list[LinearConstraint] | None = None,
    equality_constraints: list[LinearConstraint] | None = None,
    *,
    feasible_set: FeasibleSet | None = None,
) -> Tensor:
    r"""The best distinct designs of the training data, best first.

    Designs that broke an outcome constraint when they were measured come last. Designs outside of
    the bounds are used, moved to the nearest allowed design, only where there are not enough
    inside, with a warning.

    Args:
        acq_function: An acquisition function over a RoMA model; ranks by measured outcomes.
        bounds: ``2 x d``.
        q: Number of candidates.
        num_restarts: Number of batches; the ``r``-th holds ranks ``r * q`` to ``r * q + q - 1``.
        raw_samples: Number of Sobol designs that compete, by predicted value, with the
            training designs; none by default.
        fixed_features: Index to value.
        options: ``{"seed": int}`` seeds the Sobol designs.
        inequality_constraints: As in ``optimize_acqf``.
        equality_constraints: As in ``optimize_acqf``.
        feasible_set: The allowed designs, in place of the four arguments before.

    Returns:
        Start designs, ``num_restarts x q x d``.

    Raises:
        ValueError: If there are fewer distinct designs than ``num_restarts * q``.
        InfeasibilityError: If nonlinear constraints leave fewer than that.
    """
    model = roma_models(acq_function)[0]
    scale, bounds = input_scale(model), bounds.to(model.train_X)
    if feasible_set is None:
        feasible_set = FeasibleSet(
            bounds,
            fixed_features=fixed_features,
            inequality_constraints=inequality_constraints,
            equality_constraints=equality_constraints,
            scale=scale,
        )
    n, d = model.train_X.shape
    if raw_samples is not None:
        check_memory(
            f"`raw_samples` is {raw_samples}: drawing so many designs of {d} columns",
            raw_samples * d * model.train_X.element_size(),
            "reduce it",
            model.train_X.device,
        )
    need, most = q * num_restarts, n + (raw_samples or 0)
    if need > most:
        raise ValueError(
            f"`q` times `num_restarts` is {need}, but there are only {most} designs to start from; "
            "reduce `q`, or pass `raw_samples` or `batch_initial_conditions`."
        )
    rows = torch.arange(n, device=model.train_X.device)
    values, feasible = measured_acquisition_values(acq_function, rows)
    designs = _Designs(model.train_X)
    if raw_samples is not None:
        seed = (options or {}).get("seed")
        sobol = draw_sobol_samples(bounds, n=raw_samples, q=1, seed=seed).squeeze(1).to(bounds)
        sobol = feasible_set.project(sobol)
        with torch.no_grad():
            sobol_values = [acq_function(c.unsqueeze(-2)) for c in sobol.split(CHUNK_SIZE)]
        designs, values = _Designs(model.train_X, sobol), torch.cat([values, *sobol_values])
        feasible = torch.cat([feasible, torch.ones_like(sobol[:, 0], dtype=torch.bool)])
    slack = DISTINCT_TOLERANCE * scale
    lower, upper = bounds[0] - slack, bounds[1] + slack
    inside = torch.cat([((c >= lower) & (c <= upper)).all(dim=-1) for c in designs.chunks()])
    order = values.argsort(descending=True, stable=True)
    order = torch.cat([order[feasible[order]], order[~feasible[order]]])
    order = torch.cat([order[inside[order]], order[~inside[order]]])
    chosen = _first_distinct(designs, order, need, feasible_set, scale)
    outside = int((~inside[order[chosen]]).sum())
    if outside and len(chosen) == need:
        warnings.warn(
            f"{outside} of {need} start designs lay outside of `bounds` and were moved inside.",
            OptimizationWarning,
            stacklevel=2,
        )
    if len(chosen) < need:
        _raise_too_few(len(chosen), need, len(order), bool(feasible_set.nonlinear))
    start = feasible_set.project(designs.at(order[chosen]), final=True)
    return start.reshape(num_restarts, q, -1)


class _Designs(NamedTuple):
    r"""Rows of the data ``n x d`` and, numbered from ``n`` on, drawn ones; nothing is joined."""

    known: Tensor
    drawn: Tensor | None = None

    def at(self, rows: Tensor) -> Tensor:
        r"""The designs ``k x d`` with the numbers ``rows``."""
        if self.drawn is None:
            return self.known[rows]
        late, n = rows >= len(self.known), len(self.known)
        X = self.known[rows.clamp_max(n - 1)]
        X[late] = self.drawn[rows[late] - n]
        return X

    def chunks(self) -> Iterator[Tensor]:
        r"""All designs in order, some at a time."""
        yield from chunks(self.known)
        if self.drawn is not None:
            yield self.drawn


def _first_distinct(
    designs: _Designs, order: Tensor, need: int, feasible_set: FeasibleSet, scale: Tensor
) -> list[int]:
    r"""Positions in ``order`` of the first ``need`` designs distinct once made feasible."""
    chosen: list[int] = []
    seen: set[bytes] = set()
    for positions in torch.arange(len(order)).split(max(2 * need, 256)):
        projected = feasible_set.project(designs.at(order[positions.to(order.device)]))
        allowed = (
            feasible_set.nonlinear_feasible(projected).tolist()
            if feasible_set.nonlinear
            else [True] * len(positions)
        )
        keys = distinct_keys(projected, scale)
        for position, key, ok in zip(positions.tolist(), keys, allowed, strict=True):
            if ok and key not in seen:
                seen.add(key)
                chosen.append(position)
                if len(chosen) == need:
                    return chosen
    return chosen


def _raise_too_few(found: int, need: int, rows: int, nonlinear: bool) -> None:
    if nonlinear:
        raise InfeasibilityError(
            f"Only {found} of {need} start designs satisfy `nonlinear_inequality_constraints`; "
            "pass feasible `batch_initial_conditions` or more `raw_samples`."
        )
    raise ValueError(
        f"`q` times `num_restarts` is {need}, but the {rows} designs of the data hold only {found} "
        "distinct start designs within the constraints; reduce `q`, or pass `raw_samples` or "
        "`batch_initial_conditions`."
    )


def measured_labels(model: RoMAModel, X: Tensor) -> Tensor:
    r"""Standardised measured outcomes of start designs, ``S x B``."""
    rows, scale = [], input_scale(model)
    unit = torch.where(scale > 0, scale, torch.ones_like(scale)) * SAME_DESIGN
    for i, x in enumerate(X):
        near = [((c - x).abs() <= unit).all(dim=-1) for c in chunks(model.train_X)]
        match = torch.cat(near).nonzero().flatten()
        if not len(match):
            raise ValueError(
                'With `initial_pseudo_label="measured"` every start design must be a row of '
                f'`train_X`; start design {i} is not. Use "predicted".'
            )
        rows.append(match[model.train_Y[match, 0].argmax()])  # as the start designs are ranked
    index = torch.stack(rows)
    Y = model.standardize_outcomes(model.train_Y[index], X=model.train_X[index])
    return Y.mT.repeat(model.num_members, 1)

from __future__ import annotations

from typing import Any

import pytest
import torch
from botorch.acquisition import AcquisitionFunction, PosteriorMean
from botorch.exceptions.errors import UnsupportedError
from torch import Tensor

from botorch_roma import RoMAModel, RoMAOptions
from botorch_roma.adaptation import Adaptation
from botorch_roma.optim.ascent import Ascent
from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.generation import run_updates


def top(model: RoMAModel, q: int) -> Tensor:
    return model.train_X[model.train_Y[:, 0].argsort(descending=True)[:q]]


def climb(
    acq_function: AcquisitionFunction, bounds: Tensor, start: Tensor, **options: Any
) -> Tensor:
    """Where candidates end."""
    return run_updates(start, acq_function, FeasibleSet(bounds), RoMAOptions(**options)).X


def test_a_step_follows_the_gradient_of_the_adapted_model(model: RoMAModel) -> None:
    X = top(model, 3)
    options = RoMAOptions(radius=0.1, step_rule="gradient", lr=0.3, region=None)
    ascent = Ascent(X, PosteriorMean(model), options, 1, lambda: False)
    step = ascent.step(X, None)
    labels = model.network(model.standardize_inputs(X))[0]
    adapted = Adaptation(model, radius=0.1)(model.standardize_inputs(X), labels)
    leaf = X.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(adapted.posterior(leaf.unsqueeze(1)).mean.sum(), leaf)
    scale = model.train_X.std(dim=0, correction=0)
    expected = 0.3 * gradient * scale.square() / model.train_Y.std(correction=0)
    torch.testing.assert_close(step, expected)
    # and what the adapted model says where the candidate went to is the next label
    ascent.relabel(X + step)
    moments, _ = adapted.candidate_moments(model.standardize_inputs(X + step).unsqueeze(1))
    torch.testing.assert_close(ascent.labels[model], moments.squeeze(-1))


def test_candidates_stay_where_the_members_agree(ensemble: RoMAModel, bounds: Tensor) -> None:
    arguments: dict[str, Any] = {"num_updates": 40, "lr": 0.2, "region": None, "radius": 0.0}
    start = top(ensemble, 4)
    free = climb(PosteriorMean(ensemble), bounds, start, **arguments)
    reached, began = ensemble.member_spread(free), ensemble.member_spread(start)
    limit = float((reached.max() + began.max()) / 2)
    assert began.max() < limit < reached.max()
    kept = climb(PosteriorMean(ensemble), bounds, start, max_spread=limit, **arguments)
    assert ensemble.member_spread(kept).max() <= limit
    assert not torch.equal(kept, start)  # they went as far as that
    wide = climb(PosteriorMean(ensemble), bounds, start, max_spread=1e3, **arguments)
    assert torch.equal(wide, free)


def test_a_spread_needs_members(model: RoMAModel, bounds: Tensor) -> None:
    with pytest.raises(UnsupportedError, match=r"`max_spread` is 0\.5, .* more `num_members`"):
        climb(PosteriorMean(model), bounds, top(model, 2), max_spread=0.5)

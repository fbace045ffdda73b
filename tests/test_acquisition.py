from __future__ import annotations

import pytest
import torch
from botorch.acquisition import PosteriorMean
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.models import ModelList
from torch import Tensor

from botorch_roma import RoMAModel, fit_roma_model, optimize_acqf_roma
from botorch_roma.acquisition import MIN_CONSTRAINT_STD, ConstrainedPosteriorMean


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.double)


X = draw(80, 2)
Y = torch.stack([X.sum(dim=-1), X[:, 0] - 0.5 * X[:, 1]], dim=-1)
BOUNDS = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)
FIRST = torch.tensor([1.0, 0.0], dtype=torch.double)


def transform(*weights: float) -> ScalarizedPosteriorTransform:
    return ScalarizedPosteriorTransform(torch.tensor(weights, dtype=torch.double))


def constraints(A: list[list[float]], b: list[float]) -> tuple[Tensor, Tensor]:
    return torch.tensor(A, dtype=torch.double), torch.tensor(b, dtype=torch.double).unsqueeze(-1)


@pytest.fixture(scope="module")
def model() -> RoMAModel:
    model = RoMAModel(X, Y)
    fit_roma_model(model, epochs=120, seed=0)
    return model


def test_without_constraints(model: RoMAModel) -> None:
    points = draw(9, 1, 2, seed=1)
    plain = PosteriorMean(model, posterior_transform=transform(1.0, 0.0))(points)
    got = ConstrainedPosteriorMean(model, transform(1.0, 0.0), scale=2.0)(points)
    torch.testing.assert_close(got, plain / 2.0)
    assert got.shape == (9,)


@pytest.mark.parametrize("models", [1, 2])
def test_formula(model: RoMAModel, models: int) -> None:
    """``mean / scale + sum_k log Phi((b - A mean) / sqrt(A^2 variance + floor))``."""
    parts = model if models == 1 else ModelList(model.subset_output([0]), model.subset_output([1]))
    A, b = constraints([[1.0, -2.0], [0.0, 1.0]], [0.3, 0.1])
    unit = torch.tensor([0.5, 2.0], dtype=torch.double)
    acq_function = ConstrainedPosteriorMean(
        parts, transform(-1.0, 0.0), (A, b), scale=3.0, outcome_scale=unit
    )
    points = draw(7, 1, 2, seed=1)
    posterior = model.posterior(points.squeeze(1))
    expected = -posterior.mean[:, 0] / 3.0
    normal = torch.distributions.Normal(0.0, 1.0)
    for row, limit in zip(A, b.flatten(), strict=True):
        variance = (posterior.variance * row**2).sum(dim=-1)
        variance = variance + ((row * unit) ** 2).sum() * MIN_CONSTRAINT_STD**2
        expected = expected + normal.cdf((limit - posterior.mean @ row) / variance.sqrt()).log()
    torch.testing.assert_close(acq_function(points), expected)


def test_gradient_far_from_feasible(model: RoMAModel) -> None:
    acq_function = ConstrainedPosteriorMean(
        model, transform(1.0, 0.0), constraints([[1.0, 0.0]], [-500.0])
    )
    points = draw(5, 1, 2, seed=1).requires_grad_()
    values = acq_function(points)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    assert torch.isfinite(values).all()
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().sum(dim=-1) > 0).all()


def test_candidates_satisfy_the_constraint(model: RoMAModel) -> None:
    """The best designs without it violate it."""
    unit = Y.std(dim=0)
    ends = []
    for limits in (None, constraints([[0.0, 1.0]], [-0.1])):
        acq_function = ConstrainedPosteriorMean(
            model, transform(1.0, 0.0), limits, scale=unit[0].item(), outcome_scale=unit
        )
        ends.append(optimize_acqf_roma(acq_function, BOUNDS, q=6, num_updates=100)[0])
    violation = [(x[:, 0] - 0.5 * x[:, 1] + 0.1).clamp_min(0.0) for x in ends]
    assert violation[0].min() > 0.2
    assert violation[1].max() < 0.05
    feasible = Y[:, 1] <= -0.1
    assert ends[1].sum(dim=-1).max() > Y[feasible, 0].median()


@pytest.mark.parametrize(
    ("A", "b", "scale", "message"),
    [
        ([[1.0]], [0.0], 1.0, r"k x 2 and k x 1, received \(1, 1\) and \(1, 1\)"),
        ([[1.0, 0.0]], [0.0, 1.0], 1.0, r"received \(1, 2\) and \(2, 1\)"),
        ([[1.0, 0.0]], [0.0], 0.0, r"`scale` must be above 0, received 0\.0"),
    ],
)
def test_bad_arguments(
    model: RoMAModel, A: list[list[float]], b: list[float], scale: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ConstrainedPosteriorMean(model, transform(1.0, 0.0), constraints(A, b), scale=scale)

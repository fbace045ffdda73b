from __future__ import annotations

import pytest
import torch
from botorch.acquisition import (
    PosteriorMean,
    UpperConfidenceBound,
    qLogExpectedImprovement,
    qSimpleRegret,
)
from botorch.acquisition.objective import LinearMCObjective, ScalarizedPosteriorTransform
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import InfeasibilityError, UnsupportedError
from botorch.models import ModelList, SingleTaskGP
from torch import Tensor

from botorch_roma import RoMAModel, gen_top_designs
from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.initializers import (
    distinct_keys,
    input_scale,
    measured_acquisition_values,
    roma_models,
)


def minimise(model: RoMAModel) -> PosteriorMean:
    weights = torch.tensor([-1.0]).to(model.train_X)
    return PosteriorMean(model, posterior_transform=ScalarizedPosteriorTransform(weights))


def table(rows: list[list[float]], outcomes: list[float]) -> RoMAModel:
    """An unfitted model; start designs do not depend on the weights."""
    X, Y = torch.tensor(rows, dtype=torch.double), torch.tensor(outcomes, dtype=torch.double)
    return RoMAModel(X, Y.unsqueeze(-1), hidden_sizes=(2,))


SQUARE = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)
ROWS = [[0.1, 0.9], [0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.3, 0.3]]
OUTCOMES = [1.0, 5.0, 4.0, 3.0, 2.0]


def test_takes_the_highest_rows(model: RoMAModel, bounds: Tensor) -> None:
    start = gen_top_designs(PosteriorMean(model), bounds, q=5, num_restarts=1)
    best = model.train_X[model.train_Y.flatten().argsort(descending=True)[:5]]
    assert torch.equal(start, best.unsqueeze(0))


def test_minimisation_takes_the_lowest_rows(model: RoMAModel, bounds: Tensor) -> None:
    start = gen_top_designs(minimise(model), bounds, q=5, num_restarts=1)
    lowest = model.train_X[model.train_Y.flatten().argsort()[:5]]
    assert torch.equal(start[0], lowest)
    pessimistic = UpperConfidenceBound(model, beta=4.0, maximize=False)
    assert torch.equal(gen_top_designs(pessimistic, bounds, 5, 1)[0], lowest)


def test_restarts_follow_in_rank(model: RoMAModel, bounds: Tensor) -> None:
    one = gen_top_designs(PosteriorMean(model), bounds, q=6, num_restarts=1)
    three = gen_top_designs(PosteriorMean(model), bounds, q=2, num_restarts=3)
    assert torch.equal(three, one.reshape(3, 2, 3))


def test_duplicates_count_once() -> None:
    start = gen_top_designs(PosteriorMean(table(ROWS, OUTCOMES)), SQUARE, q=4, num_restarts=1)
    expected = [[0.5, 0.5], [0.9, 0.1], [0.3, 0.3], [0.1, 0.9]]
    assert start[0].tolist() == expected


def test_more_than_there_are() -> None:
    acq_function = PosteriorMean(table(ROWS, OUTCOMES))
    with pytest.raises(ValueError, match=r"`q` times `num_restarts` is 5, .* 5 designs .* only 4"):
        gen_top_designs(acq_function, SQUARE, q=5, num_restarts=1)
    with pytest.raises(ValueError, match=r"is 6, .* only 5 designs to start from"):
        gen_top_designs(acq_function, SQUARE, q=2, num_restarts=3)


def test_rows_outside_narrower_bounds_come_last() -> None:
    narrow = torch.tensor([[0.0, 0.0], [0.6, 0.6]], dtype=torch.double)
    acq_function = PosteriorMean(table(ROWS, OUTCOMES))
    inside = gen_top_designs(acq_function, narrow, q=2, num_restarts=1)
    assert inside[0].tolist() == [[0.5, 0.5], [0.3, 0.3]]
    with pytest.warns(OptimizationWarning, match="1 of 3 start designs lay outside of `bounds`"):
        some = gen_top_designs(acq_function, narrow, q=3, num_restarts=1)
    assert some[0, 2].tolist() == [0.6, 0.1]


def test_designs_that_are_distinct_only_without_the_constraints() -> None:
    acq_function = PosteriorMean(table(ROWS, OUTCOMES))
    start = gen_top_designs(acq_function, SQUARE, q=4, num_restarts=1, fixed_features={0: 0.7})
    assert start[0].tolist() == [[0.7, 0.5], [0.7, 0.1], [0.7, 0.3], [0.7, 0.9]]
    half = torch.tensor([[0.0, 0.4], [1.0, 1.0]], dtype=torch.double)
    with pytest.raises(ValueError, match=r"is 4, .* only 3"):
        gen_top_designs(acq_function, half, q=4, num_restarts=1, fixed_features={0: 0.7})


def test_linear_constraints() -> None:
    line = (torch.tensor([0, 1]), torch.ones(2, dtype=torch.double), 1.2)
    acq_function = PosteriorMean(table(ROWS, OUTCOMES))
    start = gen_top_designs(acq_function, SQUARE, 2, 1, equality_constraints=[line])
    assert torch.allclose(start.sum(dim=-1), torch.tensor(1.2, dtype=torch.double))
    start = gen_top_designs(acq_function, SQUARE, 3, 1, inequality_constraints=[line])
    assert start.sum(dim=-1).min() > 1.2 - 1e-8


def test_raw_samples_compete_by_prediction(model: RoMAModel, bounds: Tensor) -> None:
    acq_function = PosteriorMean(model)

    def start(**options: int) -> Tensor:
        return gen_top_designs(acq_function, bounds, 30, 1, raw_samples=64, options=options)[0]

    first = start(seed=1)
    known = (first.unsqueeze(1) == model.train_X).all(dim=-1).any(dim=-1)
    assert known.any()
    assert not known.all()
    assert torch.equal(first, start(seed=1))
    assert not torch.equal(first, start(seed=2))
    assert bool(((first >= bounds[0]) & (first <= bounds[1])).all())


def test_raw_samples_make_up_for_missing_rows() -> None:
    acq_function = PosteriorMean(table(ROWS, OUTCOMES))
    start = gen_top_designs(acq_function, SQUARE, 8, 1, raw_samples=16, options={"seed": 0})
    assert len(set(distinct_keys(start[0], torch.ones(2)))) == 8


def test_several_outputs_are_ranked_as_candidates_are(
    two_outputs: RoMAModel, bounds: Tensor
) -> None:
    weights = torch.tensor([0.5, -2.0], dtype=torch.double)
    transform = ScalarizedPosteriorTransform(weights)
    start = gen_top_designs(
        PosteriorMean(two_outputs, posterior_transform=transform), bounds, q=4, num_restarts=1
    )
    order = (two_outputs.train_Y @ weights).argsort(descending=True)
    assert torch.equal(start[0], two_outputs.train_X[order[:4]])


def test_model_list_with_a_process(model: RoMAModel, gp: SingleTaskGP, bounds: Tensor) -> None:
    objective = LinearMCObjective(torch.tensor([1.0, 0.0], dtype=torch.double))
    acq_function = qSimpleRegret(ModelList(model, gp), objective=objective)
    assert roma_models(acq_function) == [model]
    start = gen_top_designs(acq_function, bounds, q=3, num_restarts=1)
    best = model.train_Y.flatten().argsort(descending=True)[:3]
    assert torch.equal(start[0], model.train_X[best])


def test_without_a_roma_model(gp: SingleTaskGP) -> None:
    with pytest.raises(UnsupportedError, match="received PosteriorMean over SingleTaskGP"):
        roma_models(PosteriorMean(gp))


def test_measured_values_are_measured(model: RoMAModel) -> None:
    rows = torch.tensor([3, 0, 7])
    values, feasible = measured_acquisition_values(PosteriorMean(model), rows)
    assert torch.equal(values, model.train_Y[rows, 0])
    assert feasible.all()


def test_designs_that_broke_a_constraint_come_last() -> None:
    outcomes = torch.linspace(0.0, 1.0, 12, dtype=torch.double).unsqueeze(-1)
    designs = torch.rand(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    acq_function = qLogExpectedImprovement(
        RoMAModel(designs, outcomes, hidden_sizes=(2,)),
        best_f=0.5,
        constraints=[lambda samples: samples[..., 0] - 0.6],
    )
    start = gen_top_designs(acq_function, SQUARE, 12, 1)[0]
    assert {tuple(x) for x in start[:7].tolist()} == {tuple(x) for x in designs[:7].tolist()}


def test_designs_that_one_of_two_models_does_not_know() -> None:
    """Measured where it was measured, predicted elsewhere; starts are those of the larger table."""
    generator = torch.Generator().manual_seed(0)
    designs = torch.rand(12, 2, generator=generator, dtype=torch.double)
    outcomes = torch.rand(12, 1, generator=generator, dtype=torch.double)
    small, large = (
        RoMAModel(designs[:n], outcomes[:n] + shift, hidden_sizes=(2,))
        for n, shift in ((5, 1.0), (12, 0.0))
    )
    weights = torch.ones(2, dtype=torch.double)
    acq_function = PosteriorMean(ModelList(small, large), ScalarizedPosteriorTransform(weights))
    assert roma_models(acq_function) == [large, small]
    values, _ = measured_acquisition_values(acq_function, torch.arange(12))
    expected = outcomes[:, 0] + small.posterior(designs).mean[:, 0]
    expected[:5] = 2.0 * outcomes[:5, 0] + 1.0
    torch.testing.assert_close(values, expected.detach())


def test_nonlinear_constraints_leave_too_few() -> None:
    acq_function = PosteriorMean(table(ROWS, OUTCOMES))
    corner = (lambda x: 0.35 - x.max(), True)
    feasible_set = FeasibleSet(SQUARE, nonlinear_inequality_constraints=[corner])
    start = gen_top_designs(acq_function, SQUARE, 1, 1, feasible_set=feasible_set)
    assert start[0].tolist() == [[0.3, 0.3]]
    with pytest.raises(InfeasibilityError, match=r"1 of 2 .*`nonlinear_inequality_constraints`"):
        gen_top_designs(acq_function, SQUARE, 2, 1, feasible_set=feasible_set)


def test_distinct_keys() -> None:
    X = torch.tensor([[0.0, 1e5], [1e-9, 1e5], [0.0, 1e5 + 1e-3], [1e-3, 1e5]], dtype=torch.double)
    keys = distinct_keys(X, torch.tensor([1.0, 1e5], dtype=torch.double))
    assert keys[0] == keys[1] == keys[2]
    assert keys[0] != keys[3]


def test_input_scale_is_zero_where_nothing_varies() -> None:
    with pytest.warns(match="constant in columns"):
        model = table([[0.0, 2.0], [1.0, 2.0]], [0.0, 1.0])
    assert input_scale(model).tolist() == [0.5, 0.0]
    with pytest.warns(match="constant in columns"):
        model = table([[float(i), 0.1] for i in range(7)], [float(i) for i in range(7)])
    assert model.train_X[:, 1].std(correction=0) > 0.0  # by rounding
    assert input_scale(model)[1] == 0.0

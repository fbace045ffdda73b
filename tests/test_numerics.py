"""No NaN leaves the library: scales, saturation, zero gradients, few, many and repeated designs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from botorch.acquisition import (
    LogExpectedImprovement,
    PosteriorMean,
    UpperConfidenceBound,
    qLogExpectedImprovement,
)
from botorch.exceptions import InputDataError
from torch import Tensor

from botorch_roma import (
    PRESETS,
    RoMAModel,
    adapt_roma_model,
    fit_roma_model,
    optimize_acqf_roma,
    propose,
)
from botorch_roma.chunks import column_std, transformed_moments
from botorch_roma.network import ACTIVATIONS
from botorch_roma.optim.initializers import distinct_keys

FIT: dict[str, Any] = {"epochs": 3, "batch_size": 16, "num_ascent_steps": 2, "seed": 0}
OPTIMIZE: dict[str, Any] = {"num_updates": 4, "num_adaptation_steps": 3, "lr": 0.1}
DTYPES = [torch.float32, torch.float64]


def draw(*shape: int, dtype: torch.dtype = torch.double, seed: int = 0) -> Tensor:
    unit = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return unit.to(dtype)


def check_all(X: Tensor, Y: Tensor, q: int = 4, **options: Any) -> tuple[RoMAModel, Tensor]:
    """Both stages; everything that comes out is finite, inside the bounds and distinct."""
    model = RoMAModel(X, Y, hidden_sizes=(8, 8), **options)
    history = fit_roma_model(model, **FIT)
    assert all(torch.isfinite(torch.tensor(v)).all() for v in (history.loss, history.seconds))
    assert torch.isfinite(torch.tensor(history.validation_loss)).all()
    return model, check_stage_2(model, q)


def check_stage_2(model: RoMAModel, q: int = 4, **options: Any) -> Tensor:
    X = model.train_X
    bounds = torch.stack([X.min(dim=0).values, X.max(dim=0).values])
    candidates, values = optimize_acqf_roma(
        PosteriorMean(model), bounds, q, **{**OPTIMIZE, **options}
    )
    names = ("mode", "pseudo_label_loss", "first_layer", "weight_form")
    shared = {k: v for k, v in options.items() if k in names}
    adapted = adapt_roma_model(model, candidates, **shared)
    posteriors = [m.posterior(candidates.unsqueeze(1)) for m in (model, adapted)]
    assert values is not None
    assert candidates.dtype == values.dtype == X.dtype
    for tensor in (candidates, values, *(p.mean for p in posteriors)):
        assert torch.isfinite(tensor).all()
    for posterior in posteriors:
        assert torch.isfinite(posterior.variance).all()
        assert (posterior.variance > 0).all()
    assert (candidates >= bounds[0]).all()
    assert (candidates <= bounds[1]).all()
    assert len(torch.unique(candidates, dim=0)) == q
    return candidates


# Scales


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x_scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("y_scale", [1e-8, 1e8])
def test_scales(x_scale: float, y_scale: float, dtype: torch.dtype) -> None:
    X = draw(20, 3)
    Y = (X - 0.5).square().sum(dim=-1, keepdim=True)
    check_all((X * x_scale).to(dtype), (Y * y_scale).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y_scale", [1e-8, 1e8])
@pytest.mark.parametrize("further", [{}, {"early_stop": True}, {"reuse_steps": 2}])
def test_scales_in_acquisition_functions(
    further: dict[str, Any], y_scale: float, dtype: torch.dtype
) -> None:
    X = draw(20, 3, dtype=dtype)
    Y = ((X - 0.5).square().sum(dim=-1, keepdim=True) * y_scale).to(dtype)
    model = RoMAModel(X, Y, hidden_sizes=(8, 8), num_members=2)
    fit_roma_model(model, **FIT)
    best: Any = Y.max()
    for function in (
        LogExpectedImprovement(model, best),
        UpperConfidenceBound(model, beta=2.0),
        qLogExpectedImprovement(model, best),
    ):
        bounds = torch.stack([X.min(dim=0).values, X.max(dim=0).values])
        candidates, values = optimize_acqf_roma(function, bounds, 4, **OPTIMIZE, **further)
        assert values is not None
        assert torch.isfinite(candidates).all()
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variance", [0.0, 1e-30, 1e-8, 1e8, 1e30])
def test_noise_variances_of_any_size(variance: float, dtype: torch.dtype) -> None:
    """And beside one that is no measurement."""
    X, Y = draw(20, 3, dtype=dtype), draw(20, 1, dtype=dtype, seed=1)
    Yvar = torch.full_like(Y, variance)
    check_all(X, Y, train_Yvar=Yvar)
    Yvar[0] = 1e12
    check_all(X, Y, train_Yvar=Yvar)


def test_scales_do_not_change_the_candidates() -> None:
    """Powers of two, which scale without rounding."""
    X = draw(20, 3)
    Y = (X - 0.5).square().sum(dim=-1, keepdim=True)
    _, plain = check_all(X, Y)
    for x_power, y_power in itertools.product([-400, 0, 400], repeat=2):
        _, scaled = check_all(X * 2.0**x_power, Y * 2.0**y_power)
        torch.testing.assert_close(scaled * 2.0**-x_power, plain, rtol=1e-9, atol=0.0)


def test_small_variances_are_not_lifted() -> None:
    """The standard deviation is as small as the outcomes are."""
    X = draw(20, 3)
    Y = (X - 0.5).square().sum(dim=-1, keepdim=True)
    for dtype in DTYPES:
        (large, _), (small, _) = (check_all(X.to(dtype), (Y * s).to(dtype)) for s in (1.0, 2**-30))
        ratio = small.posterior(X.to(dtype)).variance / large.posterior(X.to(dtype)).variance
        torch.testing.assert_close(ratio, torch.full_like(ratio, 2.0**-60))


def test_columns_of_different_scales() -> None:
    X = draw(20, 4) * torch.tensor([1e-8, 1.0, 1e8, 1e-100], dtype=torch.double)
    check_all(X, X[:, :1] * 1e8 + 1e-8 * X[:, 1:2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_from_the_origin(dtype: torch.dtype) -> None:
    """As far as the numbers are told apart; there a grid of integers is too small."""
    eps = torch.finfo(dtype).eps
    X = 1.0 + 64 * eps * torch.arange(20, dtype=dtype).unsqueeze(-1)
    assert len(torch.unique(X)) == 20
    check_all(X, draw(20, 1, dtype=dtype))


def test_keys_far_from_the_origin() -> None:
    X = torch.tensor([[1.0], [1.0 + 1e-15], [-0.0], [0.0]], dtype=torch.double)
    keys = distinct_keys(X, torch.tensor([1e-18]))
    assert len(set(keys)) == 3
    assert keys[2] == keys[3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [-0.9, -0.6, 0.6, 0.99])
@pytest.mark.parametrize("name", ["train_X", "train_Y"])
def test_scales_without_squares(name: str, power: float, dtype: torch.dtype) -> None:
    """Deviations whose squares under- or overflow are refused, not taken for constants."""
    info = torch.finfo(dtype)
    factor = (1 / info.tiny) ** power
    data = {"train_X": draw(20, 2, dtype=dtype), "train_Y": draw(20, 1, dtype=dtype)}
    data[name] = data[name] * factor
    message = rf"`{name}` cannot be z-scored: column 0 has .* in {dtype}; rescale the column"
    with pytest.raises(InputDataError, match=message):
        RoMAModel(**data)


@pytest.mark.parametrize("dtype", DTYPES)
def test_deviations_are_zero_of_constants_only(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny
    X = torch.tensor([[1.0, 0.0, 3.0], [1.0, tiny, 5.0]], dtype=dtype)
    for std in (column_std(X), transformed_moments(X, lambda x: x)[1]):
        assert (std > 0).tolist() == [False, True, True]
        assert std[2] == 1.0


# Tables of odd shapes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "q"), [(2, 1, 2), (2, 3, 1), (3, 2, 3), (20, 1, 4)])
def test_few_rows_and_columns(n: int, d: int, q: int, dtype: torch.dtype) -> None:
    X = draw(n, d, dtype=dtype)
    check_all(X, X.sum(dim=-1, keepdim=True), q)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_columns(dtype: torch.dtype) -> None:
    """As many as the largest task has."""
    X = draw(20, 5126, dtype=dtype)
    check_all(X, X[:, :1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_repeated_designs(dtype: torch.dtype) -> None:
    X = draw(6, 3, dtype=dtype).repeat(5, 1)
    check_all(X, draw(30, 1, dtype=dtype, seed=1))


@pytest.mark.filterwarnings("ignore:`train_X` is constant")
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_design_measured_again_and_again(dtype: torch.dtype) -> None:
    X, Y = draw(1, 3, dtype=dtype).repeat(10, 1), draw(10, 1, dtype=dtype)
    _, candidates = check_all(X, Y, q=1)
    assert torch.equal(candidates, X[:1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", ["outcome", "input", "all but one equal", "last digit"])
def test_outliers(what: str, dtype: torch.dtype) -> None:
    X, Y = draw(20, 3, dtype=dtype), draw(20, 1, dtype=dtype, seed=1)
    if what == "outcome":
        Y[0] = 1e6
    elif what == "input":
        X[0, 0] = 1e12
    else:
        Y = torch.ones_like(Y)
        Y[0] += torch.finfo(dtype).eps if what == "last digit" else 1e-3
    check_all(X, Y)


TABLES: dict[str, tuple[Tensor, Tensor]] = {
    "two rows, one column": (draw(2, 1), draw(2, 1, seed=1)),
    "three rows": (draw(3, 3), draw(3, 1, seed=1)),
    "tiny": (1e-8 * draw(20, 3), 1e-8 * draw(20, 1, seed=1)),
    "huge": (1e8 * draw(20, 3), 1e8 * draw(20, 1, seed=1)),
    "repeated designs": (draw(6, 3).repeat(5, 1), draw(30, 1, seed=1)),
    "one row that differs": (draw(20, 3), torch.eye(20, 1).double()),
    "many columns": (draw(12, 5126), draw(12, 1, seed=1)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", TABLES)
def test_presets(name: str, preset: str, dtype: torch.dtype) -> None:
    """With narrow networks and few steps, both stages of each, in one call."""
    X, Y = (t.to(dtype) for t in TABLES[name])
    if preset == "selected" and name in ("two rows, one column", "one row that differs"):
        with pytest.raises(InputDataError, match=r"`hidden_fraction` = .* without selection"):
            propose(X, Y, q=1, preset=preset, seed=0, fit_options={"epochs": 1})
        return
    proposal = propose(
        X,
        Y,
        q=1 if len(X) < 4 else 4,
        preset=preset,
        seed=0,
        fit_options={"epochs": 1},
        model_options={"hidden_sizes": (8,), "num_members": 2},
        optimize_options={"num_updates": 2, "num_adaptation_steps": 2},
    )
    assert proposal.candidates.dtype == dtype
    for values in (proposal.candidates, proposal.mean, proposal.std, proposal.distance):
        assert torch.isfinite(values).all()
    assert (proposal.std > 0).all()


# Networks in odd states


FORMS = list(
    itertools.product(
        ["dense", "factored"],
        ["dense", "reduced"],
        ["per_candidate", "shared"],
        ["squared_error", "nll"],
    )
)


def fitted(dtype: torch.dtype, activation: str = "softplus", factor: float = 1.0) -> RoMAModel:
    model = RoMAModel(
        draw(20, 3, dtype=dtype),
        draw(20, 1, dtype=dtype, seed=1),
        hidden_sizes=(8, 8),
        activation=activation,
    )
    fit_roma_model(model, **{**FIT, "epochs": 1})
    with torch.no_grad():
        for tensor in model.network.tensors:
            tensor.mul_(factor)
    return model


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("weight_form", "first_layer", "mode", "loss"), FORMS)
def test_constant_predictions(
    weight_form: str, first_layer: str, mode: str, loss: str, dtype: torch.dtype
) -> None:
    """All gradients are zero: nothing moves, nothing is divided by zero."""
    options = {"weight_form": weight_form, "first_layer": first_layer, "mode": mode}
    model = fitted(dtype, factor=0.0)
    check_stage_2(model, pseudo_label_loss=loss, **options)
    check_stage_2(model, pseudo_label_loss=loss, early_stop=True, **options)
    if mode == "per_candidate":
        check_stage_2(model, pseudo_label_loss=loss, reuse_steps=2, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(
    ("weight_form", "first_layer"), [("dense", "dense"), ("factored", "reduced")]
)
def test_saturated_activations(
    weight_form: str, first_layer: str, activation: str, dtype: torch.dtype
) -> None:
    model = fitted(dtype, activation, factor=300.0)
    for further in ({}, {"early_stop": True}, {"reuse_steps": 2}):
        check_stage_2(model, weight_form=weight_form, first_layer=first_layer, **further)


def test_both_precisions_agree() -> None:
    """Without noise, which is drawn anew for each precision."""
    X = draw(40, 3)
    Y = (X - 0.5).square().sum(dim=-1, keepdim=True)
    means, candidates = [], []
    for dtype in DTYPES:
        model = RoMAModel(X.to(dtype), Y.to(dtype), hidden_sizes=(8, 8))
        fit_roma_model(model, noise_std=0.0, **FIT)
        means.append(model.posterior(X.to(dtype).unsqueeze(1)).mean.double())
        candidates.append(check_stage_2(model).double())
    torch.testing.assert_close(*means, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(*candidates, rtol=0.0, atol=1e-3)

from __future__ import annotations

from typing import Any

import pytest
import torch
from botorch.exceptions.errors import ModelFittingError, UnsupportedError
from torch import Tensor

from botorch_roma import AdaptedRoMAModel, RoMAModel
from botorch_roma.adaptation import Adaptation
from botorch_roma.models.joined import join_models


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def make_models(count: int = 3, d: int = 3, m: int = 1, **options: Any) -> list[RoMAModel]:
    """Models of one table that differ in their weights."""
    models = []
    for i in range(count):
        model = RoMAModel(draw(12, d), draw(12, m, seed=1), hidden_sizes=(5, 4), seed=i, **options)
        with torch.no_grad():
            for k, tensor in enumerate(model.network.tensors):
                tensor += 0.5 * draw(*tensor.shape, seed=10 * i + k) - 0.25
        model.fitted.fill_(True)
        models.append(model)
    return models


@pytest.mark.parametrize("num_members", [1, 2])
def test_each_point_is_predicted_by_its_own_model(num_members: int) -> None:
    models = make_models(num_members=num_members)
    Z = draw(6, 3, seed=5)
    got = join_models(models).network(Z)
    for g, model in enumerate(models):
        rows = slice(2 * g, 2 * g + 2)
        for one, expected in zip(got, model.network(Z[rows]), strict=True):
            assert one.shape == (num_members, 6)
            torch.testing.assert_close(one[:, rows], expected)


def test_each_point_has_the_spread_of_its_own_model() -> None:
    models = make_models(num_members=3)
    X = draw(6, 3, seed=5)
    expected = [model.member_spread(X[2 * g : 2 * g + 2]) for g, model in enumerate(models)]
    torch.testing.assert_close(join_models(models).member_spread(X), torch.cat(expected))


@pytest.mark.parametrize("mode", ["per_candidate", "shared"])
@pytest.mark.parametrize("first_layer", ["dense", "reduced"])
@pytest.mark.parametrize("weight_form", ["dense", "factored"])
@pytest.mark.parametrize("num_members", [1, 2])
def test_each_candidate_is_adapted_to_by_its_own_model(
    num_members: int, weight_form: Any, first_layer: Any, mode: Any
) -> None:
    models = make_models(d=7, num_members=num_members)
    X, labels = draw(6, 7, seed=5), draw(num_members, 6, seed=6)
    options: dict[str, Any] = {
        "radius": 0.1,
        "num_steps": 4,
        "mode": mode,
        "first_layer": first_layer,
        "weight_form": weight_form,
    }
    Z = models[0].standardize_inputs(X)
    together = Adaptation(join_models(models), **options)(Z, labels)
    moments = together.candidate_moments(Z.unsqueeze(1))
    norms = together.input_gradient_norm(Z)
    posterior = together.posterior(X.unsqueeze(1)).mean
    for g, model in enumerate(models):
        rows = slice(2 * g, 2 * g + 2)
        alone = Adaptation(model, **options)(Z[rows], labels[:, rows])
        for one, expected in zip(moments, alone.candidate_moments(Z[rows, None]), strict=True):
            torch.testing.assert_close(one[:, rows], expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(norms[:, rows], alone.input_gradient_norm(Z[rows]))
        torch.testing.assert_close(posterior[rows], alone.posterior(X[rows, None]).mean)


@pytest.mark.parametrize("first_layer", ["dense", "reduced"])
def test_each_candidate_reuses_its_own_steps(first_layer: Any) -> None:
    models = make_models(d=7, num_members=2)
    options: dict[str, Any] = {
        "radius": 0.1,
        "num_steps": 4,
        "reuse_steps": 2,
        "first_layer": first_layer,
    }
    together = Adaptation(join_models(models), **options)
    alone = [Adaptation(model, **options) for model in models]
    for i in range(3):
        Z, labels = draw(6, 7, seed=i) - 0.5, draw(2, 6, seed=10 + i)
        mean, _ = together(Z, labels).candidate_moments(Z.unsqueeze(1))
        for g, adaptation in enumerate(alone):
            rows = slice(2 * g, 2 * g + 2)
            expected, _ = adaptation(Z[rows], labels[:, rows]).candidate_moments(Z[rows, None])
            torch.testing.assert_close(mean[:, rows], expected, rtol=1e-9, atol=1e-10)


def test_models_are_left_as_they_were_and_one_is_fine() -> None:
    (model,) = make_models(1)
    before = dict(model.named_modules())
    joined = join_models([model])
    assert dict(model.named_modules()) == before
    assert [m for m in joined.modules() if isinstance(m, RoMAModel)] == [joined]
    assert not any(isinstance(m, AdaptedRoMAModel) for m in joined.modules())
    assert all(not t.requires_grad for t in joined.network.parameters())
    torch.testing.assert_close(joined.posterior(draw(5, 3)).mean, model.posterior(draw(5, 3)).mean)
    assert joined.train_X is model.train_X


def test_not_fitted() -> None:
    models = make_models()
    models[1].fitted.fill_(False)
    with pytest.raises(ModelFittingError, match="Model 1 of `models` has not been fitted"):
        join_models(models)


def other_data() -> RoMAModel:
    model = RoMAModel(draw(12, 3, seed=3), draw(12, 1, seed=1), hidden_sizes=(5, 4))
    model.fitted.fill_(True)
    return model


@pytest.mark.parametrize(
    "other",
    [
        lambda: other_data(),
        lambda: make_models(1, d=4)[0],
        lambda: make_models(1, num_members=2)[0],
        lambda: make_models(1, activation="tanh")[0],
    ],
)
def test_models_that_differ_in_more_than_weights(other: Any) -> None:
    with pytest.raises(UnsupportedError, match="Models 0 and 3 of `models` differ in architecture"):
        join_models([*make_models(), other()])


def test_several_outputs() -> None:
    with pytest.raises(UnsupportedError, match="`models` have 2 outputs each"):
        join_models(make_models(m=2))

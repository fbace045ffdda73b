from __future__ import annotations

import torch
from botorch.acquisition import PosteriorMean, UpperConfidenceBound
from botorch.models import ModelList
from torch import Tensor, nn

from botorch_roma import RoMAModel
from botorch_roma._compat import replace_modules


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def make_model(seed: int = 0) -> RoMAModel:
    return RoMAModel(draw(10, 2), draw(10, 1, seed=1), hidden_sizes=(4,), seed=seed)


class Scaled(nn.Module):
    """A module with a buffer and two children, one of which may be missing."""

    def __init__(self, child: nn.Module, other: nn.Module | None = None) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1, dtype=torch.float64))
        self.child, self.label = child, "mine"
        self.register_module("other", other)


def test_acquisition_function_over_another_model() -> None:
    first, second, X = make_model(), make_model(seed=1), draw(5, 1, 2)
    acquisition = UpperConfidenceBound(first, beta=0.3)
    value = acquisition(X).detach()
    replaced = replace_modules(acquisition, {first: second})
    assert type(replaced) is UpperConfidenceBound
    assert replaced.model is second
    expected = UpperConfidenceBound(second, beta=0.3)(X)
    assert torch.equal(replaced(X), expected)
    assert not torch.allclose(expected, value)
    assert acquisition.model is first
    assert torch.equal(acquisition(X), value)


def test_deep_in_the_tree() -> None:
    first, second, kept = make_model(), make_model(seed=1), make_model(seed=2)
    models = ModelList(first, kept)
    replaced = replace_modules(Scaled(models), {first: second})
    assert list(replaced.child.models) == [second, kept]
    assert list(models.models) == [first, kept]
    assert replaced.label == "mine"


def test_nothing_to_replace_is_the_same_tree() -> None:
    model = make_model()
    acquisition = PosteriorMean(model)
    assert replace_modules(acquisition, {}) is acquisition
    assert replace_modules(acquisition, {make_model(): model}) is acquisition


def test_root_is_replaced() -> None:
    first, second = make_model(), make_model(seed=1)
    assert replace_modules(first, {first: second}) is second


def test_shared_module_is_replaced_everywhere_and_missing_ones_stay_missing() -> None:
    old, new = nn.Linear(1, 1), nn.Linear(1, 1)
    replaced = replace_modules(Scaled(old, Scaled(old)), {old: new})
    assert replaced.child is new
    assert replaced.other.child is new
    assert replaced.other.other is None


def test_tensors_are_shared_but_a_cast_of_the_copy_is_none_of_the_original() -> None:
    old = Scaled(nn.Linear(1, 1))
    new = replace_modules(old, {old.child: nn.Linear(1, 1)})
    assert new.scale is old.scale
    new.to(torch.float32)
    assert new.scale.dtype == torch.float32
    assert old.scale.dtype == torch.float64
    new.register_buffer("more", torch.zeros(1))
    assert not hasattr(old, "more")

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from botorch_roma.calibration import standardize_head, variance_scale
from botorch_roma.network import Layer, soft_bound_log_std


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("noise", [False, True])
def test_residuals_have_the_predicted_variance(members: int, noise: bool) -> None:
    mean, raw = 0.1 * draw(members, 2, 50), draw(members, 2, 50, seed=1) - 2.0
    T = 2.0 * draw(50, 2, seed=2)
    V = 0.5 * draw(50, 2, seed=3).square() if noise else None
    scale = variance_scale(mean, raw, T, V)
    variance = scale.unsqueeze(-1) * torch.exp(2.0 * soft_bound_log_std(raw)).mean(dim=0)
    variance = variance + mean.var(dim=0, correction=0) + (0.0 if V is None else V.mT)
    ratio = ((T.mT - mean.mean(dim=0)).square() / variance).mean(dim=-1)
    torch.testing.assert_close(ratio, torch.ones_like(ratio))


def test_a_variance_that_is_too_wide_by_itself_leaves_a_tiny_factor() -> None:
    T = 0.1 * draw(20, 1)
    scale = variance_scale(torch.zeros(1, 1, 20).double(), draw(1, 1, 20), T, torch.ones_like(T))
    assert 0.0 < scale.item() <= 1e-5


def test_predictions_get_mean_0_and_deviation_1() -> None:
    h, head = draw(2, 30, 4), Layer(draw(2, 1, 4, seed=1), draw(2, 1, seed=2))

    def predict() -> Tensor:
        return (torch.bmm(h, head.weight.mT) + head.bias.unsqueeze(1)).squeeze(-1)

    order = predict().argsort(dim=1)
    standardize_head(head, predict())
    mean = predict()
    torch.testing.assert_close(mean.mean(dim=1), torch.zeros(2).double())
    torch.testing.assert_close(mean.std(dim=1, correction=0), torch.ones(2).double())
    assert torch.equal(mean.argsort(dim=1), order)


def test_a_constant_prediction_is_moved_and_not_divided() -> None:
    head = Layer(torch.zeros(1, 1, 4), torch.full((1, 1), 3.0))
    standardize_head(head, torch.full((1, 5), 3.0))
    assert head.bias.item() == 0.0
    assert torch.equal(head.weight, torch.zeros(1, 1, 4))

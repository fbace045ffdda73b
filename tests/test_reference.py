from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from botorch_roma.closed_form import Loss, head_gradient
from botorch_roma.network import (
    ACTIVATIONS,
    ProxyNetwork,
    StackedWeights,
    soft_bound_log_std,
    stacked_forward,
)
from botorch_roma.perturbation import relative_distances
from botorch_roma.reference import reference_adapt, reference_forward, reference_objective

TANH = ACTIVATIONS["tanh"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def make_weights() -> StackedWeights:
    """One network without a stack dimension; no tensor is zero."""
    tensors = ProxyNetwork(3, (5, 4)).double().weights.map(lambda t: t.detach()[0]).tensors()
    return StackedWeights.from_tensors(
        [t + 0.3 * draw(*t.shape, seed=i) for i, t in enumerate(tensors)]
    )


def stacked(weights: StackedWeights) -> StackedWeights:
    return weights.map(lambda t: t.unsqueeze(0))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_forward_agrees_with_the_stack(activation: str) -> None:
    weights, Z = make_weights(), draw(6, 3)
    mean, log_std = stacked_forward(stacked(weights), Z, ACTIVATIONS[activation])
    for i, z in enumerate(Z):
        value, raw = reference_forward(weights, z, ACTIVATIONS[activation])
        torch.testing.assert_close(value, mean[0, i])
        torch.testing.assert_close(soft_bound_log_std(raw), log_std[0, i])


@pytest.mark.parametrize("loss", ["squared_error", "nll"])
def test_objective_by_finite_differences(loss: Loss) -> None:
    weights, z, label = make_weights(), draw(3), draw(1)[0]
    steps = 1e-6 * torch.eye(3, dtype=torch.float64)
    slopes = [
        (reference_forward(weights, z + h, TANH)[0] - reference_forward(weights, z - h, TANH)[0])
        / 2e-6
        for h in steps
    ]
    value, _, _ = head_gradient(*reference_forward(weights, z, TANH), label, loss)
    expected = torch.stack(slopes).norm() + 0.7 * value
    got = reference_objective(weights, z, label, alpha=0.7, loss=loss, activation=TANH)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=0.0)


class TestAdapt:
    def adapt(self, weights: StackedWeights, Z: Tensor, Y: Tensor, **options: Any) -> Any:
        defaults: dict[str, Any] = {
            "radius": 0.1,
            "num_steps": 4,
            "alpha": 0.7,
            "loss": "squared_error",
            "activation": TANH,
        }
        return reference_adapt(weights, Z, Y, **{**defaults, **options})

    def test_one_step_by_finite_differences(self) -> None:
        weights, Z, Y = make_weights(), draw(2, 3), draw(2)

        def objective(bias: Tensor) -> Tensor:
            first = weights.hidden[0]._replace(bias=bias)
            moved = weights._replace(hidden=(first, *weights.hidden[1:]))
            options: dict[str, Any] = {"alpha": 0.7, "loss": "squared_error", "activation": TANH}
            values = [
                reference_objective(moved, z, y, **options) for z, y in zip(Z, Y, strict=True)
            ]
            return torch.stack(values).mean()

        bias = weights.hidden[0].bias
        steps = 1e-6 * torch.eye(5, dtype=torch.float64)
        gradient = torch.stack([objective(bias + h) - objective(bias - h) for h in steps])
        expected = bias - 0.1 * bias.norm() * gradient / gradient.norm()
        adapted = self.adapt(weights, Z, Y, num_steps=1)
        torch.testing.assert_close(adapted.hidden[0].bias, expected, rtol=1e-7, atol=1e-9)

    def test_log_std_head_moves_only_where_the_loss_sees_it(self) -> None:
        weights, Z, Y = make_weights(), draw(2, 3), draw(2)
        adapted = self.adapt(weights, Z, Y)
        assert torch.equal(adapted.log_std.weight, weights.log_std.weight)
        assert not torch.equal(adapted.mean.weight, weights.mean.weight)
        adapted = self.adapt(weights, Z, Y, loss="nll")
        assert not torch.equal(adapted.log_std.weight, weights.log_std.weight)

    def test_ball_and_zero_tensors(self) -> None:
        weights = make_weights()
        zero = weights.hidden[0]._replace(bias=torch.zeros(5, dtype=torch.float64))
        weights = weights._replace(hidden=(zero, *weights.hidden[1:]))
        adapted = self.adapt(weights, draw(2, 3), draw(2))
        assert not adapted.hidden[0].bias.any()
        distances = relative_distances(stacked(adapted), stacked(weights))
        assert distances.max() <= 0.1 * (1 + 1e-12)

    def test_start_is_left_unchanged(self) -> None:
        weights = make_weights()
        before = weights.map(torch.clone)
        adapted = self.adapt(weights, draw(2, 3), draw(2))
        for tensor, copy, new in zip(
            weights.tensors(), before.tensors(), adapted.tensors(), strict=True
        ):
            assert torch.equal(tensor, copy)
            assert not new.requires_grad

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from botorch_roma.network import (
    ACTIVATIONS,
    MAX_LOG_STD,
    MIN_LOG_STD,
    ProxyNetwork,
    StackedWeights,
    affine,
    soft_bound_log_std,
    soft_bound_log_std_and_slope,
    stacked_forward,
    stacked_input_gradient,
)

DEPTHS = {1: (5,), 2: (5, 4), 3: (5, 4, 3), 4: (5, 4, 3, 2)}
PLAIN = {
    "leaky_relu": functools.partial(F.leaky_relu, negative_slope=0.3),
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Values in (-1, 1) that do not depend on the dtype."""
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1.0).to(dtype)


def make_network(dtype: torch.dtype = torch.float64, **options: Any) -> ProxyNetwork:
    """Three networks on three inputs, none of whose tensors is zero."""
    network = ProxyNetwork(**{"input_dim": 3, "hidden_sizes": (5, 4), "num_networks": 3, **options})
    network.to(dtype)
    with torch.no_grad():
        for i, tensor in enumerate(network.tensors):
            tensor += 0.5 * uniform(*tensor.shape, seed=i, dtype=dtype)
    return network


def plain_forward(weights: StackedWeights, Z: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """One network (no stack dimension) at ``N x d``, as anyone would write it."""
    h = Z
    for weight, bias in weights.hidden:
        h = PLAIN[activation](F.linear(h, weight, bias))
    raw = F.linear(h, *weights.log_std).squeeze(-1)
    return F.linear(h, *weights.mean).squeeze(-1), soft_bound_log_std(raw)


class TestActivations:
    @pytest.mark.parametrize("name", sorted(ACTIVATIONS))
    def test_derivatives_are_those_of_autograd(self, name: str) -> None:
        activation = ACTIVATIONS[name]
        # torch's softplus is cut off at 20: from there on autograd is 2e-9 off, and ours is not
        z = torch.linspace(-30.0, 19.9, 500, dtype=torch.float64).requires_grad_()
        value = activation.value(z)
        torch.testing.assert_close(value, PLAIN[name](z))
        (slope,) = torch.autograd.grad(value.sum(), z, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), z)
        got_value, got_slope = activation.value_and_slope(z.detach())
        got_curvature = activation.curvature(z.detach(), got_value, got_slope)
        tolerance = {"rtol": 1e-9, "atol": 1e-12}
        torch.testing.assert_close(got_value, value.detach(), **tolerance)
        torch.testing.assert_close(got_slope, slope.detach(), **tolerance)
        torch.testing.assert_close(got_curvature, curvature, **tolerance)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", sorted(ACTIVATIONS))
    def test_finite_where_saturated(self, name: str, dtype: torch.dtype) -> None:
        z = torch.tensor([-1e30, -1e4, -100.0, 100.0, 1e4, 1e30], dtype=dtype)
        value, slope = ACTIVATIONS[name].value_and_slope(z)
        curvature = ACTIVATIONS[name].curvature(z, value, slope)
        for result in (value, slope, curvature):
            assert torch.isfinite(result).all()
        assert (curvature.abs() < 1e-30).all()


class TestSoftBound:
    def test_range_and_order(self) -> None:
        raw = torch.linspace(-20.0, 20.0, 401, dtype=torch.float64)
        bounded = soft_bound_log_std(raw)
        assert (bounded.diff() > 0).all()
        assert bounded[0].item() == pytest.approx(MIN_LOG_STD, abs=1e-6)
        # softly: the upper bound is passed by the width of the lower one
        top = MIN_LOG_STD + math.log1p(math.exp(MAX_LOG_STD - MIN_LOG_STD))
        assert bounded[-1].item() == pytest.approx(top, abs=1e-6)
        assert pytest.approx((math.log(0.1), math.log(0.3))) == (MIN_LOG_STD, MAX_LOG_STD)

    def test_derivative(self) -> None:
        raw = torch.linspace(-20.0, 20.0, 401, dtype=torch.float64).requires_grad_()
        (expected,) = torch.autograd.grad(soft_bound_log_std(raw).sum(), raw)
        value, slope = soft_bound_log_std_and_slope(raw.detach())
        torch.testing.assert_close(value, soft_bound_log_std(raw.detach()))
        torch.testing.assert_close(slope, expected)


class TestStackedWeights:
    def test_order_and_inverse(self) -> None:
        weights = make_network().weights
        assert [tuple(t.shape[1:]) for t in weights.tensors()] == [
            *[(5, 3), (5,), (4, 5), (4,)],
            *[(1, 4), (1,), (1, 4), (1,)],
        ]
        assert weights.layers == (*weights.hidden, weights.mean, weights.log_std)
        again = StackedWeights.from_tensors(list(weights.tensors()))
        assert all(a is b for a, b in zip(again.tensors(), weights.tensors(), strict=True))

    def test_map(self) -> None:
        weights = make_network().weights
        doubled = weights.map(lambda t: 2.0 * t)
        for a, b in zip(doubled.tensors(), weights.tensors(), strict=True):
            assert torch.equal(a, 2.0 * b)

    def test_odd_number_of_tensors(self) -> None:
        with pytest.raises(ValueError, match="zip"):
            StackedWeights.from_tensors(list(make_network().weights.tensors())[:-1])


class TestEvaluation:
    @pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
    @pytest.mark.parametrize("depth", DEPTHS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_stack_agrees_with_single_networks(
        self, dtype: torch.dtype, depth: int, activation: str
    ) -> None:
        network = make_network(dtype, hidden_sizes=DEPTHS[depth], activation=activation)
        Z = uniform(3, 6, 3, dtype=dtype, seed=9)
        mean, log_std = network(Z)
        assert mean.shape == log_std.shape == (3, 6)
        assert mean.dtype == log_std.dtype == dtype
        for s in range(3):
            weights = network.weights.map(lambda t, s=s: t[s])
            expected = plain_forward(weights, Z[s], activation)
            torch.testing.assert_close((mean[s], log_std[s]), expected)

    def test_same_points_for_all_networks(self) -> None:
        network, Z = make_network(), uniform(6, 3, seed=9)
        expected = network(Z.expand(3, 6, 3))
        for got, value in zip(network(Z), expected, strict=True):
            torch.testing.assert_close(got, value)
            assert not torch.allclose(got[0], got[1])

    @pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
    @pytest.mark.parametrize("depth", DEPTHS)
    @pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
    def test_input_gradient_is_that_of_autograd(
        self, dtype: torch.dtype, rtol: float, depth: int, activation: str
    ) -> None:
        network = make_network(dtype, hidden_sizes=DEPTHS[depth], activation=activation)
        Z = uniform(3, 6, 3, dtype=dtype, seed=9).requires_grad_()
        expected, _ = network(Z)
        (expected_gradient,) = torch.autograd.grad(expected.sum(), Z)
        mean, gradient = stacked_input_gradient(network.weights, Z.detach(), network.activation)
        torch.testing.assert_close(mean, expected)
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, expected_gradient, rtol=rtol, atol=rtol)

    def test_gradients_reach_every_parameter(self) -> None:
        network = make_network()
        mean, log_std = network(uniform(6, 3))
        (mean.sum() + log_std.sum()).backward()
        for parameter in network.parameters():
            assert parameter.grad is not None
            assert (parameter.grad.flatten(1).norm(dim=1) > 0).all()

    def test_affine(self) -> None:
        layer, h = make_network().weights.hidden[0], uniform(3, 2, 3)
        expected = torch.stack([F.linear(h[s], layer.weight[s], layer.bias[s]) for s in range(3)])
        torch.testing.assert_close(affine(layer, h), expected)


class TestInitialWeights:
    def test_shared_seed_means_equal_networks(self) -> None:
        mean, _ = ProxyNetwork(3, (4,), num_networks=3, seeds=[7, 8, 7])(torch.ones(1, 3))
        assert torch.equal(mean[0], mean[2])
        assert not torch.equal(mean[0], mean[1])

    def test_a_network_does_not_depend_on_its_stack(self) -> None:
        stack = ProxyNetwork(3, (5, 4), num_networks=3)
        alone = ProxyNetwork(3, (5, 4), seeds=[2])
        for several, one in zip(stack.tensors, alone.tensors, strict=True):
            assert torch.equal(several[2:], one)

    def test_global_generator_is_left_alone(self) -> None:
        before = torch.get_rng_state()
        first = ProxyNetwork(3, (4,))
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(99)
        assert torch.equal(first.tensors[0], ProxyNetwork(3, (4,)).tensors[0])

    def test_glorot_with_zero_biases_and_one_noise_level(self) -> None:
        network = ProxyNetwork(50, (40,), num_networks=2)
        weights = network.weights
        limit = math.sqrt(6.0 / 90.0)
        assert 0.95 * limit < weights.hidden[0].weight.abs().max() <= limit
        assert weights.hidden[0].weight.mean().abs() < 0.05 * limit
        for tensor in (weights.hidden[0].bias, weights.mean.bias, *weights.log_std):
            assert not tensor.any()
        _, log_std = network(torch.randn(5, 50, generator=torch.Generator().manual_seed(0)))
        assert log_std.unique().numel() == 1

    def test_reset(self) -> None:
        network, start = make_network(), ProxyNetwork(3, (5, 4), num_networks=3, seeds=[4, 5, 6])
        network.reset_parameters([4, 5, 6])
        for a, b in zip(network.tensors, start.tensors, strict=True):
            torch.testing.assert_close(a, b, check_dtype=False)

    def test_draw_does_not_depend_on_the_device(self, device: torch.device) -> None:
        here, there = ProxyNetwork(3, (4,)), ProxyNetwork(3, (4,)).to(device)
        there.reset_parameters()
        for a, b in zip(here.tensors, there.tensors, strict=True):
            assert torch.equal(a, b.cpu())


def test_parameters_are_not_copied() -> None:
    network = make_network()
    for tensor, parameter in zip(network.weights.tensors(), network.parameters(), strict=True):
        assert tensor is parameter
    mean, _ = stacked_forward(network.weights, uniform(2, 3), network.activation)
    assert mean.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, r"`activation` must be one of \['leaky_relu', .*received 'relu'"),
        ({"hidden_sizes": ()}, r"`hidden_sizes` must hold at least one .*received \(\)"),
        ({"hidden_sizes": (4, 0)}, r"`hidden_sizes` .*positive integer, received \(4, 0\)"),
        ({"hidden_sizes": (2.5,)}, r"`hidden_sizes` .*received \(2.5,\)"),
        ({"num_networks": 2, "seeds": [1]}, r"`seeds` .*each of the 2 networks, received \[1\]"),
        ({"seeds": [1, 2]}, r"`seeds` .*each of the 1 networks, received \[1, 2\]"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProxyNetwork(3, **options)

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from botorch_roma.closed_form import (
    LayerFactors,
    Loss,
    TrainingLoss,
    adaptation_gradient,
    head_gradient,
    settle_label,
    training_gradient,
    training_loss,
)
from botorch_roma.network import (
    ACTIVATIONS,
    Layer,
    ProxyNetwork,
    StackedWeights,
    soft_bound_log_std,
)
from botorch_roma.reference import reference_forward, reference_objective

DEPTHS = {1: (5,), 2: (5, 4), 3: (5, 4, 3), 4: (5, 4, 3, 4)}
LOSSES: list[Loss] = ["squared_error", "nll"]
every_network = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
every_depth = pytest.mark.parametrize("depth", DEPTHS)
every_loss = pytest.mark.parametrize("loss", LOSSES)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def make_weights(sizes: tuple[int, ...], stack: int = 2, dim: int = 3) -> StackedWeights:
    """Trained-looking weights: biases and the log-std head are not zero."""
    network = ProxyNetwork(dim, sizes, num_networks=stack).double()
    tensors = [t.detach() for t in network.tensors]
    return StackedWeights.from_tensors(
        [t + 0.3 * draw(*t.shape, seed=i) for i, t in enumerate(tensors)]
    )


def fresh_weights(sizes: tuple[int, ...] = (5, 4), stack: int = 2) -> StackedWeights:
    network = ProxyNetwork(3, sizes, num_networks=stack).double()
    return network.weights.map(Tensor.detach)


def network_of(weights: StackedWeights, s: int) -> StackedWeights:
    return weights.map(lambda t: t[s])


def assemble(factors: list[LayerFactors | None], weights: StackedWeights) -> StackedWeights:
    """Dense gradients from the factored ones; zero where the loss does not see the layer."""
    layers = [
        Layer(torch.zeros_like(layer.weight), torch.zeros_like(layer.bias))
        if f is None
        else Layer(f.left.mT @ f.right, f.bias)
        for f, layer in zip(factors, weights.layers, strict=True)
    ]
    return StackedWeights(tuple(layers[:-2]), layers[-2], layers[-1])


def relative_error(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).norm() / expected.norm().clamp_min(1e-12)).item()


def by_autograd(
    weights: StackedWeights, Z: Tensor, Y: Tensor, **options: Any
) -> tuple[Tensor, list[Tensor]]:
    """Mean objective over the points of one network, and its gradient by double backward."""
    tensors = [t.clone().requires_grad_() for t in weights.tensors()]
    current = StackedWeights.from_tensors(tensors)
    points = zip(Z, Y, strict=True)
    value = torch.stack([reference_objective(current, z, y, **options) for z, y in points]).mean()
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    filled = [
        torch.zeros_like(t) if g is None else g for g, t in zip(gradients, tensors, strict=True)
    ]
    return value.detach(), filled


@every_loss
@pytest.mark.parametrize("noisy", [False, True])
def test_head_gradient(loss: Loss, noisy: bool) -> None:
    mean, raw, Y = draw(40), 3.0 * draw(40, seed=1), draw(40, seed=2)
    mean.requires_grad_()
    raw.requires_grad_()
    noise_variance = draw(40, seed=3).square() if noisy else None
    v = torch.zeros(40).double() if noise_variance is None else noise_variance
    value, d_mean, d_raw = head_gradient(mean, raw, Y, loss, noise_variance)
    if loss == "nll":
        std = (soft_bound_log_std(raw).exp().square() + v).sqrt()
        log_prob = torch.distributions.Normal(mean, std).log_prob(Y)
        constant = 0.5 * torch.log(torch.tensor(2.0 * torch.pi))
        torch.testing.assert_close(value, -log_prob - constant)
    else:
        torch.testing.assert_close(value, (mean - Y) ** 2 / (1.0 + v))
        assert d_raw is None
    expected = torch.autograd.grad(value.sum(), [mean, raw], allow_unused=True)
    torch.testing.assert_close(d_mean, expected[0])
    if loss == "nll":
        torch.testing.assert_close(d_raw, expected[1])


@every_loss
def test_no_noise_is_as_unknown_noise(loss: Loss) -> None:
    mean, raw, Y = draw(40), 3.0 * draw(40, seed=1), draw(40, seed=2)
    expected = head_gradient(mean, raw, Y, loss)
    got = head_gradient(mean, raw, Y, loss, torch.zeros_like(Y))
    for one, other in zip(got, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_listnet_is_the_cross_entropy_of_the_softmaxes() -> None:
    mean, raw, Y = draw(3, 7), draw(3, 7, seed=1), 2.0 * draw(3, 7, seed=2)
    mean.requires_grad_()
    value, d_mean, d_raw = training_loss(mean, raw, Y, "listnet")
    lists = torch.nn.functional.cross_entropy(mean, Y.softmax(dim=1), reduction="none")
    torch.testing.assert_close(value.mean(dim=1), lists)
    (expected,) = torch.autograd.grad(value.sum(), mean)
    torch.testing.assert_close(d_mean, expected)
    assert d_raw is None
    shifted, _, _ = training_loss(mean + 5.0, raw, Y + 3.0, "listnet")
    torch.testing.assert_close(shifted, value)


class TestTrainingGradient:
    @every_network
    @every_depth
    @pytest.mark.parametrize("loss", [*LOSSES, "listnet"])
    @pytest.mark.parametrize(("num_points", "noisy"), [(1, False), (6, False), (6, True)])
    def test_is_that_of_autograd(
        self, num_points: int, noisy: bool, loss: TrainingLoss, depth: int, activation: str
    ) -> None:
        phi = ACTIVATIONS[activation]
        weights, Z, Y = make_weights(DEPTHS[depth]), draw(2, num_points, 3), draw(2, num_points)
        V = draw(2, num_points, seed=4).square() if noisy else None
        out = weights.map(lambda t: torch.full_like(t, torch.nan))  # all of it is overwritten
        value, e = training_gradient(
            weights, Z, Y, loss=loss, activation=phi, out=out, noise_variance=V
        )
        torch.testing.assert_close(torch.bmm(e.mT, Z), out.hidden[0].weight)
        tensors = [t.clone().requires_grad_() for t in weights.tensors()]
        current = StackedWeights.from_tensors(tensors)
        expected = []
        for s in range(2):
            outputs = [reference_forward(network_of(current, s), z, phi) for z in Z[s]]
            mean, raw = (torch.stack(t) for t in zip(*outputs, strict=True))
            noise = None if V is None else V[s]
            expected.append(training_loss(mean, raw, Y[s], loss, noise)[0].mean())
        torch.testing.assert_close(value.mean(dim=1), torch.stack(expected).detach())
        gradients = torch.autograd.grad(sum(expected), tensors, allow_unused=True)
        for got, gradient in zip(out.tensors(), gradients, strict=True):
            if gradient is None:
                assert loss != "nll"
                assert not got.any()
            elif loss == "listnet":  # which has no gradient in the bias of the mean
                torch.testing.assert_close(got, gradient, rtol=1e-10, atol=1e-14)
            else:
                assert relative_error(got, gradient) < 1e-10


class TestAdaptationGradient:
    @every_network
    @every_depth
    @every_loss
    @pytest.mark.parametrize("num_points", [1, 4])
    def test_is_that_of_double_backward(
        self, num_points: int, loss: Loss, depth: int, activation: str
    ) -> None:
        options: dict[str, Any] = {
            "alpha": 0.7,
            "loss": loss,
            "activation": ACTIVATIONS[activation],
        }
        weights, Z, Y = make_weights(DEPTHS[depth]), draw(2, num_points, 3), draw(2, num_points)
        objective, factors = adaptation_gradient(weights, Z, Y, **options)
        gradient = assemble(factors, weights)
        for s in range(2):
            value, expected = by_autograd(network_of(weights, s), Z[s], Y[s], **options)
            torch.testing.assert_close(objective[s], value, rtol=1e-10, atol=0.0)
            for got, tensor in zip(gradient.tensors(), expected, strict=True):
                assert relative_error(got[s], tensor) < 1e-9

    @every_loss
    def test_float32(self, loss: Loss) -> None:
        weights, Z, Y = make_weights((5, 4)), draw(2, 4, 3), draw(2, 4)
        options: dict[str, Any] = {
            "alpha": 0.7,
            "loss": loss,
            "activation": ACTIVATIONS["softplus"],
        }
        _, factors = adaptation_gradient(weights, Z, Y, **options)
        single = weights.map(Tensor.float)
        _, factors_single = adaptation_gradient(single, Z.float(), Y.float(), **options)
        rough, exact = assemble(factors_single, single), assemble(factors, weights)
        for got, expected in zip(rough.tensors(), exact.tensors(), strict=True):
            assert got.dtype == torch.float32
            assert relative_error(got, expected) < 1e-5

    def test_gradients_of_one_point_have_rank_two(self) -> None:
        options: dict[str, Any] = {
            "alpha": 1.0,
            "loss": "nll",
            "activation": ACTIVATIONS["tanh"],
        }
        _, factors = adaptation_gradient(make_weights((5, 4)), draw(2, 1, 3), draw(2, 1), **options)
        assert [f.left.shape[1] for f in factors if f is not None] == [2, 2, 2, 1]
        _, factors = adaptation_gradient(
            make_weights((5, 4)), draw(2, 1, 3), draw(2, 1), **{**options, "loss": "squared_error"}
        )
        assert factors[-1] is None


class TestSettleLabel:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_only_rounding_is_settled(self, dtype: torch.dtype) -> None:
        eps = torch.finfo(dtype).eps
        mean = torch.tensor([0.3, -2.0, 1e3, 0.0], dtype=dtype)
        for factor in (0.0, 1.0, -4.0):
            label = mean + factor * eps * mean.abs()
            assert torch.equal(settle_label(mean, label), mean)
        for difference in (1e4 * eps, -1e4 * eps):
            label = mean + difference * (1.0 + mean.abs())
            assert torch.equal(settle_label(mean, label), label)


class TestNothingToDivideBy:
    """Zero gradients and zero norms: neither NaN nor a step out of the ball."""

    def test_perfect_pseudo_label_of_a_flat_network(self) -> None:
        flat = make_weights((5, 4))
        flat = flat._replace(mean=Layer(torch.zeros_like(flat.mean.weight), flat.mean.bias))
        label = flat.mean.bias
        objective, factors = adaptation_gradient(
            flat,
            draw(2, 1, 3),
            label,
            alpha=1.0,
            loss="squared_error",
            activation=ACTIVATIONS["tanh"],
        )
        assert not objective.any()
        assert not any(t.any() for t in assemble(factors, flat).tensors())

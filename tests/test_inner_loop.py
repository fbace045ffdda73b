from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from botorch_roma import inner_loop
from botorch_roma.closed_form import Loss, adaptation_gradient
from botorch_roma.inner_loop import (
    MIN_ROWS,
    OutOfTime,
    WeightForm,
    adapt_weights,
    cheapest_form,
)
from botorch_roma.network import (
    ACTIVATIONS,
    FactoredLayer,
    Layer,
    ProxyNetwork,
    StackedWeights,
    stacked_forward,
    stacked_input_gradient,
)
from botorch_roma.perturbation import relative_distances
from botorch_roma.reference import reference_adapt, reference_objective

DEPTHS = {1: (5,), 2: (5, 4), 3: (5, 4, 3), 4: (5, 4, 3, 4)}
LOSSES: list[Loss] = ["squared_error", "nll"]
FORMS: list[WeightForm] = ["dense", "factored", "auto"]
every_network = pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
every_depth = pytest.mark.parametrize("depth", DEPTHS)
every_loss = pytest.mark.parametrize("loss", LOSSES)
every_form = pytest.mark.parametrize("form", FORMS)


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


def relative_error(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).norm() / expected.norm().clamp_min(1e-12)).item()


class TestAdaptWeights:
    @every_network
    @every_depth
    @every_loss
    @pytest.mark.parametrize(
        ("num_points", "form"), [(1, "dense"), (1, "factored"), (3, "auto"), (3, "factored")]
    )
    def test_is_the_reference(
        self, num_points: int, form: WeightForm, loss: Loss, depth: int, activation: str
    ) -> None:
        options: dict[str, Any] = {
            "radius": 0.1,
            "num_steps": 5,
            "alpha": 0.7,
            "loss": loss,
            "activation": ACTIVATIONS[activation],
        }
        weights, Z, Y = make_weights(DEPTHS[depth]), draw(2, num_points, 3), draw(2, num_points)
        adapted = adapt_weights(weights, Z, Y, weight_form=form, **options)[0].dense()
        for s in range(2):
            expected = reference_adapt(network_of(weights, s), Z[s], Y[s], **options)
            rows = zip(adapted.tensors(), expected.tensors(), weights.tensors(), strict=True)
            for got, tensor, start in rows:
                assert relative_error(got[s] - start[s], tensor - start[s]) < 1e-8

    def test_start_is_left_unchanged(self) -> None:
        weights = make_weights((5, 4))
        before = weights.map(torch.clone)
        for form in FORMS:
            adapted = adapt(weights, draw(2, 1, 3), draw(2, 1), weight_form=form).dense()
            rows = zip(weights.tensors(), before.tensors(), adapted.tensors(), strict=True)
            for tensor, copy, new in rows:
                assert torch.equal(tensor, copy)
                assert tensor.data_ptr() != new.data_ptr()

    @every_form
    @every_loss
    def test_objective_is_lowered(self, loss: Loss, form: WeightForm) -> None:
        weights, Z, Y = make_weights((5, 4), stack=20), draw(20, 1, 3), draw(20, 1)
        options: dict[str, Any] = {
            "alpha": 0.7,
            "loss": loss,
            "activation": ACTIVATIONS["softplus"],
        }
        steps: dict[str, Any] = {"radius": 1e-3, "num_steps": 3, "weight_form": form}
        adapted, _ = adapt_weights(weights, Z, Y, **steps, **options)
        before, _ = adaptation_gradient(weights, Z, Y, **options)
        after, _ = adaptation_gradient(adapted, Z, Y, **options)
        assert (after < before).all()

    @every_form
    def test_one_step_uses_the_radius_up(self, form: WeightForm) -> None:
        weights, options = make_weights((5, 4)), {"radius": 0.1, "num_steps": 1, "loss": "nll"}
        adapted = adapt(weights, draw(2, 1, 3), draw(2, 1), weight_form=form, **options)
        distances = relative_distances(adapted.dense(), weights)
        torch.testing.assert_close(distances, torch.full_like(distances, 0.1))

    @pytest.mark.parametrize("options", [{"radius": 0.0}, {"num_steps": 0}])
    @every_form
    def test_nothing_moves_without_radius_or_steps(
        self, form: WeightForm, options: dict[str, Any]
    ) -> None:
        weights = make_weights((5, 4))
        adapted = adapt(weights, draw(2, 1, 3), draw(2, 1), weight_form=form, **options).dense()
        for tensor, start in zip(adapted.tensors(), weights.tensors(), strict=True):
            assert torch.equal(tensor, start)

    @every_form
    @pytest.mark.parametrize("num_points", [1, 2])
    def test_several_sets_of_points_for_each_network(
        self, num_points: int, form: WeightForm
    ) -> None:
        weights, Z, Y = make_weights((5, 4)), draw(6, num_points, 3), draw(6, num_points)
        adapted = adapt(weights, Z, Y, weight_form=form).dense()
        for i in range(6):  # network-major
            one = weights.map(lambda t, s=i // 3: t[s : s + 1])
            expected = adapt(one, Z[i : i + 1], Y[i : i + 1]).dense()
            for got, tensor in zip(adapted.tensors(), expected.tensors(), strict=True):
                torch.testing.assert_close(got[i : i + 1], tensor, rtol=1e-10, atol=1e-12)

    def test_stack_that_is_a_view(self) -> None:
        one, Z, Y = make_weights((5, 4), stack=1), draw(3, 1, 3), draw(3, 1)
        view = one.map(lambda t: t.expand(3, *t.shape[1:]))
        copied = adapt(view.map(torch.clone), Z, Y)
        for a, b in zip(adapt(view, Z, Y).tensors(), copied.tensors(), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("device", ["cpu"])
    def test_the_loop_never_waits_for_a_number(self, device: str) -> None:
        weights, Z, Y = make_weights((5, 4)), draw(4, 1, 3), draw(4, 1)
        for form in FORMS:
            with profile(activities=[ProfilerActivity.CPU]) as record:
                adapt(weights, Z, Y, weight_form=form)
            calls = {event.key for event in record.key_averages()}
            assert not calls & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


def plain_early_stop(
    weights: StackedWeights, Z: Tensor, Y: Tensor, *, radius: float, num_steps: int, **options: Any
) -> tuple[StackedWeights, int]:
    """One network, step by step with autograd, until the objective does not fall; and how often."""
    center = [*weights.tensors()]
    before, last = center, math.inf
    current = center
    for step in range(num_steps):
        leaves = [t.clone().requires_grad_() for t in current]
        network = StackedWeights.from_tensors(leaves)
        pairs = zip(Z, Y, strict=True)
        values = [reference_objective(network, z, y, **options) for z, y in pairs]
        objective = torch.stack(values).mean()
        if not objective.item() < last:
            return StackedWeights.from_tensors(before), step - 1
        gradients = torch.autograd.grad(objective, leaves, allow_unused=True)
        before, last = current, objective.item()
        current = [
            t if g is None or g.norm() == 0 else t - radius / num_steps * c.norm() * g / g.norm()
            for t, g, c in zip(current, gradients, center, strict=True)
        ]
    return StackedWeights.from_tensors(current), num_steps


class TestEarlyStop:
    @pytest.mark.parametrize("activation", ["softplus", "tanh"])
    @every_loss
    @pytest.mark.parametrize(("num_points", "form"), [(1, "dense"), (1, "factored"), (2, "dense")])
    def test_is_the_plain_loop(
        self, num_points: int, form: WeightForm, loss: Loss, activation: str
    ) -> None:
        options: dict[str, Any] = {
            "radius": 0.8,
            "num_steps": 5,
            "alpha": 0.7,
            "loss": loss,
            "activation": ACTIVATIONS[activation],
        }
        weights, Z, Y = make_weights((5, 4)), draw(8, num_points, 3), draw(8, num_points)
        adapted = adapt_weights(weights, Z, Y, weight_form=form, early_stop=True, **options)[
            0
        ].dense()
        taken = set()
        for i in range(8):
            start = network_of(weights, i // 4)
            expected, steps = plain_early_stop(start, Z[i], Y[i], **options)
            taken.add(steps)
            rows = zip(adapted.tensors(), expected.tensors(), start.tensors(), strict=True)
            for got, tensor, center in rows:
                assert (got[i] - tensor).norm() <= 1e-9 * center.norm()
        assert len(taken) > 1  # some sooner, some later

    @every_form
    def test_those_that_fall_are_not_touched(self, form: WeightForm) -> None:
        weights, Z, Y = make_weights((5, 4), stack=4), draw(4, 1, 3), draw(4, 1)
        options: dict[str, Any] = {"radius": 1e-3, "num_steps": 3, "weight_form": form}
        pair = [adapt(weights, Z, Y, early_stop=stop, **options) for stop in (False, True)]
        for one, other in zip(*(p.tensors() for p in pair), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize(("num_points", "form"), [(1, "dense"), (1, "factored"), (2, "dense")])
    def test_the_loop_ends_when_all_have_stopped(
        self, num_points: int, form: WeightForm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[Tensor] = []

        def counted(*arguments: Any, **options: Any) -> Any:
            result = adaptation_gradient(*arguments, **options)
            calls.append(result[0])
            return result

        monkeypatch.setattr(inner_loop, "adaptation_gradient", counted)
        weights, Z, Y = make_weights((5, 4)), draw(4, num_points, 3), draw(4, num_points)
        options: dict[str, Any] = {"radius": 20.0, "num_steps": 40, "weight_form": form}
        adapt(weights, Z, Y, early_stop=True, **options)
        objectives = torch.stack(calls)
        assert 1 < len(objectives) < 40
        rises = objectives[1:] >= objectives[:-1]
        assert rises.any(dim=0).all()
        assert not rises[:-1].any(dim=0).all()  # not later than that, and not sooner

    def test_ball(self) -> None:
        weights, Z, Y = make_weights((5, 4), stack=20), draw(20, 1, 3), draw(20, 1)
        for form in FORMS:
            adapted = adapt(weights, Z, Y, radius=1.0, weight_form=form, early_stop=True).dense()
            assert relative_distances(adapted, weights).max() <= 1.0 + 1e-6


def test_gives_up_between_two_steps() -> None:
    weights, Z, Y = make_weights((5, 4)), draw(6, 1, 3), draw(6, 1)
    with pytest.raises(OutOfTime):
        adapt(weights, Z, Y, num_steps=9, expired=iter([False, False, True]).__next__)
    whole = adapt(weights, Z, Y, num_steps=3, expired=iter([False] * 3).__next__)
    expected = adapt(weights, Z, Y, num_steps=3)
    for a, b in zip(whole.tensors(), expected.tensors(), strict=True):
        assert torch.equal(a, b)


class TestFactored:
    @every_form
    def test_only_where_it_can_be(self, form: WeightForm) -> None:
        weights, options = make_weights((5, 4)), {"num_steps": 3, "weight_form": form}
        kinds = [type(h) for h in adapt(weights, draw(4, 1, 3), draw(4, 1), **options).hidden]
        assert kinds == [FactoredLayer if form == "factored" else Layer] * 2
        several = adapt(weights, draw(4, 2, 3), draw(4, 2), **options)
        assert [type(h) for h in several.hidden] == [Layer, Layer]

    @pytest.mark.parametrize("num_steps", [1, 3, 4, 9])
    def test_fitted_weights_are_common_and_steps_are_rows(self, num_steps: int) -> None:
        weights = make_weights((5, 4))
        options: dict[str, Any] = {"num_steps": num_steps, "weight_form": "factored"}
        for layer, start in zip(
            adapt(weights, draw(6, 1, 3), draw(6, 1), **options).hidden, weights.hidden, strict=True
        ):
            assert isinstance(layer, FactoredLayer)
            assert layer.weight is start.weight
            assert layer.left.shape[:2] == (6, max(2 * num_steps, MIN_ROWS))
            assert layer.right.shape[:2] == layer.left.shape[:2]

    @every_network
    def test_predictions_and_input_gradients(self, activation: str) -> None:
        weights, Z, Y = make_weights((5, 4, 3)), draw(6, 1, 3), draw(6, 1)
        options: dict[str, Any] = {"activation": ACTIVATIONS[activation]}
        adapted = adapt(weights, Z, Y, weight_form="factored", **options)
        points = draw(6, 7, 3, seed=4)
        for function in (stacked_forward, stacked_input_gradient):
            got = function(adapted, points, **options)
            torch.testing.assert_close(got, function(adapted.dense(), points, **options))


class TestCheapestForm:
    def test_wide_layers_and_few_steps_are_factored(self) -> None:
        options: dict[str, Any] = {"num_candidates": 128}
        for width in (256, 1024, 2048):
            assert cheapest_form(width, width, num_steps=10, **options) == "factored"
        assert cheapest_form(2048, 2048, num_steps=100, **options) == "factored"
        assert cheapest_form(64, 64, num_steps=100, **options) == "dense"
        assert cheapest_form(64, 3, num_steps=10, **options) == "dense"
        assert cheapest_form(256, 256, num_steps=10, num_candidates=1) == "dense"

    def test_is_what_auto_takes(self) -> None:
        weights = make_weights((256, 256), stack=1, dim=8)
        adapted = adapt(weights, draw(64, 1, 8), draw(64, 1), num_steps=2, weight_form="auto")
        expected = [cheapest_form(256, into, num_steps=2, num_candidates=64) for into in (8, 256)]
        assert expected[1] == "factored"
        got = ["factored" if isinstance(h, FactoredLayer) else "dense" for h in adapted.hidden]
        assert got == expected


def adapt(weights: StackedWeights, Z: Tensor, Y: Tensor, **options: Any) -> StackedWeights:
    """``adapt_weights`` with defaults for what a test does not look at."""
    defaults: dict[str, Any] = {
        "radius": 0.1,
        "num_steps": 5,
        "alpha": 0.7,
        "loss": "squared_error",
        "activation": ACTIVATIONS["softplus"],
    }
    return adapt_weights(weights, Z, Y, **{**defaults, **options})[0]


class TestNothingToDivideBy:
    """Zero gradients and zero norms: neither NaN nor a step out of the ball."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize(("num_points", "form"), [(1, "dense"), (1, "factored"), (4, "dense")])
    @every_loss
    @every_network
    @pytest.mark.parametrize(
        ("weights", "factor"),
        [
            pytest.param(fresh_weights(), 1.0, id="zero biases"),
            pytest.param(fresh_weights().map(torch.zeros_like), 1.0, id="zero weights"),
            pytest.param(make_weights((5, 4)), 0.0, id="zero inputs"),
            pytest.param(make_weights((5, 4)), 1e3, id="saturated"),
            pytest.param(make_weights((5, 4)), 1e6, id="far away"),
            pytest.param(make_weights((1,)), 40.0, id="one unit, nearly saturated"),
        ],
    )
    @pytest.mark.parametrize("alpha", [0.0, 1.0])
    def test_finite_and_inside(
        self,
        alpha: float,
        weights: StackedWeights,
        factor: float,
        activation: str,
        loss: Loss,
        num_points: int,
        form: WeightForm,
        dtype: torch.dtype,
    ) -> None:
        weights = weights.map(lambda t: t.to(dtype))
        Z = factor * draw(2, num_points, 3).to(dtype)
        Y = draw(2, num_points).to(dtype)
        options: dict[str, Any] = {"loss": loss, "activation": ACTIVATIONS[activation]}
        adapted = adapt(weights, Z, Y, alpha=alpha, weight_form=form, **options).dense()
        assert all(torch.isfinite(t).all() for t in adapted.tensors())
        limit = 0.1 * (1 + {torch.float32: 1e-3, torch.float64: 1e-6}[dtype])
        assert relative_distances(adapted, weights).max() <= limit

    @every_form
    def test_all_options_zero(self, form: WeightForm) -> None:
        options: dict[str, Any] = {"alpha": 0.0, "radius": 0.0, "num_steps": 0}
        options["weight_form"] = form
        Z = torch.zeros(2, 1, 3).double()
        adapted = adapt(fresh_weights(), Z, draw(2, 1), **options).dense()
        for tensor, start in zip(adapted.tensors(), fresh_weights().tensors(), strict=True):
            assert torch.equal(tensor, start)


def test_bias_is_not_moved_by_rounding() -> None:
    # its gradient is the difference of prediction and label, and the step is normalised
    weights, Z = make_weights((5, 4)), draw(2, 1, 3)
    label, _ = stacked_forward(weights, Z, ACTIVATIONS["softplus"])
    for noise in (0.0, 3e-15, -3e-15):
        adapted = adapt(weights, Z, label + noise, num_steps=1)
        assert torch.equal(adapted.mean.bias, weights.mean.bias)
    adapted = adapt(weights, Z, label + 1e-9, num_steps=1)
    expected = weights.mean.bias + 0.1 * weights.mean.bias.abs()
    torch.testing.assert_close(adapted.mean.bias, expected)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-3), (torch.float64, 1e-6)])
def test_ball_holds_where_the_gradient_cancels(dtype: torch.dtype, rtol: float) -> None:
    # One unit, one input, alpha = 0: dJ/dW = +-w (phi'(z) + W x phi''(z)), which vanishes at
    # z = -1.27846 for softplus. Near that the two products of the factored form cancel.
    root = torch.tensor(-1.2, dtype=torch.float64)
    for _ in range(50):
        s = torch.sigmoid(root)
        root = root - (1 + root * (1 - s)) / (1 - s - root * s * (1 - s))
    offset = torch.logspace(-16, -1, 1_000, dtype=torch.float64)
    z = torch.cat([root - offset, root + offset]).to(dtype)
    column = torch.ones(len(z), 1, 1, dtype=dtype)
    zero = torch.zeros(len(z), 1, dtype=dtype)
    for slope in (0.5, 1.7, 3.0):
        hidden = Layer(slope * column, zero)
        weights = StackedWeights((hidden,), Layer(1.3 * column, zero), Layer(0 * column, zero))
        Z = (z / slope).view(-1, 1, 1)
        adapted = adapt(weights, Z, zero, alpha=0.0, num_steps=1)
        distance = relative_distances(adapted, weights)[0]
        assert distance.max() <= 0.1 * (1 + rtol)
        assert distance.max() >= 0.1 * (1 - rtol)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    dim=st.integers(1, 8),
    stack=st.integers(1, 3),
    num_points=st.integers(1, 4),
    form=st.sampled_from(FORMS),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    loss=st.sampled_from(LOSSES),
    radius=st.just(0.0) | st.floats(1e-8, 1.5),  # below, the weights themselves are rounded
    num_steps=st.integers(0, 8),
    alpha=st.floats(0.0, 100.0),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 1_000),
)
def test_shapes_and_ball(
    sizes: list[int],
    dim: int,
    stack: int,
    num_points: int,
    form: WeightForm,
    activation: str,
    loss: Loss,
    radius: float,
    num_steps: int,
    alpha: float,
    scale: float,
    seed: int,
) -> None:
    weights = make_weights(tuple(sizes), stack=stack, dim=dim)
    Z = scale * draw(stack, num_points, dim, seed=seed)
    adapted = adapt_weights(
        weights,
        Z,
        draw(stack, num_points, seed=seed + 1),
        radius=radius,
        num_steps=num_steps,
        alpha=alpha,
        loss=loss,
        activation=ACTIVATIONS[activation],
        weight_form=form,
    )[0].dense()
    for new, start in zip(adapted.tensors(), weights.tensors(), strict=True):
        assert new.shape == start.shape
    assert relative_distances(adapted, weights).max() <= radius * (1 + 1e-6)

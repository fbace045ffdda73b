from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from botorch.exceptions.errors import UnsupportedError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma import RoMAModel, conservative, fit_roma_model, propose
from botorch_roma import training as training_module
from botorch_roma.closed_form import Loss, training_gradient, training_loss
from botorch_roma.conservative import NUM_STEPS, STEP_LENGTH, reached_designs
from botorch_roma.fit import fit_roma_models
from botorch_roma.network import ACTIVATIONS, ProxyNetwork, StackedWeights
from botorch_roma.reference import reference_forward, reference_penalty, reference_reached
from botorch_roma.training import Training

N, D, C = 40, 2, 0.5
QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 16, "num_ascent_steps": 2, "radius": 0.05}
LOSSES: list[Loss] = ["nll", "squared_error"]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.double)


def make_weights(sizes: list[int], dim: int, stack: int = 2) -> StackedWeights:
    """Trained-looking weights: biases and the log-std head are not zero."""
    network = ProxyNetwork(dim, sizes, num_networks=stack).double()
    tensors = [t.detach() + 0.3 * draw(*t.shape, seed=i) for i, t in enumerate(network.tensors)]
    return StackedWeights.from_tensors(tensors)


def make_model(m: int = 1, d: int = D, seed: int = 0, **options: Any) -> RoMAModel:
    X = draw(N, d, seed=seed)
    Y = torch.cat([X[:, :1] - X[:, 1:2] ** 2, X[:, 1:2] + X[:, :1] ** 2], dim=1)[:, :m]
    return RoMAModel(X, Y, **{"hidden_sizes": (8, 6), **options})


def fitted(model: RoMAModel, **options: Any) -> RoMAModel:
    fit_roma_model(model, **{"seed": 3, "conservatism": C, **QUICK, **options})
    return model


def assert_close_weights(one: RoMAModel, other: RoMAModel, **tolerance: float) -> None:
    tolerance = {"rtol": 1e-8, "atol": 1e-10, **tolerance}
    for a, b in zip(one.network.tensors, other.network.tensors, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def closed_form(
    weights: StackedWeights, Z: Tensor, Y: Tensor, V: Tensor | None, **options: Any
) -> tuple[Tensor, StackedWeights]:
    """Loss and gradient for designs, and where the same weights lead from them."""
    out = weights.map(lambda t: torch.full_like(t, torch.nan))  # all of it is overwritten
    if options["conservatism"]:
        Z = torch.cat([Z, reached_designs(weights, Z, options["activation"])], dim=1)
    value, e = training_gradient(weights, Z, Y, out=out, noise_variance=V, **options)
    torch.testing.assert_close(torch.bmm(e.mT, Z), out.hidden[0].weight)
    return value.mean(dim=1), out


def by_autograd(
    weights: StackedWeights,
    climbed: StackedWeights,
    Z: Tensor,
    Y: Tensor,
    V: Tensor | None,
    loss: Loss,
    activation: str,
    conservatism: float,
) -> tuple[Tensor, list[Tensor]]:
    """Training loss of one network, penalty included, and its gradient."""
    phi = ACTIVATIONS[activation]
    tensors = [t.detach().clone().requires_grad_() for t in weights.tensors()]
    current = StackedWeights.from_tensors(tensors)
    outputs = [reference_forward(current, z, phi) for z in Z]
    mean, raw = (torch.stack(t) for t in zip(*outputs, strict=True))
    value = training_loss(mean, raw, Y, loss, V)[0].mean()
    value = value + conservatism * reference_penalty(current, climbed, Z, phi)
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    pairs = zip(gradients, tensors, strict=True)
    return value.detach(), [torch.zeros_like(t) if g is None else g for g, t in pairs]


def relative_error(got: Tensor, expected: Tensor) -> float:
    return ((got - expected).norm() / expected.norm().clamp_min(1e-12)).item()


class TestClosedForm:
    @pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
    @pytest.mark.parametrize("sizes", [[5], [5, 4], [5, 4, 3]])
    def test_reached_designs(self, sizes: list[int], activation: str) -> None:
        weights, Z, phi = make_weights(sizes, 3), draw(2, 6, 3), ACTIVATIONS[activation]
        reached = reached_designs(weights, Z, phi)
        for s in range(2):
            network = weights.map(lambda t, s=s: t[s])
            expected = torch.stack([reference_reached(network, z, phi) for z in Z[s]])
            torch.testing.assert_close(reached[s], expected, rtol=1e-10, atol=1e-12)
        assert (reached - Z).norm(dim=-1).min() > 0.01

    def test_steps_of_a_linear_network(self) -> None:
        """Of length ``0.1 * sqrt(d)`` for each unit of the gradient, five of them."""
        weights = make_weights([1], 4, stack=1)
        slope = (weights.mean.weight[0] @ weights.hidden[0].weight[0])[0]
        activation = ACTIVATIONS["leaky_relu"]  # the identity where the bias is large
        weights.hidden[0].bias.fill_(100.0)
        moved = reached_designs(weights, draw(1, 3, 4), activation) - draw(1, 3, 4)
        torch.testing.assert_close(moved[0], (5 * 0.1 * 2.0 * slope).expand(3, 4))
        assert (NUM_STEPS, STEP_LENGTH) == (5, 0.1)

    @every_loss
    @pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
    @pytest.mark.parametrize("sizes", [[5], [5, 4, 3]])
    @pytest.mark.parametrize(("num_points", "noisy"), [(1, False), (6, False), (6, True)])
    def test_gradient_is_that_of_autograd(
        self, num_points: int, noisy: bool, sizes: list[int], activation: str, loss: Loss
    ) -> None:
        weights, Z, Y = make_weights(sizes, 3), draw(2, num_points, 3), draw(2, num_points)
        V = draw(2, num_points, seed=4).square() if noisy else None
        options: dict[str, Any] = {"loss": loss, "conservatism": 0.7}
        phi = ACTIVATIONS[activation]
        value, out = closed_form(weights, Z, Y, V, activation=phi, **options)
        for s in range(2):
            network = weights.map(lambda t, s=s: t[s])
            noise = None if V is None else V[s]
            options["activation"] = activation
            expected, gradient = by_autograd(network, network, Z[s], Y[s], noise, **options)
            assert value[s].item() == pytest.approx(expected.item(), rel=1e-10)
            for t, g in zip(out.tensors(), gradient, strict=True):
                torch.testing.assert_close(t[s], g, rtol=1e-8, atol=1e-12)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    d=st.integers(1, 4),
    n=st.integers(1, 6),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    loss=st.sampled_from(LOSSES),
    noisy=st.booleans(),
    conservatism=st.floats(1e-3, 1e3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_the_loss_is_affine_in_the_weight_of_the_penalty(
    sizes: list[int],
    d: int,
    n: int,
    activation: str,
    loss: Loss,
    noisy: bool,
    conservatism: float,
    seed: int,
) -> None:
    """And what the penalty adds sees neither the offset of the mean nor the log-std head."""
    weights, phi = make_weights(sizes, d), ACTIVATIONS[activation]
    Z, Y = draw(2, n, d, seed=seed), draw(2, n, seed=seed + 1)
    V = draw(2, n, seed=seed + 2).square() if noisy else None
    (zero, g0), (one, g1), (many, gc) = (
        closed_form(weights, Z, Y, V, activation=phi, loss=loss, conservatism=c)
        for c in (0.0, 1.0, conservatism)
    )
    rounding = {"rtol": 1e-9, "atol": 1e-9 * (1.0 + conservatism)}
    torch.testing.assert_close(many, zero + conservatism * (one - zero), **rounding)
    for a, b, c in zip(g0.tensors(), g1.tensors(), gc.tensors(), strict=True):
        torch.testing.assert_close(c, a + conservatism * (b - a), **rounding)
    torch.testing.assert_close(gc.mean.bias, g0.mean.bias, **rounding)
    torch.testing.assert_close(gc.log_std.weight, g0.log_std.weight, **rounding)
    torch.testing.assert_close(gc.log_std.bias, g0.log_std.bias, **rounding)


@every_loss
@pytest.mark.parametrize("first_layer", ["dense", "reduced"])
def test_perturbation_climbs_the_penalty_too(
    loss: Loss, first_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps inside the ball and the gradient at their end, each by autograd.

    Designs are reached by the unperturbed weights.
    """
    seen: list[tuple[Tensor, ...]] = []
    perturbed = Training._perturbed_gradient

    def recorded(self: Training, Z: Tensor, T: Tensor, V: Tensor | None = None) -> Tensor:
        theta = self.theta_views.map(torch.clone)
        value = perturbed(self, Z, T, V)
        seen.append((theta, Z, T, value, self.gradient_views.map(torch.clone)))  # type: ignore[arg-type]
        return value

    monkeypatch.setattr(Training, "_perturbed_gradient", recorded)
    radius, steps, c = 0.1, 3, 0.7
    model = make_model(num_members=2, hidden_sizes=(5, 4), activation="tanh")
    options: dict[str, Any] = {"radius": radius, "num_ascent_steps": steps, "epochs": 1}
    options |= {"loss": loss, "conservatism": c, "first_layer": first_layer, "lr": 0.02}
    fitted(model, max_grad_norm=1e9, **options)
    theta, Z, T, value, gradient = seen[-1]
    for s in range(2):
        center = theta.map(lambda t, s=s: t[s])  # type: ignore[attr-defined]
        moved = center
        for _ in range(steps):
            _, up = by_autograd(moved, center, Z[s], T[s], None, loss, "tanh", c)
            pairs = zip(moved.tensors(), up, center.tensors(), strict=True)
            moved = StackedWeights.from_tensors(
                [
                    t if g.norm() == 0 else t + radius / steps * p.norm() * g / g.norm()
                    for t, g, p in pairs
                ]
            )
        expected, end = by_autograd(moved, center, Z[s], T[s], None, loss, "tanh", c)
        assert value[s].item() == pytest.approx(expected.item(), rel=1e-6)
        for t, g in zip(gradient.tensors(), end, strict=True):  # type: ignore[attr-defined]
            assert relative_error(t[s], g) < 1e-6


class TestFit:
    def test_zero_is_as_without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain, model = make_model(), make_model()
        fit_roma_model(plain, seed=3, **QUICK)
        different = fitted(make_model())
        monkeypatch.setattr(training_module, "reached_designs", None)  # nobody asks for them
        fitted(model, conservatism=0.0)
        for a, b, c in zip(*(m.network.tensors for m in (plain, model, different)), strict=True):
            assert torch.equal(a, b)
            assert not torch.equal(a, c) or not a.any()

    @every_loss
    def test_promises_less_where_ascent_leads(self, loss: Loss) -> None:
        differences = []
        for c in (0.0, 0.5, 5.0):
            model = fitted(make_model(), loss=loss, conservatism=c, epochs=60, lr=1e-2)
            weights = model.network.weights.map(Tensor.detach)
            Z = model.standardize_inputs(model.train_X)[None]
            with torch.no_grad():
                reached = reached_designs(weights, Z, model.network.activation)
                gap = model.network(reached)[0].mean() - model.network(Z)[0].mean()
            differences.append(gap.item())
        assert differences[0] > differences[1] > differences[2]
        assert differences[0] > 1.5 * differences[2]

    def test_history(self) -> None:
        """The training loss holds the penalty, the validation loss does not."""
        options: dict[str, Any] = {"epochs": 1, "lr": 1e-12, "radius": 0.0, "noise_std": 0.0}
        options |= {"batch_size": N, "num_validation": 0, "seed": 0}
        plain = fit_roma_model(make_model(), **options)
        model = make_model()
        history = fit_roma_model(model, conservatism=C, **options)
        assert history.validation_loss == pytest.approx(plain.validation_loss)
        weights = model.network.weights.map(lambda t: t[0].detach())
        Z = model.standardize_inputs(model.train_X)
        penalty = reference_penalty(weights, weights, Z, model.network.activation)
        assert history.loss[0] == pytest.approx(plain.loss[0] + C * penalty.item())

    @every_loss
    @pytest.mark.parametrize("m", [1, 2])
    def test_members_and_outputs_are_trained_as_if_alone(self, loss: Loss, m: int) -> None:
        together = fitted(make_model(m, num_members=2), loss=loss, num_validation=0)
        for e in range(2):
            alone = fitted(make_model(m), loss=loss, num_validation=0, seed=3 + e)
            assert_close_weights(together.subset_members([e]), alone)
        first = fitted(make_model(num_members=2), loss=loss, num_validation=0)
        assert_close_weights(together.subset_output([0]), first)

    @pytest.mark.parametrize("options", [{}, {"train_Yvar": True}, {"copy": False}])
    @pytest.mark.parametrize("shared", [True, False])
    def test_models_are_trained_as_if_alone(self, options: dict[str, Any], shared: bool) -> None:
        known = dict(options)
        if known.pop("train_Yvar", False):
            known["train_Yvar"] = 0.01 + draw(N, 2, seed=7).square()
        tables = [0 if shared else i for i in range(2)]
        together = [make_model(2, seed=i, **known) for i in tables]
        fit_roma_models(together, seeds=[3, 4], conservatism=C, **QUICK)
        for model, i, seed in zip(together, tables, (3, 4), strict=True):
            assert_close_weights(model, fitted(make_model(2, seed=i, **known), seed=seed))

    def test_known_noise_matters(self) -> None:
        noisy = make_model(train_Yvar=draw(N, 1, seed=7).square())
        assert not torch.allclose(
            fitted(noisy).network.tensors[0], fitted(make_model()).network.tensors[0], atol=1e-4
        )

    @every_loss
    @pytest.mark.parametrize("m", [1, 2])
    def test_reduced_first_layer_is_exact(self, loss: Loss, m: int) -> None:
        pair = [
            fitted(make_model(m, d=9, num_members=2), loss=loss, first_layer=form)
            for form in ("dense", "reduced")
        ]
        assert_close_weights(*pair, rtol=1e-6, atol=1e-9)

    def test_the_table_stays_in_its_file(self) -> None:
        pair = [fitted(make_model(2, copy=copy, num_members=2)) for copy in (True, False)]
        assert_close_weights(*pair)
        X = draw(N, D)
        assert torch.equal(pair[1].train_X, X)  # nobody wrote to it

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_dtype_and_device(self, device: torch.device, dtype: torch.dtype) -> None:
        X = draw(N, D).to(device, dtype)
        model = fitted(RoMAModel(X, X[:, :1].sin(), hidden_sizes=(8, 6)), epochs=60, lr=1e-2)
        assert all(t.dtype == dtype and t.device.type == device.type for t in model.parameters())
        assert torch.corrcoef(torch.cat([model.posterior(X).mean, X[:, :1].sin()], 1).T)[0, 1] > 0.9

    def test_reachable_in_one_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls, real = [], conservative.stacked_input_gradient
        monkeypatch.setattr(
            conservative, "stacked_input_gradient", lambda *a: calls.append(a) or real(*a)
        )
        X, optimize = draw(N, D), {"num_updates": 2, "num_adaptation_steps": 1}
        for preset in ("paper", "default"):
            calls.clear()
            proposal = propose(
                X,
                X[:, :1],
                torch.tensor([[-3.0, -3.0], [3.0, 3.0]]).double(),
                q=2,
                preset=preset,
                fit_options={"epochs": 1, "conservatism": C, "num_ascent_steps": 1},
                optimize_options=optimize,
                seed=0,
            )
            assert calls
            assert "conservatism" in str(proposal.settings)


class TestRefused:
    @pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.5"])
    def test_out_of_range(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"`conservatism` must be .*received"):
            fitted(make_model(), conservatism=value)

    def test_ranking(self) -> None:
        model = make_model()
        with pytest.raises(UnsupportedError, match=r"`conservatism` is 0\.5, .* is 'listnet', .*0"):
            fitted(model, loss="listnet")
        assert not model.is_fitted
        fitted(model, loss="listnet", conservatism=0.0)

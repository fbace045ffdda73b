from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import BotorchTensorDimensionError, InputDataError
from botorch.exceptions.errors import ModelFittingError
from botorch.models.transforms import Log, Normalize, Standardize
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma import AdaptedRoMAModel, RoMAModel, adapt_roma_model
from botorch_roma.adaptation import Adaptation
from botorch_roma.network import ACTIVATIONS, StackedWeights
from botorch_roma.perturbation import relative_distances
from botorch_roma.reference import reference_adapt, reference_objective

MODES = ["per_candidate", "shared"]
LOSSES = ["squared_error", "nll"]
OPTIONS: dict[str, Any] = {"radius": 0.1, "num_steps": 4}


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Values in (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def make_model(d: int = 3, m: int = 1, fresh: bool = False, **options: Any) -> RoMAModel:
    """A model whose weights are random but look trained, or fresh with zero biases."""
    model = RoMAModel(draw(12, d), draw(12, m, seed=1), **{"hidden_sizes": (5, 4), **options})
    with torch.no_grad():
        for i, tensor in enumerate([] if fresh else model.network.tensors):
            tensor += 0.5 * draw(*tensor.shape, seed=i) - 0.25
    model.fitted.fill_(True)
    return model


def candidates(b: int = 4, d: int = 3) -> Tensor:
    return draw(b, d, seed=7)


def center(adapted: AdaptedRoMAModel) -> StackedWeights:
    """The fitted weights, repeated as often as the adapted ones."""
    repeats = adapted.weights.mean.bias.shape[0] // adapted.fitted_model.network.num_networks
    weights = adapted.fitted_model.network.weights
    return weights.map(lambda t: t.detach().repeat_interleave(repeats, dim=0))


def in_the_row_space(model: RoMAModel, b: int) -> Tensor:
    """Candidates whose standardised form is a combination of rows of ``W_1``."""
    rows = model.network.weights.hidden[0].weight[0].detach()
    return (draw(b, rows.shape[0]) - 0.5) @ rows * model.x_std + model.x_mean


class TestAgainstTheReference:
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
    @pytest.mark.parametrize("first_layer", ["dense", "reduced"])
    @pytest.mark.parametrize(
        ("mode", "form"),
        [("per_candidate", "dense"), ("per_candidate", "factored"), ("shared", "factored")],
    )
    def test_every_network_and_candidate(
        self, mode: Any, form: Any, first_layer: Any, activation: str, loss: Any
    ) -> None:
        model = make_model(d=7, m=2, num_members=2, activation=activation)
        X, alpha = candidates(3, 7), 0.7
        adapted = adapt_roma_model(
            model,
            X,
            alpha=alpha,
            mode=mode,
            first_layer=first_layer,
            weight_form=form,
            pseudo_label_loss=loss,
            **OPTIONS,
        )
        assert adapted.weights.hidden[1].__class__.__name__ == (
            "FactoredLayer" if (mode, form) == ("per_candidate", "factored") else "Layer"
        )
        Z = model.standardize_inputs(X)
        labels = model.network(Z)[0].detach()
        points = Z.unsqueeze(0 if mode == "shared" else 1)  # C x N x d
        got = adapted.dense_weights()
        for s in range(4):
            for c in range(len(points)):
                weights = model.network.weights.map(lambda t, s=s: t[s].detach())
                expected = reference_adapt(
                    weights,
                    points[c],
                    labels[s].view(len(points), -1)[c],
                    alpha=alpha,
                    loss=loss,
                    activation=ACTIVATIONS[activation],
                    **OPTIONS,
                )
                rows = zip(got.tensors(), expected.tensors(), strict=True)
                for tensor, reference in rows:
                    torch.testing.assert_close(
                        tensor[s * len(points) + c], reference, rtol=1e-8, atol=1e-10
                    )

    def test_labels_are_the_predictions_by_default(self) -> None:
        model = make_model(m=2)
        given_labels = model.posterior(candidates()).mean.detach()
        expected = adapt_roma_model(model, candidates(), given_labels)
        got = adapt_roma_model(model, candidates())
        for a, b in zip(got.weights.tensors(), expected.weights.tensors(), strict=True):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("transform", [Standardize(m=2), Log()])
    def test_labels_are_in_the_users_outcome_space(self, transform: Standardize | Log) -> None:
        model = make_model(m=2, num_members=2, outcome_transform=transform)
        labels = 0.1 + draw(4, 2, seed=8)
        got = adapt_roma_model(model, candidates(), labels, **OPTIONS)
        adaptation = Adaptation(model, **OPTIONS)
        Y, _ = transform(labels)
        scores = ((Y - model.y_mean) / model.y_std).mT
        both = torch.cat([scores, scores])
        expected = adaptation(model.standardize_inputs(candidates()), both)
        for a, b in zip(got.weights.tensors(), expected.weights.tensors(), strict=True):
            assert torch.equal(a, b)


class TestPurpose:
    @pytest.mark.parametrize("mode", MODES)
    def test_the_model_becomes_flatter(self, mode: Any) -> None:
        model = make_model(num_members=2)
        Z = model.standardize_inputs(candidates())
        norms = [
            adapt_roma_model(model, candidates(), radius=radius, alpha=0.0, mode=mode)
            .input_gradient_norm(Z)
            .mean(dim=1)
            for radius in (0.0, 0.05, 0.1)
        ]
        assert (norms[1] < norms[0]).all()
        assert (norms[2] < norms[1]).all()

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("loss", LOSSES)
    def test_the_pseudo_label_is_followed(self, loss: Any, mode: Any) -> None:
        model, X = make_model(num_members=2), candidates().unsqueeze(1)
        start = model.posterior(X).mean
        for shift in (-0.3, 0.3):
            adapted = adapt_roma_model(
                model,
                candidates(),
                start[:, 0] + shift,
                alpha=1e6,
                pseudo_label_loss=loss,
                mode=mode,
                **OPTIONS,
            )
            moved = (adapted.posterior(X).mean - start).mean()
            assert 0.2 < moved / shift < 1.1

    def test_alpha_holds_the_prediction(self) -> None:
        model, X = make_model(), candidates().unsqueeze(1)
        start = model.posterior(X).mean
        drift = [
            (adapt_roma_model(model, candidates(), alpha=alpha).posterior(X).mean - start).abs()
            for alpha in (0.0, 1e3)
        ]
        assert drift[1].mean() < 0.5 * drift[0].mean()

    def test_candidates_do_not_influence_each_other(self) -> None:
        model, X = make_model(num_members=2), candidates()
        some = adapt_roma_model(model, X[[2, 0]], **OPTIONS).posterior(X[[2, 0]].unsqueeze(1))
        every = adapt_roma_model(model, X, **OPTIONS).posterior(X.unsqueeze(1))
        torch.testing.assert_close(some.mean, every.mean[[2, 0]])

    def test_gradient_in_x_is_at_fixed_weights(self) -> None:
        model, X = make_model(), candidates().requires_grad_()
        adapted = adapt_roma_model(model, X, **OPTIONS)
        labels = model.network(model.standardize_inputs(X))[0]
        attached = Adaptation(model, **OPTIONS)(model.standardize_inputs(X), labels)
        for tensor in (*adapted.weights.tensors(), *attached.weights.tensors()):
            assert not tensor.requires_grad
        (gradient,) = torch.autograd.grad(PosteriorMean(adapted)(X.unsqueeze(1)).sum(), X)
        fixed = X.detach().clone().requires_grad_()
        (expected,) = torch.autograd.grad(PosteriorMean(adapted)(fixed.unsqueeze(1)).sum(), fixed)
        assert torch.equal(gradient, expected)
        assert (gradient.norm(dim=-1) > 0).all()


class TestFirstLayer:
    def agree(self, model: RoMAModel, X: Tensor, **options: Any) -> None:
        """All forms give the same predictions, at the candidates and elsewhere, and gradients."""
        adapted = {
            form: adapt_roma_model(model, X, first_layer=form, **OPTIONS, **options)
            for form in ("dense", "reduced", "auto")
        }
        assert adapted["dense"].basis is None
        assert adapted["reduced"].basis is not None
        elsewhere = torch.cat([X.unsqueeze(1), draw(*X.shape, seed=5).unsqueeze(1)], dim=1)
        points = elsewhere.requires_grad_()
        results = []
        for one in adapted.values():
            posterior = one.posterior(points)
            (gradient,) = torch.autograd.grad(posterior.mean.sum(), points)
            results.append((posterior.mean, posterior.variance, gradient))
            distances = relative_distances(one.dense_weights(), center(one))
            assert distances.max() <= OPTIONS["radius"] * (1 + 1e-6)
        for other in results[1:]:
            torch.testing.assert_close(results[0], other, rtol=1e-9, atol=1e-10)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("d", [1, 3, 5, 6, 40])
    @pytest.mark.parametrize("b", [1, 4])
    def test_same_result(self, b: int, d: int, loss: Any, mode: Any) -> None:
        model = make_model(d=d, m=2, num_members=2)
        self.agree(model, candidates(b, d), mode=mode, pseudo_label_loss=loss)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("b", [1, 4])
    def test_candidates_in_the_row_space(self, b: int, mode: Any) -> None:
        model = make_model(d=12)
        self.agree(model, in_the_row_space(model, b), mode=mode)

    @pytest.mark.parametrize("mode", MODES)
    def test_some_inside_and_some_nearly(self, mode: Any) -> None:
        model = make_model(d=12)
        X = in_the_row_space(model, 4)
        X[1] = model.x_mean  # zero
        X[2] += 1e-9 * draw(12)
        X[3] += 1e-14 * draw(12)
        self.agree(model, X, mode=mode)

    @pytest.mark.parametrize("mode", MODES)
    def test_duplicated_candidates(self, mode: Any) -> None:
        self.agree(make_model(d=12), candidates(2, 12)[[0, 1, 0, 0]], mode=mode)

    @pytest.mark.parametrize("mode", MODES)
    def test_more_candidates_than_inputs(self, mode: Any) -> None:
        self.agree(make_model(d=6), candidates(20, 6), mode=mode)

    @pytest.mark.parametrize("mode", MODES)
    def test_first_layer_without_full_rank(self, mode: Any) -> None:
        model = make_model(d=12)
        with torch.no_grad():
            weight = model.network.weights.hidden[0].weight
            weight[:, 1] = weight[:, 0]
            weight[:, 2] = 0.0
        self.agree(model, candidates(4, 12), mode=mode)

    @pytest.mark.parametrize("mode", MODES)
    def test_reduced_where_inputs_are_many(self, mode: Any) -> None:
        model, X = make_model(d=500), candidates(4, 500)
        adapted = adapt_roma_model(model, X, mode=mode)
        width = {"per_candidate": 5 + 1, "shared": 5 + 4}[mode]
        assert adapted.weights.hidden[0].weight.shape[-1] == width
        assert adapted.basis is not None

    @pytest.mark.parametrize("mode", MODES)
    def test_dense_where_inputs_are_few(self, mode: Any) -> None:
        adapted = adapt_roma_model(make_model(d=4), candidates(4, 4), mode=mode)
        assert adapted.basis is None

    def test_float32(self) -> None:
        model = make_model(d=40)
        X = candidates(4, 40)
        expected = adapt_roma_model(model, X, **OPTIONS).posterior(X.unsqueeze(1)).mean
        model.to(torch.float32)
        for form in ("dense", "reduced"):
            adapted = adapt_roma_model(model, X.float(), first_layer=form, **OPTIONS)
            mean = adapted.posterior(X.float().unsqueeze(1)).mean
            assert mean.dtype == torch.float32
            torch.testing.assert_close(mean.double(), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("outside", [1.0, 1e-3, 1e-9, 0.0])
    def test_basis_is_orthonormal_however_near_the_span(self, outside: float) -> None:
        model = make_model(d=9)
        inside = (in_the_row_space(model, 4) - model.x_mean) / model.x_std
        Z = inside + outside * draw(4, 9, seed=5)
        adapted = Adaptation(model, first_layer="reduced")(Z, torch.zeros(1, 4).double())
        basis = adapted.basis
        assert basis is not None
        axes = torch.cat([basis.shared.expand(4, -1, -1), basis.own], dim=-1)
        gram = axes.mT @ axes
        expected = torch.eye(gram.shape[-1], dtype=Z.dtype)
        if outside == 0.0:  # there is no direction of its own
            expected[-1, -1] = 0.0
        torch.testing.assert_close(gram, expected.expand_as(gram), rtol=0.0, atol=1e-13)
        back = (axes @ basis.coordinates(Z.unsqueeze(1)).mT).squeeze(-1)
        torch.testing.assert_close(back, Z)


@pytest.mark.parametrize("mode", MODES)
def test_early_stop(mode: Any) -> None:
    """In plain inputs and in the reduced first layer alike, and not without being asked for."""
    model, X = make_model(d=9, num_members=3), candidates(6, 9)
    means = []
    for early_stop, first_layer in ((True, "dense"), (True, "reduced"), (False, "dense")):
        adapted = adapt_roma_model(
            model,
            X,
            radius=0.8,
            num_steps=5,
            mode=mode,
            first_layer=first_layer,  # type: ignore[arg-type]
            early_stop=early_stop,
        )
        means.append(adapted.candidate_moments(model.standardize_inputs(X).unsqueeze(1))[0])
    torch.testing.assert_close(means[0], means[1], rtol=1e-9, atol=1e-10)
    same = torch.isclose(means[0], means[2]).float().mean()
    assert 0.0 <= same < 1.0


Walk = list[tuple[Tensor, Tensor]]


def walk(model: RoMAModel, length: int = 5, b: int = 3) -> Walk:
    """Standardised candidates ``B x d`` and pseudo labels ``S x B``, update by update."""
    d, s = model.train_X.shape[1], model.network.num_networks
    start = draw(b, d, seed=7) - 0.5
    steps = [0.2 * (draw(b, d, seed=i) - 0.5) for i in range(length)]
    return [
        (start + torch.stack(steps[: i + 1]).sum(dim=0), draw(s, b, seed=20 + i))
        for i in range(length)
    ]


def plain_reuse(
    center: list[Tensor],
    path: Walk,
    *,
    radius: float,
    num_steps: int,
    reuse_steps: int,
    project: bool,
    **options: Any,
) -> list[list[Tensor]]:
    """One network and candidate by autograd: the weights at every update of a path."""
    moves: list[list[Tensor]] = []
    adapted = []
    for z, label in path:
        moves = moves[len(moves) - reuse_steps :] if moves else []
        if project:  # the rows of the first layer, onto those of the fitted one and the candidate
            span = torch.linalg.qr(torch.cat([center[0], z.unsqueeze(0)]).mT).Q
            moves = [[first @ span @ span.mT, *rest] for first, *rest in moves]
        while len(moves) < num_steps:
            leaves = [
                torch.stack([c, *(m[i] for m in moves)]).sum(dim=0).requires_grad_()
                for i, c in enumerate(center)
            ]
            network = StackedWeights.from_tensors(leaves)
            objective = reference_objective(network, z, label, **options)
            gradients = torch.autograd.grad(objective, leaves, allow_unused=True)
            moves.append(
                [
                    torch.zeros_like(c)
                    if g is None or g.norm() == 0
                    else -radius / num_steps * c.norm() * g / g.norm()
                    for c, g in zip(center, gradients, strict=True)
                ]
            )
        adapted.append([c + sum(m[i] for m in moves) for i, c in enumerate(center)])
    return adapted


class TestReuse:
    options: ClassVar[dict[str, Any]] = {"radius": 0.2, "num_steps": 4}

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("first_layer", ["dense", "reduced"])
    @pytest.mark.parametrize("form", ["dense", "factored"])
    @pytest.mark.parametrize("reuse_steps", [1, 3])
    def test_is_the_plain_loop(
        self, reuse_steps: int, form: Any, first_layer: Any, loss: Any
    ) -> None:
        model = make_model(d=9, num_members=2)
        options = {**self.options, "reuse_steps": reuse_steps, "alpha": 0.7}
        adaptation = Adaptation(
            model,
            weight_form=form,
            first_layer=first_layer,
            pseudo_label_loss=loss,
            **options,
        )
        path = walk(model)
        got = [adaptation(Z, labels).dense_weights() for Z, labels in path]
        for s in range(2):
            center = [t[s].detach() for t in model.network.weights.tensors()]
            for b in range(3):
                expected = plain_reuse(
                    center,
                    [(Z[b], labels[s, b]) for Z, labels in path],
                    project=first_layer == "reduced",
                    loss=loss,
                    activation=ACTIVATIONS["softplus"],
                    **options,
                )
                for weights, reference in zip(got, expected, strict=True):
                    rows = zip(weights.tensors(), reference, center, strict=True)
                    for tensor, other, start in rows:
                        assert (tensor[3 * s + b] - other).norm() <= 1e-9 * start.norm()

    @given(
        d=st.integers(1, 12),
        first_layer=st.sampled_from(["dense", "reduced"]),
        form=st.sampled_from(["dense", "factored", "auto"]),
        loss=st.sampled_from(LOSSES),
        num_steps=st.integers(2, 6),
        data=st.data(),
        scale=st.sampled_from([0.0, 1e-9, 1.0, 1e4]),
        radius=st.floats(1e-6, 1.5),
    )
    def test_ball(
        self,
        d: int,
        first_layer: Any,
        form: Any,
        loss: Any,
        num_steps: int,
        data: Any,
        scale: float,
        radius: float,
    ) -> None:
        """However far the candidates go, in the span of the first layer and outside of it."""
        model = make_model(d=d, num_members=2)
        adaptation = Adaptation(
            model,
            radius=radius,
            num_steps=num_steps,
            reuse_steps=data.draw(st.integers(1, num_steps - 1)),
            first_layer=first_layer,
            weight_form=form,
            pseudo_label_loss=loss,
        )
        inside = (in_the_row_space(model, 3) - model.x_mean) / model.x_std
        for i, (Z, labels) in enumerate(walk(model)):
            adapted = adaptation(inside if i == 2 else scale * Z, labels)
            distances = relative_distances(adapted.dense_weights(), center(adapted))
            assert distances.max() <= radius * (1 + 1e-6) + 1e-14

    @pytest.mark.parametrize("first_layer", ["dense", "reduced"])
    def test_none_is_a_restart_at_every_update(self, first_layer: Any) -> None:
        model = make_model(d=9)
        options = {"first_layer": first_layer, **self.options}
        adaptation = Adaptation(model, reuse_steps=0, **options)
        for Z, labels in walk(model):
            alone = Adaptation(model, **options)(Z, labels)
            both = zip(
                adaptation(Z, labels).weights.tensors(), alone.weights.tensors(), strict=True
            )
            assert all(torch.equal(a, b) for a, b in both)

    @pytest.mark.parametrize("first_layer", ["dense", "reduced"])
    def test_deterministic_and_new_for_other_candidates(self, first_layer: Any) -> None:
        model = make_model(d=9)
        options = {"first_layer": first_layer, "reuse_steps": 3, **self.options}
        path, other = walk(model), walk(model, b=2)[0]
        results = []
        for _ in range(2):
            adaptation = Adaptation(model, **options)
            results.append([adaptation(*update).weights for update in path])
        for one, again in zip(*results, strict=True):
            for a, b in zip(one.tensors(), again.tensors(), strict=True):
                assert torch.equal(a, b)
        fresh = Adaptation(model, **options)(*other).weights
        for a, b in zip(adaptation(*other).weights.tensors(), fresh.tensors(), strict=True):
            assert torch.equal(a, b)

    def test_returned_weights_stay_as_they_are(self) -> None:
        model = make_model(d=9)
        for form in ("dense", "factored"):
            adaptation = Adaptation(model, weight_form=form, reuse_steps=3, **self.options)
            first = adaptation(*walk(model)[0]).weights
            before = first.map(torch.clone)
            for update in walk(model)[1:]:
                adaptation(*update)
            for a, b in zip(first.tensors(), before.tensors(), strict=True):
                assert torch.equal(a, b)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"reuse_steps": -1}, "`reuse_steps` must be an integer of at least 0, received -1"),
            ({"reuse_steps": 4}, "`reuse_steps` must be below `num_steps`, .* 4, .*, received 4"),
            ({"mode": "shared"}, "`reuse_steps` needs .*per_candidate.*, received 2 and 'shared'"),
            ({"early_stop": True}, "`reuse_steps` needs all steps .*, received 2 and `early_stop"),
        ],
    )
    def test_what_does_not_go_with_it(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Adaptation(make_model(), **{"reuse_steps": 2, **self.options, **options})


class TestFittedModelIsUntouched:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("first_layer", ["dense", "reduced"])
    @pytest.mark.parametrize("options", [OPTIONS, {"radius": 0.0}, {"num_steps": 0}])
    def test_bit_by_bit(self, options: dict[str, Any], first_layer: Any, mode: Any) -> None:
        transforms = {"input_transform": Normalize(d=3), "outcome_transform": Standardize(m=2)}
        model = make_model(m=2, num_members=2, **transforms)
        before = {name: t.clone() for name, t in model.state_dict().items()}
        adapted = adapt_roma_model(
            model, candidates(), first_layer=first_layer, mode=mode, **options
        )
        adapted.posterior(candidates().unsqueeze(1).requires_grad_()).mean.sum().backward()
        with torch.no_grad():
            for tensor in adapted.weights.tensors():
                tensor.fill_(1e3)
        after = model.state_dict()
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            assert torch.equal(tensor, after[name]), name
        for parameter in model.parameters():
            assert parameter.requires_grad
            assert parameter.grad is None

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("options", [{"radius": 0.0}, {"num_steps": 0}])
    def test_nothing_to_adapt(self, options: dict[str, Any], mode: Any) -> None:
        model = make_model(m=2, num_members=2)
        adapted = adapt_roma_model(model, candidates(), mode=mode, **options)
        assert adapted.batch_shape == torch.Size([4])
        got, expected = (one.posterior(candidates().unsqueeze(1)) for one in (adapted, model))
        torch.testing.assert_close(got.mean, expected.mean, rtol=1e-12, atol=0.0)
        torch.testing.assert_close(got.variance, expected.variance, rtol=1e-12, atol=0.0)

    def test_prepared_once_and_called_often(self) -> None:
        model = make_model(d=40)
        adaptation = Adaptation(model, **OPTIONS)
        Z = model.standardize_inputs(candidates(4, 40))
        label = model.network(Z)[0]
        first = adaptation(Z, label)
        adaptation(2.0 * Z, label + 1.0)
        again = adaptation(Z, label)
        for a, b in zip(first.weights.tensors(), again.weights.tensors(), strict=True):
            assert torch.equal(a, b)

    def test_deterministic_and_without_random_numbers(self) -> None:
        model, before = make_model(), torch.get_rng_state()
        first, again = (adapt_roma_model(model, candidates()) for _ in range(2))
        assert torch.equal(before, torch.get_rng_state())
        for a, b in zip(first.weights.tensors(), again.weights.tensors(), strict=True):
            assert torch.equal(a, b)


class TestExtremes:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("first_layer", ["dense", "reduced"])
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("fresh", [False, True])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e8])
    def test_never_nan(
        self, scale: float, fresh: bool, loss: Any, first_layer: Any, mode: Any
    ) -> None:
        for activation in sorted(ACTIVATIONS):
            model = make_model(d=7, fresh=fresh, activation=activation)
            X = model.x_mean + scale * (candidates(4, 7) - 0.5)
            for alpha in (0.0, 1.0):
                adapted = adapt_roma_model(
                    model,
                    X,
                    alpha=alpha,
                    mode=mode,
                    first_layer=first_layer,
                    pseudo_label_loss=loss,
                    **OPTIONS,
                )
                assert torch.isfinite(adapted.posterior(X.unsqueeze(1)).mean).all()
                distances = relative_distances(adapted.weights, center_of(adapted))
                assert distances.max() <= OPTIONS["radius"] * (1 + 1e-6)

    def test_device(self, device: torch.device) -> None:
        model = make_model(d=40, num_members=2)
        expected = adapt_roma_model(model, candidates(4, 40)).posterior(candidates(4, 40)).mean
        X = candidates(4, 40).to(device)
        adapted = adapt_roma_model(model.to(device), X)
        assert adapted.weights.mean.weight.device.type == device.type
        torch.testing.assert_close(adapted.posterior(X).mean.cpu(), expected)


def center_of(adapted: AdaptedRoMAModel) -> StackedWeights:
    """The fitted weights in the coordinates of the adapted ones, where norms are the same."""
    weights = center(adapted)
    if adapted.basis is None:
        return weights
    first = weights.hidden[0]
    return weights._replace(
        hidden=(
            first._replace(weight=adapted.basis.coordinates(first.weight)),
            *weights.hidden[1:],
        )
    )


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    b=st.integers(1, 5),
    d=st.integers(1, 12),
    members=st.integers(1, 3),
    m=st.integers(1, 2),
    mode=st.sampled_from(MODES),
    first_layer=st.sampled_from(["auto", "dense", "reduced"]),
    loss=st.sampled_from(LOSSES),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    radius=st.just(0.0) | st.floats(1e-8, 1.5),  # below, the weights themselves are rounded
    num_steps=st.integers(0, 6),
    alpha=st.floats(0.0, 50.0),
    q=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_shapes_and_ball(
    sizes: list[int],
    b: int,
    d: int,
    members: int,
    m: int,
    mode: Any,
    first_layer: Any,
    loss: Any,
    activation: str,
    radius: float,
    num_steps: int,
    alpha: float,
    q: int,
    seed: int,
) -> None:
    model = make_model(
        d, m, hidden_sizes=sizes, num_members=members, activation=activation, seed=seed
    )
    adapted = adapt_roma_model(
        model,
        draw(b, d, seed=seed),
        draw(b, m, seed=seed + 1),
        radius=radius,
        num_steps=num_steps,
        alpha=alpha,
        mode=mode,
        pseudo_label_loss=loss,
        first_layer=first_layer,
    )
    assert adapted.batch_shape == torch.Size([b])
    assert adapted.posterior(draw(b, q, d)).mean.shape == (b, q, m)
    distances = relative_distances(adapted.dense_weights(), center(adapted))
    expected = members * m * (1 if mode == "shared" or radius * num_steps == 0 else b)
    assert distances.shape == (2 * len(sizes) + 4, expected)
    lifted = 1e-14 if adapted.basis is not None else 0.0  # rounding of Q Q^T W_1
    assert distances.max() <= radius * (1 + 1e-6) + lifted


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"radius": -0.1}, "`radius` must be a finite number at least 0, received -0.1"),
            ({"radius": float("nan")}, "`radius` must be a finite number .*received nan"),
            ({"num_steps": -1}, "`num_steps` must be an integer of at least 0, received -1"),
            ({"num_steps": 2.0}, "`num_steps` must be an integer .*received 2.0"),
            ({"alpha": -1.0}, "`alpha` must be a finite number at least 0, received -1.0"),
            ({"alpha": float("inf")}, "`alpha` must be a finite number .*received inf"),
            ({"early_stop": None}, "`early_stop` must be True or False, received None"),
            ({"mode": "each"}, r"`mode` must be one of \['per_candidate', .*received 'each'"),
            (
                {"pseudo_label_loss": "mse"},
                r"`pseudo_label_loss` must be one of \['nll', .*received 'mse'",
            ),
            (
                {"first_layer": "factored"},
                r"`first_layer` must be one of \['auto', .*received 'factored'",
            ),
        ],
    )
    def test_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            adapt_roma_model(make_model(), candidates(), **options)

    @pytest.mark.parametrize(
        ("X", "error", "message"),
        [
            (candidates().tolist(), InputDataError, "`X` must be a torch.Tensor, received list"),
            (candidates()[0], BotorchTensorDimensionError, r"`X` must have 2 dim.*\(3,\)"),
            (
                candidates().unsqueeze(1),
                BotorchTensorDimensionError,
                r"`X` must have 2 dim.*\(4, 1, 3\)",
            ),
            (
                candidates()[:, :1],
                BotorchTensorDimensionError,
                r"`X` must have shape B x 3 with B >= 1, received \(4, 1\)",
            ),
            (
                candidates()[:0],
                BotorchTensorDimensionError,
                r"`X` must have shape B x 3 with B >= 1, received \(0, 3\)",
            ),
            (candidates() / 0, InputDataError, "`X` holds 12 NaN or infinite values"),
            (candidates().long(), InputDataError, "`X` must be floating point, .*int64"),
            (
                candidates().float(),
                InputDataError,
                "`X` must share dtype .*received torch.float32 .*float64",
            ),
        ],
    )
    def test_candidates(self, X: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            adapt_roma_model(make_model(), X)

    @pytest.mark.parametrize(
        ("label", "error", "message"),
        [
            (draw(4), BotorchTensorDimensionError, r"`pseudo_label` must have 2 dim.*\(4,\)"),
            (draw(3, 2), BotorchTensorDimensionError, r"`pseudo_label` must have 4 rows.*\(3, 2\)"),
            (
                draw(4, 1),
                BotorchTensorDimensionError,
                r"`pseudo_label` must have 2 columns, received shape \(4, 1\)",
            ),
            (draw(4, 2) / 0, InputDataError, "`pseudo_label` holds 8 NaN or infinite values"),
            (draw(4, 2).float(), InputDataError, "`pseudo_label` must share dtype .*float32"),
        ],
    )
    def test_pseudo_labels(self, label: Tensor, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            adapt_roma_model(make_model(m=2), candidates(), label)

    def test_unfitted_model(self) -> None:
        model = RoMAModel(draw(12, 3), draw(12, 1, seed=1), hidden_sizes=(5, 4))
        with pytest.raises(ModelFittingError, match=r"`model` has not been fitted.*fit_roma"):
            adapt_roma_model(model, candidates())
        model.load_state_dict(make_model().state_dict())
        adapt_roma_model(model, candidates())

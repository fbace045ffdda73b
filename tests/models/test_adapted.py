from __future__ import annotations

from typing import Any

import pytest
import torch
from botorch.acquisition import PosteriorMean, qLogExpectedImprovement, qSimpleRegret
from botorch.exceptions import BotorchTensorDimensionError
from botorch.models.transforms import Normalize, Standardize
from botorch.sampling import SobolQMCNormalSampler
from torch import Tensor

from botorch_roma import AdaptedRoMAModel, RoMAModel, adapt_roma_model
from botorch_roma.adaptation import Adaptation
from botorch_roma.models.adapted import InputBasis
from botorch_roma.network import stacked_forward

B, D = 4, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Values in (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def make_model(m: int = 1, d: int = D, **options: Any) -> RoMAModel:
    """A model whose weights are random but look trained, biases and log-std heads included."""
    model = RoMAModel(draw(12, d), draw(12, m, seed=1), **{"hidden_sizes": (6, 5), **options})
    with torch.no_grad():
        for i, tensor in enumerate(model.network.tensors):
            tensor += 0.5 * draw(*tensor.shape, seed=i) - 0.25
        model.variance_scale.copy_(0.5 + draw(m, seed=2))
    model.fitted.fill_(True)
    return model


def candidates(b: int = B, d: int = D) -> Tensor:
    return draw(b, d, seed=7)


def adapt(model: RoMAModel, X: Tensor | None = None, **options: Any) -> AdaptedRoMAModel:
    X = candidates(d=model.train_X.shape[1]) if X is None else X
    return adapt_roma_model(model, X, **{"radius": 0.2, "num_steps": 3, **options})


def adapt_jointly(model: RoMAModel, X: Tensor, p: int) -> AdaptedRoMAModel:
    """Candidates ``X`` in t-batches of ``p`` points."""
    adaptation = Adaptation(model, radius=0.2, num_steps=3)
    Z = model.eval().standardize_inputs(X)
    return adaptation(Z, model.network(Z)[0], points_per_batch=p)


class TestBatches:
    @pytest.mark.parametrize("options", [{}, {"num_members": 2}, {"m": 2, "num_members": 2}])
    @pytest.mark.parametrize("first_layer", ["dense", "reduced"])
    def test_every_batch_has_its_own_weights(
        self, first_layer: str, options: dict[str, Any]
    ) -> None:
        model, X = make_model(**options), draw(B, 2, D, seed=3)
        posterior = adapt(model, first_layer=first_layer).posterior(X)
        for i in range(B):
            alone = adapt(model, candidates()[i : i + 1], first_layer=first_layer)
            expected = alone.posterior(X[i])
            torch.testing.assert_close(posterior.mean[i], expected.mean[0])
            torch.testing.assert_close(posterior.variance[i], expected.variance[0])
        fitted = model.posterior(X)
        assert not torch.isclose(posterior.mean, fitted.mean).any()

    @pytest.mark.parametrize("mode", ["per_candidate", "shared"])
    def test_shapes_of_x(self, mode: str) -> None:
        model = adapt(make_model(2, num_members=2), mode=mode)
        assert model.batch_shape == torch.Size([B])
        full = model.posterior(draw(2, B, 5, D))
        assert full.mean.shape == (2, B, 5, 2)
        for n in range(2):  # n x B x q x d
            same = model.posterior(draw(2, B, 5, D)[n])
            torch.testing.assert_close(full.mean[n], same.mean)
            torch.testing.assert_close(full.variance[n], same.variance)
        X = draw(5, D)
        expected = model.posterior(X.expand(B, 5, D)).mean
        for shape in ((5, D), (1, 5, D), (1, 1, 5, D)):  # the same points for every candidate
            mean = model.posterior(X.reshape(shape)).mean
            assert mean.shape == (*shape[:-3], B, 5, 2)
            torch.testing.assert_close(mean.reshape(B, 5, 2), expected)

    @pytest.mark.parametrize("shape", [(2, 1, D), (B + 1, 1, D), (B, 2, 1, D)])
    def test_wrong_batch(self, shape: tuple[int, ...]) -> None:
        received = ", ".join(map(str, shape))
        message = (
            rf"`X` must have batch size 4 \(or 1\) in dimension -3 .*received .*\({received}\)"
        )
        with pytest.raises(BotorchTensorDimensionError, match=message):
            adapt(make_model()).posterior(torch.ones(shape, dtype=torch.float64))

    def test_shared_weights(self) -> None:
        model = adapt(make_model(), mode="shared")
        assert model.weights.mean.bias.shape[0] == 1
        X = draw(1, 2, D).expand(B, 2, D)
        mean = model.posterior(X).mean
        torch.testing.assert_close(mean, mean[:1].expand_as(mean))

    def test_one_candidate(self) -> None:
        model = adapt(make_model(), candidates(1))
        assert model.batch_shape == torch.Size([1])
        assert model.posterior(draw(1, 2, D)).mean.shape == (1, 2, 1)

    def test_at_the_candidates_in_an_acquisition_function(self) -> None:
        model = adapt(make_model())
        value = PosteriorMean(model)(candidates().unsqueeze(1))
        expected = model.posterior(candidates().unsqueeze(1)).mean.flatten()
        torch.testing.assert_close(value, expected)

    def test_variance_of_the_fitted_model_is_kept_in_scale(self) -> None:
        model = make_model(num_members=2)
        nothing = adapt(model, num_steps=0).posterior(candidates().unsqueeze(1))
        expected = model.posterior(candidates().unsqueeze(1))
        torch.testing.assert_close(nothing.mean, expected.mean)
        torch.testing.assert_close(nothing.variance, expected.variance)


class TestJointBatches:
    @pytest.mark.parametrize("p", [1, 2, 4])
    @pytest.mark.parametrize("options", [{}, {"m": 2, "num_members": 2}])
    def test_each_point_has_its_own_weights(self, options: dict[str, Any], p: int) -> None:
        model, X = make_model(**options), draw(B, D, seed=3)
        joint, plain = adapt_jointly(model, candidates(), p), adapt(model)
        assert joint.batch_shape == torch.Size([B // p])
        got = joint.posterior(X.view(B // p, p, D))
        expected = plain.posterior(X.unsqueeze(1))
        m = model.num_outputs
        assert got.mean.shape == (B // p, p, m)
        torch.testing.assert_close(got.mean.reshape(B, m), expected.mean[:, 0])
        torch.testing.assert_close(got.variance.reshape(B, m), expected.variance[:, 0])
        repeated = joint.posterior(X.view(B // p, p, D).expand(3, 5, -1, -1, -1))
        torch.testing.assert_close(repeated.mean[2, 4], got.mean)

    def test_pending_points_see_the_fitted_weights(self) -> None:
        model, X, pending = make_model(), draw(2, 2, D, seed=3), draw(3, D, seed=4)
        joint = adapt_jointly(model, candidates(), 2)
        got = joint.posterior(torch.cat([X, pending.expand(2, 3, D)], dim=1))
        torch.testing.assert_close(got.mean[:, :2], joint.posterior(X).mean)
        expected = model.posterior(pending.expand(2, 3, D))
        torch.testing.assert_close(got.mean[:, 2:], expected.mean)
        torch.testing.assert_close(got.variance[:, 2:], expected.variance)

    def test_joint_acquisition_functions(self) -> None:
        model, X = make_model(), draw(2, 2, D, seed=3).requires_grad_()
        joint = adapt_jointly(model, candidates(), 2)
        sampler = SobolQMCNormalSampler(torch.Size([64]), seed=0)
        value = qSimpleRegret(joint, sampler)(X)
        assert value.shape == (2,)
        acquisition = qLogExpectedImprovement(joint, 0.5, sampler, X_pending=draw(1, D))
        (gradient,) = torch.autograd.grad(acquisition(X).sum(), X)
        assert (gradient.norm(dim=-1) > 0).all()

    @pytest.mark.parametrize("shape", [(2, D), (2, 1, D), (1, 2, D), (4, 2, D), (2, 3, 2, D)])
    def test_wrong_shape(self, shape: tuple[int, ...]) -> None:
        joint = adapt_jointly(make_model(), candidates(), 2)
        received = ", ".join(map(str, shape))
        message = rf"`X` must have shape ... x 2 x \(at least 2\) x d .*received \({received}\)"
        with pytest.raises(BotorchTensorDimensionError, match=message):
            joint.posterior(torch.ones(shape, dtype=torch.float64))


class TestWeights:
    @pytest.mark.parametrize("mode", ["per_candidate", "shared"])
    def test_dense_weights(self, mode: str) -> None:
        model = make_model(2, d=9, num_members=2, hidden_sizes=(3, 2))
        dense = adapt(model, mode=mode, first_layer="dense")
        reduced = adapt(model, mode=mode, first_layer="reduced")
        assert dense.basis is None
        assert reduced.basis is not None
        rows = zip(dense.dense_weights().tensors(), reduced.dense_weights().tensors(), strict=True)
        for one, other in rows:
            torch.testing.assert_close(one, other)
        for one, other in zip(
            dense.dense_weights().tensors(), dense.weights.tensors(), strict=True
        ):
            assert one is other

    def test_moments_are_those_of_the_dense_weights(self) -> None:
        model = make_model(num_members=2, d=9)
        adapted, Z = adapt(model, first_layer="reduced"), draw(B, 5, 9, seed=3)
        mean, log_std = adapted.candidate_moments(Z)
        assert mean.shape == log_std.shape == (2, B, 5)
        expected = stacked_forward(
            adapted.dense_weights(), Z.repeat(2, 1, 1), model.network.activation
        )
        torch.testing.assert_close(mean, expected[0].view(2, B, 5))
        torch.testing.assert_close(log_std, expected[1].view(2, B, 5))

    @pytest.mark.parametrize("mode", ["per_candidate", "shared"])
    @pytest.mark.parametrize("first_layer", ["dense", "reduced"])
    def test_input_gradient_norm(self, first_layer: str, mode: str) -> None:
        model = make_model(2, num_members=2)
        adapted = adapt(model, mode=mode, first_layer=first_layer)
        Z = draw(B, D, seed=3).requires_grad_()
        norm = adapted.input_gradient_norm(Z)
        assert norm.shape == (4, B)
        mean, _ = adapted.candidate_moments(Z.unsqueeze(1))
        for s in range(4):
            (gradient,) = torch.autograd.grad(mean[s].sum(), Z, retain_graph=True)
            torch.testing.assert_close(norm[s], gradient.norm(dim=-1))

    def test_weights_are_in_the_module_tree(self) -> None:
        model = adapt(make_model(d=9), first_layer="reduced")
        buffers = list(model.buffers())
        for tensor in (*model.weights.tensors(), *(model.basis or ())):
            assert any(tensor is b for b in buffers)

    def test_fitted_model_is_not_copied(self) -> None:
        model = make_model(input_transform=Normalize(d=D), outcome_transform=Standardize(m=1))
        adapted = adapt(model)
        assert adapted.fitted_model is model
        assert adapted.num_candidates == B
        assert adapted.input_transform is model.input_transform
        assert adapted.outcome_transform is model.outcome_transform


class TestInputBasis:
    def make(self, networks: int = 2, b: int = B, d: int = 9) -> InputBasis:
        shared = torch.linalg.qr(draw(networks, d, 4)).Q
        own = draw(networks, b, d, seed=1)
        own = own - torch.einsum("sbi,sij,skj->sbk", own, shared, shared)
        own = own / own.norm(dim=-1, keepdim=True)
        return InputBasis(shared, own.reshape(-1, d, 1))

    def test_coordinates(self) -> None:
        basis, Z = self.make(), draw(B, 3, 9, seed=2)
        got = basis.coordinates(Z)
        assert got.shape == (2 * B, 3, 5)
        for s in range(2):
            for c in range(B):
                columns = torch.cat([basis.shared[s], basis.own[s * B + c]], dim=-1)
                torch.testing.assert_close(got[s * B + c], Z[c] @ columns)

    def test_coordinates_of_points_of_every_weight_set(self) -> None:
        basis, Z = self.make(), draw(2 * B, 3, 9, seed=2)
        got = basis.coordinates(Z)
        for i in range(2 * B):
            columns = torch.cat([basis.shared[i // B], basis.own[i]], dim=-1)
            torch.testing.assert_close(got[i], Z[i] @ columns)

    def test_coordinates_of_points_of_each_joined_model(self) -> None:
        """Two models of three networks each: the points of a model are seen by its networks."""
        basis, Z = self.make(networks=6, b=1), draw(2, 3, 9, seed=2)
        got = basis.coordinates(Z)
        for i in range(6):
            columns = torch.cat([basis.shared[i], basis.own[i]], dim=-1)
            torch.testing.assert_close(got[i], Z[i % 2] @ columns)

    def test_coordinates_without_own_directions(self) -> None:
        basis, Z = self.make(b=1), draw(1, 7, 9, seed=2)
        got = basis._replace(own=basis.own[..., :0]).coordinates(Z)
        torch.testing.assert_close(got, Z @ basis.shared)

    def test_points_are_not_copied_for_every_network(self, largest_tensor: type[Any]) -> None:
        """The local search has thousands of neighbours, each of thousands of inputs."""
        basis, Z = self.make(networks=5, b=1, d=60), draw(1, 50, 60)
        with largest_tensor(Z) as largest:
            basis.coordinates(Z)
        assert largest.numbers < Z.numel()

    def test_lift_is_the_inverse_in_the_span(self) -> None:
        basis, weight = self.make(), draw(2 * B, 6, 5, seed=3)
        lifted = basis.lift(weight)
        assert lifted.shape == (2 * B, 6, 9)
        torch.testing.assert_close(lifted.norm(dim=(1, 2)), weight.norm(dim=(1, 2)))
        for i in range(2 * B):
            columns = torch.cat([basis.shared[i // B], basis.own[i]], dim=-1)
            torch.testing.assert_close(lifted[i] @ columns, weight[i])

    def test_products_are_the_same_in_coordinates(self) -> None:
        basis, weight, Z = self.make(), draw(2 * B, 6, 5, seed=3), draw(B, 3, 9, seed=2)
        expected = Z.repeat(2, 1, 1) @ basis.lift(weight).mT
        torch.testing.assert_close(basis.coordinates(Z) @ weight.mT, expected)

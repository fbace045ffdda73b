"""What the fitted and the adapted model both promise, and the parts that they share."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from botorch.acquisition import (
    AcquisitionFunction,
    LogExpectedImprovement,
    PosteriorMean,
    UpperConfidenceBound,
    qLogExpectedImprovement,
    qSimpleRegret,
    qUpperConfidenceBound,
)
from botorch.acquisition.objective import LinearMCObjective, ScalarizedPosteriorTransform
from botorch.exceptions import BotorchTensorDimensionError, InputDataError
from botorch.exceptions.errors import UnsupportedError
from botorch.models import ModelList, SingleTaskGP
from botorch.models.transforms import Log, Normalize, Standardize
from botorch.models.transforms.input import Log10
from botorch.posteriors import GPyTorchPosterior, TransformedPosterior
from botorch.sampling import ListSampler, SobolQMCNormalSampler
from linear_operator.operators import DiagLinearOperator
from torch import Tensor

from botorch_roma import AdaptedRoMAModel, RoMAModel, adapt_roma_model
from botorch_roma.models.base import ProxyModel, independent_posterior, select_outputs

B, D = 4, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Values in (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def make_model(m: int = 1, dtype: torch.dtype = torch.float64, **options: Any) -> RoMAModel:
    """A model whose weights are random but look trained, biases and log-std heads included."""
    X, Y = 0.5 + draw(12, D), torch.exp(1.0 + draw(12, m, seed=1))
    model = RoMAModel(X.to(dtype), Y.to(dtype), **{"hidden_sizes": (6, 5), **options})
    with torch.no_grad():
        for i, tensor in enumerate(model.network.tensors):
            tensor += (draw(*tensor.shape, seed=i) - 0.5).to(dtype)
        model.variance_scale.copy_(0.5 + draw(m, seed=2))
    model.fitted.fill_(True)
    return model


def adapt(model: RoMAModel) -> AdaptedRoMAModel:
    X = 0.5 + draw(B, D, seed=7).to(model.train_X)
    return adapt_roma_model(model, X, radius=0.2, num_steps=3)


def points(q: int, *lead: int, seed: int = 3) -> Tensor:
    """``lead x B x q x D``: shapes that both kinds of models accept."""
    return 0.5 + draw(*lead, B, q, D, seed=seed)


@pytest.fixture(params=["fitted", "adapted"])
def make(request: pytest.FixtureRequest) -> Callable[..., ProxyModel]:
    """``make_model``, or the same adapted to B candidates."""
    if request.param == "fitted":
        return make_model
    return lambda *args, **options: adapt(make_model(*args, **options))


Make = Callable[..., ProxyModel]


class TestPosterior:
    @pytest.mark.parametrize("m", [1, 2])
    @pytest.mark.parametrize("members", [1, 3])
    @pytest.mark.parametrize("lead", [(), (1,), (2,), (3, 2)])
    @pytest.mark.parametrize("q", [1, 3])
    def test_shapes(self, make: Make, q: int, lead: tuple[int, ...], members: int, m: int) -> None:
        model, X = make(m, num_members=members), points(q, *lead)
        posterior = model.posterior(X)
        assert posterior.mean.shape == posterior.variance.shape == (*lead, B, q, m)
        assert posterior.rsample(torch.Size([5])).shape == (5, *lead, B, q, m)
        assert posterior.mean.dtype == torch.float64
        assert (posterior.variance > 0).all()
        assert model.num_outputs == m

    def test_points_do_not_influence_each_other(self, make: Make) -> None:
        model, X = make(2), points(3)
        joint = model.posterior(X)
        alone = model.posterior(X[:, 1:2])
        torch.testing.assert_close(joint.mean[:, 1:2], alone.mean)
        torch.testing.assert_close(joint.variance[:, 1:2], alone.variance)

    @pytest.mark.parametrize("idcs", [[0], [2, 0], [-1]])
    @pytest.mark.parametrize("transform", [None, Standardize(m=3), Log()])
    def test_output_indices(
        self, make: Make, transform: Standardize | Log | None, idcs: list[int]
    ) -> None:
        model = make(3, outcome_transform=copy.deepcopy(transform))
        full, some = model.posterior(points(2)), model.posterior(points(2), output_indices=idcs)
        assert type(some) is type(full)
        torch.testing.assert_close(some.mean, full.mean[..., idcs])
        torch.testing.assert_close(some.variance, full.variance[..., idcs])
        assert some.rsample().shape == (1, B, 2, len(idcs))

    @pytest.mark.parametrize("idcs", [[2], [0, -3]])
    def test_output_indices_out_of_range(self, make: Make, idcs: list[int]) -> None:
        message = rf"`output_indices` must be within the 2 outputs .*received \[.*{idcs[-1]}\]"
        with pytest.raises(ValueError, match=message):
            make(2).posterior(points(1), output_indices=idcs)

    def test_posterior_transform(self, make: Make) -> None:
        model, weights = make(2), torch.tensor([2.0, -0.5], dtype=torch.float64)
        full = model.posterior(points(1))
        transform = ScalarizedPosteriorTransform(weights, offset=3.0)
        scalar = model.posterior(points(1), posterior_transform=transform)
        expected = full.mean @ weights.unsqueeze(-1) + 3.0
        torch.testing.assert_close(scalar.mean, expected)
        torch.testing.assert_close(scalar.variance, full.variance @ weights.square().unsqueeze(-1))

    def test_observation_noise(self, make: Make) -> None:
        model = make()
        plain, noisy = model.posterior(points(2)), model.posterior(points(2), None, True)
        assert torch.equal(plain.mean, noisy.mean)
        assert torch.equal(plain.variance, noisy.variance)
        message = r"`observation_noise` as a tensor, received shape \(4, 2, 1\); pass True or False"
        with pytest.raises(UnsupportedError, match=message):
            model.posterior(points(2), observation_noise=torch.ones(B, 2, 1))

    def test_evaluation_mode(self, make: Make) -> None:
        model = make(input_transform=Normalize(d=D))
        model.train()
        model.posterior(points(1))
        assert not model.training

    def test_wrong_number_of_columns(self, make: Make) -> None:
        for d in (1, D + 1):  # one column would broadcast without a word
            message = rf"`X` must have shape ... x {D} .*received \(4, 1, {d}\)"
            with pytest.raises(BotorchTensorDimensionError, match=message):
                make().posterior(torch.ones(B, 1, d, dtype=torch.float64))

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_no_nan_leaves(self, make: Make, bad: float) -> None:
        """Not even of one member of one output; an optimiser is told by its gradients."""
        model, X = make(2, num_members=2), points(2)
        X[1, 0, 1] = bad
        message = r"`X` holds 1 NaN or infinite values \(the first at index \[1, 0, 1\]\)"
        with pytest.raises(InputDataError, match=message):
            model.posterior(X)
        if isinstance(model, RoMAModel):
            with pytest.raises(InputDataError, match=message):
                model(X)
        assert model.posterior(X.requires_grad_()).mean.isnan().any()

    def test_too_far_from_the_data(self, make: Make) -> None:
        X = points(1)
        X[1, 0, 0] = 1e300
        message = (
            r"`X` lies too far from the data, or .*, 0\.\d+ to 1e\+300, .* torch\.float64; keep"
        )
        with pytest.raises(InputDataError, match=message):
            make(num_members=2).posterior(X)

    def test_thousands_of_joint_points(self, make: Make) -> None:
        for m, transform in ((1, None), (1, Standardize(m=1)), (2, None), (2, Standardize(m=2))):
            model = make(m, num_members=2, outcome_transform=transform)
            posterior = model.posterior(points(4_096))
            assert isinstance(posterior.distribution.lazy_covariance_matrix, DiagLinearOperator)
            assert posterior.variance.shape == (B, 4_096, m)
            assert posterior.rsample(torch.Size([2])).shape == (2, B, 4_096, m)

    def test_samples_follow_mean_and_variance(self, make: Make) -> None:
        posterior = make(2).posterior(points(2))
        torch.manual_seed(0)
        samples = posterior.rsample(torch.Size([20_000]))
        torch.testing.assert_close(samples.mean(dim=0), posterior.mean, rtol=0.01, atol=0.0)
        torch.testing.assert_close(samples.var(dim=0), posterior.variance, rtol=0.06, atol=0.0)


class TestTransforms:
    def test_standardize_changes_nothing(self, make: Make) -> None:
        # outcomes are z-scored inside the model anyway
        plain, transformed = make(2), make(2, outcome_transform=Standardize(m=2))
        got, expected = transformed.posterior(points(2)), plain.posterior(points(2))
        torch.testing.assert_close(got.mean, expected.mean)
        torch.testing.assert_close(got.variance, expected.variance)

    def test_log(self, make: Make) -> None:
        model = make(outcome_transform=Log())
        posterior = model.posterior(points(2))
        assert isinstance(posterior, TransformedPosterior)
        del model.outcome_transform
        base = model.posterior(points(2))
        expected = torch.exp(base.mean + 0.5 * base.variance)
        torch.testing.assert_close(posterior.mean, expected)
        assert (posterior.rsample(torch.Size([100])) > 0).all()

    def test_input_transforms(self, make: Make) -> None:
        plain = make().posterior(points(2))
        # an affine transform in front of the z-score changes nothing, another one does
        affine = make(input_transform=Normalize(d=D)).posterior(points(2))
        torch.testing.assert_close(affine.mean, plain.mean)
        curved = make(input_transform=Log10(indices=[1])).posterior(points(2))
        assert not torch.allclose(curved.mean, plain.mean)

    def test_transforms_learn_from_the_training_data_only(self, make: Make) -> None:
        transforms = {"input_transform": Normalize(d=D), "outcome_transform": Standardize(m=1)}
        model = make(**transforms)
        expected = model.posterior(points(1)).mean
        for training in (True, False):
            model.train(training)
            model.standardize_inputs(100.0 * points(1))
            if isinstance(model, RoMAModel):
                model.forward(100.0 * points(1))
                model.standardize_outcomes(torch.full((2, 1), 99.0, dtype=torch.float64))
            assert torch.equal(model.posterior(points(1)).mean, expected)


class TestUnsupported:
    def test_conditioning(self, make: Make) -> None:
        model = make()
        message = rf"{type(model).__name__} cannot be conditioned .*\(shape \(4, 1, 3\)\); build"
        with pytest.raises(UnsupportedError, match=message):
            model.condition_on_observations(points(1), torch.zeros(B, 1, 1))

    def test_fantasies(self, make: Make) -> None:
        model = make()
        message = rf"{type(model).__name__} does not support fantasies .*shape \(4, 1, 3\)\)"
        with pytest.raises(UnsupportedError, match=message):
            model.fantasize(points(1), sampler=SobolQMCNormalSampler(torch.Size([2])))


def confidence_bound(model: ProxyModel, X: Tensor) -> Tensor:
    posterior = model.posterior(X)
    return (posterior.mean + 0.2**0.5 * posterior.variance.sqrt()).squeeze(-1).squeeze(-1)


def expected_improvement(model: ProxyModel, X: Tensor) -> Tensor:
    posterior = model.posterior(X)
    normal = torch.distributions.Normal(0.0, 1.0)
    std = posterior.variance.sqrt()
    u = (posterior.mean - 4.0) / std
    improvement = std * (u * normal.cdf(u) + normal.log_prob(u).exp())
    return improvement.log().squeeze(-1).squeeze(-1)


def mean(model: ProxyModel, X: Tensor) -> Tensor:
    return model.posterior(X).mean.squeeze(-1).squeeze(-1)


SAMPLER = SobolQMCNormalSampler(torch.Size([2_048]), seed=0)
#: acquisition function, what it shall be at q = 1, relative tolerance
ACQUISITION_FUNCTIONS: list[Any] = [
    pytest.param(PosteriorMean, mean, 1e-9, id="PosteriorMean"),
    pytest.param(lambda m: UpperConfidenceBound(m, 0.2), confidence_bound, 1e-9, id="UCB"),
    pytest.param(lambda m: LogExpectedImprovement(m, 4.0), expected_improvement, 1e-6, id="LogEI"),
    pytest.param(
        lambda m: qLogExpectedImprovement(m, 4.0, SAMPLER), expected_improvement, 0.05, id="qLogEI"
    ),
    pytest.param(
        lambda m: qUpperConfidenceBound(m, 0.2, SAMPLER), confidence_bound, 0.01, id="qUCB"
    ),
    pytest.param(lambda m: qSimpleRegret(m, SAMPLER), mean, 0.01, id="qSimpleRegret"),
]


class TestAcquisition:
    @pytest.mark.parametrize(("build", "expected", "rtol"), ACQUISITION_FUNCTIONS)
    def test_value(
        self,
        make: Make,
        build: Callable[[ProxyModel], AcquisitionFunction],
        expected: Callable[[ProxyModel, Tensor], Tensor],
        rtol: float,
    ) -> None:
        model = make(num_members=2)
        value = build(model)(points(1))
        assert value.shape == (B,)
        torch.testing.assert_close(value, expected(model, points(1)), rtol=rtol, atol=rtol)

    @pytest.mark.parametrize(("build", "expected", "rtol"), ACQUISITION_FUNCTIONS)
    def test_gradient_by_finite_differences(
        self,
        make: Make,
        build: Callable[[ProxyModel], AcquisitionFunction],
        expected: Callable[[ProxyModel, Tensor], Tensor],
        rtol: float,
    ) -> None:
        acquisition = build(make(num_members=2, input_transform=Normalize(d=D)))
        X = points(1).requires_grad_()
        (gradient,) = torch.autograd.grad(acquisition(X).sum(), X)
        for j in range(D):
            step = torch.zeros(D, dtype=torch.float64)
            step[j] = 1e-5
            with torch.no_grad():
                slope = (acquisition(X + step) - acquisition(X - step)) / 2e-5
            torch.testing.assert_close(gradient[:, 0, j], slope, rtol=1e-4, atol=1e-6)

    def test_joint_value_is_that_of_the_best_point(self, make: Make) -> None:
        model, X = make(), points(3)
        joint = qSimpleRegret(model, SAMPLER)(X)
        single = model.posterior(X).mean.squeeze(-1).max(dim=-1).values
        assert (joint > single).all()

    def test_pending_points(self, make: Make) -> None:
        model, X = make(), points(1)
        acquisition = qLogExpectedImprovement(model, 4.0, SAMPLER)
        alone = acquisition(X)
        acquisition.set_X_pending(points(1)[0])
        assert (acquisition(X) > alone).all()

    @pytest.mark.parametrize("q", [1, 2])
    def test_beside_a_gaussian_process(self, make: Make, q: int) -> None:
        proxy, X = make(), points(q)
        gp = SingleTaskGP(draw(6, D), draw(6, 1, seed=1), input_transform=Normalize(d=D))
        models = ModelList(gp, proxy)
        assert models.num_outputs == 2
        posterior = models.posterior(X)
        assert posterior.mean.shape == (B, q, 2)
        torch.testing.assert_close(posterior.mean[..., 1:], proxy.posterior(X).mean)
        torch.testing.assert_close(posterior.variance[..., 1:], proxy.posterior(X).variance)
        torch.testing.assert_close(posterior.mean[..., :1], gp.posterior(X).mean)
        objective = LinearMCObjective(torch.tensor([0.0, 1.0], dtype=torch.float64))
        sampler = ListSampler(copy.deepcopy(SAMPLER), copy.deepcopy(SAMPLER))
        value = qSimpleRegret(models, sampler, objective=objective)(X)
        expected = qSimpleRegret(proxy, SAMPLER)(X)
        torch.testing.assert_close(value, expected, rtol=0.01, atol=0.0)

    def test_scalarized(self, make: Make) -> None:
        model = make(2)
        transform = ScalarizedPosteriorTransform(torch.tensor([1.0, 3.0], dtype=torch.float64))
        value = PosteriorMean(model, posterior_transform=transform)(points(1))
        expected = model.posterior(points(1)).mean @ torch.tensor([1.0, 3.0], dtype=torch.float64)
        torch.testing.assert_close(value, expected.squeeze(-1))


class TestCopies:
    def test_deepcopy(self, make: Make) -> None:
        model = make(2, num_members=2, outcome_transform=Standardize(m=2))
        expected = model.posterior(points(1)).mean
        twin = copy.deepcopy(model)
        assert torch.equal(twin.posterior(points(1)).mean, expected)
        with torch.no_grad():
            for tensor in (*twin.parameters(), *twin.buffers()):
                if tensor.is_floating_point():
                    tensor.mul_(0.5)
        assert torch.equal(model.posterior(points(1)).mean, expected)

    def test_saved_state_restores_predictions(self, make: Make) -> None:
        model, file = make(2, num_members=2, input_transform=Normalize(d=D)), io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        other = make(2, num_members=2, input_transform=Normalize(d=D))
        with torch.no_grad():
            for tensor in (*other.parameters(), *other.buffers()):
                if tensor.is_floating_point():
                    tensor.mul_(0.5)
        expected = model.posterior(points(1))
        assert not torch.equal(other.posterior(points(1)).mean, expected.mean)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other.posterior(points(1)).mean, expected.mean)
        assert torch.equal(other.posterior(points(1)).variance, expected.variance)

    def test_float32(self, make: Make) -> None:
        expected = make(2).posterior(points(2))
        posterior = make(2, dtype=torch.float32).posterior(points(2).float())
        assert posterior.mean.dtype == posterior.variance.dtype == torch.float32
        torch.testing.assert_close(posterior.mean.double(), expected.mean, rtol=1e-4, atol=0.0)

    def test_cast(self, make: Make) -> None:
        model = make(input_transform=Normalize(d=D), outcome_transform=Standardize(m=1))
        expected = model.posterior(points(2)).mean
        model.to(torch.float32)
        single = model.posterior(points(2).float()).mean
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=0.0)

    def test_analytic_functions_cast_a_float32_model(self, make: Make) -> None:
        model = make(dtype=torch.float32)  # documented: prefer double
        assert PosteriorMean(model)(points(1)).dtype == torch.float64


class ToyModel(ProxyModel):
    """Two members and two outputs with given moments, on inputs that are only shifted."""

    def __init__(self, means: Tensor, variances: Tensor) -> None:
        super().__init__()
        self.means, self.variances = means, variances
        self.register_buffer("x_mean", torch.tensor([1.0]))
        self.register_buffer("x_std", torch.tensor([2.0]))
        self.register_buffer("y_mean", torch.tensor([10.0, 20.0]))
        self.register_buffer("y_std", torch.tensor([3.0, 0.5]))
        self.register_buffer("variance_scale", torch.tensor([1.0, 4.0]))

    def _member_moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        self.seen = Z
        return self.means, self.variances


def test_variance_is_calibrated_head_variance_plus_spread() -> None:
    means = torch.tensor([[[1.0, -1.0]], [[3.0, -1.0]]])  # members x q = 1 x outputs
    variances = torch.tensor([[[0.5, 0.25]], [[1.5, 0.75]]])
    model = ToyModel(means, variances)
    posterior = model.posterior(torch.tensor([[5.0]]))
    assert torch.equal(model.seen, torch.tensor([[2.0]]))
    torch.testing.assert_close(posterior.mean, torch.tensor([[10 + 3 * 2.0, 20 - 0.5]]))
    # 9 * (mean(.5, 1.5) * 1 + var(1, 3)) and .25 * (mean(.25, .75) * 4 + 0)
    torch.testing.assert_close(posterior.variance, torch.tensor([[18.0, 0.5]]))


def test_single_member_has_no_spread() -> None:
    model = ToyModel(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.5, 0.25]]]))
    variance = model.posterior(torch.tensor([[5.0]])).variance
    torch.testing.assert_close(variance, torch.tensor([[9 * 0.5, 0.25 * 0.25 * 4]]))


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_independent_posterior(batch: tuple[int, ...], m: int) -> None:
    mean, variance = draw(*batch, 5, m), 0.1 + draw(*batch, 5, m, seed=1)
    posterior = independent_posterior(mean, variance)
    assert isinstance(posterior, GPyTorchPosterior)
    torch.testing.assert_close(posterior.mean, mean)
    torch.testing.assert_close(posterior.variance, variance)
    assert isinstance(posterior.distribution.lazy_covariance_matrix, DiagLinearOperator)
    some = select_outputs(posterior, [-1])
    torch.testing.assert_close(some.mean, mean[..., -1:])
    torch.testing.assert_close(some.variance, variance[..., -1:])

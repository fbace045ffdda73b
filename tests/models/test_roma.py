from __future__ import annotations

import copy
import inspect
import math
import warnings
from typing import Any

import pytest
import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import BotorchTensorDimensionError, InputDataError, InputDataWarning
from botorch.models.transforms import Log, Normalize, Round, Standardize
from botorch.models.transforms.input import (
    ChainedInputTransform,
    InputTransform,
    Log10,
    OneHotToNumeric,
)
from botorch.utils.datasets import SupervisedDataset
from torch import Tensor

from botorch_roma import RoMAModel
from botorch_roma.latent import Encoding, LogitsEncoding, OneHotEncoding, Vocabulary
from botorch_roma.network import stacked_forward

N, D = 12, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Values in (0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


TRAIN_X, TEST_X = 0.5 + draw(N, D), 0.5 + draw(7, D, seed=9)


def train_Y(m: int = 1) -> Tensor:
    return torch.exp(1.0 + draw(N, m, seed=1))


def make_model(m: int = 1, X: Tensor = TRAIN_X, **options: Any) -> RoMAModel:
    """A model whose weights are random but look trained, biases and log-std heads included."""
    model = RoMAModel(X, train_Y(m), **{"hidden_sizes": (6, 5), **options})
    with torch.no_grad():
        for i, tensor in enumerate(model.network.tensors):
            tensor += 0.5 * draw(*tensor.shape, seed=i) - 0.25
        model.variance_scale.copy_(0.5 + draw(m, seed=2))
    model.fitted.fill_(True)
    return model


def assert_same_posterior(got: RoMAModel, expected: RoMAModel, X: Tensor = TEST_X) -> None:
    one, other = got.posterior(X), expected.posterior(X)
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.variance, other.variance)


class TestConstruction:
    def test_properties(self) -> None:
        model = RoMAModel(TRAIN_X, train_Y(2), num_members=3, hidden_sizes=(6,))
        assert model.num_outputs == 2
        assert model.batch_shape == torch.Size()
        assert model.network.num_networks == 6
        assert not model.is_fitted
        assert torch.equal(model.train_inputs[0], TRAIN_X)
        assert len(model.train_inputs) == 1
        assert torch.equal(model.train_targets, train_Y(2))
        assert not hasattr(model, "input_transform")
        assert not hasattr(model, "outcome_transform")

    def test_arguments_that_ax_looks_for(self) -> None:
        arguments = inspect.getfullargspec(RoMAModel.__init__).args
        assert arguments == ["self", "train_X", "train_Y", "input_transform", "outcome_transform"]

    def test_data_is_copied(self) -> None:
        X, Y = TRAIN_X.clone().requires_grad_(), train_Y().clone()
        model = RoMAModel(X, Y)
        with torch.no_grad():
            X.zero_()
            Y.zero_()
        assert torch.equal(model.train_X, TRAIN_X)
        assert torch.equal(model.train_Y, train_Y())
        assert not model.train_X.requires_grad

    def test_scores_are_standardised(self) -> None:
        transforms = {"input_transform": Log10(indices=[0]), "outcome_transform": Log()}
        model = RoMAModel(TRAIN_X, train_Y(2), **transforms)
        for scores in (
            model.standardize_inputs(TRAIN_X),
            model.standardize_outcomes(train_Y(2)),
        ):
            columns = scores.shape[1]
            torch.testing.assert_close(scores.mean(dim=0), torch.zeros(columns).double())
            torch.testing.assert_close(
                scores.std(dim=0, correction=0), torch.ones(columns).double()
            )
        torch.testing.assert_close(
            model.standardize_inputs(TRAIN_X)[:, 0],
            (TRAIN_X[:, 0].log10() - TRAIN_X[:, 0].log10().mean())
            / TRAIN_X[:, 0].log10().std(correction=0),
        )

    def test_seeds(self) -> None:
        first, again = RoMAModel(TRAIN_X, train_Y(), seed=3), RoMAModel(TRAIN_X, train_Y(), seed=3)
        assert_same_posterior(first, again)
        other = RoMAModel(TRAIN_X, train_Y(), seed=4)
        assert not torch.equal(first.posterior(TEST_X).mean, other.posterior(TEST_X).mean)
        several = RoMAModel(TRAIN_X, train_Y(), seed=2, num_members=3)
        torch.testing.assert_close(several.forward(TEST_X)[1], first.forward(TEST_X)[0])

    def test_outputs_start_differently(self) -> None:
        model = RoMAModel(TRAIN_X, train_Y(3), num_members=4)
        assert len(set(model.network_seeds(0))) == 12

    def test_global_generator_is_left_alone(self) -> None:
        before = torch.get_rng_state()
        RoMAModel(TRAIN_X, train_Y())
        assert torch.equal(before, torch.get_rng_state())

    def test_duplicate_rows_are_fine(self) -> None:
        X, Y = TRAIN_X.repeat(2, 1), train_Y().repeat(2, 1)
        expected = RoMAModel(TRAIN_X, train_Y()).posterior(TEST_X).mean
        torch.testing.assert_close(RoMAModel(X, Y).posterior(TEST_X).mean, expected)


class TestPosterior:
    @pytest.mark.parametrize("m", [1, 2])
    @pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3)])
    @pytest.mark.parametrize("q", [1, 5])
    def test_shapes(self, q: int, batch: tuple[int, ...], m: int) -> None:
        model = make_model(m, num_members=2)
        X = 0.5 + draw(*batch, q, D)
        posterior = model.posterior(X)
        assert posterior.mean.shape == posterior.variance.shape == (*batch, q, m)
        assert model(X).shape == (2, *batch, q, m)
        flat = model.posterior(X.reshape(-1, D)).mean.reshape(*batch, q, m)
        torch.testing.assert_close(posterior.mean, flat)

    def test_values_come_from_the_networks(self) -> None:
        model = make_model(2, num_members=3)
        Z = (TEST_X - TRAIN_X.mean(dim=0)) / TRAIN_X.std(dim=0, correction=0)
        mean, log_std = stacked_forward(model.network.weights, Z, model.network.activation)
        Y = train_Y(2)
        posterior = model.posterior(TEST_X)
        for k in range(2):
            means = torch.stack([mean[e * 2 + k] for e in range(3)])
            heads = torch.stack([log_std[e * 2 + k].exp() ** 2 for e in range(3)])
            center, scale = Y[:, k].mean(), Y[:, k].std(correction=0)
            expected = center + scale * means.mean(dim=0)
            torch.testing.assert_close(posterior.mean[:, k], expected)
            spread = means.var(dim=0, correction=0)
            assert (spread > 0).all()
            variance = scale**2 * (model.variance_scale[k] * heads.mean(dim=0) + spread)
            torch.testing.assert_close(posterior.variance[:, k], variance)

    def test_forward_is_the_members(self) -> None:
        model = make_model(2, num_members=3)
        values = model(TEST_X)
        torch.testing.assert_close(values.mean(dim=0), model.posterior(TEST_X).mean)
        for e in range(3):
            alone = model.subset_members([e]).posterior(TEST_X).mean
            torch.testing.assert_close(values[e], alone)

    def test_constant_column_is_not_divided_by_its_rounding(self) -> None:
        # the standard deviation of 7 times 0.1 comes out as 1e-17, where that is all there is
        for n in range(2, 30):
            with pytest.warns(InputDataWarning, match="constant"):
                model = RoMAModel(torch.full((n, 1), 0.1, dtype=torch.float64), draw(n, 1))
            assert model.x_std == 1.0
            Z = model.standardize_inputs(torch.tensor([[0.3]], dtype=torch.float64))
            assert Z.item() == pytest.approx(0.2)


class TestInputTransforms:
    def test_as_if_the_data_had_been_transformed(self) -> None:
        transformed = make_model(input_transform=Log10(indices=[0, 2]))
        X, test_X = TRAIN_X.clone(), TEST_X.clone()
        X[:, [0, 2]], test_X[:, [0, 2]] = X[:, [0, 2]].log10(), test_X[:, [0, 2]].log10()
        plain = make_model(X=X)
        expected = plain.posterior(test_X)
        got = transformed.posterior(TEST_X)
        torch.testing.assert_close(got.mean, expected.mean)
        torch.testing.assert_close(got.variance, expected.variance)

    def test_training_inputs_stay_in_the_users_space(self) -> None:
        model = make_model(input_transform=Normalize(d=D))
        for _ in range(2):
            model.posterior(TEST_X)
            model.train()
            model.eval()
        assert torch.equal(model.train_inputs[0], TRAIN_X)

    def test_nothing_is_learned_after_construction(self) -> None:
        transforms = {"input_transform": Normalize(d=D), "outcome_transform": Standardize(m=1)}
        model = make_model(**transforms)
        assert model.training
        model.forward(100.0 * TEST_X)
        model.standardize_outcomes(train_Y() + 100.0)
        torch.testing.assert_close(model.input_transform.bounds[1], TRAIN_X.max(dim=0).values)
        torch.testing.assert_close(model.outcome_transform.means[0], train_Y().mean(dim=0))

    def test_transform_that_is_off_in_training(self) -> None:
        rounded = Round(integer_indices=[0], transform_on_train=False)
        model = RoMAModel(torch.cat([4 * TRAIN_X[:, :1], TRAIN_X[:, 1:]], 1), train_Y(), rounded)
        model.eval()
        scores = model.standardize_inputs(model.train_X)
        torch.testing.assert_close(scores.mean(dim=0), torch.zeros(D).double())

    def test_transform_that_changes_the_number_of_columns(self) -> None:
        X = torch.cat([TRAIN_X, torch.eye(4).double().repeat(3, 1)], dim=1)
        transform = OneHotToNumeric(
            dim=D + 4, categorical_features={D: 4}, transform_on_train=False
        )
        model = RoMAModel(X, train_Y(), input_transform=transform)
        assert model.network.input_dim == D + 1
        assert model.posterior(X).mean.shape == (N, 1)


DNA = Vocabulary("acgt")
TOKENS = torch.tensor([[i % 4, i // 3, (i // 2) % 4] for i in range(N)]).double()


class TestEncodings:
    @pytest.mark.parametrize("encoding", [OneHotEncoding(DNA, D), LogitsEncoding(DNA, D)])
    def test_tokens_for_the_user_and_vectors_for_the_proxy(self, encoding: Encoding) -> None:
        model = make_model(X=TOKENS, input_transform=encoding)
        plain = make_model(X=encoding.encode(TOKENS))
        assert model.network.input_dim == encoding.encoded_dim
        assert torch.equal(model.train_inputs[0], TOKENS)
        expected, got = plain.posterior(encoding.encode(TOKENS[:5])), model.posterior(TOKENS[:5])
        torch.testing.assert_close(got.mean, expected.mean)
        torch.testing.assert_close(got.variance, expected.variance)

    def test_no_word_about_constant_tokens(self) -> None:
        """Of an encoding's columns many never vary."""
        X = TOKENS.clone()
        X[:, 1] = 2.0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = make_model(X=X, input_transform=OneHotEncoding(DNA, D))
        assert torch.isfinite(model.posterior(TOKENS).mean).all()
        with pytest.warns(InputDataWarning, match=r"constant in columns \[1\]"):
            make_model(X=X)

    def test_unknown_tokens(self) -> None:
        with pytest.raises(ValueError, match=r"integers from 0 to 3, received .*float64 with 4"):
            make_model(X=TOKENS + 1.0, input_transform=OneHotEncoding(DNA, D))
        model = make_model(X=TOKENS, input_transform=OneHotEncoding(DNA, D))
        with pytest.raises(ValueError, match=r"`X` must have 3 tokens a row, received .*\(2, 5\)"):
            model.posterior(torch.zeros(2, 5).double())


class TestEncoded:
    @pytest.mark.parametrize(
        ("X", "transform"),
        [
            (TOKENS, OneHotEncoding(DNA, D)),
            (TRAIN_X, Normalize(d=D)),
            (TRAIN_X, Log10(indices=[1])),
            (TRAIN_X, None),
        ],
        ids=["one-hot", "normalize", "log", "none"],
    )
    def test_inputs_are_what_the_transform_makes_of_designs(
        self, X: Tensor, transform: Any
    ) -> None:
        model = make_model(
            2, X=X, input_transform=transform, outcome_transform=Standardize(m=2), num_members=2
        )
        encoded = model.encoded()
        Z = X if transform is None else transform(X)
        assert torch.equal(encoded.train_X, Z)
        assert not hasattr(encoded, "input_transform")
        assert hasattr(model, "input_transform") == (transform is not None)
        assert torch.equal(model.train_X, X)
        assert torch.equal(encoded.train_Y, model.train_Y)
        assert encoded.is_fitted
        one, other = encoded.posterior(Z[:4]), model.posterior(X[:4])
        torch.testing.assert_close(one.mean, other.mean)
        torch.testing.assert_close(one.variance, other.variance)

    def test_whatever_the_mode(self) -> None:
        """Also a transform that is off in training."""
        transform = Round(integer_indices=[0], transform_on_train=False)
        model = make_model(X=4.0 * TRAIN_X, input_transform=transform)
        for mode in (True, False):
            encoded = model.train(mode).encoded()
            assert torch.equal(encoded.train_X[:, 0], (4.0 * TRAIN_X[:, 0]).round())

    def test_is_a_copy(self) -> None:
        model = make_model(X=TOKENS, input_transform=OneHotEncoding(DNA, D))
        expected = model.posterior(TOKENS).mean
        encoded = model.encoded()
        with torch.no_grad():
            for tensor in (*encoded.parameters(), encoded.train_X, encoded.y_mean):
                tensor.mul_(0.5)
        assert torch.equal(model.posterior(TOKENS).mean, expected)
        assert torch.equal(model.train_X, TOKENS)
        assert not encoded.train_X.requires_grad


class TestSubsets:
    @pytest.mark.parametrize("transform", [None, "standardize", "log"])
    @pytest.mark.parametrize("idcs", [[0], [2, 0], [-1]])
    def test_outputs(self, idcs: list[int], transform: str | None) -> None:
        options = {"standardize": Standardize(m=3), "log": Log(), None: None}
        model = make_model(3, num_members=2, outcome_transform=options[transform])
        some, full = model.subset_output(idcs), model.posterior(TEST_X)
        assert some.num_outputs == len(idcs)
        assert some.num_members == 2
        assert some.is_fitted
        torch.testing.assert_close(some.posterior(TEST_X).mean, full.mean[..., idcs])
        torch.testing.assert_close(some.posterior(TEST_X).variance, full.variance[..., idcs])
        assert torch.equal(some.train_targets, model.train_targets[:, idcs])
        torch.testing.assert_close(
            some.standardize_outcomes(some.train_targets),
            model.standardize_outcomes(model.train_targets)[:, idcs],
        )

    def test_members(self) -> None:
        model = make_model(2, num_members=3, outcome_transform=Standardize(m=2))
        some = model.subset_members([2, 0])
        assert (some.num_members, some.num_outputs) == (2, 2)
        torch.testing.assert_close(some(TEST_X), model(TEST_X)[[2, 0]])
        assert torch.equal(model.subset_members([0, 1, 2])(TEST_X), model(TEST_X))

    def test_spread_of_the_members_is_the_largest_of_all_outputs(self) -> None:
        model = make_model(2, num_members=3)
        members = (model(TEST_X) - model.y_mean) / model.y_std  # E x n x m
        expected = members.std(dim=0, correction=0).max(dim=-1).values
        torch.testing.assert_close(model.member_spread(TEST_X), expected)
        assert torch.equal(make_model(2).member_spread(TEST_X), torch.zeros(len(TEST_X)))

    def test_a_subset_is_a_copy(self) -> None:
        model = make_model(2, num_members=2, outcome_transform=Standardize(m=2))
        expected = model.posterior(TEST_X).mean
        for some in (model.subset_output([0]), model.subset_members([1])):
            with torch.no_grad():
                for tensor in (*some.parameters(), *some.buffers()):
                    if tensor.is_floating_point():
                        tensor.mul_(0.5)
        assert torch.equal(model.posterior(TEST_X).mean, expected)

    def test_subset_of_a_subset(self) -> None:
        model = make_model(3, num_members=2)
        some = model.subset_output([2, 1]).subset_members([1]).subset_output([1])
        torch.testing.assert_close(some(TEST_X)[0, :, 0], model(TEST_X)[1, :, 1])

    @pytest.mark.parametrize("idcs", [[], [2], [-3]])
    def test_outputs_out_of_range(self, idcs: list[int]) -> None:
        message = r"`idcs` must be within the 2 outputs of the model, received \["
        with pytest.raises(ValueError, match=message):
            make_model(2).subset_output(idcs)

    @pytest.mark.parametrize("idcs", [[], [2], [-1]])
    def test_members_out_of_range(self, idcs: list[int]) -> None:
        message = r"`idcs` must be within the 2 members of the model, received \["
        with pytest.raises(ValueError, match=message):
            make_model(num_members=2).subset_members(idcs)


class TestConstructInputs:
    def dataset(self, **options: Any) -> SupervisedDataset:
        names: dict[str, Any] = {"feature_names": ["a", "b", "c"], "outcome_names": ["y"]}
        return SupervisedDataset(TRAIN_X, train_Y(), **names, **options)

    def test_foreign_arguments(self) -> None:
        foreign = {"categorical_features": [0], "task_feature": None, "fidelity_features": []}
        inputs = RoMAModel.construct_inputs(self.dataset(), **foreign)
        assert set(inputs) == {"train_X", "train_Y"}
        assert torch.equal(inputs["train_X"], TRAIN_X)
        assert torch.equal(inputs["train_Y"], train_Y())

    def test_own_arguments(self) -> None:
        options = {"hidden_sizes": (7,), "num_members": 2, "activation": "tanh", "seed": 5}
        inputs = RoMAModel.construct_inputs(self.dataset(), other=1, **options)
        model = RoMAModel(**inputs)
        assert model.network.hidden_sizes == (7,)
        assert (model.num_members, model.seed) == (2, 5)
        assert model.network.activation_name == "tanh"

    def test_noise_variances(self) -> None:
        Yvar = draw(N, 1, seed=3)
        inputs = RoMAModel.construct_inputs(self.dataset(Yvar=Yvar))
        assert set(inputs) == {"train_X", "train_Y", "train_Yvar"}
        assert torch.equal(RoMAModel(**inputs).train_Yvar, Yvar)

    def test_some_unknown_noise_variances(self) -> None:
        Yvar = draw(N, 1, seed=3)
        Yvar[2:4] = torch.nan
        with pytest.warns(InputDataWarning, match="2 of 12 measurements have no known noise"):
            inputs = RoMAModel.construct_inputs(self.dataset(Yvar=Yvar))
        assert set(inputs) == {"train_X", "train_Y"}


class TestNoiseVariances:
    def test_none_by_default(self) -> None:
        assert RoMAModel(TRAIN_X, train_Y()).standardized_noise_variances() is None

    @pytest.mark.parametrize("transform", [False, True])
    def test_in_units_of_the_standardised_outcome(self, transform: bool) -> None:
        Yvar = draw(N, 2, seed=3)
        outcome_transform = Standardize(m=2) if transform else None
        model = RoMAModel(TRAIN_X, train_Y(2), outcome_transform=outcome_transform, train_Yvar=Yvar)
        expected = Yvar / train_Y(2).var(dim=0, correction=0)
        torch.testing.assert_close(model.standardized_noise_variances(), expected)

    def test_subsets(self) -> None:
        Yvar = draw(N, 3, seed=3)
        model = RoMAModel(TRAIN_X, train_Y(3), num_members=2, train_Yvar=Yvar)
        assert torch.equal(model.subset_output([2, 0]).train_Yvar, Yvar[:, [2, 0]])
        assert torch.equal(model.subset_members([1]).train_Yvar, Yvar)

    def test_is_a_copy_and_not_in_the_state(self) -> None:
        Yvar = draw(N, 1, seed=3)
        model = RoMAModel(TRAIN_X, train_Y(), train_Yvar=Yvar)
        Yvar.zero_()
        assert model.train_Yvar.all()
        assert "train_Yvar" not in model.state_dict()

    @pytest.mark.parametrize(
        ("Yvar", "error", "message"),
        [
            (
                torch.ones(N, 2).double(),
                BotorchTensorDimensionError,
                r"\(12, 1\), received \(12, 2",
            ),
            (torch.ones(N, 1), InputDataError, "torch.float32 on cpu and torch.float64"),
            (-torch.ones(N, 1).double(), InputDataError, r"received -1 at index \[0, 0\]"),
            (torch.full((N, 1), torch.nan).double(), InputDataError, "12 NaN"),
        ],
    )
    def test_refused(self, Yvar: Tensor, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=f"`train_Yvar` .*{message}"):
            RoMAModel(TRAIN_X, train_Y(), train_Yvar=Yvar)


class TestStateDict:
    def options(self) -> dict[str, Any]:
        return {
            "input_transform": Normalize(d=D),
            "outcome_transform": Standardize(m=2),
            "num_members": 2,
            "hidden_sizes": (6, 5),
        }

    def test_restores_predictions(self) -> None:
        model = make_model(2, **self.options())
        other = RoMAModel(TRAIN_X, train_Y(2), seed=8, **self.options())
        other.load_state_dict(model.state_dict())
        assert other.is_fitted
        assert_same_posterior(other, model)

    def test_into_a_model_built_on_fewer_rows(self) -> None:
        model = make_model(2, **self.options())
        other = RoMAModel(3 * TRAIN_X[:4], 5 * train_Y(2)[:4], seed=8, **self.options())
        other.load_state_dict(model.state_dict())
        assert_same_posterior(other, model)
        torch.testing.assert_close(
            other.standardize_outcomes(train_Y(2)), model.standardize_outcomes(train_Y(2))
        )

    def test_nothing_in_it_is_shaped_by_the_rows(self) -> None:
        few = RoMAModel(TRAIN_X[:5], train_Y(2)[:5], **self.options()).state_dict()
        many = make_model(2, **self.options()).state_dict()
        assert {k: v.shape for k, v in few.items()} == {k: v.shape for k, v in many.items()}

    def test_all_weights_are_in_the_module_tree(self) -> None:
        model = make_model(2, **self.options())
        for tensor in (*model.network.weights.tensors(), model.y_mean, model.x_std):
            assert any(tensor is t for t in (*model.parameters(), *model.buffers()))


class TestDtypesAndDevices:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_follows_the_data(self, device: torch.device, dtype: torch.dtype) -> None:
        data = {"dtype": dtype, "device": device}
        transforms = {"input_transform": Normalize(d=D), "outcome_transform": Standardize(m=2)}
        model = RoMAModel(TRAIN_X.to(**data), train_Y(2).to(**data), num_members=2, **transforms)
        for tensor in (*model.parameters(), *model.buffers()):
            assert tensor.device.type == device.type
            assert tensor.dtype in (dtype, torch.bool)
        posterior = model.posterior(TEST_X.to(**data))
        assert posterior.mean.dtype == dtype
        assert posterior.mean.device.type == device.type

    def test_same_weights_in_both_dtypes(self) -> None:
        double = RoMAModel(TRAIN_X, train_Y())
        single = RoMAModel(TRAIN_X.float(), train_Y().float())
        for a, b in zip(double.network.tensors, single.network.tensors, strict=True):
            torch.testing.assert_close(a.float(), b)

    def test_default_dtype_does_not_matter(self) -> None:
        expected = RoMAModel(TRAIN_X, train_Y()).posterior(TEST_X).mean
        torch.set_default_dtype(torch.float64)
        torch.testing.assert_close(RoMAModel(TRAIN_X, train_Y()).posterior(TEST_X).mean, expected)

    def test_gradient_reaches_the_inputs_and_the_weights(self) -> None:
        model, X = make_model(num_members=2), TEST_X.clone().requires_grad_()
        value = PosteriorMean(model)(X.unsqueeze(1)).sum()
        value.backward()
        assert (X.grad.norm(dim=-1) > 0).all()
        assert all(p.grad is not None for p in list(model.network.parameters())[:-2])


NAN, INF = math.nan, math.inf


class Shift(InputTransform):
    """A transform of a stranger that learns where the data begin, in an attribute."""

    is_one_to_many = False
    transform_on_train = transform_on_eval = transform_on_fantasize = True

    def transform(self, X: Tensor) -> Tensor:
        if self.training:
            self.low = X.amin(dim=0)
        return X - self.low


@pytest.mark.usefixtures("small_chunks")
class TestWithoutCopy:
    """``copy=False`` keeps the tensors that are handed in."""

    X, Y = 0.5 + draw(50, D, seed=4), torch.exp(draw(50, 1, seed=5))

    def test_data_are_kept(self) -> None:
        Yvar = self.Y.square()
        model = RoMAModel(self.X.requires_grad_(), self.Y, train_Yvar=Yvar, copy=False)
        self.X.requires_grad_(False)
        for got, given in ((model.train_X, self.X), (model.train_Y, self.Y)):
            assert got.data_ptr() == given.data_ptr()
            assert not got.requires_grad
        assert model.train_Yvar is not None
        assert model.train_Yvar.data_ptr() == Yvar.data_ptr()

    def test_without_transforms_the_moments_are_the_same(self) -> None:
        kept, copied = (RoMAModel(self.X, self.Y, copy=c) for c in (False, True))
        for name in ("x_mean", "x_std", "y_mean", "y_std"):
            assert torch.equal(getattr(kept, name), getattr(copied, name))

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Normalize(D),
            lambda: Log10([0]),
            lambda: ChainedInputTransform(a=Log10([0]), b=Normalize(D)),
            Shift,
        ],
        ids=["learned", "fixed", "chain", "unknown"],
    )
    def test_input_transforms(self, make: Any) -> None:
        kept, copied = (
            RoMAModel(self.X, self.Y, make(), Standardize(1), copy=c) for c in (False, True)
        )
        for name in ("x_mean", "x_std", "y_mean", "y_std"):
            torch.testing.assert_close(
                getattr(kept, name), getattr(copied, name), rtol=1e-12, atol=1e-12
            )
        torch.testing.assert_close(kept.posterior(TEST_X).mean, copied.posterior(TEST_X).mean)
        assert kept.train_X.data_ptr() == self.X.data_ptr()
        encoded = kept.encoded()
        assert torch.equal(encoded.train_X, copied.encoded().train_X)
        assert_same_posterior(encoded, kept.encoded(), encoded.train_X[:5])

    def test_only_what_may_learn_sees_the_whole_table(self) -> None:
        for transform, learns in ((Log10([0]), False), (Normalize(D), True), (Shift(), True)):
            seen: list[int] = []
            transform.register_forward_pre_hook(
                lambda _, args, seen=seen: seen.append(len(args[0]))
            )
            RoMAModel(self.X, self.Y, transform, copy=False)
            assert (max(seen) == len(self.X)) == learns
            assert min(seen) <= 16

    def test_encoding(self, small_chunks: Any) -> None:
        X = torch.randint(4, (200, 6), generator=torch.Generator().manual_seed(0)).double()
        Y = X.sum(dim=1, keepdim=True)
        encoding = OneHotEncoding(Vocabulary("acgt"), 6)
        sizes: dict[str, Any] = {"hidden_sizes": (4,)}  # the weights are copied
        kept, copied = (RoMAModel(X, Y, encoding, copy=c, **sizes) for c in (False, True))
        torch.testing.assert_close(kept.x_std, copied.x_std, rtol=1e-12, atol=1e-12)
        encoded = kept.encoded()
        assert torch.equal(encoded.train_X, copied.encoded().train_X)
        assert encoded.train_X.dtype == X.dtype
        with small_chunks(X) as record:
            copy_of_it = copy.deepcopy(encoded)
        assert copy_of_it.train_X is encoded.train_X
        assert record.numbers < X.numel()

    def test_constant_columns(self) -> None:
        X = self.X.clone()
        X[:, 1] = 0.1
        with pytest.warns(InputDataWarning, match=r"constant in columns \[1\]"):
            model = RoMAModel(X, self.Y, Log10([0]), copy=False)
        assert model.x_std[1] == 1.0

    def test_copies_of_the_model_share_them(self) -> None:
        model = make_model(2, copy=False)
        acquisition = PosteriorMean(model.subset_output([1]))
        for other in (
            copy.deepcopy(model),
            copy.deepcopy(acquisition).model,
            model.subset_output([1]),
            make_model(num_members=2, copy=False).subset_members([1]),
            model.encoded(),
        ):
            assert other.train_X.data_ptr() == TRAIN_X.data_ptr()
        other = copy.deepcopy(model)
        assert other.network.tensors[0].data_ptr() != model.network.tensors[0].data_ptr()
        assert_same_posterior(other, model)

    def test_copies_of_the_default_share_nothing(self) -> None:
        model = make_model()
        other = copy.deepcopy(model)
        assert other.train_X.data_ptr() != model.train_X.data_ptr()
        assert torch.equal(other.train_X, model.train_X)
        assert_same_posterior(other, model)

    def test_state_dict_and_cast(self) -> None:
        model = make_model(copy=False)
        assert not [name for name in model.state_dict() if name.startswith("train_")]
        other = RoMAModel(TRAIN_X[:5], train_Y()[:5], hidden_sizes=(6, 5))
        other.load_state_dict(model.state_dict())
        assert_same_posterior(other, model)
        model.to(torch.float32)
        assert model.train_X.dtype == torch.float32
        assert TRAIN_X.dtype == torch.float64
        assert model.posterior(TEST_X.float()).mean.dtype == torch.float32

    def test_option_of_ax(self) -> None:
        data = SupervisedDataset(
            TRAIN_X, train_Y(), feature_names=["a", "b", "c"], outcome_names=["y"]
        )
        assert RoMAModel.construct_inputs(data, copy=False)["copy"] is False


def with_value(tensor: Tensor, value: float) -> Tensor:
    tensor = tensor.clone()
    tensor[2, 0] = value
    return tensor


class TestBadInput:
    @pytest.mark.parametrize(
        ("X", "Y", "error", "message"),
        [
            (
                with_value(TRAIN_X, NAN),
                train_Y(),
                InputDataError,
                r"`train_X` holds 1 NaN or .*\[2, 0\]",
            ),
            (with_value(TRAIN_X, INF), train_Y(), InputDataError, "`train_X` holds 1 NaN or inf"),
            (TRAIN_X, with_value(train_Y(), NAN), InputDataError, "`train_Y` holds 1 NaN"),
            (TRAIN_X, with_value(train_Y(), -INF), InputDataError, "`train_Y` holds 1 NaN"),
            (TRAIN_X, 0 * train_Y() + 2, InputDataError, r"`train_Y` is constant .*value 2\)"),
            (TRAIN_X[:1], train_Y()[:1], InputDataError, r"at least two rows.*\(1, 3\)"),
            (TRAIN_X[:0], train_Y()[:0], InputDataError, r"at least two rows.*\(0, 3\)"),
            (
                TRAIN_X,
                train_Y()[:, 0],
                BotorchTensorDimensionError,
                r"`train_Y` must have 2 .*\(12,\)",
            ),
            (TRAIN_X[None], train_Y(), BotorchTensorDimensionError, "`train_X` must have 2 dim"),
            (
                TRAIN_X,
                train_Y()[1:],
                BotorchTensorDimensionError,
                r"`train_Y` must have 12 rows.*\(11, 1\)",
            ),
            (TRAIN_X.float(), train_Y(), InputDataError, "share dtype .*float32 .*float64"),
            ((9 * TRAIN_X).long(), train_Y(), InputDataError, "`train_X` must be floating.*int64"),
            (
                TRAIN_X,
                (9 * train_Y()).int(),
                InputDataError,
                r"`train_Y` must be floating.*int32; call `\.double\(\)`",
            ),
            (TRAIN_X.tolist(), train_Y(), InputDataError, "`train_X` must be a torch.Tensor.*list"),
            (TRAIN_X, 1e200 * train_Y(), InputDataError, "`train_Y` cannot be z-scored: .*inf"),
        ],
    )
    def test_data(self, X: Any, Y: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            RoMAModel(X, Y)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"hidden_sizes": ()}, r"`hidden_sizes` must hold at least one .*received \(\)"),
            ({"hidden_sizes": (4, -1)}, r"`hidden_sizes` .*received \(4, -1\)"),
            ({"num_members": 0}, "`num_members` must be an integer of at least 1, received 0"),
            ({"num_members": 1.5}, "`num_members` must be an integer .*received 1.5"),
            ({"activation": "relu"}, r"`activation` must be one of .*'silu', .*received 'relu'"),
            ({"seed": -1}, "`seed` must be an integer of at least 0, received -1"),
            ({"seed": None}, "`seed` must be an integer of at least 0, received None"),
        ],
    )
    def test_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            RoMAModel(TRAIN_X, train_Y(), **options)

    def test_constant_columns(self) -> None:
        X = TRAIN_X.clone()
        X[:, [0, 2]] = 0.1
        with pytest.warns(InputDataWarning, match=r"constant in columns \[0, 2\].*`fixed") as log:
            model = RoMAModel(X, train_Y())
        assert log[0].filename == __file__
        assert torch.isfinite(model.posterior(TEST_X).mean).all()

    def test_good_data_is_no_reason_to_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            RoMAModel(1e6 * TRAIN_X, 1e-6 * train_Y())

    def test_transform_that_does_not_suit_the_data(self) -> None:
        Y = train_Y() - 4.0
        message = "`train_Y` cannot be z-scored: after its transform column 0 has mean nan"
        with pytest.raises(InputDataError, match=message):
            RoMAModel(TRAIN_X, Y, outcome_transform=Log())
        message = "`train_X` cannot be z-scored: after its transform column 1 has mean nan"
        with pytest.raises(InputDataError, match=message):
            RoMAModel(TRAIN_X - 1.0, Y, input_transform=Log10(indices=[1]))

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from botorch.acquisition import (
    AcquisitionFunction,
    PosteriorMean,
    qLogExpectedImprovement,
    qSimpleRegret,
)
from botorch.acquisition.fixed_feature import FixedFeatureAcquisitionFunction
from botorch.acquisition.objective import (
    ExpectationPosteriorTransform,
    GenericMCObjective,
    LinearMCObjective,
    ScalarizedPosteriorTransform,
)
from botorch.acquisition.proximal import ProximalAcquisitionFunction
from botorch.exceptions import InputDataWarning, OptimizationWarning
from botorch.exceptions.errors import (
    CandidateGenerationError,
    InfeasibilityError,
    ModelFittingError,
    UnsupportedError,
)
from botorch.models import ModelList, SingleTaskGP
from botorch.models.transforms import Normalize
from botorch.posteriors import Posterior, TransformedPosterior
from botorch.sampling import SobolQMCNormalSampler
from torch import Tensor

from botorch_roma import (
    RoMAModel,
    RoMAOptions,
    Trajectory,
    fit_roma_model,
    gen_candidates_roma,
    optimize_acqf_roma,
)
from botorch_roma.latent import (
    ColumnEncoding,
    Encoding,
    LatentSpace,
    LogitsEncoding,
    NumericEncoding,
    OneHotEncoding,
    Vocabulary,
)
from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.distinct import distinct_candidates
from botorch_roma.optim.encoded import encoded_problem, find_encoding
from botorch_roma.optim.generation import UpdateResult, run_updates
from botorch_roma.optim.initializers import input_scale

DNA = Vocabulary("acgt")
PADDED = Vocabulary("acgt", padded=True)
KIND = Vocabulary(["oak", "fir", "ash"])
SITE = Vocabulary("ab", padded=True)
BOX = torch.tensor([[0.0, -5.0], [1.0, 5.0]], dtype=torch.double)

FAST: dict[str, Any] = {"num_updates": 12, "num_adaptation_steps": 2, "lr": 0.1}
MakeSpace = Callable[..., LatentSpace]


def sequences(n: int, vocabulary: Vocabulary = DNA, length: int = 4, seed: int = 0) -> Tensor:
    """Different sequences in a random order."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randint(vocabulary.num_classes, (4 * n, length), generator=generator)
    X[:, 0] %= len(vocabulary.symbols)
    X = torch.unique(vocabulary.canonical(X), dim=0)
    return X[torch.randperm(len(X), generator=generator)[:n]].double()


def outcomes(X: Tensor) -> Tensor:
    """How many tokens are 2, and a little more that makes every sequence different."""
    place = 5.0 ** torch.arange(X.shape[1]).to(X)
    return ((X == 2.0).to(X) + 5e-4 * place * X).sum(dim=-1, keepdim=True)


def fitted(X: Tensor, Y: Tensor, encoding: Any = None, **options: Any) -> RoMAModel:
    model = RoMAModel(X, Y, encoding, hidden_sizes=(8,), **options)
    fit_roma_model(model, epochs=20, batch_size=16, lr=1e-2, num_ascent_steps=1, seed=0)
    return model


def optimize(
    acq_function: AcquisitionFunction, q: int = 5, bounds: Tensor | None = None, **options: Any
) -> Tensor:
    """Candidates after a few updates, tokens in their natural bounds."""
    if bounds is None:
        encoding = find_encoding(acq_function)
        assert encoding is not None
        bounds = encoding.design_bounds
    return optimize_acqf_roma(acq_function, bounds, q, **{**FAST, **options})[0]


def sampler() -> SobolQMCNormalSampler:
    return SobolQMCNormalSampler(torch.Size([8]), seed=0)


def num_distinct(X: Tensor) -> int:
    return len(torch.unique(X, dim=0))


def rows(X: Tensor) -> set[tuple[float, ...]]:
    return {tuple(x) for x in X.tolist()}


def top(model: RoMAModel, q: int) -> Tensor:
    return model.train_X[model.train_Y[:, 0].argsort(descending=True)[:q]]


@pytest.fixture(scope="module")
def one_hot() -> RoMAModel:
    """50 DNA sequences of length 4."""
    X = sequences(50)
    return fitted(X, outcomes(X), OneHotEncoding(DNA, 4))


@pytest.fixture(scope="module")
def padded() -> RoMAModel:
    """50 DNA sequences of up to four letters."""
    X = sequences(50, PADDED)
    return fitted(X, outcomes(X), OneHotEncoding(PADDED, 4))


@pytest.fixture(scope="module")
def latent(lossless_space: MakeSpace) -> RoMAModel:
    """The first sequences, in a latent space that loses none of them."""
    X = sequences(50)
    return fitted(X, outcomes(X), lossless_space(DNA, X))


@pytest.fixture(scope="module")
def mixed() -> RoMAModel:
    """Two numbers, a category, and a sequence of up to two letters."""
    generator = torch.Generator().manual_seed(0)
    numbers = BOX[0] + (BOX[1] - BOX[0]) * torch.rand(60, 2, generator=generator).double()
    kinds = torch.randint(3, (60, 1), generator=generator).double()
    sites = SITE.tokenize(["a", "b", "ab", "ba", "bb"] * 12).double()
    X = torch.cat([numbers, kinds, sites], dim=1)
    Y = numbers[:, :1] - 0.1 * numbers[:, 1:] + (kinds == 1.0) + (sites == 1.0).sum(1, keepdim=True)
    blocks = [NumericEncoding(BOX), OneHotEncoding(KIND, 1), LogitsEncoding(SITE, 2)]
    return fitted(X, Y, ColumnEncoding(blocks))


def constant_space(X: Tensor, space: LatentSpace) -> LatentSpace:
    """Now every latent stands for the first of the sequences."""
    one_hot = torch.nn.functional.one_hot(X[0].long(), space.vocabulary.num_classes)
    with torch.no_grad():
        space.vae.decoder[0].weight.zero_()
        space.vae.decoder[0].bias.copy_(one_hot.flatten())
    return space


# The encoding of an acquisition function


class TestFindEncoding:
    def test_of_one_model(self, one_hot: RoMAModel) -> None:
        assert find_encoding(PosteriorMean(one_hot)) is one_hot.input_transform

    def test_none(self) -> None:
        X = sequences(10)
        assert find_encoding(PosteriorMean(RoMAModel(X, outcomes(X)))) is None
        normalized = RoMAModel(X, outcomes(X), Normalize(4))
        assert find_encoding(PosteriorMean(normalized)) is None

    @pytest.mark.parametrize("shared", [True, False])
    def test_of_two_models(self, shared: bool) -> None:
        """The same object, or two that encode alike."""
        X, first = sequences(10), OneHotEncoding(DNA, 4)
        second = first if shared else OneHotEncoding(DNA, 4)
        models = [RoMAModel(X, outcomes(X), e) for e in (first, second)]
        assert find_encoding(qSimpleRegret(ModelList(*models), objective=MEAN)) is first

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (LogitsEncoding(DNA, 4), r"\['OneHotEncoding', 'LogitsEncoding'\]"),
            (OneHotEncoding(PADDED, 4), r"\['OneHotEncoding', 'OneHotEncoding'\]"),
            (OneHotEncoding(Vocabulary("tgca"), 4), r"\['OneHotEncoding', 'OneHotEncoding'\]"),
            (Normalize(4), r"\['OneHotEncoding', 'Normalize'\]"),
        ],
        ids=["kind", "padding", "order", "no-encoding"],
    )
    def test_models_that_differ(self, other: Any, message: str) -> None:
        X = sequences(10)
        models = [RoMAModel(X, outcomes(X), e) for e in (OneHotEncoding(DNA, 4), other)]
        acq_function = qSimpleRegret(ModelList(*models), objective=MEAN)
        with pytest.raises(UnsupportedError, match=f"with the same encoding, .*{message}"):
            find_encoding(acq_function)

    @pytest.mark.parametrize("transforms", [(1, None), (None, 1), (Normalize(4), 1)])
    def test_some_have_none(self, transforms: tuple[Any, Any]) -> None:
        X = sequences(10)
        encodings = [OneHotEncoding(DNA, 4) if t == 1 else t for t in transforms]
        models = [RoMAModel(X, outcomes(X), e) for e in encodings]
        with pytest.raises(UnsupportedError, match="1 of 2 RoMA models have no encoding"):
            find_encoding(qSimpleRegret(ModelList(*models), objective=MEAN))

    def test_other_models_see_tokens_only(self, one_hot: RoMAModel) -> None:
        X = sequences(10)
        both = ModelList(one_hot, SingleTaskGP(X, outcomes(X), input_transform=Normalize(4)))
        with pytest.raises(UnsupportedError, match=r"\['OneHotEncoding', 'SingleTaskGP'\]"):
            find_encoding(qSimpleRegret(both, objective=MEAN))


MEAN = LinearMCObjective(torch.tensor([0.5, 0.5], dtype=torch.double))


# The problem in vectors


def problem_of(
    acq_function: AcquisitionFunction, nonlinear: Any = None, **constraints: Any
) -> tuple[Any, Encoding]:
    encoding = find_encoding(acq_function)
    assert encoding is not None
    designs = FeasibleSet(
        encoding.design_bounds.double(), nonlinear_inequality_constraints=nonlinear, **constraints
    )
    return encoded_problem(acq_function, encoding, designs, nonlinear), encoding


class TestProblem:
    def test_same_values(self, mixed: RoMAModel) -> None:
        acq_function = PosteriorMean(mixed)
        problem, encoding = problem_of(acq_function)
        X = mixed.train_X[:7]
        Z = problem.encode(X)
        assert torch.equal(Z, encoding.encode(X))
        assert torch.equal(problem.decode(Z), X)
        torch.testing.assert_close(
            problem.acq_function(Z.unsqueeze(1)), acq_function(X.unsqueeze(1))
        )
        assert torch.equal(problem.snap(Z + 0.1)[:, 2:], Z[:, 2:])
        assert torch.equal(problem.feasible_set.bounds, encoding.bounds)
        torch.testing.assert_close(
            problem.feasible_set.scale, encoding.encode(mixed.train_X).std(dim=0, correction=0)
        )
        assert acq_function.model is mixed

    def test_pending_designs_are_encoded(self, one_hot: RoMAModel) -> None:
        pending = sequences(3, seed=5)
        acq_function = qLogExpectedImprovement(one_hot, best_f=1.0, X_pending=pending)
        X = sequences(4, seed=6).unsqueeze(1)
        expected = acq_function(X)
        problem, encoding = problem_of(acq_function)
        torch.testing.assert_close(problem.acq_function(encoding.encode(X)), expected)
        assert torch.equal(acq_function.X_pending, pending)
        acq_function.set_X_pending(None)
        assert not torch.allclose(acq_function(X), expected)

    def test_fixed_columns(self, mixed: RoMAModel, one_hot: RoMAModel) -> None:
        problem, _ = problem_of(PosteriorMean(mixed), fixed_features={1: -2.0, -3: 2.0})
        assert problem.feasible_set.fixed == {1: -2.0, 2: 0.0, 3: 0.0, 4: 1.0}
        problem, _ = problem_of(PosteriorMean(one_hot), fixed_features={3: 1.0})
        assert problem.feasible_set.fixed == {12: 0.0, 13: 1.0, 14: 0.0, 15: 0.0}
        assert problem_of(PosteriorMean(one_hot))[0].feasible_set.fixed == {}

    def test_linear_constraints_refer_to_the_same_numbers(self) -> None:
        letters = torch.arange(4.0).unsqueeze(-1).double()
        X = torch.cat([letters, BOX[0] + 0.1 * letters], dim=1)
        encoding = ColumnEncoding([OneHotEncoding(DNA, 1), NumericEncoding(BOX)])
        model = RoMAModel(X, X[:, 1:2], encoding)
        coefficients = torch.tensor([2.0, 3.0], dtype=torch.double)
        constraints = {
            "inequality_constraints": [(torch.tensor([1, -1]), coefficients, -9.0)],
            "equality_constraints": [(torch.tensor([2, 1]), coefficients, 1.0)],
        }
        problem, _ = problem_of(PosteriorMean(model), **constraints)
        for rows_, indices, rhs in (
            (problem.feasible_set.inequalities, [4, 5], -9.0),
            (problem.feasible_set.equalities, [5, 4], 1.0),
        ):
            expected = torch.zeros(6, dtype=torch.double)
            expected[indices] = coefficients
            assert torch.equal(rows_[0][0], expected)
            assert rows_[0][1] == rhs

    def test_nonlinear_constraints_see_designs(self, mixed: RoMAModel) -> None:
        seen: list[Tensor] = []

        def constraint(x: Tensor) -> Tensor:
            seen.append(x)
            return x[2] - 1.0

        problem, encoding = problem_of(PosteriorMean(mixed), [(constraint, True)])
        X = mixed.train_X[:6]
        feasible = problem.feasible_set.nonlinear_feasible(encoding.encode(X))
        assert torch.equal(feasible, X[:, 2] >= 1.0)
        assert torch.equal(torch.stack(seen), X)


# Candidates


@pytest.mark.parametrize("name", ["one_hot", "padded", "latent", "mixed"])
class TestCandidates:
    def test_are_designs(self, request: pytest.FixtureRequest, name: str) -> None:
        """New ones, distinct, better than the start; with the values of the function itself."""
        model: RoMAModel = request.getfixturevalue(name)
        acq_function, encoding = PosteriorMean(model), model.input_transform
        X, values = optimize_acqf_roma(acq_function, encoding.design_bounds, 6, **FAST)
        assert X.shape == (6, model.train_X.shape[1])
        assert X.dtype == torch.double
        assert torch.equal(encoding.decode(encoding.encode(X)), X)
        encoding.check_designs(X)
        assert num_distinct(X) == 6
        assert values is not None
        torch.testing.assert_close(values, acq_function(X.unsqueeze(1)))
        assert values.mean() > acq_function(top(model, 6).unsqueeze(1)).mean()
        assert rows(X) - rows(model.train_X)

    def test_start_from_the_best_rows(self, request: pytest.FixtureRequest, name: str) -> None:
        model: RoMAModel = request.getfixturevalue(name)
        X = optimize(PosteriorMean(model), num_updates=0)
        assert torch.equal(X, top(model, 5))

    def test_determinism(self, request: pytest.FixtureRequest, name: str) -> None:
        acq_function = PosteriorMean(request.getfixturevalue(name))
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = optimize(acq_function)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        assert torch.equal(optimize(acq_function), first)

    def test_minimisation(self, request: pytest.FixtureRequest, name: str) -> None:
        model: RoMAModel = request.getfixturevalue(name)
        transform = ScalarizedPosteriorTransform(torch.tensor([-1.0], dtype=torch.double))
        acq_function = PosteriorMean(model, posterior_transform=transform)
        start = optimize(acq_function, num_updates=0)
        worst = model.train_X[model.train_Y[:, 0].argsort()[:5]]
        assert torch.equal(start, worst)
        best = top(model, 5)
        down = optimize(acq_function, batch_initial_conditions=best)
        predicted = model.posterior(torch.stack([best, down])).mean
        assert predicted[1].mean() < predicted[0].mean() - 0.1

    def test_avoided_designs(self, request: pytest.FixtureRequest, name: str) -> None:
        acq_function = PosteriorMean(request.getfixturevalue(name))
        first = optimize(acq_function)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizationWarning)  # some are drawn around these
            second = optimize(acq_function, X_avoid=first[:3])
        assert not rows(second) & rows(first[:3])
        assert num_distinct(second) == 5

    def test_several_start_batches(self, request: pytest.FixtureRequest, name: str) -> None:
        model: RoMAModel = request.getfixturevalue(name)
        acq_function, bounds = PosteriorMean(model), model.input_transform.design_bounds
        options = {"num_restarts": 3, **FAST}
        X, values = optimize_acqf_roma(acq_function, bounds, 2, return_best_only=False, **options)
        assert X.shape == (3, 2, model.train_X.shape[1])
        assert values is not None
        assert values.shape == (3, 2)
        assert num_distinct(X.flatten(end_dim=1)) == 6
        best, best_values = optimize_acqf_roma(acq_function, bounds, 2, **options)
        assert best_values is not None
        assert torch.equal(best_values, values.flatten().topk(2).values)
        assert torch.equal(best, X.flatten(end_dim=1)[values.flatten().topk(2).indices])

    def test_measured_pseudo_labels(self, request: pytest.FixtureRequest, name: str) -> None:
        """Also where the encoding of a start design differs by its rounding."""
        model: RoMAModel = request.getfixturevalue(name)
        trajectory = Trajectory()
        optimize(
            PosteriorMean(model),
            initial_pseudo_label="measured",
            trajectory=trajectory,
            num_updates=1,
        )
        best = model.train_Y[:, 0].sort(descending=True).values[:5]
        expected = (best - model.train_Y.mean()) / model.train_Y.std(correction=0)
        torch.testing.assert_close(trajectory.pseudo_label[0], expected)

    def test_given_start_designs(self, request: pytest.FixtureRequest, name: str) -> None:
        model: RoMAModel = request.getfixturevalue(name)
        start = model.train_X[10:15]
        X = optimize(PosteriorMean(model), batch_initial_conditions=start, num_updates=0)
        assert torch.equal(X, start)

    def test_time_budget(self, request: pytest.FixtureRequest, name: str, fake_clock: None) -> None:
        trajectory = Trajectory()
        X = optimize(
            PosteriorMean(request.getfixturevalue(name)),
            num_updates=10**6,
            timeout_sec=8.0,
            trajectory=trajectory,
        )
        assert len(trajectory.predicted) == 2  # three looks at the clock each
        assert num_distinct(X) == 5

    def test_trajectory_holds_vectors(self, request: pytest.FixtureRequest, name: str) -> None:
        model: RoMAModel = request.getfixturevalue(name)
        trajectory = Trajectory()
        optimize(PosteriorMean(model), trajectory=trajectory)
        encoding = model.input_transform
        assert trajectory.x[0].shape == (5, encoding.encoded_dim)
        torch.testing.assert_close(trajectory.x[0], encoding.encode(top(model, 5)))

    def test_reencoding(self, request: pytest.FixtureRequest, name: str) -> None:
        """After every third update, and with no other effect on numbers."""
        model: RoMAModel = request.getfixturevalue(name)
        trajectory, encoding = Trajectory(), model.input_transform
        optimize(PosteriorMean(model), trajectory=trajectory, reencode_every=3, num_updates=7)
        settled = [bool(torch.allclose(encoding.snap(Z), Z, atol=1e-9)) for Z in trajectory.x]
        assert settled == [t % 3 == 0 for t in range(7)] + [False]

    def test_generators_for_vectors_are_refused(
        self, request: pytest.FixtureRequest, name: str
    ) -> None:
        model: RoMAModel = request.getfixturevalue(name)
        acq_function, start = PosteriorMean(model), model.train_X[:2].unsqueeze(1)
        with pytest.raises(UnsupportedError, match=r"moves vectors.*use `optimize_acqf_roma`"):
            gen_candidates_roma(start, acq_function)
        with pytest.raises(UnsupportedError, match=r"`raw_samples` is not supported .* received 8"):
            optimize(acq_function, raw_samples=8)
        with pytest.raises(UnsupportedError, match="`ic_generator` is not supported"):
            optimize(acq_function, ic_generator=lambda **_: start)


def test_float32() -> None:
    X = sequences(40).float()
    for encoding in (OneHotEncoding(DNA, 4), LogitsEncoding(DNA, 4)):
        model = fitted(X, outcomes(X), encoding)
        found, values = optimize_acqf_roma(PosteriorMean(model), encoding.design_bounds, 4, **FAST)
        assert values is not None
        assert found.dtype == values.dtype == torch.float32
        assert torch.equal(found, found.round())
        assert num_distinct(found) == 4


def test_reencoding_needs_an_encoding() -> None:
    X = sequences(20)
    model = fitted(X, outcomes(X))
    bounds = OneHotEncoding(DNA, 4).design_bounds
    with pytest.raises(UnsupportedError, match=r"`reencode_every` needs .*, received 2 and none"):
        optimize(PosteriorMean(model), bounds=bounds, reencode_every=2)
    with pytest.raises(ValueError, match=r"`reencode_every` must be an integer .* received 0"):
        optimize(PosteriorMean(model), bounds=bounds, reencode_every=0)


def test_reencoded_vectors_stay_in_the_box(one_hot: RoMAModel) -> None:
    """A design that no row of the data has may be encoded outside of it."""
    problem, encoding = problem_of(PosteriorMean(one_hot))
    X, trajectory = encoding.encode(one_hot.train_X[:3]), Trajectory()
    options = RoMAOptions(num_updates=1, reencode_every=1, num_adaptation_steps=1)
    arguments = (X, problem.acq_function, problem.feasible_set, options)
    run_updates(*arguments, snap=lambda Z: Z + 0.7, trajectory=trajectory)
    assert trajectory.x[1].max() == 1.0
    assert trajectory.x[1].min() >= 0.6


# Constraints


class TestFixedFeatures:
    def test_position_of_a_sequence(self, one_hot: RoMAModel) -> None:
        X = optimize(PosteriorMean(one_hot), fixed_features={-3: 3.0})
        assert X[:, 1].eq(3.0).all()
        assert num_distinct(X) == 5

    def test_columns_of_a_mixed_design(self, mixed: RoMAModel) -> None:
        X = optimize(PosteriorMean(mixed), fixed_features={0: 0.25, 2: 0.0})
        assert X[:, 0].eq(0.25).all()
        assert X[:, 2].eq(0.0).all()
        assert num_distinct(X) == 5

    @pytest.mark.parametrize(
        ("name", "column", "message"),
        [
            ("latent", 1, "LatentSpace mixes the columns .*; use a one-hot encoding"),
            ("padded", 1, "A position of padded sequences cannot be fixed"),
            ("mixed", 3, "Column 3: A position of padded sequences cannot be fixed"),
        ],
    )
    def test_refused(
        self, request: pytest.FixtureRequest, name: str, column: int, message: str
    ) -> None:
        model: RoMAModel = request.getfixturevalue(name)
        with pytest.raises(UnsupportedError, match=message):
            optimize(PosteriorMean(model), fixed_features={column: 1.0})

    def test_no_token(self, one_hot: RoMAModel) -> None:
        with pytest.raises(ValueError, match=r"`fixed_features` .* from 0 to 3, received .* 2\.5"):
            optimize(PosteriorMean(one_hot), fixed_features={1: 2.5})
        with pytest.raises(ValueError, match=r"`fixed_features\[1\]` .* \[0, 3\], received 4"):
            optimize(PosteriorMean(one_hot), fixed_features={1: 4.0})


class TestConstraints:
    def test_linear_on_numbers(self, mixed: RoMAModel) -> None:
        below = (torch.tensor([0, 1]), torch.tensor([-1.0, -0.1], dtype=torch.double), -0.2)
        X = optimize(PosteriorMean(mixed), inequality_constraints=[below])
        assert bool((X[:, 0] + 0.1 * X[:, 1] <= 0.2 + 1e-6).all())
        equal = (torch.tensor([0, 1]), torch.tensor([1.0, 0.1], dtype=torch.double), 0.3)
        X = optimize(PosteriorMean(mixed), equality_constraints=[equal])
        torch.testing.assert_close(X[:, 0] + 0.1 * X[:, 1], torch.full((5,), 0.3).double())
        assert num_distinct(X) == 5

    @pytest.mark.parametrize("kind", ["inequality_constraints", "equality_constraints"])
    def test_linear_on_tokens(self, mixed: RoMAModel, latent: RoMAModel, kind: str) -> None:
        constraint = (torch.tensor([0, 2]), torch.ones(2, dtype=torch.double), 1.0)
        with pytest.raises(UnsupportedError, match="Column 2: OneHotEncoding holds tokens"):
            optimize(PosteriorMean(mixed), **{kind: [constraint]})
        with pytest.raises(UnsupportedError, match="LatentSpace holds tokens"):
            optimize(PosteriorMean(latent), **{kind: [constraint]})

    @pytest.mark.parametrize("name", ["one_hot", "latent", "padded"])
    def test_nonlinear_on_tokens(self, request: pytest.FixtureRequest, name: str) -> None:
        """At most one token 2, though that is what is worth most."""
        model: RoMAModel = request.getfixturevalue(name)
        free = optimize(PosteriorMean(model))
        assert bool(((free == 2.0).sum(dim=1) > 1).any())
        constraint = (lambda x: 1.5 - (x == 2.0).sum(), True)
        X = optimize(PosteriorMean(model), nonlinear_inequality_constraints=[constraint])
        assert bool(((X == 2.0).sum(dim=1) <= 1).all())
        assert num_distinct(X) == 5

    def test_start_designs_break_nonlinear_constraints(self, one_hot: RoMAModel) -> None:
        constraint = (lambda x: 1.5 - (x == 2.0).sum(), True)
        with pytest.raises(InfeasibilityError, match="1 of 1 start designs"):
            optimize(
                PosteriorMean(one_hot),
                q=1,
                batch_initial_conditions=torch.full((1, 4), 2.0),
                nonlinear_inequality_constraints=[constraint],
            )

    @pytest.mark.parametrize("name", ["one_hot", "latent", "mixed"])
    def test_bounds_of_tokens_are_theirs(self, request: pytest.FixtureRequest, name: str) -> None:
        model: RoMAModel = request.getfixturevalue(name)
        bounds = model.input_transform.design_bounds.clone()
        bounds[1, 2] -= 1.0
        with pytest.raises(UnsupportedError, match="knows no other bounds than those of its tok"):
            optimize(PosteriorMean(model), bounds=bounds)

    def test_bounds_of_numbers_are_taken(self, mixed: RoMAModel) -> None:
        bounds = mixed.input_transform.design_bounds.clone()
        bounds[:, 1] = torch.tensor([1.0, 2.0])
        with pytest.warns(OptimizationWarning, match="start designs lay outside of `bounds`"):
            X = optimize(PosteriorMean(mixed), q=20, bounds=bounds)
        assert bool((X[:, 1] >= 1.0).all())
        assert bool((X[:, 1] <= 2.0).all())

    def test_post_processing_sees_designs(self, one_hot: RoMAModel) -> None:
        def no_last_letter(X: Tensor) -> Tensor:
            X = X.clone()
            X[..., -1] = 0.0
            return X

        X = optimize(PosteriorMean(one_hot), post_processing_func=no_last_letter)
        assert X[:, -1].eq(0.0).all()
        assert num_distinct(X) == 5


class TestStartDesigns:
    @pytest.mark.parametrize(
        ("start", "message"),
        [
            ([[0.0, 1.5, 2.0, 3.0]], r"must be integers from 0 to 4, received .* 1\.5"),
            ([[0.0, 4.0, 2.0, 3.0]], r"padding \(token 4\) at the end only; row 0"),
            ([[4.0, 4.0, 4.0, 4.0]], "at least one symbol"),
            ([[0.0, 1.0, 2.0, 5.0]], "`batch_initial_conditions` must lie within `bounds`"),
        ],
    )
    def test_no_sequences(self, padded: RoMAModel, start: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            optimize(
                PosteriorMean(padded), q=1, batch_initial_conditions=torch.tensor(start).double()
            )

    def test_constraints_hold_where_start_designs_are_returned(self, one_hot: RoMAModel) -> None:
        """Both start designs become one under the fixed feature: nothing else on the paths."""
        start = torch.tensor([[0.0, 1.0, 1.0, 1.0], [3.0, 1.0, 1.0, 1.0]])
        with pytest.warns(OptimizationWarning, match="1 of 2 candidates found no design"):
            X = optimize(
                PosteriorMean(one_hot),
                q=2,
                batch_initial_conditions=start,
                fixed_features={0: 2.0},
                num_updates=0,
            )
        assert X[:, 0].eq(2.0).all()
        assert X[0].tolist() == [2.0, 1.0, 1.0, 1.0]
        assert num_distinct(X) == 2

    def test_start_designs_that_the_space_has_lost_come_back(
        self, lossless_space: MakeSpace
    ) -> None:
        """As they were, since all latents stand for one sequence."""
        X = sequences(30)
        best = X[outcomes(X).flatten().argsort(descending=True)]
        space = constant_space(best[2:3], lossless_space(DNA, X, min_reconstruction=0.0))
        model = fitted(X, outcomes(X), space)
        with (
            pytest.warns(InputDataWarning, match=r"loses the start designs: 33\.3% of 3"),
            pytest.warns(OptimizationWarning, match="2 of 3 candidates .* as start designs"),
        ):
            found = optimize(PosteriorMean(model), q=3)
        assert rows(found) == rows(best[:3])

    def test_post_processing_of_start_designs_that_come_back(
        self, lossless_space: MakeSpace
    ) -> None:
        X = sequences(30)
        start = torch.tensor([[2.0, 2.0, 0.0, 0.0], [2.0, 2.0, 1.0, 1.0], [2.0, 2.0, 1.0, 3.0]])
        space = constant_space(start, lossless_space(DNA, X, min_reconstruction=0.0))
        model = fitted(X, outcomes(X), space)

        def no_last_letter(X: Tensor) -> Tensor:
            X = X.clone()
            X[..., -1] = 0.0
            return X

        with pytest.warns(OptimizationWarning, match="1 of 2 candidates"):
            found = optimize(
                PosteriorMean(model),
                q=2,
                batch_initial_conditions=start[:2],
                post_processing_func=no_last_letter,
            )
        assert rows(found) == {(2.0, 2.0, 0.0, 0.0), (2.0, 2.0, 1.0, 0.0)}

    def test_nonlinear_constraints_on_start_designs_that_come_back(
        self, lossless_space: MakeSpace
    ) -> None:
        """The third is not allowed itself, only what its latent stands for."""
        X = sequences(30)
        start = torch.tensor([[2.0, 0.0, 0.0, 0.0], [2.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
        space = constant_space(start, lossless_space(DNA, X, min_reconstruction=0.0))
        model = fitted(X, outcomes(X), space)
        constraint = (lambda x: 1.5 - (x == 2.0).sum(), True)
        with (
            pytest.warns(InputDataWarning, match="loses the start designs"),
            pytest.raises(CandidateGenerationError, match="Only 2 of 3 candidates are distinct"),
        ):
            optimize(
                PosteriorMean(model),
                q=3,
                batch_initial_conditions=start,
                nonlinear_inequality_constraints=[constraint],
            )

    def test_start_designs_whose_stand_in_is_not_allowed(self, lossless_space: MakeSpace) -> None:
        """All latents stand for one sequence, which breaks a constraint that its rows meet."""
        X = sequences(30)
        bad = torch.tensor([[2.0, 2.0, 2.0, 2.0]], dtype=torch.double)
        space = constant_space(bad, lossless_space(DNA, X, min_reconstruction=0.0))
        model = fitted(X, outcomes(X), space)
        options: dict[str, Any] = {
            "q": 2,
            "nonlinear_inequality_constraints": [(lambda x: 1.5 - (x == 2.0).sum(), True)],
        }
        with pytest.raises(InfeasibilityError, match="Only 0 of 2 start designs satisfy"):
            optimize(PosteriorMean(model), **options)
        start = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]], dtype=torch.double)
        with (
            pytest.warns(InputDataWarning, match="loses the start designs"),
            pytest.raises(InfeasibilityError, match=r"2 of 2 start .* that the encoding makes of"),
        ):
            optimize(PosteriorMean(model), batch_initial_conditions=start, **options)


class TestWhatLooksAtDesigns:
    """Objectives and posterior transforms see tokens; wrappers that hold designs are refused."""

    @staticmethod
    def check_values(acqf: AcquisitionFunction) -> None:
        """Vectors have the values of the designs that they stand for."""
        problem, _ = problem_of(acqf)
        X = sequences(20, seed=3)
        values = acqf(X.unsqueeze(1))
        torch.testing.assert_close(problem.acq_function(problem.encode(X).unsqueeze(1)), values)
        assert bool((values < -50.0).any())
        assert bool((values > -50.0).any())
        optimize(acqf)  # at least it runs: a value that jumps has no gradient

    def test_objective(self, one_hot: RoMAModel) -> None:
        def no_twos(samples: Tensor, X: Tensor | None = None) -> Tensor:
            assert X is not None
            assert X.shape[-1] == 4
            return samples[..., 0] - 100.0 * (X == 2.0).sum(dim=-1)

        objective = GenericMCObjective(no_twos)
        self.check_values(qSimpleRegret(one_hot, sampler=sampler(), objective=objective))

    def test_posterior_transform(self, one_hot: RoMAModel) -> None:
        class NoTwos(ExpectationPosteriorTransform):
            def forward(self, posterior: Posterior, X: Tensor | None = None) -> Posterior:
                assert X is not None
                assert X.shape[-1] == 4
                shift = 100.0 * (X == 2.0).sum(dim=-1, keepdim=True)
                return TransformedPosterior(posterior, lambda Y: Y - shift, lambda m, v: m - shift)

        self.check_values(PosteriorMean(one_hot, posterior_transform=NoTwos(n_w=1)))

    def test_the_objective_itself_stays(self, one_hot: RoMAModel) -> None:
        objective = GenericMCObjective(lambda samples, X=None: samples[..., 0])
        acqf = qSimpleRegret(one_hot, sampler=sampler(), objective=objective)
        optimize(acqf)
        assert acqf.objective is objective

    @pytest.mark.parametrize("wrapper", ["fixed", "proximal"])
    def test_wrappers(self, one_hot: RoMAModel, wrapper: str) -> None:
        inner = PosteriorMean(one_hot)
        acqf: AcquisitionFunction
        if wrapper == "fixed":
            acqf = FixedFeatureAcquisitionFunction(inner, d=4, columns=[0], values=[1.0])
        else:
            acqf = ProximalAcquisitionFunction(inner, torch.ones(4, dtype=torch.double))
        with pytest.raises(UnsupportedError, match="around PosteriorMean reads or holds designs"):
            optimize(acqf, bounds=torch.tensor([[0.0] * 4, [3.0] * 4]).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_measured_pseudo_labels_despite_rounding(dtype: torch.dtype) -> None:
    """The latents of a few designs differ in the last digits from those of all designs at once."""
    X = sequences(50).to(dtype)
    space = LatentSpace.fit(
        X, DNA, latent_dim=5, hidden_sizes=(24,), epochs=1, min_reconstruction=0.0
    )
    model, trajectory = fitted(X, outcomes(X), space), Trajectory()
    with (
        pytest.warns(InputDataWarning, match="loses the start designs"),
        pytest.warns(OptimizationWarning, match="as start designs"),
    ):
        optimize(
            PosteriorMean(model),
            q=30,
            initial_pseudo_label="measured",
            trajectory=trajectory,
            num_updates=1,
        )
    best = model.train_Y[:, 0].sort(descending=True).values[:30]
    expected = (best - model.train_Y.mean()) / model.train_Y.std(correction=0)
    torch.testing.assert_close(trajectory.pseudo_label[0], expected)


def test_designs_nearby_are_chosen_by_the_acquisition_function(one_hot: RoMAModel) -> None:
    """The same two candidates at the same place, once for the largest value, once the smallest."""
    best = top(one_hot, 1)
    found = []
    for sign in (1.0, -1.0):
        transform = ScalarizedPosteriorTransform(torch.tensor([sign], dtype=torch.double))
        problem, encoding = problem_of(PosteriorMean(one_hot, posterior_transform=transform))
        Z = encoding.encode(best).repeat(2, 1)
        with pytest.warns(OptimizationWarning, match="1 of 2 candidates .* drawn around them"):
            X = distinct_candidates(UpdateResult(Z, [Z], 1), problem, input_scale(one_hot))
        assert torch.equal(X[0], best[0])
        assert torch.equal(X, X.round())
        found.append(X[1])
    predicted = one_hot.posterior(torch.stack(found).unsqueeze(1)).mean.flatten()
    assert predicted[0] > predicted[1] + 0.5


class TestLossySpace:
    def test_refuses(self, lossless_space: MakeSpace) -> None:
        X = sequences(30)
        best = X[outcomes(X).flatten().argsort(descending=True)]
        model = fitted(X, outcomes(X), constant_space(best, lossless_space(DNA, X)))
        message = r"loses the start designs: 20\.0% of 5 .*\(held-out sequences: 75\.0%\).*`beta`"
        with pytest.raises(ModelFittingError, match=message):
            optimize(PosteriorMean(model))

    def test_warning_points_at_the_caller(self, lossless_space: MakeSpace) -> None:
        X = sequences(30)
        best = X[outcomes(X).flatten().argsort(descending=True)]
        space = constant_space(best, lossless_space(DNA, X, min_reconstruction=0.1))
        model = fitted(X, outcomes(X), space)
        bounds = space.design_bounds
        with (
            pytest.warns(OptimizationWarning, match="4 of 5 candidates"),
            pytest.warns(InputDataWarning, match=r"20\.0% of 5") as record,
        ):
            optimize_acqf_roma(PosteriorMean(model), bounds, 5, num_updates=0)
        assert record[0].filename == __file__


# Several models, Monte Carlo


@pytest.mark.parametrize("shared", [True, False])
def test_two_models(one_hot: RoMAModel, shared: bool) -> None:
    """Tokens 2 are worth something in one, and half as much is lost for them in the other."""
    X, start = one_hot.train_X, one_hot.train_X[:4]
    encoding = one_hot.input_transform if shared else OneHotEncoding(DNA, 4)
    other = fitted(X, -0.5 * outcomes(X) + X[:, :1], encoding)
    objective = LinearMCObjective(torch.ones(2, dtype=torch.double))
    acq_function = qSimpleRegret(ModelList(one_hot, other), objective=objective)
    found, values = optimize_acqf_roma(
        acq_function, encoding.design_bounds, 4, batch_initial_conditions=start, **FAST
    )
    assert values is not None
    torch.testing.assert_close(values, acq_function(found.unsqueeze(1)))
    assert torch.equal(found, found.round())
    assert num_distinct(found) == 4
    assert values.mean() > acq_function(start.unsqueeze(1)).mean()


def test_pending_designs(one_hot: RoMAModel) -> None:
    best_f = one_hot.train_Y.max()
    pending = optimize(PosteriorMean(one_hot), q=2)
    acq_function = qLogExpectedImprovement(one_hot, best_f=best_f, X_pending=pending)
    bounds = one_hot.input_transform.design_bounds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizationWarning)
        found, values = optimize_acqf_roma(acq_function, bounds, 4, X_avoid=pending, **FAST)
    assert values is not None
    assert torch.equal(acq_function.X_pending, pending)
    torch.testing.assert_close(values, acq_function(found.unsqueeze(1)))
    assert torch.equal(found, found.round())
    assert not rows(found) & rows(pending)
    assert num_distinct(found) == 4


def test_model_is_left_as_it_was(one_hot: RoMAModel) -> None:
    X = one_hot.train_X.clone()
    before = {k: v.clone() for k, v in one_hot.state_dict().items()}
    optimize(PosteriorMean(one_hot))
    assert torch.equal(one_hot.train_X, X)
    assert all(torch.equal(v, before[k]) for k, v in one_hot.state_dict().items())

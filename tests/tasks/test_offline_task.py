from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from botorch.exceptions.errors import InputDataError
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma.latent import Vocabulary
from botorch_roma.tasks import OfflineTask

BOUNDS = torch.tensor([[0.0, -1.0, 2.0], [1.0, 3.0, 2.0]], dtype=torch.float64)


def row_sum(X: Tensor) -> Tensor:
    return X.sum(dim=-1)


def halve_steps(X: Tensor) -> Tensor:
    return (2.0 * X).round() / 2.0


def make_task(**options: Any) -> OfflineTask:
    """Ten rows in a box whose third column is fixed at 2; values 0 to 9."""
    unit = torch.rand(10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    defaults: dict[str, Any] = {
        "name": "toy",
        "X": BOUNDS[0] + (BOUNDS[1] - BOUNDS[0]) * unit,
        "Y": torch.arange(10, dtype=torch.float64).unsqueeze(-1),
        "bounds": BOUNDS,
        "oracle": row_sum,
        "ranges": {"full": (-10.0, 30.0)},
    }
    return OfflineTask(**{**defaults, **options})


class TestEvaluate:
    def test_scores_and_counts(self) -> None:
        task = make_task()
        assert (task.num_oracle_calls, task.num_oracle_queries) == (0, 0)
        Y = task.evaluate(task.X)
        torch.testing.assert_close(Y, task.X.sum(dim=-1, keepdim=True))
        task.evaluate(task.X[:3])
        assert (task.num_oracle_calls, task.num_oracle_queries) == (2, 13)

    def test_accepts_a_column_of_values_and_detaches(self) -> None:
        task = make_task(oracle=lambda X: X.sum(dim=-1, keepdim=True))
        Y = task.evaluate(task.X.clone().requires_grad_())
        assert Y.shape == (10, 1)
        assert not Y.requires_grad

    def test_takes_another_dtype(self) -> None:
        task = make_task()
        assert task.evaluate(task.X.float()).dtype == torch.float64

    def test_rounding_beyond_the_bounds_never_reaches_the_oracle(self) -> None:
        seen: list[Tensor] = []

        def oracle(X: Tensor) -> Tensor:
            seen.append(X)
            return row_sum(X)

        make_task(oracle=oracle).evaluate(BOUNDS[1:] + 1e-8)
        assert torch.equal(seen[0], BOUNDS[1:])

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (torch.zeros(3, dtype=torch.float64), r"`X` must have shape n x 3 .*\(3,\).*reshape"),
            (torch.zeros(2, 4), r"`X` must have shape n x 3 .*\(2, 4\)"),
            (torch.zeros(2, 2, 3), r"received \(2, 2, 3\)"),
            (torch.zeros(0, 3), "n >= 1"),
            (torch.zeros(1, 3, dtype=torch.long), "floating point tensor, received torch.int64"),
            ([[0.0, 0.0, 2.0]], "floating point tensor, received list"),
            (torch.tensor([[0.0, torch.nan, 2.0]]), "`X` holds NaN .* row 0, column 1"),
            (torch.tensor([[0.0, 0.0, 2.0], [0.0, 3.5, 2.0]]), "row 1, column 1 holds 3.5, .*-1"),
            (torch.tensor([[0.0, 0.0, 2.1]]), "column 2 holds 2.1, allowed are 2 to 2; clamp"),
        ],
    )
    def test_bad_designs_are_not_counted(self, X: Any, message: str) -> None:
        task = make_task()
        with pytest.raises(ValueError, match=message):
            task.evaluate(X)
        assert (task.num_oracle_calls, task.num_oracle_queries) == (0, 0)

    @pytest.mark.parametrize(
        "oracle", [lambda X: X, lambda X: X[:1, 0], lambda X: X[:, 0] * torch.nan]
    )
    def test_oracle_that_breaks_its_promise(self, oracle: Any) -> None:
        task = make_task(oracle=oracle)
        with pytest.raises(ValueError, match=r"`oracle` of task 'toy' must return 10 finite"):
            task.evaluate(task.X)


class TestNormalize:
    def test_scales_differ_and_are_named(self) -> None:
        task = make_task()
        assert task.ranges == {"visible": (0.0, 9.0), "full": (-10.0, 30.0)}
        assert task.normalize(task.Y, scale="visible").max() == 1.0
        assert task.normalize(task.Y, scale="full").max().item() == pytest.approx(19 / 40)
        assert torch.equal(task.normalize(task.Y), task.normalize(task.Y, scale="full"))

    @given(value=st.floats(-100.0, 100.0), scale=st.sampled_from(["visible", "full"]))
    def test_is_the_documented_formula(self, value: float, scale: str) -> None:
        task = make_task()
        low, high = task.ranges[scale]
        scaled = task.normalize(torch.tensor(value, dtype=torch.float64), scale=scale)
        assert scaled.item() * (high - low) + low == pytest.approx(value, abs=1e-9)

    def test_keeps_the_shape(self) -> None:
        assert make_task().normalize(torch.zeros(2, 5, 1)).shape == (2, 5, 1)

    def test_visible_range_can_be_given(self) -> None:
        task = make_task(ranges={"visible": (0.0, 18.0)})
        assert task.normalize(task.Y, scale="visible").max() == 0.5

    def test_unknown_or_absent_scale(self) -> None:
        with pytest.raises(ValueError, match=r"`scale` must be one of .*received 'z'.*`ranges`"):
            make_task().normalize(torch.zeros(1), scale="z")
        with pytest.raises(ValueError, match="received 'full'"):
            make_task(ranges=None).normalize(torch.zeros(1))


class TestStartDesigns:
    def test_best_first(self) -> None:
        task = make_task()
        X, Y = task.start_designs(4)
        assert Y.flatten().tolist() == [9.0, 8.0, 7.0, 6.0]
        assert torch.equal(X, task.X[[9, 8, 7, 6]])

    def test_repeated_design_counts_once_with_its_best_value(self) -> None:
        X = make_task().X.clone()
        X[3] = X[9]
        X[5] = X[8]
        task = make_task(X=X)
        starts, Y = task.start_designs(8)
        assert Y.flatten().tolist() == [9.0, 8.0, 7.0, 6.0, 4.0, 2.0, 1.0, 0.0]
        assert torch.unique(starts, dim=0).shape[0] == 8
        with pytest.raises(ValueError, match=r"`q` must not exceed the 8 distinct .* received 9"):
            task.start_designs(9)

    @pytest.mark.parametrize("q", [0, -1, 2.0, True])
    def test_bad_count(self, q: Any) -> None:
        with pytest.raises(ValueError, match="`q` must be an integer of at least 1, received"):
            make_task().start_designs(q)


class TestRandomDesigns:
    def test_uniform_seeded_and_valid(self) -> None:
        task = make_task()
        X = task.random_designs(500, seed=3)
        assert X.shape == (500, 3)
        assert torch.equal(X, X.clamp(BOUNDS[0], BOUNDS[1]))
        torch.testing.assert_close(X.mean(dim=0), BOUNDS.mean(dim=0), atol=0.15, rtol=0.0)
        assert torch.equal(X, task.random_designs(500, seed=3))
        assert not torch.equal(X, task.random_designs(500, seed=4))

    def test_leaves_the_global_random_state_alone(self) -> None:
        before = torch.get_rng_state()
        make_task().random_designs(5, seed=0)
        assert torch.equal(before, torch.get_rng_state())

    def test_post_processed(self) -> None:
        X = make_task(post_processing_func=halve_steps).random_designs(20, seed=0)
        assert torch.equal(X, halve_steps(X))

    def test_own_function(self) -> None:
        task = make_task(random_designs=lambda n, generator: BOUNDS[:1].repeat(n, 1))
        assert torch.equal(task.random_designs(2, seed=0), BOUNDS[:1].repeat(2, 1))

    def test_own_function_out_of_bounds(self) -> None:
        task = make_task(random_designs=lambda n, generator: torch.full((n, 3), 9.0))
        with pytest.raises(ValueError, match="`random_designs` must lie within the bounds"):
            task.random_designs(2, seed=0)

    def test_bad_count(self) -> None:
        with pytest.raises(ValueError, match="`n` must be an integer of at least 1, received 0"):
            make_task().random_designs(0, seed=0)


class TestProperties:
    def test_sizes_fixed_features_and_repr(self) -> None:
        task = make_task()
        assert (task.num_rows, task.dim) == (10, 3)
        assert task.fixed_features == {2: 2.0}
        assert repr(task) == "OfflineTask('toy', n=10, d=3, visible=(0, 9), full=(-10, 30))"
        assert "SUBSTITUTE" in repr(make_task(substitute="rebuilt"))

    def test_to_moves_the_tensors_and_starts_fresh_counters(self) -> None:
        task = make_task(post_processing_func=halve_steps)
        task.evaluate(task.X)
        other = task.to(dtype=torch.float32, device="cpu")
        assert {other.X.dtype, other.Y.dtype, other.bounds.dtype} == {torch.float32}
        assert (other.num_oracle_calls, task.num_oracle_calls) == (0, 1)
        assert other.evaluate(other.X).dtype == torch.float32
        assert other.random_designs(2, seed=0).dtype == torch.float32
        assert task.X.dtype == torch.float64
        other.ranges["full"] = (0.0, 1.0)
        assert task.ranges["full"] == (-10.0, 30.0)

    def test_copy_without_oracle(self) -> None:
        task = make_task()
        blind = task.without_oracle()
        assert torch.equal(blind.X, task.X)
        with pytest.raises(RuntimeError, match="asked about 10 designs"):
            blind.evaluate(task.X)
        assert task.num_oracle_calls == 0
        assert task.evaluate(task.X).shape == (10, 1)

    def test_pickles(self) -> None:
        task = make_task()
        copy = pickle.loads(pickle.dumps(task))
        assert torch.equal(copy.evaluate(task.X), task.evaluate(task.X))


#: Sequences of up to three letters of two, and the padding, 2.
PADDED = Vocabulary("ab", padded=True)
TOKENS = torch.tensor([[0, 1, 2], [1, 2, 2], [0, 0, 0], [1, 0, 1]], dtype=torch.float64)


def make_token_task(**options: Any) -> OfflineTask:
    """Worth as many letters as there are."""
    defaults: dict[str, Any] = {
        "name": "words",
        "X": TOKENS,
        "Y": PADDED.lengths(TOKENS).unsqueeze(-1).double(),
        "vocabulary": PADDED,
        "oracle": PADDED.lengths,
    }
    return OfflineTask(**{**defaults, **options})


class TestTokens:
    def test_bounds_are_those_of_the_tokens(self) -> None:
        task = make_token_task()
        assert task.vocabulary is PADDED
        assert task.bounds.tolist() == [[0.0] * 3, [2.0] * 3]
        assert task.bounds.dtype == torch.float64
        bare = make_token_task(vocabulary=Vocabulary("abc"))
        assert bare.bounds.tolist() == [[0.0] * 3, [2.0] * 3]
        assert make_task().vocabulary is None

    def test_evaluate(self) -> None:
        task = make_token_task()
        assert task.evaluate(TOKENS).flatten().tolist() == [2.0, 1.0, 3.0, 3.0]
        assert task.num_oracle_queries == 4
        assert task.evaluate(TOKENS.float()).dtype == torch.float64

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ([0.0, 0.5, 1.0], r"whole numbers from 0 to 2, .*row 1 holds \[0\.0, 0\.5, 1\.0\]"),
            ([0.0, 2.0, 1.0], r"padding at the end only; row 1 holds \[0\.0, 2\.0, 1\.0\]"),
            ([1.0 + 1e-9, 2.0, 2.0], "must hold token sequences"),
            ([0.0, 0.0, 3.0], "must lie within the bounds; row 1, column 2 holds 3"),
            ([-1.0, 0.0, 0.0], "must lie within the bounds; row 1, column 0 holds -1"),
            ([torch.nan, 0.0, 0.0], "holds NaN"),
        ],
    )
    def test_other_designs_never_reach_the_oracle(self, row: list[float], message: str) -> None:
        task = make_token_task(oracle=lambda X: pytest.fail("too late"))
        X = torch.tensor([[0.0, 1.0, 2.0], row], dtype=torch.float64)
        with pytest.raises(ValueError, match=f"`X` {message}|`X` must hold .*{message}"):
            task.evaluate(X)
        assert task.num_oracle_calls == 0

    def test_random_designs_are_uniform_over_the_symbols(self) -> None:
        """Of the full length, without padding."""
        task = make_token_task()
        state = torch.get_rng_state()
        X = task.random_designs(400, seed=1)
        assert torch.equal(torch.get_rng_state(), state)
        assert X.dtype == torch.float64
        assert len(torch.unique(X, dim=0)) == 8
        assert X.max() == 1.0
        assert 0.4 < X.mean().item() < 0.6
        assert torch.equal(X, task.random_designs(400, seed=1))
        assert not torch.equal(X, task.random_designs(400, seed=2))

    def test_random_designs_of_ones_own(self) -> None:
        task = make_token_task(random_designs=lambda n, generator: TOKENS[:n])
        assert torch.equal(task.random_designs(2, seed=0), TOKENS[:2])
        bad = make_token_task(random_designs=lambda n, generator: TOKENS[:n] + 0.5)
        with pytest.raises(ValueError, match="`random_designs` must"):
            bad.random_designs(1, seed=0)

    def test_start_designs_copies_and_pickles(self) -> None:
        task = make_token_task()
        X, Y = task.start_designs(3)
        assert X.tolist() == [[0.0] * 3, [1.0, 0.0, 1.0], [0.0, 1.0, 2.0]]
        assert Y.flatten().tolist() == [3.0, 3.0, 2.0]
        other = pickle.loads(pickle.dumps(task.to(dtype=torch.float32)))
        assert other.vocabulary == PADDED
        assert other.evaluate(other.X).dtype == torch.float32
        assert task.fixed_features == {}

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            ([[0.0, 0.5], [0.0, 1.0]], r"row 0 holds \[0\.0, 0\.5\]; decode"),
            ([[0.0, 1.0], [0.0, 3.0]], r"from 0 to 2, padding at the end only; row 1 holds"),
            ([[0.0, 1.0], [-1.0, 0.0]], "row 1 holds"),
            ([[2.0, 1.0], [0.0, 0.0]], "row 0 holds"),
        ],
    )
    def test_bad_tokens(self, X: list[list[float]], message: str) -> None:
        tokens = torch.tensor(X, dtype=torch.float64)
        with pytest.raises(ValueError, match=f"`X` must hold token sequences: .*{message}"):
            make_token_task(X=tokens, Y=tokens[:, :1])

    def test_long_rows_are_cut(self) -> None:
        X = torch.full((1, 40), 0.5, dtype=torch.float64)
        with pytest.raises(ValueError, match="must hold token") as info:
            make_token_task(X=X, Y=X[:, :1])
        assert str(info.value).count("0.5") == 12

    @pytest.mark.parametrize(
        ("options", "received"),
        [({"bounds": BOUNDS}, "both"), ({"vocabulary": None}, "neither")],
    )
    def test_bounds_or_vocabulary(self, options: dict[str, Any], received: str) -> None:
        message = f"Exactly one of `bounds` and `vocabulary` must be given, received {received}"
        with pytest.raises(ValueError, match=message):
            make_token_task(**options)


class TestConstructor:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"X": [[1.0]]}, "`X` must be a floating point tensor, received list"),
            ({"Y": torch.arange(10).unsqueeze(-1)}, "`Y` must be a floating .* torch.int64"),
            ({"Y": torch.zeros(10)}, r"`Y` shape n x 1 .* received \(10, 3\) and \(10,\)"),
            ({"Y": torch.zeros(9, 1)}, r"and \(9, 1\)"),
            ({"X": torch.zeros(0, 3), "Y": torch.zeros(0, 1)}, "n >= 1"),
            ({"Y": torch.full((10, 1), torch.inf)}, "`Y` holds NaN or infinite"),
            ({"X": torch.full((10, 3), torch.nan)}, "`X` holds NaN or infinite"),
            ({"Y": torch.zeros(10, 1)}, "share dtype and device, received torch.float64"),
            ({"X": torch.full((10, 3), 2.0).double()}, "10 rows do not, the first is row 0"),
        ],
    )
    def test_bad_data(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InputDataError, match=message):
            make_task(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"bounds": [(0.0, 1.0)]}, r"`bounds` must be a tensor of shape \(2, 3\), .*list"),
            ({"bounds": BOUNDS.T}, r"received \(3, 2\)"),
            ({"bounds": BOUNDS.float()}, "`bounds` must share dtype .* torch.float32"),
            ({"bounds": BOUNDS.flip(0)}, "lower <= upper"),
            ({"bounds": BOUNDS + torch.inf}, "`bounds` must be finite"),
            ({"ranges": {"all": (0.0, 1.0)}}, "`ranges` may name the scales .* received 'all'"),
            ({"ranges": {"full": (1.0, 1.0)}}, r"received \(1.0, 1.0\) for 'full'"),
            ({"ranges": {"full": (0.0, torch.inf)}}, "finite minimum below a finite maximum"),
            ({"Y": torch.zeros(10, 1).double()}, "'visible'; a constant `Y` has no scale"),
        ],
    )
    def test_bad_arguments(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make_task(**options)

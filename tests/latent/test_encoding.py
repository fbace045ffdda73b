from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from botorch.exceptions.errors import UnsupportedError
from botorch.models.transforms import Normalize
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma.latent import LogitsEncoding, OneHotEncoding, Vocabulary
from botorch_roma.latent.encoding import TokenEncoding

DNA = Vocabulary("acgt")
PADDED = Vocabulary("acgt", padded=True)

KINDS: list[type[Any]] = [OneHotEncoding, LogitsEncoding]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)


def some_tokens(*shape: int, vocabulary: Vocabulary = DNA) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary.num_classes, shape, generator=generator)


class TestRoundTrip:
    @given(
        rows=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1),
        kind=st.sampled_from(KINDS),
        dtype=st.sampled_from([torch.float32, torch.float64]),
    )
    def test_tokens(self, rows: list[list[int]], kind: Any, dtype: torch.dtype) -> None:
        X = torch.tensor(rows, dtype=dtype)
        encoding = kind(Vocabulary("abcde"), 3)
        Z = encoding.encode(X)
        assert Z.shape == (len(rows), encoding.encoded_dim)
        assert Z.dtype == dtype
        assert torch.equal(encoding.decode(Z), X)
        assert encoding.decode(Z).dtype == dtype
        assert bool((Z.min(dim=0).values >= encoding.bounds[0]).all())
        assert bool((Z.max(dim=0).values <= encoding.bounds[1]).all())

    @given(
        rows=st.lists(
            st.lists(st.floats(-3.0, 3.0), min_size=20, max_size=20), min_size=1, max_size=4
        ),
        kind=st.sampled_from(KINDS),
    )
    def test_any_vector_stands_for_a_valid_sequence(
        self, rows: list[list[float]], kind: Any
    ) -> None:
        """Padding at the end only, no sequence empty, and decoding settled after one round."""
        encoding = kind(PADDED, 4)
        Z = torch.tensor(rows, dtype=torch.double)[:, : encoding.encoded_dim]
        X = encoding.decode(Z)
        assert torch.equal(PADDED.canonical(X), X)
        assert bool((PADDED.lengths(X) >= 1).all())
        assert torch.equal(encoding.decode(encoding.encode(X)), X)
        assert torch.equal(encoding.snap(Z), encoding.encode(X))

    @kinds
    def test_batches_and_whole_numbers(self, kind: Any) -> None:
        tokens, encoding = some_tokens(2, 3, 8).to(torch.uint8), kind(DNA, 8)
        Z = encoding.encode(tokens)
        assert Z.shape == (2, 3, encoding.encoded_dim)
        assert Z.dtype == encoding.bounds.dtype
        assert torch.equal(Z[1, 2], encoding.encode(tokens[1, 2]))
        assert torch.equal(encoding.decode(Z).long(), tokens.long())

    @kinds
    def test_as_a_transform(self, kind: Any) -> None:
        """In training and in evaluation alike."""
        encoding, X = kind(DNA, 5), some_tokens(6, 5).double()
        for mode in (True, False):
            Z = encoding.train(mode)(X)
            assert torch.equal(Z, encoding.encode(X))
            assert torch.equal(encoding.untransform(Z), X)
            assert torch.equal(encoding.preprocess_transform(X), Z)


class TestOneHot:
    def test_values(self) -> None:
        encoding = OneHotEncoding(Vocabulary("abc"), 2)
        assert encoding.encode(torch.tensor([[0.0, 2.0]])).tolist() == [[1, 0, 0, 0, 0, 1]]
        assert (encoding.dim, encoding.encoded_dim) == (2, 6)
        assert encoding.bounds.tolist() == [[0.0] * 6, [1.0] * 6]
        assert encoding.design_bounds.tolist() == [[0.0, 0.0], [2.0, 2.0]]

    def test_the_largest_wins_and_the_first_of_equals(self) -> None:
        encoding = OneHotEncoding(Vocabulary("abc"), 2)
        Z = torch.tensor([[0.1, 0.3, 0.2, 0.9, 0.9, 0.8], [0.0] * 6])
        assert encoding.decode(Z).tolist() == [[1.0, 0.0], [0.0, 0.0]]

    def test_padding_ends_the_sequence(self) -> None:
        encoding = OneHotEncoding(Vocabulary("ab", padded=True), 3)
        Z = torch.tensor([[0.0, 0.5, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
        assert encoding.decode(Z).tolist() == [[1.0, 2.0, 2.0]]

    def test_no_empty_sequence(self) -> None:
        """Where the padding is best at the first position the second best is taken."""
        encoding = OneHotEncoding(Vocabulary("ab", padded=True), 2)
        Z = torch.tensor([[0.1, 0.3, 1.0, 0.0, 1.0, 0.0]])
        before = Z.clone()
        assert encoding.decode(Z).tolist() == [[1.0, 1.0]]
        assert torch.equal(Z, before)

    def test_columns_of_a_position(self) -> None:
        encoding = OneHotEncoding(DNA, 3)
        assert [list(encoding.columns_of(i)) for i in range(3)] == [
            [0, 1, 2, 3],
            [4, 5, 6, 7],
            [8, 9, 10, 11],
        ]

    def test_a_single_token(self) -> None:
        encoding = OneHotEncoding(Vocabulary("a"), 2)
        assert encoding.encode(torch.zeros(1, 2)).tolist() == [[1.0, 1.0]]
        assert encoding.decode(torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


class TestLogits:
    def test_relative_to_the_first_token(self) -> None:
        # 0.6 + 0.4 / 4 = 0.7 on the token and 0.1 elsewhere, so every logit is 0 or +-log 7.
        Z = LogitsEncoding(DNA, 3).encode(torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.double))
        expected = math.log(7.0) * torch.tensor([[-1, -1, -1, 1, 0, 0, 0, 0, 1]]).double()
        torch.testing.assert_close(Z, expected, atol=1e-12, rtol=0.0)

    def test_box_is_wider_than_the_data(self) -> None:
        """By a tenth of the width, 2 log 7, on either side."""
        encoding = LogitsEncoding(DNA, 2)
        assert (encoding.dim, encoding.encoded_dim) == (2, 6)
        limit = torch.full((6,), 1.2 * math.log(7.0), dtype=torch.double)
        torch.testing.assert_close(encoding.bounds, torch.stack([-limit, limit]))
        assert encoding.design_bounds.tolist() == [[0.0, 0.0], [3.0, 3.0]]

    def test_the_first_token_wins_where_all_others_are_below_zero(self) -> None:
        encoding = LogitsEncoding(DNA, 2)
        Z = torch.tensor([[-0.1, -0.2, -0.3, -1.0, 0.1, 0.0]])
        assert encoding.decode(Z).tolist() == [[0.0, 2.0]]

    def test_no_empty_sequence(self) -> None:
        encoding = LogitsEncoding(Vocabulary("ab", padded=True), 2)
        assert encoding.decode(torch.tensor([[-0.1, 2.0, 0.0, 2.0]])).tolist() == [[0.0, 2.0]]

    def test_columns_of_a_position(self) -> None:
        encoding = LogitsEncoding(DNA, 2)
        assert [list(encoding.columns_of(i)) for i in range(2)] == [[0, 1, 2], [3, 4, 5]]

    def test_needs_two_tokens(self) -> None:
        with pytest.raises(ValueError, match="`vocabulary` must have at least two tokens"):
            LogitsEncoding(Vocabulary("a"), 3)
        assert LogitsEncoding(Vocabulary("a", padded=True), 3).encoded_dim == 3


class TestNeighbours:
    @kinds
    def test_all_that_differ_in_one_token(self, kind: Any) -> None:
        X = some_tokens(3, 5)
        N = kind(DNA, 5).neighbours(X)
        assert N.shape == (15, 3, 5)
        assert ((N != X).sum(dim=-1) == 1).all()
        assert all(len({tuple(row) for row in N[:, i].tolist()}) == len(N) for i in range(3))

    def test_of_padded_sequences(self) -> None:
        padded = Vocabulary("ab", padded=True)
        N = OneHotEncoding(padded, 3).neighbours(torch.tensor([[0.0, 1.0, 2.0]]))
        found = set(padded.to_strings(N[:, 0]))
        assert found == {"bb", "aa", "a", "aba", "abb", "ab"}  # itself for the empty one


class TestBounds:
    @kinds
    def test_those_of_the_tokens(self, kind: Any) -> None:
        encoding = kind(DNA, 2)
        for dtype in (torch.float32, torch.float64):
            bounds = torch.tensor([[0.0, 0.0], [3.0, 3.0]], dtype=dtype)
            encoded = encoding.encode_bounds(bounds)
            assert encoded.dtype == dtype
            assert torch.equal(encoded, encoding.bounds.to(dtype))

    @kinds
    @pytest.mark.parametrize("bad", [[[0.0, 0.0], [3.0, 2.0]], [[1.0, 0.0], [3.0, 3.0]]])
    def test_others_are_refused(self, kind: Any, bad: list[list[float]]) -> None:
        message = rf"{kind.__name__} knows no other bounds .* \[0\.0, 3\.0\] .*`fixed_features`"
        with pytest.raises(UnsupportedError, match=message):
            kind(DNA, 2).encode_bounds(torch.tensor(bad))

    @kinds
    def test_linear_constraints_are_refused(self, kind: Any) -> None:
        message = rf"{kind.__name__} holds tokens, which linear .*`nonlinear_inequality_constr"
        with pytest.raises(UnsupportedError, match=message):
            kind(DNA, 2).numeric_column(1)


class TestCheckDesigns:
    @kinds
    def test_sequences_pass(self, kind: Any) -> None:
        kind(PADDED, 3).check_designs(torch.tensor([[0.0, 4.0, 4.0], [3.0, 2.0, 1.0]]))
        kind(DNA, 3).check_designs(some_tokens(4, 3).double())

    @kinds
    @pytest.mark.parametrize("row", [[0.0, 4.0, 1.0], [4.0, 4.0, 4.0], [4.0, 1.0, 1.0]])
    def test_padding_before_the_end(self, kind: Any, row: list[float]) -> None:
        X = torch.tensor([[0.0, 1.0, 4.0], row])
        message = r"padding \(token 4\) at the end only.* row 1 holds"
        with pytest.raises(ValueError, match=message):
            kind(PADDED, 3).check_designs(X)

    @kinds
    def test_positions_of_padded_sequences_cannot_be_fixed(self, kind: Any) -> None:
        """A sequence may end before the position."""
        with pytest.raises(UnsupportedError, match=r"padded sequences .* `nonlinear_inequality_c"):
            kind(PADDED, 3).columns_of(1)


class TestEquals:
    @kinds
    def test_by_vocabulary_and_length(self, kind: Any) -> None:
        encoding = kind(DNA, 3)
        assert encoding.equals(encoding)
        assert encoding.equals(kind(Vocabulary(["a", "c", "g", "t"]), 3).double())
        for other in (
            kind(DNA, 4),
            kind(PADDED, 3),
            kind(Vocabulary("tgca"), 3),
            Normalize(3),
            *(k(DNA, 3) for k in KINDS if k is not kind),
        ):
            assert not encoding.equals(other)

    def test_same_sizes_but_another_kind(self) -> None:
        """16 tokens on 15 columns, and 15 on 15."""
        first = LogitsEncoding(Vocabulary("abcdefghijklmnop"), 1)
        second = OneHotEncoding(Vocabulary("abcdefghijklmno"), 1)
        assert first.encoded_dim == second.encoded_dim
        assert not first.equals(second)


class TestModule:
    @kinds
    def test_moves_and_pickles(self, kind: Any) -> None:
        encoding = pickle.loads(pickle.dumps(kind(DNA, 3).to(torch.float64)))
        assert encoding.bounds.dtype == encoding.design_bounds.dtype == torch.float64
        assert encoding.equals(kind(DNA, 3))
        assert encoding.state_dict() == {}  # it must load into a model with any encoding's data
        assert not encoding.is_one_to_many


@kinds
class TestBadInput:
    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (torch.tensor([[0.0, 4.0]]), "integers from 0 to 3, received torch.float32 with 4;"),
            (torch.tensor([[-1.0, 0.0]]), "with -1;"),
            (torch.tensor([[0.5, 0.0]]), "with 0.5;"),
            (torch.tensor([[torch.nan, 0.0]]), "with nan;"),
            (torch.zeros(0, 2), r"not be empty, received shape \(0, 2\)"),
            (torch.zeros(1, 3), r"`X` must have 2 tokens a row, received shape \(1, 3\)"),
        ],
    )
    def test_tokens(self, kind: Any, X: Tensor, message: str) -> None:
        encoding: TokenEncoding = kind(DNA, 2)
        with pytest.raises(ValueError, match=message):
            encoding.encode(X)

    @pytest.mark.parametrize("length", [0, -1, 2.0, True])
    def test_length(self, kind: Any, length: Any) -> None:
        with pytest.raises(ValueError, match="`length` must be an integer of at least 1, received"):
            kind(DNA, length)

    def test_width_of_vectors(self, kind: Any) -> None:
        encoding: TokenEncoding = kind(DNA, 2)
        with pytest.raises(ValueError, match=rf"`Z` must have {encoding.encoded_dim} columns"):
            encoding.decode(torch.zeros(1, encoding.encoded_dim + 2))

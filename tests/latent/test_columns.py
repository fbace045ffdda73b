from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from botorch.exceptions.errors import ModelFittingError, UnsupportedError
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma.latent import (
    ColumnEncoding,
    Encoding,
    LatentSpace,
    LogitsEncoding,
    NumericEncoding,
    OneHotEncoding,
    Vocabulary,
)

BOX = torch.tensor([[0.0, -5.0], [1.0, 5.0]], dtype=torch.double)
KIND = Vocabulary(["oak", "fir", "ash"])
SITE = Vocabulary("ac", padded=True)


def mixed() -> ColumnEncoding:
    """Two numbers, a category, a sequence of up to two letters, one number more."""
    return ColumnEncoding(
        [
            NumericEncoding(BOX),
            OneHotEncoding(KIND, 1),
            LogitsEncoding(SITE, 2),
            NumericEncoding(BOX[:, :1] + 7.0),
        ]
    )


DESIGN = torch.tensor([0.5, -2.0, 2.0, 1.0, 2.0, 7.25], dtype=torch.double)


class TestNumeric:
    def test_numbers_stay(self) -> None:
        encoding, X = NumericEncoding(BOX), torch.tensor([[0.3, 9.0]])
        assert torch.equal(encoding.encode(X), X)
        assert torch.equal(encoding.decode(X), X)
        assert (encoding.dim, encoding.encoded_dim) == (2, 2)
        assert list(encoding.columns_of(1)) == [1]
        assert encoding.numeric_column(1) == 1
        assert torch.equal(encoding.design_bounds, BOX)

    def test_other_bounds_are_taken(self) -> None:
        other = torch.tensor([[0.2, 0.0], [0.3, 1.0]])
        assert torch.equal(NumericEncoding(BOX).encode_bounds(other), other)

    @pytest.mark.parametrize(
        ("bounds", "message"),
        [
            (BOX[0], r"must be a 2 x d tensor, received shape \(2,\)"),
            (BOX.flip(0), "column 0 has lower=1.0 and upper=0.0"),
            ([[0.0], [1.0]], "must be a 2 x d tensor, received list"),
        ],
    )
    def test_bad_bounds(self, bounds: Any, message: str) -> None:
        with pytest.raises(ValueError, match=f"`bounds` .*{message}"):
            NumericEncoding(bounds)


class TestEncode:
    def test_block_by_block(self) -> None:
        encoding = mixed()
        Z = encoding.encode(DESIGN)
        assert (encoding.dim, encoding.encoded_dim) == (6, 10)
        assert Z[:2].tolist() == [0.5, -2.0]
        assert Z[2:5].tolist() == [0.0, 0.0, 1.0]
        assert torch.equal(Z[5:9], LogitsEncoding(SITE, 2).encode(DESIGN[3:5]))
        assert Z[9] == 7.25
        assert torch.equal(encoding.decode(Z), DESIGN)
        assert Z.dtype == torch.double

    @given(
        rows=st.lists(
            st.tuples(
                st.floats(-9, 9),
                st.integers(0, 2),
                st.sampled_from([(0, 0), (1, 0), (0, 2), (1, 2)]),
            ),
            min_size=1,
        ),
    )
    def test_round_trip(self, rows: list[tuple[float, int, tuple[int, int]]]) -> None:
        X = torch.tensor([[n, -n, k, *s, 7.0] for n, k, s in rows], dtype=torch.double)
        encoding = mixed()
        assert torch.equal(encoding.decode(encoding.encode(X)), X)
        batch = X.expand(2, *X.shape)
        assert torch.equal(encoding.decode(encoding.encode(batch)), batch)

    def test_bounds(self) -> None:
        encoding = mixed()
        assert encoding.bounds.shape == (2, 10)
        assert encoding.bounds.dtype == torch.double
        assert encoding.bounds[:, :5].tolist() == [[0, -5, 0, 0, 0], [1, 5, 1, 1, 1]]
        torch.testing.assert_close(encoding.bounds[:, 5:9], LogitsEncoding(SITE, 2).bounds)
        assert encoding.design_bounds.tolist() == [[0, -5, 0, 0, 0, 7], [1, 5, 2, 2, 2, 8]]

    def test_bounds_of_tokens_alone(self) -> None:
        encoding = ColumnEncoding([OneHotEncoding(KIND, 1), LogitsEncoding(SITE, 1)])
        torch.testing.assert_close(
            encoding.bounds[:, 3:], LogitsEncoding(SITE, 1).bounds, check_dtype=False
        )
        X = torch.tensor([[2.0, 1.0]])
        assert torch.equal(encoding.decode(encoding.encode(X)), X)
        assert encoding.encode(X).dtype == torch.float32

    def test_snap_moves_tokens_alone(self) -> None:
        Z = mixed().bounds[1] - 0.25
        snapped = mixed().snap(Z)
        assert torch.equal(snapped[[0, 1, 9]], Z[[0, 1, 9]])
        assert snapped[2:5].tolist() == [1.0, 0.0, 0.0]

    def test_latent_space_as_a_block(self, lossless_space: Callable[..., LatentSpace]) -> None:
        tokens = torch.tensor([[0, 1, 2], [1, 0, 0], [2, 2, 1]])
        space = lossless_space(Vocabulary("abc"), tokens)
        encoding = ColumnEncoding([NumericEncoding(BOX), space]).to(torch.double)
        assert encoding.encoded_dim == 8
        X = torch.cat([torch.full((3, 2), 0.3), tokens], dim=1).double()
        assert torch.equal(encoding.decode(encoding.encode(X)), X)
        assert space.bounds.dtype == next(space.vae.parameters()).dtype == torch.double
        with pytest.raises(UnsupportedError, match="Column 3: LatentSpace mixes the columns"):
            encoding.columns_of(3)


class TestColumns:
    def test_of_the_encoding(self) -> None:
        blocks = [NumericEncoding(BOX), OneHotEncoding(KIND, 2), LogitsEncoding(KIND, 2)]
        encoding = ColumnEncoding([*blocks, NumericEncoding(BOX)])
        assert [list(encoding.columns_of(i)) for i in range(8)] == [
            [0],
            [1],
            [2, 3, 4],
            [5, 6, 7],
            [8, 9],
            [10, 11],
            [12],
            [13],
        ]

    def test_of_numbers(self) -> None:
        encoding = mixed()
        assert [encoding.numeric_column(i) for i in (0, 1, 5)] == [0, 1, 9]
        message = "Column 2: OneHotEncoding holds tokens, which linear constraints cannot refer to"
        with pytest.raises(UnsupportedError, match=message):
            encoding.numeric_column(2)
        with pytest.raises(UnsupportedError, match="Column 4: LogitsEncoding holds tokens"):
            encoding.numeric_column(4)
        with pytest.raises(UnsupportedError, match="Column 4: A position of padded sequences"):
            encoding.columns_of(4)

    def test_encode_bounds(self) -> None:
        encoding = mixed()
        bounds = encoding.design_bounds.clone()
        bounds[:, 1] = torch.tensor([-1.0, 3.0])
        expected = encoding.bounds.clone()
        expected[:, 1] = torch.tensor([-1.0, 3.0])
        assert torch.equal(encoding.encode_bounds(bounds), expected)
        bounds[1, 2] = 1.0
        with pytest.raises(UnsupportedError, match="OneHotEncoding knows no other bounds"):
            encoding.encode_bounds(bounds)


class TestNeighbours:
    def test_one_token_of_one_block(self) -> None:
        X = torch.tensor([[0.5, 2.0, 1.0, 0.0, 1.0, 8.0], [0.1, 1.0, 0.0, 1.0, 2.0, 9.0]]).double()
        N = mixed().neighbours(X)
        assert N.shape == (2 + 4, 2, 6)
        assert (N[..., [0, 1, 5]] == X[:, [0, 1, 5]]).all()
        assert N[:2, 0, 2].tolist() == [2.0, 0.0]
        assert (N[:2, :, 3:5] == X[:, 3:5]).all()
        assert (N[2:, :, 2] == X[:, 2]).all()
        shorter = {tuple(row) for row in N[2:, 1, 3:5].tolist()}
        assert shorter == {(0.0, 2.0), (1.0, 2.0), (1.0, 0.0), (1.0, 1.0)}


class TestCheckDesigns:
    def test_block_by_block(self) -> None:
        mixed().check_designs(DESIGN.unsqueeze(0))
        X = DESIGN.repeat(2, 1)
        X[1, 3:5] = torch.tensor([2.0, 0.0])
        with pytest.raises(ValueError, match=r"padding \(token 2\) at the end .*row 1 holds"):
            mixed().check_designs(X)

    def test_latent_space(self, lossless_space: Callable[..., LatentSpace]) -> None:
        space = lossless_space(KIND, torch.tensor([[0, 1], [2, 0]]))
        space.vae.decoder[0].weight.data.zero_()  # now every latent stands for the first token
        encoding = ColumnEncoding([NumericEncoding(BOX), space])
        X = torch.tensor([[0.5, 0.0, 2.0, 1.0]])
        with pytest.raises(ModelFittingError, match=r"loses the start designs: 0\.0% of 1"):
            encoding.check_designs(X)


class TestEquals:
    def test_by_blocks(self) -> None:
        assert mixed().equals(mixed())
        assert mixed().equals(pickle.loads(pickle.dumps(mixed())))
        blocks = list(mixed().blocks)
        for other in (blocks[:-1], [*blocks[:2], OneHotEncoding(SITE, 2), blocks[3]]):
            assert not mixed().equals(ColumnEncoding(other))
        assert not mixed().equals(NumericEncoding(mixed().design_bounds))
        one = ColumnEncoding([OneHotEncoding(KIND, 1)])
        assert not OneHotEncoding(KIND, 1).equals(one)
        assert not one.equals(OneHotEncoding(KIND, 1))


class TestBadInput:
    def test_no_blocks(self) -> None:
        with pytest.raises(ValueError, match=r"`blocks` must hold at least one .* received none"):
            ColumnEncoding([])

    @pytest.mark.parametrize(
        ("call", "width", "expected"),
        [
            ("encode", 5, "`X` must have 6 columns"),
            ("decode", 6, "`Z` must have 10 columns"),
            ("encode_bounds", 10, "`bounds` must have 6 columns"),
            ("check_designs", 10, "`X` must have 6 columns"),
        ],
    )
    def test_widths(self, call: str, width: int, expected: str) -> None:
        encoding: Encoding = mixed()
        X: Tensor = torch.zeros(2, width)
        with pytest.raises(ValueError, match=rf"{expected}, received shape \(2, {width}\)"):
            getattr(encoding, call)(X)

    def test_unknown_category(self) -> None:
        X = DESIGN.clone()
        X[2] = 3.0
        with pytest.raises(ValueError, match="integers from 0 to 2, received"):
            mixed().encode(X)

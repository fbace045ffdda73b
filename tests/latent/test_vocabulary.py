from __future__ import annotations

import dataclasses
import pickle
import time
from typing import Any

import pytest
import torch
from botorch.exceptions import InputDataError
from hypothesis import given
from hypothesis import strategies as st

from botorch_roma.latent import Vocabulary
from botorch_roma.latent.vocabulary import check_tokens

DNA = Vocabulary("acgt")
PADDED = Vocabulary("acgt", padded=True)

words = st.text(alphabet="acgt", min_size=1, max_size=7)


class TestSymbols:
    def test_tokens_are_the_places_of_the_symbols(self) -> None:
        assert DNA.symbols == ("a", "c", "g", "t")
        assert DNA.tokenize(["gatt", "acca"]).tolist() == [[2, 0, 3, 3], [0, 1, 1, 0]]
        assert DNA.tokenize(["gatt"]).dtype == torch.int64

    def test_padding_is_one_more_token_the_last(self) -> None:
        assert (DNA.num_classes, DNA.pad_token) == (4, None)
        assert (PADDED.num_classes, PADDED.pad_token) == (5, 4)

    def test_case_and_spaces_are_symbols_like_others(self) -> None:
        assert Vocabulary.from_strings(["aA b"]).symbols == (" ", "A", "a", "b")

    def test_equal_by_symbols_and_padding(self) -> None:
        DNA.split("a")  # what is cached does not count
        assert Vocabulary(["a", "c", "g", "t"]) == DNA
        assert len({DNA, PADDED, Vocabulary("acgt"), Vocabulary("tgca")}) == 3

    def test_frozen_and_pickled(self) -> None:
        PADDED.split("a")
        assert pickle.loads(pickle.dumps(PADDED)) == PADDED
        with pytest.raises(dataclasses.FrozenInstanceError):
            DNA.padded = True  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("symbols", "message"),
        [
            ("", r"received \[\]\.$"),
            (["a", ""], r"received \['a', ''\]\.$"),
            ("abca", r"received \['a', 'b', 'c', 'a'\] with \['a'\] repeated\."),
            (["a", 1], r"received \['a', 1\]\.$"),
            ([1, 1, "a", "a"], r"received \[1, 1, 'a', 'a'\] with .* repeated\."),
        ],
    )
    def test_bad_symbols(self, symbols: Any, message: str) -> None:
        with pytest.raises(ValueError, match=f"`symbols` must be different texts .*{message}"):
            Vocabulary(symbols)

    def test_long_lists_of_symbols_are_cut(self) -> None:
        with pytest.raises(ValueError, match=r"'19'\]") as info:
            Vocabulary([*map(str, range(50)), ""])
        assert "'20'" not in str(info.value)


class TestFromStrings:
    def test_characters_that_occur_sorted(self) -> None:
        assert Vocabulary.from_strings(["ba", "ca"]) == Vocabulary("abc")

    def test_padded_where_lengths_differ(self) -> None:
        assert Vocabulary.from_strings(["b", "ca"]) == Vocabulary("abc", padded=True)

    def test_a_single_sequence(self) -> None:
        vocabulary = Vocabulary.from_strings(["aa", "aa"])
        assert vocabulary == Vocabulary("a")
        assert vocabulary.tokenize(["aa"]).tolist() == [[0, 0]]

    @pytest.mark.parametrize(
        ("strings", "message"),
        [
            ([], "at least one sequence, received none"),
            (["a", ""], "at least one character, received '' in row 1; drop"),
            (["a", "b", None], "received None in row 2"),
            ([101, "a"], "received 101 in row 0"),
            ([float("nan")], "received nan in row 0"),
        ],
    )
    def test_bad_strings(self, strings: Any, message: str) -> None:
        for call in (Vocabulary.from_strings, PADDED.tokenize):
            with pytest.raises(InputDataError, match=f"`strings` must hold .*{message}"):
                call(strings)


class TestRoundTrip:
    @given(strings=st.lists(words, min_size=1))
    def test_unequal_lengths(self, strings: list[str]) -> None:
        tokens = PADDED.tokenize(strings)
        assert tokens.shape == (len(strings), max(map(len, strings)))
        assert PADDED.to_strings(tokens) == strings
        assert PADDED.lengths(tokens).tolist() == [len(s) for s in strings]
        assert torch.equal(PADDED.canonical(tokens), tokens)

    @given(strings=st.lists(st.text(min_size=1), min_size=1))
    def test_any_characters(self, strings: list[str]) -> None:
        vocabulary = Vocabulary.from_strings(strings)
        assert vocabulary.to_strings(vocabulary.tokenize(strings).double()) == strings

    @given(
        rows=st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=1),
    )
    def test_from_tokens(self, rows: list[list[int]]) -> None:
        tokens = PADDED.canonical(torch.tensor(rows))
        strings = PADDED.to_strings(tokens)
        kept = [i for i, s in enumerate(strings) if s]
        if kept:
            again = PADDED.tokenize([strings[i] for i in kept], length=5)
            assert torch.equal(again, tokens[kept])

    def test_symbols_of_several_characters(self) -> None:
        smiles = Vocabulary(["C", "Cl", "(", ")", "[nH]"], padded=True)
        assert smiles.split("CCl(C)[nH]") == ["C", "Cl", "(", "C", ")", "[nH]"]
        tokens = smiles.tokenize(["ClC", "C(Cl)C"])
        assert tokens.tolist() == [[1, 0, 5, 5, 5], [0, 2, 1, 3, 0]]
        assert smiles.to_strings(tokens) == ["ClC", "C(Cl)C"]


class TestTokenize:
    @pytest.mark.parametrize(
        ("string", "message"),
        [
            ("gaxt", r"'gaxt' holds 'x', which is not in the alphabet \['a', 'c', 'g', 't'\]"),
            ("GATT", "'GATT' holds 'GATT'"),
            ("ga t", "holds ' '"),
            ("n" * 50, r"The sequence 'n{40}\.\.\.' holds 'n{10}', which"),
        ],
    )
    def test_unknown_symbols(self, string: str, message: str) -> None:
        with pytest.raises(InputDataError, match=message):
            DNA.tokenize(["acgt", string])

    def test_unequal_lengths_need_padding(self) -> None:
        message = r"row 1 has 3 symbols \('gat'\), exactly 4 are expected; use a padded vocabulary"
        with pytest.raises(InputDataError, match=message):
            DNA.tokenize(["gatt", "gat"])

    def test_length_is_that_of_the_longest_by_default(self) -> None:
        assert PADDED.tokenize(["a", "gt"]).tolist() == [[0, 4], [2, 3]]
        assert PADDED.tokenize(["a"], length=3).tolist() == [[0, 4, 4]]
        assert DNA.tokenize(["gatt"], length=4).shape == (1, 4)

    def test_given_length(self) -> None:
        with pytest.raises(InputDataError, match=r"row 0 has 2 symbols .* exactly 3 are expected"):
            DNA.tokenize(["ga"], length=3)
        message = r"row 1 has 3 symbols \('gat'\), at most 2 are expected; drop the row"
        with pytest.raises(InputDataError, match=message):
            PADDED.tokenize(["g", "gat"], length=2)
        with pytest.raises(InputDataError, match=r"row 0 has 4 symbols .* exactly 3 are expected"):
            DNA.tokenize(["gatt"], length=3)


class TestToStrings:
    def test_what_follows_the_first_padding_is_left_out(self) -> None:
        tokens = torch.tensor([[0, 4, 2, 3], [4, 0, 0, 0], [3, 2, 1, 0]])
        assert PADDED.to_strings(tokens) == ["a", "", "tgca"]
        assert PADDED.canonical(tokens).tolist() == [[0, 4, 4, 4], [4, 4, 4, 4], [3, 2, 1, 0]]
        assert PADDED.lengths(tokens).tolist() == [1, 0, 4]

    def test_without_padding_all_positions_count(self) -> None:
        tokens = torch.tensor([[0, 3, 2]])
        assert DNA.canonical(tokens) is tokens
        assert DNA.lengths(tokens).tolist() == [3]

    def test_batches_and_dtypes(self) -> None:
        tokens = torch.tensor([[[0.0, 4.0, 1.0]], [[1.0, 1.0, 1.0]]])
        assert PADDED.canonical(tokens).tolist() == [[[0.0, 4.0, 4.0]], [[1.0, 1.0, 1.0]]]
        assert PADDED.canonical(tokens).dtype == torch.float32
        assert PADDED.lengths(tokens).tolist() == [[1], [3]]
        assert DNA.lengths(tokens).tolist() == [[3], [3]]

    @pytest.mark.parametrize(
        ("tokens", "message"),
        [
            (
                torch.tensor([[0, 4]]),
                "be integers from 0 to 3, received torch.int64 with 4; map",
            ),
            (torch.tensor([[-1, 2]]), "received torch.int64 with -1;"),
            (torch.tensor([[0.5, 1.0]]), "received torch.float32 with 0.5;"),
            (torch.tensor([[torch.nan, 1.0]]), "received torch.float32 with nan;"),
            (torch.tensor([[torch.inf]]), "with inf;"),
            (torch.zeros(0, 3), r"not be empty, received shape \(0, 3\)"),
        ],
    )
    def test_unknown_tokens(self, tokens: torch.Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=f"`tokens` must .*{message}"):
            DNA.to_strings(tokens)


class TestCheckTokens:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float16, torch.float64])
    def test_whole_numbers_of_any_dtype(self, dtype: torch.dtype) -> None:
        check_tokens(torch.tensor([[0, 3]], dtype=dtype), 4)
        with pytest.raises(ValueError, match="integers from 0 to 2, received"):
            check_tokens(torch.tensor([[0, 3]], dtype=dtype), 3)

    @pytest.mark.parametrize("tokens", [torch.tensor([[1j]]), torch.tensor([[True]])])
    def test_neither_complex_nor_boolean(self, tokens: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=f"integers from 0 to 3, received {tokens.dtype}"):
            check_tokens(tokens, 4)


@pytest.mark.parametrize(
    "symbols",
    [
        ["a", "b", "ab"],
        ["a", "ab", "bc", "c"],  # abc
        ["a", "aa"],
        ["01", "10", "0", "11"],  # 0110 is 01 10 and 0 11 0
    ],
)
def test_two_sequences_that_are_one_text(symbols: list[str]) -> None:
    with pytest.raises(ValueError, match="must not make one text of two different sequences"):
        Vocabulary(symbols)


@pytest.mark.parametrize(
    "symbols", ["acgt", ["[C]", "[O]", "[=C]"], ["a", "ab", "abb"], ["0", "10", "110"]]
)
def test_sequences_that_are_different_texts(symbols: list[str]) -> None:
    assert list(Vocabulary(symbols).symbols) == list(symbols)


def test_many_symbols() -> None:
    """As categories can be; what goes with the square of their number would take minutes."""
    start = time.monotonic()
    assert Vocabulary([f"{i:06d}" for i in range(100_000)]).num_classes == 100_000
    assert time.monotonic() - start < 10.0

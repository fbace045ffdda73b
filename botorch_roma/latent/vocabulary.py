r"""
Vocabularies: sequences as strings and as integer tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from botorch.exceptions import InputDataError
from torch import Tensor

from botorch_roma.limits import check_memory


@dataclass(frozen=True)
class Vocabulary:
    r"""The symbols of a kind of sequence; tokens are their numbers.

    Sequences of unequal length are padded at the end with one more token, the last.

    Args:
        symbols: The symbols, each a text of one or more characters.
        padded: Whether sequences may be shorter than the longest one.

    Raises:
        ValueError: For no, empty or repeated symbols, and such that two sequences of them can be
            one text (``a``, ``b`` and ``ab``).

    Example:
        >>> dna = Vocabulary("acgt")
        >>> dna.tokenize(["gatt", "acca"])
        tensor([[2, 0, 3, 3],
                [0, 1, 1, 0]])
    """

    symbols: Sequence[str]
    padded: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(self.symbols))
        counts = Counter(self.symbols)
        repeated = sorted((s for s, count in counts.items() if count > 1), key=str)
        if not self.symbols or repeated or not all(isinstance(s, str) and s for s in self.symbols):
            raise ValueError(
                "`symbols` must be different texts of at least one character, received "
                f"{list(self.symbols)[:20]}" + (f" with {repeated} repeated." if repeated else ".")
            )
        if not _uniquely_decodable(self.symbols):
            raise ValueError(
                "`symbols` must not make one text of two different sequences, received "
                f"{list(self.symbols)[:20]}; set them off, for instance with brackets."
            )

    @classmethod
    def from_strings(cls, strings: Sequence[str]) -> Vocabulary:
        """The characters that occur, sorted; padded where lengths differ.

        Raises:
            InputDataError: For no or empty strings.
        """
        _check_strings(strings)
        return cls(sorted(set().union(*strings)), padded=len({len(s) for s in strings}) > 1)

    @property
    def num_classes(self) -> int:
        """Number of tokens, that of the padding included."""
        return len(self.symbols) + self.padded

    @property
    def pad_token(self) -> int | None:
        """The token of the padding, the last one; None without padding."""
        return len(self.symbols) if self.padded else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.symbols, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)))

    def split(self, string: str) -> list[str]:
        """The symbols of a string, the longest one that fits first.

        Raises:
            InputDataError: For characters that are in no symbol.
        """
        found = self._pattern.findall(string)
        if sum(map(len, found)) != len(string):
            rest = self._pattern.sub("", string)
            raise InputDataError(
                f"The sequence {_shorten(string)!r} holds {rest[:10]!r}, which is not in the "
                f"alphabet {list(self.symbols)[:30]}; correct the row or the alphabet."
            )
        return found

    def tokenize(self, strings: Sequence[str], length: int | None = None) -> Tensor:
        r"""Strings to tokens, ``n x length``.

        Args:
            strings: The sequences.
            length: Number of tokens of a row; that of the longest sequence by default.

        Raises:
            InputDataError: For empty or too long sequences, unknown symbols, and lengths that
                differ where there is no padding; names the row.
        """
        _check_strings(strings)
        number = {s: i for i, s in enumerate(self.symbols)}
        rows = [[number[s] for s in self.split(string)] for string in strings]
        length = max(map(len, rows)) if length is None else length
        for i, row in enumerate(rows):
            if len(row) > length or (len(row) < length and not self.padded):
                raise InputDataError(
                    f"The sequence in row {i} has {len(row)} symbols ({_shorten(strings[i])!r}), "
                    + (f"at most {length}" if self.padded else f"exactly {length}")
                    + " are expected; "
                    + ("drop the row." if self.padded else "use a padded vocabulary or drop it.")
                )
        check_memory(
            f"Padding {len(rows)} sequences to {length} symbols, the length of the longest one,",
            8 * len(rows) * length,
            "drop the rows of the longest ones",
        )
        pad = len(self.symbols)
        return torch.tensor([row + [pad] * (length - len(row)) for row in rows])

    def to_strings(self, tokens: Tensor) -> list[str]:
        r"""Tokens ``n x length`` to strings; what follows the first padding is left out.

        Raises:
            ValueError: If a token is not in the vocabulary.
        """
        check_tokens(tokens, self.num_classes)
        symbols = [*self.symbols, ""]
        return ["".join(symbols[t] for t in row) for row in self.canonical(tokens.long()).tolist()]

    def canonical(self, tokens: Tensor) -> Tensor:
        r"""Tokens ``... x length`` with padding from the first padding to the end."""
        if self.pad_token is None:
            return tokens
        ended = (tokens == self.pad_token).cummax(dim=-1).values
        return torch.where(ended, torch.full_like(tokens, self.pad_token), tokens)

    def lengths(self, tokens: Tensor) -> Tensor:
        r"""Number of symbols before the padding, ``...`` of ``... x length``."""
        if self.pad_token is None:
            return torch.full(tokens.shape[:-1], tokens.shape[-1], device=tokens.device)
        return (self.canonical(tokens) != self.pad_token).sum(dim=-1)


def check_tokens(tokens: Tensor, num_classes: int) -> None:
    r"""Raise ``ValueError`` unless ``tokens`` holds whole numbers below ``num_classes``."""
    if tokens.numel() == 0:
        raise ValueError(f"`tokens` must not be empty, received shape {tuple(tokens.shape)}.")
    expected = f"`tokens` must be integers from 0 to {num_classes - 1}, received {tokens.dtype}"
    if tokens.is_complex() or tokens.dtype == torch.bool:
        raise ValueError(f"{expected}; convert them.")
    wrong = (tokens < 0) | (tokens >= num_classes) | (tokens != tokens.floor())
    if bool(wrong.any()):
        raise ValueError(f"{expected} with {tokens[wrong][0].item():g}; map the symbols first.")


def _check_strings(strings: Sequence[str]) -> None:
    if len(strings) == 0:
        raise InputDataError("`strings` must hold at least one sequence, received none.")
    for i, string in enumerate(strings):
        if not isinstance(string, str) or not string:
            raise InputDataError(
                f"`strings` must hold texts of at least one character, received {string!r} in row "
                f"{i}; drop or correct it."
            )


def _shorten(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def _uniquely_decodable(symbols: Sequence[str]) -> bool:
    """Whether no two sequences of symbols are one text, by the test of Sardinas and Patterson."""
    if len({len(s) for s in symbols}) == 1:
        return True
    code = set(symbols)
    rests = {b[len(a) :] for a in code for b in code if a != b and b.startswith(a)}
    seen: set[str] = set()
    while rests:  # what one of two readings is ahead of the other
        if rests & code:
            return False
        seen |= rests
        ahead = {s[len(r) :] for r in rests for s in code if s.startswith(r)}
        ahead |= {r[len(s) :] for r in rests for s in code if r.startswith(s)}
        rests = ahead - seen
    return True

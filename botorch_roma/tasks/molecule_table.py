r"""
Tables of molecules: read, made canonical, written as tokens.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks.arrays import (
    Array,
    PathLike,
    find_files,
    known_checksum,
    verify_checksum,
)
from botorch_roma.tasks.chemistry import canonical_smiles, selfies_symbols

#: Longest design in SELFIES symbols, the 98th percentile of the GSK3-beta table.
MAX_LENGTH = 62

#: A symbol is in the vocabulary if at least so many molecules hold it.
MIN_MOLECULES = 20


class Designs(NamedTuple):
    r"""Molecules as tokens.

    Attributes:
        tokens: ``n x MAX_LENGTH``, the last token for padding.
        symbols: The vocabulary, sorted.
        rows: Which of the given molecules the ``n`` designs are.
        dropped: Number of molecules left out, by reason.
    """

    tokens: Array
    symbols: list[str]
    rows: Array
    dropped: dict[str, int]


def read_lines(
    name: str, data_dir: PathLike | None, source: str, verify: bool
) -> tuple[list[str], str]:
    """Read a gzip-compressed text file.

    Args:
        name: Path of the file below the data folder.
        data_dir: Folder of the data, see ``resolve_data_dir``.
        source: Where the file comes from, for the message when it is missing.
        verify: Whether it must be the known file, byte for byte.

    Returns:
        Its lines, and its SHA-256 checksum.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it is damaged or another one than expected.
    """
    path = find_files([name], data_dir, source)[0]
    content = path.read_bytes()
    try:
        lines = gzip.decompress(content).decode("utf-8").splitlines()
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(
            f"`data_dir`: {path} ({len(content)} bytes) is no complete gzip-compressed text, "
            f"perhaps a download that broke off: fetch it anew. {error}"
        ) from error
    return lines, verify_checksum(path, content, known_checksum(name) if verify else None)


def parse_activity(lines: Sequence[str], column: str, name: str) -> tuple[list[str], list[int]]:
    """SMILES and measured activity of a table with the header ``smiles,<column>``.

    Raises:
        ValueError: If header, row or label is another one; names the line.
    """
    rows = list(csv.reader(lines))
    header = ["smiles", column]
    if not rows or rows[0] != header:
        raise ValueError(
            f"`data_dir`: {name} must begin with the header {','.join(header)!r}, received "
            f"{','.join(rows[0]) if rows else 'an empty file'!r}; fetch it anew."
        )
    for i, row in enumerate(rows[1:], start=2):
        if len(row) != 2 or row[1] not in ("0", "1"):
            raise ValueError(
                f"`data_dir`: line {i} of {name} must hold a SMILES and 0 or 1, received "
                f"{','.join(row)!r}; fetch it anew."
            )
    return [row[0] for row in rows[1:]], [int(row[1]) for row in rows[1:]]


def merge_molecules(smiles: Sequence[str]) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Find rows of the same molecule.

    Args:
        smiles: The rows.

    Returns:
        The rows of every canonical SMILES, in the order of the first one, and the number of rows
        left out, by reason.
    """
    rows: dict[str, list[int]] = {}
    for i, text in enumerate(smiles):
        rows.setdefault(canonical_smiles(text), []).append(i)
    unreadable = len(rows.pop("", []))
    return rows, {"unreadable": unreadable, "repeated": len(smiles) - unreadable - len(rows)}


def make_designs(smiles: Sequence[str]) -> Designs:
    """Write molecules as tokens; drop long ones first, then those with rare symbols.

    Args:
        smiles: Different canonical SMILES.

    Returns:
        The designs, in the order of ``smiles``.

    Raises:
        ValueError: If none are left.
    """
    sequences = [selfies_symbols(text) for text in smiles]
    fitting = [i for i, symbols in enumerate(sequences) if 0 < len(symbols) <= MAX_LENGTH]
    counts = Counter(symbol for i in fitting for symbol in set(sequences[i]))
    frequent = {symbol for symbol, count in counts.items() if count >= MIN_MOLECULES}
    rows = [i for i in fitting if frequent.issuperset(sequences[i])]
    if not rows:
        raise ValueError(
            f"`data_dir`: none of {len(smiles)} molecules has at most {MAX_LENGTH} SELFIES symbols "
            f"that all stand in {MIN_MOLECULES} molecules; the table is damaged or too small."
        )
    vocabulary = Vocabulary(sorted(frequent), padded=True)
    tokens = vocabulary.tokenize(["".join(sequences[i]) for i in rows], MAX_LENGTH)
    inexpressible = sum(not symbols for symbols in sequences)
    dropped = {
        "no SELFIES": inexpressible,
        f"longer than {MAX_LENGTH} symbols": len(smiles) - inexpressible - len(fitting),
        f"with a symbol in fewer than {MIN_MOLECULES}": len(fitting) - len(rows),
    }
    return Designs(tokens.numpy().astype(np.uint8), sorted(frequent), np.array(rows), dropped)

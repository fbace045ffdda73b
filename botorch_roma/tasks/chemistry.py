r"""
Molecules as token sequences: SELFIES [Krenn2020selfies]_ for the optimiser, SMILES for people.

Any sequence of SELFIES symbols is a valid molecule, and many sequences are the same one: the
canonical SMILES tells. RDKit and SELFIES are imported when a function here is called:
``pip install "botorch-roma[chem]"``.

.. [Krenn2020selfies]
    M. Krenn, F. Häse, A. Nigam, P. Friederich, and A. Aspuru-Guzik. Self-referencing embedded
    strings (SELFIES): A 100% robust molecular string representation. Machine Learning: Science
    and Technology 1:045024, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from botorch.exceptions import InputDataError
from torch import Tensor

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks.arrays import Array

#: Morgan fingerprints: bonds that a bit looks around an atom, and number of bits.
FINGERPRINT_RADIUS: int = 3
FINGERPRINT_BITS: int = 2_048


def import_chemistry(module: str) -> Any:
    """Import ``"selfies"`` or a module of RDKit, e.g. ``"rdkit.Chem"``.

    Raises:
        ImportError: If it is not installed; names the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"Molecules need RDKit and SELFIES, and {module!r} cannot be imported ({error}): "
            'pip install "botorch-roma[chem]".'
        ) from error


def canonical_smiles(smiles: str) -> str:
    """RDKit's canonical SMILES of a molecule; empty where there is none to be read."""
    chem = import_chemistry("rdkit.Chem")
    with import_chemistry("rdkit.rdBase").BlockLogs():
        molecule = chem.MolFromSmiles(smiles)
    return "" if molecule is None else str(chem.MolToSmiles(molecule))


def selfies_symbols(smiles: str) -> list[str]:
    """SELFIES symbols of a molecule; none where SELFIES cannot express it."""
    selfies = import_chemistry("selfies")
    try:
        return list(selfies.split_selfies(selfies.encoder(smiles)))
    except selfies.EncoderError:
        return []


def to_smiles(tokens: Tensor, vocabulary: Vocabulary) -> list[str]:
    r"""The molecules that token sequences stand for.

    Args:
        tokens: ``n x length``, whole numbers of any dtype.
        vocabulary: SELFIES symbols, e.g. ``task.vocabulary``.

    Returns:
        Canonical SMILES, one a row. It is empty where a sequence holds no atom, say only ring
        symbols.

    Raises:
        ValueError: If a token is not in the vocabulary.

    Example:
        >>> to_smiles(torch.tensor([[0, 0, 1]]), Vocabulary(["[C]", "[O]"]))
        ['CCO']
    """
    selfies = import_chemistry("selfies")
    strings = vocabulary.to_strings(tokens)
    return [canonical_smiles(selfies.decoder(string)) for string in strings]


def from_smiles(smiles: Sequence[str], vocabulary: Vocabulary, length: int | None = None) -> Tensor:
    r"""Molecules as tokens; equal molecules become equal rows.

    Args:
        smiles: SMILES, canonical or not.
        vocabulary: SELFIES symbols, e.g. ``task.vocabulary``.
        length: Tokens of a row, e.g. ``task.dim``. Default: those of the longest molecule.

    Returns:
        Integer tokens, ``n x length``; ``.to(task.X)`` makes designs of them.

    Raises:
        InputDataError: If a molecule cannot be read, does not fit into ``length``, or needs a
            symbol that is not in the vocabulary; names it.
    """
    strings = []
    for i, text in enumerate(smiles):
        symbols = selfies_symbols(canonical_smiles(text))
        if not symbols:
            raise InputDataError(
                f"`smiles` must hold molecules that RDKit and SELFIES can read, received {text!r} "
                f"in row {i}; correct or drop it."
            )
        strings.append("".join(symbols))
    return vocabulary.tokenize(strings, length)


def canonical_tokens(tokens: Tensor, vocabulary: Vocabulary) -> Tensor:
    r"""Write every molecule in one way, so that equal molecules become equal rows.

    A ``post_processing_func`` once ``vocabulary`` is bound. A row stays as it is where its
    molecule is empty, or is longer or needs other symbols when it is written canonically.

    Args:
        tokens: ``... x length``.
        vocabulary: SELFIES symbols, padded.

    Returns:
        Tokens of the same molecules, ``... x length``, in the dtype of ``tokens``.
    """
    rows = tokens.reshape(-1, tokens.shape[-1]).clone()
    for i, smiles in enumerate(to_smiles(rows, vocabulary)):
        symbols = selfies_symbols(smiles)
        if 0 < len(symbols) <= rows.shape[1] and set(symbols) <= set(vocabulary.symbols):
            rows[i] = vocabulary.tokenize(["".join(symbols)], rows.shape[1])[0].to(rows)
    return rows.reshape(tokens.shape)


def num_molecules(tokens: Tensor, vocabulary: Vocabulary) -> int:
    r"""Number of different molecules among ``n x length`` tokens; the empty one does not count."""
    return len(set(to_smiles(tokens, vocabulary)) - {""})


def random_tokens(
    n: int, generator: torch.Generator, vocabulary: Vocabulary, lengths: Tensor, length: int
) -> Tensor:
    r"""Draw sequences of uniform symbols, as long as a molecule drawn from a table.

    Symbols that close rings or open branches early make most of these molecules small.

    Args:
        n: Number of sequences.
        generator: Source of the randomness, on the CPU.
        vocabulary: SELFIES symbols, padded.
        lengths: Lengths to draw from, one-dimensional.
        length: Number of tokens of a row.

    Returns:
        Tokens, ``n x length``, double.
    """
    tokens = torch.randint(len(vocabulary.symbols), (n, length), generator=generator)
    drawn = lengths[torch.randint(len(lengths), (n, 1), generator=generator)]
    return tokens.where(torch.arange(length) < drawn, len(vocabulary.symbols)).double()


def fingerprints(smiles: Sequence[str]) -> Array:
    r"""Morgan fingerprints of canonical SMILES, ``n x 2_048`` of 0 and 1 in ``uint8``.

    Raises:
        InputDataError: If one of them cannot be read.
    """
    chem = import_chemistry("rdkit.Chem")
    module = import_chemistry("rdkit.Chem.rdFingerprintGenerator")
    generator = module.GetMorganGenerator(radius=FINGERPRINT_RADIUS, fpSize=FINGERPRINT_BITS)
    bits = np.zeros((len(smiles), FINGERPRINT_BITS), dtype=np.uint8)
    for i, text in enumerate(smiles):
        molecule = chem.MolFromSmiles(text)
        if molecule is None:
            raise InputDataError(f"`smiles` holds {text!r} in row {i}, which RDKit cannot read.")
        bits[i] = generator.GetFingerprintAsNumPy(molecule)
    return bits

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from botorch.exceptions import InputDataError
from hypothesis import given
from hypothesis import strategies as st

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks import chemistry
from botorch_roma.tasks.chemistry import (
    canonical_smiles,
    canonical_tokens,
    fingerprints,
    from_smiles,
    num_molecules,
    random_tokens,
    selfies_symbols,
    to_smiles,
)

needs_chemistry = pytest.mark.skipif(
    not (find_spec("rdkit") and find_spec("selfies")),
    reason='needs RDKit and SELFIES: pip install "botorch-roma[chem]"',
)

# Tokens:                 0        1          2       3       4       5         6
SELFIES = Vocabulary(["[=C]", "[=Branch1]", "[C]", "[N]", "[O]", "[Ring1]", "[S]"], padded=True)
PAD = 7


@pytest.mark.parametrize(
    ("call", "module"),
    [
        (partial(canonical_smiles, "C"), "rdkit.Chem"),
        (partial(fingerprints, ["C"]), "rdkit.Chem"),
        (partial(selfies_symbols, "C"), "selfies"),
        (partial(to_smiles, torch.tensor([[2]]), SELFIES), "selfies"),
    ],
)
def test_missing_package(monkeypatch: pytest.MonkeyPatch, call: Any, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"'{module}' cannot .*\"botorch-roma\[chem\]\""):
        call()


@needs_chemistry
class TestOneMolecule:
    def test_canonical_smiles(self) -> None:
        assert canonical_smiles("OCC") == canonical_smiles("C(O)C") == "CCO"
        assert canonical_smiles("C1=CC=CC=C1") == "c1ccccc1"

    def test_no_molecule(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert [canonical_smiles(text) for text in ("", "hello", "C1CC", "C(C)(C)(C)(C)C")] == [
            ""
        ] * 4
        assert capfd.readouterr().err == ""

    def test_selfies_symbols(self) -> None:
        assert selfies_symbols("CCO") == ["[C]", "[C]", "[O]"]
        assert selfies_symbols("") == selfies_symbols("*C") == []


@needs_chemistry
class TestTranslation:
    @pytest.mark.parametrize("dtype", [torch.long, torch.uint8, torch.float64])
    def test_to_smiles(self, dtype: torch.dtype) -> None:
        tokens = torch.tensor([[2, 2, 4, PAD], [4, 2, 2, PAD], [2, 0, PAD, PAD]]).to(dtype)
        assert to_smiles(tokens, SELFIES) == ["CCO", "CCO", "C=C"]

    def test_empty_molecule(self) -> None:
        assert to_smiles(torch.tensor([[5, 5, PAD], [PAD, PAD, PAD]]), SELFIES) == ["", ""]

    def test_tokens_after_the_padding_do_not_count(self) -> None:
        assert to_smiles(torch.tensor([[2, PAD, 4]]), SELFIES) == ["C"]

    def test_unknown_token(self) -> None:
        with pytest.raises(ValueError, match="`tokens` must be integers from 0 to 7"):
            to_smiles(torch.tensor([[8]]), SELFIES)

    def test_there_and_back(self) -> None:
        smiles = ["CCO", "c1ccccc1", "CSC", "C1CCCCC1"]
        tokens = from_smiles(smiles, SELFIES, 12)
        assert tokens.shape == (4, 12)
        assert to_smiles(tokens, SELFIES) == smiles
        assert torch.equal(from_smiles(["OCC"], SELFIES, 12), tokens[:1])
        assert from_smiles(["CCO", "C"], SELFIES).shape == (2, 3)

    @pytest.mark.parametrize(
        ("smiles", "length", "message"),
        [
            (["C", "C1"], None, "RDKit and SELFIES can read, received 'C1' in row 1"),
            (["C", ""], None, "received '' in row 1"),
            (["*"], None, r"received '\*' in row 0"),
            (["CCO"], 2, "row 0 has 3 symbols .* at most 2"),
            (["CP"], None, r"holds '\[P\]', which is not in the alphabet"),
            ([], None, "at least one"),
        ],
    )
    def test_bad_smiles(self, smiles: list[str], length: int | None, message: str) -> None:
        with pytest.raises(InputDataError, match=message):
            from_smiles(smiles, SELFIES, length)

    @given(rows=st.lists(st.lists(st.integers(0, 7), min_size=9, max_size=9), min_size=1))
    def test_every_sequence_is_a_molecule(self, rows: list[list[int]]) -> None:
        tokens = torch.tensor(rows)
        smiles = to_smiles(tokens, SELFIES)
        for text, row in zip(smiles, SELFIES.canonical(tokens).tolist(), strict=True):
            # Without an atom there is no molecule; else RDKit must be able to read it.
            atoms = [token for token in row if token in (0, 2, 3, 4, 6)]
            assert text or not atoms or row[0] in (1, 5)
            assert canonical_smiles(text) == text


@needs_chemistry
class TestCanonicalTokens:
    def test_equal_molecules_become_equal_rows(self) -> None:
        tokens = torch.tensor([[4, 2, 2, PAD], [2, 2, 4, PAD], [2, 4, 2, PAD]])
        canonical = canonical_tokens(tokens, SELFIES)
        assert canonical.tolist() == [[2, 2, 4, PAD], [2, 2, 4, PAD], [2, 4, 2, PAD]]
        assert tokens[0].tolist() == [4, 2, 2, PAD]

    def test_what_does_not_fit_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tokens = torch.tensor([[5, 5, 5], [4, 2, 2]], dtype=torch.float32)
        assert canonical_tokens(tokens, SELFIES).tolist() == [[5, 5, 5], [2, 2, 4]]
        for longer in (["[C]"] * 4, ["[P]"]):
            monkeypatch.setattr(chemistry, "selfies_symbols", lambda text, found=longer: found)
            assert canonical_tokens(tokens, SELFIES).tolist() == tokens.tolist()

    @given(
        rows=st.lists(st.lists(st.integers(0, 7), min_size=8, max_size=8), min_size=1, max_size=4)
    )
    def test_same_molecules_and_idempotent(self, rows: list[list[int]]) -> None:
        tokens = torch.tensor([rows, rows], dtype=torch.float64)
        canonical = canonical_tokens(tokens, SELFIES)
        assert canonical.shape == tokens.shape
        assert canonical.dtype == tokens.dtype
        assert to_smiles(canonical[0], SELFIES) == to_smiles(tokens[0], SELFIES)
        assert torch.equal(canonical_tokens(canonical, SELFIES), canonical)

    def test_num_molecules(self) -> None:
        tokens = torch.tensor([[4, 2, 2], [2, 2, 4], [2, 4, 2], [5, 5, 5], [PAD] * 3])
        assert num_molecules(tokens, SELFIES) == 2


class TestRandomTokens:
    def test_lengths_and_symbols(self) -> None:
        draw = partial(
            random_tokens, 2_000, vocabulary=SELFIES, lengths=torch.tensor([2, 5, 5]), length=6
        )
        tokens = draw(torch.Generator().manual_seed(0))
        assert tokens.shape == (2_000, 6)
        assert torch.equal(SELFIES.canonical(tokens), tokens)
        lengths = SELFIES.lengths(tokens)
        assert lengths.unique().tolist() == [2, 5]
        assert (lengths == 5).double().mean().item() == pytest.approx(2 / 3, abs=0.05)
        symbols = tokens[tokens != PAD].long().bincount()
        assert symbols.min() > 0.8 * symbols.double().mean()
        assert len(symbols) == 7
        assert torch.equal(draw(torch.Generator().manual_seed(0)), tokens)
        assert not torch.equal(draw(torch.Generator().manual_seed(1)), tokens)


@needs_chemistry
class TestFingerprints:
    def test_bits(self) -> None:
        bits = fingerprints(["CCO", "CCN", "CCO"])
        assert bits.shape == (3, 2_048)
        assert bits.dtype == np.uint8
        assert np.array_equal(bits[0], bits[2])
        assert not np.array_equal(bits[0], bits[1])
        assert set(np.unique(bits)) == {0, 1}

    def test_radius(self) -> None:
        # From nonane on, a chain has an atom that sees no end within 3 bonds, nor what comes next.
        octane, nonane, decane = fingerprints(["C" * n for n in (8, 9, 10)])
        assert not np.array_equal(octane, nonane)
        assert np.array_equal(nonane, decane)

    def test_unreadable(self) -> None:
        with pytest.raises(InputDataError, match="'C1' in row 1"):
            fingerprints(["C", "C1"])

    def test_none(self) -> None:
        assert fingerprints([]).shape == (0, 2_048)

from __future__ import annotations

import gzip
import hashlib
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks.arrays import DATA_DIR_VARIABLE
from botorch_roma.tasks.chemistry import to_smiles
from botorch_roma.tasks.molecule_table import (
    MAX_LENGTH,
    make_designs,
    merge_molecules,
    parse_activity,
    read_lines,
)

NAME = "molecules/zinc_smiles.txt.gz"

needs_chemistry = pytest.mark.skipif(
    not (find_spec("rdkit") and find_spec("selfies")),
    reason='needs RDKit and SELFIES: pip install "botorch-roma[chem]"',
)


class TestReadLines:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / NAME
        path.parent.mkdir()
        path.write_bytes(gzip.compress(b"CCO\nCCN\n"))
        return path

    def test_lines_and_checksum(self, path: Path) -> None:
        lines, checksum = read_lines(NAME, path.parents[1], "", verify=False)
        assert lines == ["CCO", "CCN"]
        assert checksum == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_other_checksum(self, path: Path) -> None:
        message = r"has the SHA-256 checksum [0-9a-f]{64}, expected is c3e045d5.*verify_checksums"
        with pytest.raises(ValueError, match=message):
            read_lines(NAME, path.parents[1], "", verify=True)

    @pytest.mark.parametrize("size", [0, 1, 5, 20])
    def test_truncated(self, path: Path, size: int) -> None:
        path.write_bytes(path.read_bytes()[:size])
        # No byte at all is gzip for no text, so the checksum or an empty table has to tell.
        message = "checksum" if size == 0 else rf"\({size} bytes\) is no complete gzip"
        with pytest.raises(ValueError, match=message):
            read_lines(NAME, path.parents[1], "", verify=True)

    def test_no_text(self, path: Path) -> None:
        path.write_bytes(gzip.compress(b"\xff\xfe"))
        with pytest.raises(ValueError, match="is no complete gzip-compressed text"):
            read_lines(NAME, path.parents[1], "", verify=False)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=f"{NAME}.*{DATA_DIR_VARIABLE}.*from ZINC"):
            read_lines(NAME, tmp_path, "from ZINC", verify=True)


class TestParseActivity:
    def test_rows(self) -> None:
        lines = ["smiles,gsk3", "CCO,1", "CCN,0"]
        assert parse_activity(lines, "gsk3", "a.csv") == (["CCO", "CCN"], [1, 0])

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ([], "header 'smiles,gsk3', received 'an empty file'"),
            (["smiles,jnk3", "C,1"], "received 'smiles,jnk3'"),
            (["smiles,gsk3", "C,1", "C,2"], "line 3 of a.csv .* received 'C,2'"),
            (["smiles,gsk3", "C"], "line 2 of a.csv .* received 'C'"),
            (["smiles,gsk3", "C,1,0"], "line 2"),
        ],
    )
    def test_malformed(self, lines: list[str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            parse_activity(lines, "gsk3", "a.csv")


@needs_chemistry
class TestMergeMolecules:
    def test_rows_of_the_same_molecule(self) -> None:
        rows, dropped = merge_molecules(["OCC", "C1=CC=CC=C1", "CCO", "hello", "c1ccccc1", "C(O)C"])
        assert rows == {"CCO": [0, 2, 5], "c1ccccc1": [1, 4]}
        assert list(rows) == ["CCO", "c1ccccc1"]
        assert dropped == {"unreadable": 1, "repeated": 3}


@needs_chemistry
class TestMakeDesigns:
    def test_what_is_dropped_and_why(self) -> None:
        usual = ["C" * i + "O" for i in range(1, 41)]
        # A wildcard has no SELFIES; phosphorus is rare; only in the long ones is sulphur frequent.
        odd = ["*C", "CP", *("C" * (MAX_LENGTH + i) + "S" for i in range(20)), "CS"]
        smiles = [*usual[:30], *odd, *usual[30:]]
        designs = make_designs(smiles)
        assert [smiles[i] for i in designs.rows] == usual
        assert designs.symbols == ["[C]", "[O]"]
        assert list(designs.dropped.values()) == [1, 20, 2]
        assert designs.tokens.shape == (40, MAX_LENGTH)
        vocabulary = Vocabulary(designs.symbols, padded=True)
        assert to_smiles(torch.from_numpy(designs.tokens), vocabulary) == usual

    def test_longest(self) -> None:
        smiles = ["C" * i for i in range(MAX_LENGTH - 25, MAX_LENGTH + 2)]
        designs = make_designs(smiles)
        assert len(designs.rows) == 26
        assert (designs.tokens[-1] == 0).all()

    def test_threshold_of_rare_symbols(self) -> None:
        nitrogen = ["C" * i + "N" for i in range(1, 21)]
        oxygen = ["C" * i + "O" for i in range(1, 21)]
        assert make_designs([*oxygen, *nitrogen[:19]]).symbols == ["[C]", "[O]"]
        assert make_designs([*oxygen, *nitrogen]).symbols == ["[C]", "[N]", "[O]"]

    def test_nothing_left(self) -> None:
        with pytest.raises(ValueError, match="none of 2 molecules has at most 62 SELFIES symbols"):
            make_designs(["CCO", "CCN"])

from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from botorch_roma.tasks import OfflineTask, activity_forest, molecule
from botorch_roma.tasks.arrays import CACHE_VARIABLE, find_file
from botorch_roma.tasks.chemistry import (
    canonical_smiles,
    canonical_tokens,
    from_smiles,
    num_molecules,
    selfies_symbols,
    to_smiles,
)
from botorch_roma.tasks.molecule import (
    GSK3_FILE,
    ZINC_FILE,
    load_molecule,
    penalized_logp_scores,
    qed_scores,
)

needs_chemistry = pytest.mark.skipif(
    not (find_spec("rdkit") and find_spec("selfies")),
    reason='needs RDKit and SELFIES: pip install "botorch-roma[chem]"',
)

ENDS = ["C", "CC", "O", "OC", "N", "NC", "CN", "F", "CO", "S", "SC", "Cl"]
SMILES = [f"{a}c1c{x}c({b})cc1" for x in "cn" for a in ENDS for b in ENDS if a != "Cl"]


def write(root: Path, name: str, lines: list[str]) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small table: an amine is active, and one molecule was measured as both."""
    monkeypatch.setattr(activity_forest, "NUM_TREES", 30)
    rows = [f"{text},{int('N' in text)}" for text in SMILES]
    write(tmp_path, GSK3_FILE, ["smiles,gsk3", *rows, "Cc1ccc(C)cc1,1", "hello,0"])
    write(tmp_path, ZINC_FILE, [*SMILES, "hello"])
    return tmp_path


def symbols(smiles: str) -> list[str]:
    return selfies_symbols(canonical_smiles(smiles))


def load(data_dir: Path, **options: Any) -> OfflineTask:
    return load_molecule(data_dir, verify_checksums=False, **options)


def scored_table(task: OfflineTask) -> tuple[torch.Tensor, torch.Tensor]:
    """All designs of the tiny table and what the oracle says, hidden rows among them."""
    assert task.vocabulary is not None
    smiles = {s for s in to_smiles(from_smiles(SMILES, task.vocabulary), task.vocabulary)}
    X = from_smiles(sorted(smiles - {"Cc1ccc(C)cc1"}), task.vocabulary, task.dim).to(task.X)
    return X, task.evaluate(X)


def test_import_brings_in_no_optional_package() -> None:
    optional = {"rdkit", "selfies"}
    code = f"import sys, botorch_roma.tasks.molecule; sys.exit(bool({optional} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


class TestArguments:
    def test_unknown_oracle(self) -> None:
        with pytest.raises(ValueError, match=r"`oracle` must be one of \['gsk3', 'qed', .*'jnk3'"):
            load_molecule(oracle="jnk3")

    @pytest.mark.parametrize("n_jobs", [0, -1, 1.5])
    def test_bad_number_of_threads(self, n_jobs: Any) -> None:
        with pytest.raises(ValueError, match="`n_jobs` must be an integer of at least 1"):
            load_molecule(n_jobs=n_jobs)

    @pytest.mark.parametrize("package", ["rdkit", "selfies"])
    def test_missing_package(self, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
        for name in ("rdkit", "selfies"):
            monkeypatch.setitem(sys.modules, name, None if name == package else molecule)
        with pytest.raises(ImportError, match=rf"'{package}' .*botorch-roma\[chem\]"):
            load_molecule()


@needs_chemistry
class TestData:
    @pytest.mark.parametrize(
        ("oracle", "name"), [("gsk3", GSK3_FILE), ("qed", ZINC_FILE), ("penalized_logp", ZINC_FILE)]
    )
    def test_missing_file(self, tmp_path: Path, oracle: str, name: str) -> None:
        with pytest.raises(FileNotFoundError, match=f"{name}.*Source: .*gzip-compressed"):
            load_molecule(tmp_path, oracle=oracle)

    def test_checksum(self, tiny_dir: Path) -> None:
        with pytest.raises(ValueError, match="checksum"):
            load_molecule(tiny_dir)

    def test_malformed_table(self, tmp_path: Path) -> None:
        write(tmp_path, GSK3_FILE, ["smiles,gsk3", "C,?"])
        with pytest.raises(ValueError, match=rf"line 2 of {GSK3_FILE} .* received 'C,\?'"):
            load(tmp_path)


@needs_chemistry
class TestTinyTable:
    def test_table(self, tiny_dir: Path) -> None:
        task = load(tiny_dir)
        X, Y = scored_table(task)
        assert task.name == "molecule"
        assert task.dim == 62
        assert task.num_rows == pytest.approx(0.8 * len(X), abs=3)
        assert task.ranges["full"] == (Y.min().item(), Y.max().item())
        assert 0.0 <= Y.min() < Y.max() <= 1.0
        assert task.Y.max() <= np.percentile(Y, 80) < Y[~torch.isin(Y, task.Y)].min()
        assert task.num_oracle_calls == 1

    def test_oracle_agrees_with_the_table(self, tiny_dir: Path) -> None:
        task = load(tiny_dir)
        assert torch.equal(task.evaluate(task.X), task.Y)
        assert torch.equal(task.evaluate(task.X[7:8]), task.Y[7:8])
        single = task.to(dtype=torch.float32)
        assert torch.equal(single.evaluate(single.X), task.Y.float())
        again = pickle.loads(pickle.dumps(task))
        assert torch.equal(again.evaluate(task.X), task.Y)

    def test_score_finds_the_active_ones(self, tiny_dir: Path) -> None:
        task = load(tiny_dir)
        assert task.vocabulary is not None
        X, Y = scored_table(task)
        active = ["N" in text for text in to_smiles(X, task.vocabulary)]
        assert roc_auc_score(active, Y.flatten()) > 0.9

    def test_counts(self, tiny_dir: Path) -> None:
        from rdkit import Chem

        distinct = len({Chem.CanonSmiles(text) for text in SMILES})
        repeated = len(SMILES) + 1 - distinct
        description = load(tiny_dir).description
        assert description.endswith(
            f" {distinct - 1} molecules, those up to the 80th percentile visible; of 266 rows "
            f"without 1 unreadable, {repeated} repeated, 1 measured as both."
        )

    def test_empty_molecule_has_the_lowest_score(self, tiny_dir: Path) -> None:
        task = load(tiny_dir)
        assert task.vocabulary is not None
        pad = task.vocabulary.pad_token
        ring = task.vocabulary.symbols.index("[Ring1]")
        X = torch.full((3, task.dim), float(pad or 0)).to(task.X)
        X[1, :3] = ring
        X[2] = task.X[0]
        assert task.evaluate(X).flatten().tolist()[:2] == [task.ranges["full"][0]] * 2
        assert task.evaluate(X)[2] == task.Y[0]
        assert task.evaluate(X[:2]).shape == (2, 1)

    def test_score_belongs_to_the_molecule(self, tiny_dir: Path) -> None:
        task = load(tiny_dir)
        assert task.vocabulary is not None
        tokens = task.vocabulary.tokenize(["[O][C][N]", "[N][C][O]"], task.dim)
        one, other = task.evaluate(tokens.to(task.X))
        assert one == other

    def test_random_designs(self, tiny_dir: Path) -> None:
        task = load(tiny_dir)
        assert task.vocabulary is not None
        X = task.random_designs(200, seed=0)
        lengths = task.vocabulary.lengths(X)
        assert set(lengths.tolist()) <= set(task.vocabulary.lengths(task.X).tolist())
        assert 50 < num_molecules(X, task.vocabulary) <= 200
        assert torch.equal(X, task.random_designs(200, seed=0))
        assert task.num_oracle_calls == 0

    def test_is_called_a_substitute(self, tiny_dir: Path) -> None:
        for oracle in ("gsk3", "qed", "penalized_logp"):
            task = load(tiny_dir, oracle=oracle)
            assert task.substitute is not None
            assert "SUBSTITUTE" in repr(task)
            assert "ICML" in task.provenance

    def test_nothing_is_fitted_by_the_oracle(
        self, tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = load(tiny_dir)
        monkeypatch.setattr(molecule, "fit_forest", None)
        monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
        task.evaluate(task.X[:3])


@needs_chemistry
class TestCache:
    @pytest.mark.parametrize("oracle", ["gsk3", "qed"])
    def test_same_task_from_the_cache_and_without(
        self, tiny_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, oracle: str
    ) -> None:
        plain = load(tiny_dir, oracle=oracle, use_cache=False)
        assert not cache.exists()
        first = load(tiny_dir, oracle=oracle, n_jobs=2)
        monkeypatch.setattr(molecule, "make_designs", None)
        second = load(tiny_dir, oracle=oracle)
        X = first.random_designs(50, seed=0)
        for task in (plain, second):
            assert torch.equal(task.X, first.X)
            assert torch.equal(task.Y, first.Y)
            assert task.vocabulary == first.vocabulary
            assert task.description == first.description
            assert torch.equal(task.evaluate(X), first.evaluate(X))

    def test_what_the_entry_depends_on(
        self, tiny_dir: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load(tiny_dir)
        with monkeypatch.context() as patch:
            patch.setattr(molecule, "version", lambda package: "0")
            load(tiny_dir)
        with monkeypatch.context() as patch:
            patch.setattr(activity_forest, "MIN_SAMPLES_LEAF", 11)
            load(tiny_dir)
        rows = [f"{text},{int('S' in text)}" for text in SMILES]
        write(tiny_dir, GSK3_FILE, ["smiles,gsk3", *rows])
        load(tiny_dir)
        assert len(list(cache.iterdir())) == 4

    def test_damaged_entry(self, tiny_dir: Path, cache: Path) -> None:
        first = load(tiny_dir)
        (path,) = cache.iterdir()
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.warns(RuntimeWarning, match="is damaged"):
            second = load(tiny_dir)
        assert torch.equal(first.Y, second.Y)


@needs_chemistry
class TestExactOracles:
    @pytest.mark.parametrize("oracle", ["qed", "penalized_logp"])
    def test_table(self, tiny_dir: Path, oracle: str) -> None:
        task = load(tiny_dir, oracle=oracle)
        assert task.name == f"molecule-{oracle}"
        assert torch.equal(task.evaluate(task.X), task.Y)
        assert task.ranges["full"][1] > task.Y.max()
        empty = torch.full((1, task.dim), task.bounds[1, 0].item()).to(task.X)
        assert task.evaluate(empty).item() == task.ranges["full"][0]

    def test_qed(self) -> None:
        # Aspirin; RDKit's documentation gives 0.55.
        assert qed_scores(["CC(=O)Oc1ccccc1C(=O)O"]) == pytest.approx([0.55], abs=0.01)
        assert qed_scores([]).shape == (0,)

    def test_penalized_logp(self) -> None:
        from rdkit import Chem
        from rdkit.Chem import Crippen
        from rdkit.Contrib.SA_Score import sascorer

        for smiles, penalty in (("CCCC", 0), ("C1CCCCC1", 0), ("C1CCCCCCC1", 2)):
            mol = Chem.MolFromSmiles(smiles)
            expected = Crippen.MolLogP(mol) - sascorer.calculateScore(mol) - penalty
            assert penalized_logp_scores([smiles]) == pytest.approx([expected])


@pytest.fixture(scope="module")
def task(data_dir: Path) -> OfflineTask:
    """The task itself, built anew: an entry of the cache would hide what is broken here."""
    return load_molecule(data_dir, use_cache=False)


@needs_chemistry
@pytest.mark.slow
class TestRealData:
    def test_table(self, task: OfflineTask) -> None:
        assert task.vocabulary is not None
        assert (task.num_rows, task.dim) == (41_401, 62)
        assert task.vocabulary.num_classes == 33
        assert "51,751 molecules" in task.description
        low, high = task.ranges["full"]
        assert low == 0.0
        assert 0.90 < high < 0.97
        assert 0.055 < task.Y.max() < 0.070
        assert task.Y.unique().numel() > 0.99 * task.num_rows

    def test_designs_are_different_molecules(self, task: OfflineTask) -> None:
        assert task.vocabulary is not None
        X, _ = task.start_designs(500)
        assert num_molecules(X, task.vocabulary) == 500
        assert torch.equal(canonical_tokens(X, task.vocabulary), X)
        assert num_molecules(task.random_designs(128, seed=0), task.vocabulary) > 100

    def test_oracle(self, task: OfflineTask, data_dir: Path) -> None:
        assert task.vocabulary is not None
        rows = torch.randperm(task.num_rows, generator=torch.Generator().manual_seed(0))[:1_000]
        assert torch.equal(task.evaluate(task.X[rows]), task.Y[rows])

    def test_oracle_against_measurements(self, task: OfflineTask, data_dir: Path) -> None:
        assert task.vocabulary is not None
        known = set(task.vocabulary.symbols)
        lines = gzip.decompress(find_file(GSK3_FILE, data_dir).read_bytes()).decode().split()
        picked = np.random.default_rng(0).permutation(len(lines) - 1)[:1_500] + 1
        rows = [(text, active) for text, active in (lines[i].split(",") for i in picked)]
        rows = [row for row in rows if known >= set(found := symbols(row[0])) and len(found) < 63]
        assert len(rows) > 1_400
        X = from_smiles([text for text, _ in rows], task.vocabulary, task.dim)
        Y = task.evaluate(X.to(task.X)).flatten()
        assert Y.max() > 0.8
        assert 0.94 < roc_auc_score([active == "1" for _, active in rows], Y) < 0.99

    def test_random_sequences_are_molecules(self, task: OfflineTask) -> None:
        assert task.vocabulary is not None
        assert "" not in to_smiles(task.random_designs(1_000, seed=1), task.vocabulary)

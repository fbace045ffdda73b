from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from botorch.exceptions import InputDataWarning

from botorch_roma.tasks import OfflineTask, sequences
from botorch_roma.tasks.arrays import CACHE_VARIABLE, Edition, read_table
from botorch_roma.tasks.oracle_networks import OracleSettings
from botorch_roma.tasks.sequences import (
    AMINO_ACIDS,
    GFP_ORACLE,
    UTR_ORACLE,
    TableLayout,
    load_gfp,
    load_tfbind10,
    load_utr,
)
from botorch_roma.tasks.trained_oracle import TrainedOracle, train_oracle

LOADERS = [load_utr, load_gfp, load_tfbind10]
Table = tuple[np.ndarray, np.ndarray]


def write_shards(root: Path, stem: str, num_shards: int, x: np.ndarray, y: np.ndarray) -> None:
    (root / stem).parent.mkdir(parents=True, exist_ok=True)
    for kind, array in (("x", x), ("y", y.astype(np.float32)[:, None])):
        for i, shard in enumerate(np.array_split(array, num_shards)):
            np.save(root / f"{stem}-{kind}-{i}.npy", shard)


@pytest.fixture
def tiny_dir(tmp_path: Path, tiny_table: Table, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny table as UTR, with values that all differ, and a table of 1,000 proteins as GFP."""
    tokens, _ = tiny_table
    write_shards(tmp_path, "utr/utr", 14, tokens, np.arange(400) / 40.0)
    monkeypatch.setattr(sequences, "UTR_EDITIONS", {400: Edition(200, 4.975, "new oracle")})
    proteins = np.random.default_rng(1).integers(20, size=(1_000, 5), dtype=np.int32)
    write_shards(tmp_path, "gfp/gfp", 12, proteins, np.arange(1_000))
    monkeypatch.setattr(sequences, "GFP_EDITIONS", {1_000: Edition(100, 599.0, "rebuilt")})
    monkeypatch.setattr(sequences, "GFP_ROWS", 30)
    return tmp_path


@pytest.mark.parametrize("load", LOADERS)
def test_missing_data(load: Callable[..., OfflineTask], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        load(tmp_path)
    message = str(error.value)
    for part in ("`data_dir`", str(tmp_path), "-x-0.npy", "more", "Design-Bench", "Source"):
        assert part in message


@pytest.mark.parametrize(("load", "stem"), [(load_utr, "utr/utr"), (load_gfp, "gfp/gfp")])
class TestChecks:
    def test_wrong_checksum(
        self, load: Callable[..., OfflineTask], stem: str, tiny_dir: Path
    ) -> None:
        with pytest.raises(ValueError, match=rf"{stem}-x-0.npy has the SHA-256 checksum"):
            load(tiny_dir)

    def test_truncated(self, load: Callable[..., OfflineTask], stem: str, tiny_dir: Path) -> None:
        path = tiny_dir / f"{stem}-y-11.npy"
        path.write_bytes(path.read_bytes()[:-2])
        with pytest.raises(ValueError, match=r"-y-11.npy \(\d+ bytes\) is no complete .npy array"):
            load(tiny_dir, verify_checksums=False)

    def test_another_table(
        self, load: Callable[..., OfflineTask], stem: str, tiny_dir: Path
    ) -> None:
        path = tiny_dir / f"{stem}-y-5.npy"
        np.save(path, np.load(path) + 1e3)
        with pytest.raises(ValueError, match=f"task '{stem[:3]}' has .* rows"):
            load(tiny_dir, verify_checksums=False)


class TestUTR:
    def test_tiny(self, tiny_dir: Path, tiny_settings: OracleSettings) -> None:
        task = load_utr(
            tiny_dir,
            verify_checksums=False,
            dtype=torch.float32,
            cache_dir=tiny_dir,
            oracle_settings=tiny_settings,
        )
        assert (task.num_rows, task.dim) == (200, 6)
        assert task.Y.flatten().tolist() == pytest.approx((np.arange(200) / 40.0).tolist())
        assert task.X.dtype == task.Y.dtype == torch.float32
        assert task.vocabulary is not None
        assert task.vocabulary.symbols == ("a", "c", "g", "t")
        assert task.ranges["full"] == (0.0, 12.0)
        assert task.substitute == "new oracle"
        assert not (tiny_dir / "oracles").exists()
        assert task.evaluate(task.random_designs(9, seed=0)).shape == (9, 1)
        assert len(list((tiny_dir / "oracles").iterdir())) == 1
        assert train_oracle(task, progress=False).num_training == 350

    def test_real(self, data_dir: Path) -> None:
        task = load_utr(data_dir)
        assert (task.num_rows, task.dim) == (140_000, 50)
        assert task.Y.max().item() == pytest.approx(7.1231, abs=5e-5)
        assert task.normalize(task.Y, scale="visible").max() == 1.0
        assert task.substitute is not None
        assert "original" in task.substitute
        assert "trained anew" in task.substitute
        assert (task.num_oracle_calls, task.fixed_features) == (0, {})
        X, Y = task.start_designs(128)
        assert (X.shape, Y[0].item()) == ((128, 50), task.Y.max().item())

    def test_order_of_the_letters(self, data_dir: Path) -> None:
        """An upstream start codon, atg, lowers the load; it is 0, 3, 2 in no other order."""
        x, y = read_table("utr/utr", data_dir, "")
        assert load_utr(data_dir).vocabulary is not None
        fall = {}
        for codon in ([0, 3, 2], [0, 2, 3], [0, 1, 2], [0, 3, 1], [3, 0, 2], [2, 3, 0]):
            windows = np.lib.stride_tricks.sliding_window_view(x[:50_000], 3, axis=1)
            found = (windows == codon).all(axis=2).any(axis=1)
            fall[tuple(codon)] = y[:50_000][~found].mean() - y[:50_000][found].mean()
        assert max(fall, key=lambda codon: fall[codon]) == (0, 3, 2)
        assert fall[0, 3, 2] > 1.5


class TestGFP:
    def test_tiny(self, tiny_dir: Path, tiny_settings: OracleSettings) -> None:
        def load(**options: Any) -> OfflineTask:
            return load_gfp(
                tiny_dir,
                verify_checksums=False,
                cache_dir=tiny_dir,
                oracle_settings=tiny_settings,
                **options,
            )

        task = load()
        y = task.Y.flatten().tolist()
        assert (task.num_rows, task.dim) == (30, 5)
        assert y == sorted(set(y))
        assert min(y) >= 500.0
        assert max(y) <= 599.0
        assert torch.equal(load().X, task.X)
        other = load(seed=1)
        assert other.Y.flatten().tolist() != y
        assert task.vocabulary == AMINO_ACIDS
        assert task.ranges["full"] == (1.2834193, 4.123109)
        assert "SUBSTITUTE" in repr(task)
        assert isinstance(task._oracle, TrainedOracle)
        assert isinstance(other._oracle, TrainedOracle)
        assert task._oracle.path == other._oracle.path
        assert task.evaluate(task.X).shape == (30, 1)

    def test_real(self, data_dir: Path) -> None:
        task = load_gfp(data_dir)
        assert (task.num_rows, task.dim) == (5_000, 237)
        x, y = read_table("gfp/gfp", data_dir, "")
        low, high = np.percentile(y, [50, 60])
        assert task.Y.min().item() == pytest.approx(low)
        assert low < task.Y.max().item() <= high
        assert task.num_oracle_calls == 0
        assert task.substitute is not None
        assert "rebuilt" in task.substitute
        assert "CC BY 4.0" in task.provenance
        # The most frequent letters spell the protein, from its second letter on.
        wild_type = np.array([np.bincount(column, minlength=20).argmax() for column in x.T])
        text = AMINO_ACIDS.to_strings(torch.from_numpy(wild_type)[None])[0]
        assert text.startswith("skgeelftgvvpilveldgdvnghkfsvsgegegda")
        assert text.endswith("gmdelyk")


@pytest.fixture
def tfbind10_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All pairs of letters, twice, in shards of ten rows; the second row of a pair counts."""
    tokens = np.stack(np.divmod(np.arange(16), 4), axis=1).astype(np.int32)
    write_shards(tmp_path, STEM, 4, np.concatenate([tokens, tokens]), np.arange(32))
    layout = TableLayout(4, rows_per_shard=10, visible_rows=16, low=0.0, high=31.0)
    monkeypatch.setattr(sequences, "TFBIND10_LAYOUT", layout)
    return tmp_path


STEM = "tf_bind_10-pho4/tf_bind_10"


class TestTFBind10:
    def test_layout_of_design_bench(self) -> None:
        assert sequences.TFBIND10_LAYOUT[:3] == (84, 100_000, 4_161_482)

    def test_tiny(self, tfbind10_dir: Path) -> None:
        task = load_tfbind10(tfbind10_dir)
        assert task.Y.flatten().tolist() == list(range(16))
        assert task.substitute is None
        assert task.ranges["full"] == (0.0, 31.0)
        assert task.evaluate(task.X).flatten().tolist() == list(range(16, 32))

    def test_sample(self, tfbind10_dir: Path) -> None:
        task = load_tfbind10(tfbind10_dir, max_rows=5, dtype=torch.float32)
        assert (task.num_rows, task.X.dtype) == (5, torch.float32)
        assert torch.equal(load_tfbind10(tfbind10_dir, max_rows=5).Y, task.Y.double())
        assert not torch.equal(load_tfbind10(tfbind10_dir, max_rows=5, seed=1).Y, task.Y.double())

    @pytest.mark.parametrize("change", ["shorter", "higher", "other split", "longer"])
    def test_another_table(self, change: str, tfbind10_dir: Path) -> None:
        x, y = tfbind10_dir / f"{STEM}-x-3.npy", tfbind10_dir / f"{STEM}-y-3.npy"
        tokens, values = np.load(x), np.load(y)
        if change == "shorter":
            tokens, values = tokens[-6:], values[-6:]
        elif change == "higher":
            values[-1] += 1.0
        elif change == "other split":
            values[:2] = 15.0  # ties at the median
        else:
            tokens, values = np.tile(tokens, (3, 1)), np.tile(values, (3, 1))
        np.save(x, tokens)
        np.save(y, values)
        with pytest.raises(
            ValueError, match=r"task 'tfbind10' has .* rows from 0 to .*expected are"
        ):
            load_tfbind10(tfbind10_dir)

    def test_truncated(self, tfbind10_dir: Path) -> None:
        path = tfbind10_dir / f"{STEM}-y-3.npy"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ValueError, match=r"is no complete .npy array"):
            load_tfbind10(tfbind10_dir)

    def test_sequences_that_are_in_no_row(self, tfbind10_dir: Path) -> None:
        for i in range(4):
            path = tfbind10_dir / f"{STEM}-x-{i}.npy"
            tokens = np.load(path)
            tokens[(tokens == [3, 3]).all(axis=1)] = [0, 0]
            np.save(path, tokens)
        with pytest.warns(InputDataWarning, match="1 sequences of task 'tfbind10' are in no row"):
            task = load_tfbind10(tfbind10_dir)
        X = torch.tensor([[3.0, 3.0], [0.0, 0.0]], dtype=torch.double)
        assert task.evaluate(X).flatten().tolist() == [0.0, 31.0]


@pytest.mark.slow
class TestRealOracles:
    """Only where they were trained before; that takes minutes."""

    @pytest.mark.parametrize(
        ("load", "rank_correlation"), [(load_utr, 0.90), (load_gfp, 0.86)], ids=["utr", "gfp"]
    )
    def test_quality(
        self, load: Callable[..., OfflineTask], rank_correlation: float, data_dir: Path
    ) -> None:
        task = load(data_dir)
        oracle = task._oracle
        assert isinstance(oracle, TrainedOracle)
        if not os.environ.get(CACHE_VARIABLE) or not oracle.path.is_file():
            pytest.skip(f"needs {CACHE_VARIABLE} to name a cache that holds {oracle.path.name}")
        report = train_oracle(task, progress=False)
        assert report.rank_correlation > rank_correlation
        assert oracle.settings in (UTR_ORACLE, GFP_ORACLE)
        Y = task.evaluate(task.X[:2_000])
        low, high = task.ranges["full"]
        assert low <= Y.min()
        assert Y.max() <= high
        rows = oracle.held_out_rows()[:2_000]
        predicted = task.evaluate(torch.from_numpy(oracle._tokens[rows]).double())
        truth = torch.from_numpy(oracle._y[rows]).double()
        assert torch.corrcoef(torch.stack([predicted[:, 0], truth]))[0, 1] > 0.9

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from botorch_roma.tasks import OfflineTask, design_bench, load_task
from botorch_roma.tasks.design_bench import (
    CHECKSUMS,
    DATA_DIR_VARIABLE,
    Edition,
    ForestOracle,
    TableOracle,
    decode_tokens,
    encode_tokens,
    load_superconductor,
    load_tfbind8,
    resolve_data_dir,
)

TFBIND8 = "tf_bind_8-SIX6_REF_R1/tf_bind_8"
SUPERCONDUCTOR = "superconductor/superconductor"
ENCODINGS = ["one_hot", "logits"]

# Every sequence of two letters: a table small enough to write by hand.
ALL_PAIRS = np.stack(np.divmod(np.arange(16), 4), axis=1).astype(np.uint8)


def write_table(root: Path, stem: str, x: np.ndarray, y: np.ndarray) -> Path:
    """Write a table in Design-Bench's layout, split over as many shards as are expected."""
    (root / stem).parent.mkdir(parents=True, exist_ok=True)
    shards = len(CHECKSUMS[stem]["x"])
    for kind, array in (("x", x), ("y", y)):
        for i, shard in enumerate(np.array_split(array, shards)):
            np.save(root / f"{stem}-{kind}-{i}.npy", shard)
    return root


@pytest.fixture
def pairs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny TFBind table: all pairs, values 0 to 15, one pair in two rows."""
    monkeypatch.setattr(design_bench, "TFBIND8_EDITIONS", {17: Edition(10, 8.0)})
    tokens = np.concatenate([ALL_PAIRS, ALL_PAIRS[8:9]])
    y = np.append(np.arange(16), 8).astype(np.float32)[:, None]
    return write_table(tmp_path, TFBIND8, tokens, y)


@pytest.fixture(scope="module")
def tokens_and_values(data_dir: Path) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = (np.load(data_dir / f"{TFBIND8}-{kind}-0.npy") for kind in "xy")
    return torch.from_numpy(x), torch.from_numpy(y).double()


@pytest.fixture(scope="module", params=ENCODINGS)
def tfbind8(request: pytest.FixtureRequest, data_dir: Path) -> OfflineTask:
    return load_tfbind8(data_dir, encoding=request.param)


class TestEncoding:
    @given(
        tokens=st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1),
        encoding=st.sampled_from(ENCODINGS),
    )
    def test_round_trip(self, tokens: list[list[int]], encoding: Any) -> None:
        original = torch.tensor(tokens)
        X = encode_tokens(original, encoding=encoding, num_classes=5)
        assert torch.equal(decode_tokens(X, encoding=encoding, num_classes=5), original)

    def test_one_hot(self) -> None:
        X = encode_tokens(torch.tensor([[0, 2]]), num_classes=3, dtype=torch.float32)
        assert X.tolist() == [[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]]
        assert X.dtype == torch.float32

    def test_logits_are_relative_to_the_first_letter(self) -> None:
        # 0.6 + 0.4 / 4 = 0.7 on the letter and 0.1 elsewhere, so every logit is 0 or +-log 7.
        X = encode_tokens(torch.tensor([0, 1, 3]), encoding="logits")
        expected = torch.tensor([-1, -1, -1, 1, 0, 0, 0, 0, 1]) * torch.tensor(7.0).double().log()
        torch.testing.assert_close(X, expected, atol=1e-12, rtol=0.0)

    def test_batches_and_small_integers(self) -> None:
        tokens = torch.randint(4, (2, 3, 8), dtype=torch.uint8)
        X = encode_tokens(tokens, encoding="logits")
        assert X.shape == (2, 3, 24)
        assert torch.equal(decode_tokens(X, encoding="logits"), tokens.long())

    @pytest.mark.parametrize("tokens", [torch.tensor([4]), torch.tensor([-1]), torch.zeros(2)])
    def test_bad_tokens(self, tokens: torch.Tensor) -> None:
        with pytest.raises(ValueError, match="`tokens` must be integers from 0 to 3, received"):
            encode_tokens(tokens)

    def test_bad_width(self) -> None:
        with pytest.raises(ValueError, match=r"divisible by 3 .*'logits', received shape \(2, 4\)"):
            decode_tokens(torch.zeros(2, 4), encoding="logits")

    def test_bad_encoding(self, tmp_path: Path) -> None:
        message = "`encoding` must be 'one_hot' or 'logits', received 'ordinal'"
        bad: Any = "ordinal"
        with pytest.raises(ValueError, match=message):
            encode_tokens(torch.tensor([0]), encoding=bad)
        with pytest.raises(ValueError, match=message):
            decode_tokens(torch.zeros(4), encoding=bad)
        with pytest.raises(ValueError, match=message):
            load_tfbind8(tmp_path, encoding=bad)


class TestTableOracle:
    def test_incomplete_table(self) -> None:
        with pytest.raises(ValueError, match=r"all 16 sequences.*received 15 sequences"):
            TableOracle(torch.from_numpy(ALL_PAIRS[1:]), torch.zeros(15), encoding="one_hot")

    def test_rows_that_disagree(self) -> None:
        tokens = torch.from_numpy(np.concatenate([ALL_PAIRS, ALL_PAIRS[:1]]))
        with pytest.raises(ValueError, match="one value for each"):
            TableOracle(tokens, torch.arange(17.0), encoding="one_hot")

    def test_unknown_token(self) -> None:
        with pytest.raises(ValueError, match="`tokens` must be integers"):
            TableOracle(torch.from_numpy(ALL_PAIRS + 1), torch.arange(16.0), encoding="one_hot")


class TestReading:
    def test_tiny_table(self, pairs_dir: Path) -> None:
        task = load_tfbind8(pairs_dir, verify_checksums=False)
        assert (task.num_rows, task.dim) == (10, 8)
        X, Y = task.start_designs(9)
        assert Y.flatten().tolist() == list(range(8, -1, -1))
        assert task.num_oracle_calls == 0
        everything = encode_tokens(torch.from_numpy(ALL_PAIRS))
        assert task.evaluate(everything).flatten().tolist() == list(range(16))
        assert torch.equal(task.evaluate(X), Y)

    def test_wrong_checksum(self, pairs_dir: Path) -> None:
        expected = CHECKSUMS[TFBIND8]["x"][0]
        message = rf"tf_bind_8-x-0.npy has the SHA-256 checksum [0-9a-f]{{64}}, .* {expected}"
        with pytest.raises(ValueError, match=message + ".*`verify_checksums=False`"):
            load_tfbind8(pairs_dir)

    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize("size", [0, 5, 60, 130])
    def test_truncated_file(self, pairs_dir: Path, size: int, verify: bool) -> None:
        path = pairs_dir / f"{TFBIND8}-y-0.npy"
        path.write_bytes(path.read_bytes()[:size])
        message = rf"tf_bind_8-y-0.npy \({size} bytes\) is no complete .npy array"
        if verify:  # the designs are read first and are not the known ones either
            shutil.copy(path, pairs_dir / f"{TFBIND8}-x-0.npy")
            message = message.replace("-y-", "-x-")
        with pytest.raises(ValueError, match=message):
            load_tfbind8(pairs_dir, verify_checksums=verify)

    def test_pickled_objects_are_refused(self, pairs_dir: Path) -> None:
        np.save(pairs_dir / f"{TFBIND8}-y-0.npy", np.array([None] * 17), allow_pickle=True)
        with pytest.raises(ValueError, match=r"is no complete .npy array"):
            load_tfbind8(pairs_dir, verify_checksums=False)

    @pytest.mark.parametrize(
        ("x", "y"),
        [
            (ALL_PAIRS, np.zeros(16)),
            (ALL_PAIRS, np.zeros((15, 1))),
            (ALL_PAIRS[:, 0], np.zeros((16, 1))),
        ],
    )
    def test_wrong_shapes(self, tmp_path: Path, x: np.ndarray, y: np.ndarray) -> None:
        write_table(tmp_path, TFBIND8, x, y)
        with pytest.raises(ValueError, match=r"must hold n x d designs and n x 1 .* \[\("):
            load_tfbind8(tmp_path, verify_checksums=False)

    def test_shards_of_different_width(self, tmp_path: Path) -> None:
        write_table(tmp_path, SUPERCONDUCTOR, np.zeros((10, 3)), np.zeros((10, 1)))
        np.save(tmp_path / f"{SUPERCONDUCTOR}-x-3.npy", np.zeros((2, 4)))
        with pytest.raises(ValueError, match=r"received shapes .*\(2, 4\)"):
            load_superconductor(tmp_path, verify_checksums=False)

    @pytest.mark.parametrize(("bad_row", "value"), [(3, np.nan), (3, 99.0), (9, -1.0)])
    def test_unknown_edition(self, pairs_dir: Path, bad_row: int, value: float) -> None:
        path = pairs_dir / f"{TFBIND8}-y-0.npy"
        y = np.load(path)
        y[bad_row] = value
        np.save(path, y)
        message = r"task 'tfbind8' has 17 rows, .* known are .*\{17: \(10, 8.0\)\}"
        with pytest.raises(ValueError, match=message):
            load_tfbind8(pairs_dir, verify_checksums=False)

    def test_unknown_number_of_rows(self, tmp_path: Path) -> None:
        write_table(tmp_path, TFBIND8, ALL_PAIRS, np.zeros((16, 1)))
        with pytest.raises(ValueError, match="has 16 rows"):
            load_tfbind8(tmp_path, verify_checksums=False)


class TestMissingData:
    @pytest.mark.parametrize("load", [load_tfbind8, load_superconductor])
    def test_names_files_place_layout_and_source(self, tmp_path: Path, load: Any) -> None:
        with pytest.raises(FileNotFoundError) as error:
            load(tmp_path)
        message = str(error.value)
        for part in ("`data_dir`", str(tmp_path), "-x-0.npy", "-y-0.npy", "Design-Bench", "Source"):
            assert part in message
        assert DATA_DIR_VARIABLE in message

    def test_names_only_what_is_missing(self, pairs_dir: Path) -> None:
        (pairs_dir / f"{TFBIND8}-y-0.npy").unlink()
        with pytest.raises(FileNotFoundError, match=r"1 of 2 files are missing .*: [^,]*y-0.npy\."):
            load_task("tfbind8", data_dir=pairs_dir)

    def test_argument_then_variable_then_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "variable"))
        assert resolve_data_dir(tmp_path) == tmp_path
        assert resolve_data_dir() == tmp_path / "variable"
        monkeypatch.setenv("HOME", str(tmp_path))
        assert resolve_data_dir("~/data") == tmp_path / "data"
        monkeypatch.setenv(DATA_DIR_VARIABLE, "")
        assert resolve_data_dir() == tmp_path / ".cache" / "botorch_roma"
        monkeypatch.delenv(DATA_DIR_VARIABLE)
        with pytest.raises(FileNotFoundError, match="botorch_roma"):
            load_tfbind8()


class TestTFBind8:
    def test_visible_part_is_that_of_design_bench(self, tfbind8: OfflineTask) -> None:
        assert tfbind8.num_rows == 32_898
        assert tfbind8.Y.max().item() == pytest.approx(0.43930, abs=5e-6)
        assert tfbind8.ranges["full"] == (0.0, 1.0)
        assert tfbind8.normalize(tfbind8.Y, scale="visible").max() == 1.0
        assert tfbind8.num_oracle_calls == 0
        assert tfbind8.substitute is None
        assert tfbind8.fixed_features == {}

    def test_oracle_is_the_table(
        self, tfbind8: OfflineTask, tokens_and_values: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        tokens, values = tokens_and_values
        rows = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))[:1_000]
        encoding: Any = "one_hot" if tfbind8.dim == 32 else "logits"
        before = tfbind8.num_oracle_queries
        Y = tfbind8.evaluate(encode_tokens(tokens[rows], encoding=encoding))
        assert torch.equal(Y, values[rows])
        assert tfbind8.num_oracle_queries == before + 1_000

    def test_start_designs_are_distinct_despite_palindromes(self, tfbind8: OfflineTask) -> None:
        top = tfbind8.Y.flatten().topk(128).indices
        assert torch.unique(tfbind8.X[top], dim=0).shape[0] < 128
        X, Y = tfbind8.start_designs(128)
        assert torch.unique(X, dim=0).shape[0] == 128
        assert Y[0] == tfbind8.Y.max()
        with pytest.raises(ValueError, match="32768 distinct"):
            tfbind8.start_designs(32_769)

    def test_snapping(self, tfbind8: OfflineTask) -> None:
        snap = tfbind8.post_processing_func
        assert snap is not None
        assert torch.equal(snap(tfbind8.X[:50]), tfbind8.X[:50])
        relaxed = tfbind8.X[:50].reshape(5, 10, -1) * 0.6
        assert torch.equal(snap(relaxed), tfbind8.X[:50].reshape(5, 10, -1))
        assert torch.equal(tfbind8.evaluate(relaxed[0]), tfbind8.Y[:10])

    def test_random_designs_are_sequences(self, tfbind8: OfflineTask) -> None:
        X = tfbind8.random_designs(128, seed=0)
        assert tfbind8.post_processing_func is not None
        assert torch.equal(tfbind8.post_processing_func(X), X)
        assert torch.unique(X, dim=0).shape[0] > 120

    def test_float32_copy_and_pickle(self, tfbind8: OfflineTask) -> None:
        other = pickle.loads(pickle.dumps(tfbind8.to(dtype=torch.float32)))
        Y = other.evaluate(other.X[:100])
        assert Y.dtype == torch.float32
        torch.testing.assert_close(Y, other.Y[:100])

    def test_bounds(self, data_dir: Path) -> None:
        assert load_tfbind8(data_dir).bounds.unique().tolist() == [0.0, 1.0]
        task = load_tfbind8(data_dir, encoding="logits", dtype=torch.float32)
        width = task.X.max() - task.X.min()
        torch.testing.assert_close(task.bounds[0].min(), task.X.min() - 0.1 * width)
        torch.testing.assert_close(task.bounds[1].max(), task.X.max() + 0.1 * width)
        assert task.bounds.dtype == task.X.dtype == torch.float32

    def test_resaved_files_pass_without_checksums(self, data_dir: Path, tmp_path: Path) -> None:
        x, y = (np.load(data_dir / f"{TFBIND8}-{kind}-0.npy") for kind in "xy")
        write_table(tmp_path, TFBIND8, x.astype(np.uint8), y)
        with pytest.raises(ValueError, match="checksum"):
            load_tfbind8(tmp_path)
        assert load_tfbind8(tmp_path, verify_checksums=False).num_rows == 32_898


@pytest.fixture(scope="module")
def superconductor(data_dir: Path) -> OfflineTask:
    return load_superconductor(data_dir)


@pytest.fixture(scope="module")
def superconductor_table(data_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    files = [[data_dir / f"{SUPERCONDUCTOR}-{kind}-{i}.npy" for i in range(5)] for kind in "xy"]
    x, y = (np.concatenate([np.load(file) for file in shards]) for shards in files)
    return x, y[:, 0]


class TestSuperconductor:
    def test_visible_part(
        self, superconductor: OfflineTask, superconductor_table: tuple[np.ndarray, np.ndarray]
    ) -> None:
        task, (x, y) = superconductor, superconductor_table
        assert (task.num_rows, task.dim, len(y)) == (17_926, 86, 22_404)
        assert task.Y.max().item() == 72.5
        assert torch.equal(task.X, torch.from_numpy(x[y <= 72.5]).double())
        assert task.ranges["full"] == (0.00021, 185.0)
        assert task.normalize(task.Y, scale="visible").max() == 1.0
        assert torch.equal(task.bounds, torch.stack([task.X.amin(dim=0), task.X.amax(dim=0)]))

    def test_is_called_a_substitute(self, superconductor: OfflineTask) -> None:
        task = superconductor
        assert task.substitute is not None
        assert "21,263" in task.substitute
        assert "SUBSTITUTE" in repr(task)
        assert "CC BY 4.0" in task.provenance

    def test_fixed_features(self, superconductor: OfflineTask) -> None:
        task = superconductor
        assert len(task.fixed_features) == 9
        assert all((task.X[:, i] == value).all() for i, value in task.fixed_features.items())

    def test_oracle_is_fitted_late_and_kept(
        self, data_dir: Path, superconductor_table: tuple[np.ndarray, np.ndarray]
    ) -> None:
        task = load_superconductor(data_dir)
        oracle = task._oracle
        assert isinstance(oracle, ForestOracle)
        assert task.num_oracle_calls == 0
        task.start_designs(128)
        assert not oracle.is_fitted
        first = task.evaluate(task.X[:200])
        assert oracle.is_fitted
        forest = oracle._forest
        assert torch.equal(task.evaluate(task.X[:200]), first)
        assert oracle._forest is forest
        again = load_superconductor(data_dir, dtype=torch.float32).to(dtype=torch.float64)
        assert torch.equal(again.evaluate(task.X[:200]), first)
        x, y = superconductor_table
        unseen = np.setdiff1d(np.arange(len(y)), oracle.training_rows())
        predicted = oracle(torch.from_numpy(x[unseen]))
        # Published: 0.9155. Unseen rows here; some repeat a composition that was seen.
        assert 0.89 < spearmanr(predicted, y[unseen]).statistic < 0.95

    def test_original_table_is_told_apart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        editions = {10: Edition(8, 7.0, "rebuilt"), 5: Edition(4, 3.0)}
        monkeypatch.setattr(design_bench, "SUPERCONDUCTOR_EDITIONS", editions)
        for rows, substitute in ((10, "rebuilt"), (5, None)):
            y = np.arange(rows, dtype=np.float32)[:, None]
            write_table(tmp_path, SUPERCONDUCTOR, y.repeat(3, axis=1), y)
            task = load_superconductor(tmp_path, verify_checksums=False)
            assert task.substitute == substitute
            # The shards are put together in the order of their numbers.
            assert task.Y.flatten().tolist() == sorted(task.Y.flatten().tolist())

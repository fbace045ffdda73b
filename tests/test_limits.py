from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataError

from botorch_roma import RoMAModel, fit_roma_model, limits, optimize_acqf_roma, propose
from botorch_roma.files import read_frame
from botorch_roma.latent import LatentSpace, OneHotEncoding, Vocabulary
from botorch_roma.latent.vae import SequenceVAE
from botorch_roma.limits import check_memory, format_bytes, free_memory
from botorch_roma.mapped import map_npy
from botorch_roma.network import ProxyNetwork

X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
Y = X.sum(dim=-1, keepdim=True)
BOUNDS = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.double)


@pytest.fixture(scope="module")
def model() -> RoMAModel:
    model = RoMAModel(X, Y, hidden_sizes=(8, 8))
    fit_roma_model(model, epochs=1, seed=0)
    return model


def big_parquet(folder: Path) -> Path:
    """Eight million rows in some kilobytes: of a constant column little is stored."""
    path, rows = folder / "big.parquet", 2**20
    table = pa.table({"a": pa.array(np.zeros(rows)), "y": pa.array(np.zeros(rows))})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(8):
            writer.write_table(table)
    return path


class TestCheckMemory:
    def test_what_does_not_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "free_memory", lambda device: 2**30)
        check_memory("`x`", 2**30, "wait")
        message = r"^`x` needs at least 1\.5 GiB of memory, 1 GiB are free; wait\.$"
        with pytest.raises(ValueError, match=message):
            check_memory("`x`", 3 * 2**29, "wait")

    def test_small_things_are_not_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "free_memory", lambda device: pytest.fail("asked"))
        check_memory("`x`", limits.MIN_BYTES - 1, "wait")

    def test_unknown_memory_refuses_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "free_memory", lambda device: None)
        check_memory("`x`", 2**80, "wait")

    def test_units(self) -> None:
        sizes = [0, 1, 1023, 1024, 5 * 2**30, 2**70]
        texts = ["0 bytes", "1 bytes", "1.02e+03 bytes", "1 KiB", "5 GiB", "1.02e+03 EiB"]
        assert [format_bytes(s) for s in sizes] == texts

    def test_free_memory_is_that_of_the_narrowest_limit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory, group = tmp_path / "meminfo", tmp_path / "memory.max"
        memory.write_text("MemTotal: 9000 kB\nMemAvailable: 3000 kB\nSwapFree: 1000 kB\n\n")
        group.write_text("max\n")
        monkeypatch.setattr(limits, "_MEMINFO", memory)
        monkeypatch.setattr(limits, "_CGROUP", group)
        monkeypatch.setattr(limits, "_of_process", lambda: None)
        assert free_memory() == 4000 * 1024
        group.write_text("2048000\n")
        assert free_memory("cpu") == 2_048_000
        monkeypatch.setattr(limits, "_of_process", lambda: 1000)
        assert free_memory() == 1000

    def test_what_a_limited_process_has_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit, page = 2**40, resource.getpagesize()
        monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, resource.RLIM_INFINITY))
        monkeypatch.setattr(limits, "_STATM", tmp_path / "statm")
        assert limits._of_process() == limit  # what it uses is not known
        (tmp_path / "statm").write_text("1000 900 800 1 0 700 0\n")
        assert limits._of_process() == limit - 1000 * page
        (tmp_path / "statm").write_text(f"{2**40} 900 800 1 0 700 0\n")
        assert limits._of_process() == 0

    def test_without_the_files_of_linux(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = free_memory()
        monkeypatch.setattr(limits, "_MEMINFO", tmp_path / "none")
        monkeypatch.setattr(limits, "_CGROUP", tmp_path / "none")
        assert real is not None
        assert (free_memory() or real) >= 2**26
        assert free_memory("meta") is None


def long_sequences() -> list[str]:
    return ["acgt" * 10_000, "a"]


ABSURD: list[tuple[str, Callable[[RoMAModel], Any]]] = [
    (r"`hidden_sizes` is \(1000000, 1000000\): a network", lambda m: RoMAModel(X, Y, **WIDE)),
    (r"`hidden_sizes` is .* with 3 inputs", lambda m: ProxyNetwork(3, (10**6, 10**6))),
    (r"10000000000 networks", lambda m: RoMAModel(X, Y, num_members=10**10)),
    (r"`hidden_sizes` is ", lambda m: propose(X, Y, q=2, model_options=WIDE)),
    (
        r"`q` times `num_restarts` is 1000000000, but there are only 20 designs",
        lambda m: optimize_acqf_roma(PosteriorMean(m), BOUNDS, q=10**9),
    ),
    (
        r"`q` times `num_restarts` is 2000000000000, ",
        lambda m: optimize_acqf_roma(PosteriorMean(m), BOUNDS, q=2, num_restarts=10**12),
    ),
    (
        r"`raw_samples` is 1000000000000: .* 21\.8 TiB",
        lambda m: optimize_acqf_roma(PosteriorMean(m), BOUNDS, q=2, raw_samples=10**12),
    ),
    (r"`q` is 1000000000, but there are only the 20", lambda m: propose(X, Y, q=10**9)),
    (
        r"A layer of 3 x 8 weights for each of 5 candidates",
        lambda m: optimize_acqf_roma(
            PosteriorMean(m), BOUNDS, q=5, num_adaptation_steps=10**10, weight_form="factored"
        ),
    ),
    (
        r"`X` of shape \(100000000000, 1, 3\): standardising it .* 2\.18 TiB",
        lambda m: m.posterior(X[:1].expand(10**11, 1, 3)),
    ),
    (
        r"A network of widths \(8, 1000000, 1000000, 64\)",
        lambda m: SequenceVAE(4, 2, hidden_sizes=(10**6, 10**6)),
    ),
    (
        r"A network of widths \(4, 512, 2000000000000\)",
        lambda m: LatentSpace.fit(torch.eye(2), Vocabulary("ab"), latent_dim=10**12),
    ),
]

WIDE: dict[str, Any] = {"hidden_sizes": (10**6, 10**6)}


@pytest.mark.parametrize(("message", "call"), ABSURD, ids=[m for m, _ in ABSURD])
def test_absurd_sizes(model: RoMAModel, message: str, call: Callable[[RoMAModel], Any]) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=message) as error:
        call(model)
    assert time.monotonic() - start < 5.0
    assert re_remedy(str(error.value))


def re_remedy(message: str) -> bool:
    """Whether a message says what to do."""
    return any(word in message for word in ("; choose ", "; reduce ", "; pass ", "; drop "))


class TestLittleMemory:
    """With so little memory that ordinary things do not fit."""

    @pytest.fixture(autouse=True)
    def little(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "MIN_BYTES", 0)
        monkeypatch.setattr(limits, "free_memory", lambda device: 10_000)

    def test_training(self, model: RoMAModel) -> None:
        """The model fits, but not six times."""
        with pytest.raises(ValueError, match=r"Training 122 weights needs at least 5\.72 KiB"):
            self._fit(model, 5_000)
        self._fit(model, 10_000)

    def _fit(self, model: RoMAModel, free: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(limits, "free_memory", lambda device: free)
            fit_roma_model(model, epochs=1, seed=0)

    def test_adapted_weights(self, model: RoMAModel) -> None:
        call = "A layer of 8 x 8 weights for each of 20 candidates needs at least 10 KiB"
        with pytest.raises(ValueError, match=call):
            optimize_acqf_roma(PosteriorMean(model), BOUNDS, q=20, weight_form="dense")

    def test_encoded_table(self) -> None:
        encoding = OneHotEncoding(Vocabulary("abcdefgh"), 4)
        tokens = torch.randint(8, (50, 4), generator=torch.Generator().manual_seed(0)).double()
        Y = tokens.sum(dim=-1, keepdim=True)
        with pytest.raises(ValueError, match=r"`train_X`, 50 rows of 32 columns, .*`copy=False`"):
            RoMAModel(tokens, Y, encoding, hidden_sizes=(2,))
        RoMAModel(tokens, Y, encoding, hidden_sizes=(2,), copy=False)

    def test_padding_to_the_longest_sequence(self) -> None:
        vocabulary = Vocabulary("acgt", padded=True)
        with pytest.raises(ValueError, match="Padding 2 sequences to 40000 symbols"):
            vocabulary.tokenize(long_sequences())

    def test_csv(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("a,y\n" + "0.1,0.2\n" * 10_000)
        with pytest.raises(ValueError, match=r"t\.csv' needs at least 25 KiB of memory, 9\.77 KiB"):
            read_frame(path)

    def test_parquet(self, tmp_path: Path) -> None:
        pd.DataFrame({"a": [0.0] * 1000, "y": [1.0] * 1000}).to_parquet(tmp_path / "t.parquet")
        message = r"t\.parquet' of 1000 rows and 2 columns needs at least 15\.6 KiB"
        with pytest.raises(ValueError, match=message):
            read_frame(tmp_path / "t.parquet")


class TestHeaders:
    """Files that claim more than they hold."""

    def test_parquet_of_few_bytes_and_many_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = big_parquet(tmp_path)
        assert path.stat().st_size < 2**18
        monkeypatch.setattr(limits, "free_memory", lambda device: 2**26)
        monkeypatch.setattr(pd, "read_parquet", lambda path: pytest.fail("it was read"))
        with pytest.raises(ValueError, match=r"of 8388608 rows and 2 columns needs at least 128 M"):
            read_frame(path)

    def test_copy_of_a_table(self) -> None:
        rows = X[:1].expand(2**34, 3), Y[:1].expand(2**34, 1)  # that takes no memory itself
        message = r"A copy of `train_X`, of shape .* 384 GiB of memory, .*; pass `copy=False`, or"
        start = time.monotonic()
        for call in (RoMAModel, propose):  # neither reads it first
            with pytest.raises(ValueError, match=message):
                call(*rows)
        assert time.monotonic() - start < 5.0

    def test_npy_of_gigantic_shape(self, tmp_path: Path) -> None:
        path = tmp_path / "X.npy"
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**6)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(800))
        with pytest.raises(InputDataError, match=r"`X`: '.*X\.npy' cannot be mapped: .*"):
            map_npy(path)

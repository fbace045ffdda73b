from __future__ import annotations

import errno
import gc
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from botorch.exceptions import InputDataError

from botorch_roma import RoMAModel, fit_roma_model, mapped
from botorch_roma.mapped import map_npy, map_parquet, temporary_table

ROWS = 50


@pytest.fixture
def frame(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Numbers of all kinds; blocks of 16 rows and less are decoded at once."""
    monkeypatch.setattr(mapped, "BATCH_NUMBERS", 64)
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.random(ROWS),
            "y": rng.random(ROWS),
            "whole": rng.integers(-5, 5, ROWS),
            "flag": rng.random(ROWS) < 0.5,
            "single.dot": rng.random(ROWS).astype(np.float32),
        }
    )


def write(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "table.parquet"
    frame.to_parquet(path, index=False, row_group_size=20)
    return path


class TestParquet:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_numbers(self, frame: pd.DataFrame, tmp_path: Path, dtype: torch.dtype) -> None:
        table = map_parquet(write(frame, tmp_path), "y", str(tmp_path), dtype=dtype)
        assert table.columns == ["a", "whole", "flag", "single.dot"]
        assert table.objectives == ["y"]
        for got, names in ((table.X, table.columns), (table.Y, ["y"])):
            expected = torch.tensor(frame[names].to_numpy(dtype="float64"), dtype=dtype)
            assert torch.equal(got, expected)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["table.npy", "table.parquet"]

    def test_inputs_in_the_order_asked_for(self, frame: pd.DataFrame, tmp_path: Path) -> None:
        frame["text"] = "x"
        path = write(frame, tmp_path)
        table = map_parquet(path, "a", tmp_path, inputs=["whole", "y"])
        assert table.columns == ["whole", "y"]
        assert torch.equal(table.X[:, 1], torch.tensor(frame["y"]).float())

    def test_opened_again(self, frame: pd.DataFrame, tmp_path: Path) -> None:
        path = write(frame, tmp_path)
        table = map_parquet(path, "y", tmp_path)
        again = map_npy(tmp_path / "table.npy")
        assert torch.equal(again.X, table.X)
        assert torch.equal(again.Y, table.Y)
        with pytest.raises(FileExistsError, match=r"table\.npy"):
            map_parquet(path, "y", tmp_path)
        map_parquet(path, "a", tmp_path, force=True)
        assert torch.equal(map_npy(tmp_path / "table.npy").Y[:, 0], table.X[:, 0])

    @pytest.mark.parametrize(
        ("column", "value", "message"),
        [
            ("a", float("nan"), r"column 'a' has no value in row 37\b"),
            ("y", float("inf"), r"column 'y' has inf in row 37\b"),
            ("whole", None, r"column 'whole' has no value in row 37\b"),
            ("a", 1e60, r"column 'a' has 1e\+60 in row 37.*float32"),
        ],
    )
    def test_values_that_are_no_numbers(
        self, frame: pd.DataFrame, tmp_path: Path, column: str, value: Any, message: str
    ) -> None:
        frame[column] = frame[column].astype("object")
        frame.loc[37, column] = value
        frame[column] = pd.array(frame[column], dtype="Int64" if column == "whole" else "float64")
        path = write(frame, tmp_path)
        with pytest.raises(InputDataError, match=message):
            map_parquet(path, "y", tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]

    def test_columns(self, frame: pd.DataFrame, tmp_path: Path) -> None:
        frame["text"] = "x"
        path = write(frame, tmp_path)
        for options, message in (
            ({}, r"'text' is not numeric \(its type is (large_)?string\)"),
            ({"objective": "z"}, r"no column 'z'; its columns are \['a', 'y'"),
            ({"inputs": ["a", "b"]}, "no column 'b'"),
            ({"inputs": ["a", "y"]}, "not the objective 'y'"),
            ({"inputs": ["a", "a"]}, "each once"),
            ({"inputs": []}, "at least one column"),
            ({"inputs": "a"}, "`inputs` must be a list of names, received 'a'"),
        ):
            with pytest.raises(InputDataError, match=message):
                map_parquet(path, **{"objective": "y", "folder": tmp_path, **options})
        pq.write_table(pa.table([[1.0], [2.0], [3.0]], names=["a", "a", "y"]), path)
        with pytest.raises(InputDataError, match="several columns named 'a'"):
            map_parquet(path, "y", tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]

    def test_files_and_folders(self, frame: pd.DataFrame, tmp_path: Path) -> None:
        path = write(frame, tmp_path)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            map_parquet(path, "y", tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match=r"other\.parquet"):
            map_parquet(tmp_path / "other.parquet", "y", tmp_path)
        with pytest.raises(ValueError, match=r"`dtype`.*float16"):
            map_parquet(path, "y", tmp_path, dtype=torch.float16)
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(InputDataError, match="cannot be read as parquet"):
            map_parquet(path, "y", tmp_path)
        write(frame[:0], tmp_path)
        with pytest.raises(InputDataError, match="no rows"):
            map_parquet(path, "y", tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]

    def test_interrupted(
        self, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, blocks = write(frame, tmp_path), mapped._blocks

        def interrupted(*args: Any) -> Any:
            yield next(blocks(*args))
            raise KeyboardInterrupt

        monkeypatch.setattr(mapped, "_blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            map_parquet(path, "y", tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


class TestNpy:
    def test_two_files(self, tmp_path: Path) -> None:
        X, Y = np.random.default_rng(0).random((2, 5, 3))
        np.save(tmp_path / "X.npy", X)
        for outcomes, names in ((Y, ["y0", "y1", "y2"]), (Y[:, 0], ["y"])):
            np.save(tmp_path / "Y.npy", outcomes)
            table = map_npy(tmp_path / "X.npy", str(tmp_path / "Y.npy"))
            assert torch.equal(table.X, torch.tensor(X))
            assert torch.equal(table.Y, torch.tensor(outcomes).reshape(5, -1))
            assert table.columns == ["x0", "x1", "x2"]
            assert table.objectives == names

    def test_the_file_stays_as_it_is(self, tmp_path: Path) -> None:
        np.save(tmp_path / "t.npy", np.ones((4, 3)))
        map_npy(tmp_path / "t.npy").X.zero_()
        assert map_npy(tmp_path / "t.npy").X.eq(1.0).all()

    def test_what_does_not_fit(self, tmp_path: Path) -> None:
        X, Y = tmp_path / "X.npy", tmp_path / "Y.npy"
        with pytest.raises(FileNotFoundError, match=r"X\.npy"):
            map_npy(X)
        for array in (np.ones(4), np.ones((4, 1)), np.ones((4, 2, 2))):
            np.save(X, array)
            with pytest.raises(InputDataError, match=r"`X`.*outcome in a last column.*shape"):
                map_npy(X)
        for array in (np.ones((4, 2), dtype=int), np.ones((4, 2), dtype=">f8")):
            np.save(X, array)
            with pytest.raises(InputDataError, match="float32 or float64"):
                map_npy(X)
        np.save(X, np.ones((4, 2)))
        for array in (np.ones(3), np.ones((4, 1), dtype=np.float32), np.ones((4, 1, 1))):
            np.save(Y, array)
            with pytest.raises(InputDataError, match="`Y` must hold 4 x m numbers"):
                map_npy(X, Y)
        np.savez(tmp_path / "both.npz", X=np.ones((4, 2)))
        with pytest.raises(InputDataError, match=r"several arrays"):
            map_npy(tmp_path / "both.npz")
        for content in (X.read_bytes()[:-8], b"", b"text"):
            X.write_bytes(content)
            with pytest.raises(InputDataError, match="cannot be mapped"):
                map_npy(X)

    def test_what_cannot_be_mapped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As with `ulimit -v`, which a large mapping does not fit into."""

        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")

        np.save(tmp_path / "X.npy", np.ones((4, 2)))
        monkeypatch.setattr(np, "load", refuse)
        with pytest.raises(InputDataError, match=r"'.*X\.npy' cannot be mapped: .*Cannot allocate"):
            map_npy(tmp_path / "X.npy")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_temporary_table(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    parts = [torch.rand(n, 3, dtype=dtype) for n in (4, 1, 7)]
    table = temporary_table(p for p in [*parts, parts[0].mT[:3, :3].mT])
    assert torch.equal(table, torch.cat([*parts, parts[0].mT[:3, :3].mT]))
    assert table.dtype == dtype
    assert list(tmp_path.iterdir()) == []
    del parts
    gc.collect()
    assert table.isfinite().all()


def test_a_model_over_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "t.npy", rng.random((60, 4)))
    table = map_npy(tmp_path / "t.npy")
    models = [RoMAModel(table.X, table.Y, hidden_sizes=(4,), copy=copy) for copy in (False, True)]
    for model in models:
        fit_roma_model(model, epochs=2, batch_size=16, seed=0)
    for a, b in zip(*(m.network.tensors for m in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from botorch_roma.tasks.arrays import (
    MAX_NAMES,
    Edition,
    find_files,
    known_checksums,
    read_table,
    sample_rows,
    split_table,
)

Y = np.arange(101, dtype=np.float32)


class TestFindFiles:
    def test_long_lists_are_cut(self, tmp_path: Path) -> None:
        names = [f"x-{i}.npy" for i in range(20)]
        (tmp_path / names[3]).touch()
        with pytest.raises(FileNotFoundError) as error:
            find_files(names, tmp_path, "nowhere")
        message = str(error.value)
        assert "19 of 20 files are missing" in message
        assert f"x-{MAX_NAMES}.npy and 7 more. The layout" in message
        with pytest.raises(FileNotFoundError, match=r": x-1.npy\. The layout"):
            find_files(names[:4], _touch(tmp_path, [names[0], names[2]]), "nowhere")


def _touch(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).touch()
    return root


class TestReadTable:
    def test_shards_without_known_checksums(self, tmp_path: Path) -> None:
        assert known_checksums("new/table") == {}
        x = np.arange(24).reshape(12, 2)
        (tmp_path / "new").mkdir()
        for i in range(12):
            np.save(tmp_path / "new" / f"table-x-{i}.npy", x[i : i + 1])
            np.save(tmp_path / "new" / f"table-y-{i}.npy", np.full((1, 1), i))
        tokens, y = read_table("new/table", tmp_path, "nowhere", num_shards=12)
        np.testing.assert_array_equal(tokens, x)
        np.testing.assert_array_equal(y, np.arange(12))
        (tmp_path / "new" / "table-y-11.npy").unlink()
        with pytest.raises(FileNotFoundError, match=r"1 of 24 .*table-y-11.npy.*Source: nowhere"):
            read_table("new/table", tmp_path, "nowhere", num_shards=12)


class TestSplitTable:
    def test_both_percentiles_belong_to_the_visible_rows(self) -> None:
        editions = {101: Edition(11, 60.0)}
        visible, edition = split_table(Y, 60, editions, "toy", min_percentile=50)
        assert np.flatnonzero(visible).tolist() == list(range(50, 61))
        assert edition is editions[101]
        visible, _ = split_table(Y, 60, {101: Edition(61, 60.0)}, "toy")
        assert visible.sum() == 61

    @pytest.mark.parametrize(
        ("edition", "known"),
        [
            (Edition(None, None), True),
            (Edition(11, None), True),
            (Edition(None, 60.0), True),
            (Edition(12, None), False),
            (Edition(None, 61.0), False),
        ],
    )
    def test_what_is_not_known_of_an_edition(self, edition: Edition, known: bool) -> None:
        if known:
            assert split_table(Y, 60, {101: edition}, "toy", min_percentile=50)[1] is edition
            return
        with pytest.raises(ValueError, match="has 101 rows, 11 of them visible with best value 60"):
            split_table(Y, 60, {101: edition}, "toy", min_percentile=50)


class TestSampleRows:
    def test_draws_visible_rows_without_replacement(self) -> None:
        visible = Y >= 41
        kept = sample_rows(visible, 20, seed=0)
        assert kept.sum() == 20
        assert (kept <= visible).all()
        np.testing.assert_array_equal(sample_rows(visible, 20, seed=0), kept)
        assert (sample_rows(visible, 20, seed=1) != kept).any()
        assert visible.sum() == 60

    def test_keeps_all_where_there_are_no_more(self) -> None:
        visible = Y >= 41
        for most in (None, 60, 61):
            np.testing.assert_array_equal(sample_rows(visible, most, seed=0), visible)

    def test_every_row_has_the_same_chance(self) -> None:
        counts = sum(sample_rows(Y >= 91, 5, seed=i).astype(int) for i in range(400))
        assert 160 < counts[91:].min() <= counts[91:].max() < 240
        assert counts[:91].max() == 0

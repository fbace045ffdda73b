from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from botorch_roma.tasks import arrays
from botorch_roma.tasks.arrays import (
    CACHE_VARIABLE,
    DATA_DIR_VARIABLE,
    DESIGN_BENCH_FOLDER,
    MAX_NAMES,
    Edition,
    find_file,
    find_files,
    known_checksum,
    known_checksums,
    read_archive,
    read_array,
    read_table,
    resolve_cache_dir,
    resolve_data_dir,
    sample_rows,
    split_table,
)

STEM = "pairs/pairs"
SOURCE = "a source by name"
X = np.arange(20).reshape(10, 2)
Y = np.arange(10.0, dtype=np.float32)[:, None]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten rows in eleven shards each: the tenth comes after the ninth, not after the first."""
    (tmp_path / "pairs").mkdir()
    checksums = {}
    for kind, array in (("x", X), ("y", Y)):
        for i, shard in enumerate(np.array_split(array, 11)):
            path = tmp_path / f"{STEM}-{kind}-{i}.npy"
            np.save(path, shard)
            checksums[f"{STEM}-{kind}-{i}.npy"] = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(arrays, "known_checksums", lambda stem: checksums)
    return tmp_path


class TestKnownChecksums:
    @pytest.mark.parametrize(
        ("stem", "shards"),
        [
            ("tf_bind_8-SIX6_REF_R1/tf_bind_8", 1),
            ("superconductor/superconductor", 5),
            ("gfp/gfp", 12),
            ("utr/utr", 14),
        ],
    )
    def test_shards_in_numeric_order(self, stem: str, shards: int) -> None:
        checksums = known_checksums(stem)
        names = [f"{stem}-{kind}-{i}.npy" for kind in "xy" for i in range(shards)]
        assert list(checksums) == names
        assert all(re.fullmatch(r"[0-9a-f]{64}", c) for c in checksums.values())
        assert len(set(checksums.values())) == 2 * shards

    def test_one_value_by_hand(self) -> None:
        expected = "403fe31abab6e9f2fc163092f148cdd32427348c65a9aad66088c220336e6d28"
        assert known_checksums("gfp/gfp")["gfp/gfp-x-0.npy"] == expected

    def test_other_files_of_a_table_are_no_part_of_it(self) -> None:
        """``-meta.npy`` of Hopper, ``-kind.npy`` of Ant."""
        assert len(known_checksums("hopper_controller/hopper_controller")) == 2
        ant = list(known_checksums("ant_morphology/ant_morphology"))
        assert [name[-7:] for name in ant] == ["x-0.npy", "x-1.npy", "y-0.npy", "y-1.npy"]
        kind = known_checksum("ant_morphology/ant_morphology-kind.npy")
        assert re.fullmatch(r"[0-9a-f]{64}", kind)

    def test_a_name_that_begins_alike_is_another_table(self) -> None:
        assert known_checksums("gfp/gf") == {}

    def test_of_the_real_data(self, data_dir: Path) -> None:
        checksums = known_checksums("tf_bind_8-SIX6_REF_R1/tf_bind_8")
        for name, checksum in checksums.items():
            content = find_file(name, data_dir).read_bytes()
            assert hashlib.sha256(content).hexdigest() == checksum


class TestDataDir:
    def test_argument_then_variable_then_cache(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "variable"))
        assert resolve_data_dir(tmp_path) == tmp_path
        assert resolve_data_dir(str(tmp_path)) == tmp_path
        assert resolve_data_dir() == tmp_path / "variable"
        monkeypatch.setenv("HOME", str(tmp_path))
        assert resolve_data_dir("~/data") == tmp_path / "data"
        monkeypatch.setenv(DATA_DIR_VARIABLE, "~/data")
        assert resolve_data_dir() == tmp_path / "data"
        monkeypatch.setenv(DATA_DIR_VARIABLE, "")
        assert resolve_data_dir() == tmp_path / ".cache" / "botorch_roma"
        monkeypatch.delenv(DATA_DIR_VARIABLE)
        assert resolve_data_dir() == tmp_path / ".cache" / "botorch_roma"


class TestFindFile:
    def place(self, root: Path, *parts: str) -> Path:
        path = root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(parts))
        return path

    def test_in_the_folder_itself(self, tmp_path: Path) -> None:
        assert find_file("a/f.npy", tmp_path) == tmp_path / "a/f.npy"
        path = self.place(tmp_path, "a", "f.npy")
        self.place(tmp_path, DESIGN_BENCH_FOLDER, "a", "f.npy")
        assert find_file("a/f.npy", tmp_path) == path

    def test_in_the_folder_of_design_bench_below(self, tmp_path: Path) -> None:
        path = self.place(tmp_path, DESIGN_BENCH_FOLDER, "a", "f.npy")
        assert find_file("a/f.npy", tmp_path) == path

    def test_beside_the_folder_of_design_bench(self, tmp_path: Path) -> None:
        path = self.place(tmp_path, "molecules", "f.npy")
        assert find_file("molecules/f.npy", tmp_path / DESIGN_BENCH_FOLDER) == path
        assert find_file("molecules/f.npy", f"{tmp_path}/{DESIGN_BENCH_FOLDER}/") == path

    def test_nowhere_else(self, tmp_path: Path) -> None:
        self.place(tmp_path, "molecules", "f.npy")
        assert find_file("molecules/f.npy", tmp_path / "data") == tmp_path / "data/molecules/f.npy"

    def test_by_the_variable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.place(tmp_path, "a", "f.npy")
        monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
        assert find_file("a/f.npy") == path


class TestFindFiles:
    def test_in_the_order_asked_for(self, table: Path) -> None:
        names = [f"{STEM}-y-3.npy", f"{STEM}-x-1.npy"]
        assert find_files(names, table, SOURCE) == [table / name for name in names]

    def test_missing_files(self, table: Path) -> None:
        """Says which, where, the layout, the remedy and the source."""
        (table / f"{STEM}-x-4.npy").unlink()
        names = [f"{STEM}-x-{i}.npy" for i in range(6)]
        with pytest.raises(FileNotFoundError) as info:
            find_files([*names, "other/file.npy"], table, SOURCE)
        assert str(info.value) == (
            f"`data_dir`: 2 of 7 files are missing under {table}: {STEM}-x-4.npy, other/file.npy. "
            "The layout is that of Design-Bench's data folder, and nothing is downloaded: put the "
            "files there, pass `data_dir`, or set BOTORCH_ROMA_DATA. Source: a source by name"
        )


class TestReadTable:
    def test_shards_are_put_together_in_numeric_order(self, table: Path) -> None:
        x, y = read_table(STEM, table, SOURCE)
        assert np.array_equal(x, X)
        assert np.array_equal(y, Y[:, 0])
        assert y.dtype == np.float32

    def test_wrong_checksum(self, table: Path) -> None:
        path = table / f"{STEM}-y-10.npy"
        expected = hashlib.sha256(path.read_bytes()).hexdigest()
        np.save(path, np.ones((0, 1)))
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        message = (
            rf"{path} has the SHA-256 checksum {found}, expected is {expected}\. Fetch it anew, or "
            "pass `verify_checksums=False`"
        )
        with pytest.raises(ValueError, match=message):
            read_table(STEM, table, SOURCE)
        assert np.array_equal(read_table(STEM, table, SOURCE, verify=False)[0], X)

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("y-0", np.zeros(1)),
            ("y-0", np.zeros((2, 1))),
            ("y-0", np.zeros((1, 2))),
            ("x-0", np.zeros(2)),
            ("x-3", np.zeros((1, 3))),
        ],
    )
    def test_wrong_shapes(self, table: Path, name: str, array: np.ndarray) -> None:
        np.save(table / f"{STEM}-{name}.npy", array)
        message = r"pairs/pairs-\*\.npy must hold n x d designs and n x 1 values, received shapes "
        with pytest.raises(ValueError, match=rf"`data_dir`: {message}\[\(.*fetch the files anew"):
            read_table(STEM, table, SOURCE, verify=False)


class TestReadArray:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        np.save(tmp_path / "a.npy", X)
        return tmp_path / "a.npy"

    def test_whole(self, path: Path) -> None:
        assert np.array_equal(read_array(path, None), X)
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        assert np.array_equal(read_array(path, checksum), X)

    @pytest.mark.parametrize("checksum", [None, "0" * 64])
    @pytest.mark.parametrize("size", [0, 5, 60, 200])
    def test_truncated(self, path: Path, size: int, checksum: str | None) -> None:
        """Not called a wrong checksum, which would invite to switch the check off."""
        path.write_bytes(path.read_bytes()[:size])
        message = rf"{path} \({size} bytes\) is no complete \.npy array, .*broke off: fetch it anew"
        with pytest.raises(ValueError, match=message):
            read_array(path, checksum)

    @pytest.mark.parametrize("content", [b"not an array", b"\x93NUMPY\x01\x00\xff\xff", b"<html>"])
    def test_damaged(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is no complete \.npy array"):
            read_array(path, None)

    def test_pickled_objects_are_refused(self, path: Path) -> None:
        np.save(path, np.array([None, {}]), allow_pickle=True)
        with pytest.raises(ValueError, match=r"no complete \.npy array.*Object arrays cannot be"):
            read_array(path, None)


EDITIONS = {10: Edition(8, 7.0, "rebuilt"), 4: Edition(2, 1.0)}


class TestReadArchive:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        np.savez(tmp_path / "a.npz", weights=X, bias=Y)
        return tmp_path / "a.npz"

    def test_arrays_by_name(self, path: Path) -> None:
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        for expected in (None, checksum):
            arrays_ = read_archive(path, expected)
            assert sorted(arrays_) == ["bias", "weights"]
            assert np.array_equal(arrays_["weights"], X)
            assert np.array_equal(arrays_["bias"], Y)

    def test_wrong_checksum(self, path: Path) -> None:
        with pytest.raises(ValueError, match=r"a\.npz has the SHA-256 checksum .* expected is 00"):
            read_archive(path, "0" * 64)

    @pytest.mark.parametrize("size", [0, 5, 200, 700])
    def test_truncated(self, path: Path, size: int) -> None:
        content = path.read_bytes()
        assert size < len(content)
        path.write_bytes(content[:size])
        message = rf"{path} \({size} bytes\) is no complete \.npz archive, .*fetch it anew"
        with pytest.raises(ValueError, match=message):
            read_archive(path, "0" * 64)

    def test_other_files_and_pickled_objects(self, path: Path) -> None:
        path.write_bytes(b"no archive")
        with pytest.raises(ValueError, match=r"no complete \.npz archive"):
            read_archive(path, None)
        np.savez(path, a=np.array([None, {}]), allow_pickle=True)
        with pytest.raises(ValueError, match=r"no complete \.npz archive.*Object arrays cannot"):
            read_archive(path, None)


class TestSplitTable:
    def test_up_to_the_percentile(self) -> None:
        y = np.arange(10.0)[::-1]
        visible, edition = split_table(y, 80, EDITIONS, "pairs")
        assert visible.tolist() == [False] * 2 + [True] * 8
        assert edition == (8, 7.0, "rebuilt")

    def test_ties_are_cut_in_the_dtype_of_the_file(self) -> None:
        y = np.array([0.1, 0.1, 0.2, 0.3], dtype=np.float32)
        visible, edition = split_table(y, 0, {4: Edition(2, 0.1)}, "pairs")
        assert visible.tolist() == [True, True, False, False]
        assert edition.substitute is None

    @pytest.mark.parametrize(
        ("y", "found"),
        [
            (np.arange(9.0), "9 rows, 7 of them visible with best value 6"),
            (np.append(np.arange(9.0), np.nan), "10 rows, 0 of them visible with best value -inf"),
            (np.arange(1.0, 11.0), "10 rows, 8 of them visible with best value 8"),
            (np.append(np.zeros(9), 7.0), "10 rows, 9 of them visible with best value 0"),
        ],
    )
    def test_unknown_edition(self, y: np.ndarray, found: str) -> None:
        known = r"known are rows: \(visible, best\) = \{10: \(8, 7\.0\), 4: \(2, 1\.0\)\}"
        message = rf"the table of task 'pairs' has {found}; {known}\. Fetch the files anew"
        with pytest.raises(ValueError, match=message):
            split_table(y, 80, EDITIONS, "pairs")


ROWS = np.arange(101, dtype=np.float32)


class TestManyFiles:
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


class TestShardsWithoutChecksums:
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


class TestWindows:
    def test_both_percentiles_belong_to_the_visible_rows(self) -> None:
        editions = {101: Edition(11, 60.0)}
        visible, edition = split_table(ROWS, 60, editions, "toy", min_percentile=50)
        assert np.flatnonzero(visible).tolist() == list(range(50, 61))
        assert edition is editions[101]
        visible, _ = split_table(ROWS, 60, {101: Edition(61, 60.0)}, "toy")
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
            assert split_table(ROWS, 60, {101: edition}, "toy", min_percentile=50)[1] is edition
            return
        with pytest.raises(ValueError, match="has 101 rows, 11 of them visible with best value 60"):
            split_table(ROWS, 60, {101: edition}, "toy", min_percentile=50)


class TestSampleRows:
    def test_draws_visible_rows_without_replacement(self) -> None:
        visible = ROWS >= 41
        kept = sample_rows(visible, 20, seed=0)
        assert kept.sum() == 20
        assert (kept <= visible).all()
        np.testing.assert_array_equal(sample_rows(visible, 20, seed=0), kept)
        assert (sample_rows(visible, 20, seed=1) != kept).any()
        assert visible.sum() == 60

    def test_keeps_all_where_there_are_no_more(self) -> None:
        visible = ROWS >= 41
        for most in (None, 60, 61):
            np.testing.assert_array_equal(sample_rows(visible, most, seed=0), visible)

    def test_every_row_has_the_same_chance(self) -> None:
        counts = sum(sample_rows(ROWS >= 91, 5, seed=i).astype(int) for i in range(400))
        assert 160 < counts[91:].min() <= counts[91:].max() < 240
        assert counts[:91].max() == 0


class TestCacheDir:
    def test_argument_then_variable_then_home(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv(CACHE_VARIABLE, "~/variable")
        assert resolve_cache_dir("~/argument") == tmp_path / "argument"
        assert resolve_cache_dir() == tmp_path / "variable"
        for unset in ("", None):
            if unset is None:
                monkeypatch.delenv(CACHE_VARIABLE)
            else:
                monkeypatch.setenv(CACHE_VARIABLE, unset)
            assert resolve_cache_dir() == tmp_path / ".cache" / "botorch_roma"

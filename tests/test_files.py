from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from botorch.exceptions import InputDataError
from hypothesis import given
from hypothesis import strategies as st

from botorch_roma.files import (
    TABLE_SUFFIXES,
    check_apart,
    check_output,
    check_suffix,
    read_frame,
    rescue_frame,
    write_atomically,
    write_frame,
)

# up to 3.0 pandas rounds the last digit of the fourth number if it is not told otherwise
FRAME = pd.DataFrame(
    {
        "a": [0.1, 1 / 3, 1e-300, -0.034040068770668105],
        "n": [1, 2, 3, 4],
        "y": [1.5, -2.5, 1e300, -1e-300],
    }
)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "T.CSV", "with space.csv"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_frame(FRAME, path)
    pd.testing.assert_frame_equal(read_frame(path), FRAME, check_exact=True)
    assert [p.name for p in tmp_path.iterdir()] == [name]


#: Columns of tables, with values that other programs round, or take for something else.
COLUMNS = {
    "a": st.floats(allow_nan=False, allow_infinity=False),
    "n": st.integers(-(2**63), 2**63 - 1),
    "on": st.booleans(),
    "s": st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6),
    "code": st.sampled_from(["007", "NA", "1e5", '"', "a,b", " x", "-", "True"]),
}


@given(data=st.data(), suffix=st.sampled_from(TABLE_SUFFIXES), n=st.integers(1, 6))
def test_any_table(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str, n: int
) -> None:
    """Comes back as it was written: types, digits, texts, order."""
    names = data.draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, unique=True))
    columns = {k: data.draw(st.lists(COLUMNS[k], min_size=n, max_size=n)) for k in names}
    frame, path = pd.DataFrame(columns), tmp_path_factory.mktemp("any") / f"t{suffix}"
    write_frame(frame, path)
    read = read_frame(path, texts=["s", "code"])
    assert list(read) == names
    for name in names:
        assert read[name].tolist() == columns[name]
        assert type(read[name].tolist()[0]) is type(columns[name][0])
    with pytest.raises(FileExistsError, match="exists already"):
        write_frame(frame, path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


TEXTS = pd.DataFrame(
    {
        "s": ["0101", "NA", "1e5", "null", " a", "007", "True", ""],
        "n": ["1", "2", "3", "4", "5", "6", "7", "8"],
        "y": [0.5] * 8,
    }
)


def test_texts_stay_what_they_are(tmp_path: Path) -> None:
    """Leading zeros, and what looks like a missing value, a number or a truth value."""
    write_frame(TEXTS, tmp_path / "t.csv")
    frame = read_frame(tmp_path / "t.csv", texts=["s"])
    assert frame["s"].tolist() == TEXTS["s"].tolist()
    assert frame["n"].tolist() == list(range(1, 9))
    other = read_frame(tmp_path / "t.csv", texts=("n",))
    assert other["n"].tolist() == TEXTS["n"].tolist()
    assert other["s"].tolist()[0] == "0101"
    assert other["s"].isna().tolist() == [False, True, False, True, False, False, False, True]


def test_texts_of_a_parquet_table_have_their_type(tmp_path: Path) -> None:
    write_frame(TEXTS, tmp_path / "t.parquet")
    frame = read_frame(tmp_path / "t.parquet", texts=["s"])
    assert frame["s"].tolist() == TEXTS["s"].tolist()
    assert frame["n"].tolist() == TEXTS["n"].tolist()


def test_texts_that_are_no_column_are_somebody_elses_error(tmp_path: Path) -> None:
    write_frame(FRAME, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(read_frame(tmp_path / "t.csv", texts=["z"]), FRAME)


def test_longest_name(tmp_path: Path) -> None:
    """The file that is written first lies beside it, and must not have a longer name."""
    path = tmp_path / ("x" * 251 + ".csv")
    write_frame(FRAME, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_frame(FRAME, Path("t.csv"))
    assert (tmp_path / "t.csv").is_file()


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_frame(FRAME, tmp_path / "t.csv")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "t.csv").stat().st_mode) == 0o640


def test_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("before")
    with pytest.raises(FileExistsError, match=r"'.*t\.csv' exists already; pass --force"):
        write_frame(FRAME, path)
    assert path.read_text() == "before"
    write_frame(FRAME, path, force=True)
    pd.testing.assert_frame_equal(read_frame(path), FRAME)


def test_link_is_followed(tmp_path: Path) -> None:
    """An existing output that is a link stays one."""
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.write_text("before")
    link.symlink_to(target)
    write_frame(FRAME, link, force=True)
    assert link.is_symlink()
    pd.testing.assert_frame_equal(read_frame(target), FRAME)


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [False, True])
def test_interrupted_write(tmp_path: Path, error: type[BaseException], existing: bool) -> None:
    path = tmp_path / "t.csv"
    if existing:
        path.write_text("before")

    def write(temporary: Path) -> None:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        temporary.write_text("half of")
        raise error("stop")

    with pytest.raises(error):
        write_atomically(path, write, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"] * existing
    if existing:
        assert path.read_text() == "before"


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.npz", "t.png", "t.html"])
def test_full_disk(tmp_path: Path, name: str, existing: bool, full_disk: None) -> None:
    """The error names the file; an old one stays whole, and no half of a new one is left."""
    path, numbers = tmp_path / name, np.random.default_rng(0).random((100, 100))
    if existing:
        path.write_text("before")

    def write(temporary: Path) -> None:
        if name == "t.npz":
            np.savez_compressed(temporary, a=numbers)
        elif name == "t.png":
            matplotlib.image.imsave(temporary, numbers)
        else:
            temporary.write_text(str(numbers.tolist()))

    def write_it() -> None:
        if path.suffix in TABLE_SUFFIXES:
            write_frame(pd.DataFrame(numbers).rename(columns=str), path, force=True)
        else:
            write_atomically(path, write, force=True)

    message = r"'.*/t\.\w+' could not be written: File too large; make room"
    with pytest.raises(OSError, match=message) as e:
        write_it()
    assert e.value.errno == errno.EFBIG
    assert [p.name for p in tmp_path.iterdir()] == [name] * existing
    if existing:
        assert path.read_text() == "before"


def test_rescue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = rescue_frame(FRAME, Path("/nowhere/t.csv"))
    assert path is not None
    pd.testing.assert_frame_equal(read_frame(path), FRAME)


def test_nothing_is_left_of_a_failed_rescue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: None
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert rescue_frame(pd.DataFrame({"a": ["x" * 20_000]}), Path("t.csv")) is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert rescue_frame(FRAME, Path("t.csv")) is None


def test_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("before")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        assert path.read_text() == "before"
        temporary.write_text("after")

    write_atomically(path, write, force=True)
    assert path.read_text() == "after"


def test_output_checks(tmp_path: Path) -> None:
    assert check_output(tmp_path / "new.csv") == tmp_path / "new.csv"
    with pytest.raises(FileExistsError, match="is a folder; name a file"):
        check_output(tmp_path, force=True)
    with pytest.raises(FileNotFoundError, match=r"The folder '.*/missing' .* does not exist"):
        check_output(tmp_path / "missing" / "t.csv")
    assert not (tmp_path / "missing").exists()


def forbid(monkeypatch: pytest.MonkeyPatch, forbidden: Callable[[Path], bool]) -> None:
    """Deny writing, also to a superuser."""
    real = os.access

    def access(path: Any, mode: int, **kwargs: Any) -> bool:
        denied = bool(mode & os.W_OK) and forbidden(Path(path))
        return not denied and real(path, mode, **kwargs)

    monkeypatch.setattr(os, "access", access)


def test_folder_without_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, lambda path: path == tmp_path)
    with pytest.raises(PermissionError, match=r"'.*t\.csv' cannot be written: no permission"):
        write_frame(FRAME, tmp_path / "t.csv")
    assert not list(tmp_path.iterdir())


def test_file_without_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text("before")
    forbid(monkeypatch, lambda p: p == path)
    with pytest.raises(PermissionError, match=r"'.*t\.csv' cannot be written"):
        write_frame(FRAME, path, force=True)
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", ["t", "t.xlsx", "t.csv.gz", ".csv"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    message = r"must end in one of \['.csv', '.parquet'\], received"
    for call in (check_suffix, read_frame, lambda path: write_frame(FRAME, path)):
        with pytest.raises(ValueError, match=message):
            call(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", r"'.*t\.csv' is empty \(0 bytes\)"),
        ("t.parquet", b"", r"is empty \(0 bytes\)"),
        ("t.csv", b"a,y\n", r"has no rows \(columns: \['a', 'y'\]\)"),
        ("t.csv", b"\n\n", "cannot be read as csv"),
        ("t.csv", b"a,y\n1,2\n1,2,3,4\n", "cannot be read as csv: .* line 3"),
        ("t.csv", b"\xff\xfe\x00a\x00", "cannot be read as csv"),
        ("t.csv", b'a,y\n"1,2\n', "cannot be read as csv"),
        ("t.parquet", b"PAR1 nothing else", "cannot be read as parquet"),
        ("t.parquet", b"a,y\n1,2\n", "cannot be read as parquet"),
    ],
)
def test_damaged_tables(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputDataError, match=message) as info:
        read_frame(path)
    assert "\n" not in str(info.value)
    assert name in str(info.value)


def test_truncated_parquet(tmp_path: Path) -> None:
    write_frame(FRAME, tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputDataError, match=r"half\.parquet' cannot be read as parquet"):
        read_frame(tmp_path / "half.parquet")


def test_parquet_without_rows(tmp_path: Path) -> None:
    write_frame(FRAME.iloc[:0], tmp_path / "t.parquet")
    with pytest.raises(InputDataError, match="has no rows"):
        read_frame(tmp_path / "t.parquet")


def test_parquet_without_columns(tmp_path: Path) -> None:
    write_frame(pd.DataFrame(index=range(3)), tmp_path / "t.parquet")
    with pytest.raises(InputDataError, match=r"has no columns \(columns: \[\]\); export"):
        read_frame(tmp_path / "t.parquet")


def test_columns_of_parquet_that_pandas_makes_an_index(tmp_path: Path) -> None:
    for index in (["a"], ["n", "a"], []):
        indexed = FRAME.set_index(index) if index else FRAME.iloc[::-1]
        indexed.to_parquet(tmp_path / "t.parquet")
        assert set(read_frame(tmp_path / "t.parquet")) == set(FRAME)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*t\.csv'"):
        read_frame(tmp_path / "t.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no file '.*folder\.csv', it is a folder; name"):
        read_frame(tmp_path / "folder.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    os.mkfifo(tmp_path / "pipe.csv")  # reading one would wait for ever
    for name in ("loop.csv", "pipe.csv", f"{'x' * 300}.csv"):
        with pytest.raises(FileNotFoundError, match=rf"There is no file '.*{name}'.*; check the"):
            read_frame(tmp_path / name)


def test_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before any work is done, although permissions tell nothing of it."""

    def refuse(**kwargs: Any) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(PermissionError, match="cannot be written: Read-only file system; choose"):
        check_output(tmp_path / "t.csv")


def test_outputs_are_different_files(tmp_path: Path) -> None:
    path, link, loop = (tmp_path / name for name in ("t.csv", "link.csv", "loop.csv"))
    link.symlink_to("t.csv")
    loop.symlink_to("loop.csv")  # somebody else's error
    check_apart(path, None, tmp_path / "u.csv", loop)
    with pytest.raises(FileExistsError, match=r"t\.csv' and '.*link\.csv' are one file; choose"):
        check_apart(tmp_path / "u.csv", path, link)


def test_inputs_are_never_outputs(tmp_path: Path) -> None:
    path, link = tmp_path / "t.csv", tmp_path / "link.csv"
    path.write_text("before")
    link.symlink_to(path)
    for output in (path, link, tmp_path / "." / "t.csv"):
        with pytest.raises(FileExistsError, match=r"is the file that is read, .* choose"):
            check_output(output, force=True, inputs=[path])
    assert check_output(tmp_path / "new.csv", inputs=[path, tmp_path / "missing"])

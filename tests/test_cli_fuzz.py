"""The command against damaged files: one line that says what is wrong, and nothing is lost."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from botorch_roma import cli, presets, training
from botorch_roma.files import read_frame

OPTIMIZE = {"num_updates": 2, "num_adaptation_steps": 1}


class Outcome(NamedTuple):
    status: int
    err: str


Propose = Callable[..., Outcome]


@pytest.fixture
def propose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Propose:
    """Call the command with the content of a file; whatever happens, nothing may be lost."""
    preset = presets.Preset("default", {"hidden_sizes": (4,)}, {"batch_size": 512}, OPTIMIZE)
    monkeypatch.setitem(presets._FACTORIES, "default", lambda *_: preset)
    monkeypatch.setattr(training, "DEFAULT_NUM_BATCHES", 1)
    monkeypatch.chdir(tmp_path)

    def call(name: str, content: bytes, *options: str) -> Outcome:
        Path(name).write_bytes(content)
        Path("o.csv").write_text("before")
        arguments = ["propose", name, "--objective", "y", "--num", "2", "--out", "o.csv", "--force"]
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["botorch-roma", *arguments, *options])
            patch.setattr(cli, "out", Console(file=out))
            patch.setattr(cli, "err", Console(file=err))
            with pytest.raises(SystemExit) as info:
                cli.main()
        outcome = Outcome(int(info.value.code or 0), err.getvalue())
        check(outcome, Path(name), content)
        return outcome

    return call


def check(outcome: Outcome, path: Path, content: bytes) -> None:
    """A complete table, or one line and the table from before; the data as they were."""
    lines = [line for line in outcome.err.splitlines() if not line.startswith("warning: ")]
    if outcome.status == 0:
        table = read_frame(Path("o.csv"))
        assert not lines
        assert len(table.drop_duplicates()) == 2
        assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    else:
        assert outcome.status == 1
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert ";" in lines[0]  # before the remedy
        assert Path("o.csv").read_text() == "before"
    assert path.read_bytes() == content
    assert not [p.name for p in Path.cwd().iterdir() if p.name.startswith(".")]


def table() -> pd.DataFrame:
    X = np.random.default_rng(0).random((12, 2)).round(3)
    frame = pd.DataFrame(X, columns=["a", "b"])
    return frame.assign(n=range(12), kind=["oak", "fir", "elm"] * 4, y=X.sum(axis=1))


def parquet() -> bytes:
    buffer = io.BytesIO()
    table().to_parquet(buffer, index=False)
    return buffer.getvalue()


CSV, PARQUET = table().to_csv(index=False).encode(), parquet()
WHOLE = {"m.csv": CSV, "m.parquet": PARQUET}

PIECES = [b"\0\0", b"\xff\xfe", b",,", b'"', b"\n\n", b"inf,", b"nan,", b"1e999,", b"\xef\xbb\xbf"]

positions = st.floats(0.0, 1.0, exclude_max=True)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut short, with bits flipped, or with something taken out, repeated or put in."""
    content = bytearray(whole)
    kind = draw(st.sampled_from(["cut", "flip", "remove", "repeat", "insert"]))
    first, last = sorted(int(draw(positions) * len(whole)) for _ in range(2))
    if kind == "cut":
        return whole[:first]
    if kind == "flip":
        for position in draw(st.lists(positions, min_size=1, max_size=20)):
            content[int(position * len(whole))] ^= 1 << draw(st.integers(0, 7))
    elif kind == "remove":
        del content[first:last]
    elif kind == "repeat":
        content[first:first] = content[first:last]
    else:
        content[first:first] = draw(st.sampled_from(PIECES))
    return bytes(content)


FUZZ = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(content=damaged(CSV), options=st.sampled_from([(), ("--sequence", "kind")]))
def test_damaged_csv(propose: Propose, content: bytes, options: tuple[str, ...]) -> None:
    propose("m.csv", content, *options)


@FUZZ
@given(content=damaged(PARQUET), options=st.sampled_from([(), ("--ignore", "kind")]))
def test_damaged_parquet(propose: Propose, content: bytes, options: tuple[str, ...]) -> None:
    propose("m.parquet", content, *options)


NUMBERS = ["0.5", "-1", "1e308", "-1e308", "1e-308", "0x10", "1_000", "9" * 400, "9" * 25, "1j"]
TEXTS = ["inf", "nan", "", "x", "oak", "True", "9007199254740993", "١٢", "1/2", '""', "2020-01-01"]
cells = st.sampled_from([*"0123456789", *NUMBERS, *TEXTS])


@FUZZ
@given(
    names=st.lists(
        st.sampled_from(["a", "b", "y", "", "y ", "ä", '"c,d"']), min_size=1, max_size=4
    ),
    rows=st.lists(st.lists(cells, min_size=1, max_size=5), max_size=6),
    end=st.sampled_from(["\n", "\r\n", "\r", ",\n", ""]),
)
def test_odd_csv(propose: Propose, names: list[str], rows: list[list[str]], end: str) -> None:
    """Ragged rows, repeated names, types that are mixed, numbers that are huge."""
    propose("m.csv", end.join(",".join(row) for row in [names, *rows]).encode())


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "latin-1", "cp037"]
)
def test_other_encodings(propose: Propose, encoding: str) -> None:
    content = CSV.decode().replace("oak", "öl").encode(encoding)
    assert propose("m.csv", content).err.endswith("export it again, in UTF-8.\n")


def test_byte_order_mark(propose: Propose) -> None:
    for content in (CSV, b'"a","y"\n1,2\n2,3\n3,5\n'):
        assert propose("m.csv", b"\xef\xbb\xbf" + content) == (0, "")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a", "y"], "has several columns named 'a'; rename them"),
        (["a", "y", "y"], "has several columns named 'y'; rename them"),
    ],
)
def test_repeated_columns(propose: Propose, names: list[str], message: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    column, buffer = pa.array([1.0, 2.0, 4.0]), io.BytesIO()
    pq.write_table(pa.table([column] * 3, names=names), buffer)
    csv = ",".join(names).encode() + b"\n1,2,3\n2,3,4\n5,6,8\n"
    for name, content in (("m.parquet", buffer.getvalue()), ("m.csv", csv)):
        assert message in propose(name, content).err


def test_extra_values(propose: Propose) -> None:
    """They would shift the columns; commas at the end of all lines change nothing."""
    rows = ["a,y", "1,2,3", "4,5,6", "7,8,10"]
    assert "more values in its rows" in propose("m.csv", "\n".join(rows).encode()).err
    commas = "\n".join(["a,y", "1,2,", "4,5,", "7,8,"]).encode()
    assert propose("m.csv", commas) == (0, "")


METADATA = [b"{}", b'{"columns": [{}], "index_columns": []}', b"\xff", b"[1"]


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_of_parquet(propose: Propose, metadata: bytes) -> None:
    """What pandas leaves in the file, and reads again, can be anything."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    data = pa.Table.from_pandas(table()).replace_schema_metadata({b"pandas": metadata})
    pq.write_table(data, buffer)
    propose("m.parquet", buffer.getvalue())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.csv", "'m.csv' is the file that is read, which is never overwritten; choose"),
        ("link.csv", "'link.csv' is the file that is read, which is never overwritten; choose"),
        ("loop.csv", "'loop.csv' cannot be written: Symlink loop"),
        ("dangling.csv", "none' of the output does not exist; make it"),
        ("folder.csv", "'folder.csv' is a folder; name a file"),
        ("pipe.csv", "'pipe.csv' is no regular file; name another one"),
        ("x" * 300 + ".csv", "; choose another name"),
    ],
)
def test_odd_outputs(propose: Propose, name: str, message: str) -> None:
    Path("loop.csv").symlink_to("loop.csv")
    Path("dangling.csv").symlink_to("none/o.csv")
    Path("link.csv").symlink_to("m.csv")
    Path("folder.csv").mkdir()
    os.mkfifo("pipe.csv")
    assert message in propose("m.csv", CSV, "--out", name).err

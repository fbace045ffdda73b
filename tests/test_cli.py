from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import pytest
from botorch.exceptions import InputDataWarning
from rich.console import Console
from typer.testing import CliRunner

import botorch_roma
from botorch_roma import Proposal, cli, presets, training
from botorch_roma.benchmark import runner
from botorch_roma.benchmark.jobs import run_job
from botorch_roma.benchmark.store import MEASURED
from botorch_roma.files import read_frame, write_frame
from botorch_roma.latent import LatentSpace
from botorch_roma.page import Run

OPTIMIZE = {"num_updates": 4, "num_adaptation_steps": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few steps, in a folder of its own."""
    preset = presets.Preset("default", {"hidden_sizes": (8,)}, {"batch_size": 512}, OPTIMIZE)
    monkeypatch.setitem(presets._FACTORIES, "default", lambda *_: preset)
    monkeypatch.setattr(training, "DEFAULT_NUM_BATCHES", 1)
    monkeypatch.chdir(tmp_path)


def make_frame(n: int = 30) -> pd.DataFrame:
    X = np.random.default_rng(0).random((n, 3))
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["n"] = (10 * X[:, 0]).astype(int)
    frame["y"] = -((X - 0.7) ** 2).sum(axis=1)
    return frame


@pytest.fixture
def data(tmp_path: Path) -> str:
    write_frame(make_frame(), tmp_path / "data.csv")
    return "data.csv"


def invoke(*arguments: str) -> str:
    """Standard output of a successful call."""
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Call ``main`` as the console script does."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["botorch-roma", *arguments])
        with pytest.raises(SystemExit) as info:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(info.value.code if isinstance(info.value.code, int) else 0, *captured)

    return call


def strict_json(text: str) -> dict[str, Any]:
    """JSON as other programs read it, without NaN."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# propose


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_propose(tmp_path: Path, suffix: str) -> None:
    write_frame(make_frame(), tmp_path / f"in.{suffix}")
    text = invoke(
        "propose", f"in.{suffix}", "--objective", "y", "--num", "7", "--out", f"o.{suffix}"
    )
    table = read_frame(tmp_path / f"o.{suffix}")
    assert list(table) == ["a", "b", "c", "n", "predicted_mean", "predicted_std", "distance"]
    assert len(table.drop_duplicates()) == 7
    assert table["n"].dtype == "int64"
    assert table["predicted_mean"].is_monotonic_decreasing
    assert "best 5 of 7 proposals for 'y'" in text
    assert f"written to o.{suffix}" in text
    assert "Traceback" not in text


def test_propose_to_the_default_place(tmp_path: Path, data: str) -> None:
    text = invoke("propose", data, "--objective", "y", "--num", "2")
    assert len(read_frame(tmp_path / "candidates.csv")) == 2
    assert "best 2 of 2 proposals" in text


def test_json(tmp_path: Path, data: str) -> None:
    summary = strict_json(
        invoke("propose", data, "--objective", "y", "--num", "3", "--seed", "5", "--json")
    )
    table = read_frame(tmp_path / "candidates.csv")
    assert summary["out"] == "candidates.csv"
    assert summary["num"] == 3
    assert summary["seed"] == 5
    assert summary["objective"] == "y"
    assert summary["direction"] == "maximize"
    assert summary["best_measured"] == make_frame()["y"].max()
    assert summary["best_predicted"] == table["predicted_mean"].max()
    assert pd.DataFrame(summary["candidates"]).to_numpy() == pytest.approx(table.to_numpy())


HTML = ("propose", "data.csv", "--objective", "y", "--num", "3", "--html", "page.html")


def test_page(tmp_path: Path, data: str, parse_page: Any) -> None:
    text = invoke(*HTML)
    assert text.endswith("written to candidates.csv and page.html\n")
    page, table = parse_page(tmp_path / "page.html"), read_frame(tmp_path / "candidates.csv")
    assert page.rows[0][4:] == ["a", "b", "c", "n"]
    for i, name in enumerate(["predicted_mean", "predicted_std", "distance"], start=1):
        assert [float(row[i]) for row in page.rows[1:]] == pytest.approx(table[name].tolist())
    assert "figure-updates" in page.ids
    assert str(tmp_path) not in (tmp_path / "page.html").read_text("utf-8")
    before = table.to_numpy().tolist()
    invoke(*HTML[:-2], "--force")  # the page changes nothing
    assert read_frame(tmp_path / "candidates.csv").to_numpy().tolist() == before


def test_page_of_a_saved_run(tmp_path: Path, data: str, parse_page: Any, fail: Any) -> None:
    write_frame(make_frame().assign(k=1.0, id=range(30)), tmp_path / "data.csv", force=True)
    with pytest.warns(InputDataWarning, match="never vary"):
        (tmp_path / "run.json").write_text(invoke(*HTML, "--ignore", "id", "--json"))
    assert invoke("report", "run.json") == "run.html\n"
    page, saved = parse_page(tmp_path / "page.html"), parse_page(tmp_path / "run.html")
    assert saved.rows == page.rows
    assert {*page.ids} - {*saved.ids} == {"figure-updates"}
    for each in (page, saved):
        assert "Columns ['k'] never vary in the data" in each.text
    outcome = fail("report", "run.json")
    assert "The output 'run.html' exists already; pass --force" in outcome.err
    (tmp_path / "data.csv").rename(tmp_path / "moved.csv")
    outcome = fail("report", "run.json", "--force")
    assert outcome.err.startswith("error: There is no file 'data.csv'")
    invoke("report", "run.json", "--out", "other.html", "--data", "moved.csv")
    assert parse_page(tmp_path / "other.html").rows == page.rows
    outcome = fail("report", "candidates.csv")
    assert outcome.err.startswith("error: 'candidates.csv' is a table; pass a store, or what")
    outcome = fail("report", "other.html", "--data", "moved.csv")
    assert outcome.err.startswith("error: 'other.html' holds no run")


def test_page_is_refused_before_the_run(
    tmp_path: Path, data: str, fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.html").write_text("before")
    assert "'page.html' exists already; pass --force" in fail(*HTML).err
    assert "suffix of the page" in fail(*HTML[:-1], "page.pdf").err
    assert "does not exist; make it" in fail(*HTML[:-1], "no/page.html").err
    monkeypatch.setitem(sys.modules, "plotly", None)
    outcome = fail(*HTML, "--force")
    assert outcome.status == 1
    assert outcome.err == (
        "error: The page 'page.html' needs plotly, which is not installed: pip install "
        '"botorch-roma[report]".\n'
    )
    assert (tmp_path / "page.html").read_text() == "before"
    assert not (tmp_path / "candidates.csv").exists()


def test_designs_outlive_a_page_that_cannot_be_written(
    tmp_path: Path, data: str, fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError("No space left.")

    monkeypatch.setattr("botorch_roma.page.html.write_atomically", no_space)
    assert fail(*HTML).err == "error: No space left. The designs are in 'candidates.csv'.\n"
    assert len(read_frame(tmp_path / "candidates.csv")) == 3


def test_json_of_a_table_too_small_for_a_rank_correlation(tmp_path: Path) -> None:
    write_frame(make_frame(12), tmp_path / "small.csv")
    arguments = ("propose", "small.csv", "--objective", "y", "--num", "2", "--force")
    summary = strict_json(invoke(*arguments, "--json"))
    assert summary["rank_correlation"] is None
    assert "held-out rows undefined" in invoke(*arguments)


def test_minimize(data: str) -> None:
    arguments = ("propose", data, "--objective", "y", "--num", "4", "--json", "--force")
    up, down = strict_json(invoke(*arguments)), strict_json(invoke(*arguments, "--minimize"))
    assert down["direction"] == "minimize"
    assert down["best_measured"] == make_frame()["y"].min()
    assert down["best_predicted"] < up["best_predicted"]
    means = [row["predicted_mean"] for row in down["candidates"]]
    assert means == sorted(means)


def test_bounds_fix_ignore_margin(tmp_path: Path) -> None:
    frame = make_frame().assign(remark="x", **{"p=q": np.arange(30.0)})
    write_frame(frame, tmp_path / "data.csv")
    options = "--bounds a=0.1:0.8 --bounds p=q=-3:2e1 --fix b=0.25 --ignore remark --margin 0.5"
    invoke("propose", "data.csv", "--objective", "y", "--num", "8", *options.split())
    table = read_frame(tmp_path / "candidates.csv")
    assert "remark" not in table
    assert table["a"].between(0.1, 0.8).all()
    assert table["b"].eq(0.25).all()
    assert table["p=q"].between(-3.0, 20.0).all()


def test_designs_that_keep_a_distance(data: str) -> None:
    command = ("propose", data, "--objective", "y", "--num", "8", "--force")
    summary = strict_json(invoke(*command, "--min-distance", "0.1", "--json"))
    assert summary["settings"]["optimize"]["min_distance"] == 0.1
    assert "min_distance" not in strict_json(invoke(*command, "--json"))["settings"]["optimize"]
    text = invoke(*command)
    assert f"to known designs {summary['median_distance']:.3g}, to each other " in text
    assert "much alike" not in text


@pytest.mark.parametrize(
    ("spacing", "end"),
    [
        (None, ""),
        (0.0, ", to each other 0; much alike, see --min-distance"),
        (0.01, ", to each other 0.01; much alike, see --min-distance"),
        (0.02, ", to each other 0.02"),
    ],
)
def test_designs_that_are_alike_are_told(
    data: str, monkeypatch: pytest.MonkeyPatch, spacing: float | None, end: str
) -> None:
    summary = Proposal.summary
    monkeypatch.setattr(
        Proposal, "summary", lambda self: {**summary(self), "median_spacing": spacing}
    )
    text = " ".join(invoke("propose", data, "--objective", "y", "--num", "4", "--force").split())
    assert re.search(rf"to known designs [\d.]+{re.escape(end)} written to", text)


def test_seed_and_preset(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = presets.Preset("paper", {"hidden_sizes": (4,)}, {"epochs": 1}, OPTIMIZE)
    monkeypatch.setitem(presets._FACTORIES, "paper", lambda *_: preset)

    def run(*options: str) -> list[dict[str, float]]:
        arguments = ("propose", data, "--objective", "y", "--num", "3", "--json", "--force")
        return strict_json(invoke(*arguments, *options))["candidates"]

    assert run() == run("--seed", "0")
    assert run() != run("--seed", "1")
    assert run() != run("--preset", "paper")


def test_what_was_selected_is_named(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [{"radius": 0.01}]
    preset = presets.Preset("selected", {}, {}, OPTIMIZE, select={"settings": settings})
    monkeypatch.setitem(presets._FACTORIES, "selected", lambda *_: preset)
    arguments = ("propose", data, "--objective", "y", "--num", "3", "--preset", "selected")
    assert re.search(
        r"selected without a query, in \d+ s: radius 0.01, num_upd", invoke(*arguments)
    )
    summary = strict_json(invoke(*arguments, "--json", "--force"))
    assert set(summary["selected"]) == {"radius", "num_updates", "local_search_rounds"}


def test_force(tmp_path: Path, data: str, fail: Any) -> None:
    (tmp_path / "o.csv").write_text("before")
    arguments = ("propose", data, "--objective", "y", "--num", "2", "--out", "o.csv")
    outcome = fail(*arguments)
    assert outcome.status == 1
    assert outcome.err == (
        "error: The output 'o.csv' exists already; pass --force to overwrite it, or another name.\n"
    )
    assert (tmp_path / "o.csv").read_text() == "before"
    invoke(*arguments, "--force")
    assert len(read_frame(tmp_path / "o.csv")) == 2


def test_warnings_are_one_line(tmp_path: Path, fail: Any) -> None:
    write_frame(make_frame().assign(k=1.0), tmp_path / "data.csv")
    outcome = fail("propose", "data.csv", "--objective", "y", "--num", "2")
    assert outcome.status == 0
    assert outcome.err.startswith("warning: Columns ['k'] never vary in the data")
    assert outcome.err.count("\n") == 1


# Sequences and categories


SITES = ["0101", "NA", "11", "1", "0A1N", "101", "1e1", "007", "null", "10"]


def make_words() -> pd.DataFrame:
    frame = make_frame().drop(columns="n")
    kinds = ["oak", "fir", "=ash", "oak", "fir"] * 6
    return frame.assign(site=SITES * 3, kind=kinds, other=["ac", "gt", "ag"] * 10)[
        ["site", "a", "kind", "other", "y"]
    ]


@pytest.fixture
def words(tmp_path: Path) -> str:
    write_frame(make_words(), tmp_path / "words.csv")
    return "words.csv"


PROPOSE = ("propose", "words.csv", "--objective", "y", "--sequence", "site")


def read_proposals(path: Path) -> pd.DataFrame:
    return read_frame(path, texts=["site"])


def test_sequences_stay_texts(tmp_path: Path, words: str) -> None:
    """The start designs come out as they are in the file: no number, nothing missing."""
    text = invoke(*PROPOSE, "--num", "6")
    table = read_proposals(tmp_path / "candidates.csv")
    assert list(table)[:4] == ["site", "a", "kind", "other"]
    alphabet = set("".join(SITES))
    assert all(set(s) <= alphabet and 1 <= len(s) <= 4 for s in table["site"])
    assert len(table.drop_duplicates()) == 6
    assert set(table["kind"]) <= {"oak", "fir", "=ash"}
    assert "best 5 of 6 proposals for 'y'" in text
    assert table["site"][0] in text
    assert "latent space" not in text


def test_start_designs_are_texts_of_the_file(
    tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = presets.Preset("default", {"hidden_sizes": (8,)}, {}, {"num_updates": 0})
    monkeypatch.setitem(presets._FACTORIES, "default", lambda *_: still)
    summary = strict_json(invoke(*PROPOSE, "--sequence", "other", "--num", "20", "--json"))
    best = make_words().nlargest(20, "y")
    keys = ["site", "kind", "other"]
    found = pd.DataFrame(summary["candidates"])
    assert sorted(found[keys].to_records(index=False).tolist()) == sorted(
        best[keys].to_records(index=False).tolist()
    )
    assert "reconstruction" not in summary


def test_fixed_category_and_bounds_of_a_number(tmp_path: Path, words: str) -> None:
    options = ["--fix", "kind=fir", "--bounds", "a=0.2:0.4", "--encoding", "logits", "--num", "4"]
    invoke(*PROPOSE, *options)
    table = read_proposals(tmp_path / "candidates.csv")
    assert table["kind"].tolist() == ["fir"] * 4
    assert table["a"].between(0.2, 0.4).all()


def test_categories_that_are_numbers(tmp_path: Path) -> None:
    """More than texts may have that nothing is said of; they come back as the file has them."""
    codes = [f"{i:03d}" for i in range(120)] * 2
    frame = pd.DataFrame({"code": codes, "a": range(240), "y": [i % 7 for i in range(240)]})
    frame.to_csv(tmp_path / "codes.csv", index=False)
    options = ["--category", "code", "--fix", "code=007", "--num", "4", "--json"]
    text = invoke("propose", "codes.csv", "--objective", "y", *options)
    summary = strict_json(text)
    assert summary["categories"] == ["code"]
    assert [row["code"] for row in summary["candidates"]] == ["007"] * 4
    assert read_frame(tmp_path / "candidates.csv", texts=["code"])["code"].tolist() == ["007"] * 4
    (tmp_path / "run.json").write_text(text, "utf-8")
    saved = Run.read(tmp_path / "run.json")
    assert saved.table.parts[0].kind == "category"
    assert saved.candidates[:, 0].tolist() == [7.0] * 4


def test_latent_space(
    tmp_path: Path, words: str, lossless_space: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many held-out sequences come back is said, column by column."""
    monkeypatch.setattr(
        LatentSpace, "fit", lambda tokens, vocabulary, **_: lossless_space(vocabulary, tokens)
    )
    options = ["--sequence", "other", "--encoding", "latent", "--num", "3"]
    text = invoke(*PROPOSE, *options)
    for column in ("site", "other"):
        assert f"75.0% of held-out sequences of '{column}' come back from its latent space" in text
    summary = strict_json(invoke(*PROPOSE, *options, "--json", "--force"))
    assert summary["reconstruction"] == {"site": 0.75, "other": 0.75}


@pytest.mark.parametrize("name", ["[/]", "[red]a[/red]", ":dog:"])
def test_names_and_values_are_shown_as_they_are(tmp_path: Path, name: str) -> None:
    """Nothing of them is taken for a style or an emoji."""
    frame = make_frame().rename(columns={"a": name, "y": f"y{name}"})[[name, f"y{name}"]]
    write_frame(frame.assign(k=[name, "u"] * 15), tmp_path / "t.csv")
    folder = tmp_path / f"{name.partition('/')[0]}"
    folder.mkdir()  # of [/] a folder "[" and a file "].csv"
    output = f"{name}.csv"
    (tmp_path / output).parent.mkdir(exist_ok=True, parents=True)
    options = ["--objective", f"y{name}", "--num", "4", "--out", output, "--fix", f"k={name}"]
    text = invoke("propose", "t.csv", *options)
    assert text.count(name) >= 7  # title, head, four categories, output
    assert text.endswith(f"written to {output}\n")


def test_the_page_is_no_link_to_the_table(tmp_path: Path, data: str, fail: Any) -> None:
    (tmp_path / "page.html").symlink_to("candidates.csv")
    (tmp_path / "candidates.csv").write_text("before")
    outcome = fail(*HTML, "--force")
    assert "'candidates.csv' and 'page.html' are one file; choose another name" in outcome.err
    outcome = fail("propose", data, "--objective", "y", "--out", "o.csv", "--checkpoint", "o.csv")
    assert "'o.csv' and 'o.csv' are one file" in outcome.err
    assert (tmp_path / "candidates.csv").read_text() == "before"


def test_long_sequences_are_cut_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "out", Console(width=200))
    frame = make_frame().drop(columns=["n", "b", "c"])
    texts = ["acgt" * 15 + "acgt"[i % 4] for i in range(30)]
    write_frame(frame.assign(s=texts), tmp_path / "long.csv")
    text = invoke("propose", "long.csv", "--objective", "y", "--sequence", "s", "--num", "2")
    assert re.search(r" [acgt]{37}\.\.\. ", text)
    written = read_frame(tmp_path / "candidates.csv")["s"]
    assert written.str.fullmatch("[acgt]{61}").all()


BAD_TEXTS: list[tuple[list[str], str]] = [
    (["--sequence", "seq"], "The table has no column 'seq'"),
    (["--sequence", "y"], "`--sequence` names the objective 'y'"),
    (["--sequence", "site", "--fix", "kind=elm"], r"`--fix\['kind'\]` .* received 'elm'"),
    (["--sequence", "site", "--fix", "site=11"], "names the sequences 'site'"),
    (["--sequence", "site", "--bounds", "kind=0:1"], r"`bounds\['kind'\]` names a column of texts"),
    (["--sequence", "site", "--encoding", "best"], r"`encoding` must be one of .* received 'best'"),
    (
        ["--ignore", "site", "--encoding", "latent"],
        "`encoding` is for the columns named in `--sequence`",
    ),
    ([], "The column 'site' has 6 missing values"),  # "NA" and "null" are not read as texts here
]


@pytest.mark.parametrize(("options", "message"), BAD_TEXTS, ids=[" ".join(o) for o, _ in BAD_TEXTS])
def test_bad_options_of_texts(
    tmp_path: Path, words: str, fail: Any, options: list[str], message: str
) -> None:
    outcome = fail("propose", words, "--objective", "y", *options)
    assert outcome.status == 1
    assert re.match(f"error: .*{message}", outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["words.csv"]


def test_empty_sequence(tmp_path: Path, fail: Any) -> None:
    (tmp_path / "words.csv").write_text("site,y\nac,1\n,2\nga,3\n")
    outcome = fail(*PROPOSE)
    assert outcome.status == 1
    assert "'site' cannot hold sequences: " in outcome.err
    assert "received '' in row 1; drop or correct it" in outcome.err


# Bad input


BAD_INPUT: list[tuple[str, str]] = [
    ("--objective z", r"The table has no column 'z'; its columns are \['a', 'b', 'c', 'n', 'y'\]"),
    ("--objective y --ignore z", "no column 'z'"),
    ("--objective y --ignore y", "`ignore` names the objective 'y'"),
    ("--objective y --num 31", "`--num` is 31, but there are only the 30 designs .* reduce it"),
    ("--objective y --bounds a=nan:1", r"`bounds\['a'\]` must be a finite number, received nan"),
    ("--objective y --bounds a=1:0", r"`bounds\['a'\]` .* lower <= upper, .*\(1\.0, 0\.0\)"),
    ("--objective y --bounds a=1", "`--bounds` must be COLUMN=LOWER:UPPER, received 'a=1'"),
    ("--objective y --bounds 0:1", "`--bounds` must be .* received '0:1'"),
    ("--objective y --bounds a=x:1", "`--bounds` must be .* received 'a=x:1'"),
    ("--objective y --bounds z=0:1", "`bounds` names the column 'z'"),
    ("--objective y --bounds n=0.2:0.8", r"'n' hold no integer: \[0\.2, 0\.8\]"),
    ("--objective y --fix a", "`--fix` must be COLUMN=VALUE, received 'a'"),
    ("--objective y --fix a=b", r"`--fix\['a'\]` must be a finite number, received 'b'"),
    ("--objective y --fix z=1", "`--fix` names the column 'z'"),
    ("--objective y --num 3 --fix a=7 --bounds a=0:1", r"`--fix\['a'\]` .* received 7"),
    ("--objective y --fix n=1.5", r"`--fix\['n'\]` must be an integer .* received '1\.5'"),
    ("--objective y --margin -1", r"`margin` .* received -1\.0"),
    ("--objective y --num 2 --min-distance -1", r"`min_distance` .* above 0, received -1\.0"),
    ("--objective y --preset best", r"`preset` must be one of .* received 'best'"),
    ("--objective y --timeout 0", r"`--timeout` .* received 0\.0"),
    ("--objective y --device abacus", "`device` must be a device .* received 'abacus'"),
    ("--objective y --out o.xlsx", r"'o\.xlsx' must end in one of .* received '\.xlsx'"),
    ("--objective y --out no/o.csv", r"The folder '.*no' of the output does not exist"),
    ("--objective y --out taken.csv", r"'taken\.csv' exists already"),
    ("--objective y --out data.csv", r"'data\.csv' is the file that is read, .* another name"),
    ("--objective y --out data.csv --force", r"'data\.csv' is the file that is read"),
    ("--objective y --bounds a=0:1 --bounds a=0:2", "`--bounds` names the column 'a' 2 times"),
    ("--objective y --fix a=0 --fix a=1", "`--fix` names the column 'a' 2 times; name it once"),
    ("--objective y --ignore a --ignore a", "`--ignore` names the column 'a' 2 times"),
    ("--objective y --sequence a --sequence a", "`--sequence` names the column 'a' 2 times"),
    ("--objective y --device meta", "`device` must be a device .* received 'meta': .*try 'cpu'"),
    (f"--objective y --seed {10**30}", f"`seed` must be at most {2**62}, received {10**30}"),
    (f"--objective y --num {10**30}", f"`--num` is {10**30}, but there are only the 30 designs"),
]


@pytest.mark.parametrize(("options", "message"), BAD_INPUT, ids=[o for o, _ in BAD_INPUT])
def test_bad_options(tmp_path: Path, data: str, fail: Any, options: str, message: str) -> None:
    content = (tmp_path / data).read_bytes()
    (tmp_path / "taken.csv").write_text("before")
    outcome = fail("propose", data, *options.split())
    assert outcome.status == 1
    assert re.match(f"error: .*{message}", outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv", "taken.csv"]
    assert (tmp_path / data).read_bytes() == content
    assert (tmp_path / "taken.csv").read_text() == "before"


BAD_FILES: list[tuple[str, bytes | None, str]] = [
    ("t.csv", None, r"There is no file 't\.csv'"),
    ("t.txt", b"a,y\n1,2\n", r"'t\.txt' must end in one of"),
    ("t.csv", b"", r"'t\.csv' is empty \(0 bytes\)"),
    ("t.csv", b"a,y\n", r"'t\.csv' has no rows"),
    ("t.csv", b"a,y\n1,2\n3,4,5,6\n", r"'t\.csv' cannot be read as csv: .*line 3"),
    ("t.parquet", b"PAR1 and no more", r"'t\.parquet' cannot be read as parquet"),
    ("t.csv", b"a,b,y\n1,one,1\n2,two,2\n", "The column 'b' is not numeric .*'one'"),
    ("t.csv", b"a,y\n1,2\n3,4\n5,six\n", r"'y' is not numeric \(row 2 holds 'six'\); correct its"),
    ("t.csv", b"a,y\n1,2\n1,3\n-9007199254740993,4\n", "row 2, counted from 0, .*not exact as a"),
    ("t.csv", b"a,a,y\n1,2,3\n4,5,6\n", r"'t\.csv' has several columns named 'a'; rename them"),
    (
        "t.csv",
        b"a,y\n1,2,3\n4,5,6\n",
        r"'t\.csv' has more values in its rows than the 2 ",
    ),
    ("t.csv", b"a;y\n1;2\n4;5\n", r"'t\.csv' has one column, 'a;y'; separate columns by commas"),
    ("t.csv", "a,y\n1,é\n".encode("latin-1"), "it is no text in UTF-8 .*byte 0xe9.* in UTF-8"),
    ("t.csv", b"a,y\n1,2\n,4\n3,5\n", "The column 'a' has 1 missing values .*row 1"),
    ("t.csv", b"a,y\n1,2\n3,\n", "The column 'y' has 1 missing values .*row 1"),
    ("t.csv", b"a,y\n1,2\n3,inf\n", "The column 'y' holds inf in row 1, .*no finite number"),
    ("t.csv", b"a,y\n1,2\n", r"at least two rows, .*\(1, 1\)"),
    ("t.csv", b"a,y\n1,2\n3,2\n", r"`train_Y` is constant in column 0 \(value 2\)"),
    ("t.csv", b"y\n1\n2\n", "at least one input besides 'y'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_files(
    tmp_path: Path, fail: Any, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    outcome = fail("propose", name, "--objective", "y", "--num", "1")
    assert outcome.status == 1
    assert re.match(f"error: .*{message}", outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "candidates.csv").exists()


def test_output_without_permission(
    tmp_path: Path, data: str, fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found before any work is done, also by a superuser."""
    monkeypatch.setattr(os, "access", lambda path, mode, **kwargs: not mode & os.W_OK)
    monkeypatch.setattr("botorch_roma.files.read_frame", lambda path: pytest.fail("too late"))
    outcome = fail("propose", data, "--objective", "y")
    assert outcome.status == 1
    assert "'candidates.csv' cannot be written: no permission" in outcome.err
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            OSError(errno.ENOSPC, "no more"),
            1,
            "error: The output 'o.csv' could not be written: No space left on device; make room, "
            "or choose another place. If there was such a file, it is as it was.\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_interrupted_write(
    tmp_path: Path,
    data: str,
    fail: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    message: str,
) -> None:
    def to_csv(self: pd.DataFrame, path: Path, **kwargs: Any) -> None:
        path.write_text("half of the")
        raise error

    (tmp_path / "o.csv").write_text("before")
    monkeypatch.setattr(pd.DataFrame, "to_csv", to_csv)
    outcome = fail("propose", data, "--objective", "y", "--num", "2", "--out", "o.csv", "--force")
    assert outcome.status == status
    assert outcome.err.endswith(message)
    assert "Traceback" not in outcome.err
    assert (tmp_path / "o.csv").read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv", "o.csv"]


def test_designs_that_cannot_be_written_are_not_lost(
    tmp_path: Path, data: str, fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full by the end of the run; the folder for temporary files is on another."""
    to_csv = pd.DataFrame.to_csv

    def disk_full(self: pd.DataFrame, path: Path, **kwargs: Any) -> None:
        if path.parent == tmp_path:
            raise OSError(errno.ENOSPC, "no more")
        to_csv(self, path, **kwargs)

    (tmp_path / "other disk").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "other disk"))
    monkeypatch.setattr(pd.DataFrame, "to_csv", disk_full)
    outcome = fail("propose", data, "--objective", "y", "--num", "2")
    assert outcome.status == 1
    (rescued,) = (tmp_path / "other disk").glob("*/candidates.csv")
    assert "No space left on device; make room, or choose another place. If there" in outcome.err
    assert outcome.err.endswith(f"The designs are in {str(rescued)!r}.\n")
    assert len(read_frame(rescued)) == 2


@pytest.mark.parametrize("existing", [False, True])
def test_interrupted_before_there_is_a_result(
    tmp_path: Path, data: str, fail: Any, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    """In stage 1; for all of it as processes see tests/test_interrupt.py."""

    def interrupted(*args: Any, **kwargs: Any) -> NoReturn:
        raise KeyboardInterrupt

    if existing:
        (tmp_path / "o.csv").write_text("before")
    monkeypatch.setattr(training.Training, "run", interrupted)
    arguments = ("propose", data, "--objective", "y", "--num", "2", "--out", "o.csv", "--force")
    outcome = fail(*arguments)
    left = "is as it was" if existing else "was not written"
    assert outcome == (130, "", f"interrupted before there was a result: 'o.csv' {left}\n")
    assert (tmp_path / "o.csv").exists() == existing


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes.\nframe 0")],
)
def test_out_of_memory(
    data: str, fail: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(*args: Any, **kwargs: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(training.Training, "run", exhausted)
    outcome = fail("propose", data, "--objective", "y", "--num", "2")
    assert outcome.status == 1
    assert outcome.err.startswith("error: the memory is used up; pass fewer rows, or a smaller")
    assert outcome.err.count("\n") == 1


def test_a_bug_stays_a_traceback(data: str, fail: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(training.Training, "run", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fail("propose", data, "--objective", "y", "--num", "2")


# demo


def test_demo(tmp_path: Path) -> None:
    text = invoke("demo", "--task", "branin2", "--num", "6")
    assert "oracle calls before the final evaluation: 0" in text
    for label in ("visible data", "start designs", "proposals"):
        assert label in text
    figure = (tmp_path / "botorch_roma_demo.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["botorch_roma_demo.png"]


def test_demo_json(tmp_path: Path) -> None:
    summary = strict_json(
        invoke("demo", "--task", "branin2", "--num", "4", "--seed", "1", "--json", "--out", "f.pdf")
    )
    assert summary["oracle_calls_before"] == 0
    assert (summary["task"], summary["num"], summary["seed"]) == ("branin2", 4, 1)
    assert summary["figure"] == "f.pdf"
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--task tfbind8", "`task` must be one of .* received 'tfbind8'"),
        ("--task branin2 --out f.docx", r"`suffix of --out` must be one of .* received '\.docx'"),
        ("--task branin2 --out figure", r"`suffix of --out` must be one of .* received ''"),
        ("--task branin2 --out taken.png", r"'taken\.png' exists already"),
        ("--task branin2 --device abacus", "`device` must be a device .* received 'abacus'"),
    ],
)
def test_demo_bad_input(tmp_path: Path, fail: Any, options: str, message: str) -> None:
    (tmp_path / "taken.png").write_text("before")
    outcome = fail("demo", *options.split())
    assert outcome.status == 1
    assert re.match(f"error: .*{message}", outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["taken.png"]
    assert (tmp_path / "taken.png").read_text() == "before"


# run


METHODS = ["--method", "random", "--method", "start"]
RUN = ["run", "branin2", "--seeds", "2", "--num", "5", "--workers", "1", *METHODS]


def test_run(tmp_path: Path) -> None:
    text = invoke(*RUN, "--out", "results")
    names = ["results.csv", "results.jsonl", "results.md"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] != ".") == names
    assert (tmp_path / "results.md").read_text() in text
    assert "| random designs |" in text
    assert "written to results.csv and results.md" in text
    runs = pd.read_csv(tmp_path / "results.csv")
    assert runs[["method", "seed"]].to_numpy().tolist() == [
        ["random", 0],
        ["random", 1],
        ["start", 0],
    ]
    assert runs["oracle_calls_before"].eq(0).all()
    assert "values" not in runs


def test_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke(*RUN)
    store, table = tmp_path / "branin2.jsonl", (tmp_path / "branin2.csv").read_text()
    lines = store.read_text().splitlines(keepends=True)
    store.write_text(lines[0] + lines[2] + lines[1][:40])
    asked: list[Any] = []
    monkeypatch.setattr(runner, "run_job", lambda job: asked.append(job) or run_job(job))
    invoke(*RUN, "--force")
    assert [(job.methods, job.seeds) for job in asked] == [(("start",), (0,))]
    again, before = (
        pd.read_csv(f).drop(columns=[*MEASURED])
        for f in (tmp_path / "branin2.csv", io.StringIO(table))
    )
    pd.testing.assert_frame_equal(again, before)


def test_run_to_the_default_place_as_json(tmp_path: Path) -> None:
    rows = json.loads(invoke(*RUN, "--json"))
    assert [row["method"] for row in rows] == ["random", "start"]
    assert rows[0]["seeds"] == 2
    assert rows[0]["full_100_std"] > 0.0
    assert rows[1]["seeds"] == 1  # the start designs are what they are
    assert rows[1]["full_100_std"] is None
    assert (tmp_path / "branin2.csv").is_file()
    assert (tmp_path / "branin2.md").is_file()


def test_benchmark_and_report(tmp_path: Path) -> None:
    options = ["--seeds", "2", "--num", "5", "--workers", "1", *METHODS]
    text = invoke("benchmark", "branin2", "ackley6", *options)
    assert text == "6 runs in runs.jsonl; next: botorch-roma report runs.jsonl\n"
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    invoke("benchmark", "branin2", "ackley6", *options)
    assert (tmp_path / "runs.jsonl").read_text().splitlines() == lines
    written = invoke("report", "runs.jsonl").splitlines()
    assert len(written) == 10
    assert all(Path(path).is_file() for path in written)
    assert "| random designs |" in (tmp_path / "report.md").read_text()
    (tmp_path / "elsewhere").mkdir()
    invoke("report", "runs.jsonl", "--out", "elsewhere")
    assert len([*(tmp_path / "elsewhere").iterdir()]) == 10


@pytest.mark.parametrize(
    ("option", "expected"), [([], 1), (["--batch-seeds", "3"], 3), (["--batch-seeds", "0"], None)]
)
@pytest.mark.parametrize("command", ["run", "benchmark"])
def test_seeds_in_one_computation(
    monkeypatch: pytest.MonkeyPatch, command: str, option: list[str], expected: int | None
) -> None:
    def spy(*args: Any, batch_seeds: int | None, **kwargs: Any) -> pd.DataFrame:
        assert batch_seeds == expected
        raise ValueError("seen")

    monkeypatch.setattr(runner, "run_benchmark", spy)
    with pytest.raises(ValueError, match="seen"):
        invoke(command, "branin2", *option)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nothing.jsonl"], "There is no store 'nothing.jsonl'"),
        (["report", "taken.md"], "Line 1 of the store 'taken.md' is no record"),
        (["report", "empty.jsonl"], "'empty.jsonl' holds no run; pass a store"),
        (["benchmark", "branin3"], "`name` must be one of"),
        (["benchmark", "branin2", "--store", "no/runs.jsonl"], "The folder '.*no' of the store"),
    ],
)
def test_benchmark_bad_input(tmp_path: Path, fail: Any, arguments: list[str], message: str) -> None:
    (tmp_path / "taken.md").write_text("before\n")
    (tmp_path / "empty.jsonl").write_text("")
    outcome = fail(*arguments)
    assert outcome.status == 1
    assert re.match(f"error: .*{message}", outcome.err), outcome.err
    assert {p.name for p in tmp_path.iterdir()} == {"taken.md", "empty.jsonl"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "branin3"], "`name` must be one of .*'branin2'.* received 'branin3'"),
        (["run", "branin2", "--method", "magic"], "`--method` must be one of .* received 'magic'"),
        ([*RUN, "--out", "taken"], r"'taken\.md' exists already"),
        (["run", "tfbind8", "--data-dir", "nowhere"], "nowhere"),
    ],
)
def test_run_bad_input(tmp_path: Path, fail: Any, arguments: list[str], message: str) -> None:
    (tmp_path / "taken.md").write_text("before")
    outcome = fail(*arguments)
    assert outcome.status == 1
    assert re.match(f"error: .*{message}", outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["taken.md"]


# As a process


def python_m(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(botorch_roma.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "botorch_roma", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
        check=False,
    )


def test_version_of_the_process() -> None:
    process = python_m("--version")
    assert process.returncode == 0
    assert process.stdout == f"botorch-roma {botorch_roma.__version__}\n"
    assert process.stderr == ""


def test_status_of_the_process(tmp_path: Path, data: str) -> None:
    long = "a_long_name_" * 10
    process = python_m("propose", data, "--objective", long)
    assert process.returncode == 1
    assert process.stderr.startswith(f"error: The table has no column '{long}'")
    assert process.stderr.count("\n") == 1
    assert process.stdout == ""
    process = python_m("propose", data)
    assert process.returncode == 2
    assert "Missing option '--objective'" in process.stderr
    assert "Traceback" not in process.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["propose", "data.csv"],
        ["propose", "data.csv", "--objective", "y", "--num", "many"],
        ["propose", "data.csv", "--objective", "y", "--num", "0"],
        ["propose", "data.csv", "--objective", "y", "--num", "-3"],
        ["propose", "data.csv", "--objective", "y", "--num", "1.5"],
        ["propose", "data.csv", "--objective", "y", "--seed", "-1"],
        ["demo", "--num", "0"],
        ["propose", "data.csv", "--objective", "y", "--colour"],
        ["run", "branin2", "--seeds", "0"],
        ["run", "branin2", "--num", "0"],
        ["run", "branin2", "--workers", "-1"],
        ["dance"],
    ],
)
def test_usage_errors(tmp_path: Path, data: str, fail: Any, arguments: list[str]) -> None:
    outcome = fail(*arguments)
    assert outcome.status == 2
    assert "Usage:" in outcome.err
    assert "Traceback" not in outcome.err
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


def test_help(fail: Any) -> None:
    outcome = fail("--help")
    assert outcome.status == 0
    for command in ("propose", "demo", "run"):
        assert command in outcome.out
        assert fail(command, "--help").status == 0

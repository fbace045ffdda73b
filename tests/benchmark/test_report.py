from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from botorch.exceptions.errors import InputDataError
from matplotlib.figure import Figure

from botorch_roma import OfflineTask
from botorch_roma.benchmark.jobs import SCORES
from botorch_roma.benchmark.report import (
    proposal_figure,
    summarize,
    task_table,
    write_report,
)


def run(method: str, seed: int, score: float, **changes: Any) -> dict[str, Any]:
    return {
        "task": "toy",
        "method": method,
        "seed": seed,
        "version": "0.1",
        "num_rows": 5,
        "dim": 1,
        "ranges": {"visible": [0.0, 10.0], "full": [0.0, 20.0]},
        "substitute": "A stand-in for the real thing.",
        "values": [score, score],
        **{name: score + i for i, name in enumerate(SCORES)},
        "num_distinct": 4,
        "reconstruction": None,
        "oracle_calls_before": 0,
        "fit_seconds": 1.0,
        "optimize_seconds": 3.0,
        "peak_memory_mb": 500.0,
        "refused": None,
        **changes,
    }


@pytest.fixture
def runs() -> pd.DataFrame:
    return pd.DataFrame(
        [
            run("paper", 0, 0.1),
            run("paper", 1, 0.2, num_distinct=2, fit_seconds=2.0),
            run("paper", 2, 0.6, optimize_seconds=9.0),
            run("default", 0, 0.5, reconstruction=0.875, peak_memory_mb=None),
            run("start", 0, 0.4),
            run("start", 1, 0.4),
            run("start", 2, 0.4, peak_memory_mb=812.4),
        ]
    )


@pytest.fixture
def task() -> OfflineTask:
    X = torch.linspace(0.0, 1.0, 5, dtype=torch.double).unsqueeze(-1)
    return OfflineTask(
        name="toy",
        X=X,
        Y=10.0 * X,
        bounds=torch.tensor([[0.0], [2.0]], dtype=torch.double),
        oracle=lambda designs: 10.0 * designs,
        ranges={"full": (0.0, 20.0)},
        substitute="A stand-in for the real thing.",
    )


def test_summary_by_hand(runs: pd.DataFrame) -> None:
    summary = summarize(runs).set_index("method")
    assert list(summary.index) == ["paper", "default", "start"]
    paper = summary.loc["paper"]
    assert paper["task"] == "toy"
    assert paper["seeds"] == 3
    for i, name in enumerate(("full_100", "full_50", "visible_100", "visible_50")):
        assert paper[f"{name}_mean"] == pytest.approx(0.3 + i)
        # deviations -0.2, -0.1 and 0.3 from the mean: squares 0.14, over n - 1 = 2
        assert paper[f"{name}_std"] == pytest.approx(math.sqrt(0.07))
    assert paper["num_distinct"] == pytest.approx(10 / 3)
    assert paper["fit_seconds"] == pytest.approx(4 / 3)
    assert paper["optimize_seconds"] == 5.0
    assert paper["peak_memory_mb"] == 500.0
    assert summary.loc["start", "peak_memory_mb"] == 812.4
    assert summary["refused"].isna().all()
    assert summary.loc["start", "full_100_std"] == pytest.approx(0.0, abs=1e-15)
    assert math.isnan(summary.loc["default", "full_100_std"])


def test_summary_keeps_the_worst_number_of_oracle_calls(runs: pd.DataFrame) -> None:
    runs.loc[1, "oracle_calls_before"] = 2
    assert summarize(runs)["oracle_calls_before"].tolist() == [2, 0, 0]


def test_tasks_are_kept_apart(runs: pd.DataFrame) -> None:
    both = pd.concat([runs, runs.assign(task="other", full_100=0.0)])
    summary = summarize(both)
    assert summary["task"].tolist() == ["toy"] * 3 + ["other"] * 3
    assert summary["full_100_mean"].tolist()[3:] == [0.0] * 3


def test_markdown(runs: pd.DataFrame) -> None:
    text = task_table(runs)
    lines = text.splitlines()
    assert lines[0] == "### toy (5 visible rows, 1 inputs)"
    assert "**Substitute:** A stand-in for the real thing." in lines
    assert "over 3 seeds" in text
    assert "`full` (range of the full table, Design-Bench v2)" in text
    assert "`visible` (best visible design = 1, the paper's)" in text
    assert "visible: 0 to 10" in text
    assert "full: 0 to 20" in text
    assert "| best visible design | 0.500 | | 1.000 | | | | | | |" in lines
    rows = [line for line in lines if line.startswith("| RoMA") or line.startswith("| start")]
    assert rows == [
        "| RoMA, paper | 0.300 ± 0.265 | 1.300 ± 0.265 | 2.300 ± 0.265 | 3.300 ± 0.265 | 3 "
        "| | 1.3 | 5.0 | 500 |",
        "| RoMA, default (1 seed) | 0.500 | 1.500 | 2.500 | 3.500 | 4 | 87.5% | 1.0 | 3.0 | |",
        "| start designs (best visible) | 0.400 | 1.400 | 2.400 | 3.400 | 4 | | 1.0 | 3.0 | 812 |",
    ]
    columns = {line.count("|") for line in lines if line.startswith("|")}
    assert columns == {11}
    assert text.endswith("\n")


def test_seconds_of_several_seeds_at_once_say_so(runs: pd.DataFrame) -> None:
    """Runs that were stored before there were such count as one by one."""
    assert summarize(runs)["batch_seeds"].tolist() == [1, 1, 1]
    assert "at once" not in task_table(runs)
    runs["batch_seeds"] = [2, 2, 1, None, 1, 1, 1]
    assert summarize(runs)["batch_seeds"].tolist() == [2, 1, 1]
    lines = task_table(runs).splitlines()
    assert any("a seed's seconds are its time divided by their number" in line for line in lines)
    names = ("paper", "default")
    paper, default = (next(x for x in lines if x.startswith(f"| RoMA, {n}")) for n in names)
    assert paper.endswith("| 1.3 (up to 2 at once) | 5.0 (up to 2 at once) | 500 |")
    assert default.endswith("| 1.0 | 3.0 | |")


def test_refusals_are_told(runs: pd.DataFrame) -> None:
    nothing = dict.fromkeys([*SCORES, "num_distinct", "fit_seconds", "oracle_calls_before"])
    refused = [
        {
            "task": "toy",
            "method": "fast_latent",
            "seed": i,
            **nothing,
            "refused": "It loses 9 %.",
        }
        for i in range(3)
    ]
    runs = pd.concat([runs, pd.DataFrame(refused)])
    summary = summarize(runs)
    assert summary["refused"].tolist()[-1] == "It loses 9 %."
    assert summary["seeds"].tolist()[-1] == 3
    lines = task_table(runs).splitlines()
    row = next(line for line in lines if line.startswith("| RoMA, fast, latent"))
    assert row.startswith("| RoMA, fast, latent space | refused | |")
    assert row.count("|") == 11
    assert lines[-1] == "RoMA, fast, latent space refused: It loses 9 %."


def test_best_position_stands_in_columns_of_its_own(runs: pd.DataFrame) -> None:
    places = {"best_position_full_100": 7.25, "best_position_full_50": 8.5}
    runs = pd.concat([runs, pd.DataFrame([run("coms", 0, 0.1, **places)])])
    lines = [line for line in task_table(runs).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {13}
    assert lines[0].endswith("| best position (asks the oracle), full 100th | full 50th |")
    assert lines[-1].startswith("| COMs (1 seed) | 0.100 | 1.100 |")
    assert lines[-1].endswith("| 7.250 | 8.500 |")
    assert lines[-2].endswith("| 812 | | |")


def test_markdown_without_a_substitute(runs: pd.DataFrame) -> None:
    assert "Substitute" not in task_table(runs.assign(substitute=None))


class TestWriteReport:
    def test_files(self, runs: pd.DataFrame, tmp_path: Path) -> None:
        other = runs.assign(task="other", substitute=None)
        paths = write_report(pd.concat([runs, other]), tmp_path)
        assert sorted(paths) == sorted(tmp_path.iterdir())
        assert len(paths) == 10
        text = (tmp_path / "report.md").read_text()
        for p in (100, 50):
            for scale in ("full", "visible"):
                assert f"## {p}th percentile" in text
                assert f"scale `{scale}`" in text
                table = pd.read_csv(tmp_path / f"table_{p}_{scale}.csv", index_col="method")
                assert table.loc["paper", "toy mean"] == pytest.approx(
                    runs.loc[:2, f"{scale}_{p}"].mean()
                )
                latex = (tmp_path / f"table_{p}_{scale}.tex").read_text()
                assert latex.startswith(r"\begin{tabular}{lcccc}")
        order = ["start", "paper", "default"]  # that of METHODS, not of the runs
        assert task_table(runs.set_index("method").loc[order].reset_index()) in text
        assert "no comparison with published figures: `toy`." in text
        assert "up to 3 seeds" in text
        assert (tmp_path / "percentiles_full.png").read_bytes()[:4] == b"\x89PNG"

    def test_ablation_has_a_section_of_its_own(self, runs: pd.DataFrame, tmp_path: Path) -> None:
        variants = [*(run("only_none", s, 0.1 * s) for s in range(2)), run("fast", 0, 0.25)]
        paths = write_report(pd.concat([runs, pd.DataFrame(variants)]), tmp_path)
        assert sorted(paths) == sorted(tmp_path.iterdir())
        text = (tmp_path / "report.md").read_text()
        tables, components = text.split("## Components")
        assert "none of the components" not in tables
        assert "| none of the components | 0.050" in components
        assert "Each component of `fast` alone" in components
        assert "| all together | 0.250 |" in components
        names = {f"ablation_{p}_full.{end}" for p in (100, 50) for end in ("csv", "tex", "png")}
        assert names <= {path.name for path in paths}

    def test_ablation_alone(self, runs: pd.DataFrame, tmp_path: Path) -> None:
        variants = [run("only_none", 0, 0.1), run("only_noise", 0, 0.3)]
        write_report(pd.DataFrame(variants), tmp_path)
        tables, components = (tmp_path / "report.md").read_text().split("## Components")
        assert "| none of the components | 0.100 |" in tables
        assert "| none of the components | 0.100 |" in components

    def test_a_task_on_which_all_were_refused(self, runs: pd.DataFrame, tmp_path: Path) -> None:
        nothing = dict.fromkeys([*SCORES, "values", "num_distinct", "fit_seconds"])
        refused = run("paper", 0, 0.0, task="other", refused="It loses half.", **nothing)
        write_report(pd.concat([runs, pd.DataFrame([refused])]), tmp_path)
        text = (tmp_path / "report.md").read_text()
        assert "| RoMA, paper | refused |" in text
        assert "| RoMA, paper | 0.300 ± 0.265 | |" in text

    def test_nothing_is_overwritten(self, runs: pd.DataFrame, tmp_path: Path) -> None:
        (tmp_path / "table_50_visible.tex").write_text("mine")
        with pytest.raises(FileExistsError, match=r"table_50_visible\.tex' exists already"):
            write_report(runs, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["table_50_visible.tex"]
        write_report(runs, tmp_path, force=True)
        assert (tmp_path / "table_50_visible.tex").read_text() != "mine"

    def test_no_results(self, runs: pd.DataFrame, tmp_path: Path) -> None:
        for nothing in (runs.iloc[:0], runs.drop(columns="full_100"), runs.assign(full_100=None)):
            with pytest.raises(InputDataError, match="at least one run with a result"):
                write_report(nothing, tmp_path)
        assert not list(tmp_path.iterdir())


def test_figure(task: OfflineTask) -> None:
    figure = proposal_figure(task, torch.tensor([[15.0], [30.0]], dtype=torch.double))
    assert isinstance(figure, Figure)
    (axis,) = figure.axes
    assert axis.get_title() == "toy"
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert any("visible data (5" in label for label in labels)
    assert any("proposals, true value (2" in label for label in labels)
    low, high = axis.get_xlim()
    assert low < 0.0
    assert high > 1.5  # the best proposal, on the full scale
    assert {line.get_xdata()[0] for line in axis.get_lines()} == {0.5, 1.0}

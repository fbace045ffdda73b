r"""
Tables over several tasks, as in [Yu2021roma]_: one row per method, its average and mean rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botorch_roma.benchmark.methods import METHODS
from botorch_roma.validation import check_choice

if TYPE_CHECKING:
    import pandas as pd

#: Name of the first row.
BEST_VISIBLE: str = "best visible design"

SCALE_NOTES: dict[str, str] = {
    "full": "range of the full table (Design-Bench v2)",
    "visible": "range of the visible data (the paper's; best visible design = 1)",
}


def best_visible(ranges: Mapping[str, Sequence[float]], scale: str) -> float:
    r"""The best visible design of a task on a scale.

    Args:
        ranges: Lowest and highest value behind every scale, as in the runs.
        scale: ``"full"`` or ``"visible"``.
    """
    low, high = ranges[scale]
    return (ranges["visible"][1] - low) / (high - low)


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "".join(f"| {c} " if c else "| " for c in cells) + "|"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of cells, the header first."""
    lines = [markdown_row(row) for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n"


def latex_table(rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX table (``booktabs``) of cells, the header first."""
    lines = [" & ".join(c.replace("_", r"\_") for c in row) + r" \\" for row in rows]
    columns = "l" + "c" * (len(rows[0]) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
    return "\n".join([*body, *lines[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


@dataclass(frozen=True)
class ScoreTable:
    r"""One percentile of the final batches on one scale.

    Attributes:
        mean: Mean over seeds; a row per method, a column per task; NaN where there is none.
        std: Sample deviation over seeds; NaN for one seed, and for methods without randomness.
        best_visible: Best visible design of every task, on the same scale.
        percentile: 100 (best of the batch) or 50 (median).
        scale: ``"full"`` or ``"visible"``.
    """

    mean: pd.DataFrame
    std: pd.DataFrame
    best_visible: pd.Series[float]
    percentile: int
    scale: str

    @property
    def average(self) -> pd.Series[float]:
        """Mean over tasks; NaN for a method that lacks one."""
        return self.mean.mean(axis=1, skipna=False)

    @property
    def mean_rank(self) -> pd.Series[float]:
        """Mean over tasks of the rank, 1 the best, among the methods that have all tasks."""
        ranks = self.mean.dropna().rank(ascending=False)
        return ranks.mean(axis=1).reindex(self.mean.index)

    @property
    def among_the_best(self) -> pd.DataFrame:
        """Which scores are within one deviation of the best one of their task."""
        best = self.mean.max()
        deviation = self.std.where(self.mean.eq(best)).max().fillna(0.0)
        return self.mean.ge(best - deviation)

    def to_frame(self) -> pd.DataFrame:
        """Means and deviations side by side, the best visible design first."""
        import pandas as pd

        table = pd.DataFrame(index=self.mean.index)
        for task in self.mean:
            table[f"{task} mean"], table[f"{task} std"] = self.mean[task], self.std[task]
        table["average"], table["mean rank"] = self.average, self.mean_rank
        first = {f"{t} mean": v for t, v in self.best_visible.items()}
        first["average"] = self.best_visible.mean()
        return pd.concat([pd.DataFrame(first, index=[BEST_VISIBLE]), table])[list(table)]

    def to_markdown(self) -> str:
        """A Markdown table; what is within one deviation of the best is bold."""
        return markdown_table(self._cells(lambda text: f"**{text}**", "±", ""))

    def to_latex(self) -> str:
        """A LaTeX table (``booktabs``)."""
        return latex_table(self._cells(lambda text: rf"\textbf{{{text}}}", r"$\pm$", "--"))

    def _cells(self, bold: Callable[[str], str], plus_minus: str, missing: str) -> list[list[str]]:
        """All cells as texts, the header first."""

        def number(value: float, digits: int = 3) -> str:
            return f"{value:.{digits}f}" if value == value else missing

        rows = [["method", *map(str, self.mean), "average", "mean rank"]]
        best = [number(v) for v in self.best_visible]
        rows.append([BEST_VISIBLE, *best, number(self.best_visible.mean()), missing])
        parts = (self.mean, self.std, self.among_the_best)
        means, stds, chosen = (part.to_numpy().tolist() for part in parts)
        for i, method in enumerate(self.mean.index):
            row = [METHODS[str(method)].label]
            for mean, std, is_best in zip(means[i], stds[i], chosen[i], strict=True):
                text = number(mean) + (f" {plus_minus} {std:.3f}" if std == std else "")
                row.append(bold(text) if is_best else text)
            row += [number(self.average.iloc[i]), number(self.mean_rank.iloc[i], 2)]
            rows.append(row)
        return rows


def score_table(runs: pd.DataFrame, *, percentile: int, scale: str) -> ScoreTable:
    r"""The table of one percentile on one scale.

    Args:
        runs: Rows of :func:`~botorch_roma.benchmark.runner.run_benchmark` over one or more tasks.
        percentile: 100 or 50.
        scale: ``"full"`` or ``"visible"``.

    Raises:
        ValueError: For another percentile or scale.
    """
    import pandas as pd

    methods = [m for m in METHODS if m in set(runs["method"])]
    mean, std, _ = over_seeds(runs, methods, percentile=percentile, scale=scale)
    ranges = runs.groupby("task", sort=False)["ranges"].first()
    best = {task: best_visible(r, scale) for task, r in ranges.items()}
    return ScoreTable(mean, std, pd.Series(best), percentile, scale)


def over_seeds(
    runs: pd.DataFrame, methods: list[str], *, percentile: int, scale: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    r"""Mean, sample deviation and number of seeds; a row per method, a column per task.

    Args:
        runs: Rows of :func:`~botorch_roma.benchmark.runner.run_benchmark`.
        methods: The rows of the result, in their order.
        percentile: 100 or 50.
        scale: ``"full"`` or ``"visible"``.

    Raises:
        ValueError: For another percentile or scale.
    """
    check_choice("scale", scale, SCALE_NOTES)
    check_choice("percentile", str(percentile), ("100", "50"))
    groups = runs.groupby(["method", "task"], sort=False)[f"{scale}_{percentile}"]
    tasks = runs["task"].unique()
    mean, std, count = (
        groups.agg(of).unstack().reindex(index=methods, columns=tasks).astype(float)
        for of in ("mean", "std", "count")
    )
    return mean, std, count


def average_scores(
    raw: Mapping[str, Sequence[float]], best: Sequence[float], width: Sequence[float]
) -> dict[str, float]:
    r"""The paper's ``Avg.`` column: mean over tasks of raw scores on the visible scale.

    Args:
        raw: Method to its raw score on every task.
        best: Best visible design of every task.
        width: Range of the visible data of every task.
    """
    return {
        method: sum(1.0 + (s - b) / w for s, b, w in zip(scores, best, width, strict=True))
        / len(width)
        for method, scores in raw.items()
    }

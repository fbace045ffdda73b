r"""
What each component of RoMA is worth alone, and all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.tables import latex_table, markdown_table, over_seeds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: The row with all components: the preset that the variants are made of.
ALL_COMPONENTS: str = "fast"

#: Coverage of the confidence intervals.
CONFIDENCE: float = 0.95


@dataclass(frozen=True)
class AblationTable:
    r"""One percentile on one scale: the mean over seeds and its confidence interval.

    Attributes:
        mean: A row per variant, a column per task.
        half_width: Half the width of the interval, from Student's t; NaN for one seed.
        percentile: 100 or 50.
        scale: ``"full"`` or ``"visible"``.
    """

    mean: pd.DataFrame
    half_width: pd.DataFrame
    percentile: int
    scale: str

    def to_frame(self) -> pd.DataFrame:
        """Mean and both ends of the interval, task by task."""
        import pandas as pd

        columns = {}
        for task in self.mean:
            mean, half = self.mean[task], self.half_width[task]
            columns[f"{task} mean"] = mean
            columns[f"{task} low"], columns[f"{task} high"] = mean - half, mean + half
        return pd.DataFrame(columns)

    def to_markdown(self) -> str:
        """A Markdown table."""
        return markdown_table(self._cells(""))

    def to_latex(self) -> str:
        """A LaTeX table (``booktabs``)."""
        return latex_table(self._cells("--"))

    def figure(self) -> Figure:
        """Means and intervals, one panel per task."""
        from matplotlib.figure import Figure

        tasks, labels = [*self.mean], [_label(m) for m in self.mean.index]
        figure = Figure(
            figsize=(2.4 + 3.0 * len(tasks), 0.8 + 0.36 * len(labels)), layout="constrained"
        )
        axes = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
        places = range(len(labels))[::-1]
        for axis, task in zip(axes, tasks, strict=True):
            axis.errorbar(
                self.mean[task], places, xerr=self.half_width[task].fillna(0.0), fmt="o", capsize=3
            )
            axis.set(title=task)
            axis.set_yticks(places, labels)
            axis.grid(axis="x", alpha=0.3)
        figure.supxlabel(f"{self.percentile}th percentile of the batch, {self.scale} scale")
        return figure

    def _cells(self, missing: str) -> list[list[str]]:
        rows = [["components", *map(str, self.mean)]]
        means, halves = self.mean.to_numpy().tolist(), self.half_width.to_numpy().tolist()
        for i, method in enumerate(self.mean.index):
            cells = [_label(method)]
            for mean, half in zip(means[i], halves[i], strict=True):
                interval = f" [{mean - half:.3f}, {mean + half:.3f}]" if half == half else ""
                cells.append(f"{mean:.3f}{interval}" if mean == mean else missing)
            rows.append(cells)
        return rows


def ablation_table(runs: pd.DataFrame, *, percentile: int, scale: str) -> AblationTable | None:
    r"""The ablation in some runs, or None if there is none.

    Args:
        runs: Rows of :func:`~botorch_roma.benchmark.runner.run_benchmark`.
        percentile: 100 or 50.
        scale: ``"full"`` or ``"visible"``.

    Raises:
        ValueError: For another percentile or scale.
    """
    from scipy.stats import t

    variants = [m.name for m in METHODS.values() if m.family == "ablation"]
    part = runs[runs["method"].isin([*variants, ALL_COMPONENTS])]
    tasks = part.loc[part["method"].isin(variants), "task"].unique()
    if not len(tasks):
        return None
    part = part[part["task"].isin(tasks)]
    order = [m for m in [*variants, ALL_COMPONENTS] if m in set(part["method"])]
    mean, std, count = over_seeds(part, order, percentile=percentile, scale=scale)
    quantile = t.ppf(0.5 + CONFIDENCE / 2.0, count.clip(lower=2) - 1)
    return AblationTable(mean, std / count**0.5 * quantile, percentile, scale)


def _label(method: object) -> str:
    return "all together" if method == ALL_COMPONENTS else METHODS[str(method)].label

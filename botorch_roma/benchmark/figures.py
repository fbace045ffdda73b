r"""
Figures of benchmark runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botorch_roma.benchmark.kinds import Family
from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.tables import SCALE_NOTES, best_visible
from botorch_roma.validation import check_choice

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Style and width of the lines of a family, and the map that their colours are taken from.
_LINES: dict[Family, tuple[str, float, str]] = {
    "trivial": (":", 1.6, "gray"),
    "baseline": ("--", 1.1, "tab10"),
    "roma": ("-", 2.0, "Dark2"),
    "ablation": ("-.", 1.1, "tab10"),
}

#: Entries of the legend side by side.
_LEGEND_COLUMNS: int = 4


def percentile_figure(runs: pd.DataFrame, *, scale: str = "full") -> Figure:
    r"""Score against percentile of the batch, one panel per task (Figure 3 of [Yu2021roma]_).

    The mean over seeds, with a band of one standard deviation; the best visible design is a
    dotted line.

    Args:
        runs: Rows of :func:`~botorch_roma.benchmark.runner.run_benchmark`, with ``values``.
        scale: ``"full"`` or ``"visible"``.

    Raises:
        ValueError: For another scale.
    """
    import numpy as np
    from matplotlib.figure import Figure

    check_choice("scale", scale, SCALE_NOTES)
    tasks = [*runs["task"].unique()]
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    shown = [m for m in METHODS if m in set(runs["method"])]
    entries = -(-(len(shown) + 1) // _LEGEND_COLUMNS)
    size = (max(4.6 * columns, 9.6), 3.8 * rows + 0.2 * entries)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    percentiles, lines = np.linspace(0.0, 100.0, 101), {}
    for axis, task in zip(axes.flat, tasks, strict=False):
        part = runs[runs["task"] == task]
        ranges, substitute = part["ranges"].iloc[0], part["substitute"].iloc[0]
        part = part[part["values"].map(lambda v: isinstance(v, list))]  # maybe all were refused
        low, high = ranges[scale]
        for method in shown:
            batches = part.loc[part["method"] == method, "values"]
            if batches.empty:
                continue
            curves = np.stack([np.percentile(v, percentiles) for v in batches])
            curves = (curves - low) / (high - low)
            mean, std = curves.mean(axis=0), curves.std(axis=0)
            style, width, color = _line(method)
            (lines[method],) = axis.plot(percentiles, mean, ls=style, lw=width, color=color)
            axis.fill_between(percentiles, mean - std, mean + std, alpha=0.1, lw=0, color=color)
        lines["best"] = axis.axhline(best_visible(ranges, scale), color="black", ls=":", lw=1.0)
        note = " (substitute)" if isinstance(substitute, str) else ""
        axis.set(title=f"{task}{note}", xlabel="percentile of the batch")
        axis.set_ylabel(f"value ({scale} scale)")
    for axis in axes.flat[len(tasks) :]:
        axis.set_axis_off()
    order = [m for m in shown if m in lines]
    labels = [*(METHODS[m].label for m in order), "best visible design"]
    handles = [*(lines[m] for m in order), lines["best"]]
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=_LEGEND_COLUMNS,
        frameon=False,
        fontsize="small",
    )
    return figure


def _line(method: str) -> tuple[str, float, Any]:
    """Style, width and colour of a method's line, the same in every figure."""
    import matplotlib as mpl

    family = METHODS[method].family
    style, width, name = _LINES[family]
    place = [m for m in METHODS if METHODS[m].family == family].index(method)
    colors = mpl.colormaps[name]
    # shades of grey are a continuous map; the others are lists
    color = colors(0.25 + 0.15 * place) if colors.N > 20 else colors(place % colors.N)
    return style, width, color

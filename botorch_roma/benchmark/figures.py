r"""
Figures of benchmark runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.tables import SCALE_NOTES, best_visible
from botorch_roma.validation import check_choice

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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
    figure = Figure(figsize=(4.2 * columns + 2.6, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    percentiles, lines = np.linspace(0.0, 100.0, 101), {}
    for axis, task in zip(axes.flat, tasks, strict=False):
        part = runs[runs["task"] == task]
        part = part[part["values"].map(lambda v: isinstance(v, list))]
        ranges = part["ranges"].iloc[0]
        low, high = ranges[scale]
        for i, method in enumerate(METHODS):
            batches = part.loc[part["method"] == method, "values"]
            if batches.empty:
                continue
            curves = np.stack([np.percentile(v, percentiles) for v in batches])
            curves = (curves - low) / (high - low)
            mean, std = curves.mean(axis=0), curves.std(axis=0)
            style = {"color": f"C{i % 10}", "ls": "-" if i < 10 else "--"}
            (lines[method],) = axis.plot(percentiles, mean, lw=1.4, **style)
            axis.fill_between(
                percentiles, mean - std, mean + std, alpha=0.15, lw=0, color=f"C{i % 10}"
            )
        lines["best"] = axis.axhline(best_visible(ranges, scale), color="black", ls=":", lw=1.0)
        substitute = " (substitute)" if isinstance(part["substitute"].iloc[0], str) else ""
        axis.set(title=f"{task}{substitute}", xlabel="percentile of the batch")
        axis.set_ylabel(f"value ({scale} scale)")
    for axis in axes.flat[len(tasks) :]:
        axis.set_axis_off()
    order = [m for m in METHODS if m in lines]
    labels = [*(METHODS[m].label for m in order), "best visible design"]
    handles = [*(lines[m] for m in order), lines["best"]]
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize="small")
    return figure

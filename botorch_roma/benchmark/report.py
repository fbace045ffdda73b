r"""
Tables and figures of benchmark runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botorch_roma.benchmark.jobs import SCORES
from botorch_roma.benchmark.methods import METHODS
from botorch_roma.tasks import OfflineTask

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    r"""Mean and standard deviation over seeds of every score.

    Args:
        runs: Rows of :func:`~botorch_roma.benchmark.runner.run_benchmark`.

    Returns:
        One row per task and method, in the order of the runs, with the columns
        ``{score}_mean`` and ``{score}_std`` (sample deviation; NaN for one seed), the means
        of ``num_distinct``, ``reconstruction``, ``fit_seconds`` and ``optimize_seconds``, the
        largest ``peak_memory_mb``, and ``refused``, the reason why there is nothing, or None.
    """
    groups = runs.groupby(["task", "method"], sort=False)
    table = groups.agg(
        seeds=("seed", "count"),
        **{f"{s}_mean": (s, "mean") for s in SCORES},
        **{f"{s}_std": (s, "std") for s in SCORES},
        num_distinct=("num_distinct", "mean"),
        reconstruction=("reconstruction", lambda r: r.astype(float).mean()),
        oracle_calls_before=("oracle_calls_before", "max"),
        fit_seconds=("fit_seconds", "mean"),
        optimize_seconds=("optimize_seconds", "mean"),
        peak_memory_mb=("peak_memory_mb", "max"),
        refused=("refused", lambda r: next((x for x in r if isinstance(x, str)), None)),
    )
    return table.reset_index()


def markdown_table(summary: pd.DataFrame, task: OfflineTask) -> str:
    r"""The table of one task as Markdown, both normalisations named, substitutes named.

    Args:
        summary: From :func:`summarize`, of one task.
        task: The task, for its ranges and its best visible design.
    """
    best = {s: task.normalize(task.Y.max(), scale=s).item() for s in ("full", "visible")}
    ranges = ", ".join(f"{s}: {low:g} to {high:g}" for s, (low, high) in task.ranges.items())
    lines = [
        f"### {task.name} ({task.num_rows:,} visible rows, {task.dim} inputs)",
        "",
        *([f"**Substitute:** {task.substitute}", ""] if task.substitute else []),
        f"Mean ± standard deviation over {summary['seeds'].max()} seeds of the 100th and 50th "
        "percentile of the final batch, on the scales `full` (range of the full table, "
        f"Design-Bench v2) and `visible` (best visible design = 1, the paper's); {ranges}.",
        "",
        "| method | full 100th | full 50th | visible 100th | visible 50th | distinct "
        "| reconstruction | stage 1, s | stage 2, s | peak, MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| best visible design | {best['full']:.3f} | | {best['visible']:.3f} | | | | | | |",
    ]
    refusals = []
    for row in summary.to_dict("records"):
        method = METHODS[row["method"]]
        if row["refused"] is not None:
            lines.append(f"| {method.label} | refused |" + " |" * 8)
            refusals += ["", f"{method.label} refused: {row['refused']}"]
            continue
        scores = [f"{row[f'{s}_mean']:.3f}" for s in SCORES]
        if method.seeded and row["seeds"] > 1:
            scores = [f"{v} ± {row[f'{s}_std']:.3f}" for v, s in zip(scores, SCORES, strict=True)]
        seconds = [f"{row[f'{stage}_seconds']:.1f}" for stage in ("fit", "optimize")]
        accuracy = row["reconstruction"]  # NaN without a latent space
        share = f"{accuracy:.1%}" if accuracy == accuracy else ""
        memory = row["peak_memory_mb"]  # NaN where it cannot be measured
        peak = f"{memory:.0f}" if memory == memory else ""
        cells = [method.label, *scores, f"{row['num_distinct']:.0f}", share, *seconds, peak]
        lines.append("".join(f"| {c} " if c else "| " for c in cells) + "|")
    return "\n".join(lines + refusals) + "\n"


def proposal_figure(task: OfflineTask, Y_proposed: Tensor) -> Figure:
    r"""True values of the proposals above those of the visible data, on the full scale.

    Args:
        task: The task.
        Y_proposed: True values of the proposals, ``q x 1``.
    """
    from matplotlib.figure import Figure

    visible, proposed = (
        task.normalize(Y, scale="full").flatten().cpu().numpy() for Y in (task.Y, Y_proposed)
    )
    low, high = min(visible.min(), proposed.min()), max(1.0, proposed.max())
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axis = figure.subplots()
    groups = (
        (visible, f"visible data ({len(visible):,} designs)", "0.7"),
        (proposed, f"proposals, true value ({len(proposed)} designs)", "tab:orange"),
    )
    for values, label, color in groups:
        share = [100.0 / len(values)] * len(values)
        axis.hist(
            values, bins=60, range=(low, high), weights=share, alpha=0.8, label=label, color=color
        )
    axis.axvline(visible.max(), color="black", ls=":", label="best visible design")
    axis.axvline(1.0, color="black", lw=0.8, label="best design of the full table (hidden)")
    axis.set(xlabel="normalised value (full scale)", ylabel="share of designs, %", title=task.name)
    axis.legend(frameon=False, fontsize="small")
    return figure

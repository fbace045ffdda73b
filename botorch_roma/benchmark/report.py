r"""
Tables and figures of benchmark runs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from botorch.exceptions.errors import InputDataError

from botorch_roma.benchmark.ablation import ALL_COMPONENTS, CONFIDENCE, ablation_table
from botorch_roma.benchmark.figures import percentile_figure
from botorch_roma.benchmark.jobs import SCORES
from botorch_roma.benchmark.methods import METHODS
from botorch_roma.benchmark.tables import SCALE_NOTES, best_visible, markdown_row, score_table
from botorch_roma.files import check_output, write_atomically
from botorch_roma.tasks import OfflineTask

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

#: What a table says where several seeds ran in one computation.
SHARED_NOTE: str = (
    "Seconds with `at once`: so many seeds ran as one computation; a seed's seconds are its time "
    "divided by their number, the peak memory is that of all of them."
)


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    r"""Mean and standard deviation over seeds of every score.

    Args:
        runs: Rows of :func:`~botorch_roma.benchmark.runner.run_benchmark`.

    Returns:
        One row per task and method, in the order of the runs, with the columns
        ``{score}_mean`` and ``{score}_std`` (sample deviation; NaN for one seed), the means
        of ``num_distinct``, ``reconstruction``, ``fit_seconds`` and ``optimize_seconds``, the
        largest ``peak_memory_mb``, the largest ``batch_seeds`` (1 in runs stored before there were
        such), the ``device`` of runs elsewhere than on the CPU, the means of the
        ``best_position_*`` where there are any, and ``refused``, the reason why there is nothing,
        or None.
    """
    together = runs["batch_seeds"].fillna(1).astype(int) if "batch_seeds" in runs else 1
    groups = runs.assign(batch_seeds=together).groupby(["task", "method"], sort=False)
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
        batch_seeds=("batch_seeds", "max"),
        **({"device": ("device", "first")} if "device" in runs else {}),  # of those with one
        **{
            f"best_position_{s}": (f"best_position_{s}", "mean")
            for s in SCORES
            if f"best_position_{s}" in runs
        },
        refused=("refused", lambda r: next((x for x in r if isinstance(x, str)), None)),
    )
    return table.reset_index()


def task_table(runs: pd.DataFrame) -> str:
    r"""The table of one task as Markdown, both normalisations named, substitutes named.

    Args:
        runs: Rows of :func:`~botorch_roma.benchmark.runner.run_benchmark`, of one task.
    """
    summary, task = summarize(runs), runs.iloc[0]
    substitute = task["substitute"]  # NaN for none
    best = {s: best_visible(task["ranges"], s) for s in task["ranges"]}
    ranges = ", ".join(f"{s}: {low:g} to {high:g}" for s, (low, high) in task["ranges"].items())
    positions = summary.get("best_position_full_100")
    along = positions is not None and bool(positions.notna().any())
    width = 12 if along else 10
    lines = [
        f"### {task['task']} ({task['num_rows']:,} visible rows, {task['dim']} inputs)",
        "",
        *([f"**Substitute:** {substitute}", ""] if isinstance(substitute, str) else []),
        f"Mean ± standard deviation over {summary['seeds'].max()} seeds of the 100th and 50th "
        "percentile of the final batch, on the scales `full` (range of the full table, "
        f"Design-Bench v2) and `visible` (best visible design = 1, the paper's); {ranges}.",
        "",
        *([SHARED_NOTE, ""] if summary["batch_seeds"].max() > 1 else []),
        "| method | full 100th | full 50th | visible 100th | visible 50th | distinct "
        "| reconstruction | stage 1, s | stage 2, s | peak, MB |"
        + (" best position (asks the oracle), full 100th | full 50th |" if along else ""),
        "|---" * width + "|",
        f"| best visible design | {best['full']:.3f} | | {best['visible']:.3f} |"
        + " |" * (width - 4),
    ]
    refusals = []
    for row in summary.to_dict("records"):
        method = METHODS[row["method"]]
        if row["refused"] is not None:
            lines.append(f"| {method.label} | refused |" + " |" * (width - 2))
            refusals += ["", f"{method.label} refused: {row['refused']}"]
            continue
        scores = [f"{row[f'{s}_mean']:.3f}" for s in SCORES]
        if method.seeded and row["seeds"] > 1:
            scores = [f"{v} ± {row[f'{s}_std']:.3f}" for v, s in zip(scores, SCORES, strict=True)]
        together = f" (up to {row['batch_seeds']} at once)" if row["batch_seeds"] > 1 else ""
        seconds = [f"{row[f'{stage}_seconds']:.1f}{together}" for stage in ("fit", "optimize")]
        accuracy = row["reconstruction"]  # NaN without a latent space
        share = f"{accuracy:.1%}" if accuracy == accuracy else ""
        memory = row["peak_memory_mb"]  # NaN where it cannot be measured
        peak = f"{memory:.0f}" if memory == memory else ""
        label, count, device = method.label, row["seeds"], row.get("device")
        if isinstance(device, str):
            label += f" (on {device})"
        if method.seeded and count < summary["seeds"].max():
            label += f" ({count} seed{'s' * (count > 1)})"
        cells = [label, *scores, f"{row['num_distinct']:.0f}", share, *seconds, peak]
        for name in ("full_100", "full_50") if along else ():
            position = row[f"best_position_{name}"]
            cells.append(f"{position:.3f}" if position == position else "")
        lines.append(markdown_row(cells))
    return "\n".join(lines + refusals) + "\n"


def write_report(runs: pd.DataFrame, folder: Path, *, force: bool = False) -> list[Path]:
    r"""Write all tables and figures of some runs.

    ``report.md`` has the tables of both percentiles on both scales, the figure, and the table of
    every task; ``table_100_full.csv`` and so on hold one table each (``.tex`` the same for LaTeX),
    ``percentiles_full.png`` is the figure. Runs of the ablation go to ``ablation_*`` and a section
    of their own; where there are no others, they are in all tables.

    Args:
        runs: Rows of :func:`~botorch_roma.benchmark.runner.run_benchmark`.
        folder: Where to write; it must exist.
        force: Whether existing files may be replaced.

    Returns:
        The files written; methods stand in the order of ``METHODS`` in all of them.

    Raises:
        OSError: If a file exists and ``force`` is not set, before anything is written.
        InputDataError: If no run has a result.
    """
    if runs.empty or "full_100" not in runs or runs["full_100"].isna().all():
        raise InputDataError("`runs` must hold at least one run with a result, received none.")
    order = {name: i for i, name in enumerate(METHODS)}
    runs = runs.sort_values("method", key=lambda m: m.map(order), kind="stable")
    ablation = runs["method"].map(lambda m: METHODS[m].family == "ablation")
    compared = runs if ablation.all() else runs[~ablation]
    tables = {
        (scale, p): score_table(compared, percentile=p, scale=scale)
        for scale in SCALE_NOTES
        for p in (100, 50)
    }
    figures = {"percentiles_full.png": percentile_figure(compared)}
    text = ["# Results", "", _introduction(runs), ""]
    texts: dict[str, str] = {}
    for (scale, p), table in tables.items():
        what = "best design of the batch" if p == 100 else "median of the batch"
        text += [f"## {p}th percentile ({what}), scale `{scale}`: {SCALE_NOTES[scale]}", ""]
        text += [table.to_markdown()]
        texts[f"table_{p}_{scale}.csv"] = table.to_frame().to_csv(index_label="method")
        texts[f"table_{p}_{scale}.tex"] = table.to_latex()
    text += ["## Score against percentile", "", "![score against percentile](percentiles_full.png)"]
    text += ["", "## Task by task", ""]
    text += [task_table(part) for _, part in compared.groupby("task", sort=False)]
    if ablation.any():
        text += [
            "## Components",
            "",
            f"Each component of `{ALL_COMPONENTS}` alone, none and all of them; mean over seeds "
            f"and its {CONFIDENCE:.0%} confidence interval, scale `full`.",
            "",
        ]
        for p in (100, 50):
            components = ablation_table(runs, percentile=p, scale="full")
            assert components is not None
            name = f"ablation_{p}_full"
            texts[f"{name}.csv"] = components.to_frame().to_csv(index_label="method")
            texts[f"{name}.tex"] = components.to_latex()
            figures[f"{name}.png"] = components.figure()
            text += [
                f"### {p}th percentile",
                "",
                components.to_markdown(),
                f"![{name}]({name}.png)",
            ]
            text += [""]
    texts["report.md"] = "\n".join(text)
    paths = [*(folder / name for name in [*texts, *figures])]
    for path in paths:
        check_output(path, force=force)
    for name, content in texts.items():
        write = functools.partial(Path.write_text, data=content, encoding="utf-8")
        write_atomically(folder / name, write, force=force)
    for name, figure in figures.items():
        draw = functools.partial(figure.savefig, dpi=150)
        write_atomically(folder / name, draw, force=force)
    return paths


def _introduction(runs: pd.DataFrame) -> str:
    seeds = runs.groupby(["task", "method"])["seed"].nunique().max()
    versions = ", ".join(sorted(runs["version"].unique()))
    substitutes = [f"`{t}`" for t in runs.loc[runs["substitute"].notna(), "task"].unique()]
    note = (
        f" Substitutes, so no comparison with published figures: {', '.join(substitutes)}."
        if substitutes
        else ""
    )
    return (
        f"Mean ± standard deviation over up to {seeds} seeds, final step, no oracle call before "
        "the final evaluation. Bold: within one deviation of the best method of the task; mean "
        "rank: among the methods that have all tasks. Made with botorch_roma "
        f"{versions}.{note}"
    )


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

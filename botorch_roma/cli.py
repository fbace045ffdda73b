"""The command ``botorch-roma``: parses and prints, computes nothing."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from botorch.exceptions import BotorchError, BotorchWarning
from rich.console import Console
from rich.table import Table

import botorch_roma
from botorch_roma._clock import left
from botorch_roma._options import (
    AsJson,
    BatchSeeds,
    DataDir,
    Device,
    Force,
    LauncherName,
    Methods,
    Num,
    NumEach,
    Positions,
    PresetName,
    Seed,
    Seeds,
    Workers,
    with_options,
)
from botorch_roma.checkpoint import DEFAULT_INTERVAL
from botorch_roma.columns import check_once, parse_bounds, parse_fixed

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    name="botorch-roma",
    help="Turn a table of measured designs into new designs worth measuring, with no query.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: Characters of a text that a table shows.
MAX_CELL: int = 40

# names and values of the user's are shown as they are: "[/]" and ":dog:" mean nothing
out, err = (Console(stderr=stderr, markup=False, emoji=False) for stderr in (False, True))


def _version(value: bool) -> None:
    if value:
        typer.echo(f"botorch-roma {botorch_roma.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def propose(
    data: Annotated[Path, typer.Argument(help="Table of measured designs (.csv or .parquet).")],
    objective: Annotated[str, typer.Option(help="Column of the measured outcome.")],
    num: Num = 128,
    minimize: Annotated[bool, typer.Option("--minimize", help="Smaller is better.")] = False,
    bounds: Annotated[
        list[str] | None, typer.Option(help="COLUMN=LOWER:UPPER; may be repeated.")
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(help="COLUMN=VALUE (number or category) held fixed; may be repeated."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Column that is no design; may be repeated.")
    ] = None,
    sequence: Annotated[
        list[str] | None,
        typer.Option(help="Column of sequences, one letter a symbol; may be repeated."),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(help="Column of categories, though many or numbers; may be repeated."),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="What sequences are for the proxy: one_hot, logits or latent."),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Widen the bounds from the data by this fraction of the range.")
    ] = 0.0,
    min_distance: Annotated[
        float | None,
        typer.Option(help="Distance that designs keep from each other, as `distance` counts."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--out", help="Where the candidates go (.csv or .parquet).")
    ] = Path("candidates.csv"),
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write a page about the run (.html).")
    ] = None,
    preset: PresetName = "default",
    seed: Seed = 0,
    device: Device = "cpu",
    timeout: Annotated[float | None, typer.Option(help="Time budget in seconds.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder to save the state to: the same command goes on after a kill."),
    ] = None,
    checkpoint_interval: Annotated[
        float, typer.Option(help="Seconds from one save to the next.", min=0.0)
    ] = DEFAULT_INTERVAL,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Propose designs from a table of measured ones.

    Ctrl-C ends stage 2 early and writes the designs reached by then.
    """
    from botorch_roma.files import (
        check_apart,
        check_output,
        check_suffix,
        read_frame,
        write_or_rescue,
    )
    from botorch_roma.interrupt import finish_on_interrupt
    from botorch_roma.optim.trajectory import Trajectory
    from botorch_roma.page import check_page
    from botorch_roma.progress import noted_warnings
    from botorch_roma.proposal import describe
    from botorch_roma.propose import propose as run

    check_suffix(output)
    check_output(output, force=force, inputs=[data])
    if page is not None:
        check_page(page, force=force, inputs=[data])
    check_apart(output, page, checkpoint)
    for option, names in (("--ignore", ignore), ("--sequence", sequence), ("--category", category)):
        check_once(option, names or [])
    with _says_what_an_interrupt_left(output, checkpoint), noted_warnings() as noted:
        frame = read_frame(data, texts=[*(sequence or ()), *(category or ())]).rename(columns=str)
        proposal = run(
            frame,
            objective,
            parse_bounds(bounds),
            num,
            minimize=minimize,
            preset=preset,
            margin=margin,
            ignore=ignore,
            sequences=sequence or (),
            categories=category or (),
            encoding=encoding,
            fixed_features=parse_fixed(fix),
            optimize_options={} if min_distance is None else {"min_distance": min_distance},
            seed=seed,
            timeout_sec=left(timeout),
            device=device,
            record_trajectory=page is not None and Trajectory(positions=False),
            checkpoint=checkpoint,
            checkpoint_interval=checkpoint_interval,
            keep_on_interrupt=True,
            progress=not as_json and err.is_terminal,
        )
        table = proposal.to_frame()
        with finish_on_interrupt():
            write_or_rescue(table, output, force=force)
            if page is not None:
                try:
                    proposal.to_html(page, data=str(data), warnings=noted, force=force)
                except OSError as error:
                    raise OSError(f"{error} The designs are in {str(output)!r}.") from error
    if as_json:
        named = {"sequences": sequence, "categories": category, "ignore": ignore}
        given = {"data": str(data)} | {name: columns or [] for name, columns in named.items()}
        where = {"out": str(output), "html": page and str(page)}
        about = {**where, **given, "warnings": noted, "candidates": table.to_dict("records")}
        typer.echo(json.dumps(proposal.summary() | about))
        return
    best_rows = table.head(5)
    title = f"best {len(best_rows)} of {len(table)} proposals for {objective!r}"
    out.print(_frame_table(best_rows, title))
    written = f"written to {output}" + (f" and {page}" if page else "")
    out.print("\n".join([*describe(proposal), written]), highlight=False)


@app.command()
def demo(
    task: Annotated[str, typer.Option(help="A synthetic task.")] = "ackley6",
    num: Num = 128,
    preset: PresetName = "default",
    output: Annotated[Path, typer.Option("--out", help="Where the figure goes.")] = Path(
        "botorch_roma_demo.png"
    ),
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Run both stages on an embedded task whose best designs are hidden."""
    from matplotlib.figure import Figure

    from botorch_roma.benchmark.demo import run_demo
    from botorch_roma.files import check_output, write_atomically
    from botorch_roma.validation import check_choice

    formats = Figure().canvas.get_supported_filetypes()
    check_choice("suffix of --out", output.suffix.lower(), [f".{name}" for name in formats])
    check_output(output, force=force)
    progress = not as_json and err.is_terminal
    result = run_demo(task, q=num, preset=preset, seed=seed, device=device, progress=progress)
    write_atomically(output, lambda p: result.figure.savefig(p, dpi=150), force=force)
    summary = {**result.summary, "figure": str(output)}
    if as_json:
        typer.echo(json.dumps(summary))
        return
    title = f"{summary['task']}: true values (best of the full table = 1)"
    table = Table(title=title, min_width=len(title) + 4)
    for column in ("", "best", "median"):
        table.add_column(column, justify="left" if not column else "right")
    for label in ("visible data", "start designs", "proposals"):
        key = label.replace(" ", "_")
        table.add_row(label, f"{summary[key + '_best']:.3f}", f"{summary[key + '_median']:.3f}")
    out.print(table)
    out.print(
        f"oracle calls before the final evaluation: {summary['oracle_calls_before']}\n"
        f"stage 1 {summary['fit_seconds']:.1f} s, stage 2 {summary['optimize_seconds']:.1f} s\n"
        f"figure written to {output}",
        highlight=False,
    )


@app.command()
def tasks(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the benchmark tasks: data, size, kind, oracle, what is a substitute."""
    from botorch_roma.tasks import TASKS

    rows = [
        {
            "task": name,
            "status": info.status(data_dir),
            "kind": info.kind,
            "visible": f"{info.num_rows} x {info.dim}",
            "oracle": info.oracle,
            "substitute": info.substitute,
        }
        for name, info in TASKS.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(box=None)
    for column in rows[0]:
        table.add_column(column, no_wrap=column in ("task", "kind", "visible"))
    for row in rows:
        table.add_row(*row.values())
    out.print(table)


@app.command()
def run(
    task: Annotated[str, typer.Argument(help="Name of a task, see `botorch-roma tasks`.")],
    seeds: Seeds = 8,
    method: Methods = None,
    num: NumEach = 128,
    data_dir: DataDir = None,
    workers: Workers = 0,
    batch_seeds: BatchSeeds = 1,
    positions: Positions = 0,
    device: Device = "cpu",
    output: Annotated[
        Path | None, typer.Option("--out", help="Prefix of the result files [default: TASK].")
    ] = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Run methods on a task over seeds and write a table (.md) and all runs (.csv).

    Every finished run goes to a store (.jsonl) at once: the same command goes on after an
    interruption.
    """
    from botorch_roma.benchmark.report import summarize, task_table
    from botorch_roma.benchmark.runner import TaskSpec, run_benchmark
    from botorch_roma.benchmark.store import RunStore
    from botorch_roma.files import check_output, write_atomically, write_frame

    prefix = output or Path(task)
    paths = [prefix.with_name(f"{prefix.name}{suffix}") for suffix in (".csv", ".md")]
    for path in paths:
        check_output(path, force=force)
    spec = TaskSpec(task, str(data_dir) if data_dir else None)
    runs = run_benchmark(
        spec,
        methods=method,
        num_seeds=seeds,
        q=num,
        store=RunStore(prefix.with_name(f"{prefix.name}.jsonl")),
        num_workers=workers or os.cpu_count() or 1,
        batch_seeds=batch_seeds or None,
        num_positions=positions,
        device=device,
        progress=not as_json and err.is_terminal,
    )
    text = task_table(runs)
    frame = runs.drop(columns=["values", "ranges"], errors="ignore")
    write_frame(frame, paths[0], force=force)
    write_atomically(paths[1], lambda p: p.write_text(text, encoding="utf-8"), force=force)
    if as_json:
        typer.echo(summarize(runs).to_json(orient="records"))
        return
    typer.echo(text)
    typer.echo(f"written to {paths[0]} and {paths[1]}")


@app.command()
def benchmark(
    tasks: Annotated[
        list[str],
        typer.Argument(help="Names of tasks, see `botorch-roma tasks`.", metavar="TASK..."),
    ],
    store: Annotated[Path, typer.Option(help="Store of finished runs; made if missing.")] = Path(
        "runs.jsonl"
    ),
    seeds: Seeds = 8,
    method: Methods = None,
    num: NumEach = 128,
    data_dir: DataDir = None,
    workers: Workers = 0,
    batch_seeds: BatchSeeds = 1,
    positions: Positions = 0,
    launcher: LauncherName = "processes",
    device: Device = "cpu",
) -> None:
    """Run methods on tasks over seeds into a store; `botorch-roma report` makes the tables.

    Every finished run is stored at once: the same command goes on after an interruption.
    """
    from botorch_roma.benchmark.runner import TaskSpec, run_benchmark
    from botorch_roma.benchmark.store import RunStore

    runs = run_benchmark(
        [TaskSpec(task, str(data_dir) if data_dir else None) for task in tasks],
        methods=method,
        num_seeds=seeds,
        q=num,
        store=RunStore(store),
        num_workers=workers or os.cpu_count() or 1,
        batch_seeds=batch_seeds or None,
        num_positions=positions,
        launcher=launcher,
        device=device,
        progress=err.is_terminal,
    )
    typer.echo(f"{len(runs)} runs in {store}; next: botorch-roma report {store}")


@app.command()
def report(
    store: Annotated[
        Path,
        typer.Argument(help="Store of `benchmark` or `run`, or what `propose --json` printed."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for tables and figures, or file of the page [default: by STORE]."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Table of the run, where it is no longer where it was.")
    ] = None,
    force: Force = False,
) -> None:
    """Write the tables (Markdown, CSV, LaTeX) and figures (PNG) of finished runs.

    Of what `propose --json` printed, a page about that run (HTML).
    """
    from botorch_roma.benchmark.report import write_report
    from botorch_roma.benchmark.store import RunStore
    from botorch_roma.files import TABLE_SUFFIXES
    from botorch_roma.page import Run, write_page
    from botorch_roma.page.run import read_summary

    if not store.is_file():
        raise FileNotFoundError(f"There is no store {str(store)!r}; check its name.")
    if store.suffix.lower() in TABLE_SUFFIXES:
        raise ValueError(
            f"{str(store)!r} is a table; pass a store, or what `botorch-roma propose --json` "
            "printed, or have the page made along with the designs: propose --html."
        )
    if data is not None or read_summary(store) is not None:
        page = output or store.with_suffix(".html")
        write_page(Run.read(store, data), page, force=force)
        typer.echo(page)
        return
    if (runs := RunStore(store).frame()).empty:
        raise ValueError(f"{str(store)!r} holds no run; pass a store with finished ones, or JSON.")
    for path in write_report(runs, output or store.absolute().parent, force=force):
        typer.echo(path)


@contextmanager
def _says_what_an_interrupt_left(output: Path, checkpoint: Path | None) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        left = "is as it was" if output.exists() else "was not written"
        goes_on = f"; the same command goes on from {str(checkpoint)!r}" if checkpoint else ""
        err.print(
            f"interrupted before there was a result: {str(output)!r} {left}{goes_on}",
            style="red",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None


def _frame_table(frame: pd.DataFrame, title: str, limit: int = 7) -> Table:
    """The first columns of a data frame, and always the last three."""
    names = list(frame.columns)
    shown = names if len(names) <= limit else [*names[: limit - 4], "...", *names[-3:]]
    table = Table(title=title)
    for name in shown:
        table.add_column(str(name), justify="right")
    for row in frame.to_dict("records"):
        table.add_row(*(_cell(row[n]) if n in row else "..." for n in shown))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 3]}..."


def _show_warning(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
    err.print(
        f"warning: {with_options(str(message))}", style="yellow", highlight=False, soft_wrap=True
    )


def main() -> None:
    """Entry point: errors that a user can mend are one line on standard error and status 1."""
    warnings.simplefilter("default", BotorchWarning)
    warnings.showwarning = _show_warning
    try:
        app()
    except (BotorchError, ValueError, OSError, ModuleNotFoundError) as error:
        message = with_options(str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):  # torch has no type
            raise
        reason = (str(error).splitlines() or [""])[0]
        message = f"the memory is used up; pass fewer rows, or a smaller --num. {reason}".rstrip()
    else:
        return
    err.print(f"error: {message}", style="red", highlight=False, soft_wrap=True)
    sys.exit(1)


if __name__ == "__main__":
    main()

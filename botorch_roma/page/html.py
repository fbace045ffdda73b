r"""
The page itself: what stands in which place, as HTML that needs nothing else.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from botorch_roma.files import check_output, write_atomically
from botorch_roma.history import LOW_CORRELATION
from botorch_roma.page import figures
from botorch_roma.page.figures import count
from botorch_roma.page.inputs import MAX_AXES, MAX_LINES, MAX_PANELS, heights, panels, parallel
from botorch_roma.page.run import Run
from botorch_roma.table import KNOWN_DISTANCE, PREDICTED, Column
from botorch_roma.validation import check_choice

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Rows and input columns of the table of designs.
MAX_ROWS, MAX_COLUMNS = 1_000, 20

#: Inputs held fixed that are named.
MAX_FIXED: int = 20

#: Columns of sequences that get a heat map.
MAX_HEAT_MAPS: int = 4

#: The browser itself refuses to load anything.
POLICY: str = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)

#: Of plotly: no link to its makers, no button that sends the data to them, none without an effect.
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}


def check_page(
    path: str | os.PathLike[str], *, force: bool = False, inputs: Sequence[Path] = ()
) -> Path:
    """Check, before any work is done, that a page can be made.

    Args:
        path: The file to write.
        force: Whether an existing file may be replaced.
        inputs: Files that may not, in any case.

    Raises:
        ModuleNotFoundError: If plotly is not installed.
        ValueError: If ``path`` does not end in ``.html``.
        OSError: As :func:`~botorch_roma.files.check_output`.
    """
    try:
        import plotly  # noqa: F401
    except ImportError:
        raise ModuleNotFoundError(
            f"The page {str(path)!r} needs plotly, which is not installed: "
            'pip install "botorch-roma[report]".',
            name="plotly",
        ) from None
    path = Path(path)
    check_choice("suffix of the page", path.suffix.lower(), [".html", ".htm"])
    return check_output(path, force=force, inputs=inputs)


def write_page(run: Run, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write the page of a run, completely or not at all.

    Args:
        run: The run.
        path: The file to write, ``.html``.
        force: Whether an existing file may be replaced.

    Raises:
        ModuleNotFoundError, OSError, ValueError: As :func:`check_page`.
    """
    checked = check_page(path, force=force)
    text = make_page(run)
    write_atomically(checked, lambda p: p.write_text(text, encoding="utf-8"), force=force)


def make_page(run: Run) -> str:
    """The page of a run as text."""
    from plotly.offline import get_plotlyjs

    here = Path(__file__).parent
    style, script = (here.joinpath(f"page.{s}").read_text("utf-8") for s in ("css", "js"))
    title = f"Proposals for {run.summary['objective']}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{style}</style>",
            f"<script>{get_plotlyjs()}</script></head>",
            "<body><main>",
            f"<h1>{html.escape(title)}</h1>",
            *_sections(run),
            "</main>",
            f'<script type="application/json" id="designs">{_data(run)}</script>',
            f"<script>{script}</script>",
            "</body></html>",
            "",
        ]
    )


def _sections(run: Run) -> Iterator[str]:
    yield _lead(run)
    yield _tiles(run)
    yield _warnings(run)
    yield _limits(run)
    yield _table(run)
    yield _outcomes(run)
    yield _distances(run)
    yield _updates(run)
    yield from _inputs(run)
    yield _settings(run)


def _lead(run: Run) -> str:
    summary = run.summary
    data = PurePath(summary.get("data") or "").name
    return (
        f'<p class="lead">{count(len(run.candidates), "design")} proposed from '
        f"{count(len(run.table.Y), 'measured row')} with {count(len(run.table.parts), 'input')}"
        + (f" in <b>{html.escape(data)}</b>" if data else "")
        + f"; {'smaller' if run.minimize else 'larger'} is better. "
        "Nothing was measured in between.</p>"
    )


def _tiles(run: Run) -> str:
    summary = run.summary
    correlation, held_out = summary["rank_correlation"], summary["held_out"]
    where = f"on {held_out} held-out rows" if held_out else "on the training rows"
    spacing = summary.get("median_spacing")
    tiles = {
        "best measured": _number(summary["best_measured"]),
        "best predicted": _number(summary["best_predicted"]),
        "median predicted": _number(summary["median_predicted"]),
        "median distance to known designs": _number(summary["median_distance"]),
        "median distance to each other": "none" if spacing is None else _number(spacing),
        f"rank correlation {where}": "none" if correlation is None else f"{correlation:.3f}",
    }
    cells = "".join(
        f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles.items()
    )
    return f'<div class="tiles">{cells}</div>'


def _warnings(run: Run) -> str:
    messages = [str(m) for m in run.summary.get("warnings", ())]
    correlation = run.summary["rank_correlation"]
    if not run.summary["held_out"]:
        messages.append(
            "There were too few rows to hold some out: nothing tells whether the predictions hold "
            "for other designs."
        )
    elif correlation is None or correlation < LOW_CORRELATION:
        messages.append(
            "The predictions hardly rank rows that the proxy was not trained on (rank correlation "
            f"{'unknown' if correlation is None else format(correlation, '.3f')}): the proposals "
            "may be little better than chance."
        )
    known = int((run.distance < KNOWN_DISTANCE).sum())
    if known:
        messages.append(
            f"{known:,} of {count(len(run.candidates), 'proposal')} had been measured before "
            "(distance 0)."
        )
    if not messages:
        return ""
    items = "".join(f"<li>{html.escape(m)}</li>" for m in messages)
    return f'<section class="warnings"><h2>Before you go on</h2><ul>{items}</ul></section>'


def _limits(run: Run) -> str:
    return _section(
        "What these numbers are",
        "The designs were found by climbing the very model that predicts them, to places where "
        "nothing was measured. Its predictions there are optimistic as a rule, and the predicted "
        "deviation does not know how far out a design is. Use the values to compare designs with "
        "one another, with the distance beside them, and not as promises of what will be measured. "
        "More is in the documentation of botorch_roma: <code>docs/table.md</code> and "
        "<code>docs/limits.md</code>.",
    )


def shown_columns(run: Run) -> list[Column]:
    """The user's columns that the table of designs shows, in their order."""
    parts = run.table.parts
    if len(parts) <= MAX_COLUMNS:
        return parts
    sequences = run.sequences[:MAX_HEAT_MAPS]
    chosen = {c.name for c in [*sequences, *run.moved][:MAX_COLUMNS]}
    return [c for c in parts if c.name in chosen]


def _table(run: Run) -> str:
    columns = shown_columns(run)
    numbers = ("#", "predicted mean", "predicted deviation", "distance")
    heads = [(name, False) for name in numbers]
    heads += [(c.name, c.kind in ("category", "sequence")) for c in columns]
    head = "".join(
        f'<th scope="col"{" class=text" if is_text else ""}>'
        f'<button type="button" title="{html.escape(name)}">{html.escape(name[:60])}</button></th>'
        for name, is_text in heads
    )
    candidates = run.candidates[:MAX_ROWS]
    inputs = [(c, c.restore(candidates)) for c in columns]
    predicted = [getattr(run, name).tolist() for name in PREDICTED.values()]
    rows = []
    for i in range(len(candidates)):
        cells = [f'<td data-value="{i + 1}">{i + 1}</td>']
        cells += [_cell(values[i], "predicted") for values in predicted]
        cells += [_cell(values[i], c.kind) for c, values in inputs]
        rows.append(f'<tr data-design="{i + 1}">{"".join(cells)}</tr>')
    text = (
        "Best predicted first. Click on a head to sort, on a row to see the design in the figures."
    )
    if len(columns) < len(run.table.parts):
        text += (
            f" Of the {len(run.table.parts):,} inputs the {len(columns)} are shown whose values "
            "moved most from those of the best known designs; the table of candidates has all."
        )
    if len(candidates) < len(run.candidates):
        text += f" The first {len(candidates):,} of {len(run.candidates):,} designs."
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return _section(
        "The designs",
        text,
        f'<div class="scroll" tabindex="0"><table id="table">{table}</table></div>',
    )


def _cell(value: Any, kind: str) -> str:
    if isinstance(value, float):
        name = ' class="predicted"' if kind == "predicted" else ""
        return f'<td{name} data-value="{value!r}">{_number(value)}</td>'
    text = html.escape(str(value))
    if kind in ("integer", "boolean"):
        return f'<td data-value="{int(value)}">{text}</td>'
    name = "sequence" if kind == "sequence" else "text"
    return f'<td class="{name}" title="{text}">{text}</td>'


def _outcomes(run: Run) -> str:
    best, mean = run.summary["best_measured"], run.mean
    better = int(((mean < best) if run.minimize else (mean > best)).sum())
    proposals = count(len(mean), "proposal")
    return _section(
        "Measured and predicted",
        f"Predicted better than the best measured row: {better:,} of {proposals}.",
        _figure("outcomes", figures.outcomes(run)),
    )


def _distances(run: Run) -> str:
    return _section(
        "How far out",
        "Distance to the nearest known design: root mean square over the inputs that the proxy "
        "sees, in standard deviations of the data; 0 is a known design. The farther out, the less "
        "a prediction is worth. Bars: predicted deviation.",
        _figure("distances", figures.distances(run)),
    )


def _updates(run: Run) -> str:
    figure = figures.updates(run)
    if figure is None:
        return _section(
            "On the way",
            "What the proxies predicted at each update was not recorded. <code>propose "
            "--html</code> does so; in Python <code>propose(..., record_trajectory=True)</code>.",
        )
    text = (
        "Predictions before each update, by the proxy adapted to each candidate, which is what was "
        "climbed, and by the fitted one. A curve that still "
        f"{'falls' if run.minimize else 'rises'} at its end would have gone on."
    )
    if run.table.has_tokens:
        text += (
            " Categories and symbols of sequences are vectors on the way, and become themselves "
            "again only at its end."
        )
    return _section("On the way", text, _figure("updates", figure))


def _inputs(run: Run) -> Iterator[str]:
    total = len(run.inputs)
    axes = parallel_columns(run)
    if len(axes) > 1:
        text = (
            "Every line is a design, every axis an input between its least and greatest value in "
            "the designs drawn."
        )
        if total > MAX_AXES:
            text += (
                f" The {MAX_AXES} of {total:,} inputs whose values moved most from those of the "
                "best known designs, the most moved one first."
            )
        if len(run.candidates) > MAX_LINES:
            text += f" The best {MAX_LINES} of each kind."
        yield _section("Inputs side by side", text, _figure("parallel", parallel(run, axes)))
    if total:
        shown = run.moved[:MAX_PANELS]
        text = (
            "Values in the proposals and in all rows of the data; the first and the last bar hold "
            "what lies beyond."
        )
        if len(shown) < total:
            text += f" The {MAX_PANELS} of {total:,} inputs that moved most, the most moved first."
        yield _section("Inputs one by one", text, _figure("panels", panels(run, shown)))
    for i, column in enumerate(run.sequences[:MAX_HEAT_MAPS]):
        text = "How often a symbol stands at a position, in the proposals and in known designs."
        if column.width > figures.MAX_POSITIONS:
            limit = f"{figures.MAX_POSITIONS} of {column.width:,} positions"
            text += f" The {limit} where they differ most."
        heading = f"Sequences: {html.escape(column.name)}"
        yield _section(heading, text, _figure(f"tokens-{i}", figures.tokens(run, column)))
    left_out = [c.name for c in run.sequences[MAX_HEAT_MAPS:]]
    if left_out:
        names = html.escape(", ".join(left_out))
        yield _section("Further sequences", f"Without a picture: {names}.")


def parallel_columns(run: Run) -> list[Column]:
    """The inputs of the parallel coordinates: all, or those that moved most."""
    return run.inputs if len(run.inputs) <= MAX_AXES else run.moved[:MAX_AXES]


def _settings(run: Run) -> str:
    summary = run.summary
    entries: dict[str, Any] = {
        "table": PurePath(summary.get("data") or "").name or "not named",
        "objective": f"{summary['objective']} ({summary['direction']})",
        "preset": summary["preset"],
        "seed": summary["seed"],
    }
    fixed = [f"{name} = {value}" for name, value in summary["fixed"].items()]
    if fixed:
        entries["held fixed"] = ", ".join(fixed[:MAX_FIXED])
        if len(fixed) > MAX_FIXED:
            entries["held fixed"] += f", ... ({len(fixed):,} in all)"
    for stage, options in summary["settings"].items():
        entries |= {f"{stage}: {name}": value for name, value in options.items()}
    for name, share in summary.get("reconstruction", {}).items():
        entries[f"held-out {name} that come back"] = f"{share:.1%}"
    for name, seconds in summary["seconds"].items():
        entries[f"seconds, {name}"] = f"{seconds:.1f}"
    entries["botorch_roma"] = summary["version"]
    items = "".join(
        f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in entries.items()
    )
    text = (
        "What is not named has the default of that version. The same seed gives the same designs, "
        "unless a timeout or Ctrl-C cuts the run short."
    )
    return _section("The run", text, f"<dl>{items}</dl>")


def _section(heading: str, text: str, content: str = "") -> str:
    return f'<section><h2>{heading}</h2><p class="note">{text}</p>{content}</section>'


def _figure(name: str, figure: Figure) -> str:
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config=CONFIG,
        div_id=f"figure-{name}",
        default_height=f"{figure.layout.height}px",
    )


def _data(run: Run) -> str:
    """What the script of the page needs: numbers only."""
    columns = parallel_columns(run)
    lines = heights(run, columns, run.candidates[:MAX_ROWS]).round(4).tolist() if columns else []
    return json.dumps(
        {"mean": run.mean.tolist(), "distance": run.distance.tolist(), "parallel": lines}
    )


def _number(value: float) -> str:
    return f"{value:.5g}"

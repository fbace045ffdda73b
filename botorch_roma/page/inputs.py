r"""
The figures of a page that show numbers and categories: parallel coordinates, histograms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from botorch_roma.page.figures import (
    CHOSEN,
    KNOWN,
    PROPOSED,
    array,
    band_color,
    bars,
    bins,
    label,
    make_figure,
    style,
)
from botorch_roma.page.run import Run, token_shares
from botorch_roma.table import Column

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

#: Axes of the parallel coordinates.
MAX_AXES: int = 20

#: Designs drawn in the parallel coordinates, of each kind.
MAX_LINES: int = 256

#: Histograms of single inputs, and how many stand side by side.
MAX_PANELS, NUM_SIDE_BY_SIDE = 12, 4

#: Bars of such a histogram.
NUM_PANEL_BINS: int = 24

#: The part of the data's values that such a histogram shows at least.
USUAL: tuple[float, float] = (0.01, 0.99)

#: Categories whose names stand at an axis, the first and the last among them; below a histogram.
MAX_NAMES, MAX_NAMES_BELOW = 12, 4


def names(column: Column, letters: int = 14) -> list[str]:
    """Labels of the values 0, 1, ... of a category or boolean, else none."""
    values = (False, True) if column.kind == "boolean" else column.values
    return [label(v, letters) for v in values]


def named(texts: list[str], most: int) -> list[int]:
    """Places of the labels that are shown, at most so many, evenly spread."""
    places = np.linspace(0, len(texts) - 1, min(len(texts), most))
    return [int(i) for i in places.round()]


def value_range(run: Run, column: Column) -> tuple[float, float]:
    """Least and greatest value of an input in the best known designs and the proposals.

    Among all rows there may be values far from any that matters. Of categories and booleans all.
    """
    if texts := names(column):
        return 0.0, len(texts) - 1.0
    parts = [X[:, column.start] for X in (run.best_known, run.candidates)]
    return min(float(p.min()) for p in parts), max(float(p.max()) for p in parts)


def heights(run: Run, columns: list[Column], X: Tensor) -> np.ndarray[Any, Any]:
    r"""Designs ``n x d`` on the axes of ``columns``, 0 at the bottom and 1 on top, ``n x k``."""
    places = []
    for column in columns:
        low, high = value_range(run, column)
        values = array(X[:, column.start])
        places.append((values - low) / (high - low) if high > low else np.full(len(X), 0.5))
    return np.stack(places, axis=1)


def parallel(run: Run, columns: list[Column]) -> Figure:
    """Parallel coordinates of known and proposed designs over some inputs, at most MAX_AXES."""
    import plotly.graph_objects as go

    groups = {
        f"best known designs, {KNOWN}": run.best_known,
        f"proposals, {PROPOSED}": run.candidates,
    }
    axes, few = np.arange(len(columns)), len(columns) <= 6
    figure = make_figure(height=470)
    for text, X in groups.items():
        name, color = text.split(", ")
        lines = heights(run, columns, X[:MAX_LINES])
        gaps = np.full((len(lines), 1), np.nan)  # between one line and the next
        figure.add_trace(
            go.Scatter(
                x=np.tile(np.append(axes, np.nan), len(lines)),
                y=np.concatenate([lines, gaps], axis=1).flatten(),
                mode="lines",
                name=name,
                line={"color": band_color(color, 0.4), "width": 1.2},
                hoverinfo="skip",
            )
        )
    figure.add_scatter(
        x=axes,
        y=heights(run, columns, run.candidates[:1])[0],
        mode="lines+markers",
        name="chosen in the table (at first the best predicted)",
        line={"color": CHOSEN, "width": 3},
        hoverinfo="skip",
    )
    # one by one plotly would copy those before
    figure.update_layout(
        annotations=[mark for i in range(len(columns)) for mark in _marks(run, columns, i)],
        shapes=[
            {"type": "line", "x0": i, "x1": i, "y0": 0, "y1": 1, "layer": "below"}
            | {"line": {"color": KNOWN, "width": 1}}
            for i in range(len(columns))
        ],
    )
    figure.update_xaxes(
        tickvals=axes,
        ticktext=[label(c.name, 26 if few else 16) for c in columns],
        tickangle=0 if few else -35,
        ticklabeloverflow="allow",
        showgrid=False,
        zeroline=False,
        range=[-0.3, len(columns) - 0.7],
        automargin=True,
    )
    figure.update_yaxes(visible=False, range=[-0.08, 1.08])
    return figure


def _marks(run: Run, columns: list[Column], axis: int) -> Iterator[dict[str, Any]]:
    """The least and greatest value at an axis, or beside it its categories."""
    column, is_last = columns[axis], axis == len(columns) - 1
    low, high = value_range(run, column)
    texts = names(column)
    if high == low:
        marks = {0.5: texts[0] if texts else f"{low:.4g}"}
    elif texts:
        marks = {i / high: texts[i] for i in named(texts, MAX_NAMES)}
    else:
        marks = {0.0: f"{low:.4g}", 1.0: f"{high:.4g}"}
    side, shift = ("right", -4) if is_last else ("left", 4)
    for height, text in marks.items():
        yield {
            "x": axis,
            "y": height,
            "text": text,
            "showarrow": False,
            "xanchor": side if texts else "center",
            "xshift": shift if texts else 0,
            "yanchor": "middle" if texts else {0.0: "top", 1.0: "bottom"}.get(height, "middle"),
            "font": {"size": 11},
            "bgcolor": "rgba(255, 255, 255, 0.75)",
        }


def panels(run: Run, columns: list[Column]) -> Figure:
    """A histogram of each input: data against proposals."""
    from plotly.subplots import make_subplots

    side = min(NUM_SIDE_BY_SIDE, len(columns))
    rows = -(-len(columns) // side)
    figure = make_subplots(
        rows=rows,
        cols=side,
        subplot_titles=[label(c.name) for c in columns],
        vertical_spacing=0.32 / rows,
        horizontal_spacing=0.06,
    )
    for i, column in enumerate(columns):
        where = {"row": i // side + 1, "col": i % side + 1}
        for name, color, X in (
            ("data", KNOWN, run.table.X),
            ("proposals", PROPOSED, run.candidates),
        ):
            trace = _panel(run, column, X, name=name, marker_color=color)
            trace.update(legendgroup=name, showlegend=i == 0)
            figure.add_trace(trace, **where)
        if texts := names(column, 10):
            places = named(texts, MAX_NAMES_BELOW)
            ticks = {"tickvals": places, "ticktext": [texts[i] for i in places]}
            figure.update_xaxes(tickangle=0, tickfont_size=10, **ticks, **where)
        if i % side == 0:
            figure.update_yaxes(title="percent", **where)
    figure.update_layout(style(90 + 190 * rows, barmode="overlay", bargap=0))
    figure.update_layout(legend_y=1.0 + 30.0 / (100 * rows))
    figure.update_annotations(font_size=13)
    return figure


def _panel(run: Run, column: Column, X: Tensor, **options: Any) -> Any:
    """The bars of one input."""
    import plotly.graph_objects as go

    if texts := names(column, 60):
        return go.Bar(
            x=np.arange(len(texts)),  # names that are cut may be the same
            y=100.0 * array(token_shares(X[:, column.place], len(texts)).flatten()),
            opacity=0.7,
            customdata=texts,
            hovertemplate="%{customdata}: %{y:.3g} %",
            **options,
        )
    measured = array(run.table.X[:, column.start])
    usual, (low, high) = np.quantile(measured, USUAL), value_range(run, column)
    low, high = min(low, usual[0]), max(high, usual[1])
    edges = bins(low, high, NUM_PANEL_BINS)
    if column.kind != "number" and high - low <= NUM_PANEL_BINS:
        edges = np.arange(round(low) - 0.5, round(high) + 1.0)
    return bars(array(X[:, column.start]).clip(edges[0], edges[-1]), edges, **options)

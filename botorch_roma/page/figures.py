r"""
The figures of a page: outcomes, distances, and what was predicted on the way.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from botorch_roma.page.run import Run, token_shares
from botorch_roma.table import Column

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

KNOWN, PROPOSED, FITTED, CHOSEN = "#8a94a0", "#e07b00", "#1f6fb2", "#111111"

#: Letters in the title of an axis that fit beside it.
MAX_TITLE: int = 36

#: Bars of a histogram.
NUM_BINS: int = 40

#: Single candidates drawn over the bands of the updates.
NUM_SINGLE: int = 4

#: Positions of a sequence that are shown, those that differ most from known designs.
MAX_POSITIONS: int = 250


def label(text: object, limit: int = 28) -> str:
    """A user's text for a figure: cut, in one line, and no markup to plotly."""
    text = " ".join(str(text).split())
    return html.escape(text if len(text) <= limit else f"{text[: limit - 1]}…", quote=False)


def count(number: int, word: str) -> str:
    """A number of things: ``1 row``, ``1,000 rows``."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def band_color(color: str, opacity: float) -> str:
    """A color ``#rrggbb`` that lets through what is behind it."""
    channels = ", ".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))
    return f"rgba({channels}, {opacity})"


def style(height: int = 380, **layout: Any) -> dict[str, Any]:
    """The layout of all figures, and what one of them has in addition."""
    return {
        "template": "plotly_white",
        "height": height,
        "margin": {"l": 70, "r": 20, "t": 30, "b": 55},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
        **layout,
    }


def make_figure(*traces: Any, **layout: Any) -> Figure:
    """A figure in the style of the page."""
    import plotly.graph_objects as go

    return go.Figure(traces, layout=style(**layout))


def array(values: Tensor) -> np.ndarray[Any, Any]:
    """A tensor as plotly takes it."""
    return values.detach().double().cpu().numpy()


def bins(low: float, high: float, number: int = NUM_BINS) -> np.ndarray[Any, Any]:
    """Edges of ``number`` bins; one bin of width 1 around a single value."""
    return np.linspace(low, high, number + 1) if high > low else np.array([low - 0.5, low + 0.5])


def bars(values: np.ndarray[Any, Any], edges: np.ndarray[Any, Any], **style: Any) -> Any:
    """A histogram in percent of the values."""
    import plotly.graph_objects as go

    counts, _ = np.histogram(values, edges)
    return go.Bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=100.0 * counts / len(values),
        width=np.diff(edges),
        opacity=0.7,
        customdata=counts,
        hovertemplate="%{x:.4g}: %{customdata} (%{y:.3g} %)",
        **style,
    )


def outcomes(run: Run) -> Figure:
    """Measured outcomes of the data against predicted values of the proposals."""
    measured, predicted = array(run.table.Y.flatten()), array(run.mean)
    both = np.concatenate([measured, predicted])
    edges = bins(both.min(), both.max())
    figure = make_figure(
        bars(measured, edges, name=f"measured ({count(len(measured), 'row')})", marker_color=KNOWN),
        bars(
            predicted,
            edges,
            name=f"predicted ({count(len(predicted), 'proposal')})",
            marker_color=PROPOSED,
        ),
        barmode="overlay",
        bargap=0,
        legend_y=1.1,  # above what stands at the line of the best
        xaxis_title=label(run.summary["objective"], MAX_TITLE),
        yaxis_title="share in percent",
    )
    mark_best(figure, run, "v")
    return figure


def mark_best(figure: Figure, run: Run, kind: str) -> None:
    """A line at the best measured outcome: ``"v"`` or ``"h"``."""
    best = run.summary["best_measured"]
    draw = figure.add_vline if kind == "v" else figure.add_hline
    # Beside a vertical line the text stands on the side of the data, for beyond it it would stretch
    # the axis; above a horizontal one at its beginning, where hardly a candidate is.
    side = "right" if kind == "v" and run.minimize else "left"
    draw(
        best,
        line={"color": CHOSEN, "width": 1.5, "dash": "dash"},
        annotation={"text": f"best measured {best:.5g}", "yanchor": "bottom"},
        annotation_position=f"top {side}",
    )


def distances(run: Run) -> Figure:
    """Predicted value of each proposal against its distance to the nearest known design."""
    import plotly.graph_objects as go

    x, y, std = array(run.distance), array(run.mean), array(run.std)
    figure = make_figure(
        go.Scatter(
            x=x,
            y=y,
            mode="markers",
            name="proposals",
            error_y={"array": std, "color": band_color(PROPOSED, 0.3), "width": 0},
            marker={"color": PROPOSED, "size": 8, "line": {"color": "white", "width": 1}},
            customdata=np.stack([np.arange(1, len(y) + 1), std], axis=1),
            hovertemplate="design %{customdata[0]}: %{y:.5g} ± %{customdata[1]:.3g}<br>"
            "distance %{x:.4g}<extra></extra>",
        ),
        go.Scatter(
            x=[],
            y=[],
            mode="markers",
            name="chosen in the table",
            marker={"color": CHOSEN, "size": 14, "symbol": "circle-open", "line": {"width": 3}},
            hoverinfo="skip",
        ),
        xaxis_title="distance to known designs",
        yaxis_title=label(f"predicted {run.summary['objective']}", MAX_TITLE),
    )
    figure.update_xaxes(range=[-0.03 * (x.max() or 1.0), 1.05 * (x.max() or 1.0)])
    mark_best(figure, run, "h")
    return figure


def updates(run: Run) -> Figure | None:
    """Predicted values over the updates; None where they were not recorded."""
    import plotly.graph_objects as go

    if not run.updates:
        return None
    figure = make_figure(
        xaxis_title="update",
        yaxis_title=label(f"predicted {run.summary['objective']}", MAX_TITLE),
    )
    for name, color in (("adapted", PROPOSED), ("fitted", FITTED)):
        values = array(run.updates[name])
        steps = np.arange(len(values))
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=1)
        figure.add_scatter(
            x=np.concatenate([steps, steps[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            fillcolor=band_color(color, 0.18),
            line_width=0,
            name=f"{name} proxy, 10 to 90 %",
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=steps, y=middle, line={"color": color, "width": 3}, name=f"{name} proxy, median"
        )
    values = array(run.updates["adapted"])
    order = values[-1].argsort()
    picks = np.unique(np.linspace(0, len(order) - 1, min(NUM_SINGLE, len(order))).round())
    for i, pick in enumerate(picks.astype(int)):
        figure.add_trace(
            go.Scatter(
                x=np.arange(len(values)),
                y=values[:, order[pick]],
                line={"color": band_color(CHOSEN, 0.55), "width": 1},
                name="single candidates, adapted proxy",
                legendgroup="single",
                showlegend=i == 0,
            )
        )
    mark_best(figure, run, "h")
    return figure


def tokens(run: Run, column: Column) -> Figure:
    """Shares of the tokens of a sequence at each position, proposals above known designs."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    assert column.vocabulary is not None
    names = [label(s) or repr(s) for s in column.vocabulary.symbols]  # repr of white space
    names += ["(end)"] * column.vocabulary.padded
    proposed, known = (
        token_shares(X[:, column.place], len(names)) for X in (run.candidates, run.best_known)
    )
    differing = (proposed - known).abs().sum(dim=0)
    shown = differing.topk(min(MAX_POSITIONS, column.width)).indices.sort().values
    titles = [
        f"{count(len(run.candidates), 'proposal')}",
        f"the {len(run.best_known):,} best known designs",
    ]
    figure = make_subplots(rows=2, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.12)
    positions = [str(i) for i in (shown + 1).tolist()]
    for row, shares in enumerate((proposed, known), start=1):
        trace = go.Heatmap(
            z=array(100.0 * shares[:, shown]),
            x=positions,
            y=np.arange(len(names)),
            customdata=[[name] * len(shown) for name in names],
            coloraxis="coloraxis",
            hovertemplate="position %{x}, %{customdata}: %{z:.3g} %<extra></extra>",
            xgap=1,
            ygap=1,
        )
        figure.add_trace(trace, row=row, col=1)
    # by number, as names that are cut may be the same
    figure.update_yaxes(tickvals=np.arange(len(names)), ticktext=names, autorange="reversed")
    figure.update_xaxes(type="category")
    figure.update_xaxes(title="position", row=2, col=1)
    color: dict[str, Any] = {"colorscale": "Blues", "cmin": 0, "cmax": 100}
    color["colorbar"] = {"title": {"text": "percent", "side": "right"}}
    figure.update_layout(style(170 + 2 * max(110, 17 * len(names)), coloraxis=color))
    return figure

r"""
What :func:`~botorch_roma.propose.propose` returns, and what can be said of it.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from botorch_roma.fit import FitHistory
from botorch_roma.history import LOW_CORRELATION
from botorch_roma.latent import ColumnEncoding, Encoding, LatentSpace
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.selection import Selection
from botorch_roma.table import KNOWN_DISTANCE, PREDICTED, Table

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Proposal:
    r"""Designs worth measuring, best predicted first.

    Attributes:
        candidates: ``q x d``: numbers, and tokens for categories and sequences.
        mean: Outcome ``q`` that the fitted proxy predicts, in the user's units and direction. A
            prediction outside of the data, by the model that was climbed: no promise.
        std: Its predictive standard deviation, ``q``.
        distance: Distance to the nearest known design, ``q``, in standard deviations of the
            data per input (root mean square over the inputs that the proxy sees: the encoded ones,
            where there is an encoding); 0, but for rounding, for a known design.
        spacing: Distance to the nearest other candidate, ``q``, likewise; infinite for one alone.
        model: The fitted model.
        history: History of stage 1.
        trajectory: Record of stage 2, if one was asked for.
        table: The data: the user's columns and where they are in the designs.
        fixed_features: Columns of the designs that were held fixed, by index.
        bounds: The ``2 x d`` bounds used.
        selection: How options of stage 2 were chosen, where the preset asks for it.
        encoding: How tokens were encoded; None for numbers alone.
        minimize: Whether smaller outcomes are better.
        seed: Seed of both stages.
        preset: Name of the preset.
        settings: What was set of ``"model"``, ``"fit"`` and ``"optimize"``, by the preset, the
            user or the selection; anything else has its default.
        seconds: Wall time of the call.
    """

    candidates: Tensor
    mean: Tensor
    std: Tensor
    distance: Tensor
    spacing: Tensor
    model: RoMAModel
    history: FitHistory
    trajectory: Trajectory | None
    table: Table
    fixed_features: dict[int, float]
    bounds: Tensor
    encoding: Encoding | None
    seconds: float
    selection: Selection | None = None
    minimize: bool = False
    seed: int = 0
    preset: str = "default"
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Names of the inputs."""
        return self.table.columns

    @property
    def objective(self) -> str:
        """Name of the outcome."""
        return self.table.objective

    @property
    def reconstruction(self) -> dict[str, float]:
        """Share of held-out sequences that come back from the latent space of their column.

        With a latent space in place of columns, for tensors of tokens, its key is ``"tokens"``.
        """
        if isinstance(self.encoding, LatentSpace):
            return {"tokens": self.encoding.history.sequence_accuracy[-1]}
        blocks: Any = self.encoding.blocks if isinstance(self.encoding, ColumnEncoding) else []
        spaces = zip(self.columns, blocks, strict=False)
        return {
            name: space.history.sequence_accuracy[-1]
            for name, space in spaces
            if isinstance(space, LatentSpace)
        }

    def to_frame(self) -> pd.DataFrame:
        """The user's columns, and those of :data:`~botorch_roma.table.PREDICTED`."""
        import pandas as pd

        frame = pd.DataFrame(self.table.restore(self.candidates))
        for column, name in PREDICTED.items():
            frame[column] = getattr(self, name).cpu().numpy()
        return frame

    def summary(self) -> dict[str, Any]:
        """What can be said of the run in one line each, ready for JSON; times in seconds."""
        measured = self.table.Y
        seconds = {"fit": self.history.seconds[-1], "total": self.seconds}
        summary: dict[str, Any] = {
            "num": len(self.candidates),
            "objective": self.objective,
            "direction": "minimize" if self.minimize else "maximize",
            "rows": len(measured),
            "best_measured": float(measured.min() if self.minimize else measured.max()),
            "best_predicted": float(self.mean[0]),
            "median_predicted": float(self.mean.median()),
            "median_distance": float(self.distance.median()),
            "median_spacing": float(self.spacing.median()) if len(self.spacing) > 1 else None,
            "rank_correlation": self.history.rank_correlation[-1],
            "held_out": len(self.history.validation_indices),
            "seed": self.seed,
            "preset": self.preset,
        }
        if self.reconstruction:
            summary["reconstruction"] = self.reconstruction
        if self.selection is not None:
            summary["selected"] = self.selection.options
            seconds["selection"] = self.selection.seconds
        columns = {c.start: c for c in self.table.parts if c.kind != "sequence"}
        fixed: dict[str, Any] = {}
        for i, value in self.fixed_features.items():
            if i in columns:
                fixed[columns[i].name] = columns[i].restore(self.candidates[:1])[0]
            else:
                fixed[str(i)] = value
        return summary | {
            "fixed": fixed,
            "settings": {
                stage: {name: _primitive(value) for name, value in options.items()}
                for stage, options in self.settings.items()
            },
            "seconds": seconds,
            "version": importlib.metadata.version("botorch-roma"),
        }

    def to_html(
        self,
        path: str | os.PathLike[str],
        *,
        data: str | None = None,
        warnings: Sequence[str] = (),
        force: bool = False,
    ) -> None:
        """Write one self-contained page: tables and figures of the run, for a browser.

        What the proxies predicted on the way is shown where ``record_trajectory`` was set. Needs
        the extra ``report``.

        Args:
            path: The file to write, ``.html``.
            data: Name of the table, for the head of the page.
            warnings: What else its reader should know.
            force: Whether an existing file may be replaced.

        Raises:
            ModuleNotFoundError: Without plotly.
            OSError, ValueError: As :func:`~botorch_roma.files.check_output`, and for another
                suffix.
        """
        from botorch_roma.page import Run, write_page

        run = Run(
            table=self.table,
            candidates=self.candidates,
            mean=self.mean,
            std=self.std,
            distance=self.distance,
            summary=self.summary() | {"data": data, "warnings": list(warnings)},
            updates=self._updates(),
        )
        write_page(run, path, force=force)

    def _updates(self) -> dict[str, Tensor]:
        r"""Predictions over the updates, ``T x B`` each, in the user's units and direction."""
        if self.trajectory is None or not self.trajectory.predicted:
            return {}
        stack = self.trajectory.stack
        names = {"adapted": "predicted", "fitted": "fitted_prediction"}
        sign = -1.0 if self.minimize else 1.0
        return {
            label: sign * self.model.unstandardize_outcomes(stack(name).unsqueeze(-1)).squeeze(-1)
            for label, name in names.items()
        }


def describe(proposal: Proposal) -> list[str]:
    """What the command prints below its proposals: a line for each figure, and what to make of it.

    What speaks against the proposals is said here as well, for who looks at no page: a training
    that the time budget cut short, a proxy that has learnt little, proposals that are known.
    """
    lines = [
        f"{share:.1%} of held-out sequences of {column!r} come back from its latent space"
        for column, share in proposal.reconstruction.items()
    ]
    if proposal.selection is not None:
        chosen = ", ".join(f"{k} {v:g}" for k, v in proposal.selection.options.items())
        lines.append(f"selected without a query, in {proposal.selection.seconds:.0f} s: {chosen}")
    summary, history = proposal.summary(), proposal.history
    if history.timed_out:
        lines.append(f"the time budget ended the training in epoch {len(history.loss)}")
    lines.append(
        f"best measured {summary['best_measured']:.6g}; predicted best "
        f"{summary['best_predicted']:.6g}, median {summary['median_predicted']:.6g} "
        "(what the proxy says outside of its data: no promise)"
    )
    held_out, correlation = summary["held_out"], summary["rank_correlation"]
    ranks = "undefined, all are equal" if correlation is None else f"{correlation:.3f}"
    rows = f"{held_out} held-out rows" if held_out else "the training rows (too few to hold out)"
    low = held_out and (correlation is None or correlation < LOW_CORRELATION)
    learnt = "; it has learnt little, the proposals may be no better than chance" if low else ""
    lines.append(f"rank correlation of the proxy on {rows} {ranks}{learnt}")
    known = int((proposal.distance < KNOWN_DISTANCE).sum())
    if known:
        lines.append(f"{known:,} of the {summary['num']:,} are rows of the table (distance 0)")
    apart = summary["median_spacing"]
    hint = "; much alike, see --min-distance" if apart is not None and apart < 0.02 else ""
    others = "" if apart is None else f", to each other {apart:.3g}{hint}"
    lines.append(
        "median distance in standard deviations to known designs "
        f"{summary['median_distance']:.3g}{others}"
    )
    return lines


def _primitive(value: Any) -> Any:
    """A setting as JSON can hold it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, tuple | list) and all(isinstance(v, int | float) for v in value):
        return list(value)
    return f"given ({type(value).__name__})"  # constraints and functions have no short form

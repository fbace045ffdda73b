"""The constants behind the choice of a form, from this machine, and how well the choice does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from botorch_roma.inner_loop import COST, cheapest_form

from .alternatives import Case, Work, per_step
from .report import Report
from .timing import Place, round_to

CONSTANTS = ("dense", "factor", "common", "calls")  # of COST
BASE = ("step", "vector")  # common to both forms: a step, and an entry of a vector in it
LAYERS = 2


@dataclass(frozen=True)
class CalibrationSizes:
    """Square hidden layers of these widths; all combinations that fit."""

    width: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    steps: tuple[int, ...] = (3, 10, 30, 100)
    B: tuple[int, ...] = (1, 16, 128)
    max_bytes: float = 1.2e9

    def cases(self, place: Place) -> list[Case]:
        cases = [Case(w, LAYERS, b, w, k) for w in self.width for b in self.B for k in self.steps]
        return [case for case in cases if case.stack_bytes(place) <= self.max_bytes]


SMOKE_CALIBRATION = CalibrationSizes(width=(8, 16), steps=(2, 3), B=(1, 4))


class Point(NamedTuple):
    """Seconds of an average step in both forms."""

    case: Case
    dense: float
    factored: float


def terms(case: Case, form: str) -> dict[str, float]:
    """How often each constant is paid in a step, as in `cheapest_form`."""
    entries, sides = case.width**2, 2 * case.width
    counts = {"step": 1.0, "vector": float(LAYERS * case.B * case.width)}
    if form == "dense":
        return {**counts, "dense": LAYERS * case.B * 6.0 * entries}
    return {
        **counts,
        "factor": LAYERS * case.B * 4.0 * case.steps * sides,
        "common": LAYERS * case.B * 4.0 * entries,
        "calls": LAYERS * 1.0,
    }


def fit_constants(points: Sequence[Point]) -> dict[str, float]:
    """Nanoseconds, by non-negative least squares of relative errors."""
    names = [*CONSTANTS, *BASE]
    rows = []
    for point in points:
        for form, time in (("dense", point.dense), ("factored", point.factored)):
            counts = terms(point.case, form)
            rows.append([counts.get(name, 0.0) / (1e9 * time) for name in names])
    matrix = np.array(rows)
    scale = np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)  # for the condition number
    solution, _ = nnls(matrix / scale, np.ones(len(rows)))
    return dict(zip(names, (float(v) for v in solution / scale), strict=True))


@contextmanager
def constants(values: Mapping[str, float]) -> Iterator[None]:
    """Let `cheapest_form` reckon with these."""
    before = dict(COST)
    COST.update({name: values[name] for name in CONSTANTS})
    try:
        yield
    finally:
        COST.update(before)


class Quality(NamedTuple):
    """How a rule does.

    Attributes:
        right: Share of the cases in which it takes the faster form.
        mean: Time beyond that of the faster form, on average over the cases.
        worst: The same, in the worst case.
        case: The worst case.
    """

    right: float
    mean: float
    worst: float
    case: Case


def judge(points: Sequence[Point]) -> Quality:
    losses = []
    for point in points:
        case = point.case
        form = cheapest_form(case.width, case.width, num_steps=case.steps, num_candidates=case.B)
        taken = point.factored if form == "factored" else point.dense
        losses.append(taken / min(point.dense, point.factored) - 1.0)
    worst = int(np.argmax(losses))
    right = float(np.mean([loss == 0.0 for loss in losses]))
    return Quality(right, float(np.mean(losses)), losses[worst], points[worst].case)


def run_calibration(
    sizes: CalibrationSizes, place: Place, report: Report, *, repeats: int, budget: float
) -> None:
    """Measure and print."""
    place.enter()
    unknown = set(COST) ^ set(CONSTANTS)
    if unknown:
        raise SystemExit(f"`terms` in benchmarks/speed_parts/calibrate.py lacks {sorted(unknown)}.")
    points = []
    for case in sizes.cases(place):
        work = Work(case, place)
        dense = work.dense()
        assert dense is not None
        alternatives = {"dense": dense, "factored": work.factored()}
        times = per_step(alternatives, place, case.steps, repeats=repeats, budget=budget)
        points.append(Point(case, times["dense"], times["factored"]))
        shown = {name: round_to(1e3 * t) for name, t in times.items()}
        report.progress(f"{place}: calibrate, {case}, ms: {shown}")
    fitted = fit_constants(points)
    report.heading(f"Choice of the form ({place})")
    report.text(
        f"{len(points)} cases: two square layers of width {sizes.width[0]} to "
        f"{sizes.width[-1]:,}, K {sizes.steps[0]} to {sizes.steps[-1]}, B {sizes.B[0]} to "
        f"{sizes.B[-1]}. Constants in nanoseconds; a step apart from its weights takes "
        f"{fitted['step']:,.0f} ns and {fitted['vector']:.2f} ns an entry of a vector."
    )
    rows = []
    for name, values in (("in the package", dict(COST)), ("fitted here", fitted)):
        with constants(values):
            quality = judge(points)
        case = quality.case
        rows.append(
            [
                name,
                *(f"{values[c]:,.4g}" for c in CONSTANTS),
                f"{100 * quality.right:.0f} %",
                f"{100 * quality.mean:.1f} %",
                f"{100 * quality.worst:.0f} % (width {case.width}, K = {case.steps}, B = {case.B})",
            ]
        )
    report.table(["constants", *CONSTANTS, "faster form taken", "time lost", "at worst"], rows)

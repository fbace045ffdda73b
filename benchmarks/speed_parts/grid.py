"""The inner step over widths, depths, numbers of candidates and numbers of inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .alternatives import Alternative, Case, Layout, Work, layouts, name_layouts, per_step
from .machine import Machine
from .report import Report
from .timing import Place, round_to

NAMES = {
    "auto": "package",
    "dense": "all dense",
    "factored": "all factored",
    "shared": "shared weights",
    "vmap": "vmap(grad)",
    "loop": "autograd loop",
}


CENTRE = Case()


@dataclass(frozen=True)
class GridSizes:
    """Values of the factors, of which one at a time departs from the centre."""

    centre: Case = CENTRE
    width: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    depth: tuple[int, ...] = (2, 3, 4)
    B: tuple[int, ...] = (1, 8, 32, 128, 512, 1024)
    d: tuple[int, ...] = (8, 60, 512, 5126)

    def cases(self, factor: str, steps: int) -> list[Case]:
        centre = self.centre._replace(steps=steps)
        return [centre._replace(**{factor: value}) for value in getattr(self, factor)]


SMOKE_GRID = GridSizes(Case(8, 2, 4, 5), width=(8, 16), depth=(1, 2), B=(1, 4), d=(5, 40))


@dataclass(frozen=True)
class Measured:
    """A row of the grid: seconds of a step by alternative, and what the package did."""

    case: Case
    seconds: dict[str, float]
    form: str
    traffic: float
    operations: float


def cost_of_step(parts: Sequence[Layout], case: Case, itemsize: int) -> tuple[float, float]:
    r"""Bytes moved and operations done by an average inner step, at the least.

    A step multiplies the matrix of a hidden layer four times by one vector for each candidate: up,
    down, up, down; the last time down ends above the first layer, which therefore sees three.

    * dense: each candidate's own matrix is read for every product, and read and written for the
      update by a matrix of rank 2;
    * factored: the common matrix is read once for every product with all vectors; so are both
      factors of each candidate, which have ``K - 1`` rows in an average of ``K`` steps, and 2 rows
      are written.

    To that come about ten vectors of the layer's width for each candidate, written and read
    once. Heads, norms and calls are left out.

    Args:
        parts: The hidden layers.
        case: Number of candidates and of steps.
        itemsize: Bytes of a number.
    """
    numbers = operations = 0.0
    for i, layer in enumerate(parts):
        products = 3 if i == 0 else 4
        entries, sides = layer.out * layer.into, layer.out + layer.into
        if layer.form == "dense":
            numbers += case.B * entries * (products + 2)
            operations += case.B * entries * (2 * products + 4)
        else:
            rows = case.steps - 1
            numbers += products * entries + case.B * sides * (products * rows + 2)
            operations += 2 * products * case.B * (entries + rows * sides)
        numbers += 20 * case.B * layer.out
    return numbers * itemsize, operations


def measure_case(case: Case, place: Place, repeats: int, budget: float) -> Measured:
    work = Work(case, place)
    parts = layouts(work.auto().runs[case.steps]())  # type: ignore[arg-type]
    options: dict[str, Alternative | None] = {
        "auto": work.auto(),
        "dense": work.dense(parts[0].into),
        "factored": work.factored(),
        "shared": work.shared(),
        "vmap": work.vmap(),
        "loop": work.loop(),
    }
    forms = {part.form for part in parts}
    same = forms.pop() if len(forms) == 1 else None  # then it is the same computation
    if same:
        del options[same]
    feasible = {name: a for name, a in options.items() if a is not None}
    times = per_step(feasible, place, case.steps, repeats=repeats, budget=budget)
    if same:
        times[same] = times["auto"]
    traffic, operations = cost_of_step(parts, case, place.itemsize)
    return Measured(case, times, name_layouts(parts), traffic, operations)


def run_grid(
    sizes: GridSizes,
    steps: Sequence[int],
    factors: Sequence[str],
    place: Place,
    machine: Machine,
    report: Report,
    *,
    repeats: int,
    budget: float,
) -> None:
    """Measure and print one place."""
    place.enter()
    done: dict[Case, Measured] = {}
    exponents: list[list[str]] = []
    report.heading(f"Inner step ({place})")
    centre = sizes.centre
    report.text(
        "Milliseconds of an average step of an adaptation of K steps, and how many times that of "
        f"the package. But for the factor named first: width {centre.width}, depth {centre.depth}, "
        f"B = {centre.B}, d = {centre.d}. A dash: needs more than 3 GB, or takes too long. "
        "Shares: bytes and operations that the form needs at the least, per second, out of what "
        "the machine does; what caches hold can go beyond 100 %."
    )
    for k in steps:
        for factor in factors:
            measured = []
            for case in sizes.cases(factor, k):
                if case not in done:
                    done[case] = measure_case(case, place, repeats, budget)
                    times = {n: round_to(1e3 * t) for n, t in done[case].seconds.items()}
                    report.progress(f"{place}: {case}, {done[case].form}, ms: {times}")
                measured.append(done[case])
            report.add_to_grid([_csv_row(place, factor, m, machine) for m in measured])
            _print_factor(report, factor, k, measured, machine)
            exponents.append(_exponents(factor, k, measured))
    report.heading(f"Scaling exponents ({place})")
    report.text("Slope of log(time of a step) against log(factor), upper half of the range.")
    report.table(["K", "factor", "range", *NAMES.values()], exponents)


def _print_factor(
    report: Report, factor: str, k: int, measured: Sequence[Measured], machine: Machine
) -> None:
    header = [f"{factor}, K = {k}", *NAMES.values(), "form taken", "bandwidth", "matrices"]
    rows = []
    for m in measured:
        base = m.seconds["auto"]
        cells = [
            "-"
            if name not in m.seconds
            else round_to(1e3 * m.seconds[name])
            + ("" if name == "auto" else f" ({round_to(m.seconds[name] / base)})")
            for name in NAMES
        ]
        shares = (m.traffic / base / machine.bandwidth, m.operations / base / machine.matrix)
        value = f"{getattr(m.case, factor):,}"
        rows.append([value, *cells, m.form, *(f"{100 * s:.0f} %" for s in shares)])
    report.table(header, rows)


def _csv_row(place: Place, factor: str, m: Measured, machine: Machine) -> dict[str, Any]:
    base = m.seconds["auto"]
    return {
        "place": str(place),
        "factor": factor,
        **m.case._asdict(),
        "form": m.form,
        **{f"ms_{name}": _digits(1e3 * m.seconds.get(name, math.nan)) for name in NAMES},
        "bandwidth_share": _digits(m.traffic / base / machine.bandwidth),
        "matrix_share": _digits(m.operations / base / machine.matrix),
    }


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"


def slope(values: Sequence[float], times: Sequence[float]) -> float:
    """Exponent ``a`` of ``times ~ values ** a``, by least squares in the logarithms."""
    return float(np.polyfit(np.log(values), np.log(times), 1)[0])


def _exponents(factor: str, k: int, measured: Sequence[Measured]) -> list[str]:
    upper = measured[-max(2, math.ceil(len(measured) / 2)) :]
    values = [float(getattr(m.case, factor)) for m in upper]
    cells = []
    for name in NAMES:
        times = [m.seconds.get(name, math.nan) for m in upper]
        pairs = [(v, t) for v, t in zip(values, times, strict=True) if not math.isnan(t)]
        complete = len(pairs) == len(upper)
        cells.append(f"{slope(*zip(*pairs, strict=True)):.2f}" if complete else "-")
    return [str(k), factor, f"{values[0]:,.0f} to {values[-1]:,.0f}", *cells]

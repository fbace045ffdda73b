"""How fast both stages are, as ratios within one run.

    python benchmarks/speed.py                      # all but the calibration
    python benchmarks/speed.py --only targets       # the ratios that the package is held to
    python benchmarks/speed.py --only grid --threads 1 --factors width --steps 100
    python benchmarks/speed.py --calibrate          # also the constants behind the choice of a form
    python benchmarks/speed.py --output speed.md    # also as a file, and the grid as speed.csv

Alternatives are timed in turn (A B C, A B C, ...) and the median of each is taken, so that a drift
of the machine's speed hits all of them alike. What the tables say is explained in docs/speed.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speed_parts.calibrate import SMOKE_CALIBRATION, CalibrationSizes, run_calibration
from speed_parts.grid import SMOKE_GRID, GridSizes, run_grid
from speed_parts.machine import Machine, measure, report_machines
from speed_parts.report import Report
from speed_parts.targets import LINES, SMOKE_TARGETS, Targets, TargetSizes
from speed_parts.timing import Place
from speed_parts.whole import run_whole

SECTIONS = ("machine", "targets", "grid", "whole", "calibrate")
FACTORS = ("width", "depth", "B", "d")
MEGABYTES, MATRIX = 256, 1024


def places(arguments: argparse.Namespace) -> list[Place]:
    """Where to measure, the one of targets, whole run and calibration first."""
    dtype = torch.double if arguments.double else torch.float
    found = []
    if arguments.device in ("auto", "cpu"):
        found += [Place(torch.device("cpu"), n, dtype) for n in arguments.threads]
    if arguments.device == "cuda" or (arguments.device == "auto" and torch.cuda.is_available()):
        found.append(Place(torch.device("cuda"), arguments.threads[0], dtype))
    return found


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", help=f"sections, separated by commas, out of {','.join(SECTIONS)}")
    add("--calibrate", action="store_true", help="also the section calibrate")
    add("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (1 2)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="CPU, and GPU if any")
    add("--double", action="store_true", help="float64 instead of float32")
    add("--repeats", type=int, default=7, help="rounds of which the median is taken (7)")
    add("--budget", type=float, default=10.0, help="seconds after which 3 rounds are enough (10)")
    add("--factors", nargs="+", choices=FACTORS, default=FACTORS, help="of the grid")
    add("--lines", nargs="+", choices=LINES, default=LINES, help="of the targets")
    add("--steps", type=int, nargs="+", help="numbers K of inner steps in the grid (10 100)")
    add("--output", type=Path, help="Markdown file to write; the grid goes next to it as CSV")
    add("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    arguments = parser.parse_args(argv)
    default = SECTIONS if arguments.calibrate else SECTIONS[:-1]
    arguments.only = arguments.only.split(",") if arguments.only else [*default]
    if arguments.calibrate and "calibrate" not in arguments.only:
        arguments.only.append("calibrate")
    if unknown := set(arguments.only) - set(SECTIONS):
        parser.error(f"unknown sections {sorted(unknown)}; there are {', '.join(SECTIONS)}")
    if arguments.steps is None:
        arguments.steps = [2, 3] if arguments.smoke else [10, 100]
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    smoke, repeats = arguments.smoke, 2 if arguments.smoke else arguments.repeats
    torch.manual_seed(0)
    report, first = Report(arguments.output), places(arguments)[0]
    machines: dict[Place, Machine] = {}
    if "machine" in arguments.only or "grid" in arguments.only:
        megabytes, size = (4, 64) if smoke else (MEGABYTES, MATRIX)
        for place in places(arguments):
            machines[place] = measure(place, megabytes=megabytes, size=size, repeats=repeats)
        report_machines(report, machines, megabytes)
    if "targets" in arguments.only:
        sizes = SMOKE_TARGETS if smoke else TargetSizes()
        Targets(sizes, first, report, repeats).run(arguments.lines)
    if "grid" in arguments.only:
        for place, machine in machines.items():
            run_grid(
                SMOKE_GRID if smoke else GridSizes(),
                arguments.steps,
                arguments.factors,
                place,
                machine,
                report,
                repeats=repeats,
                budget=arguments.budget,
            )
    if "whole" in arguments.only:
        run_whole(first, report, smoke=smoke)
    if "calibrate" in arguments.only:
        run_calibration(
            SMOKE_CALIBRATION if smoke else CalibrationSizes(),
            first,
            report,
            repeats=repeats,
            budget=arguments.budget / 10,
        )


if __name__ == "__main__":
    main()

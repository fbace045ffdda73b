"""What `torch.compile` would give: the gradients of both stages, eager and compiled.

    python benchmarks/compiled.py --output compiled.md

Ratios of times in turn on one thread. The gradient of the adaptation is compiled for dense weights;
those of factored layers grow from step to step, and would be compiled anew for each. Needs a C++
compiler.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated
from unittest import mock

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # or a second run would compile in no time

import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speed_parts.alternatives import Case, Work
from speed_parts.report import Report
from speed_parts.stage_one import training_epoch
from speed_parts.timing import Place, in_turn

from botorch_roma import inner_loop, training

#: Width, candidates, inputs.
ADAPTATIONS = [(64, 1, 60), (64, 128, 60), (64, 1024, 60), (256, 128, 60)]
#: Width, members; minibatches of 128 rows of 60 inputs.
TRAININGS = [(64, 1), (64, 5), (256, 1)]
STEPS, MINIBATCHES, ROUNDS = 10, 20, 7


def compare(
    run: Callable[[], object],
    module: ModuleType,
    name: str,
    others: Mapping[str, Callable[[], object]],
) -> tuple[dict[str, float], float]:
    """Seconds of a run with a function of a module eager and compiled, and those of compiling."""
    torch.compiler.reset()
    compiled = torch.compile(getattr(module, name), dynamic=False)

    def with_compiled() -> None:
        with mock.patch.object(module, name, compiled):
            run()

    start = time.perf_counter()
    with_compiled()
    first = time.perf_counter() - start
    ways = {"eager": run, "compiled": with_compiled, **others}
    times = in_turn(ways, torch.device("cpu"), repeats=ROUNDS)
    return times, first - times["compiled"]


def adaptations(place: Place, report: Report) -> None:
    rows = []
    for width, B, d in ADAPTATIONS:
        work = Work(Case(width, B=B, d=d, steps=STEPS), place)
        run = work.adaptation(STEPS, weight_form="dense")
        auto = {"auto": work.adaptation(STEPS)}
        times, compiling = compare(run, inner_loop, "adaptation_gradient", auto)
        steps = [f"{1e3 * times[way] / STEPS:.2f}" for way in ("auto", "eager", "compiled")]
        ratio = times["eager"] / times["compiled"]
        rows.append([f"{width}", f"{B:,}", *steps, f"{ratio:.2f}", f"{compiling:.0f}"])
        report.progress(str(rows[-1]))
    head = ["width", "B", "package, ms a step", "dense, ms", "compiled, ms", "gain", "compiling, s"]
    report.heading(f"An inner step, K = {STEPS}")
    report.table(head, rows)


def trainings(place: Place, report: Report) -> None:
    rows = []
    for width, members in TRAININGS:
        run = training_epoch(width, members, MINIBATCHES, place)
        times, compiling = compare(run, training, "training_gradient", {})
        steps = [f"{1e3 * times[way] / MINIBATCHES:.2f}" for way in ("eager", "compiled")]
        ratio = times["eager"] / times["compiled"]
        rows.append([f"{width}", f"{members}", *steps, f"{ratio:.2f}", f"{compiling:.0f}"])
        report.progress(str(rows[-1]))
    report.heading("A minibatch of stage 1, 20 inner steps, 128 rows")
    report.table(["width", "networks", "package, ms", "compiled, ms", "gain", "compiling, s"], rows)


def main(
    output: Annotated[Path | None, typer.Option(help="Markdown file for the tables.")] = None,
) -> None:
    """Time both stages eager and compiled."""
    place = Place(torch.device("cpu"), 1, torch.float)
    place.enter()
    report = Report(output)
    report.text(f"{place}, torch {torch.__version__}.")
    adaptations(place, report)
    trainings(place, report)


if __name__ == "__main__":
    typer.run(main)

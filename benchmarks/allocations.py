"""What it would give if no step of an inner loop allocated memory, on a CPU.

    python benchmarks/allocations.py --output allocations.md

Torch records which blocks a step allocates and frees. The same sizes are then allocated and freed
in the same order with nothing else done, and the first touch of new pages is timed: the two
together are what buffers that live as long as the loop could save at most.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speed_parts.alternatives import Case, Work
from speed_parts.report import Report
from speed_parts.stage_one import ASCENT_STEPS, training_epoch
from speed_parts.timing import Place, in_turn, seconds

#: Width, candidates, steps of an adaptation.
ADAPTATIONS = [
    (64, 1, 10),
    (64, 128, 10),
    (64, 128, 100),
    (64, 1024, 10),
    (256, 128, 10),
    (256, 128, 100),
    (2048, 128, 10),
]
#: Width, members; minibatches of 128 rows of 60 inputs.
TRAININGS = [(64, 1), (128, 5)]
MINIBATCHES, ROUNDS = 10, 7
PAGE = resource.getpagesize()


def allocations(run: Callable[[], object]) -> list[int]:
    """Bytes that are allocated (or freed, where negative), in order."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    found: list[tuple[int, int]] = []
    events = list(record.profiler.kineto_results.experimental_event_tree())
    while events:
        event = events.pop()
        if event.tag == _EventType.Allocation:
            found.append((event.start_time_ns, event.extra_fields.alloc_size))
        events += event.children
    return [size for _, size in sorted(found, key=lambda pair: pair[0])]


def replay(sizes: Sequence[int], empty: bool) -> None:
    """Allocate and free as recorded, or tensors without memory at the same moments."""
    living: dict[int, list[torch.Tensor]] = {}
    for size in sizes:
        if size > 0:
            tensor = torch.empty(0 if empty else size, dtype=torch.uint8)
            living.setdefault(size, []).append(tensor)
        elif living.get(-size):
            living[-size].pop()


def page_seconds() -> float:
    """What the first touch of a page takes."""
    pages = 16_384
    memory = torch.empty(pages * PAGE, dtype=torch.uint8)
    touch = partial(memory[::PAGE].fill_, 1)
    first, again = (seconds(touch, memory.device) for _ in range(2))
    return max(first - again, 0.0) / pages


def measure(run: Callable[[], object], steps: int, page: float) -> list[str]:
    """The cells of a run of so many steps."""
    for _ in range(3):
        run()
    sizes = allocations(run)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        run()
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 3
    ways: dict[str, Callable[[], object]] = {
        "run": run,
        "memory": partial(replay, sizes, False),
        "empty": partial(replay, sizes, True),
    }
    times = in_turn(ways, torch.device("cpu"), repeats=ROUNDS)
    allocating = max(times["memory"] - times["empty"], 0.0)
    taken = [size for size in sizes if size > 0]
    return [
        f"{1e3 * times['run'] / steps:.2f}",
        f"{len(taken) / steps:.0f}",
        f"{sum(taken) / steps / 2**20:.2f}",
        f"{faults / steps:.0f}",
        f"{100 * allocating / times['run']:.1f} %",
        f"{100 * faults * page / times['run']:.1f} %",
    ]


def main(
    output: Annotated[Path | None, typer.Option(help="Markdown file for the table.")] = None,
) -> None:
    """Count and time the allocations of both inner loops."""
    place = Place(torch.device("cpu"), 1, torch.float)
    place.enter()
    page = page_seconds()
    report = Report(output)
    report.text(
        f"{place}, torch {torch.__version__}. The first touch of a page takes {1e6 * page:.2f} us."
    )
    rows = []
    for width, B, K in ADAPTATIONS:
        work = Work(Case(width, B=B, d=60, steps=K), place)
        cells = measure(work.adaptation(K), K, page)
        rows.append([f"adaptation, width {width:,}, B = {B:,}, K = {K}", *cells])
        report.progress(str(rows[-1]))
    for width, members in TRAININGS:
        run = training_epoch(width, members, MINIBATCHES, place)
        cells = measure(run, MINIBATCHES * (ASCENT_STEPS + 1), page)
        rows.append([f"stage 1, width {width}, {members} networks, 128 rows", *cells])
        report.progress(str(rows[-1]))
    head = ["inner loop", "ms a step", "blocks", "MiB", "new pages", "allocating", "touching pages"]
    report.table(head, rows)


if __name__ == "__main__":
    typer.run(main)

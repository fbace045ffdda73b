r"""
The demonstration: both stages on an embedded task, the oracle asked once, at the end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from botorch_roma.benchmark.report import proposal_figure
from botorch_roma.propose import propose
from botorch_roma.tasks import load_task
from botorch_roma.tasks.synthetic import SYNTHETIC_FUNCTIONS
from botorch_roma.validation import check_choice, check_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class DemoResult:
    """Figures of a demonstration run and their picture."""

    summary: dict[str, Any]
    figure: Figure


def run_demo(
    name: str = "ackley6",
    *,
    q: int = 128,
    preset: str = "default",
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> DemoResult:
    r"""Propose designs for a synthetic task and compare their true values with the data.

    Args:
        name: A synthetic task.
        q: Number of designs.
        preset: Name of the preset.
        seed: Seed of both stages.
        device: Where to compute.
        progress: Show progress bars.

    Raises:
        ValueError: For an unknown task or preset, or ``q`` out of range.
    """
    check_choice("task", name, SYNTHETIC_FUNCTIONS)
    check_device("device", device)
    task = load_task(name, dtype=torch.float32).to(device=device)
    start = time.perf_counter()
    proposal = propose(task.X, task.Y, task.bounds, q, preset=preset, seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    calls_before = task.num_oracle_calls
    Y_proposed = task.evaluate(proposal.candidates)
    _, Y_start = task.start_designs(q)
    summary: dict[str, Any] = {"task": name, "num": q, "seed": seed, "preset": preset}
    groups = {"visible_data": task.Y, "start_designs": Y_start, "proposals": Y_proposed}
    for label, values in groups.items():
        scores = task.normalize(values, scale="full")
        summary[f"{label}_best"] = scores.max().item()
        summary[f"{label}_median"] = scores.quantile(0.5).item()  # as in the benchmark
    summary["oracle_calls_before"] = calls_before
    summary["fit_seconds"] = proposal.history.seconds[-1]
    summary["optimize_seconds"] = seconds - proposal.history.seconds[-1]
    return DemoResult(summary, proposal_figure(task, Y_proposed))

"""Both stages of the presets at the size of Superconductor."""

from __future__ import annotations

from functools import partial

import torch
from botorch.acquisition import PosteriorMean

from botorch_roma import RoMAModel, fit_roma_model, get_preset, optimize_acqf_roma
from botorch_roma.benchmark.memory import peak_memory

from .report import Report
from .timing import Place, seconds


def run_whole(place: Place, report: Report, *, smoke: bool = False) -> None:
    """Measure and print: 17,010 rows, 86 inputs, 128 candidates, each preset once."""
    place.enter()
    n, d, q = (60, 5, 4) if smoke else (17_010, 86, 128)
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(n, d, generator=generator, dtype=place.dtype)
    Y = (X @ torch.randn(d, 1, generator=generator, dtype=place.dtype)).sin()
    bounds = torch.tensor([[0.0], [1.0]], dtype=place.dtype).expand(2, d).to(place.device)
    rows = []
    for name in ("default", "fast", "author_code", "paper"):
        preset = get_preset(name, "superconductor")
        fit, optimize = dict(preset.fit), dict(preset.optimize)
        if smoke:
            fit["epochs"], optimize["num_updates"], optimize["num_adaptation_steps"] = 1, 2, 2
        model = RoMAModel(X, Y, **preset.model).to(place.device)
        report.progress(f"{place}: whole run, {name}")
        with peak_memory() as peak:
            one = seconds(partial(fit_roma_model, model, seed=0, **fit), place.device)
            acq = PosteriorMean(model)
            two = seconds(partial(optimize_acqf_roma, acq, bounds, q, **optimize), place.device)
        memory = "-" if peak.megabytes is None else f"{peak.megabytes / 1024:.2f}"
        rows.append([name, f"{one:.1f}", f"{two:.1f}", f"{one + two:.1f}", memory])
    report.heading(f"Whole run ({place})")
    report.text(f"n = {n:,}, d = {d}, {q} candidates; memory: of the process, Python included.")
    report.table(["preset", "stage 1, s", "stage 2, s", "both, s", "peak memory, GiB"], rows)

"""What recording and replaying CUDA graphs gives on a GPU: the same work eager and replayed.

    python benchmarks/cuda_graphs.py

Medians of 15 adaptations of 128 candidates, and a run of both stages twice, all in turn.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from botorch.acquisition import PosteriorMean

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speed_parts.alternatives import Case, Work
from speed_parts.timing import Place, in_turn, seconds

from botorch_roma import RoMAModel, fit_roma_model, optimize_acqf_roma
from botorch_roma.graphs import Recorder

#: Inputs, width, inner steps.
SIZES = [
    (60, 64, 10),
    (60, 64, 100),
    (60, 256, 10),
    (60, 1024, 10),
    (60, 2048, 100),
    (5126, 64, 10),
]
EPOCHS, UPDATES = 20, 100


def adaptations(place: Place) -> None:
    print("| d | width | K | eager, ms | replayed, ms |\n|---|---|---|---|---|")
    for d, width, steps in SIZES:
        work = Work(Case(width, d=d, steps=steps), place)
        ways = {replay: work.adaptation(steps, replay=replay) for replay in (False, True)}
        times = in_turn(ways, place.device, repeats=15)
        cells = (f"{1e3 * times[replay]:.2f}" for replay in ways)
        print(f"| {d:,} | {width:,} | {steps} | {' | '.join(cells)} |", flush=True)


def whole_run(place: Place) -> None:
    print(f"\n| n = 6,000, d = 60 | stage 1, {EPOCHS} epochs, s | stage 2, {UPDATES} updates, s |")
    print("|---|---|---|")
    replayed, device = Recorder.__call__, place.device
    X = torch.rand(6_000, 60, generator=torch.Generator().manual_seed(0)).to(device)
    Y, bounds = X.sum(dim=1, keepdim=True).sin(), torch.stack([X.amin(dim=0), X.amax(dim=0)])
    for name in ("eager", "replayed") * 2:
        call = replayed if name == "replayed" else lambda self, function, *inputs: function(*inputs)
        Recorder.__call__ = call  # type: ignore[method-assign]
        model = RoMAModel(X, Y, seed=0)
        fit = seconds(partial(fit_roma_model, model, seed=0, epochs=EPOCHS), device)
        acq = PosteriorMean(model)
        optimize = seconds(
            partial(optimize_acqf_roma, acq, bounds, q=128, num_updates=UPDATES), device
        )
        print(f"| {name} | {fit:.2f} | {optimize:.2f} |", flush=True)


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("needs a CUDA device")
    gpu = Place(torch.device("cuda"), 1, torch.float)
    print(f"{gpu}, torch {torch.__version__}\n")
    adaptations(gpu)
    whole_run(gpu)

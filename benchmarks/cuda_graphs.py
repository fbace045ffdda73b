"""What recording and replaying CUDA graphs gives on a GPU: the same work eager and replayed.

    python benchmarks/cuda_graphs.py

Medians of 15 adaptations of 128 candidates, and a run of both stages, each twice in turn.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from botorch.acquisition import PosteriorMean

sys.path.insert(0, str(Path(__file__).resolve().parent))

from speed_parts.timing import seconds

from botorch_roma import RoMAModel, fit_roma_model, optimize_acqf_roma
from botorch_roma.adaptation import Adaptation
from botorch_roma.graphs import Replayed

SIZES = [
    (60, 64, 10),
    (60, 64, 100),
    (60, 256, 10),
    (60, 1024, 10),
    (60, 2048, 100),
    (5126, 64, 10),
]
EPOCHS, UPDATES = 20, 100


def make_model(device: torch.device, d: int, width: int, n: int) -> RoMAModel:
    X = torch.rand(n, d, generator=torch.Generator().manual_seed(0)).to(device)
    Y = X.sum(dim=1, keepdim=True).sin()
    return RoMAModel(X, Y, hidden_sizes=(width, width), seed=0)


def median_ms(function: Callable[[], object], device: torch.device) -> float:
    for _ in range(3):  # the second call of a replayed one is its record
        function()
    return 1e3 * statistics.median(seconds(function, device) for _ in range(15))


@torch.no_grad()
def adaptations(device: torch.device) -> None:
    print("| d | width | K | eager, ms | replayed, ms |\n|---|---|---|---|---|")
    for d, width, steps in SIZES:
        model = make_model(device, d, width, 300)
        model.fitted.fill_(True)
        Z, labels = torch.randn(128, d, device=device), torch.zeros(1, 128, device=device)
        times = []
        for replay in (False, True):
            adaptation = Adaptation(model, num_steps=steps, replay=replay)
            times.append(median_ms(partial(adaptation, Z, labels), device))
        print(f"| {d:,} | {width:,} | {steps} | {times[0]:.2f} | {times[1]:.2f} |", flush=True)


def whole_run(device: torch.device) -> None:
    print(f"\n| n = 6,000, d = 60 | stage 1, {EPOCHS} epochs, s | stage 2, {UPDATES} updates, s |")
    print("|---|---|---|")
    replayed = Replayed.__call__
    bounds = torch.tensor([[0.0], [1.0]], device=device).expand(2, 60)
    for name in ("eager", "replayed") * 2:
        call = replayed if name == "replayed" else lambda self, *inputs: self.function(*inputs)
        Replayed.__call__ = call  # type: ignore[method-assign]
        model = make_model(device, 60, 64, 6_000)
        fit = seconds(lambda m=model: fit_roma_model(m, seed=0, epochs=EPOCHS), device)
        acq = PosteriorMean(model)
        optimize = seconds(
            lambda a=acq: optimize_acqf_roma(a, bounds, q=128, num_updates=UPDATES), device
        )
        print(f"| {name} | {fit:.2f} | {optimize:.2f} |", flush=True)


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("needs a CUDA device")
    gpu = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(gpu)}, torch {torch.__version__}\n")
    adaptations(gpu)
    whole_run(gpu)

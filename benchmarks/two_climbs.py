"""The figure of the README: one proxy, climbed as it is and adapted before every step.

    python benchmarks/two_climbs.py --out docs/two_climbs.png

The settings are those of `default` on a synthetic task, whose function is asked along the way to
draw the picture, and for nothing else.
"""

from __future__ import annotations

from pathlib import Path

import torch
import typer
from botorch.acquisition import PosteriorMean
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from botorch_roma import (
    RoMAModel,
    Trajectory,
    fit_roma_model,
    get_preset,
    load_task,
    optimize_acqf_roma,
)

Q = 128


def band(axis: Axes, values: Tensor, label: str, color: str) -> None:
    """Median over candidates as a line, 10th to 90th percentile as a band."""
    low, middle, high = torch.quantile(values, torch.tensor([0.1, 0.5, 0.9]).to(values), dim=1)
    axis.plot(middle, color=color, label=label)
    axis.fill_between(range(len(middle)), low, high, color=color, alpha=0.2, lw=0)


def main(
    out: Path = Path("two_climbs.png"), task: str = "ackley6", seed: int = 0, num_updates: int = 100
) -> None:
    torch.set_num_threads(1)
    offline, preset = load_task(task, dtype=torch.float32), get_preset()
    model = RoMAModel(offline.X, offline.Y, seed=seed, **preset.model)
    fit_roma_model(model, seed=seed, progress=True, **preset.fit)
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    believed, true = figure.subplots(1, 2)
    climbs = {
        "gradient ascent": (0.0, "tab:blue"),
        "RoMA": (preset.optimize["radius"], "tab:orange"),
    }
    for name, (radius, color) in climbs.items():
        record = Trajectory()
        options = preset.optimize | {"radius": radius, "num_updates": num_updates}
        optimize_acqf_roma(
            PosteriorMean(model), offline.bounds, Q, trajectory=record, progress=True, **options
        )
        predicted = model.unstandardize_outcomes(record.stack("predicted").unsqueeze(-1))
        band(believed, offline.normalize(predicted.squeeze(-1), "full"), name, color)
        values = torch.stack([offline.evaluate(x.to(offline.X)).squeeze(-1) for x in record.x])
        scores = offline.normalize(values, "full")
        band(true, scores, name, color)
        print(
            f"{name}: median {scores[-1].median():.3f}, best of all medians on the way "
            f"{scores.median(dim=1).values.max():.3f}"
        )
    believed.set(
        title="what the network says", xlabel="update", ylabel="1 = best of the full table"
    )
    true.set(title="what is true", xlabel="update")
    for axis in (believed, true):
        axis.axhline(offline.normalize(offline.Y.max(), "full"), color="black", ls=":", lw=1)
        axis.axhline(1.0, color="black", lw=0.6)
    true.legend(frameon=False)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    typer.run(main)

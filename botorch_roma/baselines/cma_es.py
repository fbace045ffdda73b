r"""
CMA-ES on a plainly trained ensemble, one search from each of the best visible designs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from botorch_roma.baselines.ensemble import Ensemble
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_float, check_int


def cma_es(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    num_members: int = 5,
    encoding: str = "logits",
    hidden_sizes: tuple[int, ...] = (256, 256),
    activation: str = "leaky_relu",
    epochs: int | None = None,
    lr: float = 3e-4,
    sigma: float = 0.5,
    num_iterations: int = 100,
    progress: bool = False,
) -> Tensor:
    r"""Search the mean prediction of an ensemble by covariance matrix adaptation.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates, each the end of a search of its own.
        seed: Seed of the ensemble and of the searches.
        num_members: Number of networks.
        encoding: What token sequences are: ``"logits"`` or ``"one_hot"``.
        hidden_sizes: Width of every hidden layer.
        activation: Activation function.
        epochs: Passes over the data; 50 for vectors, 100 for tokens by default.
        lr: Learning rate of Adam.
        sigma: First step size, in standard deviations of an input.
        num_iterations: Generations of each search.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.
    """
    import cma

    check_float("sigma", sigma, exclusive=True)
    check_int("num_iterations", num_iterations, minimum=1)
    space = DesignSpace(task, encoding)
    if epochs is None:
        epochs = 50 if task.vocabulary is None else 100
    ensemble = Ensemble(
        space,
        num_members=num_members,
        hidden_sizes=hidden_sizes,
        activation=activation,
        epochs=epochs,
        lr=lr,
        seed=seed,
        progress=progress,
    )

    def predict(points: list[Any]) -> list[float]:
        Z = torch.as_tensor(np.stack(points)).to(space.Z)
        return [-v for v in ensemble(Z).mean(dim=0).tolist()]

    found = []
    starts = space.start(q).double().cpu().numpy()
    for i in track(range(q), total=q, description="CMA-ES", enabled=progress):
        options = {"seed": 1 + seed * q + i, "maxiter": num_iterations, "verbose": -9}
        search = cma.CMAEvolutionStrategy(starts[i], sigma, options)
        while not search.stop():
            points = search.ask()
            search.tell(points, predict(points))
        found.append(search.result.xbest)
    return space.decode(torch.as_tensor(np.stack(found)).to(space.Z))

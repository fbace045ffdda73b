r"""
CMA-ES [Hansen2006cma]_ on a plainly trained ensemble, one search from each of the best designs.

.. [Hansen2006cma]
    N. Hansen. The CMA Evolution Strategy: A Comparing Review. Towards a New Evolutionary
    Computation, 2006.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from botorch_roma.baselines.ensemble import Ensemble, ProxyOptions
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_float, check_int

#: Five networks.
CMA_PROXY = ProxyOptions(num_members=5, hidden_sizes=(256, 256))


def cma_es(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    proxy: ProxyOptions = CMA_PROXY,
    encoding: str = "logits",
    sigma: float = 0.5,
    num_iterations: int = 100,
    progress: bool = False,
) -> Tensor:
    r"""Search the mean prediction of an ensemble by covariance matrix adaptation.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates, each the best point of a search of its own.
        seed: Seed of the ensemble and of the searches.
        proxy: The networks.
        encoding: What token sequences are: ``"logits"`` or ``"one_hot"``.
        sigma: First step size, in standard deviations of an input.
        num_iterations: Generations of each search.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    import cma

    check_float("sigma", sigma, exclusive=True)
    check_int("num_iterations", num_iterations, minimum=1)
    space = DesignSpace(task, encoding)
    starts = space.start(q).double().cpu().numpy()
    ensemble = Ensemble(space, proxy, seed=seed, progress=progress)

    def cost(points: list[np.ndarray]) -> list[float]:
        mean, _ = ensemble.predict(torch.as_tensor(np.stack(points)).to(space.Z))
        return [-value for value in mean.mean(dim=0).tolist()]

    found = []
    state = np.random.get_state()  # `cma` seeds and draws from numpy's global generator
    try:
        for i in track(range(q), total=q, description="CMA-ES", enabled=progress):
            # `cma` takes seed 0 for the clock
            options = {"seed": 1 + seed * q + i, "maxiter": num_iterations, "verbose": -9}
            search = cma.CMAEvolutionStrategy(starts[i], sigma, options)
            while not search.stop():
                points = search.ask()
                search.tell(points, cost(points))
            found.append(search.result.xbest)
    finally:
        np.random.set_state(state)
    return space.decode(torch.as_tensor(np.stack(found)).to(space.Z))

r"""
CMA-ES [Hansen2006cma]_ on a plainly trained ensemble, one search from each of the best designs.

.. [Hansen2006cma]
    N. Hansen. The CMA Evolution Strategy: A Comparing Review. Towards a New Evolutionary
    Computation, 2006.
.. [Ros2008sep]
    R. Ros and N. Hansen. A Simple Modification in CMA-ES Achieving Linear Time and Space
    Complexity. Parallel Problem Solving from Nature, 2008.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from botorch_roma.baselines.ensemble import Ensemble, ProxyOptions
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_flag, check_float, check_int

#: Five networks.
CMA_PROXY = ProxyOptions(num_members=5, hidden_sizes=(256, 256))

#: More inputs than this are searched with a diagonal covariance matrix: of 4,503 inputs a full one
#: has 20 million entries, and each of 128 searches decomposes it again and again.
MAX_FULL_DIM = 1_000


def cma_es(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    proxy: ProxyOptions = CMA_PROXY,
    encoding: str = "logits",
    sigma: float = 0.5,
    num_iterations: int = 100,
    diagonal: bool | None = None,
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
        diagonal: Adapt the variances alone (sep-CMA-ES, [Ros2008sep]_), in a time linear in the
            number of inputs; by default where there are more than 1,000 of them, those of the
            encoding where designs are token sequences.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    import cma

    check_float("sigma", sigma, exclusive=True)
    check_int("num_iterations", num_iterations, minimum=1)
    if diagonal is not None:
        check_flag("diagonal", diagonal)
    space = DesignSpace(task, encoding)
    if diagonal is None:
        diagonal = space.dim > MAX_FULL_DIM
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
            options = {
                "seed": 1 + seed * q + i,
                "maxiter": num_iterations,
                "CMA_diagonal": diagonal,
                "verbose": -9,
            }
            search = cma.CMAEvolutionStrategy(starts[i], sigma, options)
            while not search.stop():
                points = search.ask()
                search.tell(points, cost(points))
            found.append(search.result.xbest)
    finally:
        np.random.set_state(state)
    return space.decode(torch.as_tensor(np.stack(found)).to(space.Z))

r"""
Bayesian optimisation of a plainly trained ensemble by batch expected improvement [Wilson2017qei]_.

.. [Wilson2017qei]
    J. T. Wilson, R. Moriconi, F. Hutter, and M. P. Deisenroth. The Reparameterization Trick for
    Acquisition Functions. NeurIPS Workshop on Bayesian Optimization, 2017.
"""

from __future__ import annotations

import warnings

import torch
from botorch import fit_gpytorch_mll
from botorch.acquisition import qLogExpectedImprovement
from botorch.exceptions import (
    BadInitialCandidatesWarning,
    InputDataWarning,
    OptimizationWarning,
)
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from botorch_roma.baselines.cbas import CBAS_PROXY
from botorch_roma.baselines.ensemble import Ensemble, ProxyOptions
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.progress import track
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_int

#: The ensemble of CbAS, which stands in for the oracle here.
QEI_PROXY = CBAS_PROXY


def bo_qei(
    task: OfflineTask,
    q: int = 128,
    *,
    seed: int = 0,
    proxy: ProxyOptions = QEI_PROXY,
    encoding: str = "logits",
    num_rows: int = 500,
    num_iterations: int = 10,
    batch_size: int = 16,
    num_restarts: int = 4,
    raw_samples: int = 128,
    maxiter: int = 50,
    progress: bool = False,
) -> Tensor:
    r"""Let a GP search the mean prediction of an ensemble, which stands in for the oracle.

    The GP starts from the best visible designs, with the ensemble's values, and is fitted anew in
    each iteration. The candidates are the best by the ensemble's mean of all designs that
    the search has proposed, filled up with the best visible ones.

    Args:
        task: The task; its oracle is not asked.
        q: Number of candidates.
        seed: Seed of the ensemble and of the search.
        proxy: The networks.
        encoding: What token sequences are: ``"logits"`` or ``"one_hot"``.
        num_rows: Visible designs that the GP starts from: half the best, half drawn from the rest.
        num_iterations: Number of batches.
        batch_size: Designs in a batch.
        num_restarts: Restarts of the acquisition's optimiser.
        raw_samples: Points that the restarts are chosen from.
        maxiter: Its iterations.
        progress: Show progress bars on standard error.

    Returns:
        Candidates, ``q x d``; several may be one design.

    Raises:
        ValueError: For options out of range.
    """
    for name, number in (
        ("num_rows", num_rows),
        ("num_iterations", num_iterations),
        ("batch_size", batch_size),
        ("num_restarts", num_restarts),
        ("raw_samples", raw_samples),
        ("maxiter", maxiter),
    ):
        check_int(name, number, minimum=1)
    space = DesignSpace(task, encoding)
    visible = space.start(q)
    ensemble = Ensemble(space, proxy, seed=seed, progress=progress)

    def predict(Z: Tensor) -> Tensor:
        return ensemble.predict(Z)[0].mean(dim=0).double().unsqueeze(-1)

    Z = space.Z[_subset(space.T[:, 0], num_rows, seed)].double()
    num_given = Z.shape[0]
    T = predict(Z.to(space.Z))
    with torch.random.fork_rng(devices=[Z.device] if Z.is_cuda else []), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.simplefilter("ignore", InputDataWarning)  # the vectors are z-scored on all rows
        warnings.simplefilter("ignore", OptimizationWarning)
        # designs of one batch may coincide, at a corner of the bounds for instance
        warnings.simplefilter("ignore", NumericalWarning)
        # far from all data the acquisition function is flat: restarts are then drawn at random
        warnings.simplefilter("ignore", BadInitialCandidatesWarning)
        iterations = range(num_iterations)
        for _ in track(iterations, total=num_iterations, description="BO-qEI", enabled=progress):
            model = SingleTaskGP(Z, T)
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            acquisition = qLogExpectedImprovement(
                model, T.max(), SobolQMCNormalSampler(torch.Size([64]), seed=seed)
            )
            found, _ = optimize_acqf(
                acquisition,
                space.bounds.double(),
                q=batch_size,
                num_restarts=num_restarts,
                raw_samples=raw_samples,
                options={"maxiter": maxiter, "seed": seed},
            )
            # what is asked for is a design, not a relaxation of one
            batch = space.encode(space.decode(found.to(space.Z)))
            Z = torch.cat([Z, batch.double()])
            T = torch.cat([T, predict(batch)])
    order = T[num_given:, 0].argsort(descending=True, stable=True)[:q]
    proposed = Z[num_given:][order].to(space.Z)
    return space.decode(torch.cat([proposed, visible])[:q])


def _subset(T: Tensor, num_rows: int, seed: int) -> Tensor:
    """Indices of rows: half the best, half drawn from the rest."""
    order = T.argsort(descending=True, stable=True)
    best, rest = order.split([min(len(T), num_rows // 2), max(0, len(T) - num_rows // 2)])
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(rest), generator=generator)[: num_rows - len(best)]
    return torch.cat([best, rest[drawn.to(rest.device)]])

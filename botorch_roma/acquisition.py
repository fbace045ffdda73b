r"""
The acquisition function that RoMA climbs where outcomes are constrained.
"""

from __future__ import annotations

from typing import Any

import torch
from botorch.acquisition.analytic import AnalyticAcquisitionFunction
from botorch.acquisition.objective import PosteriorTransform
from botorch.models.model import Model
from botorch.utils.probability.utils import log_ndtr
from botorch.utils.transforms import average_over_ensemble_models, t_batch_mode_transform
from torch import Tensor

#: Uncertainty that a constraint never goes below, in standard deviations of its outcome: keeps
#: the slope of the log-probability of a broken constraint finite, also for measured outcomes.
MIN_CONSTRAINT_STD: float = 0.1


class ConstrainedPosteriorMean(AnalyticAcquisitionFunction):
    r"""Posterior mean of the objective plus the log-probability that the constraints hold.

    ``alpha(x) = mean(x) / scale + sum_k log P(A_k f(x) <= b_k)``, outcomes independent. Without
    constraints it ranks as ``PosteriorMean`` does. RoMA has no use for improvement over an
    incumbent: it asks for designs that are good by themselves.

    Args:
        model: A fitted model.
        posterior_transform: Makes one objective of several outcomes; needed where there are.
        outcome_constraints: ``(A, b)`` with ``A`` of shape ``k x m`` and ``b`` of ``k x 1``: the
            constraints ``A f(x) <= b``, in the units of the model's outcomes.
        scale: Unit of the objective, for instance its standard deviation in the data: how much of
            it one unit of log-probability is worth.
        outcome_scale: Standard deviation of each outcome in the data, ``m``; 1 by default.

    Example:
        >>> from botorch.acquisition.objective import ScalarizedPosteriorTransform
        >>> model = RoMAModel(train_X, torch.cat([train_Y, train_X[:, :1]], dim=1))
        >>> history = fit_roma_model(model)
        >>> first = ScalarizedPosteriorTransform(torch.tensor([1.0, 0.0]).to(train_Y))
        >>> A, b = torch.tensor([[0.0, 1.0]]).to(train_Y), torch.tensor([[0.6]]).to(train_Y)
        >>> acq = ConstrainedPosteriorMean(model, first, outcome_constraints=(A, b))
        >>> candidates, values = optimize_acqf_roma(acq, bounds, q=128)
    """

    def __init__(
        self,
        model: Model,
        posterior_transform: PosteriorTransform | None = None,
        outcome_constraints: tuple[Tensor, Tensor] | None = None,
        scale: float = 1.0,
        outcome_scale: Tensor | None = None,
    ) -> None:
        super().__init__(model=model, posterior_transform=posterior_transform)
        if not scale > 0:
            raise ValueError(f"`scale` must be above 0, received {scale}.")
        self.scale = float(scale)
        self.constrained = outcome_constraints is not None
        if outcome_constraints is None:
            return
        A, b = outcome_constraints
        m = model.num_outputs
        if A.dim() != 2 or A.shape[1] != m or b.numel() != A.shape[0]:
            raise ValueError(
                f"`outcome_constraints` must be (A, b) of shapes k x {m} and k x 1, received "
                f"{tuple(A.shape)} and {tuple(b.shape)}."
            )
        if outcome_scale is None:
            outcome_scale = torch.ones_like(A[0])
        self.register_buffer("A", A)
        self.register_buffer("b", b.reshape(-1))
        floor = (A.square() @ outcome_scale.to(A).square()) * MIN_CONSTRAINT_STD**2
        self.register_buffer("min_variance", floor)

    A: Tensor
    b: Tensor
    min_variance: Tensor

    @t_batch_mode_transform(expected_q=1)
    @average_over_ensemble_models  # type: ignore[arg-type]  # typed for the base class
    def forward(self, X: Tensor) -> Tensor:
        r"""Acquisition values ``b`` of designs ``b x 1 x d``."""
        self.to(X)
        posterior: Any = self.model.posterior(X)
        transform = self.posterior_transform
        objective = posterior if transform is None else transform(posterior, X=X)
        value = objective.mean.squeeze(-1).squeeze(-1) / self.scale
        if not self.constrained:
            return value
        mean = posterior.mean.squeeze(-2) @ self.A.mT
        variance = posterior.variance.squeeze(-2) @ self.A.mT.square()
        margin = (self.b - mean) / (variance + self.min_variance).sqrt()
        return value + log_ndtr(margin).sum(dim=-1)

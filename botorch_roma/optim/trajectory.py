r"""
A record of what every candidate did during stage 2, and its picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Trajectory:
    r"""Record of a run; pass an empty one as ``trajectory=`` to fill it.

    All lists have one entry per update, in the order of the updates. Predictions, pseudo labels and
    gradient norms are means over ensemble members of the first RoMA model and first output, on
    the standardised outcome and z-scored inputs.

    Attributes:
        x: Candidates before the update, ``B x d`` each, in the user's input space; one entry more
            than updates, the last one being the final candidates. Empty without ``positions``.
        acquisition_value: Acquisition value under the adapted weights, ``B`` (one for each t-batch
            of a joint acquisition function).
        predicted: Prediction ``f(x; theta_t)`` of the adapted weights, ``B``.
        fitted_prediction: Prediction ``f(x; theta)`` of the fitted weights, ``B``.
        pseudo_label: Pseudo label, ``B``.
        gradient_norm: ``||grad_x f(x; theta_t)||``, ``B``.
        fitted_gradient_norm: ``||grad_x f(x; theta)||``, ``B``.
        positions: Whether ``x`` is recorded, which takes most of the memory where inputs are many.
    """

    x: list[Tensor] = field(default_factory=list)
    acquisition_value: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    fitted_prediction: list[Tensor] = field(default_factory=list)
    pseudo_label: list[Tensor] = field(default_factory=list)
    gradient_norm: list[Tensor] = field(default_factory=list)
    fitted_gradient_norm: list[Tensor] = field(default_factory=list)
    positions: bool = field(default=True, kw_only=True)

    def append(self, **values: Tensor) -> None:
        """Append one tensor to each named list, detached and on the CPU."""
        for name, value in values.items():
            if name == "x" and not self.positions:
                continue
            getattr(self, name).append(value.detach().cpu().clone())

    def lists(self) -> dict[str, list[Tensor]]:
        """All that was recorded, by name."""
        return {name: [*value] for name, value in vars(self).items() if isinstance(value, list)}

    def extend(self, lists: dict[str, list[Tensor]]) -> None:
        """Record what another one has recorded, as of :meth:`lists`."""
        for name, values in lists.items():
            getattr(self, name).extend(values)

    def stack(self, name: str) -> Tensor:
        r"""One quantity over all updates, ``T x B`` (``T x B x d`` for ``"x"``)."""
        return torch.stack(getattr(self, name))

    def plot(self) -> Figure:
        """Prediction, gradient norm and distance travelled over the updates, as three panels.

        Raises:
            ValueError: If nothing has been recorded, or no positions.
        """
        if not self.predicted:
            raise ValueError("`Trajectory` is empty; pass it as `trajectory=` to the optimizer.")
        if not self.x:
            raise ValueError(
                "`Trajectory` holds no positions, received `positions=False`; record them."
            )
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12.0, 3.6), layout="constrained")
        axes = figure.subplots(1, 3)
        x = self.stack("x")
        scale = x[0].std(dim=0, correction=0)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        travelled = ((x[:-1] - x[0]) / scale).square().mean(dim=-1).sqrt()
        panels = (
            ("standardised prediction", {"adapted": "predicted", "fitted": "fitted_prediction"}),
            (
                "input-gradient norm",
                {"adapted": "gradient_norm", "fitted": "fitted_gradient_norm"},
            ),
        )
        for axis, (title, curves) in zip(axes, panels, strict=False):
            for label, name in curves.items():
                _band(axis, self.stack(name), label)
            axis.set(title=title, xlabel="update")
            axis.legend(frameon=False)
        _band(axes[2], travelled, "distance from start")
        axes[2].set(title="distance from start, in start-batch std", xlabel="update")
        return figure


def _band(axis, values: Tensor, label: str) -> None:  # type: ignore[no-untyped-def]
    """Median over candidates as a line, 10th to 90th percentile as a band."""
    low, middle, high = torch.quantile(values, torch.tensor([0.1, 0.5, 0.9]).to(values), dim=1)
    (line,) = axis.plot(middle, label=label)
    axis.fill_between(range(len(middle)), low, high, alpha=0.2, color=line.get_color(), lw=0)

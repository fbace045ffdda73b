r"""
One update of all candidates of stage 2: adapt, take the gradient, step.

    theta_t  =  adapted weights at x_t, with pseudo label f(x_t; theta_{t-1})
    step     along grad_x acquisition(x_t; theta_t)                              [Yu2021roma]_

The loop around it is in :mod:`botorch_roma.optim.generation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from botorch.acquisition import AcquisitionFunction
from botorch.exceptions.errors import CandidateGenerationError
from torch import Tensor

from botorch_roma._compat import replace_modules
from botorch_roma.adaptation import Adaptation
from botorch_roma.models.adapted import AdaptedRoMAModel
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.initializers import (
    input_scale,
    measured_acquisition_values,
    measured_labels,
    roma_models,
)
from botorch_roma.optim.options import RoMAOptions
from botorch_roma.optim.trajectory import Trajectory

#: Training rows used to find the scale of the acquisition function.
NUM_SCALE_ROWS: int = 1024


def make_adaptations(
    models: Sequence[RoMAModel],
    options: RoMAOptions,
    *,
    replay: bool = False,
    expired: Callable[[], bool] | None = None,
) -> dict[RoMAModel, Adaptation]:
    """The adaptation of each model under the settings of stage 2."""
    return {
        model: Adaptation(
            model,
            radius=options.radius,
            num_steps=options.num_adaptation_steps,
            alpha=options.alpha,
            mode=options.mode,
            pseudo_label_loss=options.pseudo_label_loss,
            first_layer=options.first_layer,
            weight_form=options.weight_form,
            early_stop=options.early_stop,
            reuse_steps=options.reuse_steps,
            replay=replay,
            expired=expired,
        )
        for model in models
    }


#: What the steps of candidates depend on, and is taken from the start designs and the data.
_OF_THE_START: tuple[str, ...] = ("start_mean", "unit", "sign", "start_values")


class Ascent:
    r"""Adaptation, acquisition gradient and step of all candidates.

    Args:
        X: Start designs, ``B x d``.
        acq_function: An acquisition function over fitted RoMA models.
        options: Settings of stage 2.
        p: Number of consecutive candidates that the acquisition function sees jointly.
        expired: Whether the time budget has ended.
    """

    def __init__(
        self,
        X: Tensor,
        acq_function: AcquisitionFunction,
        options: RoMAOptions,
        p: int,
        expired: Callable[[], bool],
    ) -> None:
        self.acq_function, self.options, self.p = acq_function, options, p
        self.models = roma_models(acq_function)
        self.adaptations = make_adaptations(self.models, options, replay=True, expired=expired)
        self.scale = input_scale(self.models[0])
        self.delta = torch.zeros_like(X)
        rule = torch.optim.Adam if options.step_rule == "adam" else torch.optim.SGD
        self.optimizer = rule([self.delta], lr=options.step_size(X.shape[-1]), maximize=True)
        self.adapted: dict[RoMAModel, AdaptedRoMAModel] = {}
        self._start(X)

    def state(self) -> dict[str, Any]:
        """All that the next updates depend on, besides the candidates."""
        start = {name: getattr(self, name) for name in _OF_THE_START if hasattr(self, name)}
        labels = [self.labels[m] for m in self.models]
        return {
            "start": start,
            "labels": labels,
            "optimizer": self.optimizer.state_dict(),
            "adaptations": [self.adaptations[m].state() for m in self.models],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, value in state["start"].items():
            setattr(self, name, value.to(self.delta) if isinstance(value, Tensor) else value)
        pairs = zip(self.models, state["labels"], strict=True)
        self.labels = {m: label.to(self.delta) for m, label in pairs}
        self.optimizer.load_state_dict(state["optimizer"])
        for model, adaptation in zip(self.models, state["adaptations"], strict=True):
            self.adaptations[model].load_state(adaptation)

    @torch.no_grad()
    def _start(self, X: Tensor) -> None:
        r"""Pseudo labels, reference predictions of the cap, and the scale of the acquisition."""
        self.labels = {m: m.network(m.eval().standardize_inputs(X))[0] for m in self.models}
        # the reference of the cap is the prediction, also where the pseudo label is measured
        self.start_mean = self.labels[self.models[0]].mean(dim=0)
        if self.options.initial_pseudo_label == "measured":
            self.labels = {m: measured_labels(m, X) for m in self.models}
        train_Y = self.models[0].train_Y
        n = train_Y.shape[0]
        rows = (
            torch.linspace(0, n - 1, min(n, NUM_SCALE_ROWS), dtype=torch.double)
            .long()
            .to(train_Y.device)
        )
        alone = getattr(self.acq_function, "model", None) is self.models[0]
        self.single = alone and len(self.models) == 1 and self.models[0].num_outputs == 1
        if self.single:
            self.unit = train_Y.std(correction=0)
            y = train_Y[rows, 0] - train_Y[rows, 0].mean()
            measured, _ = measured_acquisition_values(self.acq_function, rows)
            self.sign = -1.0 if (measured * y).sum() < measured.mean() * y.sum() else 1.0
        else:  # of predictions: the logarithm of a measured improvement of zero knows no limit
            values = self.acq_function(self.models[0].train_X[rows].unsqueeze(-2))
            self.unit = values[torch.isfinite(values)].std(correction=0).clamp_min(1e-12)
            self.start_values = self.acq_function(X.view(-1, self.p, X.shape[-1]))

    def _adapt(self, X: Tensor) -> None:
        with torch.no_grad():
            joint = self.p if self.p > 1 else None
            self.adapted = {
                m: self.adaptations[m](m.eval().standardize_inputs(X), self.labels[m], joint)
                for m in self.models
            }
        self.adapted_acq_function = replace_modules(self.acq_function, self.adapted)

    @torch.no_grad()
    def relabel(self, X: Tensor) -> None:
        r"""Pseudo labels ``f(x_{t+1}; theta_t)``: the adapted models read where they moved to."""
        self.labels = {m: self._predict(m, X) for m in self.models}

    @torch.no_grad()
    def within_spread(self, X: Tensor, X_new: Tensor) -> Tensor:
        r"""``X_new``, but ``X`` for candidates at whose new place the members part."""
        if self.options.max_spread is None:
            return X_new
        spread = torch.stack([m.member_spread(X_new) for m in self.models]).amax(dim=0)
        return torch.where((spread > self.options.max_spread).unsqueeze(-1), X, X_new)

    def _predict(self, model: RoMAModel, X: Tensor) -> Tensor:
        r"""Standardised predictions of the adapted networks at their candidates, ``S x B``."""
        Z = model.standardize_inputs(X).unsqueeze(1)
        return self.adapted[model].candidate_moments(Z)[0].squeeze(-1)

    def step(self, X: Tensor, trajectory: Trajectory | None) -> Tensor:
        r"""Adapt at ``X`` and return the step ``B x d`` in the user's space."""
        self._adapt(X)
        with torch.enable_grad():
            leaf = X.detach().requires_grad_(True)
            values = self.adapted_acq_function(leaf.view(-1, self.p, X.shape[-1]))
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        if not (torch.isfinite(values).all() and torch.isfinite(gradient).all()):
            bad = ~torch.isfinite(values).repeat_interleave(self.p)
            bad |= ~torch.isfinite(gradient).all(dim=-1)
            raise CandidateGenerationError(
                f"{type(self.acq_function).__name__} returned NaN or infinite values or gradients "
                f"at {int(bad.sum())} of {len(bad)} candidates; check the acquisition function "
                "and the scale of the data."
            )
        if trajectory is not None:
            self._record(trajectory, X, values)
        gradient = gradient * (self.scale / self.unit)
        if self.options.region is not None:
            gain = self._gain(X, values.detach())
            gradient = gradient * (1.0 - gain / self.options.region).unsqueeze(-1)
        self.delta.zero_()
        self.delta.grad = gradient
        self.optimizer.step()
        return self.delta * self.scale

    @torch.no_grad()
    def _gain(self, X: Tensor, values: Tensor) -> Tensor:
        r"""Predicted gain over the start, ``B``, in standard deviations.

        The gradient of ``f - (f - f_0)^2 / (2 * region)`` is that of ``f`` times
        ``1 - (f - f_0) / region``; in this form the cap holds for every acquisition function.
        With several outputs or models the gain is that of the acquisition value.
        """
        if self.single:
            mean = self._predict(self.models[0], X).mean(dim=0)
            return self.sign * (mean - self.start_mean)
        return ((values - self.start_values) / self.unit).repeat_interleave(self.p)

    @torch.no_grad()
    def _record(self, trajectory: Trajectory, X: Tensor, values: Tensor) -> None:
        model = self.models[0]
        Z = model.standardize_inputs(X)
        adapted, k = self.adapted[model], model.num_outputs
        fitted = AdaptedRoMAModel(model, self.adaptations[model].weights, X.shape[0])
        trajectory.append(
            x=X,
            acquisition_value=values,
            predicted=self._predict(model, X)[::k].mean(dim=0),
            fitted_prediction=fitted.candidate_moments(Z.unsqueeze(1))[0][::k, :, 0].mean(dim=0),
            pseudo_label=self.labels[model][::k].mean(dim=0),
            gradient_norm=adapted.input_gradient_norm(Z)[::k].mean(dim=0),
            fitted_gradient_norm=fitted.input_gradient_norm(Z)[::k].mean(dim=0),
        )

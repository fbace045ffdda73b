r"""
Stage 1 of RoMA: robust pre-training of the proxy.

    min_theta max_{theta~ in B(theta)} E_(x, y)~D [ loss(f(x; theta~), y) ]      [Yu2021roma]_

Every minibatch is seen with Gaussian noise on the inputs. The inner maximisation takes normalised
ascent steps inside the ball, the outer step applies Adam to the unperturbed weights with the
gradient at the perturbed ones (adversarial weight perturbation, [Wu2020awp]_). All networks of a
model, that is all ensemble members and outputs, are trained in one batched computation.

References:

.. [Wu2020awp]
    D. Wu, S.-T. Xia, and Y. Wang. Adversarial Weight Perturbation Helps Robust Generalization.
    Advances in Neural Information Processing Systems 33, 2020.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import torch
from botorch.exceptions import InputDataError
from botorch.exceptions.errors import ModelFittingError
from botorch.logging import logger
from scipy.stats import rankdata
from torch import Tensor

from botorch_roma.closed_form import FirstLayer, Loss, head_gradient, training_gradient
from botorch_roma.models.roma import RoMAModel
from botorch_roma.network import StackedWeights, soft_bound_log_std, stacked_heads
from botorch_roma.perturbation import stacked_norms, step_coefficients, step_lengths
from botorch_roma.progress import track
from botorch_roma.validation import check_choice, check_float, check_int

if TYPE_CHECKING:
    import pandas as pd

Keep = Literal["last", "best"]

#: Without ``epochs``, training takes about this many minibatches, and at least 20 epochs.
DEFAULT_NUM_BATCHES: int = 5_000


@dataclass
class FitHistory:
    r"""What happened during :func:`fit_roma_model`, one entry per finished epoch.

    Attributes:
        loss: Mean training loss at the perturbed weights, on noisy inputs.
        validation_loss: Loss on the held-out rows (on the training rows where none are held
            out), plain weights and inputs.
        rank_correlation: Spearman correlation of prediction and outcome on the same rows.
        seconds: Wall time since the start.
        best_epoch: Epoch with the lowest validation loss, counted from 0 (mean over networks).
        timed_out: Whether ``timeout_sec`` ended the training; the best state was kept then.
        validation_indices: Indices of the held-out rows.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    rank_correlation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1
    timed_out: bool = False
    validation_indices: list[int] = field(default_factory=list)

    def to_frame(self) -> pd.DataFrame:
        """The curves as a data frame with one row per epoch."""
        import pandas as pd

        names = ("loss", "validation_loss", "rank_correlation", "seconds")
        return pd.DataFrame({name: getattr(self, name) for name in names})


def fit_roma_model(
    model: RoMAModel,
    *,
    loss: Loss = "nll",
    noise_std: float = 0.2,
    radius: float = 0.005,
    num_ascent_steps: int = 5,
    epochs: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    max_grad_norm: float = 1.0,
    num_validation: int | None = None,
    seed: int | None = None,
    keep: Keep = "last",
    warm_start: bool = False,
    first_layer: FirstLayer = "auto",
    timeout_sec: float | None = None,
    progress: bool = False,
) -> FitHistory:
    r"""Train the networks of a model robustly, in place (stage 1 of [Yu2021roma]_).

    Afterwards the variance of the posterior is calibrated: the head variance is scaled so that,
    with the spread of the ensemble on top, the mean squared standardised residual on the held-out
    rows is 1.

    Args:
        model: The model to train.
        loss: ``"nll"`` (Gaussian, the authors' code) or ``"squared_error"`` (the paper).
        noise_std: Standard deviation of the input noise in z-scored units.
        radius: Radius of the weight ball relative to each tensor's norm; 0 trains plainly.
        num_ascent_steps: Number ``K`` of normalised ascent steps that use up the radius.
        epochs: Passes over the data; by default as many as make about 5,000 minibatches, at
            least 20.
        batch_size: Rows in a minibatch.
        lr: Learning rate of Adam.
        max_grad_norm: The gradient of each tensor is clipped to this norm.
        num_validation: Held-out rows; by default a tenth of the data, at most 200.
        seed: Seed of initial weights, data order, noise and split; member ``e`` uses
            ``seed + e``. Drawn from torch's global generator by default.
        keep: ``"last"`` or ``"best"`` (lowest validation loss, network by network).
        warm_start: Start from the present weights instead of new ones.
        first_layer: How the weights of the first layer ascend: ``"dense"``, ``"reduced"`` to the
            span of the minibatch, or ``"auto"``: reduced where the inputs are more than twice as
            many as hidden units and rows together. The result is the same but for rounding.
        timeout_sec: Time budget in seconds; when it is used up the best state so far is kept.
        progress: Show a progress bar on standard error.

    Returns:
        The history of the training.

    Raises:
        ValueError: For options out of range.
        InputDataError: If ``num_validation`` leaves fewer than two rows to train on.
        ModelFittingError: If the loss becomes non-finite; the model is left as it was.

    Example:
        >>> history = fit_roma_model(model, epochs=50, seed=0)
        >>> history.rank_correlation[-1]
    """
    check_choice("loss", loss, get_args(Loss))
    check_choice("keep", keep, get_args(Keep))
    check_choice("first_layer", first_layer, get_args(FirstLayer))
    check_float("noise_std", noise_std)
    check_float("radius", radius)
    check_float("lr", lr, exclusive=True)
    check_float("max_grad_norm", max_grad_norm, exclusive=True)
    check_int("num_ascent_steps", num_ascent_steps, minimum=0)
    check_int("batch_size", batch_size, minimum=1)
    if timeout_sec is not None:
        check_float("timeout_sec", timeout_sec, exclusive=True, unit=" seconds")
    if epochs is not None:
        check_int("epochs", epochs, minimum=1)
    if seed is None:
        seed = int(torch.randint(2**31, ()).item())
    check_int("seed", seed, minimum=0)
    training = _Training(
        model,
        loss=loss,
        noise_std=noise_std,
        radius=radius,
        num_ascent_steps=num_ascent_steps,
        batch_size=batch_size,
        lr=lr,
        max_grad_norm=max_grad_norm,
        num_validation=num_validation,
        seed=seed,
        warm_start=warm_start,
        first_layer=first_layer,
    )
    with torch.no_grad():
        history = training.run(training.num_epochs(epochs), keep, timeout_sec, progress)
        training.write_back(model)
    return history


class _Training:
    """The state of one training run: data on the device, one flat row of weights per network."""

    def __init__(
        self,
        model: RoMAModel,
        *,
        loss: Loss,
        noise_std: float,
        radius: float,
        num_ascent_steps: int,
        batch_size: int,
        lr: float,
        max_grad_norm: float,
        num_validation: int | None,
        seed: int,
        warm_start: bool,
        first_layer: FirstLayer,
    ) -> None:
        self.loss: Loss = loss
        self.first_layer = first_layer
        self.noise_std, self.radius = noise_std, radius
        self.num_ascent_steps = num_ascent_steps if radius > 0 else 0
        self.max_grad_norm = max_grad_norm
        self.members, self.outputs = model.num_members, model.num_outputs
        self.activation = model.network.activation
        self._load_data(model, num_validation, seed)
        self.batch_size = min(batch_size, self.Z.shape[0])
        self._load_weights(model, seed, warm_start)
        self.optimizer = torch.optim.Adam([self.theta], lr=lr)
        self.generators = [
            torch.Generator(self.Z.device).manual_seed(seed + e) for e in range(self.members)
        ]

    def _load_data(self, model: RoMAModel, num_validation: int | None, seed: int) -> None:
        n = model.train_X.shape[0]
        if num_validation is None:
            num_validation = min(200, n // 10)
        check_int("num_validation", num_validation, minimum=0)
        if n - num_validation < 2:
            raise InputDataError(
                f"`num_validation` is {num_validation} of {n} rows, which leaves fewer than two "
                "to train on; choose a smaller number."
            )
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
        held_out = order[:num_validation].to(model.train_X.device)
        kept = order[num_validation:].sort().values.to(model.train_X.device)
        model.eval()
        with torch.no_grad():
            Z = model.standardize_inputs(model.train_X)
            T = model.standardize_outcomes(model.train_Y, X=model.train_X)
            V = model.standardized_noise_variances()
        self.validation_indices = held_out.sort().values.tolist()
        self.Z, self.T = Z[kept], T[kept]
        rows = held_out if num_validation else kept
        self.Z_val, self.T_val = Z[rows], T[rows]
        self.V: Tensor | None = None if V is None else V[kept]
        self.V_val: Tensor | None = None if V is None else V[rows]

    def _load_weights(self, model: RoMAModel, seed: int, warm_start: bool) -> None:
        network = model.network
        self.shapes = [t.shape[1:] for t in network.tensors]
        start = network.weights if warm_start else _initial_weights(model, seed)
        self.theta = torch.cat([t.detach().flatten(1) for t in start.tensors()], dim=1)
        if self.loss == "squared_error":  # constant, since this loss does not train it
            self.theta[:, -(self.shapes[-1].numel() + self.shapes[-2].numel()) :] = 0.0
        self.perturbed, self.gradient = torch.empty_like(self.theta), torch.empty_like(self.theta)
        sizes = torch.tensor([s.numel() for s in self.shapes])
        self.segments = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(self.Z.device)
        self.theta_views = self._views(self.theta)
        self.perturbed_views = self._views(self.perturbed)
        self.gradient_views = self._views(self.gradient)

    def _views(self, flat: Tensor) -> StackedWeights:
        parts = flat.split([s.numel() for s in self.shapes], dim=1)
        pairs = zip(parts, self.shapes, strict=True)
        return StackedWeights.from_tensors([p.view(-1, *s) for p, s in pairs])

    def num_epochs(self, epochs: int | None) -> int:
        if epochs is not None:
            return epochs
        batches = -(-self.Z.shape[0] // self.batch_size)
        return max(20, -(-DEFAULT_NUM_BATCHES // batches))

    def run(self, epochs: int, keep: Keep, timeout_sec: float | None, progress: bool) -> FitHistory:
        start = time.monotonic()
        history = FitHistory(validation_indices=self.validation_indices)
        self._best = self.theta.clone()
        self._best_loss = torch.full_like(self.theta[:, 0], torch.inf)
        for epoch in track(range(epochs), total=epochs, description="stage 1", enabled=progress):
            deadline = None if timeout_sec is None else start + timeout_sec
            loss, finished = self._epoch(deadline)
            self._record(history, epoch, loss, start)
            late = deadline is not None and time.monotonic() >= deadline
            if not finished or (late and epoch + 1 < epochs):
                history.timed_out = True
                logger.info(f"fit_roma_model: time budget used up in epoch {epoch}.")
                break
        if keep == "best" or history.timed_out:
            self.theta.copy_(self._best)
        return history

    def _record(self, history: FitHistory, epoch: int, loss: Tensor, start: float) -> None:
        validation, correlation = self._validate()
        if not (torch.isfinite(loss).all() and torch.isfinite(validation).all()):
            raise ModelFittingError(
                f"The loss became non-finite in epoch {epoch}; the model is unchanged. Reduce `lr` "
                "or `radius`, or look for extreme values in the data."
            )
        better = validation < self._best_loss
        self._best_loss = torch.where(better, validation, self._best_loss)
        self._best[better] = self.theta[better]
        if validation.mean().item() < min(history.validation_loss, default=torch.inf):
            history.best_epoch = epoch
        history.loss.append(loss.mean().item())
        history.validation_loss.append(validation.mean().item())
        history.rank_correlation.append(correlation)
        history.seconds.append(time.monotonic() - start)

    def _epoch(self, deadline: float | None) -> tuple[Tensor, bool]:
        r"""One pass over the data: mean loss of each network, and whether the pass was finished."""
        n = self.Z.shape[0]
        order = torch.stack(
            [torch.randperm(n, generator=g, device=self.Z.device) for g in self.generators]
        )
        total, count = torch.zeros_like(self.theta[:, 0]), 0
        for rows in order.split(self.batch_size, dim=1):
            total += self._step(rows) * rows.shape[1]
            count += rows.shape[1]
            if deadline is not None and time.monotonic() >= deadline:
                break
        return total / count, count == n

    def _batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        r"""Noisy inputs ``S x b x d``, targets and noise variances ``S x b`` for rows ``E x b``."""
        Z = self.Z[rows]
        if self.noise_std > 0:
            noise = [
                torch.randn(Z.shape[1:], generator=g, dtype=Z.dtype, device=Z.device)
                for g in self.generators
            ]
            Z = Z.add_(torch.stack(noise), alpha=self.noise_std)
        if self.outputs > 1:
            Z = Z.repeat_interleave(self.outputs, dim=0)
        T, V = (
            None if t is None else t[rows].movedim(-1, 1).reshape(-1, rows.shape[1])
            for t in (self.T, self.V)
        )
        assert T is not None
        return Z, T, V

    def _step(self, rows: Tensor) -> Tensor:
        r"""One outer step: ascend inside the ball, take the gradient there, apply Adam."""
        batch = self._batch(rows)
        self.perturbed.copy_(self.theta)
        lengths = step_lengths(self.theta_views, self.radius, self.num_ascent_steps)
        if self._use_reduced(rows.shape[1]):
            loss = self._reduced_ascent(*batch, lengths)
        else:
            for _ in range(self.num_ascent_steps):
                self._gradient(*batch)
                coefficients = step_coefficients(lengths, self._gradient_norms())
                self.perturbed.addcmul_(self.gradient, self._per_weight(coefficients))
            loss, _ = self._gradient(*batch)
        clip = self.max_grad_norm / self._gradient_norms().clamp_min(self.max_grad_norm)
        self.theta.grad = self.gradient.mul_(self._per_weight(clip))
        self.optimizer.step()
        return loss

    def _use_reduced(self, num_points: int) -> bool:
        width, d = self.shapes[0]
        if self.first_layer == "auto":
            return self.num_ascent_steps > 0 and d > 2 * (width + num_points)
        return self.first_layer == "reduced"

    def _reduced_ascent(self, Z: Tensor, T: Tensor, V: Tensor | None, lengths: Tensor) -> Tensor:
        r"""The ascent, and the gradient at its end, without the inputs in between.

        Every step on ``W_1`` is a combination of the rows of ``Z``. So all that the network sees
        of it, ``Z W_1^T``, moves by ``G e`` with ``G = Z Z^T``, and ``||e^T Z||^2 = <e, G e>``,
        where ``e`` is the gradient in what the first activation is applied to. Exact.
        """
        weight, bias = self.perturbed_views.hidden[0]
        size, gradients = self.shapes[0].numel(), [*self.gradient_views.tensors()]
        gram, product = torch.bmm(Z, Z.mT), torch.bmm(Z, weight.mT)
        for _ in range(self.num_ascent_steps):
            _, e = self._gradient(Z, T, V, first=product + bias.unsqueeze(1))
            moved = torch.bmm(gram, e)
            norm = (e * moved).sum(dim=(1, 2)).clamp_min(0.0).sqrt()
            norms = torch.cat([norm.unsqueeze(0), stacked_norms(gradients[1:])])
            coefficients = step_coefficients(lengths, norms)
            product.addcmul_(moved, coefficients[0].view(-1, 1, 1))
            rest = self._per_weight(coefficients, start=size)
            self.perturbed[:, size:].addcmul_(self.gradient[:, size:], rest)
        loss, e = self._gradient(Z, T, V, first=product + bias.unsqueeze(1))
        torch.bmm(e.mT, Z, out=gradients[0])
        return loss

    def _gradient(
        self, Z: Tensor, T: Tensor, V: Tensor | None, first: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return training_gradient(
            self.perturbed_views,
            Z,
            T,
            loss=self.loss,
            activation=self.activation,
            out=self.gradient_views,
            noise_variance=V,
            first=first,
        )

    def _gradient_norms(self) -> Tensor:
        return stacked_norms(self.gradient_views.tensors())

    def _per_weight(self, per_tensor: Tensor, start: int = 0) -> Tensor:
        r"""``T x S`` factors as ``S x P`` factors of the flat weights, from ``start`` on."""
        return per_tensor.mT.index_select(1, self.segments[start:])

    def _predict(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and raw log-std of all networks at ``N x d``, each ``S x N``."""
        return stacked_heads(self.theta_views, Z, self.activation)

    def _validate(self) -> tuple[Tensor, float]:
        r"""Loss of each network on the held-out rows, and the rank correlation of the ensemble."""
        mean, raw = self._predict(self.Z_val)
        targets = self.T_val.mT.repeat(self.members, 1)
        noise = None if self.V_val is None else self.V_val.mT.repeat(self.members, 1)
        value, _, _ = head_gradient(mean, raw, targets, self.loss, noise)
        ensemble = mean.view(self.members, self.outputs, -1).mean(dim=0)
        scores = [rank_correlation(p, t) for p, t in zip(ensemble, self.T_val.mT, strict=True)]
        return value.mean(dim=-1), sum(scores) / len(scores)

    def _variance_scale(self) -> Tensor:
        r"""Factor ``c`` of the head variance that calibrates each output on the held-out rows.

        With the ensemble's spread and the known noise on top, ``mean(residual^2 / (c * head +
        spread + noise)) = 1``, which falls in ``c``: solved by bisection. Where these are too wide
        by themselves ``c`` is left tiny.
        """
        shape = (self.members, self.outputs, -1)
        mean, raw = (t.view(shape) for t in self._predict(self.Z_val))
        head = torch.exp(2.0 * soft_bound_log_std(raw)).mean(dim=0)
        spread = mean.var(dim=0, correction=0) if self.members > 1 else torch.zeros_like(head)
        if self.V_val is not None:
            spread = spread + self.V_val.mT
        squares = (self.T_val.mT - mean.mean(dim=0)).square()
        low = torch.full_like(head[:, :1], 1e-6)
        high = (squares / head).mean(dim=-1, keepdim=True).clamp_min(1e-6)  # right without spread
        for _ in range(60 if spread.any() else 0):
            middle = (low + high) / 2
            too_small = (squares / (middle * head + spread)).mean(dim=-1, keepdim=True) > 1
            low, high = torch.where(too_small, middle, low), torch.where(too_small, high, middle)
        return high.squeeze(-1)

    def write_back(self, model: RoMAModel) -> None:
        """Copy the weights and the calibration into the model, now that nothing can fail."""
        model.variance_scale.copy_(self._variance_scale())
        pairs = zip(model.network.tensors, self.theta_views.tensors(), strict=True)
        for parameter, value in pairs:
            parameter.copy_(value)
        model.fitted.fill_(True)


def _initial_weights(model: RoMAModel, seed: int) -> StackedWeights:
    r"""New initial weights, without touching those of the model."""
    network = copy.deepcopy(model.network)
    network.reset_parameters(model.network_seeds(seed))
    return network.weights


def rank_correlation(prediction: Tensor, outcome: Tensor) -> float:
    r"""Spearman's rank correlation of two vectors; NaN where one of them is constant."""
    ranks = [torch.as_tensor(rankdata(t.detach().cpu().numpy())) for t in (prediction, outcome)]
    if min(r.std(correction=0).item() for r in ranks) == 0.0:
        return float("nan")
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()

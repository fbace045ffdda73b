r"""
The training loop of stage 1: all networks of one or several models in one batched computation.

References:

.. [Wu2020awp]
    D. Wu, S.-T. Xia, and Y. Wang. Adversarial Weight Perturbation Helps Robust Generalization.
    Advances in Neural Information Processing Systems 33, 2020.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from botorch.exceptions import InputDataError
from botorch.exceptions.errors import ModelFittingError, UnsupportedError
from botorch.logging import logger
from torch import Tensor

from botorch_roma.calibration import standardize_head, variance_scale
from botorch_roma.checkpoint import Checkpoint
from botorch_roma.closed_form import (
    FirstLayer,
    TrainingLoss,
    training_gradient,
    training_loss,
)
from botorch_roma.conservative import reached_designs
from botorch_roma.graphs import Recorder
from botorch_roma.history import FitHistory, rank_correlation
from botorch_roma.models.roma import RoMAModel
from botorch_roma.network import StackedWeights, stacked_heads
from botorch_roma.perturbation import per_slice, stacked_norms, step_coefficients, step_lengths
from botorch_roma.progress import track
from botorch_roma.rows import StandardizedRows, joined, standardized_outcomes, standardized_tables
from botorch_roma.validation import check_int

Keep = Literal["last", "best"]

#: Without ``epochs``, training takes about this many minibatches, and at least 20 epochs.
DEFAULT_NUM_BATCHES: int = 5_000


#: Rows predicted at once.
PREDICTED_ROWS: int = 8192

#: Mean and deviation of predictions are taken of so many rows at most, evenly spread.
MAX_PREDICTED_ROWS: int = 65_536

#: A coefficient for each single weight is looked up for so many of them at most on a CPU: one call
#: instead of one a tensor, but a slow one.
MAX_LOOKED_UP: int = 32_768


class _Validation(NamedTuple):
    """Rows to watch the training of a model on, and which of its rows are held out."""

    Z: Tensor | StandardizedRows
    T: Tensor
    V: Tensor | None
    indices: list[int]


class Training:
    r"""The state of a training run: data on the device, one flat row of weights per network.

    Networks are ordered by model, ensemble member and output. Models of one architecture and number
    of rows train side by side, each as it would alone.

    Args:
        models: The models.
        seeds: One for each.
        loss: As for :func:`~botorch_roma.fit.fit_roma_model`, as all the others.
    """

    def __init__(
        self,
        models: Sequence[RoMAModel],
        seeds: Sequence[int],
        *,
        loss: TrainingLoss,
        noise_std: float,
        radius: float,
        num_ascent_steps: int,
        batch_size: int,
        lr: float,
        max_grad_norm: float,
        num_validation: int | None,
        warm_start: bool,
        first_layer: FirstLayer,
        conservatism: float,
    ) -> None:
        self._start = time.monotonic()  # preparing is a part of the time budget
        self.loss: TrainingLoss = loss
        self.first_layer = first_layer
        self.noise_std, self.radius, self.conservatism = noise_std, radius, conservatism
        self.num_ascent_steps = num_ascent_steps if radius > 0 else 0
        self.max_grad_norm = max_grad_norm
        self.models, self.seeds = models, seeds
        self.members, self.outputs = models[0].num_members, models[0].num_outputs
        self.activation = models[0].network.activation
        self._load_data(num_validation)
        self.num_rows = self.rows.shape[1]
        self.batch_size = min(batch_size, self.num_rows)
        self._load_weights(warm_start)
        self.optimizer = torch.optim.Adam([self.theta], lr=lr, fused=self.theta.is_cuda or None)
        self._recorder = Recorder()
        self._step_seconds = self._record_seconds = 0.0  # what the last ones took
        self.generators = [
            torch.Generator(self.Z.device).manual_seed(seed + e)
            for seed in seeds
            for e in range(self.members)
        ]
        self._before_order: list[Tensor] = []
        self._after_order: list[Tensor] = []

    def _load_data(self, num_validation: int | None) -> None:
        n = self.models[0].train_X.shape[0]
        if num_validation is None:
            num_validation = min(200, n // 10)
        check_int("num_validation", num_validation, minimum=0)
        if n - num_validation < 2:
            raise InputDataError(
                f"`num_validation` is {num_validation} of {n} rows, which leaves fewer than two "
                "to train on; choose a smaller number."
            )
        self.Z: Tensor | StandardizedRows
        if all(model.copies_data for model in self.models):
            tables = standardized_tables(self.models)
            self.Z = joined([Z for Z, _, _ in tables])
            outcomes = [(T, V) for _, T, V in tables]
        else:
            self.Z = StandardizedRows(self.models)
            outcomes = [standardized_outcomes(model) for model in self.models]
        self.T = joined([T for T, _ in outcomes])
        known = [V for _, V in outcomes if V is not None]
        self.V = joined(known) if known else None
        if self.V is not None and self.loss == "listnet":
            raise UnsupportedError(
                "`loss` is 'listnet', which ranks outcomes and has no use for `train_Yvar`, the "
                "variances of their noise; train with 'nll', or leave them out."
            )
        self.validation, kept = [], []
        for m, seed in enumerate(self.seeds):
            offset = n * m if len(outcomes) > 1 else 0
            order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
            held_out = order[:num_validation].to(self.Z.device)
            kept.append(order[num_validation:].sort().values.to(self.Z.device) + offset)
            rows = held_out + offset if num_validation else kept[m]
            V = None if self.V is None else self.V[rows]
            indices = held_out.sort().values.tolist()
            Z = self.Z[rows] if isinstance(self.Z, Tensor) else self.Z.select(rows)
            self.validation.append(_Validation(Z, self.T[rows], V, indices))
        self.rows = torch.stack(kept)

    def _load_weights(self, warm_start: bool) -> None:
        self.shapes = [t.shape[1:] for t in self.models[0].network.tensors]
        flat = []
        for model, seed in zip(self.models, self.seeds, strict=True):
            start = model.network.weights if warm_start else _initial_weights(model, seed)
            flat.append(torch.cat([t.detach().flatten(1) for t in start.tensors()], dim=1))
        self.theta = torch.cat(flat)
        if self.loss != "nll":  # constant, since these losses do not train it
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
        """Passes over the data, by default as many as make about ``DEFAULT_NUM_BATCHES``."""
        if epochs is not None:
            return epochs
        batches = -(-self.num_rows // self.batch_size)
        return max(20, -(-DEFAULT_NUM_BATCHES // batches))

    def run(
        self,
        epochs: int,
        keep: Keep,
        timeout_sec: float | None,
        progress: bool,
        checkpoint: Checkpoint | None = None,
    ) -> list[FitHistory]:
        """Train, from where a checkpoint left it; one history per model."""
        self._histories = [FitHistory(validation_indices=v.indices) for v in self.validation]
        self._best = self.theta.clone()
        self._best_loss = torch.full_like(self.theta[:, 0], torch.inf)
        self._total, self._batches = torch.zeros_like(self._best_loss), 0
        start, save = self._start, None
        if checkpoint is not None:
            start -= checkpoint.before
            if "training" in checkpoint.parts and self._restore(checkpoint.parts["training"]):
                return self._histories
            save = partial(checkpoint.offer, "training", self._state)
        deadline = math.inf if timeout_sec is None else start + timeout_sec
        first, timed_out = len(self._histories[0].loss), False
        bar = track(
            range(first, epochs),
            total=epochs - first,
            description="stage 1",
            enabled=progress,
            shorter=None
            if timeout_sec is not None
            else "fewer `epochs`, single precision, a time budget (`timeout_sec`), "
            "the preset `fast`, or `OMP_NUM_THREADS=1` where other work keeps the processor busy",
        )
        for epoch in bar:
            loss, finished = self._epoch(deadline, save)
            trained = time.monotonic()
            self._record(self._histories, epoch, loss, start)
            self._record_seconds = time.monotonic() - trained
            if not finished or (epoch + 1 < epochs and self._is_late(deadline)):
                timed_out = True
                logger.info(f"fit_roma_model: time budget used up in epoch {epoch}.")
                break
        for history in self._histories:
            history.timed_out = timed_out
        if keep == "best" or timed_out:
            self.theta.copy_(self._best)
        if checkpoint is not None:
            checkpoint.finish("training", self._result(), timed_out=timed_out)
        return self._histories

    def _result(self) -> dict[str, Any]:
        return {"theta": self.theta, "histories": [vars(h) for h in self._histories]}

    def _state(self) -> dict[str, Any]:
        """All that the rest of the training depends on, in the middle of an epoch."""
        return {
            **self._result(),
            "finished": False,
            "best": self._best,
            "best_loss": self._best_loss,
            "total": self._total,
            "batches": self._batches,
            "optimizer": self.optimizer.state_dict(),
            "generators_before": self._before_order,
            "generators": [g.get_state() for g in self.generators],
        }

    def _restore(self, state: dict[str, Any]) -> bool:
        """Take up a training; whether it is finished."""
        self._histories = [FitHistory(**h) for h in state["histories"]]
        self.theta.copy_(state["theta"])
        if state["finished"]:
            return True
        self._best.copy_(state["best"])
        self._best_loss.copy_(state["best_loss"])
        self._total.copy_(state["total"])
        self._batches = state["batches"]
        self.optimizer.load_state_dict(state["optimizer"])
        self._set_generators(state["generators_before"])
        self._after_order = state["generators"]
        return False

    def _set_generators(self, states: list[Tensor]) -> None:
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)

    def _record(self, histories: list[FitHistory], epoch: int, loss: Tensor, start: float) -> None:
        results = [self._validate(m) for m in range(len(self.models))]
        validation = torch.cat([value for value, _ in results])
        if not (torch.isfinite(loss).all() and torch.isfinite(validation).all()):
            raise ModelFittingError(
                f"The loss became non-finite in epoch {epoch}; the model is unchanged. Reduce `lr` "
                "or `radius`, or look for extreme values in the data."
            )
        better = validation < self._best_loss
        self._best_loss = torch.where(better, validation, self._best_loss)
        self._best[better] = self.theta[better]
        losses = loss.view(len(self.models), -1).mean(dim=1).tolist()
        for history, mean, (value, correlation) in zip(histories, losses, results, strict=True):
            if value.mean().item() < min(history.validation_loss, default=torch.inf):
                history.best_epoch = epoch
            history.loss.append(mean)
            history.validation_loss.append(value.mean().item())
            history.rank_correlation.append(correlation)
            history.seconds.append(time.monotonic() - start)

    def _is_late(self, deadline: float) -> bool:
        """Whether one more minibatch, and what comes after it, would not end before a deadline."""
        after = self._record_seconds
        if self.loss == "listnet":  # rows are predicted, each in a third of the time of a gradient
            rows = min(self.num_rows, MAX_PREDICTED_ROWS)
            gradients = self.batch_size * (self.num_ascent_steps + 1)
            after += self._step_seconds * rows / (3 * gradients)
        return time.monotonic() + self._step_seconds + after >= deadline

    def _epoch(self, deadline: float, save: Callable[[], None] | None) -> tuple[Tensor, bool]:
        r"""One pass over the data: mean loss of each network, and whether the pass was finished."""
        n = self.num_rows
        if save is not None:
            self._before_order = [g.get_state() for g in self.generators]
        order = torch.stack(
            [
                self.rows[i // self.members][torch.randperm(n, generator=g, device=self.Z.device)]
                for i, g in enumerate(self.generators)
            ]
        )
        if self._after_order:  # the first batches of this epoch have been seen
            self._set_generators(self._after_order)
            self._after_order = []
        for rows in order.split(self.batch_size, dim=1)[self._batches :]:
            if self._batches and self._is_late(deadline):
                break
            begun = time.monotonic()
            self._total += self._step(rows) * rows.shape[1]
            self._batches += 1
            self._step_seconds = time.monotonic() - begun
            if save is not None:
                save()
        count = min(n, self._batches * self.batch_size)
        mean = self._total / count
        self._total, self._batches = torch.zeros_like(mean), 0
        return mean, count == n

    def _batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        r"""Noisy inputs ``S x b x d``, targets and noise variances ``S x b``, for rows ``ME x b``.

        ``M`` models of ``E`` members, ``S`` networks.
        """
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
        batch = [t for t in self._batch(rows) if t is not None]
        loss: Tensor = self._recorder(self._perturbed_gradient, *batch)
        self.theta.grad = self.gradient
        self.optimizer.step()
        return loss

    def _perturbed_gradient(self, Z: Tensor, T: Tensor, V: Tensor | None = None) -> Tensor:
        r"""Ascend inside the ball; the loss there, and in ``gradient`` the clipped gradient."""
        if self.conservatism:
            Z = torch.cat([Z, reached_designs(self.theta_views, Z, self.activation)], dim=1)
        self.perturbed.copy_(self.theta)
        lengths = step_lengths(self.theta_views, self.radius, self.num_ascent_steps)
        if self._use_reduced(Z.shape[1]):
            loss = self._reduced_ascent(Z, T, V, lengths)
        else:
            for _ in range(self.num_ascent_steps):
                self._gradient(Z, T, V)
                coefficients = step_coefficients(lengths, self._gradient_norms())
                self._ascend(coefficients)
            loss, _ = self._gradient(Z, T, V)
        clip = self.max_grad_norm / self._gradient_norms().clamp_min(self.max_grad_norm)
        for gradient, factors in zip(self.gradient_views.tensors(), clip, strict=True):
            gradient.mul_(per_slice(factors, gradient))
        return loss.mean(dim=-1)

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
        weight, bias, *_ = self.perturbed_views.hidden[0]
        gradients = [*self.gradient_views.tensors()]
        gram, product = torch.bmm(Z, Z.mT), torch.bmm(Z, weight.mT)
        for _ in range(self.num_ascent_steps):
            _, e = self._gradient(Z, T, V, first=product + bias.unsqueeze(1))
            moved = torch.bmm(gram, e)
            norm = (e * moved).sum(dim=(1, 2)).clamp_min(0.0).sqrt()
            norms = torch.cat([norm.unsqueeze(0), stacked_norms(gradients[1:])])
            coefficients = step_coefficients(lengths, norms)
            product.addcmul_(moved, coefficients[0].view(-1, 1, 1))
            self._ascend(coefficients, first=1)
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
            conservatism=self.conservatism,
        )

    def _gradient_norms(self) -> Tensor:
        return stacked_norms(self.gradient_views.tensors())

    def _ascend(self, coefficients: Tensor, first: int = 0) -> None:
        r"""Move all tensors from ``first`` on along their gradients; coefficients ``T x S``."""
        start = sum(shape.numel() for shape in self.shapes[:first])
        flat, gradient = self.perturbed[:, start:], self.gradient[:, start:]
        if flat.is_cuda or flat.numel() <= MAX_LOOKED_UP:
            flat.addcmul_(gradient, coefficients.mT.index_select(1, self.segments[start:]))
            return
        weights, gradients = self.perturbed_views.tensors(), self.gradient_views.tensors()
        moves = zip(weights, gradients, coefficients, strict=True)
        for tensor, direction, c in islice(moves, first, None):
            tensor.addcmul_(direction, per_slice(c, direction))

    def _predict(self, m: int) -> tuple[Tensor, Tensor]:
        r"""Mean and raw log-std at the held-out rows of model ``m``, ``E x O x N`` each."""
        return self._predict_at(m, self.validation[m].Z)

    def _weights(self, m: int) -> StackedWeights:
        """Views of the weights of model ``m``."""
        count = self.members * self.outputs
        return self.theta_views.map(lambda t: t[m * count : (m + 1) * count])

    def _predict_at(self, m: int, Z: Tensor | StandardizedRows) -> tuple[Tensor, Tensor]:
        weights = self._weights(m)
        parts = [Z] if isinstance(Z, Tensor) else Z.chunks()
        heads = [stacked_heads(weights, part, self.activation) for part in parts]
        mean, raw = (torch.cat(values, dim=1) for values in zip(*heads, strict=True))
        shape = (self.members, self.outputs, -1)
        return mean.view(shape), raw.view(shape)

    def _validate(self, m: int) -> tuple[Tensor, float | None]:
        r"""Loss of each network of a model on its held-out rows, and the ensemble's correlation."""
        mean, raw = self._predict(m)
        _, T, V, _ = self.validation[m]
        targets, noise = (None if t is None else t.mT.expand_as(mean) for t in (T, V))
        assert targets is not None
        value, _, _ = training_loss(mean, raw, targets, self.loss, noise)
        pairs = zip(mean.mean(dim=0), T.mT, strict=True)
        scores = [score for p, t in pairs if (score := rank_correlation(p, t)) is not None]
        correlation = sum(scores) / len(scores) if len(scores) == self.outputs else None
        return value.mean(dim=-1).flatten(), correlation

    def _variance_scale(self, m: int) -> Tensor:
        r"""Factor of the head variance that calibrates each output on the held-out rows."""
        mean, raw = self._predict(m)
        _, T, V, _ = self.validation[m]
        return variance_scale(mean, raw, T, V)

    def _standardize_outputs(self, m: int) -> None:
        r"""Give what each network of model ``m`` predicts for its data mean 0 and deviation 1."""
        every = -(-self.num_rows // MAX_PREDICTED_ROWS)
        parts = self.rows[m, ::every].split(PREDICTED_ROWS)
        mean = torch.cat([self._predict_at(m, self.Z[rows])[0] for rows in parts], dim=-1)
        standardize_head(self._weights(m).mean, mean.flatten(end_dim=1))

    def write_back(self) -> None:
        """Copy weights and calibration into the models, now that nothing can fail."""
        for m, model in enumerate(self.models):
            if self.loss == "listnet":
                self._standardize_outputs(m)
            model.variance_scale.copy_(self._variance_scale(m))
            pairs = zip(model.network.tensors, self._weights(m).tensors(), strict=True)
            for parameter, value in pairs:
                parameter.copy_(value)
            model.fitted.fill_(True)


def _initial_weights(model: RoMAModel, seed: int) -> StackedWeights:
    r"""New initial weights, without touching those of the model."""
    network = copy.deepcopy(model.network)
    network.reset_parameters(model.network_seeds(seed))
    return network.weights

r"""
What the fitted and the adapted RoMA model share: from network outputs to a BoTorch posterior.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NoReturn

import torch
from botorch.acquisition.objective import PosteriorTransform
from botorch.exceptions import BotorchTensorDimensionError, InputDataError
from botorch.exceptions.errors import UnsupportedError
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior, Posterior
from gpytorch.distributions import MultitaskMultivariateNormal, MultivariateNormal
from linear_operator.operators import DiagLinearOperator
from torch import Tensor

from botorch_roma.limits import check_memory
from botorch_roma.validation import check_finite


class ProxyModel(Model):
    r"""Base class of ``RoMAModel`` and ``AdaptedRoMAModel``.

    A subclass provides ``_member_moments`` on standardised inputs, and the buffers
    ``x_mean``, ``x_std`` (``d``), ``y_mean``, ``y_std``, ``variance_scale`` (``m``).
    """

    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor
    variance_scale: Tensor

    @abstractmethod
    def _member_moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and head variance of every member at standardised inputs.

        Args:
            Z: Standardised inputs, ``batch x q x d``.

        Returns:
            Two tensors ``E x batch' x q x m`` in units of the standardised outcome, where
            ``batch'`` is ``batch`` broadcast with :attr:`batch_shape`.
        """

    @property
    def num_outputs(self) -> int:
        """The number of outputs ``m``."""
        return int(self.y_mean.shape[0])

    def standardize_inputs(self, X: Tensor) -> Tensor:
        r"""User's inputs ``... x d`` to standardised network inputs (input transform, z-score).

        Raises:
            BotorchTensorDimensionError: If ``X`` has another number of columns than the model.
        """
        X_tf = self.transform_inputs(X)
        if X_tf.shape[-1] != self.x_mean.shape[0]:  # one column would broadcast
            raise BotorchTensorDimensionError(
                f"`X` must have shape ... x {self.x_mean.shape[0]} after the input transform, "
                f"received {tuple(X.shape)}."
            )
        return (X_tf - self.x_mean) / self.x_std

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: PosteriorTransform | None = None,
    ) -> Posterior:
        r"""Gaussian posterior, independent over points and outputs.

        The mean is the mean over ensemble members. The variance is the variance that the heads
        predict (calibrated on held-out rows, see :func:`~botorch_roma.fit.fit_roma_model`) plus
        the variance of the members' means. The covariance is diagonal, so thousands of joint
        points are cheap.

        Args:
            X: Inputs, ``batch x q x d``.
            output_indices: Outputs to keep; all by default.
            observation_noise: The head variance is the model's predictive variance and is part
                of the posterior either way; a tensor of noise levels is not supported.
            posterior_transform: An optional posterior transform.

        Returns:
            A :class:`~botorch.posteriors.GPyTorchPosterior`, or whatever the outcome transform
            and the posterior transform make of it.

        Raises:
            UnsupportedError: If ``observation_noise`` is a tensor.
            InputDataError: If ``X`` holds NaN or infinite values, or lies where the prediction
                overflows. Not where ``X`` requires a gradient: optimisers look at their values.
            ValueError: If ``X`` does not fit into the memory.
        """
        self.eval()
        if not isinstance(X, Tensor):
            raise InputDataError(f"`X` must be a torch.Tensor, received {type(X).__name__}.")
        if isinstance(observation_noise, Tensor):
            raise UnsupportedError(
                f"{type(self).__name__} does not support `observation_noise` as a tensor, received "
                f"shape {tuple(observation_noise.shape)}; pass True or False."
            )
        rows, width = X.shape[:-1].numel(), self.x_mean.shape[0]
        check_memory(
            f"`X` of shape {tuple(X.shape)}: standardising it to {rows} x {width} numbers",
            rows * width * X.element_size(),
            "pass fewer designs at a time",
            X.device,
        )
        means, variances = self._member_moments(self.standardize_inputs(X))
        variance = (variances * self.variance_scale).mean(dim=0)
        if means.shape[0] > 1:
            variance = variance + means.var(dim=0, correction=0)
        mean = means.mean(dim=0) * self.y_std + self.y_mean
        variance = variance * self.y_std.square()
        check_predictions(mean + variance, X)
        posterior: Any = independent_posterior(mean, variance)
        transform: Any = getattr(self, "outcome_transform", None)
        if output_indices is not None:  # before the outcome is untransformed, it may be no Gaussian
            posterior = select_outputs(posterior, output_indices)
            if transform is not None:
                kept = [i % self.num_outputs for i in output_indices]
                transform = transform.subset_output(idcs=kept)
        if transform is not None:
            # BoTorch's own transforms know this very type only
            posterior = GPyTorchPosterior(distribution=posterior.distribution)
            posterior = transform.untransform_posterior(posterior, X=X)
        if posterior_transform is not None:
            return posterior_transform(posterior=posterior, X=X)
        return posterior

    def eval(self) -> ProxyModel:
        """Evaluation mode; training inputs are kept untransformed, so nothing else happens."""
        return super(Model, self).eval()

    def train(self, mode: bool = True) -> ProxyModel:
        """Training mode, but for the transforms: they have learned from the training data."""
        super(Model, self).train(mode)
        for name in ("input_transform", "outcome_transform"):
            if hasattr(self, name):
                getattr(self, name).eval()
        return self

    def condition_on_observations(self, X: Tensor, Y: Tensor, **kwargs: Any) -> NoReturn:
        """Not supported: a network is not conditioned, it is trained again.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            f"{type(self).__name__} cannot be conditioned on new observations (shape "
            f"{tuple(X.shape)}); build a new RoMAModel with all rows and fit it."
        )

    def fantasize(self, X: Tensor, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported, as :meth:`condition_on_observations`.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            f"{type(self).__name__} does not support fantasies (requested at shape "
            f"{tuple(X.shape)}); use an acquisition function without look-ahead."
        )


class IndependentPosterior(GPyTorchPosterior):
    r"""A Gaussian posterior whose variances are what they are.

    GPyTorch takes those below 1e-10 (1e-6 in single precision) for failed decompositions and lifts
    them, which is wrong by orders of magnitude for outcomes of a small scale.
    """

    def __init__(self, distribution: MultivariateNormal, variance: Tensor) -> None:
        super().__init__(distribution=distribution)
        self._variance = variance

    @property
    def variance(self) -> Tensor:
        r"""The variance, ``batch x q x m``."""
        return self._variance


def check_predictions(values: Tensor, X: Tensor) -> None:
    r"""Raise ``InputDataError`` if something predicted at ``X`` is not finite.

    Not where ``X`` requires a gradient, so that the steps of an optimiser never wait for a GPU.
    """
    if X.requires_grad or bool(torch.isfinite(values).all()):
        return
    check_finite("X", X)
    raise InputDataError(
        f"`X` lies too far from the data, or where the input transform is not defined: for its "
        f"values, {X.min().item():g} to {X.max().item():g}, the prediction is not finite in "
        f"{X.dtype}; keep to the range of `train_X`."
    )


def independent_posterior(mean: Tensor, variance: Tensor) -> GPyTorchPosterior:
    r"""A posterior with mean and variance ``batch x q x m`` and diagonal covariance."""
    if mean.shape[-1] == 1:
        mvn = MultivariateNormal(mean.squeeze(-1), DiagLinearOperator(variance.squeeze(-1)))
    else:
        diagonal = DiagLinearOperator(variance.reshape(*variance.shape[:-2], -1))
        mvn = MultitaskMultivariateNormal(mean, diagonal)  # interleaved: point-major
    return IndependentPosterior(mvn, variance)


def select_outputs(posterior: Any, output_indices: list[int]) -> Posterior:
    r"""Keep some outputs of an independent posterior."""
    num_outputs = posterior.mean.shape[-1]
    if any(not -num_outputs <= i < num_outputs for i in output_indices):
        raise ValueError(
            f"`output_indices` must be within the {num_outputs} outputs of the model, "
            f"received {output_indices}."
        )
    index = torch.as_tensor(output_indices, device=posterior.mean.device)
    return independent_posterior(
        posterior.mean.index_select(-1, index % num_outputs),
        posterior.variance.index_select(-1, index % num_outputs),
    )

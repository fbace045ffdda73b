r"""
``RoMAModel``: the robust proxy of RoMA as a BoTorch model.

References:

.. [Yu2021roma]
    S. Yu, S. Ahn, L. Song, and J. Shin. RoMA: Robust Model Adaptation for Offline
    Model-based Optimization. Advances in Neural Information Processing Systems 34, 2021.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from botorch.exceptions import InputDataError
from botorch.exceptions.warnings import InputDataWarning
from botorch.models.transforms.input import InputTransform
from botorch.models.transforms.outcome import OutcomeTransform
from botorch.utils.datasets import SupervisedDataset
from torch import Tensor
from torch.nn import Parameter, ParameterList

from botorch_roma.chunks import chunks, column_std, transformed_moments
from botorch_roma.latent.encoding import Encoding
from botorch_roma.limits import check_memory
from botorch_roma.mapped import temporary_table
from botorch_roma.models.base import ProxyModel, check_predictions
from botorch_roma.network import ProxyNetwork, check_architecture
from botorch_roma.validation import (
    check_flag,
    check_int,
    check_noise_variances,
    check_seed,
    check_training_data,
    warn_constant_columns,
)


def _may_learn(transform: InputTransform) -> bool:
    r"""Whether an input transform may learn from the data that it is first applied to."""
    return any(
        getattr(part, "learn_coefficients", not type(part).__module__.startswith(_LEARN_NOTHING))
        for part in transform.modules()
    )


#: Modules whose input transforms learn nothing, but for those with ``learn_coefficients``.
_LEARN_NOTHING = ("botorch.models.transforms.input", "botorch_roma.latent.", "torch.nn.")


def _check_encoded_size(train_X: Tensor, encoded_dim: int, copy: bool) -> None:
    n = train_X.shape[0] if copy else 1
    check_memory(
        f"The encoding of `train_X`, {n} rows of {encoded_dim} columns,",
        n * encoded_dim * train_X.element_size(),
        "pass `copy=False`, fewer rows, or another encoding",
        train_X.device,
    )


def _check_scale(name: str, mean: Tensor, std: Tensor, transform: object) -> None:
    r"""Raise where a transform made values that are not finite, or squares over- or underflow."""
    info = torch.finfo(std.dtype)
    lowest, highest = info.tiny**0.5, info.max**0.5
    bad = ~torch.isfinite(mean + std) | (std >= highest) | ((std < lowest) & (std > 0))
    if bad.any():
        i = int(bad.nonzero()[0])
        raise InputDataError(
            f"`{name}` cannot be z-scored: {'after its transform ' if transform else ''}column {i} "
            f"has mean {mean[i].item():g} and standard deviation {std[i].item():g}, which must lie "
            f"between {lowest:.0e} and {highest:.0e} in {std.dtype}; rescale the column."
        )


def _check_transform(name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise ValueError(
            f"`{name}` must be of BoTorch's type {kind.__name__}, or None, received {value!r}."
        )


def check_copy(train_X: Tensor) -> None:
    """Raise ``ValueError`` if a copy of the designs does not fit into the memory."""
    check_memory(
        f"A copy of `train_X`, of shape {tuple(train_X.shape)},",
        train_X.numel() * train_X.element_size(),
        "pass `copy=False`, or fewer rows",
        train_X.device,
    )


def check_model(name: str, value: object) -> None:
    """Raise ``ValueError`` if ``value`` is no :class:`RoMAModel`."""
    if not isinstance(value, RoMAModel):
        raise ValueError(f"`{name}` must be a RoMAModel, received {type(value).__name__}.")


class RoMAModel(ProxyModel):
    r"""An ensemble of MLP proxies for an offline dataset [Yu2021roma]_.

    ``num_members`` networks with different seeds form one model, and each of the ``m`` outputs
    has independent networks. Inputs and outcomes are z-scored inside the model (after the
    transforms, if there are any), which is the scale that the radii, the noise and the step
    sizes of RoMA refer to. Train it with :func:`~botorch_roma.fit.fit_roma_model`.

    Prefer ``double``: BoTorch's analytic acquisition functions cast a model to the dtype of
    the points they are evaluated at. All weights live in the module tree and follow.

    Args:
        train_X: Designs, ``n x d``, in the user's space.
        train_Y: Measured outcomes, ``n x m``; larger is better, as everywhere in BoTorch.
        input_transform: Applied to the inputs before z-scoring; none by default. An
            :class:`~botorch_roma.latent.Encoding` makes designs tokens.
        outcome_transform: Applied to the outcomes before z-scoring; none by default.
        train_Yvar: Known variances of the measurement noise, ``n x m``; the noisier a
            measurement, the less it counts. None by default: all noise is learned from the data.
        hidden_sizes: Width of every hidden layer.
        num_members: Number of ensemble members.
        activation: ``"softplus"``, ``"silu"``, ``"tanh"`` or ``"leaky_relu"``.
        seed: Seed of the initial weights, which a fit draws anew from its own seed; member ``i``
            gets ``seed + i``.
        copy: False keeps the tensors that are handed in, which may be mapped from a file
            (:mod:`botorch_roma.mapped`) and must not be changed afterwards. Neither stage makes a
            copy of ``train_X`` then, and deep copies of the model share it. Rows are standardised
            minibatch by minibatch; the results are the same but for rounding.

    Raises:
        InputDataError: NaN, infinite or constant outcomes, negative variances, fewer than two
            rows, dtype mismatch.
        BotorchTensorDimensionError: Shapes that do not fit.
        ValueError: Layer widths, activation or number of members out of range; a copy that does
            not fit into the memory.

    Example:
        >>> model = RoMAModel(train_X, train_Y)
        >>> history = fit_roma_model(model, seed=0)
        >>> posterior = model.posterior(test_X)
    """

    def __init__(
        self,
        train_X: Tensor,
        train_Y: Tensor,
        input_transform: InputTransform | None = None,
        outcome_transform: OutcomeTransform | None = None,
        *,
        train_Yvar: Tensor | None = None,
        hidden_sizes: Sequence[int] = (64, 64),
        num_members: int = 1,
        activation: str = "softplus",
        seed: int = 0,
        copy: bool = True,
    ) -> None:
        super().__init__()
        if copy and isinstance(train_X, Tensor):  # it may be a file; before that is read
            check_copy(train_X)
        check_training_data(train_X, train_Y)
        if not isinstance(input_transform, Encoding):  # of its constant tokens a model sees nothing
            warn_constant_columns(train_X)
        self.num_members = check_int("num_members", num_members, minimum=1)
        self.seed = check_seed("seed", seed)
        self.copies_data = check_flag("copy", copy)
        _check_transform("input_transform", input_transform, InputTransform)
        _check_transform("outcome_transform", outcome_transform, OutcomeTransform)
        d = train_X.shape[1]
        if isinstance(input_transform, Encoding):
            d = input_transform.encoded_dim
            _check_encoded_size(train_X, d, copy)
        networks = self.num_members * train_Y.shape[1]
        check_architecture(d, hidden_sizes, networks, activation, train_X.element_size())
        if train_Yvar is not None:
            check_noise_variances(train_Yvar, train_Y)
        data = {"train_X": train_X, "train_Y": train_Y, "train_Yvar": train_Yvar}
        for name, value in data.items():
            if value is not None:
                value = value.detach().clone() if copy else value.detach()
            # not persistent: the state dict must load into a model that was built on other rows
            self.register_buffer(name, value, persistent=False)
        with torch.no_grad():
            x_mean, x_std = self._input_moments(input_transform)
            Y_tf = self.train_Y
            if outcome_transform is not None:
                outcome_transform.to(train_Y)
                Y_tf, _ = outcome_transform(self.train_Y, self.train_Yvar, X=self.train_X)
                self.outcome_transform = outcome_transform.eval()
        y_mean, y_std = Y_tf.mean(dim=0), column_std(Y_tf)
        moments = (
            ("x", x_mean, x_std, input_transform),
            ("y", y_mean, y_std, outcome_transform),
        )
        for name, mean, std, transform in moments:
            _check_scale(f"train_{name.upper()}", mean, std, transform)
            self.register_buffer(f"{name}_mean", mean)
            self.register_buffer(f"{name}_std", torch.where(std != 0, std, torch.ones_like(std)))
        self.register_buffer("variance_scale", torch.ones_like(self.y_mean))
        self.register_buffer("fitted", torch.tensor(False))
        self.network = ProxyNetwork(
            x_mean.shape[0],
            hidden_sizes,
            num_networks=self.num_members * train_Y.shape[1],
            activation=activation,
            seeds=self.network_seeds(self.seed, train_Y.shape[1]),
        )
        self.to(train_X)

    train_X: Tensor
    train_Y: Tensor
    train_Yvar: Tensor | None
    fitted: Tensor

    def _input_moments(self, transform: InputTransform | None) -> tuple[Tensor, Tensor]:
        r"""Mean and standard deviation of the transformed inputs; keeps the transform."""
        if transform is None:
            return self.train_X.mean(dim=0), column_std(self.train_X)
        if self.copies_data or _may_learn(transform):
            self.transform_inputs(self.train_X, transform)
        self.input_transform = transform.to(self.train_X).eval()  # it has learned, now apply it
        if self.copies_data:
            X_tf = self.transform_inputs(self.train_X)
            return X_tf.mean(dim=0), column_std(X_tf)
        return transformed_moments(self.train_X, self.transform_inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> RoMAModel:
        r"""A deep copy; data that were not copied when the model was made are shared."""
        if not self.copies_data:
            memo.update({id(t): t for t in (self.train_X, self.train_Y, self.train_Yvar)})
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__dict__, memo))
        return new

    def network_seeds(self, seed: int, num_outputs: int | None = None) -> list[int]:
        r"""One seed per network: member ``e`` and output ``k`` get ``seed + e`` and a salt."""
        m = self.num_outputs if num_outputs is None else num_outputs
        return [seed + e + 1_000_003 * k for e in range(self.num_members) for k in range(m)]

    @property
    def train_inputs(self) -> tuple[Tensor]:
        r"""The designs, ``n x d``, in the user's space, as a one-tuple (BoTorch's convention)."""
        return (self.train_X,)

    @property
    def train_targets(self) -> Tensor:
        r"""The measured outcomes, ``n x m``, in the user's space."""
        return self.train_Y

    @property
    def batch_shape(self) -> torch.Size:
        """No batch dimensions of its own."""
        return torch.Size()

    @property
    def is_fitted(self) -> bool:
        """Whether the weights come from :func:`~botorch_roma.fit.fit_roma_model`."""
        return bool(self.fitted)

    def standardize_outcomes(self, Y: Tensor, X: Tensor | None = None) -> Tensor:
        r"""User's outcomes ``... x m`` to standardised ones (outcome transform, z-score)."""
        if hasattr(self, "outcome_transform"):
            Y, _ = self.outcome_transform(Y, X=X)
        return (Y - self.y_mean) / self.y_std

    def unstandardize_outcomes(self, Y: Tensor) -> Tensor:
        r"""The inverse of :meth:`standardize_outcomes`, for ``... x m`` on any device."""
        Y = Y.to(self.y_mean) * self.y_std + self.y_mean
        return self.outcome_transform.untransform(Y)[0] if hasattr(self, "outcome_transform") else Y

    def standardized_noise_variances(self) -> Tensor | None:
        r"""Known noise variances ``n x m`` in units of the standardised outcome, if there are."""
        Yvar = self.train_Yvar
        if Yvar is not None and hasattr(self, "outcome_transform"):
            _, Yvar = self.outcome_transform(self.train_Y, Yvar, X=self.train_X)
        return None if Yvar is None else Yvar / self.y_std.square()

    def _member_moments(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        means, log_stds = self.network(Z.reshape(-1, Z.shape[-1]))
        shape = (self.num_members, self.num_outputs, *Z.shape[:-1])
        means, log_stds = (t.reshape(shape).movedim(1, -1) for t in (means, log_stds))
        return means, torch.exp(2.0 * log_stds)

    def forward(self, X: Tensor) -> Tensor:
        r"""Predictions of all members before the outcome is untransformed.

        Args:
            X: Inputs, ``batch x q x d``.

        Returns:
            ``E x batch x q x m`` in the space of the (transformed) outcome.

        Raises:
            InputDataError: As by ``posterior``.
        """
        means, _ = self._member_moments(self.standardize_inputs(X))
        means = means * self.y_std + self.y_mean
        check_predictions(means, X)
        return means

    @torch.no_grad()
    def member_spread(self, X: Tensor) -> Tensor:
        r"""How far the members of the ensemble differ, in standard deviations of the outcome.

        Args:
            X: Designs, ``n x d``.

        Returns:
            The standard deviation of what they predict, the largest of all outputs, ``n``: zeros
            for a model with one member.
        """
        mean = self.network(self.standardize_inputs(X))[0]
        members = mean.view(self.num_members, self.num_outputs, -1)
        return members.std(dim=0, correction=0).amax(dim=0)

    def encoded(self) -> RoMAModel:
        r"""A copy whose inputs are what the input transform makes of designs.

        Networks and outcomes are the same; ``train_X`` holds the transformed designs: in a
        temporary file, where those of this model were not copied.
        """
        new = copy.deepcopy(self)
        if hasattr(self, "input_transform"):
            with torch.no_grad():
                if self.copies_data or self.train_X.device.type != "cpu":
                    new.train_X = self.transform_inputs(self.train_X).detach()
                else:
                    parts = (self.transform_inputs(chunk) for chunk in chunks(self.train_X))
                    new.train_X = temporary_table(parts)
            del new.input_transform
        return new

    def subset_output(self, idcs: list[int]) -> RoMAModel:
        r"""A copy of the model with some of its outputs.

        Args:
            idcs: Indices of the outputs to keep.

        Raises:
            ValueError: If an index is out of range.
        """
        m = self.num_outputs
        if not idcs or any(not -m <= i < m for i in idcs):
            raise ValueError(
                f"`idcs` must be within the {m} outputs of the model, received {idcs}."
            )
        outputs = [i % m for i in idcs]
        new = self._select([e * m + k for e in range(self.num_members) for k in outputs])
        new.train_Y = self.train_Y[:, outputs].clone()
        if self.train_Yvar is not None:
            new.train_Yvar = self.train_Yvar[:, outputs].clone()
        for name in ("y_mean", "y_std", "variance_scale"):
            setattr(new, name, getattr(self, name)[outputs].clone())
        if hasattr(self, "outcome_transform"):
            new.outcome_transform = self.outcome_transform.subset_output(idcs=outputs)
        return new

    def subset_members(self, idcs: list[int]) -> RoMAModel:
        r"""A copy of the model with some of its ensemble members.

        Args:
            idcs: Indices of the members to keep.

        Raises:
            ValueError: If an index is out of range.
        """
        if not idcs or any(not 0 <= i < self.num_members for i in idcs):
            raise ValueError(
                f"`idcs` must be within the {self.num_members} members of the model, "
                f"received {idcs}."
            )
        m = self.num_outputs
        new = self._select([e * m + k for e in idcs for k in range(m)])
        new.num_members = len(idcs)
        return new

    def _select(self, networks: list[int]) -> RoMAModel:
        r"""A deep copy whose stack holds only the given networks."""
        new = copy.deepcopy(self)
        new.network.num_networks = len(networks)
        new.network.tensors = ParameterList(
            [Parameter(t.detach()[networks].clone()) for t in self.network.tensors]
        )
        return new

    @classmethod
    def construct_inputs(cls, training_data: SupervisedDataset, **kwargs: Any) -> dict[str, Any]:
        r"""Constructor arguments from a dataset; model options among ``kwargs`` are passed on.

        Args:
            training_data: Designs, outcomes and, if known, the variances of their noise.
            kwargs: ``hidden_sizes``, ``num_members``, ``activation``, ``seed`` and ``copy`` are
                passed on, anything else (Ax offers ``categorical_features``, ``task_feature``, ...)
                is not.
        """
        inputs = super().construct_inputs(training_data)
        Yvar: Any = inputs.get("train_Yvar")
        if Yvar is not None and bool(torch.isnan(Yvar).any()):
            warnings.warn(
                f"{int(torch.isnan(Yvar).sum())} of {Yvar.numel()} measurements have no known "
                "noise variance (standard error); the known ones are not used either.",
                InputDataWarning,
                stacklevel=2,
            )
            del inputs["train_Yvar"]
        known = ("hidden_sizes", "num_members", "activation", "seed", "copy")
        return {**inputs, **{key: kwargs[key] for key in known if key in kwargs}}

r"""
The proxy network of RoMA: a small MLP with a mean head and a log-std head.

Everything here works on *stacks* of networks, so that ensemble members, outputs and the
per-candidate weight sets of the adaptation are evaluated in one batched computation. The
closed-form input gradient needs the first derivative of the activation, the closed-form
adaptation (:mod:`botorch_roma.closed_form`) also needs the second.

References:

.. [Yu2021roma]
    S. Yu, S. Ahn, L. Song, and J. Shin. RoMA: Robust Model Adaptation for Offline
    Model-based Optimization. Advances in Neural Information Processing Systems 34, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Module, Parameter, ParameterList
from torch.nn import functional as F

from botorch_roma.limits import check_memory

MIN_LOG_STD: float = math.log(0.1)
MAX_LOG_STD: float = math.log(0.3)


class Activation(NamedTuple):
    r"""An activation function with its first two derivatives.

    Attributes:
        value: ``z -> phi(z)``; differentiable by autograd.
        value_and_slope: ``z -> (phi(z), phi'(z))``.
        curvature: ``(z, phi(z), phi'(z)) -> phi''(z)``; may reuse what is already there.
    """

    value: Callable[[Tensor], Tensor]
    value_and_slope: Callable[[Tensor], tuple[Tensor, Tensor]]
    curvature: Callable[[Tensor, Tensor, Tensor], Tensor]


def _softplus(z: Tensor) -> tuple[Tensor, Tensor]:
    # softplus(z) = z - log(sigmoid(z)), at half the cost of log1p(exp(z)); -80 is 0 to any digit
    z = z.clamp_min(-80.0)
    slope = torch.sigmoid(z)
    return torch.sub(z, torch.log(slope)), slope


def _softplus_curvature(z: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    return slope - slope * slope


def _silu(z: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(z)
    value = z * s
    return value, s + value * (1.0 - s)


def _silu_curvature(z: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1.0 - s) * (2.0 + z - 2.0 * z * s)


def _tanh(z: Tensor) -> tuple[Tensor, Tensor]:
    t = torch.tanh(z)
    return t, 1.0 - t * t


def _tanh_curvature(z: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    return -2.0 * value * slope


#: Slope of the leaky ReLU below 0.
LEAK: float = 0.3


def _leaky_relu(z: Tensor) -> tuple[Tensor, Tensor]:
    slope = torch.where(z > 0, z.new_ones(()), z.new_full((), LEAK))
    return z * slope, slope


#: Activations by name. Anything with two derivatives can be added here.
ACTIVATIONS: dict[str, Activation] = {
    "softplus": Activation(F.softplus, _softplus, _softplus_curvature),
    "silu": Activation(F.silu, _silu, _silu_curvature),
    "tanh": Activation(torch.tanh, _tanh, _tanh_curvature),
    "leaky_relu": Activation(
        lambda z: F.leaky_relu(z, LEAK), _leaky_relu, lambda z, value, slope: torch.zeros_like(z)
    ),
}


class Layer(NamedTuple):
    r"""One affine layer of a stack: ``weight`` is ``S x out x in``, ``bias`` is ``S x out``."""

    weight: Tensor
    bias: Tensor

    def linear(self, h: Tensor) -> Tensor:
        r"""``W h`` of every network, ``S x N x in -> S x N x out``."""
        return torch.bmm(h, self.weight.mT)

    def transposed(self, q: Tensor) -> Tensor:
        r"""``W^T q`` of every network, ``S x N x out -> S x N x in``."""
        return torch.bmm(q, self.weight)


class FactoredLayer(NamedTuple):
    r"""A layer of ``S * C`` networks, network-major, that differ from ``S`` by a low rank.

    The weight of the ``c``-th of the ``C`` networks that go back to one is
    ``weight + left[c]^T right[c]``, which is never formed: the products with ``weight`` are
    those of one matrix with many vectors.

    Attributes:
        weight: ``S x out x in``.
        bias: ``S * C x out``.
        left: ``S * C x R x out``.
        right: ``S * C x R x in``.
    """

    weight: Tensor
    bias: Tensor
    left: Tensor
    right: Tensor

    def linear(self, h: Tensor) -> Tensor:
        r"""``W h`` of every network, ``S * C x N x in -> S * C x N x out``."""
        return self._multiply(h, self.weight.mT, self.right, self.left)

    def transposed(self, q: Tensor) -> Tensor:
        r"""``W^T q`` of every network, ``S * C x N x out -> S * C x N x in``."""
        return self._multiply(q, self.weight, self.left, self.right)

    def dense(self) -> Layer:
        r"""The same with the weights formed, ``S * C x out x in``."""
        weight = self.weight.repeat_interleave(len(self.bias) // len(self.weight), dim=0)
        return Layer(weight.baddbmm_(self.left.mT, self.right), self.bias)

    def _multiply(self, h: Tensor, common: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
        product = torch.bmm(h.reshape(len(common), -1, h.shape[-1]), common)
        product = product.view(*h.shape[:-1], -1)
        if not self.left.shape[1]:
            return product
        return product.baddbmm_(torch.bmm(h, inner.mT), outer)


#: The weights of a layer, one set for each candidate, in either form.
AnyLayer = Layer | FactoredLayer


class StackedWeights(NamedTuple):
    r"""The weights of ``S`` networks of the same architecture.

    Attributes:
        hidden: The hidden layers, first to last; those of adapted networks may be factored.
        mean: The mean head, ``out = 1``.
        log_std: The head of the unbounded log standard deviation, ``out = 1``.
    """

    hidden: tuple[AnyLayer, ...]
    mean: Layer
    log_std: Layer

    @property
    def layers(self) -> tuple[AnyLayer, ...]:
        """All layers: the hidden ones, the mean head, the log-std head."""
        return (*self.hidden, self.mean, self.log_std)

    def tensors(self) -> Iterator[Tensor]:
        """All tensors in a fixed order: weight, then bias, layer by layer."""
        for layer in self.layers:
            yield from layer

    @classmethod
    def from_tensors(cls, tensors: Sequence[Tensor]) -> StackedWeights:
        """Inverse of :meth:`tensors` where no layer is factored."""
        layers = [Layer(w, b) for w, b in zip(tensors[::2], tensors[1::2], strict=True)]
        return cls(tuple(layers[:-2]), layers[-2], layers[-1])

    def map(self, function: Callable[[Tensor], Tensor]) -> StackedWeights:
        """Apply ``function`` to every tensor; factored layers become what it makes of them."""
        layers = [type(layer)(*(function(t) for t in layer)) for layer in self.layers]
        return StackedWeights.from_layers(layers)

    @classmethod
    def from_layers(cls, layers: Sequence[AnyLayer]) -> StackedWeights:
        """Inverse of :attr:`layers`."""
        *hidden, mean, log_std = layers
        assert isinstance(mean, Layer)
        assert isinstance(log_std, Layer)
        return cls(tuple(hidden), mean, log_std)

    def dense(self) -> StackedWeights:
        """The same with the weights of factored layers formed."""
        hidden = [h.dense() if isinstance(h, FactoredLayer) else h for h in self.hidden]
        return self._replace(hidden=tuple(hidden))


def soft_bound_log_std(raw: Tensor) -> Tensor:
    r"""Bound a log standard deviation softly to about ``(log 0.1, log 0.3)``."""
    upper = MAX_LOG_STD - F.softplus(MAX_LOG_STD - raw)
    return MIN_LOG_STD + F.softplus(upper - MIN_LOG_STD)


def soft_bound_log_std_and_slope(raw: Tensor) -> tuple[Tensor, Tensor]:
    r"""As :func:`soft_bound_log_std`, and its derivative."""
    below = MAX_LOG_STD - raw
    above = (MAX_LOG_STD - MIN_LOG_STD) - F.softplus(below)
    return F.softplus(above) + MIN_LOG_STD, torch.sigmoid(below).mul_(torch.sigmoid(above))


def affine(layer: AnyLayer, h: Tensor) -> Tensor:
    r"""``S x N x in -> S x N x out`` for a stack of layers."""
    if isinstance(layer, FactoredLayer):
        return layer.linear(h).add_(layer.bias.unsqueeze(-2))
    return torch.baddbmm(layer.bias.unsqueeze(-2), h, layer.weight.mT)


def stacked_heads(
    weights: StackedWeights, Z: Tensor, activation: Activation
) -> tuple[Tensor, Tensor]:
    r"""As :func:`stacked_forward`, but with the log-std before its soft bound."""
    h = Z if Z.dim() == 3 else Z.expand(weights.mean.bias.shape[0], *Z.shape)
    for layer in weights.hidden:
        h = activation.value(affine(layer, h))
    return affine(weights.mean, h).squeeze(-1), affine(weights.log_std, h).squeeze(-1)


def stacked_forward(
    weights: StackedWeights, Z: Tensor, activation: Activation
) -> tuple[Tensor, Tensor]:
    r"""Evaluate a stack of networks; differentiable by autograd.

    Args:
        weights: The weights of ``S`` networks.
        Z: Standardised inputs, ``S x N x d``, or ``N x d`` for the same points everywhere.
        activation: The activation function.

    Returns:
        Mean and (softly bounded) log-std, each ``S x N``, in units of the standardised outcome.
    """
    mean, raw = stacked_heads(weights, Z, activation)
    return mean, soft_bound_log_std(raw)


def stacked_input_gradient(
    weights: StackedWeights, Z: Tensor, activation: Activation
) -> tuple[Tensor, Tensor]:
    r"""Mean prediction and its gradient with respect to the inputs, in closed form.

    Args:
        weights: The weights of ``S`` networks.
        Z: Standardised inputs, ``S x N x d``.
        activation: The activation function.

    Returns:
        The mean ``S x N`` and its gradient ``S x N x d``.
    """
    h, slopes = Z, []
    for layer in weights.hidden:
        h, slope = activation.value_and_slope(affine(layer, h))
        slopes.append(slope)
    mean = affine(weights.mean, h).squeeze(-1)
    q = weights.mean.weight
    for layer, slope in zip(reversed(weights.hidden), reversed(slopes), strict=True):
        q = layer.transposed(q * slope)
    return mean, q


def check_architecture(
    input_dim: int,
    hidden_sizes: Sequence[int],
    num_networks: int,
    activation: str,
    itemsize: int = 4,
) -> None:
    r"""Check the arguments of :class:`ProxyNetwork`.

    Args:
        input_dim: Number of inputs ``d``.
        hidden_sizes: Width of every hidden layer.
        num_networks: Number of networks.
        activation: The activation function.
        itemsize: Bytes of a weight.

    Raises:
        ValueError: For an unknown activation, no or non-positive layer widths, and more weights
            than fit into the memory.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"`activation` must be one of {sorted(ACTIVATIONS)}, received {activation!r}."
        )
    try:
        widths = [] if isinstance(hidden_sizes, str) else list(hidden_sizes)
        good = bool(widths) and all(int(h) == h and h >= 1 for h in widths)
    except (TypeError, ValueError, OverflowError):  # a number, texts, infinity
        good = False
    if not good:
        raise ValueError(
            f"`hidden_sizes` must hold at least one positive integer, received {hidden_sizes!r}; "
            "pass for instance (64, 64)."
        )
    sizes = [input_dim, *(int(h) for h in hidden_sizes), 2]
    weights = num_networks * sum((a + 1) * b for a, b in pairwise(sizes))
    networks = "a network" if num_networks == 1 else f"{num_networks} networks"
    check_memory(
        f"`hidden_sizes` is {tuple(hidden_sizes)}: {networks} with {input_dim} inputs",
        weights * itemsize,
        "choose narrower layers or fewer members",
    )


class ProxyNetwork(Module):
    r"""A stack of ``num_networks`` independent MLPs with mean and log-std heads.

    Args:
        input_dim: Number of inputs ``d``.
        hidden_sizes: Width of every hidden layer, at least one.
        num_networks: Number of networks in the stack, ``S``.
        activation: A key of :data:`ACTIVATIONS`.
        seeds: One seed per network for the initial weights; ``0, 1, ...`` by default.

    Raises:
        ValueError: For an unknown activation, no or non-positive layer widths.

    Example:
        >>> network = ProxyNetwork(input_dim=3, hidden_sizes=(64, 64), num_networks=2)
        >>> mean, log_std = network(torch.rand(5, 3))  # 2 x 5 each
    """

    def __init__(
        self,
        input_dim: int,
        hidden_sizes: Sequence[int] = (64, 64),
        *,
        num_networks: int = 1,
        activation: str = "softplus",
        seeds: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_architecture(input_dim, hidden_sizes, num_networks, activation)
        self.activation_name = activation
        self.hidden_sizes = tuple(int(h) for h in hidden_sizes)
        self.input_dim, self.num_networks = input_dim, num_networks
        sizes = (input_dim, *self.hidden_sizes)
        shapes = [*zip(sizes[1:], sizes[:-1], strict=True), (1, sizes[-1]), (1, sizes[-1])]
        self.tensors = ParameterList()
        for fan_out, fan_in in shapes:
            self.tensors.append(Parameter(torch.empty(num_networks, fan_out, fan_in)))
            self.tensors.append(Parameter(torch.empty(num_networks, fan_out)))
        self.reset_parameters(seeds)

    def reset_parameters(self, seeds: Sequence[int] | None = None) -> None:
        r"""Draw new weights: Glorot uniform, biases zero, log-std head zero.

        The zero log-std head starts every network at one constant noise level, and stays
        there where the loss does not train it (squared error).

        Args:
            seeds: One seed per network; equal seeds give equal networks.

        Raises:
            ValueError: If there is not exactly one seed per network.
        """
        seeds = range(self.num_networks) if seeds is None else seeds
        if len(seeds) != self.num_networks:
            raise ValueError(
                f"`seeds` must hold one seed for each of the {self.num_networks} networks, "
                f"received {list(seeds)}."
            )
        with torch.no_grad():
            for tensor in self.tensors:
                tensor.zero_()
            for s, seed in enumerate(seeds):
                # drawn on the CPU in double, so that the draw does not depend on the device
                generator = torch.Generator().manual_seed(int(seed))
                for tensor in list(self.tensors)[:-2:2]:
                    fan_out, fan_in = tensor.shape[1:]
                    limit = math.sqrt(6.0 / (fan_in + fan_out))
                    draw = torch.rand(
                        fan_out, fan_in, generator=generator, dtype=torch.double, device="cpu"
                    )
                    tensor[s] = ((2.0 * draw - 1.0) * limit).to(tensor)

    @property
    def activation(self) -> Activation:
        """The activation function with its derivatives."""
        return ACTIVATIONS[self.activation_name]

    @property
    def weights(self) -> StackedWeights:
        """The parameters as a :class:`StackedWeights` (no copy)."""
        return StackedWeights.from_tensors(list(self.tensors))

    def forward(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and log-std, each ``S x N``, at ``Z`` (``N x d`` or ``S x N x d``)."""
        return stacked_forward(self.weights, Z, self.activation)

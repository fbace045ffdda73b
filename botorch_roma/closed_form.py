r"""
Closed-form gradients of both stages of RoMA.

For an MLP ``h_0 = x``, ``z_l = W_l h_{l-1} + b_l``, ``h_l = phi(z_l)``, ``f = w . h_{L-1} + b``,
the adaptation objective of [Yu2021roma]_

    J(theta~) = ||grad_x f(x; theta~)||_2 + alpha * (f(x; theta~) - y)^2

needs the derivative of an input gradient with respect to the weights. Autograd gets it by a double
backward pass; written out, it takes two passes down and two up through the network, and every
weight gradient is a sum of two outer products,

    down    delta_l = q_l * phi'(z_l),         q_{l-1} = W_l^T delta_l,      q_0 = grad_x f
    up      a_l = W_l p_{l-1},                 p_l = a_l * phi'(z_l),        p_0 = q_0 / ||q_0||
    down    e_l = a_l * q_l * phi''(z_l) + (W_{l+1}^T e_{l+1}) * phi'(z_l),  e_L = dJ/df
    so      dJ/dW_l = delta_l p_{l-1}^T + e_l h_{l-1}^T,                     dJ/db_l = e_l,

which holds for the linear head too, with ``delta_L = 1``. Nothing here knows BoTorch: weights are
stacks (:class:`~botorch_roma.network.StackedWeights`), one network for each of ``S`` slices, with
``N`` points a network. ``N = 1`` is the per-candidate form, ``N = B`` the shared one.
:mod:`botorch_roma.reference` holds the same by autograd, as the specification; the loop around
the adaptation gradient is :mod:`botorch_roma.inner_loop`.

.. [Cao2007listnet]
    Z. Cao, T. Qin, T.-Y. Liu, M.-F. Tsai, and H. Li. Learning to Rank: From Pairwise Approach to
    Listwise Approach. ICML, 2007.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from botorch_roma.conservative import add_penalty
from botorch_roma.network import (
    Activation,
    StackedWeights,
    affine,
    soft_bound_log_std_and_slope,
)

Loss = Literal["nll", "squared_error"]

#: Of stage 1 alone: the ranking loss looks at a minibatch as a whole.
TrainingLoss = Literal["nll", "squared_error", "listnet"]
FirstLayer = Literal["auto", "dense", "reduced"]


class LayerFactors(NamedTuple):
    r"""Gradient of one layer, ``dJ/dW = left^T right`` and ``dJ/db``, for a stack of ``S``.

    Attributes:
        left: ``S x R x out``.
        right: ``S x R x in``.
        bias: ``S x out``.
    """

    left: Tensor
    right: Tensor
    bias: Tensor


def head_gradient(
    mean: Tensor, raw_log_std: Tensor, Y: Tensor, loss: Loss, noise_variance: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Loss of a prediction and its derivatives with respect to the two heads.

    Args:
        mean: Predicted mean, any shape.
        raw_log_std: Log-std before the soft bound, same shape.
        Y: Targets (or pseudo labels), same shape.
        loss: ``"nll"`` (Gaussian negative log-likelihood without its constant) or
            ``"squared_error"``.
        noise_variance: Known variance ``v`` of the measurement noise in ``Y``, same shape. It is
            added to the variance that the head predicts; the squared error is weighed by
            ``1 / (1 + v)``, the precision of a standardised outcome.

    Returns:
        The loss, its derivative in ``mean``, and its derivative in ``raw_log_std`` (None where
        the loss does not see it).
    """
    residual = mean - Y
    if loss == "squared_error":
        if noise_variance is None:
            return residual.square(), 2.0 * residual, None
        weighed = residual / (1.0 + noise_variance)
        return residual * weighed, 2.0 * weighed, None
    log_std, log_std_slope = soft_bound_log_std_and_slope(raw_log_std)
    if noise_variance is not None:
        head = torch.exp(2.0 * log_std)
        total = head + noise_variance
        scaled = residual / total
        squared = residual * scaled
        slope = (1.0 - squared) * (head / total) * log_std_slope
        return 0.5 * (squared + torch.log(total)), scaled, slope
    scaled = residual * torch.exp(-2.0 * log_std)
    squared = residual * scaled
    return 0.5 * squared + log_std, scaled, (1.0 - squared) * log_std_slope


def training_loss(
    mean: Tensor,
    raw_log_std: Tensor,
    Y: Tensor,
    loss: TrainingLoss,
    noise_variance: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Loss of the points of a list, and its derivatives with respect to the two heads.

    ``"listnet"`` [Cao2007listnet]_ is the cross-entropy between ``softmax(Y)`` and
    ``softmax(mean)`` over the list: of the outcomes it sees the differences, of the predictions
    neither their mean nor the log-std head.

    Args:
        mean: Predicted mean, ``... x N``, one list in each line.
        raw_log_std: Log-std before the soft bound, same shape.
        Y: Standardised targets, same shape.
        loss: See above; others point by point, as :func:`head_gradient`.
        noise_variance: As there; not for ``"listnet"``.

    Returns:
        As :func:`head_gradient`, scaled so that the mean over the list is its loss.
    """
    if loss != "listnet":
        return head_gradient(mean, raw_log_std, Y, loss, noise_variance)
    n = Y.shape[-1]
    target, log_share = torch.softmax(Y, dim=-1), torch.log_softmax(mean, dim=-1)
    return -n * target * log_share, n * (log_share.exp() - target), None


def settle_label(mean: Tensor, pseudo_label: Tensor) -> Tensor:
    r"""Pseudo labels, with the prediction itself where the two differ by rounding only.

    A model's own prediction is the usual first label. The bias of the mean head then has the
    gradient zero, but for rounding, which a normalised step would blow up to its full length.
    """
    rounding = 256.0 * torch.finfo(mean.dtype).eps * (1.0 + pseudo_label.abs())
    return torch.where((mean - pseudo_label).abs() <= rounding, mean.detach(), pseudo_label)


def training_gradient(
    weights: StackedWeights,
    Z: Tensor,
    Y: Tensor,
    *,
    loss: TrainingLoss,
    activation: Activation,
    out: StackedWeights,
    noise_variance: Tensor | None = None,
    first: Tensor | None = None,
    conservatism: float = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""Training loss of each network, whose mean over the points counts, and its gradient.

    Args:
        weights: The weights of ``S`` networks.
        Z: Standardised inputs, ``S x N x d``; with ``conservatism`` the designs reached from them
            below, ``S x 2N x d``.
        Y: Standardised targets, ``S x N``.
        loss: See :func:`training_loss`.
        activation: The activation function.
        out: Tensors that receive the gradient in all weights, shaped as ``weights``.
        noise_variance: Known variance of the noise in ``Y``, ``S x N``.
        first: What the first activation is applied to, a line for each of ``Z``, where it is known.
            The weight of the first layer is not looked at then, and receives no gradient.
        conservatism: Weight of the penalty of :mod:`botorch_roma.conservative`.

    Returns:
        The loss of each point, ``S x N``, and the gradient of its mean in ``first``.
    """
    h, slopes = [Z], []
    for i, layer in enumerate(weights.hidden):
        z = first if i == 0 and first is not None else affine(layer, h[-1])
        value, slope = activation.value_and_slope(z)
        h.append(value)
        slopes.append(slope)
    mean, raw = (affine(head, h[-1]).squeeze(-1) for head in (weights.mean, weights.log_std))
    n = Y.shape[-1]
    value, d_mean, d_raw = training_loss(mean[:, :n], raw[:, :n], Y, loss, noise_variance)
    if conservatism:
        value, d_mean, d_raw = add_penalty(value, d_mean, d_raw, mean, conservatism)
    e_mean = (d_mean / n).unsqueeze(-1)
    back = e_mean * weights.mean.weight
    torch.bmm(e_mean.mT, h[-1], out=out.mean.weight)
    torch.sum(e_mean, dim=1, out=out.mean.bias)
    if d_raw is None:
        out.log_std.weight.zero_()
        out.log_std.bias.zero_()
    else:
        e_raw = (d_raw / n).unsqueeze(-1)
        back = back + e_raw * weights.log_std.weight
        torch.bmm(e_raw.mT, h[-1], out=out.log_std.weight)
        torch.sum(e_raw, dim=1, out=out.log_std.bias)
    for i in range(len(slopes) - 1, -1, -1):
        e = back * slopes[i]
        if i > 0 or first is None:
            torch.bmm(e.mT, h[i], out=out.hidden[i].weight)
        torch.sum(e, dim=1, out=out.hidden[i].bias)
        if i > 0:
            back = torch.bmm(e, weights.hidden[i].weight)
    return value, e


def adaptation_gradient(
    weights: StackedWeights,
    Z: Tensor,
    pseudo_label: Tensor,
    *,
    alpha: float,
    loss: Loss,
    activation: Activation,
) -> tuple[Tensor, list[LayerFactors | None]]:
    r"""Adaptation objective, averaged over points, and its gradient in factored form.

    Args:
        weights: The weights of ``S`` networks.
        Z: Standardised inputs, ``S x N x d``.
        pseudo_label: Standardised pseudo labels, ``S x N``.
        alpha: Weight of the pseudo-label term.
        loss: Form of the pseudo-label term, see :func:`head_gradient`.
        activation: The activation function.

    Returns:
        The objective, shape ``S``, and one :class:`LayerFactors` per layer in the order of
        ``weights.layers`` (None for the log-std head where the loss does not see it).
    """
    hidden, n = weights.hidden, Z.shape[-2]
    h, slopes, curvatures = [Z], [], []
    for layer in hidden:
        z = affine(layer, h[-1])
        value, slope = activation.value_and_slope(z)
        curvatures.append(activation.curvature(z, value, slope))
        h.append(value)
        slopes.append(slope)
    # down: input gradient
    q, deltas = weights.mean.weight, []
    for layer, slope in zip(reversed(hidden), reversed(slopes), strict=True):
        delta = q * slope
        deltas.append(delta)
        i = len(hidden) - len(deltas)
        curvatures[i] = curvatures[i] * q
        q = layer.transposed(delta)
    deltas.reverse()
    norm = torch.linalg.vector_norm(q, dim=-1, keepdim=True)
    # up: derivative of the norm with respect to every delta
    p = [q / (norm.clamp_min(torch.finfo(q.dtype).tiny) * n)]
    for i, layer in enumerate(hidden):
        a = layer.linear(p[-1])
        p.append(a * slopes[i])
        curvatures[i] = curvatures[i] * a
    # down again: derivative with respect to every pre-activation
    mean = affine(weights.mean, h[-1]).squeeze(-1)
    needs_log_std = loss == "nll"
    raw = affine(weights.log_std, h[-1]).squeeze(-1) if needs_log_std else mean
    value, d_mean, d_raw = head_gradient(mean, raw, settle_label(mean, pseudo_label), loss)
    r = (d_mean * (alpha / n)).unsqueeze(-1)
    back = r * weights.mean.weight
    factors: list[LayerFactors | None] = [
        LayerFactors(
            torch.cat([torch.ones_like(r), r], dim=1),
            torch.cat([p[-1], h[-1]], dim=1),
            sum_rows(r),
        ),
        None,
    ]
    if d_raw is not None:
        s = (d_raw * (alpha / n)).unsqueeze(-1)
        back = back + s * weights.log_std.weight
        factors[1] = LayerFactors(s, h[-1], sum_rows(s))
    for i in range(len(hidden) - 1, -1, -1):
        e = torch.addcmul(curvatures[i], back, slopes[i])
        left = torch.cat([deltas[i], e], dim=1)
        right = torch.cat([p[i], h[i]], dim=1)
        factors.insert(0, LayerFactors(left, right, sum_rows(e)))
        if i > 0:
            back = hidden[i].transposed(e)
    objective = (norm.squeeze(-1) + alpha * value).mean(dim=-1)
    return objective, factors


def sum_rows(rows: Tensor) -> Tensor:
    r"""``S x R x out -> S x out``, a view of the row where there is one: a sum would copy it."""
    return rows.squeeze(1) if rows.shape[1] == 1 else rows.sum(dim=1)

r"""
Encodings: from designs to the real vectors that the proxy sees, and back.

An encoding is a BoTorch input transform with an inverse: given as ``input_transform`` to a
:class:`~botorch_roma.models.RoMAModel`, designs are tokens for the user and real vectors for the
proxy, and :func:`~botorch_roma.optim.optimize_acqf_roma` moves the vectors and returns tokens.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from botorch.exceptions.errors import UnsupportedError
from botorch.models.transforms.input import InputTransform
from torch import Tensor
from torch.nn.functional import one_hot, pad

from botorch_roma.latent.vocabulary import Vocabulary, check_tokens
from botorch_roma.validation import check_int

#: Design-Bench smooths a one-hot vector before it takes the logarithm: this share of the one-hot
#: vector, the rest of the uniform distribution.
SOFT_INTERPOLATION: float = 0.6

#: The box of the logits is wider than the data by this part of its width, on either side.
LOGITS_MARGIN: float = 0.1


class Encoding(InputTransform):
    r"""Designs ``... x d`` as real vectors ``... x e``, and back.

    Attributes:
        dim: Columns ``d`` of a design.
        encoded_dim: Columns ``e`` of its encoding.
        bounds: Where encodings may lie, ``2 x e``.
    """

    is_one_to_many = False
    bounds: Tensor

    def __init__(self, dim: int, bounds: Tensor) -> None:
        super().__init__()
        self.transform_on_train = self.transform_on_eval = self.transform_on_fantasize = True
        self.dim, self.encoded_dim = dim, bounds.shape[1]
        self.register_buffer("bounds", bounds, persistent=False)

    @abstractmethod
    def encode(self, X: Tensor) -> Tensor:
        r"""Designs ``... x d`` to vectors ``... x e``."""

    @abstractmethod
    def decode(self, Z: Tensor) -> Tensor:
        r"""Vectors ``... x e`` to the designs ``... x d`` that they stand for."""

    @abstractmethod
    def neighbours(self, X: Tensor) -> Tensor:
        r"""Designs ``k x n x d`` that differ in one token from designs ``n x d``.

        A design itself stands where it has fewer neighbours than others.
        """

    def columns_of(self, i: int) -> Sequence[int]:
        r"""Columns of the encoding that hold column ``i`` of a design alone.

        Raises:
            UnsupportedError: If the encoding mixes the columns of a design.
        """
        raise UnsupportedError(
            f"{type(self).__name__} mixes the columns of a design, so none of them can be fixed or "
            "constrained on its own; use a one-hot encoding."
        )

    def numeric_column(self, i: int) -> int:
        r"""Column of the encoding that holds column ``i`` of a design as it is.

        Raises:
            UnsupportedError: If column ``i`` is no number.
        """
        raise UnsupportedError(
            f"{type(self).__name__} holds tokens, which linear constraints cannot refer to; use "
            "`nonlinear_inequality_constraints` or leave the column out."
        )

    def encode_bounds(self, bounds: Tensor) -> Tensor:
        r"""Bounds of the vectors ``2 x e`` for bounds of the designs ``2 x d``.

        Raises:
            UnsupportedError: If the encoding cannot express them.
        """
        own = self.design_bounds.to(bounds)
        if not torch.equal(bounds, own):
            raise UnsupportedError(
                f"{type(self).__name__} knows no other bounds than those of its tokens, "
                f"{own[:, 0].tolist()} in each column; use `fixed_features` or "
                "`nonlinear_inequality_constraints` to leave tokens out."
            )
        return self.bounds.to(bounds)

    def check_designs(self, X: Tensor) -> None:  # most encodings lose nothing
        r"""Raise if designs ``n x d`` would not survive :meth:`encode` and :meth:`decode`."""

    @property
    @abstractmethod
    def design_bounds(self) -> Tensor:
        r"""Bounds of the designs, ``2 x d``."""

    def transform(self, X: Tensor) -> Tensor:
        """:meth:`encode`, as BoTorch calls it."""
        return self.encode(X)

    def untransform(self, X: Tensor) -> Tensor:
        """:meth:`decode`, as BoTorch calls it."""
        return self.decode(X)

    def equals(self, other: InputTransform) -> bool:
        """Whether another transform encodes in the same way."""
        return self is other or (
            isinstance(other, Encoding)
            and (self.dim, self.encoded_dim) == (other.dim, other.encoded_dim)
            and self.state_dict().keys() == other.state_dict().keys()
            and super().equals(other)
        )

    def snap(self, Z: Tensor) -> Tensor:
        r"""Move vectors ``... x e`` to the encoding of the design that they stand for."""
        return self.encode(self.decode(Z))


class TokenEncoding(Encoding):
    r"""Base of the encodings of token sequences.

    Args:
        vocabulary: The tokens.
        length: Number of positions ``L``, the columns of a design.
        bounds: ``2 x e``.
    """

    def __init__(self, vocabulary: Vocabulary, length: int, bounds: Tensor) -> None:
        super().__init__(check_int("length", length, minimum=1), bounds)
        self.vocabulary, self.length = vocabulary, length

    @property
    def design_bounds(self) -> Tensor:
        r"""From 0 to the last token, ``2 x L``."""
        last = self.vocabulary.num_classes - 1.0
        return self.bounds.new_tensor([[0.0], [last]]).repeat(1, self.length)

    def neighbours(self, X: Tensor) -> Tensor:
        r"""Sequences ``k x n x L`` that differ in one token from sequences ``n x L``.

        Where they are padded, a sequence also has shorter ones among its neighbours, which end
        at any of its symbols, and those with one symbol more; never an empty one.

        Example:
            >>> OneHotEncoding(Vocabulary("ab"), 2).neighbours(torch.tensor([[0.0, 1.0]]))
            tensor([[[1., 1.]],
            <BLANKLINE>
                    [[0., 0.]]])
        """
        k, pad = self.vocabulary.num_classes, self.vocabulary.pad_token
        column = torch.arange(self.length, device=X.device).repeat_interleave(k - 1)
        shift = torch.arange(1, k, device=X.device).repeat(self.length)
        tokens = self._check(X)
        N = tokens.repeat(len(column), 1, 1)
        index = column.view(-1, 1, 1).expand(-1, len(X), 1)
        N.scatter_(2, index, (N.gather(2, index) + shift.view(-1, 1, 1)) % k)
        if pad is not None:
            N = torch.where(N[..., :1] == pad, tokens, self.vocabulary.canonical(N))
        return N.to(X)

    def equals(self, other: InputTransform) -> bool:
        """Whether another transform encodes in the same way."""
        return (
            isinstance(other, TokenEncoding)
            and self.vocabulary == other.vocabulary
            and super().equals(other)
        )

    def _check(self, X: Tensor) -> Tensor:
        if X.shape[-1] != self.length:
            raise ValueError(
                f"`X` must have {self.length} tokens a row, received shape {tuple(X.shape)}."
            )
        check_tokens(X, self.vocabulary.num_classes)
        return X.long()

    def _check_vectors(self, Z: Tensor) -> Tensor:
        if Z.shape[-1] != self.encoded_dim:
            raise ValueError(
                f"`Z` must have {self.encoded_dim} columns, received shape {tuple(Z.shape)}."
            )
        return Z

    def _columns_of_position(self, i: int) -> Sequence[int]:
        if self.vocabulary.padded:
            raise UnsupportedError(
                "A position of padded sequences cannot be fixed: they may end before it; use "
                "`nonlinear_inequality_constraints`."
            )
        width = self.encoded_dim // self.length
        return range(i * width, (i + 1) * width)

    def check_designs(self, X: Tensor) -> None:
        r"""Raise if token sequences ``n x L`` would not survive.

        Raises:
            ValueError: For padding that is not at the end, and empty sequences.
        """
        pad = self.vocabulary.pad_token
        if pad is None:
            return
        wrong = (self.vocabulary.canonical(X) != X).any(dim=-1) | (X[..., 0] == pad)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"Designs must hold sequences of at least one symbol with padding (token {pad}) at "
                f"the end only; row {row} holds {X[row, :12].tolist()}; correct it."
            )

    def _best_tokens(self, scores: Tensor) -> Tensor:
        r"""The best token at each position of ``... x L x K`` scores; no empty sequences."""
        if self.vocabulary.pad_token is not None:
            scores = scores.clone()
            scores[..., 0, self.vocabulary.pad_token] = -torch.inf
        return self.vocabulary.canonical(scores.argmax(dim=-1))


class OneHotEncoding(TokenEncoding):
    r"""One column per position and token, 1 where the token is there; decoded by the largest.

    Args:
        vocabulary: The tokens.
        length: Number of positions ``L``; ``e = L * K`` with ``K`` tokens.

    Example:
        >>> OneHotEncoding(Vocabulary("abc"), 2).encode(torch.tensor([[0.0, 2.0]]))
        tensor([[1., 0., 0., 0., 0., 1.]])
    """

    def __init__(self, vocabulary: Vocabulary, length: int) -> None:
        e = check_int("length", length, minimum=1) * vocabulary.num_classes
        super().__init__(vocabulary, length, torch.tensor([[0.0], [1.0]]).repeat(1, e))

    def encode(self, X: Tensor) -> Tensor:
        r"""Tokens ``... x L`` to ``... x (L * K)``."""
        encoded = one_hot(self._check(X), self.vocabulary.num_classes)
        return encoded.to(X if X.is_floating_point() else self.bounds).flatten(start_dim=-2)

    def decode(self, Z: Tensor) -> Tensor:
        r"""Vectors ``... x (L * K)`` to tokens ``... x L``."""
        return self._best_tokens(self._check_vectors(Z).unflatten(-1, (self.length, -1))).to(Z)

    def columns_of(self, i: int) -> Sequence[int]:
        r"""The ``K`` columns of position ``i``; not for padded sequences."""
        return self._columns_of_position(i)


class LogitsEncoding(TokenEncoding):
    r"""Design-Bench's smoothed logits [Trabucco2022design]_.

    Log-probabilities of 0.6 one-hot plus 0.4 uniform, relative to the first token, whose own zero
    is left out: ``K - 1`` columns per position.

    Args:
        vocabulary: The tokens.
        length: Number of positions ``L``; ``e = L * (K - 1)`` with ``K`` tokens.

    Raises:
        ValueError: For a single token.
    """

    def __init__(self, vocabulary: Vocabulary, length: int) -> None:
        if vocabulary.num_classes < 2:
            raise ValueError(
                "`vocabulary` must have at least two tokens for logits, received "
                f"{list(vocabulary.symbols)}; leave out sequences that never vary, or use one-hot."
            )
        check_int("length", length, minimum=1)
        letters = _smoothed_logits(torch.arange(vocabulary.num_classes), vocabulary.num_classes)
        low, high = letters.amin(dim=0), letters.amax(dim=0)
        margin = LOGITS_MARGIN * (high - low)
        super().__init__(
            vocabulary, length, torch.stack([low - margin, high + margin]).repeat(1, length)
        )

    def encode(self, X: Tensor) -> Tensor:
        r"""Tokens ``... x L`` to ``... x (L * (K - 1))``."""
        logits = _smoothed_logits(self._check(X), self.vocabulary.num_classes)
        return logits.to(X if X.is_floating_point() else self.bounds).flatten(start_dim=-2)

    def decode(self, Z: Tensor) -> Tensor:
        r"""Vectors ``... x (L * (K - 1))`` to tokens ``... x L``."""
        return self._best_tokens(
            pad(self._check_vectors(Z).unflatten(-1, (self.length, -1)), (1, 0))
        ).to(Z)

    def columns_of(self, i: int) -> Sequence[int]:
        r"""The ``K - 1`` columns of position ``i``; not for padded sequences."""
        return self._columns_of_position(i)


def _smoothed_logits(tokens: Tensor, num_classes: int) -> Tensor:
    uniform = (1.0 - SOFT_INTERPOLATION) / num_classes
    logs = (SOFT_INTERPOLATION * one_hot(tokens, num_classes).double() + uniform).log()
    return logs[..., 1:] - logs[..., :1]

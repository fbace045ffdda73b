r"""
Mixed designs: one encoding per block of columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import torch
from botorch.exceptions.errors import UnsupportedError
from botorch.models.transforms.input import InputTransform
from torch import Tensor
from torch.nn import ModuleList

from botorch_roma.latent.encoding import Encoding
from botorch_roma.validation import check_bounds


class NumericEncoding(Encoding):
    r"""Columns of numbers, left as they are.

    Args:
        bounds: Their bounds, ``2 x d``.
    """

    def __init__(self, bounds: Tensor) -> None:
        super().__init__(check_bounds(bounds).shape[1], bounds)

    def encode(self, X: Tensor) -> Tensor:
        r"""The numbers ``... x d`` themselves."""
        return X

    def decode(self, Z: Tensor) -> Tensor:
        r"""The numbers ``... x d`` themselves."""
        return Z

    def neighbours(self, X: Tensor) -> Tensor:
        r"""None, ``0 x n x d``: there are no tokens."""
        return X.expand(0, *X.shape)

    def columns_of(self, i: int) -> Sequence[int]:
        """Column ``i`` itself."""
        return (i,)

    def numeric_column(self, i: int) -> int:
        """Column ``i`` itself."""
        return i

    def encode_bounds(self, bounds: Tensor) -> Tensor:
        r"""The bounds ``2 x d`` themselves."""
        return bounds

    @property
    def design_bounds(self) -> Tensor:
        r"""The bounds given, ``2 x d``."""
        return self.bounds


class ColumnEncoding(Encoding):
    r"""Encodings side by side, each of its own columns.

    Args:
        blocks: The encodings, in the order of the columns.

    Raises:
        ValueError: For no blocks.

    Example:
        >>> from botorch_roma.latent import OneHotEncoding, Vocabulary
        >>> numbers = NumericEncoding(torch.tensor([[0.0, 0.0], [1.0, 5.0]]))
        >>> kind = OneHotEncoding(Vocabulary(["oak", "fir", "ash"]), 1)
        >>> ColumnEncoding([numbers, kind]).encode(torch.tensor([[0.5, 2.0, 1.0]]))
        tensor([[0.5000, 2.0000, 0.0000, 1.0000, 0.0000]])
    """

    def __init__(self, blocks: Sequence[Encoding]) -> None:
        if not blocks:
            raise ValueError("`blocks` must hold at least one encoding, received none.")
        dtype = next((b.bounds.dtype for b in blocks if isinstance(b, NumericEncoding)), None)
        bounds = torch.cat([b.bounds.to(dtype) for b in blocks], dim=1)
        super().__init__(sum(b.dim for b in blocks), bounds)
        self.blocks = ModuleList(blocks)

    @property
    def _encodings(self) -> list[Encoding]:
        return list(self.blocks)  # type: ignore[arg-type]

    def _split(self, X: Tensor, name: str = "X") -> tuple[Tensor, ...]:
        sizes = [b.encoded_dim if name == "Z" else b.dim for b in self._encodings]
        if X.shape[-1] != sum(sizes):
            raise ValueError(
                f"`{name}` must have {sum(sizes)} columns, received shape {tuple(X.shape)}."
            )
        return X.split(sizes, dim=-1)

    def encode(self, X: Tensor) -> Tensor:
        r"""Designs ``... x d`` to vectors ``... x e``, block by block."""
        parts = zip(self._encodings, self._split(X), strict=True)
        return torch.cat([block.encode(x) for block, x in parts], dim=-1)

    def decode(self, Z: Tensor) -> Tensor:
        r"""Vectors ``... x e`` to designs ``... x d``, block by block."""
        parts = zip(self._encodings, self._split(Z, "Z"), strict=True)
        return torch.cat([block.decode(z) for block, z in parts], dim=-1)

    def neighbours(self, X: Tensor) -> Tensor:
        r"""Designs ``k x n x d`` that differ in one token from designs ``n x d``."""
        found, parts = [], self._split(X)
        for i, (block, part) in enumerate(zip(self._encodings, parts, strict=True)):
            N = block.neighbours(part)
            around = [p.expand(len(N), *p.shape) for p in parts]
            found.append(torch.cat([*around[:i], N, *around[i + 1 :]], dim=-1))
        return torch.cat(found)

    def _block_of(self, i: int) -> tuple[Encoding, int, int]:
        """The block of column ``i``, the column's place in it, the block's first vector column."""
        starts = [0, *accumulate(b.dim for b in self._encodings)]
        firsts = [0, *accumulate(b.encoded_dim for b in self._encodings)]
        k = next(k for k in range(len(self.blocks)) if i < starts[k + 1])
        return self._encodings[k], i - starts[k], firsts[k]

    def columns_of(self, i: int) -> Sequence[int]:
        """Columns of the encoding that hold column ``i`` of a design alone."""
        block, place, first = self._block_of(i)
        with _naming_column(i):
            return [first + c for c in block.columns_of(place)]

    def numeric_column(self, i: int) -> int:
        """Column of the encoding that holds column ``i`` of a design as it is."""
        block, place, first = self._block_of(i)
        with _naming_column(i):
            return first + block.numeric_column(place)

    def encode_bounds(self, bounds: Tensor) -> Tensor:
        r"""Bounds of the vectors ``2 x e`` for bounds of the designs ``2 x d``."""
        parts = zip(self._encodings, self._split(bounds, "bounds"), strict=True)
        return torch.cat([block.encode_bounds(b) for block, b in parts], dim=1)

    def check_designs(self, X: Tensor) -> None:
        r"""Check designs ``n x d`` block by block."""
        for block, x in zip(self._encodings, self._split(X), strict=True):
            block.check_designs(x)

    @property
    def design_bounds(self) -> Tensor:
        r"""Bounds of the designs, ``2 x d``, block by block."""
        return torch.cat([b.design_bounds.to(self.bounds) for b in self._encodings], dim=1)

    def equals(self, other: InputTransform) -> bool:
        """Whether the blocks are the same."""
        return (
            isinstance(other, ColumnEncoding)
            and len(self.blocks) == len(other.blocks)
            and all(a.equals(b) for a, b in zip(self._encodings, other._encodings, strict=True))
        )


@contextmanager
def _naming_column(i: int) -> Iterator[None]:
    """Add to an error of a block which column of the design it is about."""
    try:
        yield
    except UnsupportedError as error:
        raise UnsupportedError(f"Column {i}: {error}") from None

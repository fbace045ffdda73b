r"""
The vectors that comparison methods work on: z-scored inputs, or z-scored encodings of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from botorch_roma.latent import Encoding, make_sequence_encoding
from botorch_roma.tasks import OfflineTask


class DesignSpace:
    r"""Designs and outcomes of a task as z-scored vectors, and the way back.

    Args:
        task: The task; its oracle is not asked.
        encoding: What token sequences are: ``"logits"`` or ``"one_hot"``.

    Columns that never vary are not among the vectors: nothing is known about them, and a network
    that was never trained on them would lead ascent astray.

    Attributes:
        task: The task, without its oracle.
        Z: Vectors of the visible designs, ``n x e``.
        T: Their z-scored outcomes, ``n x 1``.
        varies: Which columns of the designs (of their encodings, for tokens) are in the vectors.

    Raises:
        ValueError: If all outcomes or all designs are equal: there is nothing to learn.
    """

    def __init__(self, task: OfflineTask, encoding: str = "logits") -> None:
        self.task = task.without_oracle()
        self._encoding: Encoding | None = None
        if task.vocabulary is not None:
            self._encoding = make_sequence_encoding(encoding, task.X, task.vocabulary).to(task.X)
        spread = task.Y.std(correction=0)
        if not spread > 0:
            raise ValueError(
                f"`task` must hold outcomes that differ, received {task.num_rows} rows of "
                f"{task.Y[0].item():g} in {task.name!r}."
            )
        V = self._vectors(task.X)
        std = V.std(dim=0, correction=0)
        self.varies = (V[0] != V).any(dim=0) & (std > 0)
        if not self.varies.any():
            raise ValueError(f"`task` must hold designs that differ; in {task.name!r} none do.")
        self._first, self._std = V[0].clone(), std[self.varies]
        self._mean = V[:, self.varies].mean(dim=0)
        self.Z = self._standardize(V)
        self.T = (task.Y - task.Y.mean()) / spread

    @property
    def dim(self) -> int:
        """Number of columns of the vectors, ``e``."""
        return self.Z.shape[1]

    @property
    def bounds(self) -> Tensor:
        r"""Bounds of the vectors, ``2 x e``."""
        encoding = self._encoding
        return self._standardize(self.task.bounds if encoding is None else encoding.bounds)

    def start(self, q: int) -> Tensor:
        r"""Vectors of the ``q`` best distinct visible designs, ``q x e``."""
        return self.encode(self.task.start_designs(q)[0])

    def encode(self, X: Tensor) -> Tensor:
        r"""Vectors ``n x e`` of designs ``n x d``."""
        return self._standardize(self._vectors(X))

    def encode_points(self, points: Tensor) -> Tensor:
        r"""Vectors ``n x e`` of tokens ``n x L``; vectors stay what they are."""
        if self.task.vocabulary is None:
            return points
        return self.encode(self.task.vocabulary.canonical(points).to(self.Z))

    def decode(self, Z: Tensor) -> Tensor:
        r"""The valid designs ``n x d``, within the bounds, that vectors ``n x e`` stand for."""
        V = self._first.repeat(Z.shape[0], 1)
        V[:, self.varies] = self._mean + self._std * Z
        if self._encoding is not None:
            return self._encoding.decode(V)
        X = torch.maximum(torch.minimum(V, self.task.bounds[1]), self.task.bounds[0])
        process = self.task.post_processing_func
        return X if process is None else process(X)

    def record(self, path: list[Tensor] | None, Z: Tensor) -> None:
        r"""Append the designs that vectors ``n x e`` stand for to ``path``, if there is one."""
        if path is not None:
            path.append(self.decode(Z))

    def _vectors(self, X: Tensor) -> Tensor:
        return X if self._encoding is None else self._encoding.encode(X)

    def _standardize(self, V: Tensor) -> Tensor:
        return (V[:, self.varies] - self._mean) / self._std

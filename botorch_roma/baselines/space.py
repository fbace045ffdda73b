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

    Attributes:
        Z: Vectors of the visible designs, ``n x e``.
        T: Their z-scored outcomes, ``n x 1``.
        varies: Which columns of ``Z`` vary, ``e`` of bool; the others are 0.
    """

    def __init__(self, task: OfflineTask, encoding: str = "logits") -> None:
        self._task = task
        self._encoding: Encoding | None = None
        X = task.X
        if task.vocabulary is not None:
            self._encoding = make_sequence_encoding(encoding, X, task.vocabulary).to(X)
            X = self._encoding.encode(X)
        self._mean, std = X.mean(dim=0), X.std(dim=0, correction=0)
        self.varies = (X[0] != X).any(dim=0) & (std > 0)
        self._std = torch.where(self.varies, std, torch.ones_like(std))
        self.Z = self._standardize(X)
        self.T = (task.Y - task.Y.mean()) / task.Y.std(correction=0)

    @property
    def dim(self) -> int:
        """Number of columns of the vectors, ``e``."""
        return self.Z.shape[1]

    def start(self, q: int) -> Tensor:
        r"""Vectors of the ``q`` best distinct visible designs, ``q x e``."""
        X, _ = self._task.start_designs(q)
        return self._standardize(X if self._encoding is None else self._encoding.encode(X))

    def decode(self, Z: Tensor) -> Tensor:
        r"""The valid designs ``n x d``, within the bounds, that vectors ``n x e`` stand for."""
        V = self._mean + self._std * (Z * self.varies)
        if self._encoding is not None:
            return self._encoding.decode(V)
        X = torch.maximum(torch.minimum(V, self._task.bounds[1]), self._task.bounds[0])
        for i, value in self._task.fixed_features.items():
            X[:, i] = value
        process = self._task.post_processing_func
        return X if process is None else process(X)

    def _standardize(self, V: Tensor) -> Tensor:
        return (V - self._mean) / self._std * self.varies

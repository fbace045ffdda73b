r"""
An offline task: designs that were measured once, and an oracle that only scores a finished batch.

The optimiser sees ``X``, ``Y`` and ``bounds``. The oracle is reached through ``evaluate`` alone,
and every call of it is counted, so "no query in between" is something a test can assert
[Trabucco2022design]_.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy

import torch
from botorch.exceptions.errors import InputDataError
from torch import Tensor

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.validation import check_int, constant_columns

Oracle = Callable[[Tensor], Tensor]
PostProcessing = Callable[[Tensor], Tensor]
RandomDesigns = Callable[[int, torch.Generator], Tensor]

SCALES = ("visible", "full")

# Relative slack of the bounds: above the rounding of float32, far below any step that matters.
BOUNDS_TOLERANCE = 1e-6


class OfflineTask:
    r"""A dataset measured once, with an oracle that is only there to score a finished batch.

    Args:
        name: Short name of the task, e.g. ``"tfbind8"``.
        X: Visible designs, ``n x d``, in the space the optimiser works in.
        Y: Their values, ``n x 1``, in the units of the task; larger is better.
        bounds: Lower and upper bounds of the designs, ``2 x d``; not for tokens.
        oracle: Maps ``n x d`` designs to ``n`` or ``n x 1`` values in the units of ``Y``.
        ranges: Minimum and maximum of the values behind each scale of ``normalize``:
            ``"visible"`` (default: taken from ``Y``) and ``"full"`` (no default).
        vocabulary: Makes ``X`` token sequences, ``n x length``, whole numbers in a floating point
            tensor. Default: designs are vectors.
        post_processing_func: Snaps relaxed designs, ``... x d``, to the nearest valid ones.
            Default: every design within the bounds is valid.
        random_designs: Draws ``n`` valid designs with a generator, ``n x d``. Default: uniform
            within the bounds, then post-processed; uniform over the symbols for tokens.
        description: What is measured, in a sentence or two.
        substitute: Why the data or the oracle stand in for the original ones; ``None`` if they
            do not.
        provenance: Source, licence and citation of the data.

    Raises:
        InputDataError: If ``X`` and ``Y`` are no finite floating point tensors of matching
            shape, dtype and device, or if a row of ``X`` lies outside ``bounds``.
        ValueError: If ``bounds`` or ``ranges`` are malformed, or tokens not in ``vocabulary``.

    Example:
        >>> task = load_task("hartmann6")
        >>> X0, Y0 = task.start_designs(128)
        >>> proposal = propose(task.X, task.Y, task.bounds)
        >>> Y1 = task.evaluate(proposal.candidates)  # the one call, at the very end
        >>> task.normalize(Y1, scale="full").median()
    """

    def __init__(
        self,
        *,
        name: str,
        X: Tensor,
        Y: Tensor,
        bounds: Tensor | None = None,
        oracle: Oracle,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        vocabulary: Vocabulary | None = None,
        post_processing_func: PostProcessing | None = None,
        random_designs: RandomDesigns | None = None,
        description: str = "",
        substitute: str | None = None,
        provenance: str = "",
    ) -> None:
        _check_data(X, Y)
        if (bounds is None) == (vocabulary is None):
            raise ValueError(
                "Exactly one of `bounds` and `vocabulary` must be given, received "
                f"{'neither' if bounds is None else 'both'}."
            )
        if vocabulary is not None:
            _check_tokens(X, vocabulary, "X")
            bounds = X.new_tensor([[0.0], [vocabulary.num_classes - 1.0]]).repeat(1, X.shape[1])
        assert bounds is not None
        _check_bounds(bounds, X)
        self.name = name
        self.X, self.Y, self.bounds = X, Y, bounds
        self.ranges = {"visible": (Y.min().item(), Y.max().item()), **(ranges or {})}
        _check_ranges(self.ranges)
        self.vocabulary = vocabulary
        self.post_processing_func = post_processing_func
        self.description = description
        self.substitute = substitute
        self.provenance = provenance
        self.num_oracle_calls = 0
        self.num_oracle_queries = 0
        self._oracle = oracle
        self._random_designs = random_designs

    @property
    def num_rows(self) -> int:
        """Number of visible rows, ``n``."""
        return self.X.shape[0]

    @property
    def dim(self) -> int:
        """Number of columns of a design, ``d``."""
        return self.X.shape[1]

    @property
    def fixed_features(self) -> dict[int, float]:
        """Columns that never vary in ``X``, hence nothing is known about: index to value."""
        return {i: self.X[0, i].item() for i in constant_columns(self.X)}

    def evaluate(self, X: Tensor) -> Tensor:
        r"""Score finished designs with the oracle; counts one call and ``n`` queries.

        Args:
            X: Designs, ``n x d``, within ``bounds``. A rounding error beyond the bounds is
                clamped away.

        Returns:
            Their values, ``n x 1``, in the units of ``Y``, on the dtype and device of the task.

        Raises:
            ValueError: If ``X`` has another shape, is empty, no floating point tensor, not
                finite or outside the bounds, or if the oracle breaks its promise.
        """
        designs = self._check_designs(X, "X")
        n = designs.shape[0]
        self.num_oracle_calls += 1
        self.num_oracle_queries += n
        with torch.no_grad():
            values = self._oracle(designs)
        if tuple(values.shape) not in ((n,), (n, 1)) or not torch.isfinite(values).all():
            raise ValueError(
                f"`oracle` of task {self.name!r} must return {n} finite values of shape ({n},) or "
                f"({n}, 1), received shape {tuple(values.shape)}; mend the oracle."
            )
        return values.reshape(n, 1).to(self.Y)

    def normalize(self, Y: Tensor, scale: str = "full") -> Tensor:
        r"""Scale values as ``(Y - min) / (max - min)``.

        Args:
            Y: Values of any shape, in the units of the task.
            scale: ``"full"`` is Design-Bench v2's scale, the range of the full table;
                ``"visible"`` is the RoMA paper's, on which the best visible design is 1.0.

        Returns:
            The scaled values, in the shape of ``Y``.

        Raises:
            ValueError: If ``scale`` is unknown or the task has no range for it.
        """
        if scale not in self.ranges:
            raise ValueError(
                f"`scale` must be one of {sorted(self.ranges)} for task {self.name!r}, received "
                f"{scale!r}; a task gains a scale by naming it in `ranges`."
            )
        low, high = self.ranges[scale]
        return (Y - low) / (high - low)

    def start_designs(self, q: int) -> tuple[Tensor, Tensor]:
        r"""The ``q`` best distinct visible designs, best first.

        A design that stands in several rows counts once, with its highest value.

        Args:
            q: Number of designs.

        Returns:
            The designs, ``q x d``, and their values, ``q x 1``.

        Raises:
            ValueError: If ``q`` is not a positive integer or exceeds the distinct rows.
        """
        check_int("q", q, minimum=1)
        order = self.Y.flatten().argsort(descending=True, stable=True)
        _, group = torch.unique(self.X[order], dim=0, return_inverse=True)
        num_distinct = int(group.max()) + 1
        if q > num_distinct:
            raise ValueError(
                f"`q` must not exceed the {num_distinct} distinct visible designs of task "
                f"{self.name!r}, received {q}; ask for fewer."
            )
        rank = torch.arange(self.num_rows, device=order.device)
        first = torch.full_like(rank[:num_distinct], self.num_rows)
        best = order[first.scatter_reduce(0, group, rank, "amin").sort().values[:q]]
        return self.X[best], self.Y[best]

    def random_designs(self, n: int, seed: int) -> Tensor:
        r"""Draw valid designs uniformly, the first trivial row of every table.

        Args:
            n: Number of designs.
            seed: Seed of the draw; the global random state is left alone.

        Returns:
            The designs, ``n x d``.

        Raises:
            ValueError: If ``n`` is not a positive integer, or if the function given to the
                constructor returns designs that are not valid.
        """
        check_int("n", n, minimum=1)
        generator = torch.Generator().manual_seed(seed)
        if self._random_designs is not None:
            designs = self._random_designs(n, generator)
        elif self.vocabulary is not None:
            symbols = len(self.vocabulary.symbols)
            designs = torch.randint(symbols, (n, self.dim), generator=generator).to(self.X)
        else:
            unit = torch.rand(n, self.dim, generator=generator, dtype=torch.float64, device="cpu")
            low, high = self.bounds.double().cpu()
            designs = low + (high - low) * unit
            if self.post_processing_func is not None:
                designs = self.post_processing_func(designs)
        return self._check_designs(designs, "random_designs")

    def to(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> OfflineTask:
        """Return a copy on another dtype or device; it starts with fresh oracle counters.

        Args:
            dtype: Floating point dtype of the copy. Default: unchanged.
            device: Device of the copy. Default: unchanged.

        Returns:
            A copy with the tensors moved; the oracle itself is shared.
        """
        other = copy(self)
        for name in ("X", "Y", "bounds"):
            setattr(other, name, getattr(self, name).to(device=device, dtype=dtype))
        other.ranges = dict(self.ranges)
        other.num_oracle_calls = other.num_oracle_queries = 0
        return other

    def without_oracle(self) -> OfflineTask:
        """Return a copy that cannot be evaluated, for code that must not reach the oracle."""
        other = self.to()
        other._oracle = _no_oracle
        return other

    def __repr__(self) -> str:
        """Name, size and ranges on one line; a substitute is called one."""
        ranges = ", ".join(f"{k}=({low:g}, {high:g})" for k, (low, high) in self.ranges.items())
        note = "" if self.substitute is None else ", SUBSTITUTE"
        return f"OfflineTask({self.name!r}, n={self.num_rows}, d={self.dim}, {ranges}{note})"

    def _check_designs(self, X: Tensor, name: str) -> Tensor:
        """Check designs and return them on the task's dtype and device, within the bounds."""
        if not isinstance(X, Tensor) or not X.is_floating_point():
            raise ValueError(
                f"`{name}` must be a floating point tensor, received "
                f"{X.dtype if isinstance(X, Tensor) else type(X).__name__}; convert it."
            )
        if X.dim() != 2 or X.shape[0] == 0 or X.shape[1] != self.dim:
            raise ValueError(
                f"`{name}` must have shape n x {self.dim} with n >= 1, received "
                f"{tuple(X.shape)}; use `.reshape(-1, {self.dim})` on a batch."
            )
        if not torch.isfinite(X).all():
            row, column = (~torch.isfinite(X)).nonzero()[0].tolist()
            raise ValueError(
                f"`{name}` holds NaN or infinite values, the first in row {row}, column {column}; "
                "drop such designs before they are scored."
            )
        designs = X.detach().to(self.X)
        outside = _outside(designs, self.bounds)
        if outside.any():
            row, column = outside.nonzero()[0].tolist()
            raise ValueError(
                f"`{name}` must lie within the bounds; row {row}, column {column} holds "
                f"{X[row, column].item():g}, allowed are {self.bounds[0, column].item():g} to "
                f"{self.bounds[1, column].item():g}; clamp the designs to `task.bounds`."
            )
        if self.vocabulary is not None:
            _check_tokens(designs, self.vocabulary, name)
        return designs.clamp(self.bounds[0], self.bounds[1])


def _no_oracle(X: Tensor) -> Tensor:
    raise RuntimeError(
        f"The oracle was asked about {X.shape[0]} designs, but this copy of the task has none; "
        "evaluate the finished batch with the task itself."
    )


def _outside(X: Tensor, bounds: Tensor) -> Tensor:
    """Where ``X`` leaves the bounds by more than a rounding error, ``n x d``."""
    slack = BOUNDS_TOLERANCE * bounds.abs().amax(dim=0).clamp_min(1.0)
    return X.lt(bounds[0] - slack) | X.gt(bounds[1] + slack)


def _check_tokens(X: Tensor, vocabulary: Vocabulary, name: str) -> None:
    """Raise unless ``X`` holds tokens, with padding at the end of a sequence only."""
    wrong = (X.floor() != X).any(dim=1) | (vocabulary.canonical(X) != X).any(dim=1)
    wrong |= ((X < 0) | (vocabulary.num_classes <= X)).any(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"`{name}` must hold token sequences: whole numbers from 0 to "
            f"{vocabulary.num_classes - 1}, padding at the end only; row {row} holds "
            f"{X[row, :12].tolist()}; decode the designs first."
        )


def _check_data(X: Tensor, Y: Tensor) -> None:
    for name, value in (("X", X), ("Y", Y)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise InputDataError(
                f"`{name}` must be a floating point tensor, received {kind}; convert it."
            )
        if value.dim() == 2 and not torch.isfinite(value).all():
            raise InputDataError(f"`{name}` holds NaN or infinite values; drop these rows.")
    if X.dim() != 2 or 0 in X.shape or Y.shape != (X.shape[0], 1):
        raise InputDataError(
            "`X` must have shape n x d and `Y` shape n x 1 with the same n >= 1, received "
            f"{tuple(X.shape)} and {tuple(Y.shape)}; reshape them."
        )
    if X.dtype != Y.dtype or X.device != Y.device:
        raise InputDataError(
            f"`X` and `Y` must share dtype and device, received {X.dtype} on {X.device} and "
            f"{Y.dtype} on {Y.device}; move one with `.to`."
        )


def _check_bounds(bounds: Tensor, X: Tensor) -> None:
    expected = (2, X.shape[1])
    if not isinstance(bounds, Tensor) or tuple(bounds.shape) != expected:
        shape = tuple(bounds.shape) if isinstance(bounds, Tensor) else type(bounds).__name__
        raise ValueError(f"`bounds` must be a tensor of shape {expected}, received {shape}.")
    if bounds.dtype != X.dtype or bounds.device != X.device:
        raise ValueError(
            f"`bounds` must share dtype and device with `X`, received {bounds.dtype} on "
            f"{bounds.device}; move it with `.to(X)`."
        )
    if not torch.isfinite(bounds).all() or (bounds[0] > bounds[1]).any():
        raise ValueError(
            f"`bounds` must be finite with lower <= upper in every column, received {bounds}."
        )
    outside = _outside(X, bounds).any(dim=1)
    if outside.any():
        raise InputDataError(
            f"`X` must lie within `bounds`; {int(outside.sum())} rows do not, the first is row "
            f"{int(outside.nonzero()[0])}; widen the bounds or drop these rows."
        )


def _check_ranges(ranges: Mapping[str, tuple[float, float]]) -> None:
    for scale, (low, high) in ranges.items():
        if scale not in SCALES:
            raise ValueError(f"`ranges` may name the scales {SCALES}, received {scale!r}.")
        if not low < high or high - low == float("inf"):
            raise ValueError(
                f"`ranges` needs a finite minimum below a finite maximum, received ({low}, {high}) "
                f"for {scale!r}; a constant `Y` has no scale."
            )

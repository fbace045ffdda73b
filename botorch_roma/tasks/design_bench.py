r"""
TFBind8 and Superconductor from arrays in Design-Bench's layout [Trabucco2022design]_.

The arrays are read as they are: neither Design-Bench nor TensorFlow is imported, and nothing is
downloaded. Both tasks follow version 2 of the benchmark: the visible rows are those up to a
percentile of ``y``, the full table is behind the oracle alone.

.. [Trabucco2022design]
    B. Trabucco, X. Geng, A. Kumar, and S. Levine. Design-Bench: Benchmarks for Data-Driven
    Offline Model-Based Optimization. ICML, 2022.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from botorch_roma.tasks.offline_task import OfflineTask

Encoding: TypeAlias = Literal["one_hot", "logits"]
PathLike: TypeAlias = str | os.PathLike[str]
Array: TypeAlias = np.ndarray[Any, Any]

DATA_DIR_VARIABLE = "BOTORCH_ROMA_DATA"

# Design-Bench smooths a one-hot vector before it takes the logarithm:
# 0.6 of the one-hot vector plus 0.4 of the uniform distribution.
SOFT_INTERPOLATION = 0.6
# The box of the logits is wider than the data by this part of its width, on either side.
LOGITS_MARGIN = 0.1

FOREST_ROWS = 2_000
FOREST_SEED = 0


class Edition(NamedTuple):
    """What a known edition of a table must look like once it is split."""

    visible_rows: int
    visible_best: float
    substitute: str | None = None


# Stem of the files, then the SHA-256 of every shard, in the order of the shards.
CHECKSUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "tf_bind_8-SIX6_REF_R1/tf_bind_8": {
        "x": ("8957a728704d2e6c5dbba921dd9e16cbd76797489b081c5dc7f39ca23582d95d",),
        "y": ("a61dd97796a4173d3a2a3d016db44e5d42e1f1d6a39d9f1ad2465d2c6b94fcb7",),
    },
    "superconductor/superconductor": {
        "x": (
            "152e806eed596ebe59531895b8e56906bcb621cbb1d7e3e02d5c455beef03f26",
            "955400de548d117b1e8a1512b0f26f5f475c9c30cf1be71852e4d98149ba4a02",
            "160b5dbb1ff9e8e2a68bb8b677652ebf717c7c903676ded0e3ad9dce926a4ec0",
            "6b1371dc974fd2dd7253e2db1b5ab503ce083a92f7c5a8751710898e5b4a8339",
            "9c466d8b086bd3fdc7658740d8e50f9f6bb7e6f3b9d8b83278720e01e8841858",
        ),
        "y": (
            "e228b96c6745e6b7c24f0726b4dde6899ef7a185a6960d9922dc99ed6517465a",
            "682c4fd679cabcca07aa4c5d78fbdd2fa51242482886451f014e6302550d6d7c",
            "706c33dbc9310afb37c68606159cb415d7fb55d21585b90f3fd6336f039cca9d",
            "18dc26b15c750d29c057d3b456ddd4506b2291e5cd498a0497d53d32e9b6ef6c",
            "036fcc86b2014b6d05bc509399509ca84f173a0f424aa981239107bfcc6f2f8b",
        ),
    },
}

_FOREST_NOTE = "The oracle is a random forest, fitted anew with the published settings."

# Rows of the full table, then what its visible part must be.
TFBIND8_EDITIONS = {65_792: Edition(32_898, 0.43930)}
SUPERCONDUCTOR_EDITIONS = {
    22_404: Edition(
        17_926,
        72.5,
        "The table is rebuilt from SuperCon with the published cleaning rules; the original one "
        f"has 21,263 rows, best visible 74.0 K. {_FOREST_NOTE}",
    ),
    21_263: Edition(17_010, 74.0, _FOREST_NOTE),
}

TFBIND8_SOURCE = (
    "Barrera et al., Science 351:1450, 2016: E-scores of SIX6_REF_R1, scaled to 0..1; "
    "Design-Bench (Trabucco et al. 2022, MIT)."
)
SUPERCONDUCTOR_SOURCE = (
    "SuperCon, NIMS (CC BY 4.0); cleaning rules of Hamidieh, Comput. Mater. Sci. 154:346, 2018; "
    "Design-Bench (Trabucco et al. 2022, MIT)."
)


def encode_tokens(
    tokens: Tensor,
    *,
    encoding: Encoding = "one_hot",
    num_classes: int = 4,
    dtype: torch.dtype = torch.double,
) -> Tensor:
    r"""Encode token sequences as real vectors.

    ``"one_hot"`` writes ``num_classes`` numbers per position. ``"logits"`` is Design-Bench's
    smoothed form: log-probabilities of 0.6 one-hot plus 0.4 uniform, relative to the first
    letter, whose own zero is left out, hence ``num_classes - 1`` numbers per position.

    Args:
        tokens: Integers from 0 to ``num_classes - 1``, ``... x length``.
        encoding: ``"one_hot"`` (default) or ``"logits"``.
        num_classes: Size of the alphabet. Default: 4.
        dtype: Floating point dtype of the result. Default: ``torch.double``.

    Returns:
        The encoded sequences, ``... x (length * width)``.

    Raises:
        ValueError: If ``encoding`` is unknown or a token is no such integer.

    Example:
        >>> encode_tokens(torch.tensor([[0, 2]]), num_classes=3)
        tensor([[1., 0., 0., 0., 0., 1.]], dtype=torch.float64)
    """
    _check_encoding(encoding)
    _check_tokens(tokens, num_classes)
    encoded = one_hot(tokens.long(), num_classes).to(dtype)
    if encoding == "logits":
        uniform = (1.0 - SOFT_INTERPOLATION) / num_classes
        logs = (SOFT_INTERPOLATION * encoded + uniform).log()
        encoded = logs[..., 1:] - logs[..., :1]
    return encoded.flatten(start_dim=-2)


def decode_tokens(X: Tensor, *, encoding: Encoding = "one_hot", num_classes: int = 4) -> Tensor:
    r"""Decode real vectors to the nearest token sequences, the inverse of ``encode_tokens``.

    The largest entry of each position wins, the first one on a tie; for ``"logits"`` the zero of
    the first letter is put back before.

    Args:
        X: Encoded or relaxed designs, ``... x (length * width)``.
        encoding: ``"one_hot"`` (default) or ``"logits"``.
        num_classes: Size of the alphabet. Default: 4.

    Returns:
        Integer tokens, ``... x length``.

    Raises:
        ValueError: If ``encoding`` is unknown or the last dimension does not fit it.
    """
    _check_encoding(encoding)
    width = num_classes if encoding == "one_hot" else num_classes - 1
    if X.shape[-1] % width != 0:
        raise ValueError(
            f"`X` must have a last dimension divisible by {width} for encoding {encoding!r}, "
            f"received shape {tuple(X.shape)}; check `encoding` and `num_classes`."
        )
    scores = X.reshape(*X.shape[:-1], X.shape[-1] // width, width)
    return (pad(scores, (1, 0)) if encoding == "logits" else scores).argmax(dim=-1)


class TableOracle:
    r"""Looks sequences up in a complete table of all ``num_classes ** length`` of them.

    Args:
        tokens: All sequences, ``n x length``; rows may repeat.
        y: Their values, ``n``.
        encoding: How designs given to the oracle are encoded.
        num_classes: Size of the alphabet. Default: 4.

    Raises:
        ValueError: If a token is out of range, a sequence is missing, or its rows disagree.
    """

    def __init__(
        self, tokens: Tensor, y: Tensor, *, encoding: Encoding, num_classes: int = 4
    ) -> None:
        _check_encoding(encoding)
        _check_tokens(tokens, num_classes)
        self.encoding, self.num_classes = encoding, num_classes
        self._place = num_classes ** torch.arange(tokens.shape[-1])
        index = (tokens.long() * self._place).sum(dim=-1)
        self._values = torch.full((num_classes ** tokens.shape[-1],), torch.nan, dtype=y.dtype)
        self._values[index] = y
        if self._values.isnan().any() or not torch.equal(self._values[index], y):
            raise ValueError(
                f"`tokens` must hold all {self._values.numel()} sequences, `y` one value for each; "
                f"received {torch.unique(index).numel()} sequences; the table is damaged."
            )

    def __call__(self, X: Tensor) -> Tensor:
        """Value of each of the ``n x d`` designs, shape ``n``."""
        tokens = decode_tokens(X, encoding=self.encoding, num_classes=self.num_classes)
        return self._values[(tokens.cpu() * self._place).sum(dim=-1)].to(X)


class ForestOracle:
    r"""A random forest on 2,000 rows of the full table, fitted when it is first called.

    Settings as in Design-Bench v2: 100 trees, depth up to 100, all features. Rows and trees are
    seeded, so every run has the same oracle. Before the first call there is no forest.

    Args:
        x: Designs of the full table, ``n x d``.
        y: Their values, ``n``.
        n_jobs: Processes that fit and predict. Default: 1.
    """

    def __init__(self, x: Array, y: Array, *, n_jobs: int = 1) -> None:
        self._x, self._y, self._n_jobs = x, y, n_jobs
        self._forest: Any = None

    @property
    def is_fitted(self) -> bool:
        """Whether the oracle has been called."""
        return self._forest is not None

    def training_rows(self) -> Array:
        """Indices of the rows that the forest is fitted on, ``2_000``."""
        rng = np.random.default_rng(FOREST_SEED)
        return rng.choice(len(self._x), size=FOREST_ROWS, replace=False)

    def __call__(self, X: Tensor) -> Tensor:
        """Value of each of the ``n x d`` designs, shape ``n``."""
        if self._forest is None:
            self._forest = self._fit()
        return torch.from_numpy(self._forest.predict(X.double().cpu().numpy())).to(X)

    def _fit(self) -> Any:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            n_estimators=100,
            max_depth=100,
            max_features=1.0,
            random_state=FOREST_SEED,
            n_jobs=self._n_jobs,
        )
        rows = self.training_rows()
        return forest.fit(self._x[rows], self._y[rows])


def load_tfbind8(
    data_dir: PathLike | None = None,
    *,
    encoding: Encoding = "one_hot",
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
) -> OfflineTask:
    r"""TFBind8: DNA sequences of length 8, their binding to the transcription factor SIX6.

    The visible rows are the 32,898 with ``y`` up to the 50th percentile (best 0.43930), of 65,792
    rows in all: the 256 sequences that are their own reverse complement stand twice in it. The
    oracle is exact, a look-up in the full table. Letters a, c, g, t are the tokens 0 to 3.

    Args:
        data_dir: Folder that holds ``tf_bind_8-SIX6_REF_R1/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        encoding: ``"one_hot"`` (``d = 32``, bounds 0 and 1, the default) or ``"logits"``
            (``d = 24``, bounds 10 % beyond the data). See ``encode_tokens``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the files must be the known ones, byte for byte. Default: True.

    Returns:
        The task; ``y`` is an E-score scaled to 0..1.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
    """
    _check_encoding(encoding)
    x, y = _read_table(
        "tf_bind_8-SIX6_REF_R1/tf_bind_8", data_dir, TFBIND8_SOURCE, verify_checksums
    )
    visible, edition = _split(y, 50, TFBIND8_EDITIONS, "tfbind8")
    tokens = torch.from_numpy(x)
    values = torch.from_numpy(y).to(dtype)
    return OfflineTask(
        name="tfbind8",
        X=encode_tokens(tokens[visible], encoding=encoding, dtype=dtype),
        Y=values[visible].unsqueeze(-1),
        bounds=_encoding_bounds(encoding, tokens.shape[-1], dtype),
        oracle=TableOracle(tokens, values, encoding=encoding),
        ranges={"full": (0.0, 1.0)},
        post_processing_func=partial(_snap, encoding=encoding),
        random_designs=partial(_random_sequences, tokens.shape[-1], encoding),
        description=(
            "Binding of DNA sequences of length 8 to SIX6 (E-score, scaled to 0..1), encoding "
            f"{encoding}; visible up to the 50th percentile, exact oracle."
        ),
        substitute=edition.substitute,
        provenance=TFBIND8_SOURCE,
    )


def load_superconductor(
    data_dir: PathLike | None = None,
    *,
    dtype: torch.dtype = torch.double,
    verify_checksums: bool = True,
    n_jobs: int = 1,
) -> OfflineTask:
    r"""Superconductor: amounts of 86 elements, critical temperature in kelvin. A SUBSTITUTE.

    The visible rows are those with ``y`` up to the 80th percentile: 17,926 of 22,404 rows, best
    72.5. The original table (21,263 rows, best visible 74.0) has other checksums and is read with
    ``verify_checksums=False``; its row count tells it apart. The oracle is a ``ForestOracle`` on
    the full table. Elements in no row are constant columns, see ``OfflineTask.fixed_features``.

    Args:
        data_dir: Folder that holds ``superconductor/``. Default: the environment variable
            ``BOTORCH_ROMA_DATA``, then ``~/.cache/botorch_roma``.
        dtype: Floating point dtype of the task. Default: ``torch.double``.
        verify_checksums: Whether the files must be the known ones, byte for byte. Default: True.
        n_jobs: Processes of the oracle. Default: 1.

    Returns:
        The task, bounded by the smallest box around its visible rows.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
    """
    x, y = _read_table(
        "superconductor/superconductor", data_dir, SUPERCONDUCTOR_SOURCE, verify_checksums
    )
    visible, edition = _split(y, 80, SUPERCONDUCTOR_EDITIONS, "superconductor")
    X = torch.from_numpy(x[visible]).to(dtype)
    return OfflineTask(
        name="superconductor",
        X=X,
        Y=torch.from_numpy(y[visible]).to(dtype).unsqueeze(-1),
        bounds=torch.stack([X.amin(dim=0), X.amax(dim=0)]),
        oracle=ForestOracle(x, y, n_jobs=n_jobs),
        ranges={"full": (0.00021, 185.0)},
        description=(
            "Critical temperature (K) of a composition of 86 elements; measured values up to the "
            "80th percentile are visible, random forest oracle."
        ),
        substitute=edition.substitute,
        provenance=SUPERCONDUCTOR_SOURCE,
    )


def resolve_data_dir(data_dir: PathLike | None = None) -> Path:
    """Folder of the data: the argument, else ``BOTORCH_ROMA_DATA``, else ``~/.cache/botorch_roma``.

    Args:
        data_dir: A folder, or ``None``.

    Returns:
        The folder, whether it exists or not.
    """
    chosen = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE)
    return Path(chosen or Path.home() / ".cache" / "botorch_roma").expanduser()


def _check_encoding(encoding: str) -> None:
    if encoding not in ("one_hot", "logits"):
        raise ValueError(f"`encoding` must be 'one_hot' or 'logits', received {encoding!r}.")


def _check_tokens(tokens: Tensor, num_classes: int) -> None:
    if tokens.is_floating_point() or bool(((tokens < 0) | (tokens >= num_classes)).any()):
        raise ValueError(
            f"`tokens` must be integers from 0 to {num_classes - 1}, received {tokens.dtype} "
            f"from {tokens.min().item():g} to {tokens.max().item():g}; map the letters first."
        )


def _encoding_bounds(encoding: Encoding, length: int, dtype: torch.dtype) -> Tensor:
    """Bounds of encoded sequences over four letters, ``2 x d``."""
    letters = encode_tokens(torch.arange(4).unsqueeze(-1), encoding=encoding, dtype=dtype)
    low, high = letters.amin(dim=0), letters.amax(dim=0)
    margin = LOGITS_MARGIN * (high - low) if encoding == "logits" else torch.zeros_like(low)
    return torch.stack([low - margin, high + margin]).repeat(1, length)


def _snap(X: Tensor, *, encoding: Encoding) -> Tensor:
    """Move relaxed designs, ``... x d``, to the encoding of the sequence that they decode to."""
    tokens = decode_tokens(X, encoding=encoding)
    return encode_tokens(tokens, encoding=encoding, dtype=X.dtype)


def _random_sequences(
    length: int, encoding: Encoding, n: int, generator: torch.Generator
) -> Tensor:
    tokens = torch.randint(4, (n, length), generator=generator)
    return encode_tokens(tokens, encoding=encoding)


def _read_table(
    stem: str, data_dir: PathLike | None, source: str, verify: bool
) -> tuple[Array, Array]:
    """Read all shards in numeric order: designs ``n x d`` and values ``n``."""
    root = resolve_data_dir(data_dir)
    files = {
        f"{stem}-{kind}-{shard}.npy": checksum
        for kind, checksums in CHECKSUMS[stem].items()
        for shard, checksum in enumerate(checksums)
    }
    missing = [name for name in files if not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"`data_dir`: {len(missing)} of {len(files)} files are missing under {root}: "
            f"{', '.join(missing)}. The layout is that of Design-Bench's data folder, and nothing "
            f"is downloaded: put the files there, pass `data_dir`, or set {DATA_DIR_VARIABLE}. "
            f"Source: {source}"
        )
    arrays = [
        _read_array(root / name, checksum if verify else None) for name, checksum in files.items()
    ]
    xs, ys = arrays[: len(arrays) // 2], arrays[len(arrays) // 2 :]
    fits = all(a.ndim == 2 for a in arrays) and len({x.shape[1] for x in xs}) == 1
    if not fits or any(y.shape != (len(x), 1) for x, y in zip(xs, ys, strict=True)):
        raise ValueError(
            f"`data_dir`: {stem}-*.npy must hold n x d designs and n x 1 values, received shapes "
            f"{[a.shape for a in arrays]}; fetch the files anew."
        )
    return np.concatenate(xs), np.concatenate(ys)[:, 0]


def _read_array(path: Path, checksum: str | None) -> Array:
    """Read one ``.npy`` file; ``checksum=None`` takes it as it is."""
    content = path.read_bytes()
    try:
        array: Array = np.lib.format.read_array(BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise ValueError(
            f"`data_dir`: {path} ({len(content)} bytes) is no complete .npy array, perhaps a "
            f"download that broke off: fetch it anew. {error}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if checksum is not None and found != checksum:
        raise ValueError(
            f"`data_dir`: {path} has the SHA-256 checksum {found}, expected is {checksum}. Fetch "
            "it anew, or pass `verify_checksums=False` if you mean to use this file."
        )
    return array


def _split(
    y: Array, percentile: int, editions: dict[int, Edition], name: str
) -> tuple[Array, Edition]:
    """Rows up to a percentile, checked against the known editions of the table."""
    # In the dtype of the file, as Design-Bench does: in float64 the ties at the cut may differ.
    visible = y <= np.percentile(y, percentile)
    edition = editions.get(len(y))
    found = (int(visible.sum()), round(float(np.max(y, where=visible, initial=-np.inf)), 5))
    if edition is None or found != (edition.visible_rows, edition.visible_best):
        known = {rows: (known.visible_rows, known.visible_best) for rows, known in editions.items()}
        raise ValueError(
            f"`data_dir`: the table of task {name!r} has {len(y)} rows, {found[0]} of them visible "
            f"with best value {found[1]:g}; known are rows: (visible, best) = {known}. Fetch the "
            "files anew."
        )
    return visible, edition

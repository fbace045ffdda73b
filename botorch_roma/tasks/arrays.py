r"""
Arrays in Design-Bench's layout: found, checked and read; nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

PathLike: TypeAlias = str | os.PathLike[str]
Array: TypeAlias = np.ndarray[Any, Any]

DATA_DIR_VARIABLE = "BOTORCH_ROMA_DATA"
CACHE_VARIABLE = "BOTORCH_ROMA_CACHE"
DESIGN_BENCH_FOLDER = "design_bench_data"

#: Least and greatest value of the full tables as published in Design-Bench v2, by their stem: the
#: scale of all published scores, whatever the range of the table at hand.
FULL_RANGES: Mapping[str, tuple[float, float]] = {
    "tf_bind_8-SIX6_REF_R1/tf_bind_8": (0.0, 1.0),
    "tf_bind_10-pho4/tf_bind_10": (-1.8585268, 2.1287067),
    "utr/utr": (0.0, 12.0),
    "gfp/gfp": (1.2834193, 4.123109),
    "superconductor/superconductor": (0.00021, 185.0),
    "ant_morphology/ant_morphology": (-386.90036, 590.24445),
    "dkitty_morphology/dkitty_morphology": (-880.4585, 340.90985),
    "hopper_controller/hopper_controller": (87.93491, 1361.6106),
}


# Missing files that an error names.
MAX_NAMES = 12


class Edition(NamedTuple):
    """What a known edition of a table must look like once it is split; None is not known."""

    visible_rows: int | None
    visible_best: float | None
    substitute: str | None = None

    def fits(self, rows: int, best: float) -> bool:
        """Whether a table with these visible rows and best value can be this edition."""
        return self.visible_rows in (None, rows) and self.visible_best in (None, best)


def find_file(name: str, data_dir: PathLike | None = None) -> Path:
    """Where a file of the data is.

    The data folder is the one that holds the tables' folders (``superconductor/``, ...), or one
    that holds that under the name ``design_bench_data`` beside others (``molecules/``, ...).

    Args:
        name: Path of the file below the data folder.
        data_dir: See :func:`resolve_data_dir`.

    Returns:
        The file; below the data folder itself where it does not exist.
    """
    root = resolve_data_dir(data_dir)
    places = [root, root / DESIGN_BENCH_FOLDER]
    if root.name == DESIGN_BENCH_FOLDER:
        places.append(root.parent)
    return next((p / name for p in places if (p / name).is_file()), root / name)


def find_files(names: Sequence[str], data_dir: PathLike | None, source: str) -> list[Path]:
    """Where files of the data are.

    Raises:
        FileNotFoundError: If one of them is missing; says which, the layout, and the source.
    """
    paths = [find_file(name, data_dir) for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if not path.is_file()]
    if missing:
        more = len(missing) - MAX_NAMES
        listed = ", ".join(missing[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
        raise FileNotFoundError(
            f"`data_dir`: {len(missing)} of {len(names)} files are missing under "
            f"{resolve_data_dir(data_dir)}: {listed}. The layout is that of "
            "Design-Bench's data folder, and nothing is downloaded: put the files there, pass "
            f"`data_dir`, or set {DATA_DIR_VARIABLE}. Source: {source}"
        )
    return paths


def known_checksums(stem: str) -> dict[str, str]:
    """SHA-256 of every known file of a table, by its path below the data folder.

    The list, ``SHA256SUMS`` beside this module, can be checked by hand in the data folder with
    ``sha256sum -c``.

    Args:
        stem: Path of the table's files before ``-x-0.npy``. What else begins with it
            (``-meta.npy``) is no part of the table.

    Returns:
        The files of the table, ``x`` before ``y``, each in the order of its shards.
    """
    pattern = re.compile(rf"{re.escape(stem)}-[xy]-\d+\.npy")
    found = {name: checksum for name, checksum in _checksums().items() if pattern.fullmatch(name)}
    return dict(sorted(found.items(), key=lambda item: _shard(item[0])))


def known_checksum(name: str) -> str:
    """SHA-256 of one known file, by its path below the data folder."""
    return _checksums()[name]


def _checksums() -> dict[str, str]:
    lines = files("botorch_roma.tasks").joinpath("SHA256SUMS").read_text("utf-8").splitlines()
    return {name: checksum for checksum, name in (line.split(maxsplit=1) for line in lines)}


def _shard(name: str) -> tuple[str, int]:
    _, kind, shard = Path(name).stem.rsplit("-", 2)
    return kind, int(shard)


def resolve_data_dir(data_dir: PathLike | None = None) -> Path:
    """Folder of the data: the argument, else ``BOTORCH_ROMA_DATA``, else ``~/.cache/botorch_roma``.

    Args:
        data_dir: A folder, or ``None``.

    Returns:
        The folder, whether it exists or not.
    """
    chosen = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE)
    return Path(chosen or Path.home() / ".cache" / "botorch_roma").expanduser()


def resolve_cache_dir(cache_dir: PathLike | None = None) -> Path:
    """Folder of the cache: the argument, else ``BOTORCH_ROMA_CACHE``, else the default.

    Args:
        cache_dir: A folder, or ``None``. Default: ``~/.cache/botorch_roma``.

    Returns:
        The folder, whether it exists or not.
    """
    chosen = cache_dir if cache_dir is not None else os.environ.get(CACHE_VARIABLE)
    return Path(chosen or Path.home() / ".cache" / "botorch_roma").expanduser()


def read_table(
    stem: str,
    data_dir: PathLike | None,
    source: str,
    verify: bool = True,
    *,
    num_shards: int | None = None,
) -> tuple[Array, Array]:
    """Read all shards in numeric order: designs ``n x d`` and values ``n``.

    Args:
        stem: Path of the table's files before ``-x-0.npy``.
        data_dir: See :func:`resolve_data_dir`.
        source: Where the data come from, for the error.
        verify: Whether the files must have the known checksums.
        num_shards: Number of shards of a table without known checksums.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or another one than expected.
    """
    checksums: Mapping[str, str | None] = known_checksums(stem)
    if num_shards is not None:
        names = [f"{stem}-{kind}-{i}.npy" for kind in "xy" for i in range(num_shards)]
        checksums = dict.fromkeys(names)
    paths = find_files(list(checksums), data_dir, source)
    arrays = [
        read_array(path, checksum if verify else None)
        for path, checksum in zip(paths, checksums.values(), strict=True)
    ]
    xs, ys = arrays[: len(arrays) // 2], arrays[len(arrays) // 2 :]
    fits = all(a.ndim == 2 for a in arrays) and len({x.shape[1] for x in xs}) == 1
    if not fits or any(y.shape != (len(x), 1) for x, y in zip(xs, ys, strict=True)):
        raise ValueError(
            f"`data_dir`: {stem}-*.npy must hold n x d designs and n x 1 values, received shapes "
            f"{[a.shape for a in arrays]}; fetch the files anew."
        )
    return np.concatenate(xs), np.concatenate(ys)[:, 0]


def read_array(path: Path, checksum: str | None) -> Array:
    """Read one ``.npy`` file; ``checksum=None`` takes it as it is."""
    content = path.read_bytes()
    try:
        array: Array = np.lib.format.read_array(BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise _incomplete(path, content, ".npy array", error) from error
    verify_checksum(path, content, checksum)
    return array


def read_archive(path: Path, checksum: str | None) -> dict[str, Array]:
    """Read the arrays of one ``.npz`` file by name; ``checksum=None`` takes it as it is."""
    content = path.read_bytes()
    try:
        with np.load(BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (AttributeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise _incomplete(path, content, ".npz archive", error) from error
    verify_checksum(path, content, checksum)
    return arrays


def _incomplete(path: Path, content: bytes, kind: str, error: Exception) -> ValueError:
    return ValueError(
        f"`data_dir`: {path} ({len(content)} bytes) is no complete {kind}, perhaps a "
        f"download that broke off: fetch it anew. {error}"
    )


def verify_checksum(path: Path, content: bytes, checksum: str | None) -> str:
    """The SHA-256 of a file's content, which must be ``checksum`` if that is given.

    Raises:
        ValueError: If it is another one.
    """
    found = hashlib.sha256(content).hexdigest()
    if checksum is not None and found != checksum:
        raise ValueError(
            f"`data_dir`: {path} has the SHA-256 checksum {found}, expected is {checksum}. Fetch "
            "it anew, or pass `verify_checksums=False` if you mean to use this file."
        )
    return found


def split_table(
    y: Array,
    percentile: int,
    editions: dict[int, Edition],
    name: str,
    *,
    min_percentile: int = 0,
) -> tuple[Array, Edition]:
    """Rows between two percentiles, both included, checked against the known editions.

    Args:
        y: Values of the full table, ``n``.
        percentile: Rows above are hidden.
        editions: What the split of a table of so many rows must look like.
        name: Name of the task, for the error.
        min_percentile: Rows below are hidden. Default: 0, none.

    Returns:
        Whether each row is visible, ``n``, and the edition.

    Raises:
        ValueError: If the table is none of the known editions.
    """
    # In the dtype of the file, as Design-Bench does: in float64 the ties at the cut may differ.
    visible = (y <= np.percentile(y, percentile)) & (y >= np.percentile(y, min_percentile))
    edition = editions.get(len(y))
    found = (int(visible.sum()), round(float(np.max(y, where=visible, initial=-np.inf)), 5))
    if edition is None or not edition.fits(*found):
        known = {rows: (known.visible_rows, known.visible_best) for rows, known in editions.items()}
        raise ValueError(
            f"`data_dir`: the table of task {name!r} has {len(y)} rows, {found[0]} of them visible "
            f"with best value {found[1]:g}; known are rows: (visible, best) = {known}. Fetch the "
            "files anew."
        )
    return visible, edition


def sample_rows(visible: Array, max_rows: int | None, seed: int) -> Array:
    """At most ``max_rows`` of the visible rows, drawn uniformly without replacement.

    Args:
        visible: Whether each row is visible, ``n``.
        max_rows: Rows that are kept; None keeps all.
        seed: Seed of the draw; the same seed draws the same rows.

    Returns:
        Whether each row is kept, ``n``; their order is that of the table.
    """
    rows = np.flatnonzero(visible)
    if max_rows is None or len(rows) <= max_rows:
        return visible
    kept = np.zeros_like(visible)
    kept[np.random.default_rng(seed).choice(rows, size=max_rows, replace=False)] = True
    return kept

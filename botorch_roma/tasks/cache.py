r"""
Arrays that take minutes to compute, kept from one session to the next.

An entry is one ``.npz`` file without pickled objects, so that reading it never runs code. It names
what it was computed from, and it is written completely or not at all.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from botorch_roma.files import write_atomically
from botorch_roma.tasks.arrays import CACHE_VARIABLE, Array, resolve_cache_dir

_KEY = "cache_key"


def cached_arrays(
    name: str,
    key: Mapping[str, Any],
    compute: Callable[[], dict[str, Array]],
    *,
    use_cache: bool = True,
) -> dict[str, Array]:
    """Read arrays from the cache, or compute and store them.

    A cache that cannot be read or written costs time, never the result: a damaged entry is
    computed anew and replaced, and both cases warn.

    Args:
        name: Start of the file name, for people who look into the folder.
        key: All that the arrays depend on, in words and numbers that JSON can hold.
        compute: Computes the arrays; none may hold Python objects.
        use_cache: Whether to read and write the cache at all. Default: True.

    Returns:
        The arrays by name.

    Warns:
        RuntimeWarning: If the entry is damaged, or cannot be read or written.
    """
    if not use_cache:
        return compute()
    text = json.dumps(key, sort_keys=True)
    path = resolve_cache_dir() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    arrays = _read(path, text)
    if arrays is None:
        arrays = compute()
        _write(path, {**arrays, _KEY: np.array(text)})
    return arrays


def _read(path: Path, key: str) -> dict[str, Array] | None:
    """The arrays of an entry; None if there is none, or none that can be trusted."""
    if not path.is_file():
        return None
    try:
        # From memory: numpy leaves a damaged file open. Every array is compared with its CRC-32.
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        found = str(arrays.pop(_KEY))
    except Exception as error:  # damage shows as any of a dozen kinds
        _warn(f"{path} is damaged ({type(error).__name__}: {error}); it is computed anew.")
        return None
    if found != key:
        _warn(f"{path} was computed from {found}, not from {key}; it is computed anew.")
        return None
    return arrays


def _write(path: Path, arrays: dict[str, Array]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            path,
            lambda p: np.savez_compressed(p, **arrays),  # type: ignore[arg-type]
            force=True,
        )
    except OSError as error:
        _warn(
            f"{path} cannot be written ({error}), so it will be computed each time; set "
            f"{CACHE_VARIABLE} to a folder that can be."
        )


def _warn(message: str) -> None:
    warnings.warn(f"Cache: {message}", RuntimeWarning, stacklevel=4)

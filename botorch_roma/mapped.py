r"""
Tables that stay in their files: memory-mapped tensors from Parquet and NumPy files.

For ``RoMAModel(table.X, table.Y, copy=False)``: rows are read when they are needed, and the system
drops them from memory when it needs room.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from botorch.exceptions import InputDataError
from torch import Tensor

from botorch_roma.files import check_input, check_output, write_atomically
from botorch_roma.validation import check_choice

#: Numbers of a Parquet file that are decoded at once.
BATCH_NUMBERS: int = 2**21

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}


@dataclass(frozen=True)
class MappedTable:
    r"""Designs and outcomes whose numbers stay in a file.

    Writing to the tensors changes neither the file nor what others see of it.

    Attributes:
        X: Designs, ``n x d``.
        Y: Outcomes, ``n x m``.
        columns: Names of the ``d`` inputs.
        objectives: Names of the ``m`` outcomes.
    """

    X: Tensor
    Y: Tensor
    columns: list[str]
    objectives: list[str]


def map_parquet(
    path: str | Path,
    objective: str,
    folder: str | Path,
    *,
    inputs: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    force: bool = False,
) -> MappedTable:
    r"""Write the numbers of a Parquet file to ``folder``, once, and map them.

    The file is read and checked piece by piece and written as ``n x (d + 1)`` numbers with the
    outcome in the last column to ``<folder>/<name of the file>.npy``, which appears when it is
    complete. Later, :func:`map_npy` opens it without reading it.

    Args:
        path: The Parquet file.
        objective: Name of the outcome's column.
        folder: An existing folder on a disk with room for the table.
        inputs: Names of the inputs, in this order; all other columns by default.
        dtype: ``torch.float32`` or ``torch.float64``; numbers are rounded to it.
        force: Whether an existing ``.npy`` file may be replaced.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        FileExistsError: If the ``.npy`` file exists and ``force`` is not set.
        InputDataError: For a damaged or empty file, missing, repeated or non-numeric columns, and
            values that are missing or not finite; names the column and the row, counted from 0.

    Example:
        >>> table = map_parquet("designs.parquet", "strength", "cache")
        >>> model = RoMAModel(table.X, table.Y, copy=False)
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    check_choice("dtype", str(dtype), map(str, _DTYPES))
    check_input(path)
    output = check_output(Path(folder) / f"{path.stem}.npy", force=force)
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(file.schema_arrow, objective, inputs)
            shape = (file.metadata.num_rows, len(columns))
            if shape[0] == 0:
                raise InputDataError(f"The table {str(path)!r} has no rows.")
            blocks = _blocks(file, columns, np.dtype(_DTYPES[dtype]))
            write_atomically(output, lambda p: _write_npy(p, blocks, shape, dtype), force=force)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise InputDataError(
            f"The table {str(path)!r} cannot be read as parquet: {reason}"
        ) from error
    table = map_npy(output)
    return MappedTable(table.X, table.Y, columns[:-1], [objective])


def map_npy(X: str | Path, Y: str | Path | None = None) -> MappedTable:
    r"""Map NumPy files of floating point numbers; nothing is read yet.

    Args:
        X: Designs, a ``.npy`` file of ``n x d``; of ``n x (d + 1)`` without ``Y``, the outcome in
            the last column.
        Y: Outcomes, a ``.npy`` file of ``n x m`` or ``n`` numbers of the same type.

    Raises:
        FileNotFoundError: If there is no such file.
        InputDataError: For damaged files, other types than float32 and float64, and shapes that do
            not fit.

    Example:
        >>> table = map_npy("X.npy", "Y.npy")
        >>> model = RoMAModel(table.X, table.Y, copy=False)
    """
    designs = _map("X", Path(X))
    if designs.dim() != 2 or designs.shape[1] < (2 if Y is None else 1):
        raise InputDataError(
            f"`X` must hold n x d numbers{' and the outcome in a last column' * (Y is None)}, "
            f"{str(X)!r} has shape {tuple(designs.shape)}."
        )
    if Y is None:
        designs, outcomes = designs[:, :-1], designs[:, -1:]
    else:
        outcomes = _map("Y", Path(Y))
        outcomes = outcomes.unsqueeze(-1) if outcomes.dim() == 1 else outcomes
        fits = outcomes.dim() == 2 and len(outcomes) == len(designs)
        if not fits or outcomes.dtype != designs.dtype:
            raise InputDataError(
                f"`Y` must hold {len(designs)} x m numbers of {designs.dtype} as `X` does, "
                f"{str(Y)!r} has shape {tuple(outcomes.shape)} and {outcomes.dtype}."
            )
    m = outcomes.shape[1]
    names = ["y"] if m == 1 else [f"y{k}" for k in range(m)]
    return MappedTable(designs, outcomes, [f"x{i}" for i in range(designs.shape[1])], names)


def temporary_table(parts: Iterable[Tensor]) -> Tensor:
    r"""Parts ``r x d`` on the CPU below each other, ``n x d``, in a file without a name.

    The file is in the system's folder for temporary files (``TMPDIR``) and gone with the tensor.
    """
    rows = 0
    with tempfile.TemporaryFile() as file:
        for part in parts:
            rows += part.shape[0]
            _write(file, part.detach().numpy())
        file.flush()
        mapped = np.memmap(file, _DTYPES[part.dtype], "c", shape=(rows, part.shape[1]))
    return torch.from_numpy(mapped)


def _map(name: str, path: Path) -> Tensor:
    check_input(path, name)
    try:
        # copy on write: torch takes no read-only arrays, and the file stays as it is
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:  # a limited address space, say
        reason = " ".join(str(error).split())
        raise InputDataError(f"`{name}`: {str(path)!r} cannot be mapped: {reason}") from error
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
        raise InputDataError(
            f"`{name}` must be a .npy file of float32 or float64 in this machine's byte order, "
            f"{str(path)!r} holds {getattr(array, 'dtype', 'several arrays')}."
        )
    return torch.from_numpy(array)


def _columns(schema: Any, objective: str, inputs: Sequence[str] | None) -> list[str]:
    """Names of the inputs, then the outcome, all of them numeric and there once."""
    from pyarrow import types

    names = list(schema.names)
    if isinstance(inputs, str):
        raise InputDataError(f"`inputs` must be a list of names, received {inputs!r}.")
    chosen = [n for n in names if n != objective] if inputs is None else list(inputs)
    for name in (objective, *chosen):
        if name not in names:
            shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise InputDataError(f"The table has no column {name!r}; its columns are [{shown}].")
        if names.count(name) > 1:
            raise InputDataError(f"The table has several columns named {name!r}; rename them.")
        kind = schema.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise InputDataError(
                f"The column {name!r} is not numeric (its type is {kind}); leave it out by naming "
                "the others in `inputs`, or encode it as numbers."
            )
    if not chosen or objective in chosen or len(set(chosen)) < len(chosen):
        raise InputDataError(
            f"`inputs` must name at least one column, each once, and not the objective "
            f"{objective!r}, received {chosen[:10]}."
        )
    return [*chosen, objective]


def _blocks(file: Any, columns: list[str], dtype: np.dtype[Any]) -> Iterator[np.ndarray]:
    """Rows of a Parquet file as arrays, checked."""
    start = 0
    size = max(1, BATCH_NUMBERS // len(columns))
    for batch in file.iter_batches(batch_size=size, columns=columns, use_threads=False):
        block = np.empty((batch.num_rows, len(columns)), dtype)
        for i, name in enumerate(columns):
            values = batch.column(batch.schema.get_field_index(name))
            with np.errstate(over="ignore"):  # it is reported below
                block[:, i] = values.cast("float64", safe=False).to_numpy(zero_copy_only=False)
        finite = np.isfinite(block)
        if not finite.all():
            row, i = (int(k) for k in np.argwhere(~finite)[0])
            value = batch.column(batch.schema.get_field_index(columns[i]))[row].as_py()
            what = "no value" if value is None or math.isnan(value) else f"{value!r}"
            raise InputDataError(
                f"The column {columns[i]!r} has {what} in row {start + row}, which is no finite "
                f"{dtype} number; drop or impute such rows."
            )
        start += batch.num_rows
        yield block


def _write_npy(
    path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, int], dtype: torch.dtype
) -> None:
    # not through a mapping: where the disk is full, that ends the process
    header = {"descr": np.dtype(_DTYPES[dtype]).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            _write(file, block)


def _write(file: IO[bytes], array: np.ndarray) -> None:
    file.write(np.ascontiguousarray(array).data)

"""Reading tables and writing results so that nothing is lost or half-written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from botorch.exceptions import InputDataError

if TYPE_CHECKING:
    import pandas as pd

#: Suffixes of the tables that can be read and written.
TABLE_SUFFIXES: tuple[str, ...] = (".csv", ".parquet")


def check_output(path: Path, *, force: bool = False) -> Path:
    """Check, before any work is done, that ``path`` can be written.

    Raises:
        FileExistsError: If it exists and ``force`` is not set.
        FileNotFoundError: If its folder does not exist.
        PermissionError: If it or its folder cannot be written.
    """
    if path.is_dir():
        raise FileExistsError(f"The output {str(path)!r} is a folder; name a file.")
    if path.exists() and not force:
        raise FileExistsError(
            f"The output {str(path)!r} exists already; pass --force to overwrite it, or another "
            "name."
        )
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {str(folder)!r} of the output does not exist.")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise PermissionError(
            f"The output {str(path)!r} cannot be written: no permission; choose another place."
        )
    return path


def write_atomically(path: Path, write: Callable[[Path], object], *, force: bool = False) -> None:
    """Write a file completely or not at all.

    Args:
        path: The file to write.
        write: Writes to the temporary path that it is given (same folder, same suffix).
        force: Whether an existing file may be replaced.

    Raises:
        OSError: As :func:`check_output`; whatever ``write`` raises, with ``path`` untouched.
    """
    path = check_output(path, force=force).resolve()  # a link stays a link
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp files are private
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_suffix(path: Path) -> str:
    """Lower-case suffix of a table.

    Raises:
        ValueError: If it is none of :data:`TABLE_SUFFIXES`.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise ValueError(
            f"The table {str(path)!r} must end in one of {list(TABLE_SUFFIXES)}, received "
            f"{path.suffix!r}."
        )
    return suffix


def read_frame(path: Path, *, texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV or Parquet table.

    Args:
        path: The file.
        texts: Columns of a CSV table that are texts whatever they look like: ``0101`` stays four
            characters, ``NA`` two.

    Raises:
        FileNotFoundError: If there is no such file.
        InputDataError: If it is empty or damaged.
        ValueError: If its suffix is unknown.
    """
    import pandas as pd

    suffix = check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if path.stat().st_size == 0:
        raise InputDataError(f"The table {str(path)!r} is empty (0 bytes).")
    try:
        frame = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
        if texts and suffix == ".csv":  # converters do not keep pandas 3 from reading NA as missing
            raw = pd.read_csv(path, dtype=str, na_filter=False)
            for name in raw.columns.intersection(list(texts)):
                frame[name] = raw[name].to_numpy()
    except (ValueError, OSError, pd.errors.ParserError) as error:  # ArrowInvalid is a ValueError
        reason = " ".join(str(error).split())
        raise InputDataError(
            f"The table {str(path)!r} cannot be read as {suffix[1:]}: {reason}"
        ) from error
    if frame.empty:
        raise InputDataError(
            f"The table {str(path)!r} has no rows (columns: {list(frame.columns)[:10]})."
        )
    return frame


def write_frame(frame: pd.DataFrame, path: Path, *, force: bool = False) -> None:
    """Write a CSV or Parquet table atomically.

    Raises:
        OSError, ValueError: As :func:`check_output` and :func:`check_suffix`.
    """
    if check_suffix(path) == ".csv":
        write_atomically(path, lambda p: frame.to_csv(p, index=False), force=force)
    else:
        write_atomically(path, lambda p: frame.to_parquet(p, index=False), force=force)

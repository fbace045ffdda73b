"""Reading tables and writing results so that nothing is lost or half-written."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botorch.exceptions import InputDataError

from botorch_roma.limits import MemoryLimitError, check_memory

if TYPE_CHECKING:
    import pandas as pd

#: Suffixes of the tables that can be read and written.
TABLE_SUFFIXES: tuple[str, ...] = (".csv", ".parquet")

#: Bytes of the longest text of a number; a table of numbers takes 8 for it once it is read.
MAX_NUMBER_BYTES: int = 25

#: Letters of a file's name that its temporary file has in its own, which must not get too long.
MAX_STEM: int = 20


def check_output(path: Path, *, force: bool = False, inputs: Sequence[Path] = ()) -> Path:
    """Check, before any work is done, that ``path`` can be written.

    Args:
        path: The file to write.
        force: Whether an existing file may be replaced.
        inputs: Files that may not, in any case.

    Raises:
        FileExistsError: If it exists and ``force`` is not set, or is one of ``inputs``.
        FileNotFoundError: If its folder does not exist.
        PermissionError: If it or its folder cannot be written.
    """
    try:
        target = path.resolve()  # what a link leads to is what is written
        exists = target.exists()
    except (RuntimeError, OSError) as error:  # links in a circle, a name that is too long
        raise FileNotFoundError(
            f"The output {str(path)!r} cannot be written: {error}; choose another name."
        ) from error
    if target.is_dir():
        raise FileExistsError(f"The output {str(path)!r} is a folder; name a file.")
    if exists and any(i.exists() and target.samefile(i) for i in inputs):
        raise FileExistsError(
            f"The output {str(path)!r} is the file that is read, which is never overwritten; "
            "choose another name."
        )
    if exists and not force:
        raise FileExistsError(
            f"The output {str(path)!r} exists already; pass --force to overwrite it, or another "
            "name."
        )
    if exists and not target.is_file():
        raise FileExistsError(f"The output {str(path)!r} is no regular file; name another one.")
    folder = target.parent
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The folder {str(folder)!r} of the output does not exist; make it, or choose another."
        )
    if not os.access(folder, os.W_OK) or (exists and not os.access(target, os.W_OK)):
        raise PermissionError(
            f"The output {str(path)!r} cannot be written: no permission; choose another place."
        )
    try:  # permissions do not tell of file systems that are read-only or full
        _temporary_file(target).unlink()
    except OSError as error:
        raise PermissionError(
            f"The output {str(path)!r} cannot be written: {error.strerror or error}; choose "
            "another place."
        ) from error
    return path


def check_input(path: Path, name: str | None = None) -> int:
    """Check that there is a file to read.

    Args:
        path: The file.
        name: The argument that names it, where that is not plain.

    Returns:
        Its size in bytes.

    Raises:
        FileNotFoundError: If there is none.
    """
    what = f"There is no file {str(path)!r}" + ("" if name is None else f" (`{name}`)")
    try:
        size = path.stat().st_size
    except OSError as error:  # links in a circle, a name that is too long, a folder that is closed
        raise FileNotFoundError(
            f"{what} to read ({error.strerror}); check the name and the folder."
        ) from error
    if path.is_dir():
        raise FileNotFoundError(f"{what}, it is a folder; name a file.")
    if not path.is_file():
        raise FileNotFoundError(f"{what}; check the name and the folder.")
    return size


def check_apart(*paths: Path | None) -> None:
    """Raise ``FileExistsError`` if two of the files to write are one, by a link for instance."""
    for one, other in itertools.combinations([p for p in paths if p is not None], 2):
        if os.path.realpath(one) == os.path.realpath(other):
            raise FileExistsError(
                f"The outputs {str(one)!r} and {str(other)!r} are one file; choose another name "
                "for one of them."
            )


def write_atomically(path: Path, write: Callable[[Path], object], *, force: bool = False) -> None:
    """Write a file completely or not at all.

    Args:
        path: The file to write.
        write: Writes to the temporary path that it is given (same folder, same suffix).
        force: Whether an existing file may be replaced.

    Raises:
        OSError: As :func:`check_output`, and where ``write`` fails (a full disk); whatever else it
            raises. ``path`` is as it was before then.
    """
    target = check_output(path, force=force).resolve()  # a link stays a link
    temporary = _temporary_file(target)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp files are private
        temporary.replace(target)
    except OSError as error:
        raise unwritten(f"The output {str(path)!r}", error) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def unwritten(what: str, error: OSError) -> OSError:
    """An error that names the file, which those of a full disk do not."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    named = OSError(
        f"{what} could not be written: {reason}; make room, or choose another place. If there was "
        "such a file, it is as it was."
    )
    named.errno = error.errno
    return named


def _temporary_file(path: Path) -> Path:
    """A new, empty file beside ``path``."""
    prefix = f".{path.stem[:MAX_STEM]}-"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    return Path(name)


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
        InputDataError: If it is empty or damaged, names columns twice, or has rows of more values
            than columns.
        ValueError: If its suffix is unknown, or it does not fit into the memory.
    """
    suffix = check_suffix(path)
    size = check_input(path)
    if size == 0:
        raise InputDataError(f"The table {str(path)!r} is empty (0 bytes); export it again.")
    try:
        frame = _read_csv(path, texts) if suffix == ".csv" else _read_parquet(path)
    except (InputDataError, MemoryError, MemoryLimitError):
        raise
    except UnicodeDecodeError as error:
        raise InputDataError(
            f"The table {str(path)!r} cannot be read as {suffix[1:]}: it is no text in UTF-8 "
            f"({error.reason}, byte {error.object[error.start]:#04x}); export it again, in UTF-8."
        ) from error
    except Exception as error:  # of a damaged file pandas and pyarrow raise anything
        reason = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
        raise InputDataError(
            f"The table {str(path)!r} cannot be read as {suffix[1:]}: {reason.rstrip('.')}; "
            "correct it or export it again."
        ) from error
    if frame.empty:
        what = "rows" if len(frame.columns) else "columns"
        raise InputDataError(
            f"The table {str(path)!r} has no {what} (columns: {list(frame.columns)[:10]}); "
            "export it again."
        )
    return frame


def _read_csv(path: Path, texts: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    _check_size(path, path.stat().st_size * 8 // MAX_NUMBER_BYTES)
    # the names as they are: pandas renames the second of two columns in silence
    first = pd.read_csv(path, header=None, nrows=1, dtype=str, na_filter=False)
    names = [str(name) for name in first.iloc[0] if name]
    _check_names(path, names)
    if len(names) == 1 and any(c in names[0] for c in ";\t|"):
        raise InputDataError(
            f"The table {str(path)!r} has one column, {names[0]!r}; separate columns by commas, "
            "and write decimals with points."
        )
    options: Any = {"index_col": False}  # else longer rows make the first column an index
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
        # rounds the last digit by default; later ones do not, and warn of this
        options["float_precision"] = "round_trip"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # one type for all rows of a column
            frame = pd.read_csv(path, low_memory=False, **options)
    except pd.errors.ParserWarning:
        raise InputDataError(
            f"The table {str(path)!r} has more values in its rows than the {len(names)} names in "
            "its first line; name all columns."
        ) from None
    if texts:  # converters do not keep pandas 3 from reading NA as missing
        raw = pd.read_csv(path, dtype=str, na_filter=False, **options)
        for name in raw.columns.intersection(list(texts)):
            frame[name] = raw[name].to_numpy()
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names, rows = list(file.schema_arrow.names), file.metadata.num_rows
    _check_names(path, names)
    _check_size(path, 8 * rows * len(names), f" of {rows} rows and {len(names)} columns")
    frame = pd.read_parquet(path)
    index = [name for name in frame.index.names if name is not None]
    # pandas makes an index of columns; they are in the file, and in CSV they would be columns
    return frame.reset_index(level=index) if index else frame


def _check_names(path: Path, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise InputDataError(
            f"The table {str(path)!r} has several columns named {repeated[0]!r}; rename them."
        )


def _check_size(path: Path, needed: int, size: str = "") -> None:
    check_memory(f"The table {str(path)!r}{size}", needed, "keep fewer rows or columns")


def write_frame(frame: pd.DataFrame, path: Path, *, force: bool = False) -> None:
    """Write a CSV or Parquet table atomically.

    Raises:
        OSError, ValueError: As :func:`check_output` and :func:`check_suffix`.
    """
    if check_suffix(path) == ".csv":
        write_atomically(path, lambda p: frame.to_csv(p, index=False), force=force)
    else:
        write_atomically(path, lambda p: frame.to_parquet(p, index=False), force=force)


def write_or_rescue(frame: pd.DataFrame, path: Path, *, force: bool = False) -> None:
    """Write a table that took long to make: where it cannot be written, to a temporary folder.

    Raises:
        OSError: Says where it is then.
    """
    try:
        write_frame(frame, path, force=force)
    except OSError as error:
        if (rescued := rescue_frame(frame, path)) is None:
            raise
        raise OSError(f"{error} The designs are in {str(rescued)!r}.") from error


def rescue_frame(frame: pd.DataFrame, path: Path) -> Path | None:
    """Write a table, which could not be written to ``path``, to a new folder for temporary files.

    Returns:
        Where it is; None if that failed, too.
    """
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="botorch-roma-"))
        write_frame(frame, folder / path.name)
    except OSError:
        if folder is not None:
            folder.rmdir()
        return None
    return folder / path.name

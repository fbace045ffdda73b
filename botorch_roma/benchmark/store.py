r"""
The store of finished runs: one line of JSON each, appended as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botorch.exceptions.errors import InputDataError

from botorch_roma.files import unwritten

if TYPE_CHECKING:
    import pandas as pd

#: What a run is known by: a second record with the same values is not stored.
KEY: tuple[str, ...] = ("task", "method", "config", "seed", "version")

#: What differs between two runs of the same thing.
MEASURED: tuple[str, ...] = (
    "fit_seconds",
    "optimize_seconds",
    "evaluate_seconds",
    "peak_memory_mb",
    "batch_seeds",
)

Record = dict[str, Any]
Key = tuple[Any, ...]


def config_hash(settings: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that stand for nested settings of primitives."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def key_of(record: Mapping[str, Any]) -> Key:
    """The values of :data:`KEY`."""
    return tuple(record[name] for name in KEY)


class RunStore:
    r"""Finished runs in a JSON-lines file.

    A record is written in one piece and flushed to the disk before :meth:`append` returns, under
    a lock, so that several processes may share a store. What a killed process left behind of
    a line is removed by the next one that writes, and never read.

    Args:
        path: The file; it is made by the first record. Its folder must exist.

    Raises:
        FileNotFoundError: If the folder does not exist.

    Example:
        >>> store = RunStore(Path("runs.jsonl"))
        >>> store.append([record])
        >>> store.frame()
    """

    def __init__(self, path: Path) -> None:
        if not path.absolute().parent.is_dir():
            folder = str(path.absolute().parent)
            raise FileNotFoundError(f"The folder {folder!r} of the store does not exist; make it.")
        if path.is_dir():
            raise FileExistsError(f"The store {str(path)!r} is a folder; name a file.")
        self.path = path

    def records(self) -> list[Record]:
        r"""All finished runs, in the order in which they were stored.

        Raises:
            InputDataError: If a line before the last is damaged.
        """
        if not self.path.exists():
            return []
        *lines, _ = self.path.read_bytes().split(b"\n")  # the rest: nothing, or half a record
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    def append(self, records: Iterable[Record]) -> None:
        r"""Store runs, but for those whose key is there already.

        Args:
            records: With at least the fields of :data:`KEY`, of primitives.

        Raises:
            OSError: If they cannot be written; those before are kept.
        """
        from filelock import FileLock

        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            known = {key_of(record) for record in self.records()}
            new: dict[Key, Record] = {}
            for record in records:
                if key_of(record) not in known:
                    new.setdefault(key_of(record), record)
            if not new:
                return
            text = "".join(json.dumps(r, allow_nan=False) + "\n" for r in new.values())
            whole = self._whole()
            try:
                with self.path.open("ab") as file:
                    file.truncate(whole)
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:  # a full disk, say
                with contextlib.suppress(OSError):
                    os.truncate(self.path, whole)
                raise unwritten(f"The store {str(self.path)!r}", error) from error

    def frame(self) -> pd.DataFrame:
        """All finished runs as a table, one row each."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def _whole(self) -> int:
        """Number of bytes up to the end of the last whole record."""
        return self.path.read_bytes().rfind(b"\n") + 1 if self.path.exists() else 0

    def _parse(self, line: bytes, number: int) -> Record:
        try:
            record: Record = json.loads(line)
            key_of(record)
        except (ValueError, KeyError, TypeError) as error:
            raise InputDataError(
                f"Line {number} of the store {str(self.path)!r} is no record of a run "
                f"({error!r}): {line[:60]!r}; remove it, and its run is made again."
            ) from error
        return record

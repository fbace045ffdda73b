r"""
Files that are checked before they are read, and never executed: fitted weights, checkpoints.

A file is one line of text, ``botorch_roma <kind> <format> <version of the package> <SHA-256 of the
rest>``, and then names, numbers and tensors as ``torch.save`` writes them. They are read with
``weights_only=True``, which builds tensors, numbers and texts and nothing else.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from botorch.exceptions import InputDataError

from botorch_roma.limits import check_memory

#: Bytes of the first line, at most.
MAX_HEADER: int = 1024


class Kind(NamedTuple):
    r"""A kind of file.

    Attributes:
        name: What it holds, one word.
        format: Its version; it changes with what is in the file and with what that means.
        maker: What writes such files.
        remedy: What to do where one cannot be read.
    """

    name: str
    format: int
    maker: str
    remedy: str

    def refusal(self, path: Path, reason: str) -> InputDataError:
        """The error that says why a file of this kind cannot be read."""
        return InputDataError(f"The {self.name} {str(path)!r} cannot be read: {reason}.")


def package_version() -> str:
    """The version of this package that is installed."""
    try:
        return version("botorch-roma")
    except PackageNotFoundError:  # run from its source, without being installed
        return "unknown"


def seal(kind: Kind, content: dict[str, Any]) -> bytes:
    r"""The bytes of a file.

    Args:
        kind: Its kind.
        content: Tensors, numbers, texts, and lists and dictionaries of them.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    words = ("botorch_roma", kind.name, str(kind.format), package_version())
    return f"{' '.join(words)} {hashlib.sha256(data).hexdigest()}\n".encode() + data


def unseal(kind: Kind, path: Path, device: torch.device | str) -> Any:
    r"""What a file holds, once its first line and its checksum fit.

    Args:
        kind: The kind that it should be of.
        path: The file.
        device: Where its tensors go.

    Raises:
        InputDataError: If it is damaged, no such file, or of another format; says which.
        ValueError: If it does not fit into the memory.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for, a device has no end
        raise kind.refusal(path, "it is a folder or no regular file; name another one")
    with path.open("rb") as file:  # what follows may be large, and is read once it is known
        checksum = _read_header(kind, path, file.readline(MAX_HEADER))
        size = path.stat().st_size
        check_memory(f"The {kind.name} {str(path)!r} of {size} bytes", 2 * size, kind.remedy)
        data = file.read()
    if hashlib.sha256(data).hexdigest() != checksum:
        raise kind.refusal(
            path,
            f"its checksum does not fit its {len(data)} bytes, it is damaged; copy it again, or "
            f"{kind.remedy}",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd pickles, which are refused below
            return torch.load(BytesIO(data), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:  # torch's text recommends to execute it
        reason = "there is more in it than tensors, numbers and texts, and code is never executed"
        raise kind.refusal(path, f"it holds no {kind.name}: {reason}; {kind.remedy}") from error
    except Exception as error:  # a foreign pickle can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise kind.refusal(path, f"it holds no {kind.name} ({reason}); {kind.remedy}") from error


def _read_header(kind: Kind, path: Path, line: bytes) -> str:
    """The checksum in the first line of a file, if that is one of this kind and format."""
    magic = f"botorch_roma {kind.name} "
    words = line.decode(errors="replace").removeprefix(magic).split()
    if not line.startswith(magic.encode()) or len(words) != 3:
        raise kind.refusal(path, f"it is no file of {kind.maker}; name another one")
    written, package, checksum = words
    if written != str(kind.format):
        raise kind.refusal(
            path,
            f"its format is {written}, of botorch_roma {package}, and {kind.format} is read here; "
            f"use that version, or {kind.remedy}",
        )
    return checksum

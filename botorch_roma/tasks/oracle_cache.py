r"""
Files of trained oracles: written at once, checked before they are read, never executed.

A file is one line of text, ``botorch_roma oracle 1 <SHA-256 of the rest>``, and then weights and
metadata as ``torch.save`` writes them. They are read with ``weights_only=True``, which builds
tensors, numbers and texts and nothing else, and only once the checksum fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from botorch_roma.files import write_atomically

#: Version of the files; it changes with their layout and with what networks or training compute.
ORACLE_FORMAT = 1

_MAGIC = f"botorch_roma oracle {ORACLE_FORMAT} "


def write_oracle(
    path: Path, key: str, weights: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write the file of an oracle, completely or not at all.

    Args:
        path: The file; its folder is made, and an older file replaced.
        key: What the weights belong to.
        weights: Tensors by name.
        metadata: Numbers and texts by name.

    Raises:
        OSError: If it cannot be written.
    """
    buffer = BytesIO()
    torch.save({"key": key, "weights": dict(weights), "metadata": dict(metadata)}, buffer)
    content = buffer.getvalue()
    header = f"{_MAGIC}{hashlib.sha256(content).hexdigest()}\n".encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda p: p.write_bytes(header + content), force=True)


def read_oracle(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the file of an oracle: its weights and its metadata.

    Args:
        path: The file.
        key: What its weights must belong to.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, of another version, or belongs to another key; says which.
    """
    header, _, content = path.read_bytes().partition(b"\n")
    if not header.startswith(_MAGIC.encode()):
        raise ValueError(f"it is no file of version {ORACLE_FORMAT} of a trained oracle")
    if header[len(_MAGIC) :].decode(errors="replace") != hashlib.sha256(content).hexdigest():
        raise ValueError(f"its checksum does not fit its {len(content)} bytes: it is damaged")
    try:
        stored = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        found, weights, metadata = (stored[name] for name in ("key", "weights", "metadata"))
    except Exception as error:  # a foreign pickle can raise anything
        raise ValueError(f"it does not hold the weights of an oracle: {error}") from error
    if found != key:
        raise ValueError(f"it belongs to other data or settings (key {str(found)[:12]})")
    return weights, metadata


def fingerprint_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, kinds, shapes and values of tensors; the same for the same weights."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

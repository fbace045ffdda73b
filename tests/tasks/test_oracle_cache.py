from __future__ import annotations

import hashlib
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from botorch_roma.tasks.oracle_cache import (
    fingerprint_weights,
    read_oracle,
    write_oracle,
)

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(2, dtype=torch.long)}
METADATA = {"rank_correlation": 0.5, "num_held_out": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "tiny.oracle"
    write_oracle(path, "key", WEIGHTS, METADATA)
    return path


def write_content(path: Path, content: bytes) -> None:
    """Write any content behind a header that fits it."""
    checksum = hashlib.sha256(content).hexdigest()
    path.write_bytes(f"botorch_roma oracle 1 {checksum}\n".encode() + content)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class TestReadAndWrite:
    def test_round_trip(self, path: Path) -> None:
        weights, metadata = read_oracle(path, "key")
        assert metadata == METADATA
        assert weights.keys() == WEIGHTS.keys()
        assert all(
            torch.equal(weights[k], v) and weights[k].dtype == v.dtype for k, v in WEIGHTS.items()
        )

    def test_full_disk(self, path: Path, full_disk: None) -> None:
        before = path.read_bytes()
        with pytest.raises(OSError, match=r"tiny\.oracle' could not be written: File too large"):
            write_oracle(path, "key", {"a": torch.zeros(5_000)}, METADATA)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_nothing_else_is_left_and_an_old_file_is_replaced(self, path: Path) -> None:
        write_oracle(path, "other", WEIGHTS, METADATA)
        assert [p.name for p in path.parent.iterdir()] == ["tiny.oracle"]
        assert read_oracle(path, "other")[1] == METADATA

    @pytest.mark.parametrize("size", [0, 10, 87, 88, 500, -1])
    def test_truncated(self, path: Path, size: int) -> None:
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ValueError, match=r"checksum does not fit|is no file of version 1"):
            read_oracle(path, "key")

    def test_every_byte_counts(self, path: Path) -> None:
        content = path.read_bytes()
        for i in range(0, len(content), 61):
            damaged = bytearray(content)
            damaged[i] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"checksum does not fit|is no file of version 1"):
                read_oracle(path, "key")

    def test_foreign_files(self, path: Path) -> None:
        content = path.read_bytes()
        with pytest.raises(ValueError, match="belongs to other data or settings"):
            read_oracle(path, "another key")
        path.write_bytes(content.replace(b"oracle 1 ", b"oracle 9 ", 1))
        with pytest.raises(ValueError, match="is no file of version 1"):
            read_oracle(path, "key")
        for foreign in ([1, 2], {"key": "key"}, "text"):
            buffer = BytesIO()
            torch.save(foreign, buffer)
            write_content(path, buffer.getvalue())
            with pytest.raises(ValueError, match="does not hold the weights"):
                read_oracle(path, "key")

    def test_nothing_is_executed(self, path: Path, tmp_path: Path) -> None:
        trap = tmp_path / "sprung"
        buffer = BytesIO()
        torch.save({"key": "key", "weights": Trap(trap), "metadata": {}}, buffer)
        for content in (buffer.getvalue(), pickle.dumps(Trap(trap))):
            write_content(path, content)
            with pytest.raises(ValueError, match="does not hold the weights"):
                read_oracle(path, "key")
        assert not trap.exists()
        pickle.loads(pickle.dumps(Trap(trap)))
        assert trap.exists()

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_oracle(tmp_path / "none", "key")


class TestFingerprint:
    def test_same_for_the_same_weights_only(self) -> None:
        first = fingerprint_weights(WEIGHTS)
        assert len(first) == 64
        assert fingerprint_weights(dict(reversed(WEIGHTS.items()))) == first
        assert fingerprint_weights({k: v.T for k, v in WEIGHTS.items() if v.dim() == 2}) != first
        value = WEIGHTS["a.weight"].clone()
        value[1, 2] += 1e-6
        for other in (
            {**WEIGHTS, "a.weight": value},
            {**WEIGHTS, "a.weight": WEIGHTS["a.weight"].reshape(3, 2)},
            {**WEIGHTS, "b": torch.tensor(2, dtype=torch.int32)},
            {"a.weight": WEIGHTS["a.weight"], "c": WEIGHTS["b"]},
        ):
            assert fingerprint_weights(other) != first

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from botorch.exceptions import InputDataError

from botorch_roma import sealed
from botorch_roma.limits import MemoryLimitError
from botorch_roma.sealed import Kind, package_version, seal, unseal

NOTES = Kind("notes", 3, "`write_notes`", "write them again")


def test_round_trip(tmp_path: Path) -> None:
    path, content = tmp_path / "n", {"x": torch.arange(3.0), "y": [{"a": 1, "b": None}]}
    path.write_bytes(seal(NOTES, content))
    found = unseal(NOTES, path, "cpu")
    assert torch.equal(found["x"], content["x"])  # type: ignore[arg-type]
    assert found["y"] == content["y"]
    first = path.read_bytes().split(b"\n")[0].decode()
    assert first.startswith(f"botorch_roma notes 3 {package_version()} ")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NOTES._replace(name="songs"), "it is no file of `write_notes`; name another one"),
        (NOTES._replace(format=4), r"its format is 4, of botorch_roma .*, and 3 is read here"),
    ],
)
def test_another_kind(tmp_path: Path, kind: Kind, message: str) -> None:
    (tmp_path / "n").write_bytes(seal(kind, {}))
    with pytest.raises(InputDataError, match=f"The notes '.*n' cannot be read: {message}"):
        unseal(NOTES, tmp_path / "n", "cpu")


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / "n"
    path.write_bytes(seal(NOTES, {"x": torch.zeros(9)})[:-1])
    with pytest.raises(InputDataError, match=r"is damaged; copy it again, or write them again\."):
        unseal(NOTES, path, "cpu")


def test_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")  # reading one would wait for ever, and a device has no end
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "zeros"):
        with pytest.raises(InputDataError, match=f"'.*{name}' cannot be read: it is a folder or"):
            unseal(NOTES, tmp_path / name, "cpu")


def test_what_does_not_fit_is_not_read(tmp_path: Path) -> None:
    """A foreign file is refused by its first line, a gigantic one by its size."""
    path, size = tmp_path / "n", 2**42
    for content, message in (
        (b"", "it is no file of `write_notes`; name another one"),
        (seal(NOTES, {}), r"n' of \d+ bytes needs at least 8 TiB of memory, .* write them again"),
    ):
        path.write_bytes(content)
        os.truncate(path, size)  # of which nothing is on the disk
        with pytest.raises((InputDataError, MemoryLimitError), match=message):
            unseal(NOTES, path, "cpu")


def test_run_from_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise sealed.PackageNotFoundError(name)

    monkeypatch.setattr(sealed, "version", version)
    assert package_version() == "unknown"

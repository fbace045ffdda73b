from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from botorch.exceptions import InputDataError
from filelock import FileLock

from botorch_roma import checkpoint
from botorch_roma.checkpoint import Checkpoint, CheckpointFolder, open_checkpoint
from botorch_roma.fingerprint import fingerprint
from botorch_roma.sealed import seal

CPU = torch.device("cpu")


class Killed(Exception):
    """Stands for SIGKILL."""


# The file


@contextlib.contextmanager
def opened(path: Path, interval: float = 60.0, **key: Any) -> Iterator[Checkpoint]:
    with open_checkpoint(path, interval, CPU, lambda: fingerprint(**key)) as file:
        assert file is not None
        yield file


class TestFile:
    def test_without_one_nothing_is_done(self) -> None:
        def key() -> Any:
            raise AssertionError

        with open_checkpoint(None, 1.0, CPU, key) as file:
            assert file is None

    def test_what_is_saved_comes_back(self, tmp_path: Path) -> None:
        state = {"x": torch.arange(3.0), "more": [{"n": 1, "t": "a", "none": None}]}
        with opened(tmp_path / "c", lr=0.1) as file:
            assert file.parts == {}
            assert file.before == 0.0
            file.save("part", state)
        with opened(tmp_path / "c", lr=0.1) as file:
            assert torch.equal(file.parts["part"]["x"], state["x"])
            assert file.parts["part"]["more"] == state["more"]
            assert 0.0 < file.before < 10.0
        assert sorted(p.name for p in tmp_path.iterdir()) == [".c.lock", "c"]

    def test_full_disk(self, tmp_path: Path, full_disk: None) -> None:
        """What was saved before is there to go on from, and no half of a later state."""
        message = r"The checkpoint '.*/c' could not be written: File too"
        with opened(tmp_path / "c") as file:
            file.save("part", {"x": torch.ones(3)})
            with pytest.raises(OSError, match=message):
                file.save("part", {"x": torch.ones(5_000)})
        assert sorted(p.name for p in tmp_path.iterdir()) == [".c.lock", "c"]
        with opened(tmp_path / "c") as file:
            assert len(file.parts["part"]["x"]) == 3

    def test_the_global_generator(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        with opened(tmp_path / "c") as file:
            torch.rand(3)
            file.save("part", {})
            expected = torch.rand(2)
        torch.manual_seed(1)
        with opened(tmp_path / "c"):
            assert torch.equal(torch.rand(2), expected)

    def test_the_interval(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Saved when due, not before; the next interval begins when a save begins."""
        clock, saved = [0.0], list[float]()
        monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        monkeypatch.setattr(os, "fsync", lambda _: saved.append(clock[0]))
        with opened(tmp_path / "c", 10.0) as file:
            for clock[0] in [1.0, 9.9, 10.0, 10.1, 19.9, 26.0, 35.9, 36.0]:
                file.offer("part", dict)
        assert saved == [0.0, 10.0, 26.0, 36.0]
        with opened(tmp_path / "c", 10.0) as file:
            clock[0] = 45.0
            file.offer("part", dict)
            clock[0] = 46.0
            file.offer("part", dict)
        assert saved[4:] == [46.0]

    def test_a_state_is_not_made_in_vain(self, tmp_path: Path) -> None:
        def state() -> Any:
            raise AssertionError

        with opened(tmp_path / "c") as file:
            file.offer("part", state)

    def test_time_is_that_of_all_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [0.0]
        monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        for before in (0.0, 7.0, 14.0):
            with opened(tmp_path / "c") as file:
                assert file.before == before
                clock[0] += 7.0
                file.save("part", {})
                clock[0] += 50.0  # is lost

    def test_killed_while_writing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fsync(_: int) -> None:
            raise Killed

        with opened(tmp_path / "c") as file:
            file.save("part", {"n": 1})
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", fsync)
                with pytest.raises(Killed):
                    file.save("part", {"n": 2})
        assert (tmp_path / ".c.part").exists()
        with opened(tmp_path / "c") as file:
            assert file.parts["part"] == {"n": 1}
            file.save("part", {"n": 3})
        assert sorted(p.name for p in tmp_path.iterdir()) == [".c.lock", "c"]

    def test_in_use(self, tmp_path: Path) -> None:
        with FileLock(tmp_path / ".c.lock"), pytest.raises(BlockingIOError) as error:  # noqa: SIM117
            with opened(tmp_path / "c"):
                pass
        assert str(error.value).startswith(f"The checkpoint '{tmp_path / 'c'}' is in use by ano")
        with opened(tmp_path / "c"):
            pass

    def test_where_it_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="does not exist"), opened(tmp_path / "a" / "c"):
            pass
        with pytest.raises(FileExistsError, match="is a folder; name a file"), opened(tmp_path):
            pass
        for interval in (-1.0, float("nan")):
            with pytest.raises(ValueError, match=r"`checkpoint_interval` must be a finite number"):
                CheckpointFolder(tmp_path / "folder", interval)
            with (
                pytest.raises(ValueError, match=r"`checkpoint_interval` must be a finite number"),
                opened(tmp_path / "c", interval),
            ):
                pass
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("damage", ["cut", "half", "bit", "empty", "foreign", "trap"])
    def test_damaged(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "c"
        with opened(path) as file:
            file.save("part", {"x": torch.arange(9.0)})
        whole = path.read_bytes()
        trap = io.BytesIO()
        torch.save({"parts": Trap(tmp_path / "sprung")}, trap)
        content = {
            "cut": whole[:-1],
            "half": whole[: len(whole) // 2],
            "bit": whole[:300] + bytes([whole[300] ^ 1]) + whole[301:],
            "empty": b"",
            "foreign": b"a,b\n1,2\n",
            "trap": trap.getvalue(),
        }
        path.write_bytes(content[damage])
        with pytest.raises(InputDataError) as error, opened(path):
            pass
        message = str(error.value)
        assert message.startswith(f"The checkpoint '{path}' cannot be read: it")
        assert ("name another one" if "no file" in message else "begins anew") in message
        assert path.read_bytes() == content[damage]
        assert not (tmp_path / "sprung").exists()

    def test_of_another_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with opened(tmp_path / "c", lr=0.1, epochs=3):
            pass
        before = (tmp_path / "c").read_bytes()
        for key, message in (
            ({"lr": 0.1, "epochs": 4}, r"another run: `epochs` is 4 and was 3; repeat the call"),
            ({"lr": 0.2, "epochs": 4}, r"`lr` is 0\.2 and was 0\.1 \(and 1 more\); repeat"),
            ({"lr": 0.1}, "`epochs` is not there and was 3"),
        ):
            with pytest.raises(ValueError, match=message), opened(tmp_path / "c", **key):
                pass
        monkeypatch.setattr(checkpoint, "package_version", lambda: "9.9")
        with (
            pytest.raises(ValueError, match=r"`version of botorch_roma` is 9\.9 and was 0"),
            opened(tmp_path / "c", lr=0.1, epochs=3),
        ):
            pass
        assert (tmp_path / "c").read_bytes() == before

    def test_of_another_format(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "CHECKPOINT", checkpoint.CHECKPOINT._replace(format=99))
            with opened(tmp_path / "c"):
                pass
        with (
            pytest.raises(InputDataError, match=r"its format is 99, of botorch_roma .* remove it"),
            opened(tmp_path / "c"),
        ):
            pass

    @pytest.mark.parametrize("content", [{"seconds": 1.0}, [1]])
    def test_of_another_content(self, tmp_path: Path, content: Any) -> None:
        file = tmp_path / "s.checkpoint"
        file.write_bytes(seal(checkpoint.CHECKPOINT, content))
        message = "it holds something else; remove it, and the run begins anew"
        with pytest.raises(InputDataError, match=message), opened(file):
            pass
        with pytest.raises(InputDataError, match=message):
            CheckpointFolder(tmp_path, 1.0).seconds("s")

    def test_folder(self, tmp_path: Path) -> None:
        assert CheckpointFolder(None, 1.0).stage("a") == {}
        assert CheckpointFolder(None, 1.0).seconds("a") == 0.0
        with pytest.raises(FileNotFoundError, match=r"of the checkpoints .* does not exist"):
            CheckpointFolder(tmp_path / "a" / "b", 1.0)
        (tmp_path / "file").touch()
        with pytest.raises(FileExistsError, match="are to be a folder"):
            CheckpointFolder(tmp_path / "file", 1.0)
        (tmp_path / "loop").symlink_to("loop")
        for name in ("loop", "x" * 300):
            with pytest.raises(OSError, match=rf"'.*{name}' of the checkpoints cannot be made: "):
                CheckpointFolder(tmp_path / name, 1.0)
        folder = CheckpointFolder(tmp_path / "a", 1.0)
        assert folder.stage("s") == {
            "checkpoint": tmp_path / "a" / "s.checkpoint",
            "checkpoint_interval": 1.0,
        }


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)

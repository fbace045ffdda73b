r"""
Checkpoints of long runs: the state of a computation in a file, saved every so often.

A run that was killed and is started again with the same arguments goes on where the file left it,
and ends where it would have ended undisturbed: bit for bit on a CPU, with the same number of
threads. The file stays when the run is finished, so that the same call gives its result at once;
remove it when it is of no more use.

What is lost with a kill is the time since the last save: the interval, or one step where that takes
longer. A step is a minibatch of a training, an update of all candidates, or some thousands of
neighbours of the local search.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from botorch.exceptions import OptimizationWarning

from botorch_roma.files import check_output, unwritten
from botorch_roma.fingerprint import Fingerprint, differences
from botorch_roma.interrupt import finish_on_interrupt, is_interrupted
from botorch_roma.sealed import Kind, package_version, seal, unseal
from botorch_roma.validation import check_float, check_path

#: The files; the number changes with what is saved.
CHECKPOINT = Kind("checkpoint", 2, "a checkpoint", "remove it, and the run begins anew")

#: Seconds from one save to the next.
DEFAULT_INTERVAL: float = 60.0


class Checkpoint:
    r"""A file that the state of a computation is saved to; see :func:`open_checkpoint`.

    Attributes:
        parts: What has been saved, by name; empty where there was no file.
        before: Seconds that earlier runs have spent on what was saved.
    """

    def __init__(
        self, path: Path, interval: float, device: torch.device, key: Fingerprint, raises: bool
    ) -> None:
        self.path, self.interval, self.device, self.key = path, interval, device, key
        self.parts: dict[str, Any] = {}
        self.before = 0.0
        self._start, self._raises, self._heard = time.monotonic(), raises, False
        if path.exists():
            self._read()
            self._due = time.monotonic() + interval
        else:  # now, not after the first interval, it is seen whether it can be written
            self._write()

    def offer(self, part: str, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save a part if it is time, or if Ctrl-C was pressed, which ends the run then.

        Args:
            part: Its name.
            state: Makes it: tensors, numbers, texts, and lists and dictionaries of them.

        Raises:
            KeyboardInterrupt: After Ctrl-C, once all is saved; not where the call is inside of
                :func:`~botorch_roma.interrupt.finish_on_interrupt` and shall return what it has.
        """
        asked = is_interrupted() and not self._heard
        if asked or time.monotonic() >= self._due:
            self._heard = is_interrupted()
            self.save(part, state())
            self.end_if_asked()

    def save(self, part: str, state: Mapping[str, Any]) -> None:
        """Save a part now."""
        self.parts[part] = state
        self._write()

    def finish(self, part: str, state: Mapping[str, Any], *, timed_out: bool) -> None:
        """Save the result of a part, to which nothing is added any more."""
        self.save(part, {**state, "finished": True, "timed_out": timed_out})

    def end_if_asked(self) -> None:
        """Raise ``KeyboardInterrupt`` where Ctrl-C was pressed, as in :meth:`offer`."""
        if self._raises and is_interrupted():
            raise KeyboardInterrupt

    def _read(self) -> None:
        content = _unseal(self.path)
        found = differences(self.key, content["key"])
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise ValueError(
                f"The checkpoint {str(self.path)!r} is of another run: {found[0]}{more}; repeat "
                "the call that made it, name another file, or remove it."
            )
        self.parts, self.before = content["parts"], content["seconds"]
        ended = [name for name, part in self.parts.items() if part.get("timed_out")]
        if ended:
            warnings.warn(
                f"The time budget of an earlier run has ended the {ended[0]} in the checkpoint "
                f"{str(self.path)!r} after {self.before:.0f} s; remove it to have more.",
                OptimizationWarning,
                stacklevel=2,
            )
        self._random = content["random"]
        self.restore_random_state()

    def restore_random_state(self) -> None:
        """Put torch's global generators back to where they were at the last save."""
        torch.set_rng_state(self._random["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self._random["cuda"], self.device)

    def _write(self) -> None:
        now = time.monotonic()
        self._random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            self._random["cuda"] = torch.cuda.get_rng_state(self.device)
        content = {
            "key": self.key,
            "parts": self.parts,
            "seconds": self.before + now - self._start,
            "random": self._random,
        }
        # always the same name: what a killed run leaves of it, the next one overwrites
        temporary = self.path.with_name(f".{self.path.name}.part")
        try:
            with temporary.open("wb") as file:
                file.write(seal(CHECKPOINT, content))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:  # a full disk, say
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise unwritten(f"The checkpoint {str(self.path)!r}", error) from error
        self._due = now + self.interval


@contextlib.contextmanager
def open_checkpoint(
    path: str | Path | None,
    interval: float,
    device: torch.device,
    key: Callable[[], Fingerprint],
) -> Iterator[Checkpoint | None]:
    r"""Take up what a file holds, and have it saved there as it goes on.

    Within this block Ctrl-C waits until all is saved; a second one does not.

    Args:
        path: The file, which is made where there is none; None for no checkpoint.
        interval: Seconds from one save to the next; 0 saves after every step.
        device: Where the computation is.
        key: Makes the fingerprint of what the result depends on.

    Yields:
        The checkpoint; None without a path.

    Raises:
        ValueError: If the file is of another run, of another version of this package or torch, or
            of another kind of device; names what differs. For an interval out of range.
        InputDataError: If it is damaged, or no checkpoint.
        BlockingIOError: If another process uses it.
        OSError: If it cannot be written, also later (a full disk); what was saved before is kept.
    """
    check_float("checkpoint_interval", interval, unit=" seconds")
    check_path("checkpoint", path)
    if path is None:
        yield None
        return
    from filelock import FileLock, Timeout

    target = check_output(Path(path), force=True).resolve()  # a link stays a link
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"The checkpoint {str(path)!r} is in use by another process; wait for its end, or name "
            "another file."
        ) from None
    versions: Fingerprint = {
        "version of botorch_roma": package_version(),
        "version of torch": str(torch.__version__),
        "device": device.type,
    }
    try:
        with finish_on_interrupt() as raises:
            file = Checkpoint(target, interval, device, {**versions, **key()}, raises)
            yield file
            file.end_if_asked()
    finally:
        lock.release()


class CheckpointFolder:
    r"""A folder with a checkpoint for each stage of a run.

    Args:
        path: The folder, which is made where there is none; None for no checkpoints.
        interval: Seconds from one save to the next.

    Raises:
        FileNotFoundError: If its parent does not exist.
        FileExistsError: If it is a file.
        ValueError: For an interval out of range.
    """

    def __init__(self, path: str | Path | None, interval: float) -> None:
        check_path("checkpoint", path)
        self.path = None if path is None else Path(path)
        self.interval = check_float("checkpoint_interval", interval, unit=" seconds")
        if self.path is None:
            return
        if not self.path.absolute().parent.is_dir():
            raise FileNotFoundError(
                f"The folder {str(self.path.absolute().parent)!r} of the checkpoints "
                f"{str(path)!r} does not exist; make it, or choose another."
            )
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            if isinstance(error, FileExistsError) and self.path.exists():
                raise FileExistsError(
                    f"The checkpoints {str(path)!r} are to be a folder, and that is a file; name "
                    "another one."
                ) from error
            # a link that leads nowhere, a name that is too long, a file system that is read-only
            raise type(error)(
                f"The folder {str(path)!r} of the checkpoints cannot be made: {error.strerror}; "
                "name another one."
            ) from error

    def file(self, name: str) -> Path | None:
        """The file of a stage; None without a folder."""
        return None if self.path is None else self.path / f"{name}.checkpoint"

    def stage(self, name: str) -> dict[str, Any]:
        """The arguments of a stage; none without a folder."""
        file = self.file(name)
        if file is None:
            return {}
        return {"checkpoint": file, "checkpoint_interval": self.interval}

    def holds(self, name: str) -> bool:
        """Whether there is anything of a stage."""
        file = self.file(name)
        return file is not None and file.exists()

    def seconds(self, *names: str) -> float:
        """What earlier runs have spent on stages, each with its parts, ``NAME-...``.

        Raises:
            InputDataError: If a file is damaged.
        """
        if self.path is None:
            return 0.0
        patterns = [f"{name}{part}.checkpoint" for name in names for part in ("", "-*")]
        files = {file for pattern in patterns for file in self.path.glob(pattern)}
        return sum(float(_unseal(file)["seconds"]) for file in sorted(files))


def _unseal(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, if it is one."""
    content = unseal(CHECKPOINT, path, "cpu")
    if isinstance(content, dict) and {"key", "parts", "seconds", "random"} <= content.keys():
        return content
    raise CHECKPOINT.refusal(path, f"it holds something else; {CHECKPOINT.remedy}")

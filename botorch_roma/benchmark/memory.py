r"""
Peak memory of a stretch of code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class PeakMemory:
    """Filled in at the end of :func:`peak_memory`; None where it cannot be measured."""

    megabytes: float | None = None


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    r"""Measure the peak of the resident memory of this process, in units of 2**20 bytes.

    That includes what was there before: the interpreter, the libraries, the data. Linux only, where
    the kernel keeps the peak and allows to reset it; elsewhere nothing is measured.
    """
    peak = PeakMemory()
    try:
        _RESET.write_text("5")
    except OSError:
        yield peak
        return
    yield peak
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM:"))
    peak.megabytes = round(int(line.split()[1]) / 1024, 1)

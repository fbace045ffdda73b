"""
Memory: what cannot fit is refused, with an estimate, before anything is allocated.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

#: Less than this is not looked at: the free memory is only asked for where it can matter.
MIN_BYTES: int = 2**26

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_STATM = Path("/proc/self/statm")

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class MemoryLimitError(ValueError):
    """What is asked for does not fit into the memory."""


def check_memory(
    what: str, needed: int, remedy: str, device: torch.device | str | None = None
) -> None:
    """Raise where something certainly does not fit into the memory.

    Args:
        what: What needs it, with the argument and its value.
        needed: Bytes that it needs at the very least.
        remedy: What to do about it.
        device: Where it would be; the CPU by default.

    Raises:
        MemoryLimitError: If ``needed`` exceeds the free memory; with both numbers.
    """
    if needed < MIN_BYTES:
        return
    free = free_memory(device)
    if free is not None and needed > free:
        raise MemoryLimitError(
            f"{what} needs at least {format_bytes(needed)} of memory, {format_bytes(free)} are "
            f"free; {remedy}."
        )


def free_memory(device: torch.device | str | None = None) -> int | None:
    """Bytes that can still be allocated, swap included; None where that is not known."""
    kind = torch.device("cpu" if device is None else device)
    if kind.type == "cuda":
        unused = torch.cuda.memory_reserved(kind) - torch.cuda.memory_allocated(kind)
        return torch.cuda.mem_get_info(kind)[0] + unused
    if kind.type != "cpu":
        return None
    limits = [_of_system(), _of_cgroup(), _of_process()]
    return min((limit for limit in limits if limit is not None), default=None)


def format_bytes(number: int) -> str:
    """A number of bytes in the unit that suits it."""
    k = min(int(math.log2(max(number, 1))) // 10, len(_UNITS) - 1)
    return f"{number / 1024**k:.3g} {_UNITS[k]}"


def _of_system() -> int | None:
    try:
        lines = (line.split() for line in _MEMINFO.read_text().splitlines())
        kilobytes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
        return 1024 * (kilobytes["MemAvailable:"] + kilobytes["SwapFree:"])
    except (OSError, KeyError, ValueError):
        pass
    try:  # not what is free, but all there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_cgroup() -> int | None:
    """The limit of the container."""
    try:
        return int(_CGROUP.read_text())
    except (OSError, ValueError):  # none, or "max"
        return None


def _of_process() -> int | None:
    """What the process may still allocate by its limit, as set by ``ulimit -v``."""
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        used = int(_STATM.read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        used = 0
    return max(limit - used, 0)

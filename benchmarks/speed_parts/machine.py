"""What this machine can do: memory bandwidth and matrix throughput."""

from __future__ import annotations

import platform
from typing import NamedTuple

import torch

from .report import Report
from .timing import Place, in_turn, round_to


class Machine(NamedTuple):
    """Bytes and floating-point operations per second.

    Attributes:
        copy: Bytes read and written while copying large arrays.
        read: Bytes read from large arrays.
        cache: Bytes read from an array of 4 MiB, which caches hold.
        matrix: Operations of a product of two large square matrices.
    """

    copy: float
    read: float
    cache: float
    matrix: float

    @property
    def bandwidth(self) -> float:
        """The faster of the two ways to go through main memory."""
        return max(self.copy, self.read)


def measure(place: Place, *, megabytes: int, size: int, repeats: int) -> Machine:
    """Measure a place with several arrays of ``megabytes`` and matrices of ``size``."""
    place.enter()
    items = megabytes * 2**20 // place.itemsize
    arrays = [place.randn(items) for _ in range(4)]
    small = place.randn(max(items // megabytes * 4, 1))
    passes = max(1, 4 * items // len(small))
    left, right = place.randn(size, size), place.randn(size, size)

    def copy() -> None:
        arrays[1].copy_(arrays[0])
        arrays[3].copy_(arrays[2])

    def total() -> None:
        for a in arrays:
            a.sum()

    def products() -> None:  # with a vector, the way the inner step reads weights
        for a in arrays:
            matrix = a[: items // 1024 * 1024].view(-1, 1024)
            torch.mv(matrix, small[:1024])

    def cached() -> None:
        matrix = small[: len(small) // 1024 * 1024].view(-1, 1024)
        for _ in range(passes):
            torch.mv(matrix, small[:1024])

    times = in_turn(
        {
            "copy": copy,
            "sum": total,
            "mv": products,
            "cache": cached,
            "mm": lambda: torch.mm(left, right),
        },
        place.device,
        repeats=repeats,
    )
    all_bytes = 4.0 * items * place.itemsize
    return Machine(
        copy=all_bytes / times["copy"],
        read=all_bytes / min(times["sum"], times["mv"]),
        cache=passes * len(small) * place.itemsize / times["cache"],
        matrix=2.0 * size**3 / times["mm"],
    )


def report_machines(report: Report, machines: dict[Place, Machine], megabytes: int) -> None:
    report.heading("Machine")
    system = f"{platform.system()}, {platform.machine()}"
    report.text(
        f"torch {torch.__version__}, {system}. Main memory: arrays of {megabytes} MiB; cache: "
        "4 MiB."
    )
    header = ["where", "copy, GB/s", "read, GB/s", "read from cache, GB/s", "matrices, GFLOP/s"]
    rows = [
        [str(place), *(round_to(v / 1e9) for v in (m.copy, m.read, m.cache, m.matrix))]
        for place, m in machines.items()
    ]
    report.table(header, rows)

"""What the benchmark prints, and the same as a file."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from botorch_roma.benchmark.tables import markdown_table


class Report:
    """Markdown on standard output and, if asked, in a file, both as it comes.

    Args:
        path: The Markdown file; the grid goes next to it as CSV.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.parts: list[str] = []
        self.grid: list[Mapping[str, object]] = []

    def text(self, text: str) -> None:
        print(text + "\n", flush=True)
        self.parts.append(text)
        if self.path is not None:  # each time anew: what has been measured is never lost
            self.path.write_text("\n\n".join(self.parts) + "\n")

    def heading(self, text: str) -> None:
        self.text(f"## {text}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        cells = [header, *rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        padded = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in cells]
        self.text(markdown_table(padded).rstrip("\n"))

    def progress(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def add_to_grid(self, rows: Sequence[Mapping[str, object]]) -> None:
        self.grid += rows
        if self.path is not None and self.grid:
            with self.path.with_suffix(".csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(self.grid[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.grid)

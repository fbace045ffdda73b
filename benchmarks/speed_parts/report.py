"""What the benchmark prints, and the same as a file."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from botorch_roma.benchmark.tables import markdown_table


class Report:
    """Markdown on standard output as it comes, kept for a file."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self, text: str) -> None:
        print(text + "\n", flush=True)
        self.parts.append(text)

    def heading(self, text: str) -> None:
        self.text(f"## {text}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        cells = [header, *rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        padded = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in cells]
        self.text(markdown_table(padded).rstrip("\n"))

    def progress(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def write(self, path: Path, grid: Sequence[Mapping[str, object]]) -> None:
        """All parts as Markdown, and the grid next to it as CSV."""
        path.write_text("\n\n".join(self.parts) + "\n")
        if grid:
            with path.with_suffix(".csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(grid[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(grid)

r"""
Check that the messages which the troubleshooting page explains are messages of the package.

Three dots on the page stand for anything; the parts around them have to occur, in this order, in
one text of the package. Texts are read from the source, so no error has to be provoked.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"

_ROW = re.compile(r"^\| (`+)(.*?)\1(?: \(warning\))? \|", re.MULTILINE)


def texts(source: str) -> Iterator[str]:
    """All texts of a module; three dots stand for what a format string fills in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "..." for p in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def pattern(message: str) -> re.Pattern[str]:
    """What a message of the page stands for."""
    return re.compile(
        ".*?".join(re.escape(part.strip()) for part in message.split("...")), re.DOTALL
    )


def main() -> int:
    """Check the page; the exit status."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "botorch_roma").rglob("*.py")]
    known = [text for source in sources for text in texts(source)]
    messages = [text for _, text in _ROW.findall(PAGE.read_text(encoding="utf-8"))]
    lost = [m for m in messages if not any(pattern(m).search(text) for text in known)]
    for message in lost:
        print(f"{PAGE.relative_to(ROOT)}: no such message in the package: {message}")
    print(f"{len(messages) - len(lost)} of {len(messages)} explained messages are in the package")
    return int(bool(lost) or not messages)


if __name__ == "__main__":
    sys.exit(main())

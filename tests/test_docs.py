"""What checks the documentation finds what is broken, and the site is told all there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECKS = ROOT / "docs" / "checks"

if not CHECKS.is_dir():
    pytest.skip("the documentation is not part of the sdist", allow_module_level=True)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The folder of the checks on the path, as when one of them is run."""
    monkeypatch.syspath_prepend(CHECKS)


def write(folder: Path, **pages: str) -> None:
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")


def test_site_links(checks: None, tmp_path: Path) -> None:
    from links import check_site

    write(tmp_path, a='<p id="x"><a href="b.html#y">b</a> <a href="https://c.org">c</a>', b="")
    broken, external = check_site(tmp_path)
    assert broken == ["a.html: b.html#y: there is no such anchor"]
    assert external == {"https://c.org"}
    write(tmp_path, b='<p id="y"><a href="a.html#x">a</a> <a href="#y">y</a>')
    assert check_site(tmp_path) == ([], {"https://c.org"})
    write(tmp_path, b='<img src="no.png"> <a href="../links.py">')
    assert len(check_site(tmp_path)[0]) == 3


def test_nothing_is_loaded_from_elsewhere(checks: None, tmp_path: Path) -> None:
    from links import check_site

    write(
        tmp_path, a='<script src="https://c.org/a.js"></script><img src="data:image/png;base64,">'
    )
    assert check_site(tmp_path)[0] == ["a.html: https://c.org/a.js: loaded from another site"]


def test_markdown_links(checks: None, tmp_path: Path) -> None:
    from links import check_markdown

    a, b = tmp_path / "a.md", tmp_path / "b.md"
    a.write_text("[b](b.md#two-words) `[c](c.md)`\n```\n[c](c.md)\n```\n[t]: b.md\n", "utf-8")
    b.write_text("# One\n\n## Two `words`\n", "utf-8")
    assert check_markdown([a, b], tmp_path) == []
    b.write_text("# One\n[up](../x.md) [gone](gone.md) ![no](no.png)\n", "utf-8")
    broken = check_markdown([a, b], tmp_path)
    assert [line.split(": ")[1] for line in broken] == [
        "b.md#two-words",
        "../x.md",
        "gone.md",
        "no.png",
    ]


def test_headings_that_repeat_are_numbered(checks: None) -> None:
    from links import headings

    assert headings("# A b\n## A b\n### A, [c](d)!\n") == {"a-b", "a-b-1", "a-c"}


def test_messages_are_compared_with_format_strings(checks: None) -> None:
    from messages import pattern, texts

    source = 'raise ValueError(f"`{name}` must be at least {low}, " f"received {x!r}.")'
    (text,) = [t for t in texts(source) if "..." in t]
    assert pattern("must be at least ..., received ...").search(text)
    assert not pattern("must be at most ..., received ...").search(text)


def test_every_module_is_in_the_reference() -> None:
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs" / "api").glob("*.rst"))
    known = set(re.findall(r"automodule:: (\S+)", pages))
    hidden = {"botorch_roma"} | {
        f"botorch_roma.{name}" for name in ("__main__", "_clock", "_compat", "_options", "cli")
    }
    files = (ROOT / "botorch_roma").rglob("*.py")
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    assert known == {name.removesuffix(".__init__") for name in names} - hidden

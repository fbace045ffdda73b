r"""
Check the links of the built site, anchors included, and of the Markdown files.

The latter as a host of code shows them, relative to the file. Links to other sites are counted, not
followed, so no network is needed; a page that loads something from one is an error.

    python docs/checks/links.py build/site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "benchmarks/results")

_FENCE = re.compile(r"^( {0,3}```.*?^ {0,3}```)$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_DEFINITION = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)


class Page(HTMLParser):
    """The anchors and the links of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names and where it leads."""
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")
            elif value and (name == "src" or (name == "href" and tag == "link")):
                self.loaded.append(value)
            elif value and name == "href":
                self.links.append(value)


def is_external(link: str) -> bool:
    """Whether a link leads to another site."""
    return bool(urlsplit(link).scheme or link.startswith("//"))


def check_site(folder: Path) -> tuple[list[str], set[str]]:
    """Broken links of a built site, and the links that leave it."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    broken: list[str] = []
    external: set[str] = set()
    for path, page in pages.items():
        for link in (*page.links, *page.loaded):
            if link.startswith(("data:", "mailto:")):
                continue
            if is_external(link):
                external.add(link)
                if link in page.loaded:
                    broken.append(f"{path.relative_to(folder)}: {link}: loaded from another site")
                continue
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file() or not target.is_relative_to(folder):
                broken.append(f"{path.relative_to(folder)}: {link}: there is no such file")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                broken.append(f"{path.relative_to(folder)}: {link}: there is no such anchor")
    return broken, external


def headings(text: str) -> set[str]:
    """The anchors that a host of code gives to the headings of a Markdown file."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = sum(1 for other in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other))
        found.add(f"{slug}-{number}" if slug in found else slug)
    return found


def check_markdown(paths: Iterable[Path], root: Path) -> list[str]:
    """Broken relative links of Markdown files."""
    broken: list[str] = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        prose = _CODE.sub("", _FENCE.sub("", text))
        for link in (*_LINK.findall(prose), *_DEFINITION.findall(prose)):
            if is_external(link):
                continue
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            name = f"{path.relative_to(root)}: {link}"
            if not target.exists() or not target.is_relative_to(root):
                broken.append(f"{name}: there is no such file")
                continue
            anchor = parts.fragment if target.suffix == ".md" else ""
            if anchor and anchor not in headings(target.read_text(encoding="utf-8")):
                broken.append(f"{name}: there is no such heading")
    return broken


def main(site: Path) -> int:
    """Check everything; the exit status."""
    paths = sorted(ROOT.glob("*.md"))
    paths += sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))
    broken, external = check_site(site.resolve())
    broken += check_markdown(paths, ROOT)
    for line in broken:
        print(f"broken link: {line}")
    print(f"{len(broken)} broken links; {len(external)} links to other sites, not followed")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

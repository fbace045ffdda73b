"""What a browser makes of a page; skipped where there is none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from botorch_roma.page import write_page

pytest.importorskip("plotly", reason="needs the extra report")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)

#: Sorts by distance, chooses the last row, and writes down what there is to see.
VISIT = """<script>
const rows = () => [...document.querySelectorAll("#table tbody tr")];
const places = () => rows().map((row) => Number(row.dataset.design));
const seen = { before: places() };
const heads = document.querySelectorAll("#table th button");
heads[3].click();
seen.byDistance = places();
heads[3].click();
seen.reversed = places();
heads[heads.length - 1].click();
seen.bySequence = rows().map((row) => row.cells[row.cells.length - 1].textContent);
const row = rows().find((row) => row.dataset.design === "4");
row.click();
seen.chosen = row.className;
const last = (id) => document.getElementById(id).data.at(-1);
seen.distance = [...last("figure-distances").x];
seen.line = [...last("figure-parallel").y];
seen.alerts = window.alerts;
seen.figures = [...document.querySelectorAll(".plotly-graph-div")].map((figure) => [
  figure.id, figure.matches(".js-plotly-plot"), figure.querySelectorAll("svg.main-svg").length > 0,
  figure.querySelectorAll(".trace, .hm image, .point").length > 0,
]);
const ticks = document.querySelectorAll("#figure-parallel .xtick text");
seen.texts = [...ticks].map((text) => text.textContent);
seen.buttons = [...document.querySelectorAll(".modebar-btn")].map((b) => b.dataset.title);
seen.names = [...document.querySelectorAll("#table th button")].map((b) => b.textContent);
const pre = document.createElement("pre");
pre.id = "seen";
pre.textContent = JSON.stringify(seen);
document.body.append(pre);
</script>"""


def visit(page: Path, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What was seen on the page, and the messages of the browser's console."""
    assert BROWSER is not None
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
        # nothing is to be looked up in the network
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"),
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout)
    assert found, done.stderr
    entities = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
    text = re.sub("&(lt|gt|amp);", lambda m: entities[m[0]], found[1])
    return json.loads(text), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="needs chromium (or google-chrome) on the PATH")
def test_page_in_a_browser(
    tmp_path: Path, make_run: Callable[..., Any], frame: pd.DataFrame
) -> None:
    run, page = make_run(frame, num_updates=5), tmp_path / "page.html"
    write_page(run, page)
    text = page.read_text("utf-8")
    text = text.replace("<body>", "<body><script>alert = () => { window.alerts = 1; };</script>")
    page.write_text(text.replace("</body></html>", f"{VISIT}</body></html>"), "utf-8")
    seen, console = visit(page, tmp_path)
    assert console == []
    names = ["outcomes", "distances", "updates", "parallel", "panels", "tokens-0"]
    assert seen["figures"] == [[f"figure-{name}", True, True, True] for name in names]
    # the table is sorted, up and down, by number and by text
    assert seen["before"] == list(range(1, 11))
    assert seen["byDistance"] == (run.distance.argsort() + 1).tolist()
    assert seen["reversed"] == seen["byDistance"][::-1]
    assert seen["bySequence"] == sorted(frame["site"][:10])
    # the row that was clicked on is in the figures
    assert seen["chosen"] == "chosen"
    assert seen["distance"] == [run.distance[3].item()]
    assert len(seen["line"]) == 6
    # names that are markup are to be read, not to be obeyed
    assert "alerts" not in seen
    inputs = [c for c in frame.columns if c not in ("y", "site")]
    assert seen["texts"] == inputs
    assert seen["names"][4:] == [*inputs, "site"]
    assert not [title for title in seen["buttons"] if re.search("share|cloud|edit", title, re.I)]

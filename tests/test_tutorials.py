"""What is stored in the tutorials, without executing them: that is what .ci/tutorials does."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*/*.ipynb"))
MOST_BYTES = 400_000
SILENT = ("plt.rcParams.update(", "logging.disable(", "warnings.filterwarnings(")

# A path from the root of a file system; no address of a site, no end of a tag.
ABSOLUTE_PATH = re.compile(r"(?:^|[\s\"'(=\[,])(?:~?/(?:[\w.+-]+/)+|[A-Za-z]:\\\w)", re.MULTILINE)
MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-f]{8,}\b")

pytestmark = pytest.mark.skipif(
    not TUTORIALS.is_dir(), reason="needs the folder tutorials, which a distribution does not have"
)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def notebook(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def texts(output: dict[str, Any]) -> str:
    """All that an output says, without its pictures."""
    data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
    return "\n".join("".join(part) for part in [output.get("text", ""), *data.values()])


def shows_something(code: str) -> bool:
    """Whether a cell ends in an expression, prints, or draws."""
    lines = [line for line in code.splitlines() if not line.startswith("%")]
    tree = ast.parse("\n".join(lines))
    called = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    last = ast.unparse(tree.body[-1]) if isinstance(tree.body[-1], ast.Expr) else ""
    ends_in_value = bool(last) and not last.startswith(SILENT)
    return ends_in_value or bool(called & {"print", "display", "plt.subplots", "plt.figure"})


def test_each_folder_holds_the_notebook_of_its_name() -> None:
    folders = {path.name for path in TUTORIALS.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {path.stem for path in NOTEBOOKS}
    assert [path.parent.name for path in NOTEBOOKS] == [path.stem for path in NOTEBOOKS]


def test_outputs_are_stored_from_one_run_top_to_bottom(code_cells: list[dict[str, Any]]) -> None:
    counts = [cell["execution_count"] for cell in code_cells]
    assert counts == list(range(1, len(code_cells) + 1))
    for cell in code_cells:
        if shows_something(source(cell)):
            assert cell["outputs"], f"nothing is stored for:\n{source(cell)}"


def test_nothing_failed_or_warned(code_cells: list[dict[str, Any]]) -> None:
    for output in (output for cell in code_cells for output in cell["outputs"]):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", texts(output)


def test_nothing_of_the_machine_is_stored(notebook: dict[str, Any]) -> None:
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        assert not ABSOLUTE_PATH.search(source(cell))
        for output in cell.get("outputs", []):
            found = ABSOLUTE_PATH.search(texts(output)) or MEMORY_ADDRESS.search(texts(output))
            assert not found, f"{found} in the output of:\n{source(cell)}"


def test_the_smoke_switch_is_in_the_first_code_cell(code_cells: list[dict[str, Any]]) -> None:
    first = source(code_cells[0])
    assert 'SMOKE_TEST = os.environ.get("SMOKE_TEST")' in first
    assert "if SMOKE_TEST else" in first


def test_nothing_is_left_to_be_written(notebook: dict[str, Any]) -> None:
    assert not [source(cell) for cell in notebook["cells"] if "TODO" in source(cell)]


def test_the_file_is_small(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("saved in /home/me/run.csv", True),
        ("'C:\\Users\\me'", True),
        ('File "/usr/lib/python3/x.py"', True),
        ("see https://a.org/b/c.html", False),
        ("<td>1</td><br/>", False),
        ("../../docs/limits.md, 1/2 and a / b", False),
    ],
)
def test_what_counts_as_a_path(text: str, found: bool) -> None:
    assert bool(ABSOLUTE_PATH.search(text)) == found

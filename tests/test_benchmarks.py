"""Every script in benchmarks/ starts; what it calls is checked by mypy."""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))
WITHOUT_OPTIONS = ("cuda_graphs", "molecule_forest")

if not SCRIPTS:
    pytest.skip("the benchmarks are not part of the sdist", allow_module_level=True)


@pytest.fixture
def same_logging() -> Iterator[None]:
    """A script may switch logging off for its own process, which here is that of all tests."""
    before = logging.root.manager.disable
    yield
    logging.disable(before)


@pytest.mark.usefixtures("same_logging")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_how_it_is_used(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if script.stem == "in_ax":
        pytest.importorskip("ax")
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setattr(sys, "path", [*sys.path])  # some add their folder
    if script.stem in WITHOUT_OPTIONS:
        runpy.run_path(str(script))  # what it needs is there
        return
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out.lower()

"""The map of settings changes what its rows say, and draws what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from torch import Tensor

from botorch_roma import RoMAModel, fit_roma_model, load_task
from botorch_roma.tasks import OfflineTask


@pytest.fixture
def script(benchmarks: Path) -> Any:
    import settings_map

    return settings_map


@pytest.fixture(scope="module")
def task() -> OfflineTask:
    return load_task("ackley6")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"adaptation radius": 0.02, "updates": 300}, {"radius": 0.02, "num_updates": 300}),
        ({"step": 0.3}, {"lr": 0.3 * 6**0.5}),
        ({"Adam": 0.03}, {"step_rule": "adam", "lr": 0.03}),
        ({"cap": 1.0}, {"region": 1.0}),
    ],
)
def test_a_row_of_stage_two_changes_stage_two_alone(
    script: Any, task: OfflineTask, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    default, preset = script.preset_of({}, task), script.preset_of(changes, task)
    assert preset.optimize == default.optimize | expected
    assert (preset.model, preset.fit) == (default.model, default.fit)


def test_no_two_rows_have_the_same_settings(script: Any, task: OfflineTask) -> None:
    rows = [{}, *(row for row in script.ROWS if "members" not in row)]  # members: see `fitted`
    settings = {json.dumps(script.preset_of(row, task).as_dict()) for row in rows}
    assert len(settings) == len(rows)


def test_the_way_is_as_long_as_the_row_says(script: Any, task: OfflineTask) -> None:
    X: Tensor = task.X[:300]
    model = RoMAModel(X, task.Y[:300], hidden_sizes=(8, 8))
    fit_roma_model(model, epochs=1, seed=0)
    scores = script.along({"adaptation radius": 0.0, "updates": 25}, task, model)
    assert [*scores] == [0, 8, 16, 24]
    assert scores[24] != scores[0]


def test_draws_a_single_task(script: Any, tmp_path: Path) -> None:
    store, out = tmp_path / "rows.jsonl", tmp_path / "figures"
    row = {"task": "ackley6", "seed": 0, "changes": {"cap": 1.0}}
    scores = {"0": [0.2, 0.1], "96": [0.75, 0.5], "100": [1, 1]}
    store.write_text(json.dumps(row | {"scores": scores}) + "\n")
    script.draw(store, out)
    assert {path.name for path in out.iterdir()} == {"factors.png", "updates.png", "table.md"}
    assert "| cap 1, 96 updates | 0.750 / 0.500 |" in (out / "table.md").read_text()


def test_refuses_to_draw_nothing(script: Any, tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"rows\.jsonl holds no rows; .* run"):
        script.draw(tmp_path / "rows.jsonl", tmp_path / "figures")
    assert not any(tmp_path.iterdir())

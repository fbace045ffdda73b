"""The comparison of criteria hides the best, asks no oracle, and holds picks against the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from botorch_roma import RoMAModel, load_task
from botorch_roma.tasks import OfflineTask


@pytest.fixture
def script(benchmarks: Path) -> Any:
    import selection_criteria

    return selection_criteria


@pytest.fixture(scope="module")
def task() -> OfflineTask:
    return load_task("ackley6")


def test_the_best_fifth_is_hidden(script: Any, task: OfflineTask) -> None:
    rest, hidden = script.rest_of(task)
    assert len(hidden) == pytest.approx(0.2 * len(task.Y), abs=1)
    assert len(hidden) + len(rest.Y) == len(task.Y)
    assert rest.Y.max() <= task.Y[hidden].min()
    rows = torch.cat([rest.X, task.X[hidden]])
    assert torch.equal(rows.sort(dim=0).values, task.X.sort(dim=0).values)
    with pytest.raises(Exception, match="oracle"):
        rest.evaluate(rest.X[:1])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_criteria_on_the_hidden(script: Any, sign: float) -> None:
    X = torch.linspace(-1.0, 1.0, 400, dtype=torch.double).unsqueeze(1)
    model = RoMAModel(X, X.clone(), hidden_sizes=(4,))

    class Slope(torch.nn.Module):
        def forward(self, Z: torch.Tensor) -> tuple[torch.Tensor, None]:
            return sign * Z[:, 0].expand(3, -1), None

    model.network = Slope()  # type: ignore[assignment]
    found = script.on_the_hidden(model, X, X)
    assert found["rank correlation"] == pytest.approx(sign)
    lost = X[-128:].mean() - X[:128].mean()
    expected = 0.0 if sign > 0 else (lost / X.std()).item()
    assert found["top-k regret"] == pytest.approx(expected)


def test_runs_without_an_oracle_and_goes_on(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OfflineTask, "evaluate", None)
    rows = [{"adaptation radius": 0.0, "width": 8}, {"adaptation radius": 0.05, "width": 8}]
    store, threads = tmp_path / "store.jsonl", torch.get_num_threads()
    preset_of = script.settings_map.preset_of

    def quick(changes: dict[str, Any], task: OfflineTask) -> Any:
        preset = preset_of({"width": 8, **changes}, task)
        preset.fit["epochs"] = 1
        preset.optimize["num_updates"] = 9
        return preset

    monkeypatch.setattr(script.settings_map, "preset_of", quick)
    try:
        for count in (1, 2):
            monkeypatch.setattr(script.settings_map, "ROWS", rows[:count])
            script.run(["ackley6"], seed=0, store=store)
    finally:
        torch.set_num_threads(threads)
    stored = [json.loads(line) for line in store.read_text().splitlines()]
    assert [row["changes"] for row in stored] == rows
    for row in stored:
        assert [*row["simulated"]] == ["0", "8"]
        assert -1.0 <= row["rank correlation"] <= 1.0
        assert row["top-k regret"] >= 0.0


@pytest.mark.parametrize(
    ("changes", "belongs"),
    [
        ({"adaptation radius": 0.05, "updates": 300}, True),  # `default` itself
        ({"epochs": 2.0, "adaptation radius": 0.05}, True),
        ({"epochs": 2.0, "adaptation radius": 0.0}, False),
        ({"adaptation radius": 0.05, "cap": 1.0}, False),
        ({"cap": 1.0}, False),
    ],
)
def test_what_differs_in_stage_one_alone(
    script: Any, changes: dict[str, Any], belongs: bool
) -> None:
    assert script.of_stage_one(changes, 0.05) is belongs


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def store(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three settings, the third the best; the rank correlation likes the first."""
    monkeypatch.setattr(script.settings_map, "RESULTS", tmp_path)
    keys = [
        {"task": "ackley6", "seed": 0, "changes": changes}
        for changes in ({"cap": 1.0}, {"cap": 4.0}, {"epochs": 0.5, "adaptation radius": 0.05})
    ]
    true = [(0.1, 0.3, 0.1), (0.1, 0.2, 0.2), (0.1, 0.2, 0.3)]
    simulated = [(0.0, 1.0, 0.5), (0.0, 1.97, 2.0), (0.0, 2.0, 3.0)]
    on_hidden = [(0.3, 0.1), (0.2, 0.1), (0.1, 0.5)]
    updates = ("8", "48", "96")
    scores = [{k: [1.0, m] for k, m in zip(updates, way, strict=True)} for way in true]
    write(tmp_path / "rows.jsonl", [k | {"scores": s} for k, s in zip(keys, scores, strict=True)])
    rows = [
        key
        | {"simulated": {"0": 9.0, **dict(zip(updates, way, strict=True))}}
        | {"rank correlation": rank, "top-k regret": regret}
        for key, way, (rank, regret) in zip(keys, simulated, on_hidden, strict=True)
    ]
    other = {"task": "other", "seed": 0, "changes": {"cap": 1.0}}
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(json.dumps(other | {"scores": scores[0]}) + "\n")
    rows.insert(1, rows[0] | other)  # rows of a task need not be together
    write(tmp_path / "store.jsonl", rows)
    return tmp_path / "store.jsonl"


def test_compares_the_picks_with_the_truth(script: Any, store: Path) -> None:
    table = script.comparison(script.joined(script.stored(store)))
    assert {*table["in question"][table["task"] == "other"]} == {"all settings (1)"}
    table = table[table["task"] == "ackley6"]
    whole = table[table["in question"] == "all settings (3)"].set_index("criterion")
    picks, correlation = whole["median of its pick"], whole["correlation with the truth"]
    assert picks["simulated run"] == 0.3
    assert picks["rank correlation"] == 0.1
    assert picks["top-k regret"] == pytest.approx(0.15)  # of two that are alike
    assert correlation["simulated run"] == pytest.approx(1.0)
    assert correlation["rank correlation"] == pytest.approx(-1.0)
    assert (whole["best of all"] == 0.3).all()
    assert (whole["unchanged"] == 0.1).all()
    assert set(table["in question"]) == {"all settings (3)", "stage 1, then radius 0.05 (1)"}


def test_number_of_updates(script: Any, store: Path) -> None:
    """The first turns after 48, the second has nearly all of its gain by then."""
    row, other = script.updates_chosen(script.stored(store)).to_dict("records")
    assert (row["task"], other["task"]) == ("ackley6", "other")
    assert row["mean with the updates chosen"] == pytest.approx((0.3 + 0.2 + 0.3) / 3)
    assert row["with 96"] == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert row["with the best of each"] == pytest.approx((0.3 + 0.2 + 0.3) / 3)
    assert row["setting and updates chosen"] == 0.3


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_writes_both_tables(script: Any, store: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.md"
    arguments = ["compare", "--store", str(store), "--output", str(output)]
    result = CliRunner().invoke(script.app, arguments)
    assert result.exit_code == 0, result.output
    written = output.read_text()
    assert "| all settings (3) | ackley6 | top-k regret | -0.866 | 0.150 |" in written
    assert "| ackley6 | 0.267 | 0.200 | 0.267 | 0.300 |" in written
    assert written.strip() == result.output.strip()


def test_refuses_to_compare_nothing_and_seeds(script: Any, store: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"none\.jsonl holds no rows; .* `run`"):
        script.compare(store.with_name("none.jsonl"))
    first, *rest = store.read_text().splitlines()
    write(store, [json.loads(first) | {"seed": 1}, *map(json.loads, rest)])
    with pytest.raises(typer.BadParameter, match="several seeds"):
        script.compare(store)

"""The comparison of criteria hides the best, asks no oracle, and holds picks against the truth."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
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


def test_compares_the_picks_with_the_truth(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.settings_map, "RESULTS", tmp_path)
    rows, truth = [], []
    settings = [{"cap": 1.0}, {"cap": 2.0}, {"cap": 3.0}]
    for changes, true, simulated, rank, regret in zip(
        settings, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (0.3, 0.2, 0.1), (0.1, 0.1, 0.5), strict=True
    ):
        key = {"task": "ackley6", "seed": 0, "changes": changes}
        truth.append(key | {"scores": {"96": [1.0, true]}})
        rows.append(
            key | {"simulated": {"96": simulated}, "rank correlation": rank, "top-k regret": regret}
        )
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, truth)) + "\n")
    store, output = tmp_path / "store.jsonl", tmp_path / "out.md"
    store.write_text("\n".join(map(json.dumps, rows)) + "\n")
    result = CliRunner().invoke(
        script.app, ["compare", "--store", str(store), "--output", str(output)]
    )
    assert result.exit_code == 0, result.output
    table = {
        cells[2]: cells[3:5]
        for line in output.read_text().splitlines()[2:]
        if (cells := re.split(r"\s*\|\s*", line))
    }
    assert table == {
        "simulated run": ["1.000", "0.300"],
        "rank correlation": ["-1.000", "0.100"],
        "top-k regret": ["-0.866", "0.150"],  # of two that are alike
    }

from __future__ import annotations

from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from botorch_roma import OfflineTask, load_task
from botorch_roma.benchmark import demo
from botorch_roma.benchmark.demo import run_demo


def test_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("branin2", dtype=torch.float32, num_rows=300)
    monkeypatch.setattr(demo, "load_task", lambda *args, **kwargs: task)
    monkeypatch.setattr(OfflineTask, "to", lambda self, **kwargs: self)
    calls = []
    real = demo.propose

    def propose(*args: Any, **kwargs: Any) -> Any:
        assert task.num_oracle_calls == 0
        proposal = real(*args, **kwargs)
        assert task.num_oracle_calls == 0
        calls.append(proposal)
        return proposal

    monkeypatch.setattr(demo, "propose", propose)
    result = run_demo("branin2", q=5, seed=2)
    summary, (proposal,) = result.summary, calls
    assert task.num_oracle_calls == 1
    assert task.num_oracle_queries == 5
    assert summary["oracle_calls_before"] == 0
    assert (summary["task"], summary["num"], summary["seed"]) == ("branin2", 5, 2)
    assert summary["preset"] == "default"
    groups = {
        "visible_data": task.Y,
        "start_designs": task.start_designs(5)[1],
        "proposals": task.evaluate(proposal.candidates),
    }
    for label, values in groups.items():
        scores = task.normalize(values, scale="full").double()
        assert summary[f"{label}_best"] == pytest.approx(scores.max().item())
        assert summary[f"{label}_median"] == pytest.approx(scores.quantile(0.5).item(), rel=1e-6)
    assert summary["fit_seconds"] > 0.0
    assert summary["optimize_seconds"] > 0.0
    assert isinstance(result.figure, Figure)


def test_seed_and_preset_make_a_difference() -> None:
    best = {
        (seed, preset): run_demo("branin2", q=4, seed=seed, preset=preset).summary["proposals_best"]
        for seed, preset in ((0, "default"), (1, "default"), (0, "paper"))
    }
    assert len(set(best.values())) == 3
    again = run_demo("branin2", q=4, seed=0).summary["proposals_best"]
    assert again == best[0, "default"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "tfbind8"}, r"`task` must be one of .* received 'tfbind8'"),
        ({"q": 0}, r"`q` .* received 0"),
        ({"preset": "quick"}, r"`preset` must be one of .* received 'quick'"),
        ({"device": "abacus"}, r"`device` must be a device .* received 'abacus'"),
        ({"seed": -1}, r"`seed` .* received -1"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_demo(**{"name": "branin2", **arguments})

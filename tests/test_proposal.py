from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from botorch.models.transforms import Standardize
from torch import Tensor

from botorch_roma import Proposal
from botorch_roma.proposal import describe

Make = Callable[..., Proposal]
Options = dict[str, Any]


def test_to_frame(frame: pd.DataFrame, make: Make) -> None:
    proposal = make(frame, "y")
    table = proposal.to_frame()
    assert list(table.columns) == ["a", "b", "c", "predicted_mean", "predicted_std", "distance"]
    assert table[["a", "b", "c"]].to_numpy().tolist() == proposal.candidates.tolist()
    assert table["predicted_mean"].tolist() == proposal.mean.tolist()
    assert table["predicted_std"].tolist() == proposal.std.tolist()
    assert table["distance"].tolist() == proposal.distance.tolist()


def test_summary(frame: pd.DataFrame, make: Make) -> None:
    proposal = make(
        frame.assign(k=["one", "two"] * 15), "y", seed=4, fixed_features={"a": 0.5, "k": "two"}
    )
    summary = proposal.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["best_measured"] == frame["y"].max()
    assert summary["best_predicted"] == proposal.mean[0].item()
    assert summary["median_predicted"] == proposal.mean.median().item()
    assert summary["median_distance"] == proposal.distance.median().item()
    assert summary["median_spacing"] == proposal.spacing.median().item()
    assert (summary["num"], summary["rows"], summary["seed"]) == (4, 30, 4)
    assert (summary["objective"], summary["direction"]) == ("y", "maximize")
    assert summary["fixed"] == {"a": 0.5, "k": "two"}
    assert summary["settings"]["model"] == {"hidden_sizes": [8]}
    assert summary["settings"]["optimize"]["num_updates"] == 5
    assert summary["settings"]["fit"]["epochs"] == 5
    assert 0.0 < summary["seconds"]["fit"] < summary["seconds"]["total"]
    least = make(frame, "y", minimize=True)
    assert least.summary()["direction"] == "minimize"
    assert least.summary()["best_measured"] == frame["y"].min()


def test_settings_that_have_no_short_form(X: Tensor, Y: Tensor, make: Make, fast: Options) -> None:
    constraints = [(torch.tensor([0]), torch.ones(1, dtype=torch.double), 0.0)]
    options = fast["optimize_options"] | {"inequality_constraints": constraints}
    settings = make(X, Y, optimize_options=options, fixed_features={1: 0.0}).summary()["settings"]
    assert settings["optimize"] == fast["optimize_options"] | {
        "inequality_constraints": "given (list)"
    }


@pytest.mark.parametrize("minimize", [False, True])
def test_predictions_on_the_way(
    X: Tensor, Y: Tensor, minimize: bool, make: Make, fast: Options
) -> None:
    """In the user's units and direction, as the posterior has them, an outcome transform undone."""
    options = fast["model_options"] | {"outcome_transform": Standardize(m=1)}
    proposal = make(X, Y, minimize=minimize, record_trajectory=True, model_options=options)
    assert proposal.trajectory is not None
    start = proposal.trajectory.x[0]
    with torch.no_grad():
        mean = proposal.model.posterior(start.unsqueeze(1)).mean.flatten()
    updates = proposal._updates()
    assert updates["adapted"].shape == updates["fitted"].shape == (5, 4)
    torch.testing.assert_close(updates["fitted"][0], -mean if minimize else mean)


@pytest.mark.parametrize(
    ("correlation", "end"),
    [(0.2, "0.200"), (0.199, "chance"), (-0.5, "chance"), (None, "chance")],
)
def test_a_proxy_that_has_learnt_little_is_told(
    frame: pd.DataFrame, make: Make, correlation: float | None, end: str
) -> None:
    proposal = make(frame, "y")
    proposal.history.rank_correlation[-1] = correlation
    (line,) = (line for line in describe(proposal) if line.startswith("rank correlation"))
    assert line.endswith(end)


def test_known_proposals_and_a_cut_training_are_told(frame: pd.DataFrame, make: Make) -> None:
    proposal = dataclasses.replace(
        make(frame, "y"), distance=torch.tensor([0.0, 1e-9, 0.1, 2.0], dtype=torch.double)
    )
    assert "2 of the 4 are rows of the table (distance 0)" in describe(proposal)
    assert not any("time budget" in line for line in describe(proposal))
    proposal.history.timed_out = True
    assert "the time budget ended the training in epoch 5" in describe(proposal)
    proposal = dataclasses.replace(proposal, distance=proposal.distance + 0.1)
    assert not any("rows of the table" in line for line in describe(proposal))


def test_to_html(frame: pd.DataFrame, tmp_path: Path, make: Make) -> None:
    pytest.importorskip("plotly", reason="needs the extra report")
    proposal = make(frame, "y")
    proposal.to_html(tmp_path / "page.html", data="data.csv", warnings=["mind the gap"])
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "mind the gap" in text
    assert "in <b>data.csv</b>" in text
    assert "was not recorded" in text
    assert all(f'data-value="{value!r}"' in text for value in proposal.mean.tolist())
    with pytest.raises(FileExistsError, match="exists already"):
        proposal.to_html(tmp_path / "page.html")
    make(frame, "y", record_trajectory=True).to_html(tmp_path / "page.html", force=True)
    assert "was not recorded" not in (tmp_path / "page.html").read_text("utf-8")


def test_fields_are_documented() -> None:
    for field in dataclasses.fields(Proposal):
        assert f"{field.name}:" in (Proposal.__doc__ or "")

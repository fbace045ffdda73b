from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from botorch_roma.page import Run
from botorch_roma.table import read_table

#: What a column may be called, and what it must not do.
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def frame() -> pd.DataFrame:
    """All kinds of columns, and names that are markup."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((60, 3)), columns=["a", EVIL, 'b" & <i>c</i>'])
    frame["n"] = rng.integers(0, 5, 60)
    frame["on"] = rng.random(60) > 0.5
    frame["kind"] = rng.choice(["oak", "<b>fir</b>", "ash"], 60)
    frame["site"] = ["".join(rng.choice(list("acgt"), rng.integers(4, 7))) for _ in range(60)]
    frame["y"] = frame["a"] + frame["n"]
    return frame


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run without a training: the first ``q`` rows in reverse, numbers moved, are proposals."""

    def make(frame: pd.DataFrame, q: int = 10, *, num_updates: int = 0, **summary: Any) -> Run:
        sequences = [c for c in frame if c == "site"]
        table = read_table(frame, "y", sequences=sequences)
        candidates = table.X[:q].flip(0).clone()
        for c in table.parts:
            if c.kind == "number":
                candidates[:, c.start] += 0.25
        generator = torch.Generator().manual_seed(0)
        mean = torch.rand(q, generator=generator).double().sort(descending=True).values + 4.0
        std, distance = torch.rand(2, q, generator=generator).double()
        means = torch.rand(2, num_updates, q, generator=generator).double()
        updates = dict(zip(("adapted", "fitted"), means, strict=True)) if num_updates else {}
        head: dict[str, Any] = {
            "objective": "y",
            "direction": "maximize",
            "rows": len(frame),
            "best_measured": frame["y"].max().item(),
            "best_predicted": mean[0].item(),
            "median_predicted": mean.median().item(),
            "median_distance": distance.median().item(),
            "median_spacing": 0.125,
            "rank_correlation": 0.5,
            "held_out": 6,
            "seed": 3,
            "preset": "default",
            "fixed": {},
            "settings": {"model": {}, "fit": {"epochs": 5}, "optimize": {}},
            "seconds": {"fit": 1.0, "total": 2.0},
            "version": "0.0",
            "data": "/home/someone/data.csv",
            "warnings": [],
        }
        return Run(table, candidates, mean, std, distance, head | summary, updates)

    return make

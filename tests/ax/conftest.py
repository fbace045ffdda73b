"""A small table with every kind of column, and settings that make a run short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

#: Ax 1.3.1 and the newest pandas and torch: warnings that Ax's own lines cause (reset_index with
#: `inplace`, torch.tensor of a tensor, a deprecated method of its own that Client calls, which
#: `pytest.warns` emits anew from another module).
AX_WARNINGS = ("ignore:::ax[.]", "ignore:add_tracking_metric is deprecated")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in AX_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))


QUICK: dict[str, Any] = {
    "fit_options": {"epochs": 15},
    "optimizer_options": {"num_updates": 25},
}


def score(df: pd.DataFrame) -> pd.Series:
    """What the table measures; best at x = 0.7, k = 8, level = 0.01, kind = "b", flag on."""
    y = -((df["x"] - 0.7) ** 2) + 0.1 * df["k"] - 0.2 * (np.log10(df["level"]) + 2.0) ** 2
    return y + 0.5 * (df["kind"] == "b") + 0.2 * df["flag"] + 0.1 * df["size"]


def make_table(rows: int = 120, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    df = pd.DataFrame(
        {
            "x": rng.uniform(0.0, 1.0, rows),
            "k": rng.integers(1, 9, rows),
            "level": 10.0 ** rng.uniform(-4.0, 0.0, rows),
            "kind": rng.choice(list("abc"), rows),
            "flag": rng.random(rows) > 0.5,
            "size": rng.choice([0.5, 1.0, 4.0], rows),
        }
    )
    return df.assign(y=score(df), cost=df["x"] + df["k"] / 8.0)


@pytest.fixture
def table() -> pd.DataFrame:
    return make_table()


@pytest.fixture
def quick() -> dict[str, Any]:
    return {"preset": "fast", **{key: dict(value) for key, value in QUICK.items()}}

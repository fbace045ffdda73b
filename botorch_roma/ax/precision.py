r"""
Outcomes with the digits that Ax's storage keeps.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import StringIO

import numpy as np
import pandas as pd
from ax.core.data import Data
from botorch.exceptions.warnings import InputDataWarning

#: Outcomes that vary less than this (standard deviation) would lose digits that they need. Ax
#: stores ten decimals, whatever the unit.
MIN_STORED_SPREAD: float = 1e-5

_COLUMNS: list[str] = ["mean", "sem"]


def as_stored(data: Data) -> Data:
    r"""Outcomes as they would come back from Ax's storage, JSON or SQL.

    Training amplifies what it rounds away, so that an experiment that is loaded would have other
    candidates. Metrics that vary by next to nothing in their unit are left as they are.
    """
    df = data.full_df
    if df.empty:
        return data
    spread = df.groupby("metric_name")["mean"].transform("std")
    rounded = pd.read_json(StringIO(df[_COLUMNS].to_json()), dtype=False).set_axis(df.index)
    kept = df[_COLUMNS].where(spread < MIN_STORED_SPREAD, rounded.astype(float), axis=0)
    return Data(df=df.assign(**{name: kept[name] for name in _COLUMNS}))


def warn_of_lost_digits(metrics: Sequence[str], means: np.ndarray) -> None:
    r"""Warn of metrics, columns of ``n x m``, that Ax's storage would spoil."""
    spread = pd.DataFrame(means, columns=list(metrics)).std()
    small = spread[(spread > 0.0) & (spread < MIN_STORED_SPREAD)]
    if len(small):
        listed = ", ".join(f"{name!r} ({value:.1e})" for name, value in small.items())
        warnings.warn(
            f"Ax stores ten decimals of an outcome, too few for {listed}: that is how much "
            "they vary (standard deviation). Use a smaller unit if the experiment is to be saved.",
            InputDataWarning,
            stacklevel=3,
        )

r"""
What a page is about: a run of ``propose``, at hand or saved.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from botorch.exceptions import InputDataError
from torch import Tensor

from botorch_roma.chunks import column_std
from botorch_roma.files import check_input, read_frame
from botorch_roma.table import PREDICTED, Column, Table, read_table

#: Known designs that proposals are compared with, at least.
MIN_KNOWN: int = 50

#: Points of two distributions that are compared, from the least to the greatest.
NUM_QUANTILES: int = 21

#: What the JSON object of a run holds at least, and what each of it is.
_HOLDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("data", "direction", "objective", "preset", "version"), (str,)),
    **dict.fromkeys(("rows", "held_out", "seed"), (int,)),
    **dict.fromkeys(("best_measured", "best_predicted"), (int, float)),
    **dict.fromkeys(("median_predicted", "median_distance"), (int, float)),
    "rank_correlation": (int, float, NoneType),
    **dict.fromkeys(("candidates", "ignore", "sequences"), (list,)),
    **dict.fromkeys(("fixed", "settings", "seconds"), (dict,)),
}

#: What it holds beside that, or not.
_MAY_HOLD: dict[str, tuple[type, ...]] = {
    "categories": (list,),
    "warnings": (list,),
    "reconstruction": (dict,),
    "median_spacing": (int, float, NoneType),
}


@dataclass(frozen=True)
class Run:
    r"""A run as a page shows it.

    Attributes:
        table: The measured designs.
        candidates: The proposals, ``q x d``, best predicted first.
        mean: Their predicted outcome, ``q``.
        std: Its predictive standard deviation, ``q``.
        distance: Distance to the nearest known design, ``q``.
        summary: As of :meth:`Proposal.summary <botorch_roma.proposal.Proposal.summary>`, with
            ``"data"``, the name of the table, and ``"warnings"``.
        updates: Outcomes that the ``"adapted"`` and the ``"fitted"`` proxy predicted before each
            update, ``T x B`` each; empty where they were not recorded.
    """

    table: Table
    candidates: Tensor
    mean: Tensor
    std: Tensor
    distance: Tensor
    summary: Mapping[str, Any]
    updates: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def minimize(self) -> bool:
        """Whether smaller outcomes are better."""
        return self.summary["direction"] == "minimize"

    @cached_property
    def best_known(self) -> Tensor:
        r"""The best measured designs, as many as were proposed, ``k x d``.

        But :data:`MIN_KNOWN` at least, and all where there are fewer.
        """
        Y = self.table.Y.flatten()
        k = min(max(len(self.candidates), MIN_KNOWN), len(Y))
        return self.table.X[Y.topk(k, largest=not self.minimize).indices]

    @property
    def inputs(self) -> list[Column]:
        """The columns that are no sequences."""
        return [c for c in self.table.parts if c.kind != "sequence"]

    @property
    def sequences(self) -> list[Column]:
        """The columns that are sequences."""
        return [c for c in self.table.parts if c.kind == "sequence"]

    @cached_property
    def moved(self) -> list[Column]:
        r"""The inputs, those first whose values differ most from those of :attr:`best_known`.

        Of a number it is the mean difference of the quantiles in standard deviations of the data,
        of a category half the sum of the differences of the shares.
        """
        scale = column_std(self.table.X)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        ranks = torch.linspace(0.0, 1.0, NUM_QUANTILES)
        quantiles = []
        for X in (self.candidates, self.best_known):
            rows = (ranks * (len(X) - 1)).round().long()
            quantiles.append(X.sort(dim=0).values[rows.to(X.device)])
        shift = ((quantiles[0] - quantiles[1]).abs().mean(dim=0) / scale).tolist()
        for c in self.inputs:
            if c.kind == "category":
                shares = [
                    token_shares(X[:, c.place], len(c.values))
                    for X in (self.candidates, self.best_known)
                ]
                shift[c.start] = float((shares[0] - shares[1]).abs().sum()) / 2
        return sorted(self.inputs, key=lambda c: -shift[c.start])

    @classmethod
    def read(cls, path: Path, data: Path | None = None) -> Run:
        """A run from what ``botorch-roma propose --json`` printed, and the table it names.

        Args:
            path: The file with the JSON object.
            data: The table, where it is no longer where it was.

        Raises:
            FileNotFoundError: If one of the files does not exist.
            InputDataError: If they do not belong together, or the JSON object is none of a run.
        """
        summary = read_summary(path)
        if summary is None:
            raise InputDataError(
                f"{str(path)!r} holds no run; pass what `botorch-roma propose --json` printed."
            )
        _check_summary(path, summary)
        source = data or _find(Path(summary["data"]), path)
        sequences, categories = summary["sequences"], summary.get("categories", [])
        frame = read_frame(source, texts=[*sequences, *categories]).rename(columns=str)
        if len(frame) != summary["rows"]:
            raise InputDataError(
                f"The table {str(source)!r} has {len(frame)} rows, and the run saw "
                f"{summary['rows']}; name its table with --data."
            )
        table = read_table(
            frame,
            summary["objective"],
            ignore=summary["ignore"],
            sequences=sequences,
            categories=categories,
        )
        rows = summary.pop("candidates")
        kinds = dict.fromkeys(PREDICTED, "number") | {c.name: c.kind for c in table.parts}
        for i, row in enumerate(rows):
            for name, kind in kinds.items():
                if not _is_value(row.get(name), kind):
                    raise _damaged(path, f"candidates[{i}][{name!r}]", row.get(name))
        mean, std, distance = (
            torch.tensor([row[name] for row in rows], dtype=torch.double) for name in PREDICTED
        )
        blocks = [_tensor(c, [row[c.name] for row in rows]) for c in table.parts]
        return cls(table, torch.cat(blocks, dim=1), mean, std, distance, summary)


def read_summary(path: Path) -> dict[str, Any] | None:
    """The JSON object of a run; None where the file holds something else, such as a store."""
    check_input(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    names = {"candidates", "data", "direction", "ignore", "objective", "rows", "sequences"}
    return found if isinstance(found, dict) and names <= found.keys() else None


def _check_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Refuse the JSON object of a run in which something is missing or is something else."""
    kinds = _HOLDS | {name: kind for name, kind in _MAY_HOLD.items() if name in summary}
    for name, kind in kinds.items():
        if not isinstance(summary.get(name), kind):
            raise _damaged(path, name, summary.get(name))
    rows = summary["candidates"]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise _damaged(path, "candidates", rows[:3])
    for name, kind in (("settings", (dict,)), ("seconds", (int, float))):
        for key, value in summary[name].items():
            if not isinstance(value, kind):
                raise _damaged(path, f"{name}[{key!r}]", value)


def _damaged(path: Path, name: str, value: Any) -> InputDataError:
    return InputDataError(
        f"The run {str(path)!r} cannot be read: `{name}` is missing or holds something else, "
        f"{str(value)[:40]!r}; print it again with `botorch-roma propose --json`."
    )


def _is_value(value: Any, kind: str) -> bool:
    """Whether a column of that kind can hold a value; whether a category is known is seen later."""
    if kind == "sequence":
        return isinstance(value, str)
    if kind == "category":
        return isinstance(value, str | int | float)
    return isinstance(value, int | float) and math.isfinite(value)


def token_shares(tokens: Tensor, num_tokens: int) -> Tensor:
    r"""Share of each token at each position of ``n x length``, ``num_tokens x length``."""
    shares = [(tokens == i).double().mean(dim=0) for i in range(num_tokens)]
    return torch.stack(shares).cpu()


def _find(data: Path, path: Path) -> Path:
    """The table where the run had it, or else beside the file of the run."""
    beside = path.parent / data
    return beside if not data.exists() and beside.exists() else data


def _tensor(column: Column, values: list[Any]) -> Tensor:
    r"""Values of a user's column as designs ``n x width``."""
    if column.kind == "sequence" and column.vocabulary is not None:
        return column.vocabulary.tokenize(values, column.width).double()
    numbers = [column.number(f"candidates[{i}]", v) for i, v in enumerate(values)]
    return torch.tensor(numbers, dtype=torch.double).unsqueeze(-1)

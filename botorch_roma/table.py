r"""
Tables of measured designs: from tensors or a data frame to tensors with names.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from botorch.exceptions import InputDataError
from torch import Tensor

from botorch_roma.latent.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pandas as pd


Kind = Literal["number", "integer", "boolean", "category", "sequence"]

#: Text columns with more different values than this are no categories.
MAX_CATEGORIES: int = 100

#: Integers from here on are not all doubles.
MAX_INTEGER: int = 2**53

#: With more values than this, half of them at least have to come twice.
MAX_RARE_CATEGORIES: int = 10

#: What a table of candidates says of them beside the user's columns, and the attribute it is.
PREDICTED: dict[str, str] = {
    "predicted_mean": "mean",
    "predicted_std": "std",
    "distance": "distance",
}

#: A design that is no farther from a known one is that one, but for rounding.
KNOWN_DISTANCE: float = 1e-6


@dataclass(frozen=True)
class Column:
    r"""A column of the user's table, and where it is in the designs.

    Attributes:
        name: Its name.
        kind: What it holds. A category is one token, a sequence one token per position.
        start: Its first column in the designs.
        width: Number of its columns in the designs.
        vocabulary: The tokens of a category (as numbers) or sequence.
        values: The categories, in the order of their tokens.
    """

    name: str
    kind: Kind
    start: int
    width: int = 1
    vocabulary: Vocabulary | None = None
    values: tuple[Any, ...] = ()

    @property
    def place(self) -> slice:
        """Its columns in the designs."""
        return slice(self.start, self.start + self.width)

    def restore(self, X: Tensor) -> list[Any]:
        r"""Values of the user's column of designs ``n x d``."""
        part = X[:, self.place].cpu()
        if self.kind == "sequence" and self.vocabulary is not None:
            return self.vocabulary.to_strings(part)
        numbers = part.flatten().tolist()
        if self.kind == "category":
            return [self.values[int(v)] for v in numbers]
        cast: Any = {"number": float, "integer": round, "boolean": bool}[self.kind]
        return [cast(v) for v in numbers]

    def number(self, argument: str, value: Any) -> Any:
        """What a value of the column is in the designs.

        Raises:
            InputDataError: For unknown categories, and sequences; names ``argument``.
        """
        if self.kind == "sequence":
            raise InputDataError(
                f"`{argument}` names the sequences {self.name!r}; only numbers and categories can "
                "be held fixed or bounded."
            )
        if self.kind != "category":
            return value
        names = [str(v) for v in self.values]
        if str(value) not in names:
            raise InputDataError(
                f"`{argument}` must be one of the categories of {self.name!r}, {_shorten(names)}, "
                f"received {value!r}."
            )
        return float(names.index(str(value)))


@dataclass(frozen=True)
class Table:
    r"""Designs and outcomes with their names.

    Attributes:
        X: Designs, ``n x d``: numbers, and tokens for categories and sequences.
        Y: Outcomes, ``n x 1``.
        parts: The user's columns.
        objective: Name of the outcome.
    """

    X: Tensor
    Y: Tensor
    parts: list[Column]
    objective: str

    @property
    def columns(self) -> list[str]:
        """Names of the inputs."""
        return [c.name for c in self.parts]

    @property
    def integers(self) -> list[int]:
        """Columns of the designs that are integers (or booleans, 0 and 1)."""
        return [c.start for c in self.parts if c.kind in ("integer", "boolean")]

    @property
    def has_tokens(self) -> bool:
        """Whether there are categories or sequences."""
        return any(c.vocabulary is not None for c in self.parts)

    def column(self, argument: str, name: str) -> Column:
        """A column by its name.

        Raises:
            InputDataError: If there is no such input; names ``argument``.
        """
        found = next((c for c in self.parts if c.name == name), None)
        if found is None:
            raise InputDataError(
                f"`{argument}` names the column {name!r}, which is not among the inputs "
                f"{_shorten(self.columns)}; name one of these."
            )
        return found

    def restore(self, X: Tensor) -> dict[str, list[Any]]:
        r"""The user's columns of designs ``n x d``."""
        return {c.name: c.restore(X) for c in self.parts}


def read_table(
    train_X: Tensor | pd.DataFrame,
    train_Y: Tensor | str,
    *,
    ignore: list[str] | None = None,
    sequences: Sequence[str] = (),
    categories: Sequence[str] = (),
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Table:
    r"""A table from tensors, or from a data frame and the name of its outcome column.

    Args:
        train_X: Designs ``n x d``, or a data frame.
        train_Y: Outcomes ``n x 1`` or ``n``, or the name of a column.
        ignore: Columns of the data frame to leave out.
        sequences: Columns of the data frame that hold sequences, one character a symbol. Other
            columns of texts are categories, where the texts repeat.
        categories: Columns of the data frame that hold categories, however many these are, or
            though they are numbers (of a machine, say).
        device: Where to put the tensors.
        dtype: Their precision; double for a data frame by default.

    Raises:
        InputDataError: For missing or empty columns, inputs with a name of :data:`PREDICTED`,
            missing and infinite values, integers beyond 2**53, wrong types, texts that are rather
            names than categories, sequences that are empty.
    """
    named = {"ignore": ignore or [], "sequences": sequences, "categories": categories}
    for name, given in named.items():
        if isinstance(given, str):  # its letters would be taken for names
            raise InputDataError(
                f"`{name}` must be a list of columns, received {given!r}; pass [{given!r}]."
            )
    if isinstance(train_X, Tensor):
        if not isinstance(train_Y, Tensor):
            raise InputDataError(
                f"`train_Y` must be a tensor where `train_X` is one, received {train_Y!r}."
            )
        for name, given in named.items():
            if given:
                raise InputDataError(
                    f"`{name}` needs a data frame, received a tensor and {list(given)}; leave it "
                    "out."
                )
        Y = train_Y.unsqueeze(-1) if train_Y.dim() == 1 else train_Y
        if Y.dim() == 2 and Y.shape[1] != 1:
            raise InputDataError(
                f"`train_Y` must have one column, received shape {tuple(train_Y.shape)}; for "
                "several outcomes use RoMAModel and optimize_acqf_roma."
            )
        X = train_X.to(device=device, dtype=dtype)
        parts = [Column(f"x{i}", "number", i) for i in range(X.shape[-1] if X.dim() else 0)]
        return Table(X, Y.to(device=device, dtype=dtype), parts, "y")
    return _from_frame(train_X, train_Y, named, device, dtype or torch.double)


def _from_frame(
    frame: pd.DataFrame,
    objective: Tensor | str,
    named: dict[str, Sequence[str]],
    device: str | torch.device | None,
    dtype: torch.dtype,
) -> Table:
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise InputDataError(
            f"`train_X` must be a tensor or a pandas DataFrame, received {type(frame).__name__}."
        )
    if not isinstance(objective, str):
        raise InputDataError(
            "`train_Y` must be the name of a column where `train_X` is a data frame, received "
            f"{type(objective).__name__}."
        )
    frame = frame.rename(columns=str)
    repeated = frame.columns[frame.columns.duplicated()].tolist()
    if repeated:
        raise InputDataError(f"The table has several columns named {repeated[0]!r}; rename them.")
    _check_named(list(frame.columns), objective, named)
    frame = frame.drop(columns=list(named["ignore"]))
    if frame.empty or len(frame.columns) < 2:
        raise InputDataError(
            f"The table needs rows and at least one input besides {objective!r}, received "
            f"{len(frame)} rows and the inputs {list(frame.columns.drop(objective))[:10]}; add "
            "what is missing."
        )
    taken = [name for name in PREDICTED if name in frame.columns.drop(objective)]
    if taken:  # both cannot be in a table of candidates
        raise InputDataError(
            f"The column {taken[0]!r} has the name of a column that candidates get; leave it out "
            "with `ignore`, or rename it."
        )
    outcome = _numbers(frame, objective, "name another column")
    Y = torch.tensor(outcome, dtype=dtype, device=device).unsqueeze(-1)
    blocks: list[Tensor] = []
    parts: list[Column] = []
    start = 0
    for name in frame.columns.drop(objective):
        said = next((kind for kind, names in named.items() if name in names), None)
        block, part = _read_column(frame, name, start, said)
        blocks.append(block.to(dtype=dtype))
        parts.append(part)
        start += block.shape[1]
    return Table(torch.cat(blocks, dim=1).to(device), Y, parts, objective)


def _check_named(columns: list[str], objective: str, named: Mapping[str, Sequence[str]]) -> None:
    """Raise for arguments that name columns which are not there, or are something else."""
    for name in (objective, *itertools.chain(*named.values())):
        if name not in columns:
            raise InputDataError(
                f"The table has no column {name!r}; its columns are {_shorten(columns)}, name one."
            )
    for argument, names in named.items():
        if objective in names:
            raise InputDataError(
                f"`{argument}` names the objective {objective!r}; leave one of them out."
            )
    for (one, names), (other, others) in itertools.combinations(named.items(), 2):
        both = [name for name in names if name in others]
        if both:
            raise InputDataError(
                f"`{one}` and `{other}` both name {both}; leave each out of one of them."
            )


def _read_column(
    frame: pd.DataFrame, name: str, start: int, said: str | None
) -> tuple[Tensor, Column]:
    r"""A column as designs ``n x width``, and what it is: what is said of it, if anything."""
    from pandas.api import types

    column = frame[name]
    if said == "sequences":
        strings = _complete(column, name).tolist()
        try:
            vocabulary = Vocabulary.from_strings(strings)
        except InputDataError as error:
            raise InputDataError(f"The column {name!r} cannot hold sequences: {error}") from None
        tokens = vocabulary.tokenize(strings)
        return tokens, Column(name, "sequence", start, tokens.shape[1], vocabulary)
    if said == "categories":
        if _is_real(column):
            _numbers(frame, name)  # finite
        return _read_categories(_complete(column, name), name, start, sure=True)
    if _is_real(column):
        kind: Kind = "number"
        if types.is_bool_dtype(column):
            kind = "boolean"
        elif types.is_integer_dtype(column):
            kind = "integer"
        numbers = torch.tensor(_numbers(frame, name)).unsqueeze(-1)
        return numbers, Column(name, kind, start)
    return _read_categories(_complete(column, name), name, start)


def _read_categories(
    column: pd.Series[Any], name: str, start: int, *, sure: bool = False
) -> tuple[Tensor, Column]:
    """A column of categories; unless that is sure, only texts that repeat are taken for such."""
    from pandas.api import types

    is_text = types.is_string_dtype(column) or isinstance(column.dtype, types.CategoricalDtype)
    if not (is_text or (sure and _is_real(column))):
        raise InputDataError(
            f"The column {name!r} is not numeric ({_first_text(column)}), nor does it hold texts; "
            "leave it out with `ignore`, or encode it as numbers."
        )
    values = sorted(set(column.tolist()), key=str)
    names = len(values) > MAX_RARE_CATEGORIES and 2 * len(values) > len(column)
    names |= len(values) > MAX_CATEGORIES or 1 < len(values) == len(column)
    if names and not sure:
        raise InputDataError(
            f"The column {name!r} is not numeric ({_first_text(column)}) and holds {len(values)} "
            f"different texts in {len(column)} rows, too many for categories; correct its values, "
            "leave it out with `ignore`, or name it in `sequences` or, if they are categories all "
            "the same, in `categories`."
        )
    digits = len(str(len(values)))  # as many for all: a text that begins with another is no matter
    vocabulary = Vocabulary([f"{i:0{digits}d}" for i in range(len(values))])
    number = {v: i for i, v in enumerate(values)}
    tokens = torch.tensor([[number[v]] for v in column.tolist()])
    return tokens, Column(name, "category", start, 1, vocabulary, tuple(values))


def _is_real(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers (or booleans)."""
    from pandas.api import types

    return types.is_numeric_dtype(column) and not types.is_complex_dtype(column)


def _complete(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    missing = int(column.isna().sum())
    if missing:
        raise InputDataError(
            f"The column {name!r} has {missing} missing values (the first in row "
            f"{int(column.isna().to_numpy().argmax())}, counted from 0); drop or impute these rows."
        )
    return column


def _numbers(frame: pd.DataFrame, name: str, other: str = "leave it out with `ignore`") -> Any:
    """A column as an array of finite doubles, ``n``."""
    import numpy as np
    from pandas.api import types

    column = frame[name]
    if not _is_real(column):
        raise InputDataError(
            f"The column {name!r} is not numeric ({_first_text(column)}); correct its values, or "
            f"{other}."
        )
    values = _complete(column, name).to_numpy(dtype="float64")
    bad, what = ~np.isfinite(values), "no finite number"
    if types.is_integer_dtype(column):  # identifiers, as a rule
        bad, what = np.abs(values) >= MAX_INTEGER, "2**53 or more, not exact as a double"
    if bad.any():
        row = int(bad.argmax())
        raise InputDataError(
            f"The column {name!r} holds {column.iloc[row]} in row {row}, counted from 0, which is "
            f"{what}; drop or correct such rows, or {other}."
        )
    return values


def _first_text(column: pd.Series[Any]) -> str:
    """The first value that is no number, for a message."""
    import pandas as pd

    try:
        wrong = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
    except (TypeError, ValueError, OverflowError):  # lists, integers of 400 digits
        wrong = column.notna().to_numpy()
    row = int(wrong.argmax()) if wrong.any() else 0
    value = column.iloc[row]
    kind = "" if isinstance(value, str) else f" of type {type(value).__name__}"
    if isinstance(value, int):  # a shorter one makes a numeric column
        kind = ", more than 64 bits"
    return f"row {row} holds {str(value)[:40]!r}{kind}"


def _shorten(names: list[str], limit: int = 10) -> str:
    """A list of names for a message, cut after ``limit``."""
    shown = ", ".join(map(repr, names[:limit]))
    return f"[{shown}]" if len(names) <= limit else f"[{shown}, ... ({len(names)} in all)]"

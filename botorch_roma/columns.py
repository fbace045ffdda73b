"""What options of the command say about columns: ``COLUMN=VALUE``, ``COLUMN=LOWER:UPPER``."""

from __future__ import annotations


def parse_bounds(bounds: list[str] | None) -> dict[str, tuple[float, float]]:
    """``COLUMN=LOWER:UPPER`` as bounds by column.

    Raises:
        ValueError: For another form, and columns that are named twice.
    """
    form, parsed = "COLUMN=LOWER:UPPER", {}
    pairs = [_split("--bounds", text, form) for text in bounds or []]
    check_once("--bounds", [column for column, _ in pairs])
    for (column, value), text in zip(pairs, bounds or [], strict=True):
        lower, _, upper = value.partition(":")
        try:
            parsed[column] = (float(lower), float(upper))
        except ValueError:
            raise ValueError(f"`--bounds` must be {form}, received {text!r}.") from None
    return parsed


def parse_fixed(fix: list[str] | None) -> dict[str, str]:
    """``COLUMN=VALUE`` as values by column, the rest as :func:`parse_bounds`."""
    pairs = [_split("--fix", text, "COLUMN=VALUE") for text in fix or []]
    check_once("--fix", [column for column, _ in pairs])
    return dict(pairs)


def check_once(option: str, columns: list[str]) -> None:
    """Refuse a column that an option names twice, with a ``ValueError``."""
    repeated = [column for column in columns if columns.count(column) > 1]
    if repeated:
        raise ValueError(
            f"`{option}` names the column {repeated[0]!r} {columns.count(repeated[0])} times; "
            "name it once."
        )


def _split(option: str, text: str, form: str) -> tuple[str, str]:
    column, separator, value = text.rpartition("=")
    if not separator or not column:
        raise ValueError(f"`{option}` must be {form}, received {text!r}.")
    return column, value

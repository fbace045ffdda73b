"""What is shown while work goes on: a progress bar, and warnings, which can be kept as well."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


def track(sequence: Iterable[int], *, total: int, description: str, enabled: bool) -> Iterator[int]:
    """Iterate over ``sequence``, with a bar and an estimate of the time left where ``enabled``."""
    if not enabled:
        yield from sequence
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(
        sequence, total=total, description=description, console=Console(stderr=True), transient=True
    )


@contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """The messages of all warnings that are shown within this block, which are shown all the same.

    As ``warnings.catch_warnings``, which it uses, not for several threads at once.
    """
    noted: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Any, *args: Any, **kwargs: Any) -> None:
            noted.append(str(message))
            show(message, *args, **kwargs)

        warnings.showwarning = note
        yield noted

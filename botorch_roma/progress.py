"""What is shown while work goes on: a progress bar, and warnings, which can be kept as well."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from botorch.exceptions import BotorchWarning

#: Seconds after which it is estimated how long the work will take.
ESTIMATE_AFTER: float = 15.0

#: Seconds that are left then, and that nobody should have to wait without having been told.
LONG_WAIT: float = 600.0


def track(
    sequence: Iterable[int],
    *,
    total: int,
    description: str,
    enabled: bool,
    shorter: str | None = None,
) -> Iterator[int]:
    """Iterate over ``sequence``, with a bar and an estimate of the time left where ``enabled``.

    Args:
        sequence: What to iterate over.
        total: Its length.
        description: What is done, for the bar.
        enabled: Whether to show the bar.
        shorter: How to make it shorter. If it is given, work without a bar that will take long is
            announced by a warning.
    """
    if not enabled:
        if shorter is not None:
            sequence = _announced(sequence, total, description, shorter)
        yield from sequence
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(
        sequence, total=total, description=description, console=Console(stderr=True), transient=True
    )


def _announced(
    sequence: Iterable[int], total: int, description: str, shorter: str
) -> Iterator[int]:
    """The same items; one warning if they will take long."""
    start, estimated = time.monotonic(), False
    for done, item in enumerate(sequence):
        passed = time.monotonic() - start if done and not estimated else 0.0
        if passed >= ESTIMATE_AFTER:
            estimated = True
            left = passed / done * (total - done)
            if left >= LONG_WAIT:
                warnings.warn(
                    f"{description} will take about {left / 60.0:.0f} minutes more: {total} steps "
                    f"of {passed / done:.2g} s each. To make that shorter: {shorter}.",
                    BotorchWarning,
                    stacklevel=3,
                )
        yield item


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

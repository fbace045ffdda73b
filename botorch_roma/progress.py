"""A progress bar on standard error that can be turned off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


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

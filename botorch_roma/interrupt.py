"""
Ctrl-C as a request: the first one asks for the result so far, the second one ends the work.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Signals received within :func:`finish_on_interrupt`; None outside of it.
_received: int | None = None


@contextmanager
def finish_on_interrupt() -> Iterator[bool]:
    """Within this block the first Ctrl-C (SIGINT) raises nothing, :func:`is_interrupted` tells.

    The second raises ``KeyboardInterrupt``, as the first does outside. Without effect other than in
    the main thread, the only one that gets signals, and inside another such block.

    Yields:
        Whether it has an effect.
    """
    global _received
    if _received is not None or threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None):  # as of a job in the background: stay deaf
        yield False
        return
    _received = 0
    signal.signal(signal.SIGINT, _note)
    try:
        yield True
    finally:
        signal.signal(signal.SIGINT, before)
        _received = None


def is_interrupted() -> bool:
    """Whether a result is asked for now: Ctrl-C within :func:`finish_on_interrupt`."""
    return bool(_received)


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    _received = (_received or 0) + 1
    if _received > 1:
        raise KeyboardInterrupt

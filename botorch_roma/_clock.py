"""When the command began: imported before all that takes seconds to import."""

from __future__ import annotations

import time

#: What :func:`time.monotonic` said when this package was imported.
BEGAN: float = time.monotonic()


def left(timeout: float | None) -> float | None:
    """What is left of a time budget in seconds that began with the import of the package.

    Half of it at the least: where the imports take longer than that, the budget is exceeded rather
    than nothing is made.

    Args:
        timeout: The budget; what is none is returned as it is, to be refused or ignored.
    """
    if timeout is None or not timeout > 0.0:
        return timeout
    return max(timeout - (time.monotonic() - BEGAN), timeout / 2)

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from botorch_roma import _clock
from botorch_roma._clock import left


def test_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: _clock.BEGAN + 6.0)
    assert left(20.0) == pytest.approx(14.0)
    assert left(8.0) == pytest.approx(4.0)  # half at the least
    assert left(None) is None
    assert left(-1.0) == -1.0


def test_it_begins_before_what_takes_long_to_import() -> None:
    code = (
        "import sys, time; before = time.monotonic(); import botorch_roma._clock as c;"
        "took = time.monotonic() - before; assert 'torch' in sys.modules;"
        "print((c.BEGAN - before) / took)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.0 <= float(result.stdout) < 0.2

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from botorch_roma.benchmark import memory
from botorch_roma.benchmark.memory import peak_memory

linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux keeps a peak that can be reset"
)


@linux
def test_a_peak_is_seen_and_forgotten() -> None:
    with peak_memory() as before:
        pass
    with peak_memory() as peak:
        torch.ones(50 * 2**20 // 4)  # 50 MB that are gone at once
    with peak_memory() as after:
        pass
    assert before.megabytes is not None
    assert peak.megabytes is not None
    assert after.megabytes is not None
    assert 40 < peak.megabytes - before.megabytes < 80
    assert after.megabytes < peak.megabytes - 40


@linux
def test_peak_of_what_fails() -> None:
    with pytest.raises(KeyError), peak_memory() as peak:
        raise KeyError
    assert peak.megabytes is None


def test_where_it_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESET", tmp_path / "nowhere" / "clear_refs")
    with peak_memory() as peak:
        pass
    assert peak.megabytes is None

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from botorch_roma.progress import noted_warnings, track


def test_off_is_silent_and_lazy(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    def source() -> Iterator[int]:
        for i in range(3):
            seen.append(i)
            yield i

    iterator = track(source(), total=3, description="stage 1", enabled=False)
    assert next(iterator) == 0
    assert seen == [0]
    assert list(iterator) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_on_writes_to_standard_error_only(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # behave as on a terminal
    monkeypatch.setenv("TERM", "xterm")
    items = list(track(range(3), total=3, description="stage 1", enabled=True))
    assert items == [0, 1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert "stage 1" in err


def test_leaving_early_is_clean(capfd: pytest.CaptureFixture[str]) -> None:
    for i in track(range(10), total=10, description="stage 1", enabled=True):
        if i == 1:
            break
    assert capfd.readouterr().out == ""


def test_warnings_are_noted_and_shown() -> None:
    def work() -> list[str]:
        with noted_warnings() as noted:
            warnings.simplefilter("default")
            warnings.warn("one", UserWarning, stacklevel=1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.warn("not this", UserWarning, stacklevel=1)
            warnings.warn("two", UserWarning, stacklevel=1)
        return noted

    before = warnings.showwarning
    with pytest.warns(UserWarning, match="one|two") as shown:
        noted = work()
    assert noted == ["one", "two"]
    assert [str(w.message) for w in shown] == noted
    assert warnings.showwarning is before

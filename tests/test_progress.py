from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from botorch_roma import progress
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


@pytest.mark.parametrize(
    ("seconds", "total", "shorter", "left"),
    [
        (0.25, 5000, "wait", "21"),  # 60 steps take 15 seconds, then there are 20 minutes 35 left
        (20.0, 100, "wait", "33"),  # as soon as there is anything to go by
        (0.25, 2000, "wait", None),  # eight minutes
        (20.0, 2, "wait", None),
        (0.25, 5000, None, None),  # the budget of time ends it
    ],
)
def test_long_work_is_announced_once(
    seconds: float,
    total: int,
    shorter: str | None,
    left: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(monotonic=itertools.count(step=seconds).__next__)
    monkeypatch.setattr(progress, "time", clock)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        items = track(
            range(total), total=total, description="stage 1", enabled=False, shorter=shorter
        )
        assert list(items) == list(range(total))
    messages = [str(w.message) for w in record]
    assert len(messages) == (left is not None)
    if left is not None:
        expected = f"stage 1 will take about {left} minutes more: {total} steps of {seconds:.2g} s"
        assert messages == [f"{expected} each. To make that shorter: wait."]


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

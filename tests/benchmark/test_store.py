from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from botorch.exceptions.errors import InputDataError
from hypothesis import given, settings
from hypothesis import strategies as st

from botorch_roma.benchmark.store import RunStore, config_hash, key_of


def record(seed: int, **changes: Any) -> dict[str, Any]:
    return {
        "task": "toy",
        "method": "start",
        "config": "c0",
        "seed": seed,
        "version": "1",
        "full_100": 0.5,
        **changes,
    }


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs.jsonl")


def test_what_is_stored_comes_back(store: RunStore) -> None:
    assert store.records() == []
    store.append([record(0), record(1, refused=None, values=[0.1, 1e-30])])
    store.append([record(2)])
    again = RunStore(store.path)
    assert [r["seed"] for r in again.records()] == [0, 1, 2]
    assert again.records()[1] == record(1, refused=None, values=[0.1, 1e-30])
    assert again.frame()["full_100"].tolist() == [0.5] * 3
    assert len(store.path.read_text().splitlines()) == 3


def test_full_disk(store: RunStore, full_disk: None) -> None:
    """The runs before stay, no half of one is left, and smaller ones can be stored afterwards."""
    store.append([record(0)])
    before = store.path.read_bytes()
    with pytest.raises(OSError, match=r"The store '.*runs\.jsonl' could not be written: File too"):
        store.append([record(1), record(2, values=[0.1] * 3_000)])
    assert store.path.read_bytes() == before
    store.append([record(3)])
    assert [r["seed"] for r in store.records()] == [0, 3]


@pytest.mark.parametrize("field", ["task", "method", "config", "seed", "version"])
def test_the_first_record_of_a_key_stays(store: RunStore, field: str) -> None:
    store.append([record(0), record(0, full_100=0.6)])
    store.append([record(0, full_100=0.7)])
    assert store.records() == [record(0)]
    store.append([{**record(0), field: 7}])
    assert len(store.records()) == 2


@pytest.mark.parametrize("kept", [0, 1, 30, -1])
def test_what_a_killed_process_left_of_a_line(store: RunStore, kept: int) -> None:
    store.append([record(0)])
    whole = store.path.read_bytes()
    store.path.write_bytes(whole + json.dumps(record(1)).encode()[:kept])
    assert store.records() == [record(0)]
    store.append([record(2)])
    assert store.records() == [record(0), record(2)]


def test_store_with_nothing_but_a_torn_line(store: RunStore) -> None:
    store.path.write_bytes(b'{"task": "to')
    assert store.records() == []
    store.append([record(3)])
    assert store.records() == [record(3)]


@pytest.mark.parametrize("line", ["", "{", "[1]", "3", '{"task": "toy"}'])
def test_damage_inside_is_named(store: RunStore, line: str) -> None:
    store.append([record(0)])
    store.path.write_text(f"{store.path.read_text()}{line}\n{json.dumps(record(1))}\n")
    with pytest.raises(InputDataError, match=r"Line 2 of the store '.*runs.jsonl' is no record"):
        store.records()
    with pytest.raises(InputDataError, match="remove it"):
        store.append([record(5)])
    assert json.dumps(record(1)) in store.path.read_text()


def test_nothing_is_written_of_what_json_cannot_hold(store: RunStore) -> None:
    store.append([record(0)])
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            store.append([record(1), record(2, full_100=value)])
    assert store.records() == [record(0)]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder '.*nowhere' of the store does not exist"):
        RunStore(tmp_path / "nowhere" / "runs.jsonl")


def append_many(path: Path, start: int) -> None:
    store = RunStore(path)
    for seed in range(start, start + 40):
        store.append([record(seed)])


def test_two_processes_share_a_store(store: RunStore) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_many, args=(store.path, s)) for s in (0, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(r["seed"] for r in store.records()) == [*range(60)]


def test_config_hash() -> None:
    settings = {"q": 5, "fit": {"lr": 0.1, "sizes": (1, 2)}}
    assert config_hash(settings) == config_hash({"fit": {"sizes": [1, 2], "lr": 0.1}, "q": 5})
    assert len(config_hash(settings)) == 12
    assert config_hash(settings) != config_hash({**settings, "q": 6})
    assert config_hash(settings) != config_hash({"q": 5, "fit": {"lr": 0.2, "sizes": (1, 2)}})


def test_key() -> None:
    assert key_of(record(3)) == ("toy", "start", "c0", 3, "1")


RECORDS = st.lists(
    st.builds(record, st.integers(0, 4), full_100=st.floats(-1e300, 1e300), note=st.text()),
    max_size=6,
)


@settings(max_examples=15)
@given(first=RECORDS, second=RECORDS, cut=st.floats(0.0, 1.0))
def test_any_records(
    tmp_path_factory: pytest.TempPathFactory, first: list[Any], second: list[Any], cut: float
) -> None:
    """The first of each key, in their order; wherever a write was cut, the rest can be stored."""
    store = RunStore(tmp_path_factory.mktemp("any") / "runs.jsonl")
    store.append(first)
    before = store.path.stat().st_size if store.path.exists() else 0
    store.append(second)
    expected = list({key_of(r): r for r in reversed([*first, *second])}.values())
    expected = sorted(expected, key=[*first, *second].index)
    assert store.records() == expected
    if store.path.exists():
        content = store.path.read_bytes()
        store.path.write_bytes(content[: before + round(cut * (len(content) - before))])
        known = {key_of(r) for r in first}
        assert [r for r in store.records() if key_of(r) in known] == expected[: len(known)]
        store.append(second)
        assert store.path.read_bytes() == content

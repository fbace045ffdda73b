"""Saved here, loaded in a new process that imports ``botorch_roma.ax`` and nothing else of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.exceptions.storage import JSONDecodeError

from botorch_roma.ax import (
    attach_offline_data,
    infer_parameters,
    offline_experiment,
    roma_generation_strategy,
)

LOAD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import botorch_roma.ax
from ax.api.client import Client
kind, place = sys.argv[1:3]
if kind == "json":
    client = Client.load_from_json_file(place)
else:
    from ax.api.configs import StorageConfig
    client = Client.load_from_database("stored", StorageConfig(url=f"sqlite:///{place}"))
node = client._generation_strategy.current_node_name
trials = client.get_next_trials(max_trials=2)
print("RESULT", json.dumps([node, list(trials.values())]))
"""


def generate_in_a_new_process(kind: str, place: Path) -> list[Any]:
    run = subprocess.run(
        [sys.executable, "-c", LOAD, kind, str(place)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    (line,) = [s for s in run.stdout.splitlines() if s.startswith("RESULT ")]
    return json.loads(line.removeprefix("RESULT "))


def assert_same(loaded: list[Any], trials: Mapping[int, Any]) -> None:
    """To the last digit: training would amplify a difference."""
    expected = pd.DataFrame(list(trials.values()))
    found = pd.DataFrame(loaded)[expected.columns]
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def small(table: pd.DataFrame) -> pd.DataFrame:
    return table[["x", "k", "kind", "y"]].head(40)


def make_client(table: pd.DataFrame, variant: Any, quick: dict[str, Any]) -> Client:
    client = Client()
    client.set_experiment(offline_experiment(small(table), objective="y", name="stored"))
    options = {"model_options": {"num_members": 2, "hidden_sizes": (16, 16)}, "seed": 3}
    strategy = roma_generation_strategy(variant, min_results=2, max_gp_rows=20, **options, **quick)
    client.set_generation_strategy(strategy)
    return client


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["roma", "roma_then_gp", "roma_and_gp"])
def test_json(variant: str, table: pd.DataFrame, quick: dict[str, Any], tmp_path: Path) -> None:
    """What comes next is the same with and without a reload."""
    client = make_client(table, variant, quick)
    first = client.get_next_trials(max_trials=2)
    path = tmp_path / "client.json"
    client.save_to_json_file(str(path))
    node, loaded = generate_in_a_new_process("json", path)
    assert node == ("GP" if variant == "roma_and_gp" else "RoMA")
    assert not [p for p in loaded if p in first.values()]
    if variant != "roma_and_gp":  # Ax's GP method is not seeded
        assert_same(loaded, client.get_next_trials(max_trials=2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:A not p.d.")
def test_json_after_the_transition(
    table: pd.DataFrame, quick: dict[str, Any], tmp_path: Path
) -> None:
    client = make_client(table, "roma_then_gp", quick)
    for index in client.get_next_trials(max_trials=2):
        client.complete_trial(index, {"y": 1.0 + 0.1 * index})
    client.get_next_trials(max_trials=1)
    path = tmp_path / "client.json"
    client.save_to_json_file(str(path))
    node, loaded = generate_in_a_new_process("json", path)
    assert node == "GP"
    assert len(loaded) == 2


@pytest.mark.slow
@pytest.mark.parametrize("attached", [False, True])
def test_sqlite(attached: bool, table: pd.DataFrame, quick: dict[str, Any], tmp_path: Path) -> None:
    """The table is in the database, however it came into the client."""
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("tabulate")
    from ax.api.configs import StorageConfig
    from ax.storage.sqa_store.db import (
        create_all_tables,
        get_engine,
        init_engine_and_session_factory,
    )

    place = tmp_path / "ax.db"
    init_engine_and_session_factory(url=f"sqlite:///{place}", force_init=True)
    create_all_tables(get_engine())
    client = Client(storage_config=StorageConfig(url=f"sqlite:///{place}"))
    made = make_client(table, "roma", quick)
    if attached:
        client.configure_experiment(list(infer_parameters(small(table), ["y"])), name="stored")
        client.configure_optimization(objective="y")
        attach_offline_data(client, small(table))
    else:
        client.set_experiment(made._experiment)
    client.set_generation_strategy(made._generation_strategy)
    client.get_next_trials(max_trials=2)
    node, loaded = generate_in_a_new_process("sqlite", place)
    assert node == "RoMA"
    assert_same(loaded, client.get_next_trials(max_trials=2))


def test_json_builds_registered_classes_only(
    table: pd.DataFrame, quick: dict[str, Any], tmp_path: Path
) -> None:
    """Files that are damaged, or name anything else, are refused, and nothing is executed."""
    path = tmp_path / "client.json"
    make_client(table, "roma", quick).save_to_json_file(str(path))
    whole = path.read_text()
    assert '"OfflineNode"' in whole
    path.write_text(whole.replace('"OfflineNode"', '"os.system"'))
    with pytest.raises(JSONDecodeError, match=r"has a type os\.system that is not registered"):
        Client.load_from_json_file(str(path))
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="line 1 column"):
        Client.load_from_json_file(str(path))

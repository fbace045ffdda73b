from __future__ import annotations

import copy
import importlib.util
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from botorch_roma.tasks import OfflineTask, design_bench
from botorch_roma.tasks.design_bench import Edition, load_superconductor, load_tfbind8
from botorch_roma.tasks.design_bench_adapter import (
    ORIGINALS,
    DesignBenchOracle,
    Original,
    _table_notes,
    _vocabulary,
    from_design_bench,
)
from botorch_roma.tasks.design_bench_compat import enable

needs_design_bench = pytest.mark.skipif(
    importlib.util.find_spec("design_bench") is None,
    reason="needs the package Design-Bench: bash .ci/design-bench",
)

MAPPINGS = [
    (),
    ("map_normalize_y",),
    ("map_to_logits",),
    ("map_to_logits", "map_normalize_x", "map_normalize_y"),
]


@pytest.fixture(scope="module")
def make(design_bench_tables: Path) -> Callable[..., Any]:
    """Make a task of Design-Bench from the small tables."""

    def make_task(name: str, **options: Any) -> Any:
        np.random.seed(0)
        return enable(design_bench_tables).make(f"{name}-v0", **options)

    return make_task


def state_of(task: Any) -> dict[str, Any]:
    names = ("is_normalized_x", "is_normalized_y", "is_logits", "input_shape", "x_mean", "y_mean")
    return {name: copy.deepcopy(vars(task.dataset).get(name)) for name in names}


def sorted_rows(task: OfflineTask) -> torch.Tensor:
    """Visible rows, the value last, in an order that does not depend on that of the table."""
    rows = torch.cat([task.X, task.Y], dim=1)
    return rows[torch.from_numpy(np.lexsort(rows.T.numpy()).copy())]


@needs_design_bench
class TestStateOfTheTask:
    @pytest.mark.parametrize("mappings", MAPPINGS)
    def test_discrete(self, make: Callable[..., Any], mappings: tuple[str, ...]) -> None:
        source = make("ToyDiscrete-Exact")
        tokens, y = source.x, source.y
        for mapping in mappings:
            getattr(source, mapping)()
        before, x_before, y_before = state_of(source), source.x, source.y
        task = from_design_bench(source)
        assert torch.equal(task.X, torch.from_numpy(tokens).double())
        assert torch.equal(task.Y, torch.from_numpy(y).double())
        assert torch.equal(task.evaluate(task.X), task.Y)
        np.testing.assert_equal(state_of(source), before)
        np.testing.assert_array_equal(source.x, x_before)
        np.testing.assert_array_equal(source.y, y_before)

    def test_mapping_it_later_does_not_reach_the_oracle(self, make: Callable[..., Any]) -> None:
        source = make("ToyDiscrete-Exact")
        task = from_design_bench(source)
        for mapping in MAPPINGS[-1]:
            getattr(source, mapping)()
        assert torch.equal(task.evaluate(task.X), task.Y)

    def test_continuous_to_the_bit(self, make: Callable[..., Any]) -> None:
        source = make("Superconductor-RandomForest")
        x, y, predicted = source.x, source.y, source.predict(source.x)
        source.map_normalize_x()
        source.map_normalize_y()
        before = state_of(source)
        task = from_design_bench(source)
        assert torch.equal(task.X, torch.from_numpy(x).double())
        assert torch.equal(task.Y, torch.from_numpy(y).double())
        assert torch.equal(task.evaluate(task.X), torch.from_numpy(predicted).double())
        np.testing.assert_equal(state_of(source), before)

    def test_forest_on_sequences(self, make: Callable[..., Any]) -> None:
        source = make("GFP-RandomForest", dataset_kwargs={"max_percentile": 80})
        predicted = source.predict(source.x)
        source.map_to_logits()
        task = from_design_bench(source)
        assert torch.equal(task.evaluate(task.X), torch.from_numpy(predicted).double())


@needs_design_bench
class TestTask:
    def test_discrete(self, make: Callable[..., Any]) -> None:
        task = from_design_bench(make("ToyDiscrete-Exact"), dtype=torch.float32)
        assert (task.name, task.dim) == ("toy_discrete-toy_prediction", 3)
        assert task.X.dtype == task.Y.dtype == torch.float32
        assert task.vocabulary is not None
        assert task.vocabulary.symbols == ("0", "1", "2", "3")
        assert task.ranges["full"][1] > task.ranges["visible"][1]
        assert (task.num_oracle_calls, task.substitute) == (0, None)
        X = task.random_designs(20, seed=0)
        assert torch.equal(task.evaluate(X), -X.square().sum(dim=1, keepdim=True))
        assert (task.num_oracle_calls, task.num_oracle_queries) == (1, 20)

    def test_continuous(self, make: Callable[..., Any]) -> None:
        task = from_design_bench(make("ToyContinuous-Exact"), name="toy")
        assert (task.name, task.vocabulary, task.substitute) == ("toy", None, None)
        assert torch.equal(task.bounds, torch.stack([task.X.amin(dim=0), task.X.amax(dim=0)]))
        X = task.random_designs(20, seed=0)
        expected = -(X - 0.5).square().sum(dim=1, keepdim=True)
        torch.testing.assert_close(task.evaluate(X), expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(task.evaluate(task.X), task.Y, rtol=1e-6, atol=1e-6)

    def test_symbols(self, make: Callable[..., Any]) -> None:
        assert from_design_bench(make("ToyDiscrete-Exact"), symbols="wxyz").vocabulary is not None
        with pytest.raises(
            ValueError, match=r"`symbols` must name the 4 tokens of toy_.* 2: \['a'"
        ):
            from_design_bench(make("ToyDiscrete-Exact"), symbols="ab")
        gfp = from_design_bench(make("GFP-RandomForest")).vocabulary
        assert gfp is not None
        assert "".join(gfp.symbols) == "arndcqeghilkmfpstwyv"

    def test_substitutes_are_named(self, make: Callable[..., Any]) -> None:
        task = from_design_bench(make("Superconductor-RandomForest"))
        assert task.ranges["full"] == (0.00021, 185.0)
        assert task.substitute is not None
        for part in ("has 400 rows", "21,263 rows", "random_forest, rank correlation 0."):
            assert part in task.substitute
        assert "SUBSTITUTE" in repr(task)
        assert "CC BY 4.0" in task.provenance

    def test_hopper_is_another_simulator(self, make: Callable[..., Any]) -> None:
        task = from_design_bench(make("HopperController-Exact"))
        assert task.dim == 5_126
        assert "Hopper-v4" in str(task.substitute)


@needs_design_bench
class TestOracle:
    def test_noise_is_that_of_the_seed(self, make: Callable[..., Any]) -> None:
        source = make("ToyContinuous-Exact", oracle_kwargs={"noise_std": 1.0})
        task = from_design_bench(source)
        np.random.seed(5)
        state = np.random.get_state()[1].tolist()
        first = task.evaluate(task.X)
        assert not torch.equal(first, task.Y)
        assert torch.equal(task.evaluate(task.X), first)
        assert np.random.get_state()[1].tolist() == state
        assert not torch.equal(from_design_bench(source, seed=1).evaluate(task.X), first)

    def test_pickled_into_a_new_process(self, make: Callable[..., Any], tmp_path: Path) -> None:
        task = from_design_bench(make("Superconductor-RandomForest"))
        again = pickle.loads(pickle.dumps(task))
        assert torch.equal(again.evaluate(task.X), task.evaluate(task.X))
        (tmp_path / "task").write_bytes(pickle.dumps(task))
        code = (
            "import pickle, sys; task = pickle.load(open(sys.argv[1], 'rb'));"
            "print(task.evaluate(task.X[:2]).flatten().tolist())"
        )
        command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "task")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == str(task.evaluate(task.X[:2]).flatten().tolist())


@needs_design_bench
@pytest.mark.parametrize("real", [False, True])
class TestAgainstOurLoaders:
    @pytest.fixture
    def folder(self, request: pytest.FixtureRequest, design_bench_tables: Path, real: bool) -> Path:
        return request.getfixturevalue("data_dir") if real else design_bench_tables

    def edition(self, monkeypatch: pytest.MonkeyPatch, name: str, task: OfflineTask) -> None:
        """Let our loader know the small table too."""
        rows = {"TFBIND8": 65_536, "SUPERCONDUCTOR": 400}[name]
        known = Edition(task.num_rows, round(task.Y.max().item(), 5))
        monkeypatch.setattr(design_bench, f"{name}_EDITIONS", {rows: known})

    def test_tfbind8(self, folder: Path, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        theirs = from_design_bench(enable(folder).make("TFBind8-Exact-v0"))
        if not real:
            self.edition(monkeypatch, "TFBIND8", theirs)
        ours = load_tfbind8(folder, verify_checksums=real)
        assert torch.equal(sorted_rows(theirs), sorted_rows(ours))
        assert theirs.vocabulary == ours.vocabulary
        assert torch.equal(theirs.bounds, ours.bounds)
        assert theirs.ranges == ours.ranges
        assert theirs.provenance == ours.provenance
        assert (theirs.substitute is None) is real
        X = ours.random_designs(1_000, seed=0)
        assert torch.equal(theirs.evaluate(X), ours.evaluate(X))

    def test_superconductor(
        self, folder: Path, real: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        np.random.seed(0)
        source = enable(folder).make("Superconductor-RandomForest-v0")
        theirs = from_design_bench(source)
        if not real:
            self.edition(monkeypatch, "SUPERCONDUCTOR", theirs)
        ours = load_superconductor(folder, verify_checksums=real)
        assert torch.equal(theirs.X, ours.X)
        assert torch.equal(theirs.Y, ours.Y)
        assert torch.equal(theirs.bounds, ours.bounds)
        assert theirs.ranges["full"] == ours.ranges["full"]
        # Two forests of the same settings, theirs on half of the 2,000 rows that it draws.
        root = source.oracle.params["model"].estimators_[0].tree_
        assert root.weighted_n_node_samples[0] == (1_000 if real else 200)
        if real:
            X = ours.X[::20]
            values = [task.evaluate(X).flatten() for task in (theirs, ours)]
            assert 0.85 < spearmanr(*values).statistic < 1.0


class TestWithoutThePackage:
    @pytest.mark.parametrize("task", ["TFBind8-Exact-v0", None, SimpleNamespace(dataset=1)])
    def test_no_task(self, task: Any) -> None:
        with pytest.raises(ValueError, match=rf"`task` must be .* {type(task).__name__}; make one"):
            from_design_bench(task)

    def test_numbers_as_symbols_can_be_told_apart(self) -> None:
        vocabulary = _vocabulary(SimpleNamespace(name="nas_bench/nas_bench", num_classes=12), None)
        tokens = torch.tensor([[1, 11, 0, 10]])
        assert torch.equal(vocabulary.tokenize(vocabulary.to_strings(tokens)), tokens)

    @pytest.mark.parametrize(
        ("y", "note"),
        [
            ([0.0, 1.0, 0.5], None),
            ([0.0, 1.0], "has 2 rows, values from 0 to 1; the published one has 3 rows, values "),
            ([0.0, 0.9, 0.5], "has 3 rows, values from 0 to 0.9; .* from 0 to 1"),
        ],
    )
    def test_table_notes(self, y: list[float], note: str | None) -> None:
        notes = _table_notes(Original(0.0, 1.0, 3), np.array(y))
        assert (notes == []) is (note is None)
        if note is not None:
            assert re.search(note, notes[0])

    def test_only_the_range_of_a_table_may_be_known(self) -> None:
        assert _table_notes(ORIGINALS["ant_morphology/ant_morphology"], np.array([0.0, 1.0]))
        assert _table_notes(None, np.array([0.0, 1.0])) == []

    def test_oracle_is_asked_on_a_raw_copy(self) -> None:
        dataset = SimpleNamespace(
            is_normalized_x=True,
            is_normalized_y=True,
            internal_batch_size=32,
            iterate_samples=lambda return_y: iter(np.zeros((1, 2), dtype=np.float32)),
        )
        asked: list[Any] = []

        def predict(x: np.ndarray, dataset: Any) -> np.ndarray:
            asked.append((x.dtype, x.shape, dataset.is_normalized_x, dataset.is_normalized_y))
            return x[:, :1]

        oracle = DesignBenchOracle(SimpleNamespace(dataset=dataset, predict=predict))
        values = oracle(torch.ones(3, 2, dtype=torch.float64))
        assert asked == [(np.float32, (3, 2), False, False)]
        assert (values.dtype, values.tolist()) == (torch.float64, [1.0, 1.0, 1.0])
        assert dataset.is_normalized_x


class Dataset:
    """A dataset as Design-Bench's: in shards, mapped or not, and some rows of it visible."""

    name, x_name, y_name = "toy/toy", "designs", "values"

    def __init__(self, x: np.ndarray, y: np.ndarray, visible: int, mapped: bool) -> None:
        self._x, self._y, self._visible = x, y, visible
        self.is_normalized_x = self.is_normalized_y = mapped
        self.num_classes = 5
        if x.dtype == np.int32:
            self.is_logits = mapped

    @property
    def x(self) -> np.ndarray:
        logits = getattr(self, "is_logits", False)
        return self._x[: self._visible] - 7 * (self.is_normalized_x or logits)

    @property
    def y(self) -> np.ndarray:
        return self._y[: self._visible] - 7 * self.is_normalized_y

    def get_num_shards(self) -> int:
        return 2

    def get_shard_y(self, i: int) -> np.ndarray:
        return np.array_split(self._y, 2)[i] - 7 * self.is_normalized_y

    def iterate_samples(self, return_y: bool) -> Any:
        return iter(self.x)


class Source:
    """A task of Design-Bench: a noisy sum of what it takes for a design."""

    oracle_name = "Sum"

    def __init__(self, dataset: Dataset, noise: float) -> None:
        self.dataset, self.oracle, self.noise = dataset, SimpleNamespace(), noise
        self.is_discrete = dataset.x.dtype == np.int32

    def predict(self, x: np.ndarray, dataset: Dataset) -> np.ndarray:
        assert not dataset.is_normalized_x
        assert not getattr(dataset, "is_logits", False)
        values = x.reshape(len(x), -1).sum(axis=1, keepdims=True, dtype=np.float64)
        return values + self.noise * np.random.normal(size=values.shape)


@settings(max_examples=15)
@given(
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    n=st.integers(2, 12),
    discrete=st.booleans(),
    mapped=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    noise=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 2**31),
)
def test_any_task(
    shape: list[int],
    n: int,
    discrete: bool,
    mapped: bool,
    dtype: torch.dtype,
    noise: float,
    seed: int,
) -> None:
    """As it is in its files, whatever it is mapped to; the same noise every time."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 5, (n + 3, *shape)).astype(np.int32)
    designs = x if discrete else x.astype(np.float32) / 8
    source = Source(
        Dataset(designs, rng.permutation(np.arange(n + 3.0))[:, None], n, mapped), noise
    )
    random, flags = np.random.get_state()[1].tolist(), vars(source.dataset).copy()
    task = from_design_bench(source, dtype=dtype, seed=seed)
    assert torch.equal(task.X, torch.from_numpy(designs[:n].reshape(n, -1)).to(dtype))
    assert task.Y.shape == (n, 1)
    assert task.X.dtype == task.Y.dtype == task.bounds.dtype == dtype
    assert bool(((task.bounds[0] <= task.X) & (task.bounds[1] >= task.X)).all())
    assert (task.vocabulary is not None) == discrete
    assert task.ranges["full"] == (0.0, n + 2.0)  # of all rows, also those that are hidden
    assert task.num_oracle_calls == 0
    values = task.evaluate(task.X)
    assert torch.equal(task.evaluate(task.X), values)
    torch.testing.assert_close(
        values.flatten(), task.X.sum(dim=1), rtol=1e-5, atol=1e-5 + 6 * noise
    )
    assert np.random.get_state()[1].tolist() == random
    assert vars(source.dataset) == flags

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from botorch_roma.latent.vocabulary import Vocabulary
from botorch_roma.tasks import OfflineTask, trained_oracle
from botorch_roma.tasks.arrays import CACHE_VARIABLE
from botorch_roma.tasks.oracle_cache import read_oracle
from botorch_roma.tasks.oracle_networks import OracleSettings
from botorch_roma.tasks.trained_oracle import (
    OracleReport,
    OracleWarning,
    TrainedOracle,
    train_oracle,
)

MakeOracle = Callable[..., TrainedOracle]
Table = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def X(tiny_table: Table) -> torch.Tensor:
    return torch.from_numpy(tiny_table[0]).double()


def make_task(oracle: Any, X: torch.Tensor) -> OfflineTask:
    Y = torch.arange(len(X), dtype=X.dtype).unsqueeze(-1)
    return OfflineTask(name="tiny", X=X, Y=Y, vocabulary=Vocabulary("acgt"), oracle=oracle)


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(trained_oracle, "fit_ensemble", fit)


class TestTraining:
    def test_nothing_is_trained_before_the_first_call(
        self, make_oracle: MakeOracle, X: torch.Tensor, tmp_path: Path
    ) -> None:
        oracle = make_oracle()
        task = make_task(oracle, X)
        task.start_designs(10)
        assert oracle.report is None
        assert oracle.rank_correlation is None
        assert list(tmp_path.iterdir()) == []
        Y = task.evaluate(X)  # inside `no_grad`
        assert oracle.path.is_file()
        assert oracle.path.parent == tmp_path / "oracles"
        assert isinstance(oracle.report, OracleReport)
        assert (Y.shape, Y.dtype) == ((400, 1), torch.float64)
        assert oracle(X.float()).dtype == torch.float32

    def test_report_is_that_of_rows_not_trained_on(
        self, make_oracle: MakeOracle, tiny_table: Table, X: torch.Tensor
    ) -> None:
        _, y = tiny_table
        oracle = make_oracle()
        report = oracle.prepare()
        rows = oracle.held_out_rows()
        assert len(np.unique(rows)) == report.num_held_out == 50
        assert report.num_training == 350
        predicted = oracle(X[rows]).numpy()
        assert report.rank_correlation == pytest.approx(spearmanr(predicted, y[rows]).statistic)
        residual = np.square(predicted - y[rows]).mean() / y[rows].var()
        assert report.r_squared == pytest.approx(1.0 - residual)
        assert oracle.rank_correlation == report.rank_correlation > 0.9
        assert report.cpu_seconds > 0.0
        # Other values on the held-out rows change the figures, not the weights.
        other = y.copy()
        other[rows] = y[rows][::-1]
        changed = make_oracle(y=other).prepare()
        assert changed.fingerprint == report.fingerprint
        assert changed.rank_correlation < report.rank_correlation

    def test_split_depends_on_the_seed_alone(
        self, make_oracle: MakeOracle, tiny_settings: OracleSettings
    ) -> None:
        rows = make_oracle().held_out_rows()
        np.testing.assert_array_equal(make_oracle().held_out_rows(), rows)
        other = make_oracle(settings=replace(tiny_settings, seed=1)).held_out_rows()
        assert not np.array_equal(other, rows)

    def test_values_stay_within_the_table(
        self, make_oracle: MakeOracle, tiny_table: Table, X: torch.Tensor
    ) -> None:
        values = make_oracle()(torch.ones(1, 6))
        assert 0.0 <= values.item() <= 6.0

    @pytest.mark.parametrize("rows", [slice(0, 81), slice(0, 0)])
    def test_too_few_rows(self, rows: slice, make_oracle: MakeOracle, tiny_table: Table) -> None:
        tokens, y = tiny_table
        message = "`y` of task 'tiny' must hold different values, in at least a batch of 32 rows"
        with pytest.raises(ValueError, match=message):
            make_oracle(tokens=tokens[rows], y=y[rows])

    def test_constant_values(self, make_oracle: MakeOracle, tiny_table: Table) -> None:
        with pytest.raises(ValueError, match="must hold different values"):
            make_oracle(y=np.ones_like(tiny_table[1]))


class TestCache:
    def test_trained_once(
        self, make_oracle: MakeOracle, X: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = make_oracle()
        values = first(X)
        forbid_training(monkeypatch)
        assert torch.equal(first(X), values)
        second = make_oracle()
        assert torch.equal(second(X), values)
        assert second.report == first.report
        with torch.inference_mode():
            assert torch.equal(make_oracle()(X), values)

    def test_variable(
        self, make_oracle: MakeOracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "named"))
        assert make_oracle(cache_dir=None).path.parent == tmp_path / "named" / "oracles"
        assert make_oracle().path.parent == tmp_path / "oracles"

    def test_file_is_named_after_table_and_settings(
        self, make_oracle: MakeOracle, tiny_table: Table, tiny_settings: OracleSettings
    ) -> None:
        tokens, y = tiny_table
        path = make_oracle().path
        assert make_oracle().path == path
        assert make_oracle(tokens=tokens.astype(np.int32), y=y.astype(np.float64)).path == path
        other_tokens, other_y = tokens.copy(), y.copy()
        other_tokens[-1, -1] = (tokens[-1, -1] + 1) % 4
        other_y[-1] += 1e-3
        others = [
            make_oracle(tokens=other_tokens),
            make_oracle(y=other_y),
            make_oracle(num_classes=5),
            make_oracle(settings=replace(tiny_settings, learning_rate=0.031)),
        ]
        assert len({path, *(oracle.path for oracle in others)}) == 5

    @pytest.mark.parametrize("damage", ["truncated", "text", "another table"])
    def test_unusable_file_is_replaced_with_a_warning(
        self, damage: str, make_oracle: MakeOracle, X: torch.Tensor, tiny_table: Table
    ) -> None:
        oracle = make_oracle()
        values = oracle(X)
        path, content = oracle.path, oracle.path.read_bytes()
        if damage == "truncated":
            path.write_bytes(content[:-100])
        elif damage == "text":
            path.write_text("no oracle")
        else:
            other = make_oracle(y=tiny_table[1][::-1].copy())
            other.prepare()
            other.path.replace(path)
        with pytest.warns(
            OracleWarning, match=r"tiny-\w+\.oracle' .* trained anew: its? .*cache_dir"
        ):
            assert torch.equal(make_oracle()(X), values)
        read_oracle(path, oracle.key)
        assert torch.equal(make_oracle()(X), values)

    def test_weights_of_other_networks(
        self, make_oracle: MakeOracle, X: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        oracle = make_oracle()
        oracle.prepare()
        trained_oracle.write_oracle(oracle.path, oracle.key, {"a": torch.zeros(1)}, {})
        with pytest.warns(OracleWarning, match="trained anew"):
            make_oracle()(X)

    def test_cache_that_cannot_be_written(
        self, make_oracle: MakeOracle, X: torch.Tensor, tmp_path: Path
    ) -> None:
        (tmp_path / "oracles").write_text("a file where the folder should be")
        oracle = make_oracle()
        with pytest.warns(OracleWarning, match=r"cannot be written .*BOTORCH_ROMA_CACHE"):
            values = oracle(X)
        assert torch.equal(oracle(X), values)  # and no second warning

    def test_retrain(self, make_oracle: MakeOracle, X: torch.Tensor) -> None:
        oracle = make_oracle()
        first = oracle.prepare()
        oracle.path.unlink()
        assert oracle.prepare() is first
        assert not oracle.path.exists()
        assert oracle.prepare(retrain=True).fingerprint == first.fingerprint
        assert oracle.path.is_file()

    def test_the_file_that_is_there_first_is_used(
        self, make_oracle: MakeOracle, X: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        winner, loser = make_oracle(), make_oracle()
        original = trained_oracle.fit_ensemble

        def fit_slowly(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(trained_oracle, "fit_ensemble", original)
            winner.prepare()
            ensemble = original(*args, **kwargs)
            ensemble.center += 1.0
            return ensemble

        monkeypatch.setattr(trained_oracle, "fit_ensemble", fit_slowly)
        values = loser(X)
        assert trained_oracle.fit_ensemble is original
        assert loser.report == winner.report
        assert torch.equal(winner(X), values)

    def test_pickle(self, make_oracle: MakeOracle, X: torch.Tensor) -> None:
        fresh = pickle.loads(pickle.dumps(make_oracle()))
        assert fresh.report is None
        values = fresh(X)
        assert torch.equal(pickle.loads(pickle.dumps(fresh))(X), values)

    @pytest.mark.slow
    def test_two_processes(self, make_oracle: MakeOracle, X: torch.Tensor, tmp_path: Path) -> None:
        oracle = make_oracle()
        (tmp_path / "oracle.pickle").write_bytes(pickle.dumps(oracle))
        code = (
            "import pathlib, pickle, sys, torch; torch.set_num_threads(1); "
            f"p = pathlib.Path({str(tmp_path / 'oracle.pickle')!r}); "
            "print(pickle.loads(p.read_bytes()).prepare().fingerprint)"
        )
        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        found = {process.communicate()[0] for process in processes}
        assert [process.returncode for process in processes] == [0, 0]
        assert found == {oracle.prepare().fingerprint + "\n"}
        assert [p.name for p in oracle.path.parent.iterdir()] == [oracle.path.name]


class TestTrainOracle:
    def test_trains_beforehand_and_asks_nothing(
        self, make_oracle: MakeOracle, X: torch.Tensor, capsys: pytest.CaptureFixture[str]
    ) -> None:
        oracle = make_oracle()
        task = make_task(oracle, X)
        report = train_oracle(task)
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err != ""  # the bar, of which a file shows but a line
        assert (task.num_oracle_calls, task.num_oracle_queries) == (0, 0)
        assert f"rank correlation {report.rank_correlation:.3f}" in str(report)
        assert "on 50 held-out rows, trained on 350 rows" in str(report)
        assert report.fingerprint[:12] in str(report)
        assert train_oracle(task, progress=False) is report
        assert capsys.readouterr() == ("", "")

    def test_retrain(self, make_oracle: MakeOracle, X: torch.Tensor) -> None:
        task = make_task(make_oracle(), X)
        first = train_oracle(task, progress=False)
        assert train_oracle(task, progress=False, retrain=True) is not first

    def test_another_oracle(self, X: torch.Tensor) -> None:
        def count(X: torch.Tensor) -> torch.Tensor:
            return X.sum(dim=-1)

        with pytest.raises(ValueError, match="that of task 'tiny' is count: there is nothing"):
            train_oracle(make_task(count, X))
        with pytest.raises(ValueError, match="nothing to train"):
            train_oracle(make_task(count, X).without_oracle())

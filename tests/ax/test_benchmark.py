from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("ax")

from ax.benchmark.benchmark import benchmark_replication
from ax.benchmark.problems.registry import get_benchmark_problem

from botorch_roma.ax.benchmark import offline_benchmark_method


def batches(method: Any, quick: dict[str, Any], seed: int = 0) -> Any:
    options = quick if method == "roma" else {}
    problem = get_benchmark_problem("hartmann3", num_trials=3)
    chosen = offline_benchmark_method(
        method, num_offline_trials=2, batch_size=12, seed=seed, **options
    )
    result = benchmark_replication(problem, chosen, seed=seed)
    return [[a.signature for a in t.arms] for t in result.experiment.trials.values()], result


def test_same_start_for_all_methods(quick: dict[str, Any]) -> None:
    roma, result = batches("roma", quick)
    sobol, _ = batches("sobol", quick)
    assert [len(b) for b in roma] == [12, 12, 12]
    assert roma[:2] == sobol[:2]
    assert roma[2] != sobol[2]
    assert len(result.optimization_trace) == 3
    names = [t.generator_runs[0]._generation_node_name for t in result.experiment.trials.values()]
    assert names == ["offline", "offline", "RoMA"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cma"}, "`method` .* 'cma'"),
        ({"num_offline_trials": 0}, "`num_offline_trials` .* 0"),
        ({"batch_size": 0}, "`batch_size` .* 0"),
        ({"seed": -1, "method": "gp"}, "`seed` .* -1"),
        (
            {"variant": "roma_then_gp", "min_results": 3, "preset": "paper"},
            r"`options` has \['min_results', 'variant'\], which do not apply",
        ),
        ({"name": "mine"}, r"`options` has \['name'\]"),
        ({"max_gp_rows": 9, "method": "sobol"}, r"`options` has \['max_gp_rows'\]"),
        ({"method": "gp", "preset": "paper"}, r"`options` apply to 'roma' only, .*\['preset'\]"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        offline_benchmark_method(**{"num_offline_trials": 2, **options})

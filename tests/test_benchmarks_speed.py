"""The speed benchmark runs, and what it compares and counts is right."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from botorch_roma import RoMAModel, fit_roma_model


@pytest.fixture
def parts(benchmarks: Path) -> Any:
    import speed_parts

    return speed_parts


@pytest.fixture
def place(parts: Any) -> Any:
    from speed_parts.timing import Place

    return Place(torch.device("cpu"), 1, torch.double)


@pytest.mark.slow
def test_smoke(parts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import speed

    output = tmp_path / "speed.md"
    arguments = ["--smoke", "--calibrate", "--device", "cpu", "--threads", "1"]
    speed.main([*arguments, "--output", str(output)])
    text = output.read_text()
    titles = [line[3:].split(" (")[0] for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "Machine",
        "Targets",
        "Inner step",
        "Scaling exponents",
        "Whole run",
        "Choice of the form",
    ]
    assert "| work " in text
    assert capsys.readouterr().out.strip() == text.strip()
    with output.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 2  # steps, factors, values
    assert all(float(row["ms_auto"]) > 0 for row in rows)


@pytest.mark.parametrize("arguments", [["--only", "grids"], ["--device", "abacus"]])
def test_refuses_unknown_choices(parts: Any, arguments: list[str]) -> None:
    import speed

    with pytest.raises(SystemExit):
        speed.main(arguments)


def test_autograd_stage_one_is_the_same_training(parts: Any) -> None:
    from speed_parts.stage_one import autograd_training

    torch.manual_seed(0)
    X = torch.rand(40, 3, dtype=torch.double)
    model = RoMAModel(X, (X.sum(dim=-1, keepdim=True) * 3).sin(), hidden_sizes=(8, 8))
    settings = {"noise_std": 0.0, "radius": 0.01, "num_ascent_steps": 4, "batch_size": 40}
    Z, T = model.standardize_inputs(X), model.standardize_outcomes(model.train_Y)[:, 0]
    model.network.reset_parameters(model.network_seeds(0))
    expected = autograd_training(model.network.weights, model.network.activation, Z, T, **settings)
    fit_roma_model(model, seed=0, epochs=1, num_validation=0, **settings)
    for actual, wanted in zip(model.network.weights.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(actual.detach(), wanted)


def test_vmap_and_loop_take_the_same_steps(parts: Any, place: Any) -> None:
    from speed_parts.alternatives import Case, Work

    work = Work(Case(width=5, depth=2, B=3, d=4, steps=3), place)
    (stacked,) = (run() for run in work.vmap().runs.values())
    (one_by_one,) = (run() for run in work.loop().runs.values())
    (adapted,) = (run() for run in work.auto().runs.values())
    for i, wanted in enumerate(adapted.dense_weights().tensors()):
        torch.testing.assert_close(stacked[i], wanted)
        torch.testing.assert_close(torch.stack([[*w.tensors()][i] for w in one_by_one]), wanted)


def test_line_through_two_numbers_of_steps(parts: Any) -> None:
    from speed_parts.alternatives import Alternative

    two = Alternative({1: print, 5: print})
    assert two.per_step({1: 3.0, 5: 7.0}, 10) == pytest.approx((2.0 + 10 * 1.0) / 10)
    one = Alternative({5: print}, factor=16.0)
    assert one.per_step({5: 2.0}, 10) == pytest.approx(16.0 * 2.0 / 5)


def test_cost_of_a_step(parts: Any) -> None:
    from speed_parts.alternatives import Case, Layout
    from speed_parts.grid import cost_of_step

    case = Case(width=4, depth=1, B=2, d=3, steps=5)
    traffic, operations = cost_of_step([Layout("dense", 4, 3, False)], case, 4)
    assert traffic == 4 * (2 * 12 * 5 + 20 * 2 * 4)
    assert operations == 2 * 12 * (2 * 3 + 4)
    traffic, operations = cost_of_step([Layout("factored", 4, 3, False)], case, 4)
    assert traffic == 4 * (3 * 12 + 2 * 7 * (3 * 4 + 2) + 20 * 2 * 4)
    assert operations == 2 * 3 * 2 * (12 + 4 * 7)


def test_constants_are_recovered(parts: Any) -> None:
    from speed_parts.calibrate import CalibrationSizes, Point, fit_constants, judge, terms
    from speed_parts.timing import Place

    place = Place(torch.device("cpu"), 1, torch.float)
    truth = {"dense": 0.3, "factor": 0.1, "common": 0.04, "calls": 5e4, "step": 1e5, "vector": 2.0}

    def time(case: Any, form: str) -> float:
        return 1e-9 * sum(truth[name] * n for name, n in terms(case, form).items())

    cases = CalibrationSizes().cases(place)
    points = [Point(c, time(c, "dense"), time(c, "factored")) for c in cases]
    fitted = fit_constants(points)
    assert fitted == pytest.approx(truth, rel=1e-6)
    assert 0.5 < judge(points).right <= 1.0


def test_memory_of_a_fresh_process(parts: Any) -> None:
    from speed_parts.alternatives import Case
    from speed_parts.targets import memory_in_fresh_process
    from speed_parts.timing import Place

    place = Place(torch.device("cpu"), 1, torch.float)
    case = Case(width=512, depth=2, B=32, d=16, steps=2)
    dense = memory_in_fresh_process(case, place, "dense")
    if dense is None:
        pytest.skip("this system does not tell the peak memory")
    assert dense > 30.0  # 32 x 512 x 512 numbers are 32 MiB
    factored = memory_in_fresh_process(case, place, "factored")
    assert factored is not None
    assert factored < dense / 2

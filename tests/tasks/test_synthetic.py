from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from botorch.test_functions.multi_objective import BraninCurrin
from botorch.test_functions.synthetic import (
    AckleyMixed,
    Branin,
    ConstrainedGramacy,
    Hartmann,
    SyntheticTestFunction,
)

from botorch_roma.tasks import TASKS, OfflineTask, load_task, make_synthetic_task
from botorch_roma.tasks.synthetic import (
    SYNTHETIC_FUNCTIONS,
    RotatedQuadratic,
    ShiftedAckley,
    load_synthetic,
)


def small(function: SyntheticTestFunction | None = None, **options: Any) -> OfflineTask:
    return make_synthetic_task(function or Hartmann(), **{"num_rows": 200, **options})


class TestMakeSyntheticTask:
    def test_top_of_the_range_is_hidden(self) -> None:
        task = small(visible_fraction=0.5)
        assert task.num_rows == 100
        low, high = task.ranges["full"]
        assert task.Y.min().item() == low
        assert task.Y.max().item() < high
        assert task.normalize(task.Y, scale="visible").max() == 1.0
        assert 0.0 < task.normalize(task.Y, scale="full").max() < 1.0

    def test_all_rows_visible(self) -> None:
        task = small(visible_fraction=1.0)
        assert task.num_rows == 200
        assert task.ranges["full"] == task.ranges["visible"]

    def test_larger_is_better_and_the_oracle_is_exact(self) -> None:
        function = Hartmann()
        task = small(function)
        assert task.num_oracle_calls == 0
        torch.testing.assert_close(task.evaluate(task.X), task.Y)
        best = task.evaluate(function.optimizers)
        assert best.item() == pytest.approx(-function.optimal_value, abs=1e-4)

    def test_negated_function_is_not_turned_twice(self) -> None:
        task, negated = small(Hartmann()), small(Hartmann(negate=True))
        assert torch.equal(task.Y, negated.Y)

    def test_noise_is_on_the_table_only(self) -> None:
        task = small(noise_std=0.5, visible_fraction=1.0)
        error = task.Y - task.evaluate(task.X)
        assert error.std().item() == pytest.approx(0.5, rel=0.2)

    def test_seeded(self) -> None:
        before = torch.get_rng_state()
        first, again, other = small(seed=1), small(seed=1), small(seed=2)
        assert torch.equal(first.X, again.X)
        assert not torch.equal(first.X, other.X)
        assert torch.equal(before, torch.get_rng_state())

    def test_random_designs_do_not_repeat_the_table(self) -> None:
        task = small(visible_fraction=1.0, seed=5)
        distance = torch.cdist(task.random_designs(100, seed=5), task.X)
        assert distance.min() > 0.0

    def test_float32_with_bounds_that_round_upwards(self) -> None:
        task = small(Branin(bounds=[(-5.0, 9.6), (0.0, 14.7)]), dtype=torch.float32)
        assert {task.X.dtype, task.Y.dtype, task.bounds.dtype} == {torch.float32}
        assert task.evaluate(task.bounds).shape == (2, 1)

    def test_name(self) -> None:
        assert small().name == "hartmann6"
        assert small(name="mine").name == "mine"
        assert small().substitute is None

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (torch.sin, "is no SyntheticTestFunction"),
            (BraninCurrin(), "is no SyntheticTestFunction but BraninCurrin"),
            (ConstrainedGramacy(), "several objectives or constraints"),
            (AckleyMixed(dim=5), "discrete inputs"),
            (Hartmann(noise_std=0.1), "noise_std=0.1; give it to the task as `noise_std`"),
        ],
    )
    def test_unfit_function(self, function: Any, message: str) -> None:
        with pytest.raises(ValueError, match=f"`function` must be .*{message}"):
            make_synthetic_task(function)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_rows": 1}, "`num_rows` must be an integer of at least 2, received 1"),
            ({"num_rows": 10.0}, "`num_rows`"),
            ({"visible_fraction": 0.0}, r"`visible_fraction` must lie in \(0, 1\], received 0.0"),
            ({"visible_fraction": 1.1}, "received 1.1"),
            ({"noise_std": -1.0}, "`noise_std` must be finite and at least 0, received -1.0"),
            ({"noise_std": float("nan")}, "`noise_std`"),
            ({"dtype": torch.int64}, "`dtype` must be floating point, received torch.int64"),
        ],
    )
    def test_unfit_numbers(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            small(**options)


@pytest.mark.parametrize("function", [ShiftedAckley(), RotatedQuadratic(), RotatedQuadratic(3, 7)])
class TestOwnFunctions:
    def test_minimiser(self, function: SyntheticTestFunction) -> None:
        x = function.optimizers.clone().requires_grad_()
        value = function(x)
        assert value.item() == pytest.approx(function.optimal_value, abs=1e-12)
        if function._check_grad_at_opt:
            (gradient,) = torch.autograd.grad(value, x)
            torch.testing.assert_close(gradient, torch.zeros_like(gradient))

    def test_nothing_is_lower(self, function: SyntheticTestFunction) -> None:
        generator = torch.Generator().manual_seed(0)
        unit = torch.rand(2_000, function.dim, generator=generator, dtype=torch.float64)
        X = function.bounds[0] + (function.bounds[1] - function.bounds[0]) * unit
        assert function(X).min() > function.optimal_value


def test_rotation_is_seeded_and_orthogonal() -> None:
    first, again, other = RotatedQuadratic(5), RotatedQuadratic(5), RotatedQuadratic(5, seed=1)
    assert torch.equal(first.rotation, again.rotation)
    assert not torch.equal(first.rotation, other.rotation)
    torch.testing.assert_close(first.rotation @ first.rotation.T, torch.eye(5).double())


@pytest.mark.parametrize(("name", "dim", "limit"), [("ackley6", 6, 0.3), ("quadratic60", 60, 0.9)])
def test_the_centre_is_no_trivial_answer(name: str, dim: int, limit: float) -> None:
    task = load_task(name)
    assert (task.num_rows, task.dim) == (6_000, dim)
    centre = task.bounds.mean(dim=0, keepdim=True)
    best = SYNTHETIC_FUNCTIONS[name]().optimizers
    centre_value, best_value = task.normalize(task.evaluate(torch.cat([centre, best]))).flatten()
    assert centre_value < limit
    assert best_value > 1.2


@pytest.mark.parametrize("name", sorted(SYNTHETIC_FUNCTIONS))
def test_named_tasks(name: str) -> None:
    task = load_task(name, num_rows=100, dtype=torch.float32, data_dir="unused")
    assert (task.name, task.num_rows, task.X.dtype) == (name, 60, torch.float32)
    assert task.num_oracle_calls == 0
    copy = pickle.loads(pickle.dumps(task))
    assert torch.equal(copy.evaluate(task.X), task.evaluate(task.X))


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"`name` must be one of \['ackley6', .*received 'x'"):
        load_task("x")
    with pytest.raises(ValueError, match=r"\['ackley6', 'branin2', .*received 'tfbind8'"):
        load_synthetic("tfbind8")
    assert set(TASKS) >= set(SYNTHETIC_FUNCTIONS)

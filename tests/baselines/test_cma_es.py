from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask
from botorch_roma.baselines import ProxyOptions, cma_es
from botorch_roma.baselines.ensemble import Ensemble
from botorch_roma.baselines.space import DesignSpace

PROXY = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=5, batch_size=16, lr=1e-2)


@pytest.fixture
def wide_task(vector_task: OfflineTask) -> OfflineTask:
    """Bounds that no search comes near."""
    task = vector_task.to()
    centre, width = task.bounds.mean(dim=0), task.bounds[1] - task.bounds[0]
    task.bounds = torch.stack([centre - 1e3 * width, centre + 1e3 * width])
    return task


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """The vectors of every generation and their mean predictions."""
    seen: list[tuple[Tensor, Tensor]] = []
    predict = Ensemble.predict

    def watched(self: Ensemble, Z: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = predict(self, Z)
        seen.append((Z, mean.mean(dim=0)))
        return mean, std

    monkeypatch.setattr(Ensemble, "predict", watched)
    return seen


def test_improves_the_mean_prediction(wide_task: OfflineTask) -> None:
    X = cma_es(wide_task, 3, seed=1, proxy=PROXY, num_iterations=8)
    space = DesignSpace(wide_task)
    ensemble = Ensemble(space, PROXY, seed=1)
    found, start = (ensemble.predict(Z)[0].mean(dim=0) for Z in (space.encode(X), space.start(3)))
    assert bool((found > start + 1.0).all())


def test_candidates_are_the_best_of_each_search(
    wide_task: OfflineTask, asked: list[tuple[Tensor, Tensor]]
) -> None:
    X = cma_es(wide_task, 3, proxy=PROXY, num_iterations=4)
    assert len(asked) == 3 * 4
    space = DesignSpace(wide_task)
    for i, x in enumerate(X):
        points, values = (torch.cat(part) for part in zip(*asked[4 * i : 4 * i + 4], strict=True))
        torch.testing.assert_close(x, space.decode(points[values.argmax()][None])[0])


def test_each_search_has_its_start_and_its_seed(
    wide_task: OfflineTask, asked: list[tuple[Tensor, Tensor]]
) -> None:
    cma_es(wide_task, 3, proxy=PROXY, num_iterations=1, sigma=1e-3)
    start = DesignSpace(wide_task).start(3)
    steps = [(points - z) / 1e-3 for (points, _), z in zip(asked, start, strict=True)]
    assert torch.cat(steps).std().item() == pytest.approx(1.0, rel=0.4)
    assert len({step[0, 0].item() for step in steps}) == 3
    distances = torch.pdist(torch.stack([step.flatten() for step in steps]))
    assert distances.min() > 0.1


@pytest.mark.parametrize(
    ("limit", "options", "expected"),
    [
        (3, {}, False),
        (2, {}, True),
        (2, {"diagonal": False}, False),
        (3, {"diagonal": True}, True),
    ],
)
def test_many_inputs_have_a_diagonal_covariance(
    wide_task: OfflineTask,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    options: dict[str, bool],
    expected: bool,
) -> None:
    """A full one takes `cma` hours where it has millions of entries."""
    import cma

    searches = []

    class Watched(cma.CMAEvolutionStrategy):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            searches.append(self)

    monkeypatch.setattr(cma, "CMAEvolutionStrategy", Watched)
    # the module: the package has a function of its name
    monkeypatch.setattr(sys.modules[cma_es.__module__], "MAX_FULL_DIM", limit)
    assert DesignSpace(wide_task).dim == 3
    X = cma_es(wide_task, 2, proxy=PROXY, num_iterations=3, **options)
    assert X.shape == (2, 3)
    assert X.isfinite().all()
    # the covariance matrix of a search that adapts variances alone stays a diagonal
    covariances = [search.sm.covariance_matrix for search in searches]
    assert [np.ndim(C) < 2 or not C[0, 1] for C in covariances] == [expected] * 2


@pytest.mark.parametrize("diagonal", [1, 2.0, "no"])
def test_refuses_what_is_no_flag(wide_task: OfflineTask, diagonal: Any) -> None:
    with pytest.raises(ValueError, match="`diagonal` must be True or False, received"):
        cma_es(wide_task, 2, diagonal=diagonal)


def test_seeds(wide_task: OfflineTask) -> None:
    """Seed 0 is not that of the clock; numpy's own random numbers go on as if nothing were."""
    first, again, other = [], [], []
    for seed, found in ((0, first), (0, again), (1, other)):
        np.random.seed(len(first))
        before = np.random.get_state()
        found.append(cma_es(wide_task, 4, seed=seed, proxy=PROXY, num_iterations=2))
        after = np.random.get_state()
        assert np.array_equal(before[1], after[1])
        assert before[2:] == after[2:]
    assert torch.equal(first[0], again[0])
    assert not torch.isclose(first[0], other[0]).all(dim=1).any()

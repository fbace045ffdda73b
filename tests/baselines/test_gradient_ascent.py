from __future__ import annotations

import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask
from botorch_roma.baselines import ProxyOptions, gradient_ascent
from botorch_roma.baselines.ensemble import Aggregate, Ensemble
from botorch_roma.baselines.space import DesignSpace

PROXY = ProxyOptions(num_members=3, hidden_sizes=(16,), epochs=2)


@pytest.mark.parametrize("aggregate", ["mean", "min"])
def test_steps(vector_task: OfflineTask, aggregate: Aggregate) -> None:
    """Each is the gradient times the step size times the root of the number of inputs."""
    path: list[Tensor] = []
    X = gradient_ascent(
        vector_task,
        6,
        seed=1,
        proxy=PROXY,
        aggregate=aggregate,
        num_steps=4,
        step_size=0.05,
        path=path,
    )
    space = DesignSpace(vector_task)
    network, Z = Ensemble(space, PROXY, seed=1).network, space.start(6)
    expected = [space.decode(Z)]
    for _ in range(4):
        Z = Z.requires_grad_()
        mean, _ = network(Z)
        value = mean.mean(dim=0) if aggregate == "mean" else mean.min(dim=0).values
        (gradient,) = torch.autograd.grad(value.sum(), Z)
        Z = (Z + 0.05 * 3**0.5 * gradient).detach()
        expected.append(space.decode(Z))
    torch.testing.assert_close(path, expected)
    torch.testing.assert_close(X, expected[-1])
    assert not torch.allclose(expected[1], expected[0])


def test_aggregates_differ(vector_task: OfflineTask) -> None:
    mean, low = (
        gradient_ascent(vector_task, 6, proxy=PROXY, aggregate=a, num_steps=4, step_size=0.05)
        for a in ("mean", "min")
    )
    assert not torch.allclose(mean, low)


def test_climbs_a_simple_function(vector_task: OfflineTask) -> None:
    """The outcome rises with every column: to the upper corner of the box."""
    proxy = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=15, batch_size=25, lr=2e-2)
    X = gradient_ascent(vector_task, 6, proxy=proxy, num_steps=100, step_size=0.05)
    assert torch.equal(X, vector_task.bounds[1].expand(6, 3))


def test_no_steps(task: OfflineTask) -> None:
    path: list[Tensor] = []
    X = gradient_ascent(task, 6, proxy=PROXY, num_steps=0, path=path)
    torch.testing.assert_close(X, task.start_designs(6)[0])
    assert len(path) == 1


@pytest.mark.parametrize("encoding", ["logits", "one_hot"])
def test_encoding(padded_task: OfflineTask, encoding: str) -> None:
    """The best sequence that is left is the shortest one."""
    proxy = ProxyOptions(num_members=2, hidden_sizes=(16,), epochs=15, batch_size=25, lr=2e-2)
    X = gradient_ascent(padded_task, 8, proxy=proxy, encoding=encoding, num_steps=60, step_size=0.1)
    assert padded_task.vocabulary is not None
    assert padded_task.vocabulary.to_strings(X) == ["b"] * 8

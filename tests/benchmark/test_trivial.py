from __future__ import annotations

import pytest
import torch

from botorch_roma import OfflineTask
from botorch_roma.benchmark.kinds import ProxyCache
from botorch_roma.benchmark.methods import METHODS


def test_noise_flips_letters_of_tokens(token_task: OfflineTask) -> None:
    """In one-hot columns: a little noise changes nothing, a lot of it some of the letters."""
    blind = token_task.without_oracle()
    start = blind.start_designs(50)[0]
    little = METHODS["start_noise_0.2"].run(blind, 50, 0, ProxyCache()).candidates
    lot = METHODS["start_noise_1"].run(blind, 50, 0, ProxyCache()).candidates
    assert (little != start).double().mean() < 0.02
    assert 0.1 < (lot != start).double().mean() < 0.6


def test_trivial_methods(task: OfflineTask) -> None:
    blind, proxies = task.without_oracle(), ProxyCache()
    assert torch.equal(
        METHODS["start"].run(blind, 5, 0, proxies).candidates, task.start_designs(5)[0]
    )
    assert torch.equal(
        METHODS["random"].run(blind, 5, 3, proxies).candidates, task.random_designs(5, 3)
    )
    assert not proxies.models


@pytest.mark.parametrize(("name", "std"), [("start_noise_0.2", 0.2), ("start_noise_1", 1.0)])
def test_noise(task: OfflineTask, name: str, std: float) -> None:
    blind = task.without_oracle()
    blind.bounds = torch.tensor([[-9.0] * 6, [9.0] * 6]).to(task.X)
    X = METHODS[name].run(blind, 100, 0, ProxyCache()).candidates
    noise = (X - task.start_designs(100)[0]) / task.X.std(dim=0, correction=0)
    assert noise.std().item() == pytest.approx(std, rel=0.1)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.1 * std)

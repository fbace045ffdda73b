from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from botorch_roma import RoMAModel, fit_roma_model
from botorch_roma.adaptation import Adaptation
from botorch_roma.graphs import Recorder
from botorch_roma.training import Training


class Counted:
    """A function that knows how often Python has run it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return (x * y).cumsum(dim=0), x - y


@pytest.fixture(scope="module")
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda")


def make_model(device: torch.device, d: int = 6, **options: Any) -> RoMAModel:
    X = torch.rand(300, d, generator=torch.Generator().manual_seed(0)).to(device)
    return RoMAModel(X, X.sum(dim=1, keepdim=True).sin(), seed=0, **options)


def test_plain_calls_on_a_cpu() -> None:
    function = Counted()
    record = Recorder()
    results = [record(function, torch.full((3,), float(i)), torch.ones(3))[0] for i in range(4)]
    assert function.calls == 4
    assert [r[-1].item() for r in results] == [0.0, 3.0, 6.0, 9.0]  # none is overwritten


def test_an_adaptation_is_freed_at_once(device: torch.device) -> None:
    """The weights of all candidates must not wait for the garbage collection."""
    model = make_model(device)
    model.fitted.fill_(True)
    adaptation = Adaptation(model, replay=True)
    for _ in range(3):
        adaptation(torch.zeros(4, 6, device=device), torch.zeros(1, 4, device=device))
    alive = weakref.ref(adaptation)
    gc.disable()
    try:
        del adaptation
        assert alive() is None
    finally:
        gc.enable()


def test_a_training_is_freed_at_once(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor must the data, and the copies of the weights."""
    alive, run = [], Training.run

    def recorded(self: Training, *arguments: Any) -> Any:
        alive.append(weakref.ref(self))
        return run(self, *arguments)

    monkeypatch.setattr(Training, "run", recorded)
    fit_roma_model(make_model(device), epochs=1, seed=0)  # torch holds on to its first optimizer
    gc.disable()
    try:
        fit_roma_model(make_model(device), epochs=1, seed=0)
        assert alive[1]() is None
    finally:
        gc.enable()


@pytest.mark.gpu
def test_recorded_once_for_each_shape(gpu: torch.device) -> None:
    function = Counted()
    record = Recorder()
    for n in (5, 7, 5, 7, 5, 7, 5, 7):
        x, y = torch.rand(2, n, device=gpu)
        product, difference = record(function, x, y)
        assert torch.allclose(product, (x * y).cumsum(dim=0))
        assert torch.equal(difference, x - y)
    assert function.calls == 4  # plainly and for the record, for two shapes


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("d", "hidden_sizes", "options"),
    [
        (6, (16, 16), {}),
        (200, (16, 16), {}),  # in the span of the first layer
        (6, (16, 16), {"early_stop": True, "radius": 0.5}),
        (6, (16, 16), {"reuse_steps": 8, "weight_form": "dense"}),
        (200, (16, 16), {"reuse_steps": 8, "weight_form": "factored"}),
        (6, (512, 512), {"weight_form": "factored"}),
        (6, (2048, 2048), {}),  # where the free memory is asked for
        (6, (16,), {"mode": "shared", "pseudo_label_loss": "nll"}),
        (200, (16,), {"mode": "shared"}),  # weights that move: not replayed
    ],
)
def test_adaptation(
    gpu: torch.device, d: int, hidden_sizes: tuple[int, ...], options: dict[str, Any]
) -> None:
    model = make_model(gpu, d, hidden_sizes=hidden_sizes, num_members=2)
    model.fitted.fill_(True)
    plain, replayed = (Adaptation(model, replay=r, **options) for r in (False, True))
    with torch.no_grad():
        for _ in range(4):
            Z = torch.randn(128, d, device=gpu)
            labels = model.network(Z)[0] + 0.1
            pair = [a(Z, labels).candidate_moments(Z.unsqueeze(1))[0] for a in (plain, replayed)]
            assert torch.allclose(*pair, atol=1e-4)
            assert not torch.allclose(pair[0].squeeze(-1), labels - 0.1, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("loss", "conservatism"),
    [("nll", 0.0), ("squared_error", 0.0), ("listnet", 0.0), ("nll", 0.5), ("squared_error", 0.5)],
)
@pytest.mark.parametrize("d", [6, 400])  # 400: the first layer ascends in the span of the batch
def test_training(
    gpu: torch.device, d: int, loss: Any, conservatism: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> list[Tensor]:
        model = make_model(gpu, d, hidden_sizes=(16, 16), num_members=2)
        options = {"seed": 0, "epochs": 3, "batch_size": 64, "conservatism": conservatism}
        fit_roma_model(model, loss=loss, **options)
        return [*model.network.tensors]

    replayed = trained()
    monkeypatch.setattr(Recorder, "__call__", lambda self, function, *inputs: function(*inputs))
    for one, other in zip(replayed, trained(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def waits(function: Callable[[], object]) -> list[str]:
    """Calls of the CUDA runtime that waited for the device, or read from it."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        function()
    names = [event.name for event in profiler.events()]
    assert any(name.startswith(("cudaLaunchKernel", "cudaGraphLaunch")) for name in names)
    ends = [*filter(lambda n: "Synchronize" in n, names)]
    return ends[:-1] + [n for n in names if "DtoH" in n]  # the profiler waits at its end itself


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:.*Profiler clears events")
@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("options", [{}, {"early_stop": True}, {"reuse_steps": 5}])
def test_the_inner_loop_does_not_wait(
    gpu: torch.device, options: dict[str, Any], replay: bool
) -> None:
    model = make_model(gpu, 60, num_members=2)
    model.fitted.fill_(True)
    adaptation = Adaptation(model, replay=replay, **options)
    Z = torch.randn(128, 60, device=gpu)
    labels = torch.zeros(2, 128, device=gpu)
    with torch.no_grad():
        for _ in range(3):  # the first has nothing to reuse
            adaptation(Z, labels)
        assert waits(lambda: adaptation(Z, labels)) == []

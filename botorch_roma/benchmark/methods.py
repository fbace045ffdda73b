r"""
The methods of a benchmark table: RoMA's presets, plain gradient ascent, the trivial rows.

Every method has the same signature: a task's visible data in, ``q`` candidates out. None of them
can reach the oracle: they are handed a :class:`TaskView`, which has none.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataWarning
from torch import Tensor

from botorch_roma.fit import fit_roma_model
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.optimize import optimize_acqf_roma
from botorch_roma.presets import Preset, get_preset
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_choice


@dataclass(frozen=True)
class TaskView:
    """What a method may see of a task: everything but the oracle."""

    name: str
    X: Tensor
    Y: Tensor
    bounds: Tensor
    discrete: bool
    fixed_features: Mapping[int, float]
    post_processing_func: Callable[[Tensor], Tensor] | None
    start_designs: Callable[[int], tuple[Tensor, Tensor]]
    random_designs: Callable[[int, int], Tensor]

    @classmethod
    def of(cls, task: OfflineTask) -> TaskView:
        """The view of a task."""
        blind = task.without_oracle()
        return cls(
            name=task.name,
            X=task.X,
            Y=task.Y,
            bounds=task.bounds,
            discrete=task.post_processing_func is not None,
            fixed_features=task.fixed_features,
            post_processing_func=task.post_processing_func,
            start_designs=blind.start_designs,
            random_designs=blind.random_designs,
        )


@dataclass
class ProxyCache:
    """Fitted proxies by configuration and seed, so that methods can share one."""

    models: dict[str, tuple[RoMAModel, float]] = field(default_factory=dict)

    def get(self, view: TaskView, preset: Preset, seed: int) -> tuple[RoMAModel, float]:
        """A fitted model and the seconds that its training took."""
        key = json.dumps([view.name, preset.model, preset.fit, seed], sort_keys=True)
        if key not in self.models:
            start = time.perf_counter()
            with warnings.catch_warnings():
                # the constant columns are in `fixed_features`
                warnings.filterwarnings("ignore", "`train_X` is constant", InputDataWarning)
                model = RoMAModel(view.X, view.Y, seed=seed, **preset.model)
            fit_roma_model(model, **{"seed": seed, **preset.fit})
            self.models[key] = (model, time.perf_counter() - start)
        return self.models[key]


@dataclass(frozen=True)
class MethodResult:
    """Candidates ``q x d`` and the seconds of both stages."""

    candidates: Tensor
    fit_seconds: float = 0.0
    optimize_seconds: float = 0.0


@dataclass(frozen=True)
class Method:
    r"""A row of a benchmark table.

    Attributes:
        name: Name on the command line.
        label: Name in tables.
        run: ``(view, q, seed, proxies) -> MethodResult``.
        proxy: Name of the preset whose proxy the method uses; None for none.
        seeded: Whether the seed makes a difference.
    """

    name: str
    label: str
    run: Callable[[TaskView, int, int, ProxyCache], MethodResult]
    proxy: str | None = None
    seeded: bool = True


def _roma(preset_name: str, **changes: Any) -> Callable[..., MethodResult]:
    """Both stages with a preset; ``changes`` apply to stage 2 only."""

    def run(view: TaskView, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        preset = get_preset(preset_name, view.name, discrete=view.discrete)
        model, fit_seconds = proxies.get(view, preset, seed)
        start = time.perf_counter()
        candidates, _ = optimize_acqf_roma(
            PosteriorMean(model),
            view.bounds,
            q,
            fixed_features=view.fixed_features,
            post_processing_func=view.post_processing_func,
            **{**preset.optimize, **changes},
        )
        return MethodResult(candidates, fit_seconds, time.perf_counter() - start)

    return run


def _random(view: TaskView, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
    return MethodResult(view.random_designs(q, seed))


def _start(view: TaskView, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
    return MethodResult(view.start_designs(q)[0])


def _start_noise(std: float) -> Callable[..., MethodResult]:
    """Start designs plus Gaussian noise of ``std`` standard deviations of each input."""

    def run(view: TaskView, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        X, _ = view.start_designs(q)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(X.shape, generator=generator, dtype=torch.double, device="cpu").to(X)
        X = X + std * view.X.std(dim=0, correction=0) * noise
        X = torch.maximum(torch.minimum(X, view.bounds[1]), view.bounds[0])
        return MethodResult(
            X if view.post_processing_func is None else view.post_processing_func(X)
        )

    return run


_ALL = (
    Method("random", "random designs", _random),
    Method("start", "start designs (best visible)", _start, seeded=False),
    Method("start_noise_0.2", "start designs + noise 0.2 std", _start_noise(0.2)),
    Method("start_noise_1", "start designs + noise 1 std", _start_noise(1.0)),
    Method(
        "gradient_ascent",
        "gradient ascent, proxy of default",
        _roma("default", radius=0.0, region=None),
        proxy="default",
    ),
    Method("author_code", "RoMA, author_code", _roma("author_code"), proxy="author_code"),
    Method("paper", "RoMA, paper", _roma("paper"), proxy="paper"),
    Method("default", "RoMA, default", _roma("default"), proxy="default"),
)

#: All methods by name, in the order of the tables.
METHODS: dict[str, Method] = {m.name: m for m in _ALL}


def get_methods(names: list[str] | None = None) -> list[Method]:
    """Methods by name, in the order of the tables; all by default.

    Raises:
        ValueError: For an unknown name.
    """
    for name in names or []:
        check_choice("methods", name, METHODS)
    return [m for m in _ALL if not names or m.name in names]

r"""
The methods of a benchmark table: RoMA's presets, plain gradient ascent, the trivial rows.

Every method has the same signature: a task's visible data in, ``q`` candidates out. None of them
can reach the oracle: they are handed a copy of the task that has none.
"""

from __future__ import annotations

import inspect
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataWarning
from torch import Tensor

from botorch_roma.fit import fit_roma_model
from botorch_roma.latent import (
    Encoding,
    LatentSpace,
    OneHotEncoding,
    make_sequence_encoding,
)
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.optimize import optimize_acqf_roma
from botorch_roma.presets import Preset, get_preset
from botorch_roma.tasks import OfflineTask
from botorch_roma.validation import check_choice


@dataclass
class ProxyCache:
    """Encodings and fitted proxies by configuration and seed, so that methods can share one."""

    encodings: dict[str, tuple[Encoding, float]] = field(default_factory=dict)
    models: dict[str, tuple[RoMAModel, float]] = field(default_factory=dict)

    def encoding(
        self, task: OfflineTask, preset: Preset, seed: int
    ) -> tuple[Encoding | None, float]:
        """The encoding of a task's designs and the seconds that its training took."""
        if task.vocabulary is None:
            return None, 0.0
        key = json.dumps([task.name, preset.encoding, preset.latent, seed], sort_keys=True)
        if key not in self.encodings:
            start = time.perf_counter()
            encoding = make_sequence_encoding(
                preset.encoding, task.X, task.vocabulary, **{"seed": seed, **preset.latent}
            )
            self.encodings[key] = (encoding, time.perf_counter() - start)
        return self.encodings[key]

    def get(self, task: OfflineTask, preset: Preset, seed: int) -> tuple[RoMAModel, float]:
        """A fitted model and the seconds that its training took, with that of its latent space."""
        settings = [task.name, preset.model, preset.fit, preset.encoding, preset.latent, seed]
        key = json.dumps(settings, sort_keys=True)
        if key not in self.models:
            encoding, encoding_seconds = self.encoding(task, preset, seed)
            start = time.perf_counter()
            with warnings.catch_warnings():
                # the constant columns are in `fixed_features`
                warnings.filterwarnings("ignore", "`train_X` is constant", InputDataWarning)
                model = RoMAModel(task.X, task.Y, encoding, seed=seed, **preset.model)
            fit_roma_model(model, **{"seed": seed, **preset.fit})
            self.models[key] = (model, encoding_seconds + time.perf_counter() - start)
        return self.models[key]


@dataclass(frozen=True)
class MethodResult:
    """Candidates ``q x d``, the seconds of both stages, and the accuracy of a latent space.

    The accuracy is the share of held-out sequences that come back from encoding and decoding.
    """

    candidates: Tensor
    fit_seconds: float = 0.0
    optimize_seconds: float = 0.0
    reconstruction: float | None = None


def _no_settings(task: OfflineTask) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Method:
    r"""A row of a benchmark table.

    Attributes:
        name: Name on the command line.
        label: Name in tables.
        run: ``(task, q, seed, proxies) -> MethodResult``.
        settings: All that the method does on a task depends on, defaults written out; the
            configuration hash of a stored run is made of it.
        group: Methods of a group run in one process, to share latent spaces and proxies.
        seeded: Whether the seed makes a difference.
        discrete: Whether the method is for token sequences only.
    """

    name: str
    label: str
    run: Callable[[OfflineTask, int, int, ProxyCache], MethodResult]
    settings: Callable[[OfflineTask], dict[str, Any]] = _no_settings
    group: str = ""
    seeded: bool = True
    discrete: bool = False


@dataclass(frozen=True)
class RoMAMethod:
    """Both stages of RoMA as a method.

    Attributes:
        preset_name: Name of the preset.
        encoding: Encoding of token sequences in place of the preset's.
        changes: Options of stage 2 over the preset's.
    """

    preset_name: str
    encoding: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    def preset(self, task: OfflineTask) -> Preset:
        """The configuration on a task."""
        discrete = task.vocabulary is not None
        preset = get_preset(
            self.preset_name, task.name, discrete=discrete, num_rows=task.X.shape[0]
        )
        if self.encoding is not None:
            preset = replace(preset, encoding=self.encoding)
        return replace(preset, optimize={**preset.optimize, **self.changes})

    def settings(self, task: OfflineTask) -> dict[str, Any]:
        """The configuration with the defaults of the functions written out."""
        preset = self.preset(task)
        settings: dict[str, Any] = {
            "model": _defaults(RoMAModel) | preset.model,
            "fit": _defaults(fit_roma_model) | preset.fit,
            "optimize": _defaults(optimize_acqf_roma) | preset.optimize,
        }
        if task.vocabulary is not None:
            settings["encoding"] = preset.encoding
            if preset.encoding == "latent":
                settings["latent"] = _defaults(LatentSpace.fit) | preset.latent
        return settings

    def run(self, task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        """Fit, or take from ``proxies``, and optimise."""
        preset = self.preset(task)
        model, fit_seconds = proxies.get(task, preset, seed)
        start = time.perf_counter()
        with warnings.catch_warnings():
            # the published latent spaces lose their start designs: the table says how many
            warnings.filterwarnings("ignore", "This latent space loses", InputDataWarning)
            candidates, _ = optimize_acqf_roma(
                PosteriorMean(model),
                task.bounds,
                q,
                fixed_features=None if task.vocabulary is not None else task.fixed_features,
                post_processing_func=task.post_processing_func,
                **preset.optimize,
            )
        seconds = time.perf_counter() - start
        space = getattr(model, "input_transform", None)
        accuracy = space.history.sequence_accuracy[-1] if isinstance(space, LatentSpace) else None
        return MethodResult(candidates, fit_seconds, seconds, accuracy)


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a function that have a default, and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _random(task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
    return MethodResult(task.random_designs(q, seed))


def _start(task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
    return MethodResult(task.start_designs(q)[0])


def _start_noise(std: float) -> Callable[..., MethodResult]:
    """Start designs plus Gaussian noise of ``std`` standard deviations of each (one-hot) input."""

    def run(task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        X, _ = task.start_designs(q)
        bounds, scale, encoding = task.bounds, task.X, None
        if task.vocabulary is not None:
            encoding = OneHotEncoding(task.vocabulary, X.shape[1]).to(X)
            X, scale, bounds = encoding.encode(X), encoding.encode(task.X), encoding.bounds
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(X.shape, generator=generator, dtype=torch.double, device="cpu").to(X)
        X = X + std * scale.std(dim=0, correction=0) * noise
        X = torch.maximum(torch.minimum(X, bounds[1]), bounds[0])
        if encoding is not None:
            X = encoding.decode(X)
        return MethodResult(
            X if task.post_processing_func is None else task.post_processing_func(X)
        )

    return run


def _roma(name: str, label: str, method: RoMAMethod, group: str, **options: Any) -> Method:
    return Method(name, label, method.run, method.settings, group, **options)


_ALL = (
    Method("random", "random designs", _random),
    Method("start", "start designs (best visible)", _start, seeded=False),
    Method("start_noise_0.2", "start designs + noise 0.2 std", _start_noise(0.2)),
    Method("start_noise_1", "start designs + noise 1 std", _start_noise(1.0)),
    _roma(
        "gradient_ascent",
        "gradient ascent, proxy of default",
        RoMAMethod("default", changes={"radius": 0.0, "region": None}),
        "default",
    ),
    _roma("author_code", "RoMA, author_code", RoMAMethod("author_code"), "published"),
    _roma("paper", "RoMA, paper", RoMAMethod("paper"), "published"),
    _roma("default", "RoMA, default", RoMAMethod("default"), "default"),
    _roma(
        "default_latent",
        "RoMA, default, latent space",
        RoMAMethod("default", encoding="latent"),
        "default_latent",
        discrete=True,
    ),
)

#: All methods by name, in the order of the tables.
METHODS: dict[str, Method] = {m.name: m for m in _ALL}


def get_methods(names: list[str] | None = None, *, discrete: bool = True) -> list[Method]:
    """Methods by name, in the order of the tables; all by default.

    Args:
        names: The methods.
        discrete: Whether the task holds token sequences, or else methods for these are left out.

    Raises:
        ValueError: For an unknown name, and one that is named but does not apply.
    """
    for name in names or []:
        check_choice("methods", name, METHODS)
        if METHODS[name].discrete and not discrete:
            raise ValueError(
                f"`methods` holds {name!r}, which is for token sequences; the task has vectors."
            )
    return [m for m in _ALL if (m.name in names if names else discrete or not m.discrete)]

r"""
The kinds of methods of a benchmark: both stages of RoMA, a comparison method, a plain function.

Every method has the same signature: a task's visible data in, ``q`` candidates out. None of them
can reach the oracle: they are handed a copy of the task that has none.
"""

from __future__ import annotations

import inspect
import itertools
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Literal

from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataWarning
from torch import Tensor

from botorch_roma.fit import fit_roma_model, fit_roma_models
from botorch_roma.latent import Encoding, LatentSpace, make_sequence_encoding
from botorch_roma.models.roma import RoMAModel
from botorch_roma.optim.optimize import optimize_acqf_roma, optimize_acqfs_roma
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.presets import Preset, get_preset
from botorch_roma.selection import select_options
from botorch_roma.tasks import OfflineTask


@dataclass
class ProxyCache:
    """What the methods of a job share: encodings and proxies, by configuration and seed.

    Attributes:
        paths: Whether methods that move designs step by step shall return their path.
    """

    paths: bool = False
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

    def get(
        self, task: OfflineTask, preset: Preset, seeds: Sequence[int]
    ) -> list[tuple[RoMAModel, float]]:
        """A fitted model for each seed, and the seconds that its training took.

        With that of its latent space. Models of several seeds are trained in one computation, of
        which each takes an equal share.
        """
        settings = [task.name, preset.model, preset.fit, preset.encoding, preset.latent]
        keys = {seed: json.dumps([*settings, seed], sort_keys=True) for seed in seeds}
        missing = [seed for seed, key in keys.items() if key not in self.models]
        if missing:
            encodings = [self.encoding(task, preset, seed) for seed in missing]
            start = time.perf_counter()
            with warnings.catch_warnings():
                # the constant columns are in `fixed_features`
                warnings.filterwarnings("ignore", "`train_X` is constant", InputDataWarning)
                models = [
                    RoMAModel(task.X, task.Y, encoding, seed=seed, **preset.model)
                    for seed, (encoding, _) in zip(missing, encodings, strict=True)
                ]
            fit_roma_models(models, seeds=missing, **preset.fit)
            seconds = (time.perf_counter() - start) / len(missing)
            for seed, model, (_, own) in zip(missing, models, encodings, strict=True):
                self.models[keys[seed]] = (model, own + seconds)
        return [self.models[key] for key in keys.values()]


@dataclass(frozen=True)
class MethodResult:
    r"""What a method returns.

    Attributes:
        candidates: ``q x d``.
        fit_seconds: Seconds that stage 1 took, with the training of a latent space; of several
            seeds in one computation, the share of one.
        optimize_seconds: Seconds of stage 2, with a selection of its options, or of a method that
            has no stages; likewise.
        reconstruction: Share of held-out sequences that come back from a latent space.
        path: The designs ``q x d`` before each step and after the last, where the method moves
            designs step by step.
    """

    candidates: Tensor
    fit_seconds: float = 0.0
    optimize_seconds: float = 0.0
    reconstruction: float | None = None
    path: list[Tensor] = field(default_factory=list)


def _no_settings(task: OfflineTask) -> dict[str, Any]:
    return {}


def _one_by_one(task: OfflineTask, q: int) -> None:
    return None


#: What a row of a table is there for.
Family = Literal["trivial", "roma", "baseline", "ablation"]


@dataclass(frozen=True)
class Method:
    r"""A row of a benchmark table.

    Attributes:
        name: Name on the command line.
        label: Name in tables.
        run: ``(task, q, seed, proxies) -> MethodResult``.
        settings: All that the method does on a task depends on, defaults written out; the
            configuration hash of a stored run is made of it.
        family: What the row is there for.
        group: Methods of a group run in one process, to share latent spaces and proxies.
        seeded: Whether the seed makes a difference.
        discrete: Whether the method is for token sequences only.
        run_seeds: ``(task, q, seeds, proxies) -> results``: several seeds in one computation, each
            as alone but for rounding.
        seed_bytes: ``(task, q) -> bytes``: memory that each seed of such a computation takes,
            roughly; None where the seeds have to be run one by one.
    """

    name: str
    label: str
    run: Callable[[OfflineTask, int, int, ProxyCache], MethodResult]
    settings: Callable[[OfflineTask], dict[str, Any]] = _no_settings
    family: Family = "trivial"
    group: str = ""
    seeded: bool = True
    discrete: bool = False
    run_seeds: (
        Callable[[OfflineTask, int, Sequence[int], ProxyCache], list[MethodResult]] | None
    ) = None
    seed_bytes: Callable[[OfflineTask, int], int | None] = _one_by_one


#: What RoMA adds to plain gradient ascent on a plainly trained proxy, in the paper's order.
COMPONENTS: tuple[str, ...] = ("noise", "weight_perturbation", "adaptation", "cap", "adam")

#: Options of both stages, and of a comparison method, that came later than stored runs, whose
#: settings do not hold them.
LATER_OPTIONS: dict[str, tuple[str, ...]] = {
    "cma_es": ("diagonal",),
    "fit": ("conservatism",),
    "optimize": ("local_search_rounds", "early_stop", "reuse_steps", "max_spread", "min_distance"),
    "select": ("fit_settings",),
}

#: How often the weights of all candidates are there in stage 2, at most.
WEIGHT_COPIES: int = 2

#: Plain steps have this length per unit of gradient and root of the number of inputs, as those of
#: the published gradient ascent.
PLAIN_STEP: float = 0.01


@dataclass(frozen=True)
class RoMAMethod:
    """Both stages of RoMA as a method.

    Attributes:
        preset_name: Name of the preset.
        encoding: Encoding of token sequences in place of the preset's.
        changes: Options of stage 2 over the preset's.
        components: The :data:`COMPONENTS` that are left of the preset; all by default.
    """

    preset_name: str
    encoding: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    components: tuple[str, ...] = COMPONENTS

    def preset(self, task: OfflineTask) -> Preset:
        """The configuration on a task."""
        discrete = task.vocabulary is not None
        preset = get_preset(
            self.preset_name, task.name, discrete=discrete, num_rows=task.X.shape[0]
        )
        if self.encoding is not None:
            preset = replace(preset, encoding=self.encoding)
        fit, optimize = dict(preset.fit), dict(preset.optimize)
        if "noise" not in self.components:
            fit["noise_std"] = 0.0
        if "weight_perturbation" not in self.components:
            fit["radius"] = 0.0
        if "adaptation" not in self.components:
            optimize["radius"] = 0.0
        if "cap" not in self.components:
            optimize["region"] = None
        if "adam" not in self.components:
            dim = _num_inputs(task, preset)
            optimize |= {"step_rule": "gradient", "lr": PLAIN_STEP * dim**0.5}
        optimize |= self.changes
        return replace(preset, fit=fit, optimize=optimize)

    def settings(self, task: OfflineTask) -> dict[str, Any]:
        """The configuration with the defaults of the functions written out."""
        preset = self.preset(task)
        settings: dict[str, Any] = {
            "model": _defaults(RoMAModel) | preset.model,
            "fit": _defaults(fit_roma_model) | preset.fit,
            "optimize": _defaults(optimize_acqf_roma) | preset.optimize,
        }
        if preset.select is not None:
            settings["select"] = _defaults(select_options) | preset.select
        del settings["optimize"]["weight_form"], settings["model"]["copy"]  # of no influence
        for stage in settings.keys() & LATER_OPTIONS.keys():
            for name in LATER_OPTIONS[stage]:
                if not settings[stage][name]:
                    del settings[stage][name]
        if task.vocabulary is not None:
            settings["encoding"] = preset.encoding
            if preset.encoding == "latent":
                settings["latent"] = _defaults(LatentSpace.fit) | preset.latent
        return settings

    def run(self, task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        """Fit, or take from ``proxies``, and optimise."""
        preset = self.preset(task)
        ((model, fit_seconds),) = proxies.get(task, preset, [seed])
        trajectory = Trajectory() if proxies.paths else None
        options = _problem(task) | preset.optimize
        start = time.perf_counter()
        with warnings.catch_warnings():
            # the published latent spaces lose their start designs: the table says how many
            warnings.filterwarnings("ignore", "This latent space loses", InputDataWarning)
            if (select := preset.check_select()) is not None:
                options |= select_options(
                    model,
                    task.bounds,
                    q,
                    fit_options=preset.fit,
                    optimize_options=options,
                    **select,
                ).options
            candidates, _ = optimize_acqf_roma(
                PosteriorMean(model), task.bounds, q, trajectory=trajectory, **options
            )
        seconds = time.perf_counter() - start
        space = getattr(model, "input_transform", None)
        accuracy = space.history.sequence_accuracy[-1] if isinstance(space, LatentSpace) else None
        path = [] if trajectory is None else _designs(task, model, trajectory)
        return MethodResult(candidates, fit_seconds, seconds, accuracy, path)

    def run_seeds(
        self, task: OfflineTask, q: int, seeds: Sequence[int], proxies: ProxyCache
    ) -> list[MethodResult]:
        """Both stages of several seeds, each stage as one computation; without their paths."""
        preset = self.preset(task)
        fitted = proxies.get(task, preset, seeds)
        start = time.perf_counter()
        found = optimize_acqfs_roma(
            [PosteriorMean(model) for model, _ in fitted],
            task.bounds,
            q,
            **_problem(task) | preset.optimize,
        )
        seconds = (time.perf_counter() - start) / len(seeds)
        return [
            MethodResult(X, fit_seconds, seconds)
            for (X, _), (_, fit_seconds) in zip(found, fitted, strict=True)
        ]

    def seed_bytes(self, task: OfflineTask, q: int) -> int | None:
        """See :class:`Method`: a latent space belongs to one seed, and so does a selection."""
        preset = self.preset(task)
        encoding = preset.encoding if task.vocabulary is not None else None
        if encoding == "latent" or preset.select is not None:
            return None
        model = _defaults(RoMAModel) | preset.model
        inputs, hidden = _num_inputs(task, preset), model["hidden_sizes"]
        # of the designs a copy; of what the proxy sees one more, and one while it is standardised
        rows = task.X.shape[0] * (task.dim + 2 * inputs)
        layers = itertools.pairwise([min(inputs, hidden[0] + 1), *hidden])
        weights = q * model["num_members"] * sum(a * b for a, b in layers)
        return (rows + WEIGHT_COPIES * weights) * task.X.element_size()


def _problem(task: OfflineTask) -> dict[str, Any]:
    """What stage 2 has to know of a task."""
    return {
        "fixed_features": None if task.vocabulary is not None else task.fixed_features,
        "post_processing_func": task.post_processing_func,
    }


def _num_inputs(task: OfflineTask, preset: Preset) -> int:
    """Number of inputs of the proxy."""
    if task.vocabulary is None:
        return task.dim
    if preset.encoding == "latent":
        raise NotImplementedError("the number of latents is known once the space is trained")
    return make_sequence_encoding(preset.encoding, task.X, task.vocabulary).encoded_dim


def _designs(task: OfflineTask, model: RoMAModel, trajectory: Trajectory) -> list[Tensor]:
    """The designs that the positions of a trajectory stand for."""
    encoding = getattr(model, "input_transform", None)
    positions = [x.to(task.X) for x in trajectory.x]
    if isinstance(encoding, Encoding):
        return [encoding.decode(x) for x in positions]
    snap = task.post_processing_func
    return positions if snap is None else [snap(x) for x in positions]


@dataclass(frozen=True)
class BaselineMethod:
    """A function of :mod:`botorch_roma.baselines` as a method.

    Attributes:
        function: ``(task, q, seed=..., **options) -> candidates``.
        options: Arguments over its defaults.
    """

    function: Callable[..., Tensor]
    options: dict[str, Any] = field(default_factory=dict)

    def settings(self, task: OfflineTask) -> dict[str, Any]:
        """The arguments with the defaults written out."""
        settings = _defaults(self.function) | self.options
        for name in LATER_OPTIONS.get(self.function.__name__, ()):
            if settings[name] is None:
                del settings[name]
        return {k: asdict(v) if is_dataclass(v) else v for k, v in settings.items()}  # type: ignore[arg-type]

    def run(self, task: OfflineTask, q: int, seed: int, proxies: ProxyCache) -> MethodResult:
        """Call the function."""
        path: list[Tensor] = []
        options = dict(self.options)
        if proxies.paths and "path" in inspect.signature(self.function).parameters:
            options["path"] = path
        start = time.perf_counter()
        candidates = self.function(task, q, seed=seed, **options)
        seconds = time.perf_counter() - start
        return MethodResult(candidates, optimize_seconds=seconds, path=path)


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a function that have a default, and their defaults.

    Without checkpoints, which have no influence on a result.
    """
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {name: value for name, value in defaults.items() if not name.startswith("checkpoint")}

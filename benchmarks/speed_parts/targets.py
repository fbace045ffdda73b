"""The ratios that the package is held to."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from botorch.acquisition import PosteriorMean

from botorch_roma import RoMAModel, fit_roma_model
from botorch_roma.benchmark.memory import peak_memory
from botorch_roma.fit import fit_roma_models
from botorch_roma.optim import optimize_acqfs_roma

from .alternatives import Case, Work, per_step
from .report import Report
from .stage_one import autograd_training
from .timing import Place, in_turn, round_to, seconds

LINES = ("autograd", "inputs", "dense", "stage1", "seeds")


@dataclass(frozen=True)
class TargetSizes:
    """What the targets are measured at.

    Attributes:
        steps: Numbers of inner steps, the last one that of the widest network.
        narrow: Width of most lines.
        wide: Width against torch.func.
        widest: Width against dense weights.
        inputs: Few and many inputs.
        outer_steps: Minibatches of stage 1 that are timed together.
        rows: Rows of the whole run.
        seeds: Seeds of the whole run.
        fit: Further options of stage 1 in the whole run.
        optimize: Further options of stage 2 in the whole run.
    """

    steps: tuple[int, ...] = (10, 100)
    narrow: int = 64
    wide: int = 256
    widest: int = 2048
    inputs: tuple[int, int] = (64, 5126)
    B: int = 128
    d: int = 60
    outer_steps: int = 20
    rows: int = 2_000
    seeds: int = 16
    fit: tuple[tuple[str, int], ...] = ()
    optimize: tuple[tuple[str, int], ...] = ()


SMOKE_TARGETS = TargetSizes(
    steps=(2, 3),
    narrow=8,
    wide=12,
    widest=32,
    inputs=(9, 40),
    B=4,
    d=6,
    outer_steps=2,
    rows=40,
    seeds=2,
    fit=(("epochs", 1),),
    optimize=(("num_updates", 2), ("num_adaptation_steps", 2)),
)


class Targets:
    """Measures the lines of the table one after the other."""

    def __init__(self, sizes: TargetSizes, place: Place, report: Report, repeats: int) -> None:
        self.sizes, self.place, self.report, self.repeats = sizes, place, report, repeats
        self.rows: list[list[str]] = []

    def run(self, lines: Sequence[str] = LINES) -> None:
        """Measure and print those lines."""
        self.place.enter()
        sizes = self.sizes
        if "autograd" in lines:
            for steps in sizes.steps:
                self._against_autograd(steps)
        if "inputs" in lines:
            for steps in sizes.steps:
                self._many_inputs(steps)
        if "dense" in lines:
            self._against_dense()
        if "stage1" in lines:
            self._stage_one()
        if "seeds" in lines:
            self._seeds()
        self.report.heading(f"Targets ({self.place}, B = {sizes.B})")
        self.report.table(["work", "against", "target", "measured"], self.rows)

    def _row(self, *cells: str) -> None:
        self.report.progress(f"{self.place}: " + ", ".join(cells))
        self.rows.append([*cells])

    def _case(self, width: int, steps: int, d: int | None = None) -> Case:
        return Case(width, 2, self.sizes.B, self.sizes.d if d is None else d, steps)

    def _against_autograd(self, steps: int) -> None:
        sizes = self.sizes
        for width, wanted in (
            (sizes.narrow, {"loop": "60 times faster", "vmap": "4 times faster"}),
            (sizes.wide, {"vmap": "8 times faster"}),
        ):
            work = Work(self._case(width, steps), self.place)
            alternatives = {"auto": work.auto(), **{n: getattr(work, n)() for n in wanted}}
            times = per_step(alternatives, self.place, steps, repeats=self.repeats)
            names = {"loop": "per-candidate autograd loop", "vmap": "vmap(grad)"}
            for name, target in wanted.items():
                what = f"inner step, d = {sizes.d}, width {width}, K = {steps}"
                ratio = times[name] / times["auto"]
                self._row(what, names[name], target, f"{round_to(ratio)} times faster")

    def _many_inputs(self, steps: int) -> None:
        few, many = self.sizes.inputs
        alternatives = {
            str(d): Work(self._case(self.sizes.narrow, steps, d), self.place).auto()
            for d in (few, many)
        }
        times = per_step(alternatives, self.place, steps, repeats=self.repeats)
        self._row(
            f"inner step, d = {many:,}, width {self.sizes.narrow}, K = {steps}",
            f"d = {few}",
            "at most 1.5 times slower",
            f"{round_to(times[str(many)] / times[str(few)])} times slower",
        )

    def _against_dense(self) -> None:
        case = self._case(self.sizes.widest, self.sizes.steps[-1])
        work = Work(case, self.place)
        auto, dense = work.auto(), work.dense()
        what = f"inner step, d = {case.d}, width {case.width:,}, K = {case.steps}"
        if dense is None:
            self._row(what, "dense matrices", "5 times faster", "they need more than 3 GB")
            return
        times = per_step(
            {"auto": auto, "dense": dense}, self.place, case.steps, repeats=min(3, self.repeats)
        )
        ratio = times["dense"] / times["auto"]
        self._row(what, "dense matrices", "5 times faster", f"{round_to(ratio)} times faster")
        own, their = (memory_in_fresh_process(case, self.place, f) for f in ("auto", "dense"))
        measured = "not measured: the system does not tell, or too little"
        if own is not None and their:
            measured = f"{own / their:.2f} ({own:,.0f} of {their:,.0f} MiB)"
        self._row(f"its memory, width {case.width:,}", "dense matrices", "a tenth", measured)

    def _stage_one(self) -> None:
        sizes, place = self.sizes, self.place
        held_out = min(64, sizes.B)
        n, k = sizes.B * sizes.outer_steps + held_out, 20
        X = torch.rand(n, sizes.d, dtype=place.dtype, device=place.device)
        model = RoMAModel(X, X.sum(dim=-1, keepdim=True).sin(), hidden_sizes=(sizes.narrow,) * 2)
        model.to(place.device)
        Z, T = (t[held_out:] for t in (model.standardize_inputs(X), model.train_Y[:, 0]))
        settings: dict[str, Any] = {
            "noise_std": 0.2,
            "radius": 0.005,
            "num_ascent_steps": k,
            "batch_size": sizes.B,
        }
        weights, activation = model.network.weights.map(torch.clone), model.network.activation
        alternatives: dict[str, Callable[[], object]] = {
            "package": lambda: fit_roma_model(
                model, epochs=1, num_validation=held_out, seed=0, **settings
            ),
            "autograd": lambda: autograd_training(weights, activation, Z, T, **settings),
        }
        times = in_turn(alternatives, place.device, repeats=self.repeats)
        self._row(
            f"stage 1, one outer step, K = {k}, {sizes.B} rows, d = {sizes.d}, "
            f"width {sizes.narrow} ({1e3 * times['package'] / sizes.outer_steps:.1f} ms)",
            "the same with autograd, eager",
            "3 times faster",
            f"{round_to(times['autograd'] / times['package'])} times faster",
        )

    def _seeds(self) -> None:
        sizes, place = self.sizes, self.place
        one: list[tuple[float, float]] = []
        many: list[tuple[float, float]] = []
        for num in (1, sizes.seeds, 1):
            (one if num == 1 else many).append(whole_runs(num, sizes, place))
        single, several = (
            [sum(part) / len(runs) for part in zip(*runs, strict=True)] for runs in (one, many)
        )
        stages = ", ".join(
            f"stage {i + 1}: {round_to(b / a)}"
            for i, (a, b) in enumerate(zip(single, several, strict=True))
        )
        self._row(
            f"whole run, {sizes.seeds} seeds, n = {sizes.rows:,}, d = {sizes.d}, defaults",
            f"one seed ({sum(single):.1f} s)",
            "under 5 times the time",
            f"{round_to(sum(several) / sum(single))} times ({stages})",
        )


def whole_runs(num_seeds: int, sizes: TargetSizes, place: Place) -> tuple[float, float]:
    """Seconds of stage 1 and of stage 2 of so many whole runs, which differ in their seed."""
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(sizes.rows, sizes.d, generator=generator, dtype=place.dtype)
    Y = (X @ torch.randn(sizes.d, 1, generator=generator, dtype=place.dtype)).sin()
    bounds = torch.tensor([[0.0], [1.0]], dtype=place.dtype).expand(2, sizes.d).to(place.device)
    models = [RoMAModel(X, Y).to(place.device) for _ in range(num_seeds)]

    def stage_one() -> None:
        fit_roma_models(models, seeds=range(num_seeds), **dict(sizes.fit))

    def stage_two() -> None:
        functions = [PosteriorMean(model) for model in models]
        optimize_acqfs_roma(functions, bounds, sizes.B, **dict(sizes.optimize))

    return seconds(stage_one, place.device), seconds(stage_two, place.device)


def memory_in_fresh_process(case: Case, place: Place, form: str) -> float | None:
    """Peak extra memory of one adaptation, MiB; None where the system does not tell."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory, case, place, form).result()


def _memory(case: Case, place: Place, form: str) -> float | None:
    place.enter()
    steps = 2 if form == "dense" else case.steps  # dense matrices do not grow
    adapt = Work(case, place).adaptation(steps, weight_form=form)
    Work(case._replace(B=1, steps=1), place).adaptation(1)()  # what the first call brings along
    if place.device.type == "cuda":
        before = torch.cuda.memory_allocated(place.device)
        torch.cuda.reset_peak_memory_stats(place.device)
        adapt()
        return (torch.cuda.max_memory_allocated(place.device) - before) / 2**20
    with peak_memory() as before_it:
        pass
    with peak_memory() as peak:
        adapt()
    if peak.megabytes is None or before_it.megabytes is None:
        return None
    return peak.megabytes - before_it.megabytes

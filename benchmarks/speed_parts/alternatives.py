"""The inner step, written in several ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vmap

from botorch_roma import RoMAModel
from botorch_roma.adaptation import Adaptation
from botorch_roma.models.adapted import AdaptedRoMAModel
from botorch_roma.network import FactoredLayer, ProxyNetwork, StackedWeights
from botorch_roma.perturbation import per_slice, step_coefficients, step_lengths
from botorch_roma.reference import reference_adapt, reference_forward

from .timing import Place, in_turn

LOOP = 8  # candidates that the autograd loop is timed on; it handles one at a time
LOOP_STEPS, OTHER_STEPS = 5, 10  # a step of these takes as long as any other
OPTIONS: dict[str, Any] = {"radius": 0.02, "alpha": 1.0}
MAX_BYTES = 3e9  # what an alternative may need
MAX_LOOP_WIDTH = 512
GUESS = 8e9  # bytes a second, only to choose a number of steps that takes a second or two


class Case(NamedTuple):
    """Size of one adaptation."""

    width: int = 64
    depth: int = 2
    B: int = 128
    d: int = 60
    steps: int = 10

    def model(self, place: Place) -> RoMAModel:
        X = torch.randn(16, self.d, dtype=place.dtype)
        model = RoMAModel(X, X[:, :1], hidden_sizes=(self.width,) * self.depth)
        model.fitted.fill_(True)
        return model.to(place.device)

    def stack_bytes(self, place: Place, first: int | None = None) -> float:
        """Bytes of one set of hidden weights for each candidate, ``first`` inputs wide."""
        first = self.d if first is None else first
        weights = self.width * (first + (self.depth - 1) * self.width)
        return float(place.itemsize) * self.B * weights


class Alternative(NamedTuple):
    """One way to do it.

    Attributes:
        runs: Runs by the number of their steps: one, or two for a line through both, where the
            steps are alike and all of them would take too long.
        factor: Times that this has to be done.
    """

    runs: Mapping[int, Callable[[], object]]
    factor: float = 1.0

    def per_step(self, times: Mapping[int, float], steps: int) -> float:
        (few, first), *more = sorted(times.items())
        if not more:
            return self.factor * first / few
        many, last = more[0]
        slope = (last - first) / (many - few)
        return self.factor * (first + (steps - few) * slope) / steps


def per_step(
    alternatives: Mapping[str, Alternative],
    place: Place,
    steps: int,
    *,
    repeats: int,
    budget: float = float("inf"),
) -> dict[str, float]:
    """Seconds that an average one of ``steps`` steps takes, all alternatives timed in turn."""
    runs = {(name, n): run for name, a in alternatives.items() for n, run in a.runs.items()}
    times = in_turn(runs, place.device, repeats=repeats, budget=budget)
    return {
        name: a.per_step({n: times[name, n] for n in a.runs}, steps)
        for name, a in alternatives.items()
    }


class Layout(NamedTuple):
    """How an adaptation kept one hidden layer."""

    form: str
    out: int
    into: int
    reduced: bool

    def __str__(self) -> str:
        return f"{self.form}, reduced" if self.reduced else self.form


def layouts(adapted: AdaptedRoMAModel) -> list[Layout]:
    return [
        Layout(
            "factored" if isinstance(layer, FactoredLayer) else "dense",
            layer.weight.shape[1],
            layer.weight.shape[2],
            i == 0 and adapted.basis is not None,
        )
        for i, layer in enumerate(adapted.weights.hidden)
    ]


def name_layouts(parts: list[Layout]) -> str:
    """One name where all hidden layers are alike."""
    names = [str(part) for part in parts]
    return names[0] if len(set(names)) == 1 else " / ".join(names)


class Work:
    """A model, candidates and labels, and all ways to adapt the one to the others."""

    def __init__(self, case: Case, place: Place) -> None:
        self.case, self.place = case, place
        self.model = case.model(place)
        self.Z = place.randn(case.B, case.d)
        self.labels = torch.zeros(1, case.B, dtype=place.dtype, device=place.device)

    def adaptation(self, steps: int, **options: Any) -> Callable[[], AdaptedRoMAModel]:
        adaptation = Adaptation(self.model, num_steps=steps, **OPTIONS, **options)
        return lambda: adaptation(self.Z, self.labels)

    def auto(self) -> Alternative:
        return Alternative({self.case.steps: self.adaptation(self.case.steps)})

    def factored(self) -> Alternative:
        return Alternative(
            {self.case.steps: self.adaptation(self.case.steps, weight_form="factored")}
        )

    def dense(self, first: int | None = None) -> Alternative | None:
        """Every candidate with matrices of its own; ``first`` is the width of the first one."""
        size, steps = self.case.stack_bytes(self.place, first), self.case.steps
        if size > MAX_BYTES:
            return None
        most = max(4, int(2.0 * GUESS / (6.0 * size)))
        counts = (steps,) if most >= steps else (1, most)
        return Alternative({n: self.adaptation(n, weight_form="dense") for n in counts})

    def shared(self) -> Alternative:
        steps = min(self.case.steps, OTHER_STEPS)
        return Alternative({steps: self.adaptation(steps, mode="shared")})

    def vmap(self) -> Alternative | None:
        size = self.case.stack_bytes(self.place)
        if 5.0 * size > MAX_BYTES:
            return None
        steps = max(2, min(self.case.steps, OTHER_STEPS, int(2.0 * GUESS / (30.0 * size))))
        network = self.model.network
        stack = network.weights.map(lambda t: t.detach().repeat_interleave(self.case.B, dim=0))
        return Alternative(
            {steps: lambda: vmap_adapt(stack, self.Z, self.labels[0], steps, network)}
        )

    def loop(self) -> Alternative | None:
        if self.case.width > MAX_LOOP_WIDTH:
            return None
        count, steps = min(LOOP, self.case.B), min(self.case.steps, LOOP_STEPS)
        weights = self.model.network.weights.map(lambda t: t.detach()[0])
        activation = self.model.network.activation

        def run() -> object:
            return [
                reference_adapt(
                    weights,
                    z.unsqueeze(0),
                    self.labels[0, :1],
                    num_steps=steps,
                    loss="squared_error",
                    activation=activation,
                    **OPTIONS,
                )
                for z in self.Z[:count]
            ]

        return Alternative({steps: run}, self.case.B / count)


def vmap_adapt(
    weights: StackedWeights, Z: Tensor, labels: Tensor, num_steps: int, network: ProxyNetwork
) -> list[Tensor]:
    """The adaptation of a stack with torch.func: vmap over candidates of grad of grad.

    Args:
        weights: One network for each of ``B`` candidates.
        Z: Candidates, ``B x d``.
        labels: Pseudo labels, ``B``.
        num_steps: Number of steps.
        network: The network that the weights are of.
    """

    def objective(tensors: list[Tensor], z: Tensor, y: Tensor) -> Tensor:
        def mean(point: Tensor) -> Tensor:
            w = StackedWeights.from_tensors(tensors)
            return reference_forward(w, point, network.activation)[0]

        gradient = grad(mean)(z)
        return gradient.norm() + OPTIONS["alpha"] * (mean(z) - y) ** 2

    batched = vmap(grad(objective))
    tensors = [t.clone() for t in weights.tensors()]
    lengths = step_lengths(weights, OPTIONS["radius"], num_steps)
    for _ in range(num_steps):
        gradients = batched(tensors, Z, labels)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients])
        coefficients = step_coefficients(lengths, norms)
        for t, g, c in zip(tensors, gradients, coefficients, strict=True):
            t.sub_(g * per_slice(c, g))
    return tensors

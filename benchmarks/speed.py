"""How fast the adaptation is, as ratios within one run.

    python benchmarks/speed.py            # inner step against autograd and torch.func, many inputs
    python benchmarks/speed.py --whole    # also both stages of the published settings

One thread, float32 by default. Alternatives are timed in turn (A B C, A B C, ...) and the median of
each is taken, so that a drift of the machine's speed hits all of them alike.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time
from collections.abc import Callable

import torch
from botorch.acquisition import PosteriorMean
from torch import Tensor
from torch.func import grad, vmap

from botorch_roma import RoMAModel, fit_roma_model, get_preset, optimize_acqf_roma
from botorch_roma.adaptation import Adaptation
from botorch_roma.closed_form import adapt_weights
from botorch_roma.network import ProxyNetwork, StackedWeights
from botorch_roma.perturbation import step_coefficients, step_lengths
from botorch_roma.reference import reference_adapt, reference_forward

B = 128
LOOP = 8  # candidates that the autograd loop is timed on; it handles one at a time
OPTIONS = {"radius": 0.02, "alpha": 1.0, "loss": "squared_error"}


def vmap_adapt(
    weights: StackedWeights, Z: Tensor, pseudo_label: Tensor, num_steps: int, network: ProxyNetwork
) -> list[Tensor]:
    """The adaptation of a stack with torch.func: vmap over candidates of grad of grad."""

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
        gradients = batched(tensors, Z[:, 0], pseudo_label[:, 0])
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients])
        coefficients = step_coefficients(lengths, norms)
        for t, g, c in zip(tensors, gradients, coefficients, strict=True):
            t.sub_(g * c.view(-1, *[1] * (g.dim() - 1)))
    return tensors


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def in_turn(alternatives: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each alternative, run in turn, after one warm-up."""
    for function in alternatives.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(repeats):
        for name, function in alternatives.items():
            times[name].append(seconds(function))
    return {name: statistics.median(t) for name, t in times.items()}


def inner_step(width: int, d: int, dtype: torch.dtype, repeats: int) -> None:
    """One inner step of all candidates: closed form, torch.func, per-candidate autograd."""
    network = ProxyNetwork(d, (width, width)).to(dtype)
    single = network.weights.map(Tensor.detach)
    stack = single.map(lambda t: t.repeat_interleave(B, dim=0))
    Z, y = torch.randn(B, 1, d, dtype=dtype), torch.zeros(B, 1, dtype=dtype)
    steps = 100 if width <= 64 else 20
    kwargs = {**OPTIONS, "activation": network.activation}
    loop = single.map(lambda t: t[0])
    times = in_turn(
        {
            "closed form": lambda: adapt_weights(stack, Z, y, num_steps=steps, **kwargs),
            "shared weights": lambda: adapt_weights(
                single, Z.reshape(1, B, d), y.mT, num_steps=steps, **kwargs
            ),
            "vmap(grad)": lambda: vmap_adapt(stack, Z, y, steps, network),
            "autograd loop": lambda: [
                reference_adapt(loop, z, label, num_steps=steps, **kwargs)
                for z, label in zip(Z[:LOOP], y[:LOOP], strict=True)
            ],
        },
        repeats,
    )
    per_step = {name: t / steps for name, t in times.items()}
    per_step["autograd loop"] *= B / LOOP
    base = per_step["closed form"]
    print(f"\n{steps} inner steps, d = {d}, width {width}, B = {B}, {dtype}; time of one")
    for name, t in per_step.items():
        print(f"  {name:16s} {1e3 * t:9.3f} ms   {t / base:7.2f} x closed form")


def many_inputs(dtype: torch.dtype, repeats: int) -> None:
    """The reduced first layer: one adaptation of 100 steps at growing d."""
    alternatives: dict[str, Callable[[], object]] = {}
    for d in (64, 512, 5126):
        X = torch.randn(16, d, dtype=dtype)
        model = RoMAModel(X, X[:, :1])
        model.fitted.fill_(True)
        adaptation = Adaptation(model, num_steps=100)
        Z, y = torch.randn(B, d, dtype=dtype), torch.zeros(1, B, dtype=dtype)
        alternatives[f"d = {d}"] = lambda a=adaptation, Z=Z, y=y: a(Z, y)
    times = in_turn(alternatives, repeats)
    base = times["d = 64"]
    print(
        f"\nadaptation of 100 steps, width 64, B = {B}, {dtype} (reduced first layer where d > h)"
    )
    for name, t in times.items():
        print(f"  {name:10s} {10 * t:9.3f} ms a step   {t / base:6.2f} x d = 64")


def whole_run(dtype: torch.dtype) -> None:
    """Both stages at the size of Superconductor (17,010 rows, 86 inputs) with each preset."""
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(17_010, 86, generator=generator, dtype=dtype)
    Y = (X @ torch.randn(86, 1, generator=generator, dtype=dtype)).sin()
    bounds = torch.tensor([[0.0], [1.0]], dtype=dtype).expand(2, 86)
    print(f"\nwhole run, n = 17,010, d = 86, B = {B}, {dtype}")
    for name in ("default", "author_code", "paper"):
        preset = get_preset(name, "superconductor")
        model = RoMAModel(X, Y, **preset.model)
        fit = seconds(lambda m=model, p=preset: fit_roma_model(m, seed=0, **p.fit))
        acq = PosteriorMean(model)
        opt = seconds(lambda a=acq, p=preset: optimize_acqf_roma(a, bounds, B, **p.optimize))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"  {name:12s} stage 1 {fit:7.1f} s   stage 2 {opt:7.1f} s   "
            f"peak memory so far {peak:.2f} GiB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--whole", action="store_true", help="also time both stages")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--double", action="store_true", help="float64 instead of float32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = torch.double if arguments.double else torch.float
    print(f"torch {torch.__version__}, {platform.machine()}, one thread")
    inner_step(64, 60, dtype, arguments.repeats)
    inner_step(256, 60, dtype, max(3, arguments.repeats // 2))
    many_inputs(dtype, arguments.repeats)
    if arguments.whole:
        whole_run(dtype)


if __name__ == "__main__":
    main()

r"""
RoMA in Ax's own benchmark suite: an offline start, then batches without feedback.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from ax.adapter.registry import Generators
from ax.benchmark.benchmark_method import BenchmarkMethod
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import MinTrials

from botorch_roma.ax.generation_strategy import roma_generation_strategy
from botorch_roma.validation import check_choice, check_int

Comparison = Literal["roma", "gp", "sobol"]

#: Options of ``roma_generation_strategy`` that concern what comes beside or after RoMA.
NOT_OF_ROMA: tuple[str, ...] = ("variant", "min_results", "max_gp_rows", "name")


def offline_benchmark_method(
    method: Comparison = "roma",
    *,
    num_offline_trials: int,
    batch_size: int = 16,
    seed: int = 0,
    **options: Any,
) -> BenchmarkMethod:
    r"""A method for ``ax.benchmark.benchmark.benchmark_replication`` with an offline start.

    The first ``num_offline_trials`` batches are Sobol designs, the same for all methods under the
    same seed: the table. All later batches come from the method.

    Args:
        method: ``"roma"``, ``"gp"`` (Ax's default GP method, on all data) or ``"sobol"``.
        num_offline_trials: Number of batches that play the offline data.
        batch_size: Arms of a batch.
        seed: Seed of the Sobol designs and of RoMA.
        options: For :func:`~botorch_roma.ax.roma_generation_strategy`, but for those of what
            comes beside RoMA: ``variant``, ``min_results``, ``max_gp_rows`` and ``name``.

    Raises:
        ValueError: For an unknown method, numbers that are too small, or options that do not
            apply.

    Example:
        >>> from ax.benchmark.benchmark import benchmark_replication
        >>> from ax.benchmark.problems.registry import get_benchmark_problem
        >>> problem = get_benchmark_problem("hartmann6", num_trials=4)
        >>> method = offline_benchmark_method(num_offline_trials=3)
        >>> benchmark_replication(problem, method, seed=0).optimization_trace
    """
    check_choice("method", method, get_args(Comparison))
    check_int("num_offline_trials", num_offline_trials, minimum=1)
    check_int("batch_size", batch_size, minimum=1)
    check_int("seed", seed, minimum=0)
    if refused := sorted(options.keys() & set(NOT_OF_ROMA)):
        raise ValueError(
            f"`options` has {refused}, which do not apply: all batches after the offline ones come "
            "from `method`; leave them out."
        )
    if options and method != "roma":
        raise ValueError(f"`options` apply to 'roma' only, received {sorted(options)}.")
    if method == "roma":
        node = roma_generation_strategy(seed=seed, **options)._nodes[0]
        (spec,), name = node.generator_specs, "RoMA"
    elif method == "gp":
        spec, name = GeneratorSpec(generator_enum=Generators.BOTORCH_MODULAR), "GP"
    else:
        spec = GeneratorSpec(
            generator_enum=Generators.SOBOL, generator_kwargs={"seed": seed + 1_000_003}
        )
        name = "Sobol"
    offline = GenerationNode(
        name="offline",
        generator_specs=[
            GeneratorSpec(generator_enum=Generators.SOBOL, generator_kwargs={"seed": seed})
        ],
        transition_criteria=[
            MinTrials(threshold=num_offline_trials, transition_to=name, use_all_trials_in_exp=True)
        ],
    )
    nodes = [offline, GenerationNode(name=name, generator_specs=[spec], fallback_specs={})]
    strategy = GenerationStrategy(nodes=nodes, name=f"offline, then {name}")
    return BenchmarkMethod(name=name, generation_strategy=strategy, batch_size=batch_size)

r"""
All methods of the benchmark by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from torch import Tensor

from botorch_roma.baselines import (
    ProxyOptions,
    VAEOptions,
    autofocused_cbas,
    bo_qei,
    cbas,
    cma_es,
    coms,
    gradient_ascent,
    mins,
    nemo,
)
from botorch_roma.benchmark.kinds import COMPONENTS, BaselineMethod, Family, Method, RoMAMethod
from botorch_roma.benchmark.trivial import TRIVIAL
from botorch_roma.validation import check_choice

#: The comparison methods' networks have two layers of 128 here, where 1,024 or 2,048 were
#: published, and are trained with at most this many minibatches: what two CPU cores can do. All
#: else is as published, unless said below.
WIDTHS: tuple[int, ...] = (128, 128)
MAX_BATCHES: int = 5_000

_ONE = ProxyOptions(hidden_sizes=WIDTHS, max_batches=MAX_BATCHES)
_FIVE = ProxyOptions(num_members=5, hidden_sizes=WIDTHS, max_batches=MAX_BATCHES)
_BOOTSTRAPPED = ProxyOptions(
    num_members=5, hidden_sizes=WIDTHS, epochs=100, max_batches=MAX_BATCHES, bootstrap=True
)
_SMOOTH = ProxyOptions(hidden_sizes=WIDTHS, activation="softplus", max_batches=MAX_BATCHES)
_VAE = VAEOptions(max_batches=MAX_BATCHES)


def _roma(
    name: str,
    label: str,
    method: RoMAMethod,
    group: str,
    family: Family = "roma",
    **options: Any,
) -> Method:
    return Method(
        name,
        label,
        method.run,
        method.settings,
        family,
        group,
        run_seeds=method.run_seeds,
        seed_bytes=method.seed_bytes,
        **options,
    )


def _baseline(name: str, label: str, function: Callable[..., Tensor], **options: Any) -> Method:
    method = BaselineMethod(function, options)
    return Method(name, label, method.run, method.settings, "baseline", name)


def _ablation(name: str, label: str, *components: str) -> Method:
    method = RoMAMethod("fast", components=components)
    return _roma(name, label, method, "ablation", "ablation")


_ALL = (
    *TRIVIAL,
    _baseline(
        "bo_qei",
        "BO-qEI",
        bo_qei,
        proxy=_BOOTSTRAPPED,
        num_rows=250,
        num_iterations=8,
        num_restarts=1,
        raw_samples=64,
        maxiter=30,
    ),
    _baseline("cma_es", "CMA-ES", cma_es, proxy=_FIVE, num_iterations=50),
    _baseline("cbas", "CbAS", cbas, proxy=_BOOTSTRAPPED, vae=_VAE),
    _baseline(
        "autofocused_cbas",
        "autofocused CbAS",
        autofocused_cbas,
        proxy=_BOOTSTRAPPED,
        vae=_VAE,
        focus_epochs=1,
    ),
    _baseline("mins", "MINs", mins, hidden_sizes=WIDTHS, max_batches=MAX_BATCHES),
    _baseline("gradient_ascent_single", "gradient ascent", gradient_ascent, proxy=_ONE),
    _baseline("gradient_ascent_mean", "gradient ascent, mean of 5", gradient_ascent, proxy=_FIVE),
    _baseline(
        "gradient_ascent_min",
        "gradient ascent, minimum of 5",
        gradient_ascent,
        proxy=_FIVE,
        aggregate="min",
    ),
    _baseline("nemo", "NEMO", nemo, proxy=_SMOOTH),
    _baseline("coms", "COMs", coms, hidden_sizes=WIDTHS, max_batches=MAX_BATCHES),
    _roma(
        "gradient_ascent",
        "gradient ascent, proxy of default",
        RoMAMethod("default", changes={"radius": 0.0}),
        "default",
    ),
    _roma(
        "fast_gradient_ascent",
        "gradient ascent, proxy of fast",
        RoMAMethod("fast", components=("noise", "weight_perturbation", "adam")),
        "fast",
    ),
    _roma("author_code", "RoMA, author_code", RoMAMethod("author_code"), "published"),
    _roma("paper", "RoMA, paper", RoMAMethod("paper"), "published"),
    _roma("fast", "RoMA, fast", RoMAMethod("fast"), "fast"),
    _roma("default", "RoMA, default", RoMAMethod("default"), "default"),
    _roma("selected", "RoMA, selected", RoMAMethod("selected"), "selected"),
    _roma(
        "fast_latent",
        "RoMA, fast, latent space",
        RoMAMethod("fast", encoding="latent"),
        "fast_latent",
        discrete=True,
    ),
    _ablation("only_none", "none of the components"),
    *(
        _ablation(f"only_{c}", f"{c.replace('_', ' ').replace('adam', 'Adam')} alone", c)
        for c in COMPONENTS
    ),
)

#: All methods by name, in the order of the tables.
METHODS: dict[str, Method] = {m.name: m for m in _ALL}

#: What is run where nothing else is asked for.
DEFAULT_FAMILIES: tuple[Family, ...] = ("trivial", "roma")


def get_methods(names: list[str] | None = None, *, discrete: bool = True) -> list[Method]:
    """Methods by name or family, in the order of the tables.

    Args:
        names: Names of methods, of families (``"trivial"``, ``"roma"``, ``"baseline"``,
            ``"ablation"``), or ``"all"``; by default the families trivial and roma.
        discrete: Whether the task holds token sequences, or else methods for these are left out.

    Raises:
        ValueError: For an unknown name, and one that is named but does not apply.
    """
    families = get_args(Family)
    names = list(DEFAULT_FAMILIES if names is None else names)
    for name in names:
        check_choice("methods", name, [*METHODS, *families, "all"])
        if name in METHODS and METHODS[name].discrete and not discrete:
            raise ValueError(
                f"`methods` holds {name!r}, which is for token sequences; the task has vectors."
            )
    chosen = [m for m in _ALL if {m.name, m.family, "all"} & set(names)]
    return [m for m in chosen if discrete or not m.discrete]

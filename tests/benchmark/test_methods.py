from __future__ import annotations

import inspect
from typing import get_args

import pytest

from botorch_roma import OfflineTask
from botorch_roma.benchmark.kinds import BaselineMethod, Family
from botorch_roma.benchmark.methods import METHODS, get_methods

TRIVIAL = ["random", "start", "start_noise_0.2", "start_noise_1"]
ROMA = [
    "gradient_ascent",
    "fast_gradient_ascent",
    "author_code",
    "paper",
    "fast",
    "default",
    "selected",
    "fast_latent",
]
BASELINES = [
    "bo_qei",
    "cma_es",
    "cbas",
    "autofocused_cbas",
    "mins",
    "gradient_ascent_single",
    "gradient_ascent_mean",
    "gradient_ascent_min",
    "nemo",
    "coms",
]
ABLATION = [
    "only_none",
    "only_noise",
    "only_weight_perturbation",
    "only_adaptation",
    "only_cap",
    "only_adam",
]


def names(*chosen: str, discrete: bool = True) -> list[str]:
    return [m.name for m in get_methods([*chosen] or None, discrete=discrete)]


def test_names_and_order() -> None:
    assert list(METHODS) == TRIVIAL + BASELINES + ROMA + ABLATION
    assert names() == TRIVIAL + ROMA
    assert names("all") == list(METHODS)
    assert names("paper", "random") == ["random", "paper"]
    assert len({m.label for m in METHODS.values()}) == len(METHODS)
    with pytest.raises(ValueError, match=r"`methods` must be one of .* received 'bo'"):
        get_methods(["random", "bo"])


@pytest.mark.parametrize(
    ("family", "members"),
    [("trivial", TRIVIAL), ("baseline", BASELINES), ("roma", ROMA), ("ablation", ABLATION)],
)
def test_families(family: str, members: list[str]) -> None:
    assert names(family) == members
    assert names(family, "random") == (members if family == "trivial" else ["random", *members])
    assert family in get_args(Family)


def test_methods_for_tokens_are_left_out_for_vectors() -> None:
    assert names(discrete=False) == TRIVIAL + ROMA[:-1]
    assert names("all", discrete=False) == [m for m in METHODS if m != "fast_latent"]
    with pytest.raises(ValueError, match=r"'fast_latent', which is for token sequences"):
        get_methods(["fast_latent"], discrete=False)


@pytest.mark.parametrize("name", BASELINES)
def test_options_of_the_baselines(task: OfflineTask, name: str) -> None:
    """Their functions take the options that stand here, and no two rows are the same."""
    method = METHODS[name].run.__self__  # type: ignore[union-attr]
    assert isinstance(method, BaselineMethod)
    assert set(method.options) <= set(inspect.signature(method.function).parameters)
    others = [METHODS[n] for n in BASELINES if n != name]
    same = [m for m in others if m.run.__self__.function is method.function]  # type: ignore[union-attr]
    assert all(m.settings(task) != METHODS[name].settings(task) for m in same)


@pytest.mark.parametrize("name", ABLATION)
def test_ablation_has_one_component_at_most(name: str) -> None:
    method = METHODS[name].run.__self__  # type: ignore[union-attr]
    assert method.components == (() if name == "only_none" else (name.removeprefix("only_"),))

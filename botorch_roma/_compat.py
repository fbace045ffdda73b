"""The one place for uses of private names of torch and BoTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor
from torch.nn import Module

M = TypeVar("M", bound=Module)


def outcome_constraints(acq_function: Module) -> Sequence[Callable[[Tensor], Tensor]]:
    """Constraints of a Monte Carlo acquisition function: samples to values, feasible at <= 0."""
    return getattr(acq_function, "_constraints", None) or ()


def replace_modules(root: M, replacements: Mapping[Any, Module]) -> M:
    """A copy of a module tree in which some modules are replaced by others.

    Modules on the way to a replaced one are copied shallowly (their tensors are shared), all
    others are shared, so that the original tree stays as it is.

    Args:
        root: For instance an acquisition function.
        replacements: Old module to new module, compared by identity.
    """
    if root in replacements:
        return replacements[root]  # type: ignore[return-value]
    children = {
        name: replace_modules(child, replacements) if child is not None else None
        for name, child in root._modules.items()
    }
    if all(children[name] is child for name, child in root._modules.items()):
        return root
    new = copy.copy(root)
    new.__dict__["_modules"] = children
    for name in ("_parameters", "_buffers"):  # a cast of the copy is no cast of the original
        new.__dict__[name] = dict(root.__dict__[name])
    return new

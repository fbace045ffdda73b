r"""
What a call was made with, in texts and small tensors: two calls can be compared by it later on.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from botorch_roma.chunks import chunks

#: The parts of some values by name.
Fingerprint = dict[str, str | Tensor]

#: Tensors of so many numbers are kept, and compared as numbers.
MAX_NUMBERS: int = 2**14

#: How far numbers may differ from others, relative and absolute: another processor rounds means and
#: products differently.
TOLERANCE: tuple[float, float] = (1e-5, 1e-8)

#: What is known by how it is written.
_PLAIN = str | bytes | int | float | complex | range | slice | type | np.generic | PurePath

#: What every module has.
_OF_ALL_MODULES = frozenset(vars(Module()))


def fingerprint(**values: Any) -> Fingerprint:
    r"""The parts of some values, each under a name that says where it is.

    Modules are what their state dict would hold, and their public attributes; functions their code,
    and the values that it uses; other objects their public attributes. Large tensors are known
    by a checksum.

    Args:
        values: Any, by name.

    Example:
        >>> fingerprint(epochs=3, bounds={"a": (0.0, 1.0)})
        {'epochs': '3', "bounds['a'][0]": '0.0', "bounds['a'][1]": '1.0'}
    """
    found: Fingerprint = {}
    for name, value in values.items():
        found.update(_parts(name, value, set()))
    return found


def digest(X: Tensor | None) -> str:
    r"""Kind, shape and checksum of a tensor, to the last bit; any rows ``n x ...``."""
    if X is None:
        return "None"
    checksum = hashlib.sha256()
    for chunk in chunks(X.detach().reshape(1) if X.dim() == 0 else X.detach()):
        checksum.update(chunk.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    shape = " x ".join(map(str, X.shape)) or "one number"
    return f"{str(X.dtype).removeprefix('torch.')}, {shape}, {checksum.hexdigest()[:16]}"


def differences(now: Fingerprint, before: Fingerprint) -> list[str]:
    """What differs between two fingerprints, each with its name and what it was."""
    return [
        f"`{name}` is {_shown(now, name)} and was {_shown(before, name)}"
        for name in [*now, *(n for n in before if n not in now)]
        if not _same(now.get(name), before.get(name))
    ]


def _shown(values: Fingerprint, name: str) -> str:
    value = values.get(name, "not there")
    return f"({digest(value)})" if isinstance(value, Tensor) else value


def _same(a: str | Tensor | None, b: str | Tensor | None) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return type(a) is type(b) and a == b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    relative, absolute = TOLERANCE if a.is_floating_point() else (0.0, 0.0)
    return torch.allclose(a, b, rtol=relative, atol=absolute, equal_nan=True)


def _parts(name: str, value: Any, seen: set[int]) -> Iterator[tuple[str, str | Tensor]]:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        small = value.numel() <= MAX_NUMBERS
        yield name, value.detach().cpu().clone() if small else digest(value)
        return
    if isinstance(value, _PLAIN | None):
        yield name, repr(value)
        return
    if id(value) in seen:  # within itself, or a module that several others have
        return
    seen.add(id(value))
    kind: str | None = None
    if isinstance(value, Mapping):
        inner = {f"{name}[{key!r}]": item for key, item in value.items()}
    elif isinstance(value, list | tuple):
        inner = {f"{name}[{i}]": item for i, item in enumerate(value)}
    elif isinstance(value, set | frozenset):
        inner = {f"{name}[{i}]": text for i, text in enumerate(sorted(map(repr, value)))}
    elif isinstance(value, torch.dtype | torch.device):
        inner = {name: str(value)}
    else:
        kind, parts = _object(value)
        inner = {f"{name}.{key}": item for key, item in parts.items()}
    if kind is None and not inner:
        kind = f"empty {type(value).__name__}"
    if kind is not None:
        yield name, kind
    for key, item in inner.items():
        yield from _parts(key, item, seen)
    if not isinstance(value, Module):
        seen.discard(id(value))


def _object(value: Any) -> tuple[str, dict[str, Any]]:
    """What kind of thing something is, and its parts by name."""
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, types.MethodType):
        return "method", {"__self__": value.__self__, "__func__": value.__func__}
    if isinstance(value, functools.partial):
        return "partial", {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, types.BuiltinFunctionType):
        return _named(value), {}
    if isinstance(value, Module):
        parts = _module(value)
    elif is_dataclass(value):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
    else:
        parts = {k: v for k, v in getattr(value, "__dict__", {}).items() if not k.startswith("_")}
    return _named(type(value)), parts


def _named(value: Callable[..., Any]) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _module(module: Module) -> dict[str, Any]:
    """The tensors, modules and attributes of a module, without those of no state dict."""
    tensors = {**module._parameters, **module._buffers}
    stored = {k: v for k, v in tensors.items() if k not in module._non_persistent_buffers_set}
    own = {k: v for k, v in vars(module).items() if k not in _OF_ALL_MODULES and k[0] != "_"}
    return {**own, **stored, **module._modules}


def _function(function: types.FunctionType) -> tuple[str, dict[str, Any]]:
    """The code of a function, without its place in a file, and the values that it uses."""
    code, known = function.__code__, function.__globals__
    checksum = hashlib.sha256(repr(_instructions(code)).encode()).hexdigest()[:16]
    used = {n: known[n] for n in code.co_names if isinstance(known.get(n), _PLAIN | Tensor)}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            used[name] = cell.cell_contents
        except ValueError:  # it has not been set yet
            used[name] = None
    for name in ("__defaults__", "__kwdefaults__"):
        if getattr(function, name):
            used[name] = getattr(function, name)
    return f"{_named(function)}, {checksum}", used


def _instructions(code: types.CodeType) -> tuple[Any, ...]:
    return code.co_code, code.co_names, code.co_varnames, [_constant(c) for c in code.co_consts]


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _instructions(value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)

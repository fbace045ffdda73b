r"""
Files of fitted models: written at once, checked before they are read, never executed.

A file is one line of text, ``botorch_roma weights <format> <version of the package> <SHA-256 of the
rest>``, and then names, numbers and tensors as ``torch.save`` writes them. They are read with
``weights_only=True``, which builds tensors, numbers and texts and nothing else.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from botorch.exceptions import InputDataError
from botorch.exceptions.errors import ModelFittingError
from torch import Tensor

from botorch_roma.files import write_atomically
from botorch_roma.models.roma import RoMAModel

#: Version of the files; it changes with their layout and with what is computed from the weights.
WEIGHTS_FORMAT: int = 1

_MAGIC = "botorch_roma weights "


def save_weights(model: RoMAModel, path: str | Path, *, force: bool = False) -> None:
    r"""Write the weights of a fitted model to a file, completely or not at all.

    Kept are the networks, the calibration of the variance, the scales of the data, and what
    transforms have learned: not the data, and no code.

    Args:
        model: The fitted model.
        path: The file.
        force: Whether an existing file may be replaced.

    Raises:
        ModelFittingError: If the model has not been fitted.
        OSError: If the file exists already, or cannot be written.

    Example:
        >>> save_weights(model, "strength.weights")
        >>> model = RoMAModel(train_X, train_Y)  # as before
        >>> load_weights(model, "strength.weights")
    """
    if not model.is_fitted:
        raise ModelFittingError(
            "`model` has not been fitted, its weights are random; call `fit_roma_model(model)` "
            "before `save_weights`."
        )
    buffer = BytesIO()
    torch.save({"architecture": _architecture(model), "state": dict(model.state_dict())}, buffer)
    content = buffer.getvalue()
    checksum = hashlib.sha256(content).hexdigest()
    header = f"{_MAGIC}{WEIGHTS_FORMAT} {_package_version()} {checksum}\n".encode()
    write_atomically(Path(path), lambda p: p.write_bytes(header + content), force=force)


def load_weights(model: RoMAModel, path: str | Path) -> None:
    r"""Read the weights of a fitted model into one that was made in the same way.

    Args:
        model: A model of the same architecture and transforms; its rows may be others.
        path: A file of :func:`save_weights`.

    Raises:
        FileNotFoundError: If there is no such file.
        InputDataError: If it is damaged, no such file, or of another format; says which.
        ValueError: If its weights belong to another architecture; names what differs. The model is
            left as it was in all these cases.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}; check the name and the folder.")
    stored = _read(path, model.train_X.device)
    own, found = _architecture(model), stored["architecture"]
    for name, value in own.items():
        if found.get(name) != value:
            raise ValueError(
                f"`model` has {name}={value}, the weights in {str(path)!r} are of a model with "
                f"{name}={found.get(name)}; make it as the one that was saved."
            )
    state = model.state_dict()
    if _kinds(state) != _kinds(stored["state"]):
        differing = {str(k[0]) for k in _kinds(state) ^ _kinds(stored["state"])}
        raise ValueError(
            f"`model` and the weights in {str(path)!r} differ in {sorted(differing)[:5]}; make it "
            "as the one that was saved."
        )
    model.load_state_dict(stored["state"])


def _package_version() -> str:
    try:
        return version("botorch-roma")
    except PackageNotFoundError:  # run from its source, without being installed
        return "unknown"


def _architecture(model: RoMAModel) -> dict[str, Any]:
    network = model.network
    transforms = {
        name: type(getattr(model, name)).__name__ if hasattr(model, name) else None
        for name in ("input_transform", "outcome_transform")
    }
    return {
        "num_inputs": network.input_dim,
        "num_outputs": model.num_outputs,
        "hidden_sizes": list(network.hidden_sizes),
        "num_members": model.num_members,
        "activation": network.activation_name,
        "dtype": str(model.train_X.dtype),
        **transforms,
    }


def _kinds(state: dict[str, Tensor]) -> set[tuple[str, torch.Size, torch.dtype]]:
    return {(name, value.shape, value.dtype) for name, value in state.items()}


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """What the file holds, once its header and its checksum fit."""

    def refuse(reason: str) -> InputDataError:
        return InputDataError(f"The weights {str(path)!r} cannot be read: {reason}.")

    header, _, content = path.read_bytes().partition(b"\n")
    words = header.decode(errors="replace").removeprefix(_MAGIC).split()
    if not header.startswith(_MAGIC.encode()) or len(words) != 3:
        raise refuse("it is no file of `save_weights`; name another one")
    written, package, checksum = words
    if written != str(WEIGHTS_FORMAT):
        raise refuse(
            f"its format is {written}, of botorch_roma {package}, and {WEIGHTS_FORMAT} is read "
            "here; use that version, or fit the model again"
        )
    if hashlib.sha256(content).hexdigest() != checksum:
        raise refuse(
            f"its checksum does not fit its {len(content)} bytes, it is damaged; copy it again, or "
            "fit the model again"
        )
    try:
        stored = torch.load(BytesIO(content), map_location=device, weights_only=True)
        values = [v for v in stored["state"].values() if v.is_floating_point()]
        finite = all(bool(torch.isfinite(v).all()) for v in values)
        stored["architecture"].items()
    except Exception as error:  # a foreign pickle can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refuse(f"it holds no weights ({reason}); fit the model again") from error
    if not finite:
        raise refuse("its weights are not finite; fit the model again")
    return stored

r"""
Files of fitted models: written at once, checked before they are read, never executed.

:mod:`botorch_roma.sealed` says what they look like.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from botorch.exceptions.errors import ModelFittingError
from torch import Tensor

from botorch_roma.files import check_input, write_atomically
from botorch_roma.models.roma import RoMAModel, check_model
from botorch_roma.sealed import Kind, seal, unseal

#: The files; the number changes with their layout and with what is computed from the weights.
WEIGHTS = Kind("weights", 1, "`save_weights`", "fit the model again")


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
    check_model("model", model)
    if not model.is_fitted:
        raise ModelFittingError(
            "`model` has not been fitted, its weights are random; call `fit_roma_model(model)` "
            "before `save_weights`."
        )
    content = {"architecture": _architecture(model), "state": dict(model.state_dict())}
    data = seal(WEIGHTS, content)
    write_atomically(Path(path), lambda p: p.write_bytes(data), force=force)


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
    check_model("model", model)
    path = Path(path)
    check_input(path)
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
    """What the file holds, if that is an architecture and finite weights."""
    stored: dict[str, Any] = unseal(WEIGHTS, path, device)
    try:
        values = [v for v in stored["state"].values() if v.is_floating_point()]
        finite = all(bool(torch.isfinite(v).all()) for v in values)
        stored["architecture"].items()
    except Exception as error:  # it can hold anything
        reason = f"it holds no weights ({error!r}); {WEIGHTS.remedy}"
        raise WEIGHTS.refusal(path, reason) from error
    if not finite:
        raise WEIGHTS.refusal(path, f"its weights are not finite; {WEIGHTS.remedy}")
    return stored

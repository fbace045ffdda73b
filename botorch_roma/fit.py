r"""
Stage 1 of RoMA: robust pre-training of the proxy.

    min_theta max_{theta~ in B(theta)} E_(x, y)~D [ loss(f(x; theta~), y) ]      [Yu2021roma]_

Every minibatch is seen with Gaussian noise on the inputs. The inner maximisation takes normalised
ascent steps inside the ball, the outer step applies Adam to the unperturbed weights with the
gradient at the perturbed ones (adversarial weight perturbation, [Wu2020awp]_). All networks of a
model, that is all ensemble members and outputs, are trained in one batched computation.

References:

.. [Wu2020awp]
    D. Wu, S.-T. Xia, and Y. Wang. Adversarial Weight Perturbation Helps Robust Generalization.
    Advances in Neural Information Processing Systems 33, 2020.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from botorch.exceptions.errors import UnsupportedError

from botorch_roma.checkpoint import DEFAULT_INTERVAL, open_checkpoint
from botorch_roma.closed_form import FirstLayer, TrainingLoss
from botorch_roma.fingerprint import Fingerprint, digest, fingerprint
from botorch_roma.history import FitHistory
from botorch_roma.limits import check_memory
from botorch_roma.models.roma import RoMAModel, check_model
from botorch_roma.training import Keep, Training
from botorch_roma.validation import (
    check_choice,
    check_flag,
    check_float,
    check_int,
    check_seed,
)


def fit_roma_model(
    model: RoMAModel,
    *,
    loss: TrainingLoss = "nll",
    noise_std: float | None = 0.2,
    radius: float = 0.005,
    num_ascent_steps: int = 5,
    epochs: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    max_grad_norm: float = 1.0,
    num_validation: int | None = None,
    seed: int | None = None,
    keep: Keep = "last",
    warm_start: bool = False,
    first_layer: FirstLayer = "auto",
    conservatism: float = 0.0,
    timeout_sec: float | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_interval: float = DEFAULT_INTERVAL,
    progress: bool = False,
) -> FitHistory:
    r"""Train the networks of a model robustly, in place (stage 1 of [Yu2021roma]_).

    Afterwards the variance of the posterior is calibrated: the head variance is scaled so that,
    with the spread of the ensemble on top, the mean squared standardised residual on the held-out
    rows is 1. The settings are by default those of the preset ``"fast"``, see
    :func:`~botorch_roma.presets.get_preset`.

    Args:
        model: The model to train.
        loss: ``"nll"`` (Gaussian, the authors' code), ``"squared_error"`` (the paper), or
            ``"listnet"`` [Cao2007listnet]_: minibatches are ranked, and the predictions for the
            data (65,536 rows of it at most) get mean and deviation of the outcome afterwards.
            Predictions rank designs then; how far apart they are says little.
        noise_std: Standard deviation of the input noise in z-scored units; None for
            ``0.5 / sqrt(d)`` with ``d`` inputs of the network, noise of about the same length
            whatever ``d`` is.
        radius: Radius of the weight ball relative to each tensor's norm; 0 trains plainly.
        num_ascent_steps: Number ``K`` of normalised ascent steps that use up the radius.
        epochs: Passes over the data; by default as many as make about 5,000 minibatches, at
            least 20.
        batch_size: Rows in a minibatch.
        lr: Learning rate of Adam.
        max_grad_norm: The gradient of each tensor is clipped to this norm.
        num_validation: Held-out rows; by default a tenth of the data, at most 200.
        seed: Seed of initial weights, data order, noise and split; member ``e`` uses
            ``seed + e``. Drawn from torch's global generator by default.
        keep: ``"last"`` or ``"best"`` (lowest validation loss, network by network).
        warm_start: Start from the present weights instead of new ones.
        first_layer: How the weights of the first layer ascend: ``"dense"``, ``"reduced"`` to the
            span of the minibatch, or ``"auto"``: reduced where the inputs are more than twice as
            many as hidden units and rows together. The result is the same but for rounding.
        conservatism: Weight of a conservative penalty after [Trabucco2021coms]_, which is added to
            the loss: what the mean promises more at designs that a few steps up the network reach
            from the data than at the data, in standard deviations of the outcome. The steps lead
            to larger outcomes, of every output: where smaller ones are sought (a metric that Ax
            minimises; ``propose`` negates it) the penalty is on the wrong side. See
            :mod:`botorch_roma.conservative`; 0 leaves it out. The validation loss is without it.
        timeout_sec: Time budget in seconds. It ends before a minibatch that would not fit, but for
            the first, and the best state so far is kept.
        checkpoint: A file to save the training to as it goes on, and to go on from where it is
            there, see :mod:`botorch_roma.checkpoint`; none by default. The time budget is that of
            all runs together. Ctrl-C ends the training once it is saved.
        checkpoint_interval: Seconds from one save to the next.
        progress: Show a progress bar on standard error.

    Returns:
        The history of the training.

    Raises:
        ValueError: For options out of range; a checkpoint of another training, and one
            without ``seed``.
        InputDataError: If ``num_validation`` leaves fewer than two rows to train on; a damaged
            checkpoint.
        ModelFittingError: If the loss becomes non-finite; the model is left as it was.
        UnsupportedError: For ``"listnet"`` and a model with known noise variances, or
            ``conservatism``.

    Example:
        >>> history = fit_roma_model(model, epochs=50, seed=0)
        >>> history.rank_correlation[-1]
    """
    options = {name: value for name, value in locals().items() if name not in ("model", "seed")}
    check_model("model", model)
    if seed is None:
        if checkpoint is not None:
            raise ValueError(
                "`seed` must be given with `checkpoint`, received None: a training under a seed "
                "that is drawn is another one every time."
            )
        seed = int(torch.randint(2**31, ()).item())
    (history,) = _fit([model], [seed], **options)
    return history


def fit_roma_models(
    models: Sequence[RoMAModel], *, seeds: Sequence[int], **options: Any
) -> list[FitHistory]:
    r"""Train several models side by side, in place: one table under several seeds, say.

    Each is trained as :func:`fit_roma_model` would train it alone, up to rounding, in a fraction
    of the time.

    Args:
        models: Models of one architecture over as many rows and inputs each, on one device.
        seeds: One for each model.
        options: Of :func:`fit_roma_model`, for all models; a ``checkpoint`` holds all of them.

    Returns:
        One history for each model; the seconds are those of all.

    Raises:
        ValueError: For options out of range, models that differ in architecture or in the shape of
            their data, and a number of seeds that is not that of the models.
        TypeError: For an unknown option.
        InputDataError: If ``num_validation`` leaves fewer than two rows to train on.
        ModelFittingError: If a loss becomes non-finite; all models are left as they were.

    Example:
        >>> models = [RoMAModel(train_X, train_Y) for _ in range(8)]
        >>> histories = fit_roma_models(models, seeds=range(8))
    """
    for i, model in enumerate(models):
        check_model(f"models[{i}]", model)
    call = inspect.signature(fit_roma_model).bind(None, **options)
    call.apply_defaults()
    if "model" in options or "seed" in options:
        raise TypeError("`options` must not hold `model` or `seed`; use `models` and `seeds`.")
    if not models or len(seeds) != len(models):
        raise ValueError(
            "`seeds` must hold one seed for each of at least one model, received "
            f"{len(seeds)} for {len(models)} models."
        )
    kinds = {_kind(model) for model in models}
    if len(kinds) > 1:
        raise ValueError(
            "`models` must have the same networks, and data of the same shape, dtype and device, "
            f"received {sorted(map(str, kinds))}; fit them one by one."
        )
    settings = {k: v for k, v in call.arguments.items() if k not in ("model", "seed")}
    return _fit(models, seeds, **settings)


def _kind(model: RoMAModel) -> tuple[Any, ...]:
    """What has to be equal for two models to be trained side by side."""
    network, X = model.network, model.train_X
    sizes = (network.input_dim, *network.hidden_sizes, model.num_members, model.num_outputs)
    noisy = model.train_Yvar is not None
    return (X.shape[0], sizes, network.activation_name, noisy, str(X.dtype), str(X.device))


def check_fit_options(options: Mapping[str, Any]) -> None:
    r"""Check all options of :func:`fit_roma_model` that can be checked without a model.

    Args:
        options: Options by name; those left out have their defaults.

    Raises:
        TypeError: For an unknown one.
        ValueError: For one that is out of its range.
        UnsupportedError: For a penalty with a loss that it does not go with.
    """
    call = inspect.signature(fit_roma_model).bind(None, **options)
    call.apply_defaults()
    options = call.arguments
    for name, choices in (("loss", TrainingLoss), ("first_layer", FirstLayer), ("keep", Keep)):
        check_choice(name, options[name], get_args(choices))
    if options["noise_std"] is not None:
        check_float("noise_std", options["noise_std"])
    for name in ("radius", "conservatism"):
        check_float(name, options[name])
    if options["conservatism"] and options["loss"] == "listnet":
        raise UnsupportedError(
            f"`conservatism` is {options['conservatism']}, a penalty in standard deviations of the "
            "outcome, and `loss` is 'listnet', whose predictions have no scale while it trains; "
            "train with 'nll' or 'squared_error', or leave it at 0."
        )
    for name in ("lr", "max_grad_norm"):
        check_float(name, options[name], exclusive=True)
    check_int("num_ascent_steps", options["num_ascent_steps"], minimum=0)
    check_int("batch_size", options["batch_size"], minimum=1)
    if options["timeout_sec"] is not None:
        check_float("timeout_sec", options["timeout_sec"], exclusive=True, unit=" seconds")
    if options["epochs"] is not None:
        check_int("epochs", options["epochs"], minimum=1)
    check_flag("warm_start", options["warm_start"])
    check_flag("progress", options["progress"])


def _fit(
    models: Sequence[RoMAModel],
    seeds: Sequence[int],
    *,
    epochs: int | None,
    keep: Keep,
    timeout_sec: float | None,
    checkpoint: str | Path | None,
    checkpoint_interval: float,
    progress: bool,
    **options: Any,
) -> list[FitHistory]:
    """Check the options and train."""
    own = {"epochs": epochs, "keep": keep, "timeout_sec": timeout_sec, "progress": progress}
    check_fit_options({**own, **options})
    if options["noise_std"] is None:
        options["noise_std"] = NOISE_LENGTH / models[0].network.input_dim ** 0.5
    for seed in seeds:
        check_seed("seed", seed)
    _check_memory(models)
    device = models[0].train_X.device
    key = partial(_fingerprint, models, seeds, {"epochs": epochs, "keep": keep, **options})
    with open_checkpoint(checkpoint, checkpoint_interval, device, key) as file, torch.no_grad():
        training = Training(models, seeds, **options)
        histories = training.run(training.num_epochs(epochs), keep, timeout_sec, progress, file)
        training.write_back()
    return histories


def _fingerprint(
    models: Sequence[RoMAModel], seeds: Sequence[int], settings: Mapping[str, Any]
) -> Fingerprint:
    """All that the result of a training depends on."""
    found: Fingerprint = {}
    for i, (model, seed) in enumerate(zip(models, seeds, strict=True)):
        parts = fingerprint(
            train_X=digest(model.train_X),
            train_Y=digest(model.train_Y),
            train_Yvar=digest(model.train_Yvar),
            hidden_sizes=model.network.hidden_sizes,
            num_members=model.num_members,
            activation=model.network.activation_name,
            copy=model.copies_data,
            input_transform=getattr(model, "input_transform", None),
            outcome_transform=getattr(model, "outcome_transform", None),
            network=model.network if settings["warm_start"] else None,
            seed=seed,
        )
        found |= {f"models[{i}].{k}" if len(models) > 1 else k: v for k, v in parts.items()}
    return found | fingerprint(**settings)


#: Length of the input noise where it goes by the number of inputs, in their standard deviations.
NOISE_LENGTH: float = 0.5

#: Copies of the weights that training holds: they, perturbed ones, the best, gradient, two moments.
NUM_COPIES: int = 6


def _check_memory(models: Sequence[RoMAModel]) -> None:
    """Refuse to train more weights than fit into the memory."""
    weights = [t for model in models for t in model.network.tensors]
    check_memory(
        f"Training {sum(t.numel() for t in weights)} weights",
        NUM_COPIES * sum(t.numel() * t.element_size() for t in weights),
        "choose narrower `hidden_sizes` or fewer members",
        models[0].train_X.device,
    )

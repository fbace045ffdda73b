r"""
The one-call path: a table of measured designs in, designs worth measuring out.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataWarning
from torch import Tensor

from botorch_roma.checkpoint import DEFAULT_INTERVAL, CheckpointFolder
from botorch_roma.chunks import chunks
from botorch_roma.fit import fit_roma_model
from botorch_roma.inputs import (
    Bounds,
    check_encoding,
    fixed_inputs,
    input_bounds,
    make_encoding,
    rounding_func,
)
from botorch_roma.interrupt import finish_on_interrupt
from botorch_roma.latent import Encoding
from botorch_roma.models.roma import RoMAModel, check_copy
from botorch_roma.optim.distinct import pairwise_distance
from botorch_roma.optim.initializers import distance_unit, input_scale
from botorch_roma.optim.optimize import check_options, optimize_acqf_roma
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.presets import Preset, get_preset
from botorch_roma.proposal import Proposal
from botorch_roma.selection import HIDDEN_FRACTION, check_rest, select_options
from botorch_roma.table import Table, read_table
from botorch_roma.validation import (
    check_device,
    check_dtype,
    check_flag,
    check_float,
    check_int,
    check_mapping,
    check_seed,
    check_training_data,
)

if TYPE_CHECKING:
    import pandas as pd


#: Known designs, the closest by a rough measure, to which the distance is taken exactly.
NUM_CLOSE: int = 4

#: Names that ``fit_options`` and ``model_options`` may hold: those that `propose` does not give.
FIT_OPTIONS: set[str] = {*inspect.signature(fit_roma_model).parameters} - {"model"}
MODEL_OPTIONS: set[str] = {*inspect.signature(RoMAModel).parameters} - {
    "train_X",
    "train_Y",
    "input_transform",
}


def propose(
    train_X: Tensor | pd.DataFrame,
    train_Y: Tensor | str,
    bounds: Bounds | None = None,
    q: int = 128,
    *,
    sequences: Sequence[str] = (),
    categories: Sequence[str] = (),
    encoding: str | Encoding | None = None,
    encoding_options: Mapping[str, Any] | None = None,
    maximize: bool | None = None,
    minimize: bool | None = None,
    preset: str | Preset = "default",
    margin: float = 0.0,
    ignore: list[str] | None = None,
    fixed_features: Mapping[Any, Any] | None = None,
    fit_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    optimize_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    timeout_sec: float | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    record_trajectory: bool | Trajectory = False,
    checkpoint: str | Path | None = None,
    checkpoint_interval: float = DEFAULT_INTERVAL,
    keep_on_interrupt: bool = False,
    progress: bool = False,
) -> Proposal:
    r"""Propose ``q`` new designs from a table of measured ones, without a query.

    Trains a robust proxy (stage 1 of [Yu2021roma]_), then moves the best known designs uphill
    with a proxy adapted to each of them (stage 2).

    Args:
        train_X: Designs ``n x d``, or a data frame that holds designs and outcome.
        train_Y: Outcomes ``n x 1`` (or ``n``), or the name of the outcome's column. Integer
            columns are proposed as integers, columns of texts that repeat as categories.
        bounds: ``2 x d`` tensor, or for a data frame ``{column: (lower, upper)}``. Without an
            entry the range of the data, widened by ``margin``.
        q: Number of designs to propose.
        sequences: Columns of the data frame that hold sequences of characters, of equal length
            or not.
        categories: Columns of the data frame that hold categories although they are numbers, or
            have more values than texts are allowed that nothing is said of.
        encoding: What sequences are for the proxy: ``"one_hot"``, ``"logits"``, or ``"latent"`` (a
            :class:`~botorch_roma.latent.LatentSpace` is trained first); that of the preset by
            default. For tensors of tokens an :class:`~botorch_roma.latent.Encoding`.
        encoding_options: Over the preset's, for
            :meth:`LatentSpace.fit <botorch_roma.latent.LatentSpace.fit>`.
        maximize: Whether larger outcomes are better; True by default.
        minimize: The opposite of ``maximize``, for convenience.
        preset: ``"default"``, ``"fast"`` (one small network in place of five larger ones),
            ``"selected"``, ``"paper"``, ``"author_code"`` or a
            :class:`~botorch_roma.presets.Preset`. With one that selects, ``optimize_options`` go
            over what is selected.
        margin: Fraction of the range of the data added to bounds on either side.
        ignore: Columns of the data frame that are no designs (identifiers, remarks).
        fixed_features: Inputs to hold fixed: index (or column name) to value (or category).
        fit_options: Further arguments of :func:`~botorch_roma.fit.fit_roma_model`.
        model_options: Further arguments of :class:`~botorch_roma.models.RoMAModel`.
        optimize_options: Further arguments of
            :func:`~botorch_roma.optim.optimize_acqf_roma`, constraints for instance.
        seed: Seed of both stages.
        timeout_sec: Time budget in seconds; at most half of it goes to stage 1, and half of that
            to latent spaces. A selection takes half of what stage 1 leaves. Minibatches and
            updates that would not fit are left out, but for the first minibatch.
        device: Where to compute; that of ``train_X`` by default, the CPU for a data frame.
        dtype: Precision; that of ``train_X`` by default, double for a data frame.
        record_trajectory: Record stage 2; an empty
            :class:`~botorch_roma.optim.trajectory.Trajectory` is filled.
        checkpoint: A folder to save latent spaces, stage 1, the selection and stage 2 to as they go
            on, and to go on from, see :mod:`botorch_roma.checkpoint`; none by default. What is
            finished is not computed again. The time budget is that of all runs together.
        checkpoint_interval: Seconds from one save to the next.
        keep_on_interrupt: Whether Ctrl-C in stage 2 ends it, with a warning, and the candidates
            reached by then are returned; a second one, and one before, raises
            ``KeyboardInterrupt`` as ever.
        progress: Show progress bars on standard error.

    Returns:
        The proposal, with :meth:`Proposal.to_frame`.

    Raises:
        InputDataError: Missing columns or values, constant outcome, too few rows, texts that
            are neither categories nor ``sequences``.
        ModelFittingError: If a latent space loses the start designs.
        ValueError: Bounds, ``q`` or options out of range; checkpoints of another run.
        UnsupportedError: Options of stage 2 that are unknown or do not apply.

    Example:
        >>> proposal = propose(pd.read_csv("designs.csv"), "strength", q=128)
        >>> proposal.to_frame().to_csv("candidates.csv", index=False)
        >>> proposal = propose(pd.read_csv("dna.csv"), "binding", sequences=["site"])
    """
    sign = _direction(maximize, minimize)
    check_int("q", q, minimum=1)
    check_seed("seed", seed)
    check_float("margin", margin)
    if timeout_sec is not None:
        check_float("timeout_sec", timeout_sec, exclusive=True, unit=" seconds")
    check_device("device", device)
    check_dtype("dtype", dtype)
    check_flag("keep_on_interrupt", keep_on_interrupt)
    check_flag("progress", progress)
    if not isinstance(record_trajectory, bool | Trajectory):
        raise ValueError(
            f"`record_trajectory` must be True, False or a new Trajectory(), received "
            f"{record_trajectory!r}."
        )
    _check_options(fit_options, model_options, optimize_options, encoding_options)
    if "fixed_features" in (optimize_options or {}):
        raise ValueError(
            "`optimize_options` must not hold `fixed_features`, received "
            f"{(optimize_options or {})['fixed_features']!r}; pass it to `propose` itself."
        )
    for name, given in (("fit_options", fit_options), ("optimize_options", optimize_options)):
        if "checkpoint" in (given or {}):
            raise ValueError(
                f"`{name}` must not hold `checkpoint`, received {(given or {})['checkpoint']!r}; "
                "pass it to `propose` itself."
            )
    start = time.monotonic()
    if isinstance(train_X, Tensor) and (model_options or {}).get("copy", True):
        check_copy(train_X)  # reading so much, to look for NaN, would take minutes
    table = read_table(
        train_X,
        train_Y,
        ignore=ignore,
        sequences=sequences,
        categories=categories,
        device=device,
        dtype=dtype,
    )
    check_training_data(table.X, table.Y)
    num_sequences = sum(c.kind == "sequence" for c in table.parts)
    if isinstance(preset, str):
        preset = get_preset(preset, discrete=num_sequences > 0, num_rows=table.X.shape[0])
    check_encoding(table, encoding or preset.encoding, encoding, encoding_options)
    fixed = fixed_inputs(table, fixed_features, encoding)
    box = input_bounds(table, bounds, margin, fixed, encoding)
    rounding = rounding_func(table, box)
    model_settings = {**preset.model, **(model_options or {})}
    stage_two = {**preset.optimize, **(optimize_options or {})}
    # refused now, not after hours of training
    check_options(
        box,
        q,
        stage_two,
        model_settings.get("num_members", 1),
        encoded=table.has_tokens or isinstance(encoding, Encoding),
    )
    _check_number(q, table, box, fixed, stage_two)
    select = preset.check_select()
    if select is not None:
        check_rest(sign * table.Y, q, select.get("hidden_fraction", HIDDEN_FRACTION))
    checkpoints = CheckpointFolder(checkpoint, checkpoint_interval)
    earlier = {s: checkpoints.seconds(s) for s in ("latent", "stage-1", "selection")}
    checkpoints.seconds("stage-2")  # a damaged file is named now, not after stage 1
    encoding = make_encoding(
        table,
        box,
        encoding or preset.encoding,
        {
            "seed": seed,
            "timeout_sec": timeout_sec and timeout_sec / (4 * max(1, num_sequences)),
            "progress": progress,
            **preset.latent,
            **(encoding_options or {}),
        },
        checkpoints,
    )
    with warnings.catch_warnings():
        # constant columns have been reported by `fixed_inputs`
        warnings.filterwarnings("ignore", "`train_X` is constant", InputDataWarning)
        model = RoMAModel(
            table.X,
            sign * table.Y,
            encoding,
            **{"seed": seed, **model_settings},
        )

    def left(share: float, *before: str) -> float | None:
        """What is left of a share of the budget; ``before`` are the stages that are finished."""
        if timeout_sec is None:
            return None
        spent = time.monotonic() - start + sum(earlier[stage] for stage in before)
        return max(share * timeout_sec - spent, 1e-3)

    fit = {"seed": seed, "timeout_sec": left(0.5, "latent"), "progress": progress}
    fit_settings = {**preset.fit, **(fit_options or {})}
    history = fit_roma_model(model, **{**fit, **fit_settings, **checkpoints.stage("stage-1")})
    own = {"fixed_features": fixed, "post_processing_func": rounding}
    optimize = {**own, **stage_two}
    selection = None
    if select is not None:
        selection = select_options(
            model,
            box,
            q,
            fit_options=fit_settings,
            optimize_options=optimize,
            timeout_sec=left(0.75, "latent", "stage-1"),
            checkpoint=checkpoint,
            checkpoint_interval=checkpoint_interval,
            progress=progress,
            **select,
        )
        optimize |= {**selection.options, **(optimize_options or {})}
    trajectory: Trajectory | None = None
    if isinstance(record_trajectory, Trajectory):
        trajectory = record_trajectory
    elif record_trajectory:
        trajectory = Trajectory()
    run = {
        "timeout_sec": left(1.0, *earlier),
        "trajectory": trajectory,
        "progress": progress,
        **optimize,
        **checkpoints.stage("stage-2"),
    }
    with finish_on_interrupt() if keep_on_interrupt else nullcontext():
        candidates, values = optimize_acqf_roma(PosteriorMean(model), box, q, **run)
    assert values is not None  # return_acq_values is True
    order = values.argsort(descending=True)
    candidates, values = candidates[order], values[order]
    with torch.no_grad():
        posterior: Any = model.posterior(candidates.unsqueeze(1))
        std = posterior.variance.sqrt().flatten()
    return Proposal(
        candidates=candidates,
        mean=sign * values,
        std=std,
        distance=nearest_distance(candidates, model),
        spacing=nearest_other(candidates, model),
        model=model,
        history=history,
        trajectory=trajectory,
        table=table,
        fixed_features=fixed,
        bounds=box,
        encoding=encoding,
        selection=selection,
        minimize=sign < 0,
        seed=seed,
        preset=preset.name,
        settings={
            "model": model_settings,
            "fit": fit_settings,
            "optimize": {name: optimize[name] for name in optimize if name not in own},
        },
        seconds=time.monotonic() - start,
    )


def nearest_distance(X: Tensor, model: RoMAModel) -> Tensor:
    r"""Distance of ``n x d`` designs to the nearest training design, ``n``.

    Root mean square over the inputs that vary, in standard deviations of the data.
    """
    if hasattr(model, "input_transform"):
        X, model = model.transform_inputs(X), model.encoded()
    scale = input_scale(model)
    varies = scale > 0
    scale, origin = scale[varies], model.train_X[0, varies]
    designs = (X[:, varies] - origin) / scale
    unit = _far_unit(designs)
    designs = designs / unit
    nearest = torch.full_like(X[:, 0], torch.inf)
    for chunk in chunks(model.train_X):
        known = (chunk[:, varies] - origin) / scale / unit
        # products of matrices are fast, but cancel: they choose, differences measure
        rough = torch.cdist(designs, known, compute_mode="use_mm_for_euclid_dist")
        close = rough.topk(min(NUM_CLOSE, len(known)), dim=1, largest=False).indices
        for column in close.T:
            exact = torch.linalg.vector_norm(designs - known[column], dim=1)
            nearest = torch.minimum(nearest, exact)
    return unit * nearest / max(float(varies.sum()), 1.0) ** 0.5


def nearest_other(X: Tensor, model: RoMAModel) -> Tensor:
    r"""Distance of each of ``n x d`` designs to the nearest other one, ``n``; measured likewise."""
    if hasattr(model, "input_transform"):
        X, model = model.transform_inputs(X), model.encoded()
    varies, scale = distance_unit(model)
    points = X[:, varies] / scale
    unit = _far_unit(points)
    points = points / unit
    distance = pairwise_distance(points, points)
    return unit * distance.fill_diagonal_(torch.inf).amin(dim=1)


def _far_unit(points: Tensor) -> float:
    """What ``n x d`` points are divided by before squares are taken, which must not overflow."""
    largest = float(points.abs().max()) if points.numel() else 0.0
    most = torch.finfo(points.dtype).max
    return min(largest, most) if largest > most**0.25 else 1.0


def _check_options(fit: Any, model: Any, optimize: Any, encoding: Any) -> None:
    """Refuse options that are none, and names that nobody knows."""
    check_mapping("fit_options", fit, FIT_OPTIONS)
    check_mapping("model_options", model, MODEL_OPTIONS)
    check_mapping("optimize_options", optimize)  # its names are known to `check_options`
    check_mapping("encoding_options", encoding)


def _check_number(
    q: int, table: Table, box: Tensor, fixed: Mapping[int, float], options: Mapping[str, Any]
) -> None:
    """Refuse more designs than can be started from: before stage 1, not after it."""
    n, num_restarts = table.X.shape[0], options.get("num_restarts", 1)
    if {"batch_initial_conditions", "ic_generator", "raw_samples"} & options.keys():
        return
    need = q * check_int("num_restarts", num_restarts, minimum=1)
    what = f"`q` is {q}" if num_restarts == 1 else f"`q` times `num_restarts` is {need}"
    remedy = "reduce it, or pass `raw_samples` in `optimize_options`."
    if need > n:
        raise ValueError(
            f"{what}, but there are only the {n} designs of the data to start from; {remedy}"
        )
    if any(name.endswith("_constraints") for name in options):
        return  # they move designs, and only stage 2 knows where to
    found = _count_distinct(table.X, need, box, fixed)
    if found < need:
        raise ValueError(
            f"{what}, but of the {n} designs of the data only {found} differ within the bounds "
            f"and with what is fixed; {remedy}"
        )


def _count_distinct(X: Tensor, enough: int, box: Tensor, fixed: Mapping[int, float]) -> int:
    """How many of the designs ``n x d`` differ once they are allowed; at most ``enough``."""
    own = [i for i in fixed if 0 <= i < X.shape[1]]
    seen: set[bytes] = set()
    for chunk in chunks(X):
        allowed = torch.maximum(torch.minimum(chunk, box[1]), box[0])
        allowed[:, own] = 0.0
        for row in allowed.add_(0.0).cpu().numpy():  # one zero of both
            seen.add(row.tobytes())
            if len(seen) == enough:
                return enough
    return len(seen)


def _direction(maximize: bool | None, minimize: bool | None) -> float:
    if maximize is not None and minimize is not None and maximize == minimize:
        raise ValueError(
            f"`maximize` and `minimize` contradict each other, received {maximize} and {minimize}; "
            "leave one of them out."
        )
    return -1.0 if minimize or maximize is False else 1.0

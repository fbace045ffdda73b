r"""
Settings of both stages and how far to go, without a query: the shift is simulated one level down.

    1. hide the best fifth of the measured designs,
    2. fit a proxy to the rest and optimise from the best of that, with each setting in question,
    3. let the ensemble that has seen everything judge the batch along its way: the mean of its
       members less twice their spread, and the truth for designs that were hidden,
    4. take the setting that it likes best, and go as far as brings most of the gain.

What lies beyond the best measured designs nobody knows; what lies beyond the best of the rest is in
the data.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataError, InputDataWarning
from botorch.exceptions.errors import ModelFittingError, UnsupportedError
from torch import Tensor

from botorch_roma.checkpoint import (
    DEFAULT_INTERVAL,
    Checkpoint,
    CheckpointFolder,
    open_checkpoint,
)
from botorch_roma.chunks import column_std
from botorch_roma.fit import check_fit_options, fit_roma_model
from botorch_roma.latent.encoding import Encoding
from botorch_roma.models.roma import RoMAModel, check_model
from botorch_roma.optim.initializers import distinct_keys
from botorch_roma.optim.optimize import check_options, prepare_search
from botorch_roma.optim.options import RoMAOptions
from botorch_roma.optim.search import Search
from botorch_roma.validation import check_float, check_seed

if TYPE_CHECKING:
    import pandas as pd

#: Share of the measured designs that is hidden, the best ones.
HIDDEN_FRACTION: float = 0.2

#: Standard deviations over the members of the ensemble that the judge takes off.
CAUTION: float = 2.0

#: The way ends where this share of the best gain is reached.
GAIN_SHARE: float = 0.95

#: Between the seed of the judge and that of the fit to the rest: the two must not start alike.
SEED_OFFSET: int = 10_007

_ONE_FOR_ALL: str = "is one for all settings; pass it to `select_options`"
_OF_ALL: dict[str, str] = dict.fromkeys(
    ("checkpoint", "checkpoint_interval", "timeout_sec", "progress"), _ONE_FOR_ALL
)

#: What makes no setting of a stage, and why.
_NOT_IN_QUESTION: dict[str, dict[str, str]] = {
    "settings": {
        **_OF_ALL,
        "min_distance": "makes no difference to the judge; pass it in `optimize_options`",
    },
    "fit_settings": {
        **_OF_ALL,
        "seed": _ONE_FOR_ALL,
        "warm_start": "would go on from the weights of the judge, and is judged without; leave it "
        "out",
    },
}


@dataclass(frozen=True)
class Judgement:
    r"""What the judge says about one batch.

    Attributes:
        setting: Place of the setting among those in question.
        num_updates: Updates that the batch is the result of.
        local_search_rounds: Rounds of local search after them.
        score: Median of what the judge gives for the batch, on the standardised outcome.
        fit_setting: Place of the proxy's setting of stage 1 among those in question.
    """

    setting: int
    num_updates: int
    local_search_rounds: int
    score: float
    fit_setting: int = 0


@dataclass(frozen=True)
class Selection:
    r"""What :func:`select_options` returns.

    Attributes:
        options: The options chosen, for :func:`~botorch_roma.optim.optimize_acqf_roma`: those of
            the setting, ``num_updates`` and ``local_search_rounds``.
        score: What the judge gives for them, on the standardised outcome.
        start_score: What it gives for the designs that the simulation starts from.
        judgements: All that was judged, in the order of the way.
        seconds: What the selection cost.
        fit_options: The entry of ``fit_settings`` chosen, for
            :func:`~botorch_roma.fit.fit_roma_model`; empty where none was in question.
    """

    options: dict[str, Any]
    score: float
    start_score: float
    judgements: list[Judgement]
    seconds: float
    fit_options: dict[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """All judgements as a data frame."""
        import pandas as pd

        return pd.DataFrame([vars(j) for j in self.judgements])


def select_options(
    model: RoMAModel,
    bounds: Tensor,
    q: int = 128,
    settings: Sequence[Mapping[str, Any]] = ({},),
    *,
    fit_settings: Sequence[Mapping[str, Any]] | None = None,
    hidden_fraction: float = HIDDEN_FRACTION,
    seed: int | None = None,
    fit_options: Mapping[str, Any] | None = None,
    optimize_options: Mapping[str, Any] | None = None,
    timeout_sec: float | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_interval: float = DEFAULT_INTERVAL,
    progress: bool = False,
) -> Selection:
    r"""Choose options of stage 2, and of stage 1 if asked, for a fitted model, without a query.

    Costs a fit of stage 1 on the rest of the data for each of ``fit_settings``, and with each of
    them stage 2 once for each of ``settings``.

    Args:
        model: A fitted model with one output, larger being better: the judge. With a single member
            it has no spread to be cautious about.
        bounds: ``2 x d`` bounds.
        q: Number of candidates.
        settings: The settings in question: options of stage 2 over ``optimize_options``. Each is
            also judged at earlier numbers of updates than its own, and after fewer rounds of local
            search. ``min_distance`` is none of them: batches are judged as they are on their way,
            before candidates are moved apart.
        fit_settings: Settings of stage 1 in question, such as ``radius`` and ``epochs``: arguments
            of :func:`~botorch_roma.fit.fit_roma_model` over ``fit_options``; none by default. The
            model is the judge as it is: fit it anew with what is chosen.
        hidden_fraction: Share of the measured designs that is hidden, the best ones.
        seed: Seed of the fits; by default one that depends on that of ``fit_options``, or of the
            model, and differs from it, so that the judge and what it judges do not start alike.
        fit_options: Arguments of :func:`~botorch_roma.fit.fit_roma_model`.
        optimize_options: Arguments of :func:`~botorch_roma.optim.optimize_acqf_roma`.
        timeout_sec: Time budget in seconds: half of it for the fits, in equal shares, the rest for
            stage 2. Settings for which no time is left are not judged.
        checkpoint: A folder to save each fit and each optimisation to as they go on, and to go on
            from, see :mod:`botorch_roma.checkpoint`; none by default. The time budget is that of
            all runs together.
        checkpoint_interval: Seconds from one save to the next.
        progress: Show progress bars on standard error.

    Returns:
        The choice.

    Raises:
        InputDataError: If too few designs are left, or their outcomes are constant.
        ModelFittingError: If the model has not been fitted.
        TypeError: For an unknown option of stage 1.
        UnsupportedError: For a model with several outputs; settings that are unknown, do not apply
            or are not judged.
        ValueError: For options out of range; settings that are none; a checkpoint of another
            selection.

    Example:
        >>> selection = select_options(model, bounds, q=128)
        >>> optimize_acqf_roma(PosteriorMean(model), bounds, q=128, **selection.options)

        The radius of both stages:

        >>> radii = [{"radius": radius} for radius in (0.005, 0.02, 0.05)]
        >>> selection = select_options(model, bounds, 128, radii, fit_settings=radii)
        >>> fit_roma_model(model, **selection.fit_options)
    """
    clock = _Clock(timeout_sec)
    check_model("model", model)
    num_left = check_rest(model.train_Y, q, hidden_fraction)
    if timeout_sec is not None:
        check_float("timeout_sec", timeout_sec, exclusive=True, unit=" seconds")
    if seed is not None:
        check_seed("seed", seed)
    settings = _listed("settings", settings)
    fit_settings = [{}] if fit_settings is None else _listed("fit_settings", fit_settings)
    if model.num_outputs != 1:
        raise UnsupportedError(
            f"`model` must have one output to be a judge, received one of {model.num_outputs}."
        )
    if not model.is_fitted:
        raise ModelFittingError("`model` has not been fitted; call `fit_roma_model` first.")
    encoded = isinstance(getattr(model, "input_transform", None), Encoding)
    for changes in settings:
        options = {**(optimize_options or {}), **changes}
        check_options(bounds, q, options, model.num_members, encoded=encoded)
    fits = [{"progress": progress, **(fit_options or {}), **changes} for changes in fit_settings]
    for options in fits:
        check_fit_options(options)
    common = {"progress": progress, **(optimize_options or {})}
    checkpoints = CheckpointFolder(checkpoint, checkpoint_interval)
    order = model.train_Y[:, 0].argsort(stable=True)
    judge, judgements = _Judge(model, order[num_left:]), list[Judgement]()
    start_scores: dict[tuple[int, int], float] = {}
    share = None if timeout_sec is None else timeout_sec / (2 * len(fits))
    for i, options in enumerate(fits):
        stage = f"selection-fit-{i}"
        if judgements and clock.left() <= 0 and not checkpoints.holds(stage):
            continue
        clock.add(checkpoints.seconds(stage))
        rest = _fit_to_the_rest(
            model, order[:num_left], seed, {**options, **checkpoints.stage(stage)}, share
        )
        for j, changes in enumerate(settings):
            search, stage_two = prepare_search(
                PosteriorMean(rest), bounds, q, **{**common, **changes}
            )
            with open_checkpoint(
                checkpoints.file(f"selection-{i}-{j}"),
                checkpoint_interval,
                search.start.device,
                partial(search.fingerprint, stage_two),
            ) as file:
                clock.add(0.0 if file is None else file.before)
                seconds = clock.left() - (len(fits) - i - 1) * (share or 0.0)
                if judgements and seconds <= 0 and not (file and file.parts):
                    continue
                ways_left = (len(fits) - i) * len(settings) - j
                budget = None if share is None else max(seconds / ways_left, 1e-3)
                start_scores[i, j] = judge(search.start)
                judgements.extend(
                    _judge_along(search, stage_two, judge, (i, j), budget, progress, file)
                )
    chosen = _choose(judgements)
    return Selection(
        options={
            **settings[chosen.setting],
            "num_updates": chosen.num_updates,
            "local_search_rounds": chosen.local_search_rounds,
        },
        score=chosen.score,
        start_score=start_scores[chosen.fit_setting, chosen.setting],
        judgements=judgements,
        seconds=clock.spent(),
        fit_options=dict(fit_settings[chosen.fit_setting]),
    )


class _Clock:
    """What a selection has spent, with what earlier runs of it have, and what is left."""

    def __init__(self, timeout_sec: float | None) -> None:
        self.timeout_sec, self.start = timeout_sec, time.monotonic()

    def add(self, seconds: float) -> None:
        self.start -= seconds

    def spent(self) -> float:
        return time.monotonic() - self.start

    def left(self) -> float:
        return torch.inf if self.timeout_sec is None else self.timeout_sec - self.spent()


def _listed(name: str, settings: Any) -> list[Mapping[str, Any]]:
    """Settings of one stage, checked as far as can be without knowing their options."""
    if isinstance(settings, Mapping | str) or not isinstance(settings, Iterable):
        raise ValueError(f"`{name}` must be a list of mappings of options, received {settings!r}.")
    listed = list(settings)
    if not listed:
        raise ValueError(f"`{name}` is empty; it must hold at least one mapping of options.")
    for i, changes in enumerate(listed):
        if not isinstance(changes, Mapping):
            raise ValueError(f"`{name}[{i}]` must map names to values, received {changes!r}.")
        for option, why in _NOT_IN_QUESTION[name].items():
            if changes.get(option) is not None:
                raise UnsupportedError(
                    f"`{name}[{i}]` holds `{option}` = {changes[option]!r}, which {why}."
                )
    return listed


def check_rest(Y: Tensor, q: int, hidden_fraction: float = HIDDEN_FRACTION) -> int:
    r"""How many rows of ``n x m`` outcomes are left to start from.

    Raises:
        InputDataError: If it is fewer than two, or than ``q``, or if they are all alike.
        ValueError: For a fraction out of range.
    """
    n = len(Y)
    if check_float("hidden_fraction", hidden_fraction, exclusive=True) > 0.9:
        raise ValueError(f"`hidden_fraction` must be at most 0.9, received {hidden_fraction!r}.")
    left = n - max(1, round(hidden_fraction * n))
    if left < max(q, 2):
        raise InputDataError(
            f"`hidden_fraction` = {hidden_fraction:g} leaves {left} of {n} rows to start {q} "
            "candidates from; choose a smaller one, reduce `q`, or do without selection."
        )
    rest = Y[:, 0].sort().values[:left]
    if rest[0] == rest[-1]:
        raise InputDataError(
            f"`hidden_fraction` = {hidden_fraction:g} hides all rows but those of the lowest "
            f"outcome, {rest[0].item():g}, and leaves nothing to learn from; choose a smaller one, "
            "or do without selection."
        )
    return left


def _fit_to_the_rest(
    model: RoMAModel,
    rows: Tensor,
    seed: int | None,
    fit_options: Mapping[str, Any],
    timeout_sec: float | None,
) -> RoMAModel:
    """A model of the same kind, fitted to some rows."""
    rows = rows.sort().values
    of_judge = fit_options.get("seed")
    if seed is None:
        seed = (model.seed if of_judge is None else of_judge) + SEED_OFFSET
    with warnings.catch_warnings():
        # of all data it has been said already
        warnings.filterwarnings("ignore", "`train_X` is constant", InputDataWarning)
        rest = RoMAModel(
            model.train_X[rows],
            model.train_Y[rows],
            copy.deepcopy(getattr(model, "input_transform", None)),
            copy.deepcopy(getattr(model, "outcome_transform", None)),
            train_Yvar=None if model.train_Yvar is None else model.train_Yvar[rows],
            hidden_sizes=model.network.hidden_sizes,
            num_members=model.num_members,
            activation=model.network.activation_name,
            seed=seed,
        )
    fit_roma_model(rest, **{"timeout_sec": timeout_sec, **fit_options, "seed": seed})
    return rest


def _judge_along(
    search: Search,
    options: RoMAOptions,
    judge: _Judge,
    way: tuple[int, int],
    timeout_sec: float | None,
    progress: bool,
    checkpoint: Checkpoint | None,
) -> Iterator[Judgement]:
    """Judgements of the batches along the updates, then along the local search from the best.

    ``way`` is the place of the settings of stage 1 and of stage 2.
    """
    fit_setting, setting = way
    deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
    result = search.run(options, timeout_sec=timeout_sec, checkpoint=checkpoint, progress=progress)
    along = [  # without the start designs, which are known
        Judgement(setting, k * result.every, 0, judge(search.designs_of(Z)), fit_setting)
        for k, Z in enumerate(result.snapshots)
        if k or not result.num_updates
    ]
    yield from along
    reached = result.until(_choose(along).num_updates // result.every)
    for r, X in enumerate(search.refine(search.distinct(reached), options, deadline, checkpoint)):
        if r:
            yield Judgement(setting, reached.num_updates, r, judge(X), fit_setting)


def _choose(judgements: list[Judgement]) -> Judgement:
    """The earliest of the best way that has nearly all of the gain over its first."""
    best = max(judgements, key=lambda j: j.score)
    way = best.fit_setting, best.setting
    along = [j for j in judgements if (j.fit_setting, j.setting) == way]
    enough = along[0].score + GAIN_SHARE * (best.score - along[0].score)
    return next(j for j in along if j.score >= enough)


class _Judge:
    """The fitted model, and what was measured where a design is a hidden one."""

    def __init__(self, model: RoMAModel, hidden: Tensor) -> None:
        self.model, self.scale = model, column_std(model.train_X)
        X, Y = model.train_X[hidden], model.train_Y[hidden]
        with torch.no_grad():
            measured = model.standardize_outcomes(Y, X=X)[:, 0].tolist()
        self.measured = dict(zip(distinct_keys(X, self.scale), measured, strict=True))

    @torch.no_grad()
    def __call__(self, X: Tensor) -> float:
        """Median value of designs ``n x d``, on the standardised outcome."""
        members = self.model.network(self.model.standardize_inputs(X))[0]
        values = members.mean(dim=0) - CAUTION * members.std(dim=0, correction=0)
        for i, key in enumerate(distinct_keys(X, self.scale)):
            values[i] = self.measured.get(key, values[i])
        return values.median().item()

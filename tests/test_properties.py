"""Of all public functions: shapes, types, bounds, the same for the same seed, distinct designs."""

from __future__ import annotations

import copy
import inspect
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from botorch.acquisition import PosteriorMean
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.optim import optimize_acqf
from botorch.test_functions import Ackley, Branin, Hartmann
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma import (
    PRESETS,
    AdaptedRoMAModel,
    FitHistory,
    Preset,
    Proposal,
    RoMAModel,
    RoMAOptions,
    Trajectory,
    adapt_roma_model,
    fit_roma_model,
    gen_candidates_roma,
    gen_top_designs,
    get_preset,
    optimize_acqf_roma,
    propose,
)
from botorch_roma.acquisition import ConstrainedPosteriorMean
from botorch_roma.fit import fit_roma_models
from botorch_roma.latent import (
    ColumnEncoding,
    Encoding,
    LogitsEncoding,
    NumericEncoding,
    OneHotEncoding,
    Vocabulary,
    make_sequence_encoding,
)
from botorch_roma.mapped import map_npy, map_parquet
from botorch_roma.network import ACTIVATIONS
from botorch_roma.optim import optimize_acqfs_roma
from botorch_roma.presets import PAPER_SETTINGS
from botorch_roma.selection import select_options
from botorch_roma.tasks import make_synthetic_task

FIT: dict[str, Any] = {"epochs": 1, "num_ascent_steps": 1}
OPTIMIZE: dict[str, Any] = {"num_updates": 3, "num_adaptation_steps": 2, "lr": 0.3}

few = settings(max_examples=12)
dtypes = st.sampled_from([torch.float32, torch.float64])
seeds = st.integers(0, 2**31)


@st.composite
def tables(draw: st.DrawFn, max_outputs: int = 2) -> tuple[Tensor, Tensor]:
    """Designs, some of them repeated, and outcomes, with columns of various scales."""
    n, d = draw(st.integers(4, 25)), draw(st.integers(1, 6))
    m, dtype = draw(st.integers(1, max_outputs)), draw(dtypes)
    generator = torch.Generator().manual_seed(draw(seeds))
    X = torch.rand(n, d, generator=generator, dtype=torch.double)
    X = X * 10.0 ** draw(st.integers(-6, 6)) + draw(st.sampled_from([0.0, 1.0]))
    if draw(st.booleans()):
        X = torch.cat([X, X[:2]])
    Y = torch.rand(len(X), m, generator=generator, dtype=torch.double)
    return X.to(dtype), (Y * 10.0 ** draw(st.integers(-6, 6))).to(dtype)


@st.composite
def models(draw: st.DrawFn, max_outputs: int = 2) -> RoMAModel:
    """Models before they are fitted."""
    X, Y = draw(tables(max_outputs))
    return RoMAModel(
        X,
        Y,
        hidden_sizes=draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)),
        num_members=draw(st.integers(1, 3)),
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))),
        seed=draw(seeds),
    )


def box(X: Tensor) -> Tensor:
    return torch.stack([X.min(dim=0).values, X.max(dim=0).values])


def count(X: Tensor) -> int:
    return len(torch.unique(X, dim=0))


def equal(model: RoMAModel, other: RoMAModel) -> bool:
    return all(torch.equal(a, other.state_dict()[k]) for k, a in model.state_dict().items())


def check_designs(X: Tensor, bounds: Tensor, q: int) -> None:
    assert X.shape == (q, bounds.shape[1])
    assert X.dtype == bounds.dtype
    assert bool((bounds[0] <= X).all())
    assert bool((bounds[1] >= X).all())
    assert count(X) == q


@few
@given(model=models(), batch=st.lists(st.integers(1, 3), max_size=2), q=st.integers(1, 3))
def test_model(model: RoMAModel, batch: list[int], q: int) -> None:
    X, m = model.train_X, model.num_outputs
    rows = torch.arange(q * torch.Size(batch).numel()) % len(X)
    points = X[rows].reshape(*batch, q, -1)
    posterior = model.posterior(points)
    assert posterior.mean.shape == posterior.variance.shape == (*batch, q, m)
    assert posterior.mean.dtype == posterior.variance.dtype == X.dtype
    assert posterior.rsample(torch.Size([2])).shape == (2, *batch, q, m)
    assert model(points).shape == (model.num_members, *batch, q, m)
    assert bool((posterior.variance > 0).all())
    assert torch.equal(
        model.subset_output([m - 1]).posterior(points).mean, posterior.mean[..., -1:]
    )
    # at a point alone it is what it is among others
    alone = model.posterior(points.reshape(-1, X.shape[1])[:1])
    unit = model.y_std
    first = posterior.mean.reshape(-1, m)[:1]
    torch.testing.assert_close(alone.mean / unit, first / unit, rtol=1e-4, atol=1e-4)


@few
@given(
    model=models(),
    seed=seeds,
    keep=st.sampled_from(["last", "best"]),
    conservatism=st.sampled_from([0.0, 0.5]),
)
def test_fit(model: RoMAModel, seed: int, keep: Any, conservatism: float) -> None:
    options = {**FIT, "keep": keep, "conservatism": conservatism}
    twin, other = copy.deepcopy(model), copy.deepcopy(model)
    data = model.train_X.clone()
    history = fit_roma_model(model, seed=seed, **options)
    assert isinstance(history, FitHistory)
    torch.rand(3)  # the global generator plays no part
    assert fit_roma_model(twin, seed=seed, **options).loss == history.loss
    assert equal(model, twin)
    fit_roma_model(other, seed=seed + 1, **options)
    assert not equal(model, other)
    assert model.is_fitted
    assert torch.equal(model.train_X, data)
    assert len(history.loss) == len(history.validation_loss) == len(history.seconds) == 1
    assert set(history.validation_indices) <= set(range(len(data)))
    assert bool((model.variance_scale > 0).all())
    assert all(torch.isfinite(t).all() and t.dtype == data.dtype for t in model.network.tensors)


@few
@given(model=models(), chosen=st.lists(seeds, min_size=1, max_size=3))
def test_fit_side_by_side(model: RoMAModel, chosen: list[int]) -> None:
    """Each is what it is alone, up to rounding, and the same again."""
    together = [copy.deepcopy(model) for _ in chosen]
    again = [copy.deepcopy(model) for _ in chosen]
    histories = fit_roma_models(together, seeds=chosen, **FIT)
    fit_roma_models(again, seeds=chosen, **FIT)
    assert all(equal(a, b) for a, b in zip(together, again, strict=True))
    alone = fit_roma_model(model, seed=chosen[-1], **FIT)
    assert len(histories) == len(chosen)
    assert histories[-1].validation_indices == alone.validation_indices
    assert histories[-1].loss == pytest.approx(alone.loss, rel=1e-3)


@few
@given(
    model=models(),
    b=st.integers(1, 4),
    mode=st.sampled_from(["per_candidate", "shared"]),
    radius=st.sampled_from([0.0, 1e-3, 0.5]),
)
def test_adapt(model: RoMAModel, b: int, mode: Any, radius: float) -> None:
    fit_roma_model(model, seed=0, **FIT)
    before, X = copy.deepcopy(model.state_dict()), model.train_X[:b]
    adapted = adapt_roma_model(model, X, mode=mode, radius=radius)
    assert isinstance(adapted, AdaptedRoMAModel)
    assert adapted.batch_shape == (b,)
    posterior = adapted.posterior(X.unsqueeze(1))
    assert posterior.mean.shape == posterior.variance.shape == (b, 1, model.num_outputs)
    assert posterior.mean.dtype == X.dtype
    assert bool(torch.isfinite(posterior.mean).all())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    again = adapt_roma_model(model, X, mode=mode, radius=radius).posterior(X.unsqueeze(1))
    assert torch.equal(again.mean, posterior.mean)
    if radius == 0.0:
        plain = model.posterior(X.unsqueeze(1)).mean
        torch.testing.assert_close(
            posterior.mean, plain, rtol=1e-4, atol=1e-4 * float(model.y_std.max())
        )


@pytest.mark.filterwarnings("ignore:.* candidates found no design of their own")
@few
@given(
    model=models(max_outputs=1),
    data=st.data(),
    num_restarts=st.integers(1, 2),
    shrink=st.booleans(),
)
def test_optimize(model: RoMAModel, data: st.DataObject, num_restarts: int, shrink: bool) -> None:
    fit_roma_model(model, seed=0, **FIT)
    X = model.train_X
    q = data.draw(st.integers(1, count(X) // num_restarts), label="q")
    bounds = box(X)
    acq_function = PosteriorMean(model)
    candidates, values = optimize_acqf_roma(acq_function, bounds, q, num_restarts, **OPTIMIZE)
    check_designs(candidates, bounds, q)
    assert values is not None
    assert values.shape == (q,)
    assert torch.equal(values, acq_function(candidates.unsqueeze(1)))
    again, _ = optimize_acqf_roma(acq_function, bounds, q, num_restarts, **OPTIMIZE)
    assert torch.equal(again, candidates)
    if shrink and X.shape[1] > 1:
        fixed = {0: X[0, 0].item()}
        held, _ = optimize_acqf_roma(acq_function, bounds, 1, fixed_features=fixed, **OPTIMIZE)
        assert held[0, 0] == X[0, 0]
    everything, _ = optimize_acqf_roma(
        acq_function, bounds, q, num_restarts, return_best_only=False, **OPTIMIZE
    )
    assert everything.shape == (num_restarts, q, X.shape[1])
    assert count(everything.flatten(end_dim=1)) == num_restarts * q


@few
@given(model=models(max_outputs=1), b=st.integers(1, 4), seed=seeds)
def test_gen_candidates(model: RoMAModel, b: int, seed: int) -> None:
    fit_roma_model(model, seed=0, **FIT)
    bounds, acq_function = box(model.train_X), PosteriorMean(model)
    start = model.train_X[:b].unsqueeze(1)
    X, values = gen_candidates_roma(
        start, acq_function, lower_bounds=bounds[0], upper_bounds=bounds[1], options=OPTIMIZE
    )
    assert X.shape == start.shape
    assert X.dtype == start.dtype
    assert values.shape == (b,)
    assert torch.equal(values, acq_function(X))
    assert bool((bounds[0] <= X).all())
    assert bool((bounds[1] >= X).all())
    again, _ = gen_candidates_roma(start, acq_function, *bounds, options=OPTIMIZE)
    assert torch.equal(again, X)
    if model.train_X.dtype == torch.double:
        found, _ = optimize_acqf(
            acq_function,
            bounds,
            q=1,
            num_restarts=b,
            raw_samples=8,
            options={**OPTIMIZE, "seed": seed % 1000},
            gen_candidates=gen_candidates_roma,
        )
        check_designs(found, bounds, 1)


@few
@given(
    model=models(max_outputs=1),
    data=st.data(),
    num_restarts=st.integers(1, 2),
    raw_samples=st.sampled_from([None, 4]),
)
def test_start_designs(
    model: RoMAModel, data: st.DataObject, num_restarts: int, raw_samples: int | None
) -> None:
    fit_roma_model(model, seed=0, **FIT)
    X, acq_function = model.train_X, PosteriorMean(model)
    q = data.draw(st.integers(1, count(X) // num_restarts), label="q")
    arguments = (acq_function, box(X), q, num_restarts, raw_samples)
    start = gen_top_designs(*arguments, options={"seed": 3})
    assert start.shape == (num_restarts, q, X.shape[1])
    check_designs(start.flatten(end_dim=1), box(X), q * num_restarts)
    assert torch.equal(gen_top_designs(*arguments, options={"seed": 3}), start)
    if raw_samples is None:  # best first
        measured = {tuple(x.tolist()): y.item() for x, y in zip(X, model.train_Y, strict=True)}
        best = max(measured, key=lambda x: measured[x])
        assert tuple(start[0, 0].tolist()) == best


@pytest.mark.filterwarnings("ignore:.* candidates found no design of their own")
@few
@given(model=models(max_outputs=1), chosen=st.lists(seeds, min_size=1, max_size=3))
def test_optimize_side_by_side(model: RoMAModel, chosen: list[int]) -> None:
    fitted = [copy.deepcopy(model) for _ in chosen]
    fit_roma_models(fitted, seeds=chosen, **FIT)
    bounds, functions = box(model.train_X), [PosteriorMean(m) for m in fitted]
    q = min(3, count(model.train_X))
    found = optimize_acqfs_roma(functions, bounds, q, **OPTIMIZE)
    again = optimize_acqfs_roma(functions, bounds, q, **OPTIMIZE)
    assert len(found) == len(chosen)
    for (X, values), (same, _), function in zip(found, again, functions, strict=True):
        check_designs(X, bounds, q)
        assert values is not None
        assert torch.equal(values, function(X.unsqueeze(1)))
        assert torch.equal(X, same)


@few
@given(model=models(max_outputs=1), b=st.integers(1, 4), positions=st.booleans())
def test_trajectories(model: RoMAModel, b: int, positions: bool) -> None:
    """One entry per update, and what is recorded changes nothing."""
    fit_roma_model(model, seed=0, **FIT)
    start, trajectory = model.train_X[:b].unsqueeze(0), Trajectory(positions=positions)
    assume(count(start[0]) == b)
    options = {"batch_initial_conditions": start, "return_acq_values": False, **OPTIMIZE}
    arguments = (PosteriorMean(model), box(model.train_X), b)
    X, _ = optimize_acqf_roma(*arguments, trajectory=trajectory, **options)
    assert torch.equal(optimize_acqf_roma(*arguments, **options)[0], X)
    for name, values in trajectory.lists().items():
        if name == "x":
            assert len(values) == positions * 4
        else:
            assert trajectory.stack(name).shape == (3, b)
            assert bool(torch.isfinite(trajectory.stack(name)).all())
    if positions:
        torch.testing.assert_close(trajectory.x[0], start[0])


@few
@given(model=models(), b=st.integers(1, 4), limit=st.floats(-2.0, 2.0), k=st.integers(1, 2))
def test_constrained_posterior_mean(model: RoMAModel, b: int, limit: float, k: int) -> None:
    """A constraint costs, the more the tighter it is; without one it is the posterior mean."""
    fit_roma_model(model, seed=0, **FIT)
    X, unit, m = model.train_X[:b].unsqueeze(1), model.y_std, model.num_outputs
    A = torch.eye(m).to(X)[-1:].expand(k, m)
    transform = ScalarizedPosteriorTransform(torch.eye(m).to(X)[0])
    scale, arguments = unit[0].item(), {"outcome_scale": unit}
    plain = ConstrainedPosteriorMean(model, transform, scale=scale)(X)
    assert plain.shape == (b,)
    assert plain.dtype == X.dtype
    values = [
        ConstrainedPosteriorMean(model, transform, (A, b), scale, **arguments)(X)
        for b in ((model.y_mean[-1] + (limit + more) * unit[-1]).expand(k) for more in (0.0, 0.5))
    ]
    assert all(bool(torch.isfinite(v).all()) for v in values)
    assert bool((values[0] < values[1]).all())
    assert bool((values[1] <= plain).all())


@pytest.mark.filterwarnings("ignore:.* candidates found no design of their own")
@settings(max_examples=6)
@given(model=models(max_outputs=1), data=st.data(), updates=st.lists(st.integers(0, 3), min_size=1))
def test_selection(model: RoMAModel, data: st.DataObject, updates: list[int]) -> None:
    """One of the settings, or less of it; the same again; the model is left as it is."""
    fit_roma_model(model, seed=0, **FIT)
    before = copy.deepcopy(model)
    order = model.train_Y[:, 0].argsort()
    rest = model.train_X[order[: len(order) - max(1, round(0.2 * len(order)))]]
    assume(count(rest) > 1)
    q = data.draw(st.integers(1, count(rest)), label="q")
    choices = [{"num_updates": n} for n in updates[:2]]
    arguments = (model, box(model.train_X), q, choices)
    radii = data.draw(st.lists(st.floats(0.0, 0.1), min_size=1, max_size=2), label="radii")
    fits = data.draw(st.sampled_from([None, [{"radius": r} for r in radii]]), label="fits")
    options: dict[str, Any] = {"fit_options": FIT, "optimize_options": {**OPTIMIZE, "lr": 0.1}}
    options["fit_settings"] = fits
    selection = select_options(*arguments, hidden_fraction=0.2, **options)
    assert selection.options["num_updates"] <= max(updates[:2])
    assert {j.setting for j in selection.judgements} == set(range(len(choices)))
    assert {j.fit_setting for j in selection.judgements} == set(range(len(fits or [{}])))
    assert selection.fit_options in (fits or [{}])
    assert all(np.isfinite(j.score) for j in selection.judgements)
    assert select_options(*arguments, hidden_fraction=0.2, **options).options == selection.options
    assert equal(model, before)


@given(
    name=st.sampled_from(PRESETS),
    task=st.sampled_from([None, "mine", *PAPER_SETTINGS]),
    discrete=st.booleans(),
    num_rows=st.none() | st.integers(2, 10**7),
)
def test_presets(name: str, task: str | None, discrete: bool, num_rows: int | None) -> None:
    """All that a preset holds is taken by the functions it is for."""
    preset = get_preset(name, task, discrete=discrete, num_rows=num_rows)
    assert isinstance(preset, Preset)
    assert get_preset(name, task, discrete=discrete, num_rows=num_rows) == preset
    for function, given_options in ((RoMAModel, preset.model), (fit_roma_model, preset.fit)):
        assert set(given_options) <= set(inspect.signature(function).parameters)
    assert set(preset.optimize) <= set(inspect.signature(optimize_acqf_roma).parameters)
    options = RoMAOptions.from_mapping({**preset.optimize, "unknown": 1})
    assert all(getattr(options, k) == v for k, v in preset.optimize.items() if hasattr(options, k))
    assert options.step_size(5) > 0
    assert preset.fit.get("epochs") is None or preset.fit["epochs"] >= 1


@given(
    function=st.sampled_from([Ackley(dim=1), Branin(), Branin(negate=True), Hartmann(dim=3)]),
    num_rows=st.integers(10, 60),
    dtype=dtypes,
    seed=seeds,
)
def test_synthetic_tasks(function: Any, num_rows: int, dtype: torch.dtype, seed: int) -> None:
    options: dict[str, Any] = {"num_rows": num_rows, "dtype": dtype, "seed": seed}
    task, twin = make_synthetic_task(function, **options), make_synthetic_task(function, **options)
    n = len(task.X)
    assert 2 <= n <= num_rows
    assert task.X.shape == (n, function.dim)
    assert task.Y.shape == (n, 1)
    assert task.X.dtype == task.Y.dtype == task.bounds.dtype == dtype
    assert bool(((task.bounds[0] <= task.X) & (task.bounds[1] >= task.X)).all())
    assert torch.equal(task.X, twin.X)
    assert torch.equal(task.Y, twin.Y)
    torch.testing.assert_close(task.evaluate(task.X), task.Y, rtol=1e-4, atol=1e-3)
    assert task.num_oracle_queries == n


@given(table=tables(max_outputs=1))
def test_mapped_tables(table: tuple[Tensor, Tensor]) -> None:
    """Files of both kinds give back what was written, and are left as they are."""
    X, Y = table
    columns = [f"c{i}" for i in range(X.shape[1])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, values in (("X", X), ("Y", Y), ("XY", torch.cat([X, Y], dim=1))):
            np.save(folder / f"{file}.npy", values.numpy())
        frame = pd.DataFrame(torch.cat([X, Y], dim=1).numpy(), columns=[*columns, "y"])
        frame.to_parquet(folder / "t.parquet")
        found = [
            map_npy(folder / "X.npy", folder / "Y.npy"),
            map_npy(folder / "XY.npy"),
            map_parquet(folder / "t.parquet", "y", folder, dtype=X.dtype),
        ]
        for mapped in found:
            assert mapped.X.dtype == mapped.Y.dtype == X.dtype
            assert torch.equal(mapped.X, X)
            assert torch.equal(mapped.Y, Y)
        assert found[-1].columns == columns
        found[0].X.add_(1.0)
        assert torch.equal(map_npy(folder / "X.npy", folder / "Y.npy").X, X)


kinds = {
    "number": st.floats(-1e3, 1e3).map(lambda v: round(v, 3)),
    "integer": st.integers(-9, 9),
    "boolean": st.booleans(),
    "category": st.sampled_from(["oak", "fir"]),
    "sequence": st.text("acgt", min_size=1, max_size=3),
}


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Tables of all kinds of columns; one of numbers keeps all rows distinct."""
    n = draw(st.integers(6, 15))
    names = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=3, unique=True))
    columns = {k: draw(st.lists(kinds[k], min_size=n, max_size=n)) for k in names}
    return pd.DataFrame({"x": [i / 8 for i in range(n)], **columns, "y": [i * i for i in range(n)]})


@few
@given(frame=frames(), data=st.data(), minimize=st.booleans(), seed=seeds)
def test_propose(frame: pd.DataFrame, data: st.DataObject, minimize: bool, seed: int) -> None:
    q = data.draw(st.integers(1, len(frame)), label="q")
    options: dict[str, Any] = {
        "q": q,
        "minimize": minimize,
        "seed": seed,
        "sequences": [c for c in frame if c == "sequence"],
        "fit_options": FIT,
        "model_options": {"hidden_sizes": (4,)},
        "optimize_options": OPTIMIZE,
    }
    proposal = propose_quietly(frame, "y", **options)
    assert isinstance(proposal, Proposal)
    table = proposal.to_frame()
    inputs = [c for c in frame if c != "y"]
    assert list(table) == [*inputs, "predicted_mean", "predicted_std", "distance"]
    assert len(table.drop_duplicates(inputs)) == q
    assert table["predicted_mean"].is_monotonic_decreasing or minimize
    assert table["predicted_mean"].is_monotonic_increasing or not minimize
    assert (table["predicted_std"] > 0).all()
    assert (table["distance"] >= 0).all()
    for name in inputs:
        if name == "sequence":
            letters = set("".join(frame[name]))
            assert all(1 <= len(s) <= frame[name].str.len().max() for s in table[name])
            assert set("".join(table[name])) <= letters
        elif name == "category":
            assert set(table[name]) <= set(frame[name])
        else:
            assert table[name].dtype == frame[name].dtype
            assert table[name].between(frame[name].min(), frame[name].max()).all()
    pd.testing.assert_frame_equal(propose_quietly(frame, "y", **options).to_frame(), table)


@few
@given(
    table=tables(max_outputs=1),
    data=st.data(),
    margin=st.floats(0.0, 1.0),
    fix=st.booleans(),
    minimize=st.booleans(),
    seed=seeds,
)
def test_propose_of_tensors(
    table: tuple[Tensor, Tensor],
    data: st.DataObject,
    margin: float,
    fix: bool,
    minimize: bool,
    seed: int,
) -> None:
    X, Y = table
    before = X.clone(), Y.clone()
    d = X.shape[1]
    low, high = box(X)
    bounds = torch.stack([low, high + margin * (high - low)])
    fixed = {0: X[0, 0].item()} if fix and d > 1 else {}
    held = X.clone()
    held[:, list(fixed)] = X[0, list(fixed)]
    q = data.draw(st.integers(1, count(held)), label="q")
    options: dict[str, Any] = {
        "q": q,
        "minimize": minimize,
        "seed": seed,
        "fit_options": FIT,
        "model_options": {"hidden_sizes": (4,)},
        "optimize_options": OPTIMIZE,
        "fixed_features": fixed,
    }
    proposal = propose_quietly(X, Y, bounds, **options)
    check_designs(proposal.candidates, bounds, q)
    assert bool((proposal.candidates[:, list(fixed)] == X[0, list(fixed)]).all())
    for values in (proposal.mean, proposal.std, proposal.distance):
        assert values.shape == (q,)
        assert values.dtype == X.dtype
        assert bool(torch.isfinite(values).all())
    assert bool((proposal.std > 0).all())
    assert bool((proposal.distance >= 0).all())
    steps = proposal.mean.diff() if minimize else -proposal.mean.diff()
    assert bool((steps >= 0).all())  # best first
    torch.rand(3)  # the global generator plays no part
    again = propose_quietly(X, Y, bounds, **options)
    for name in ("candidates", "mean", "std", "distance"):
        assert torch.equal(getattr(again, name), getattr(proposal, name))
    assert torch.equal(X, before[0])
    assert torch.equal(Y, before[1])


def propose_quietly(*data: Any, **options: Any) -> Any:
    import warnings

    with warnings.catch_warnings():  # of columns that never vary and start designs that come back
        warnings.simplefilter("ignore")
        return propose(*data, **options)


@st.composite
def encodings(draw: st.DrawFn) -> ColumnEncoding:
    """Encodings of mixed columns."""
    blocks: list[Any] = []
    for kind in draw(st.lists(st.sampled_from("noL"), min_size=1, max_size=4)):
        symbols = "abcdef"[: draw(st.integers(2, 6))]
        vocabulary = Vocabulary(symbols, padded=draw(st.booleans()))
        length = draw(st.integers(1, 4))
        if kind == "n":
            blocks.append(NumericEncoding(torch.tensor([[-2.0] * length, [3.0] * length])))
        else:
            blocks.append((OneHotEncoding if kind == "o" else LogitsEncoding)(vocabulary, length))
    return ColumnEncoding(blocks)


@given(encoding=encodings(), dtype=dtypes, seed=seeds, lead=st.lists(st.integers(1, 3), max_size=2))
def test_encodings(
    encoding: ColumnEncoding, dtype: torch.dtype, seed: int, lead: list[int]
) -> None:
    """Any vector stands for a design, which stays what it is; vectors of designs are in bounds."""
    assert all(isinstance(block, Encoding) for block in encoding.blocks)
    bounds = encoding.bounds.to(dtype)
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(*lead, encoding.encoded_dim, generator=generator, dtype=torch.double)
    designs = encoding.to(dtype).decode(bounds[0] + (bounds[1] - bounds[0]) * unit.to(dtype))
    assert designs.shape == (*lead, encoding.dim)
    assert designs.dtype == dtype
    limits = encoding.design_bounds.to(dtype)
    assert bool((designs >= limits[0]).all())
    assert bool((designs <= limits[1]).all())
    Z = encoding.encode(designs)
    assert Z.shape == (*lead, encoding.encoded_dim)
    assert Z.dtype == dtype
    assert bool((bounds[0] <= Z).all())
    assert bool((bounds[1] >= Z).all())
    assert torch.equal(encoding.decode(Z), designs)
    torch.testing.assert_close(encoding.snap(Z), Z)


@given(strings=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=8), data=st.data())
def test_vocabularies(strings: list[str], data: st.DataObject) -> None:
    """Different sequences have different tokens, whatever the others are, and come back."""
    vocabulary = Vocabulary.from_strings(strings)
    tokens = vocabulary.tokenize(strings)
    assert tokens.dtype == torch.long
    assert tokens.shape == (len(strings), max(map(len, strings)))
    assert bool((tokens >= 0).all())
    assert int(tokens.max()) < vocabulary.num_classes
    assert count(tokens) == len(set(strings))
    assert Vocabulary.from_strings(data.draw(st.permutations(strings))) == vocabulary
    one = data.draw(st.sampled_from(strings))
    alone = vocabulary.tokenize([one], length=tokens.shape[1])
    assert torch.equal(alone[0], tokens[strings.index(one)])
    assert vocabulary.to_strings(alone) == [one]


@given(
    strings=st.lists(st.text("acgt", min_size=1, max_size=6), min_size=2, max_size=8),
    name=st.sampled_from(["one_hot", "logits"]),
)
def test_sequence_encodings(strings: list[str], name: str) -> None:
    vocabulary = Vocabulary.from_strings(strings)
    assume(name == "one_hot" or vocabulary.num_classes > 1)
    tokens = vocabulary.tokenize(strings).double()
    encoding = make_sequence_encoding(name, tokens, vocabulary)
    Z = encoding.encode(tokens)
    assert Z.shape == (len(strings), encoding.encoded_dim)
    assert Z.dtype == tokens.dtype
    assert torch.equal(encoding.decode(Z), tokens)
    assert vocabulary.to_strings(encoding.decode(Z).long()) == strings

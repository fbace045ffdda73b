from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from botorch.exceptions import (
    BotorchTensorDimensionError,
    InputDataError,
    InputDataWarning,
)
from botorch.exceptions.errors import InfeasibilityError, UnsupportedError
from botorch.optim.parameter_constraints import evaluate_feasibility
from torch import Tensor

from botorch_roma import Preset, Proposal, propose
from botorch_roma.propose import nearest_distance

FAST: dict[str, Any] = {
    "fit_options": {"epochs": 5, "num_ascent_steps": 1, "batch_size": 16},
    "model_options": {"hidden_sizes": (8,)},
    "optimize_options": {"num_updates": 5, "num_adaptation_steps": 2, "lr": 0.05},
}


def make(train_X: Any, train_Y: Any, *args: Any, **kwargs: Any) -> Proposal:
    return propose(train_X, train_Y, *args, **{"q": 4, **FAST, **kwargs})


@pytest.fixture(scope="module")
def X() -> Tensor:
    unit = torch.rand(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    return unit * torch.tensor([1.0, 10.0, 200.0]) - torch.tensor([0.0, 5.0, 0.0])


@pytest.fixture(scope="module")
def Y(X: Tensor) -> Tensor:
    scaled = (X - X.mean(dim=0)) / X.std(dim=0)
    return 3.0 - (scaled - 0.5).square().sum(dim=-1, keepdim=True)


@pytest.fixture(scope="module")
def frame(X: Tensor, Y: Tensor) -> pd.DataFrame:
    return pd.DataFrame(torch.cat([X, Y], dim=1).numpy(), columns=["a", "b", "c", "y"])


@pytest.fixture(scope="module")
def mixed(frame: pd.DataFrame) -> pd.DataFrame:
    """An integer, a boolean, a constant and a text column beside the others."""
    return frame.assign(
        n=frame["b"].round().astype(int), on=frame["a"] > 0.5, k=7.0, name="sample"
    )[["a", "n", "on", "k", "y", "name"]]


# What comes back


def test_proposal(X: Tensor, Y: Tensor) -> None:
    proposal = make(X, Y)
    candidates = proposal.candidates
    assert candidates.shape == (4, 3)
    assert len(torch.unique(candidates, dim=0)) == 4
    assert bool((candidates >= X.min(dim=0).values).all())
    assert bool((candidates <= X.max(dim=0).values).all())
    with torch.no_grad():
        posterior = proposal.model.posterior(candidates.unsqueeze(1))
    torch.testing.assert_close(proposal.mean, posterior.mean.flatten())
    torch.testing.assert_close(proposal.std, posterior.variance.sqrt().flatten())
    assert torch.equal(proposal.mean, proposal.mean.sort(descending=True).values)
    assert torch.equal(proposal.distance, nearest_distance(candidates, proposal.model))
    assert proposal.columns == ["x0", "x1", "x2"]
    assert proposal.objective == "y"
    assert proposal.fixed_features == {}
    assert proposal.trajectory is None
    assert len(proposal.history.loss) == 5
    assert torch.equal(proposal.bounds, torch.stack([X.min(dim=0).values, X.max(dim=0).values]))


def test_tensors_and_frames_give_the_same(X: Tensor, Y: Tensor, frame: pd.DataFrame) -> None:
    of_tensors, of_vector, of_frame = make(X, Y), make(X, Y.flatten()), make(frame, "y")
    for other in (of_vector, of_frame):
        for name in ("candidates", "mean", "std", "distance"):
            torch.testing.assert_close(getattr(other, name), getattr(of_tensors, name))
    assert of_frame.columns == ["a", "b", "c"]


def test_to_frame(frame: pd.DataFrame) -> None:
    proposal = make(frame, "y")
    table = proposal.to_frame()
    assert list(table.columns) == ["a", "b", "c", "predicted_mean", "predicted_std", "distance"]
    assert table[["a", "b", "c"]].to_numpy().tolist() == proposal.candidates.tolist()
    assert table["predicted_mean"].tolist() == proposal.mean.tolist()
    assert table["predicted_std"].tolist() == proposal.std.tolist()
    assert table["distance"].tolist() == proposal.distance.tolist()


def test_trajectory_on_request(X: Tensor, Y: Tensor) -> None:
    trajectory = make(X, Y, record_trajectory=True).trajectory
    assert trajectory is not None
    assert len(trajectory.predicted) == 5


def test_float32(X: Tensor, Y: Tensor) -> None:
    for proposal in (make(X.float(), Y.float()), make(X, Y, dtype=torch.float32)):
        assert proposal.candidates.dtype == torch.float32
        assert proposal.mean.dtype == torch.float32


# Direction


def test_minimising_y_is_maximising_minus_y(X: Tensor, Y: Tensor) -> None:
    down, up = make(X, Y, minimize=True), make(X, -Y)
    assert torch.equal(down.candidates, up.candidates)
    assert torch.equal(down.mean, -up.mean)
    assert torch.equal(down.std, up.std)
    assert torch.equal(down.mean, down.mean.sort().values)
    assert down.mean.mean() < Y.mean() < make(X, Y).mean.mean()


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ({"maximize": True}, {}),
        ({"minimize": False}, {}),
        ({"maximize": True, "minimize": False}, {}),
        ({"maximize": False}, {"minimize": True}),
        ({"maximize": False, "minimize": True}, {"minimize": True}),
    ],
)
def test_direction(X: Tensor, Y: Tensor, arguments: dict[str, Any], same: dict[str, Any]) -> None:
    assert torch.equal(make(X, Y, **arguments).candidates, make(X, Y, **same).candidates)


# Columns


def test_integers_booleans_constants_and_text(mixed: pd.DataFrame) -> None:
    with pytest.warns(InputDataWarning, match=r"Columns \['k'\] never vary .* keep their value"):
        proposal = make(mixed, "y", ignore=["name"], q=8)
    assert proposal.columns == ["a", "n", "on", "k"]
    table = proposal.to_frame()
    discrete = proposal.candidates[:, 1:3]
    assert torch.equal(discrete, discrete.round())
    assert table[["n", "on"]].to_numpy().tolist() == discrete.tolist()
    assert set(table["on"]) <= {0, 1}
    assert table["k"].tolist() == [7.0] * 8
    assert proposal.fixed_features == {3: 7.0}
    assert table["a"].round().tolist() != table["a"].tolist()


def test_types_of_the_columns_are_kept(mixed: pd.DataFrame) -> None:
    with pytest.warns(InputDataWarning, match="never vary"):
        table = make(mixed, "y", ignore=["name"]).to_frame()
    assert table["n"].dtype == "int64"
    assert table["a"].dtype == "float64"


def test_integers_stay_inside_bounds_that_are_none(mixed: pd.DataFrame) -> None:
    data = mixed.drop(columns=["name", "k"])
    table = make(data, "y", {"n": (-1.5, 2.5)}, q=3).to_frame()
    assert table["n"].between(-1, 2).all()
    with pytest.raises(InputDataError, match=r"`bounds` of .* 'n' hold no integer: \[0\.2, 0\.8\]"):
        make(data, "y", {"n": (0.2, 0.8)})


def test_fixed_integer_column_keeps_its_value(mixed: pd.DataFrame) -> None:
    data = mixed.drop(columns=["name", "k"])
    assert make(data, "y", fixed_features={"n": 2}).to_frame()["n"].eq(2).all()
    with pytest.raises(ValueError, match=r"`fixed_features\['n'\]` .*integer.* received 1\.5"):
        make(data, "y", fixed_features={"n": 1.5})


def test_constant_columns_of_a_tensor(X: Tensor, Y: Tensor) -> None:
    with_constant = torch.cat([X, torch.full_like(Y, 3.0)], dim=1)
    with pytest.warns(InputDataWarning, match=r"Columns \['x3'\] never vary") as record:
        proposal = make(with_constant, Y)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert proposal.candidates[:, 3].eq(3.0).all()
    asked_for = make(with_constant, Y, fixed_features={3: 4.0})
    assert asked_for.candidates[:, 3].eq(4.0).all()


def test_all_columns_constant() -> None:
    X = torch.ones(4, 2, dtype=torch.double)
    with pytest.warns(InputDataWarning, match=r"Columns \['x0', 'x1'\] never vary"):
        proposal = make(X, torch.arange(4.0, dtype=torch.double), q=1)
    assert proposal.candidates.tolist() == [[1.0, 1.0]]
    assert proposal.distance.tolist() == [0.0]


# Bounds and fixed features


def test_margin_widens_the_bounds_from_the_data(X: Tensor, Y: Tensor) -> None:
    low, high = X.min(dim=0).values, X.max(dim=0).values
    proposal = make(X, Y, margin=0.5)
    torch.testing.assert_close(
        proposal.bounds, torch.stack([low - 0.5 * (high - low), high + 0.5 * (high - low)])
    )


def test_bounds(X: Tensor, Y: Tensor, frame: pd.DataFrame) -> None:
    proposal = make(frame, "y", {"b": (-0.1, 3.7)}, margin=0.1)
    assert proposal.bounds[:, 1].tolist() == [-0.1, 3.7]
    assert torch.equal(proposal.bounds[:, [0, 2]], make(X, Y, margin=0.1).bounds[:, [0, 2]])
    box = torch.tensor([[0.2, -5.0, 0.0], [0.4, 5.0, 200.0]])
    candidates = make(X, Y, box, q=2).candidates
    assert candidates.dtype == torch.double
    assert candidates[:, 0].min() >= 0.2
    assert candidates[:, 0].max() <= 0.4 + 1e-7  # the bounds above are in single precision


def test_fixed_features(X: Tensor, Y: Tensor, frame: pd.DataFrame) -> None:
    by_name = make(frame, "y", fixed_features={"b": 1.25})
    by_index = make(X, Y, fixed_features={1: 1.25})
    from_the_end = make(X, Y, fixed_features={-2: 1.25})
    assert by_name.candidates[:, 1].eq(1.25).all()
    assert torch.equal(by_name.candidates, by_index.candidates)
    assert torch.equal(by_name.candidates, from_the_end.candidates)
    assert by_name.fixed_features == {1: 1.25}


def test_fixed_feature_outside_of_the_data_widens_the_bounds(X: Tensor, Y: Tensor) -> None:
    proposal = make(X, Y, fixed_features={0: 3.0})
    assert proposal.candidates[:, 0].eq(3.0).all()
    assert proposal.bounds[1, 0] == 3.0


def test_constraints_are_passed_on(X: Tensor, Y: Tensor) -> None:
    constraint = (torch.tensor([0, 1]), torch.tensor([1.0, 0.1], dtype=torch.double), 0.3)
    options = {**FAST["optimize_options"], "equality_constraints": [constraint]}
    candidates = make(X, Y, optimize_options=options).candidates
    assert evaluate_feasibility(candidates.unsqueeze(1), None, [constraint]).all()


def test_post_processing_of_ones_own(X: Tensor, Y: Tensor) -> None:
    def halves(designs: Tensor) -> Tensor:
        return (2.0 * designs).round() / 2.0

    options = {**FAST["optimize_options"], "post_processing_func": halves}
    candidates = make(X, Y, margin=1.0, optimize_options=options).candidates
    assert torch.equal(candidates, halves(candidates))


# Distance


def test_distance_is_zero_at_known_designs_only(X: Tensor, Y: Tensor) -> None:
    start = make(X, Y, optimize_options={"num_updates": 0})
    assert start.distance.tolist() == [0.0] * 4
    assert bool((make(X, Y).distance > 0.0).all())


def test_distance_by_brute_force(X: Tensor, Y: Tensor) -> None:
    constant = torch.full_like(Y, 3.0)
    with pytest.warns(InputDataWarning, match="never vary"):
        proposal = make(torch.cat([X, constant], dim=1), Y, margin=0.2)
    scale = X.std(dim=0, correction=0)
    for x, distance in zip(proposal.candidates[:, :3], proposal.distance, strict=True):
        nearest = min((((x - row) / scale) ** 2).mean().sqrt().item() for row in X)
        assert distance.item() == pytest.approx(nearest, rel=1e-9)


def test_distance_of_many(X: Tensor, Y: Tensor) -> None:
    model = make(X, Y).model
    many = X.repeat(5, 1) + 1e-3 * X.std(dim=0, correction=0)
    distance = nearest_distance(many, model)
    torch.testing.assert_close(distance, torch.full_like(distance, 1e-3))


# Seeds, presets, time


def test_seeds(X: Tensor, Y: Tensor) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = make(X, Y, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(make(X, Y, seed=3).candidates, first.candidates)
    assert not torch.equal(make(X, Y, seed=4).candidates, first.candidates)


def test_presets(X: Tensor, Y: Tensor) -> None:
    preset = Preset("mine", FAST["model_options"], FAST["fit_options"], FAST["optimize_options"])
    assert torch.equal(propose(X, Y, q=4, preset=preset).candidates, make(X, Y).candidates)
    longer = propose(X, Y, q=4, preset=preset, optimize_options={"num_updates": 9})
    assert not torch.equal(longer.candidates, make(X, Y).candidates)
    options = {"num_updates": 1, "num_adaptation_steps": 1}
    shared = make(X, Y, preset="author_code", optimize_options=options, record_trajectory=True)
    assert shared.trajectory is not None
    labels = shared.trajectory.pseudo_label[0]
    best = Y.flatten().sort(descending=True).values[:4]
    expected = (best - Y.mean()) / Y.std(correction=0)
    torch.testing.assert_close(labels, expected)


def test_time_budget(X: Tensor, Y: Tensor) -> None:
    proposal = make(
        X,
        Y,
        fit_options={"epochs": 10**6, "num_ascent_steps": 1},
        optimize_options={"num_updates": 10**6},
        timeout_sec=1.0,
        record_trajectory=True,
    )
    assert proposal.history.timed_out
    assert len(proposal.history.loss) < 10**6
    assert proposal.trajectory is not None
    assert len(proposal.trajectory.predicted) < 10**6
    assert len(torch.unique(proposal.candidates, dim=0)) == 4


def test_progress_bars_are_off_by_default(
    X: Tensor, Y: Tensor, capfd: pytest.CaptureFixture[str]
) -> None:
    make(X, Y)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# Bad input


NAN = float("nan")
BOX = torch.tensor([[0.0, -5.0, 0.0], [1.0, 5.0, 200.0]], dtype=torch.double)


def with_value(tensor: Tensor, value: float) -> Tensor:
    tensor = tensor.clone()
    tensor[1, 0] = value
    return tensor


Data = tuple[Tensor, Tensor]

BAD_DATA: list[tuple[Callable[[Tensor, Tensor], Data], type[Exception], str]] = [
    (lambda X, Y: (with_value(X, NAN), Y), InputDataError, r"`train_X` holds 1 NaN .*\[1, 0\]"),
    (lambda X, Y: (X, with_value(Y, torch.inf)), InputDataError, "`train_Y` holds 1 NaN or inf"),
    (lambda X, Y: (X, torch.ones_like(Y)), InputDataError, r"`train_Y` is constant .*value 1\)"),
    (lambda X, Y: (X[:1], Y[:1]), InputDataError, r"two rows, .*\(1, 3\)"),
    (lambda X, Y: (X[:0], Y[:0]), InputDataError, r"two rows, .*\(0, 3\)"),
    (lambda X, Y: (X, Y[:-1]), BotorchTensorDimensionError, r"`train_Y` .* 30 rows.*\(29, 1\)"),
    (lambda X, Y: (X[0], Y), BotorchTensorDimensionError, r"`train_X` .*2 dimensions.*\(3,\)"),
    (lambda X, Y: (X.float(), Y), InputDataError, r"share dtype .*float32 .*float64"),
    (lambda X, Y: (X.int(), Y), InputDataError, r"`train_X` must be floating point.*int32"),
]


@pytest.mark.parametrize(("spoil", "error", "message"), BAD_DATA)
def test_bad_data(
    X: Tensor, Y: Tensor, spoil: Callable[..., Data], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as info:
        make(*spoil(X, Y))
    assert type(info.value) is error


BAD_INPUT: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"q": 0}, ValueError, r"`q` .* at least 1, received 0"),
    ({"q": -1}, ValueError, r"`q` .* received -1"),
    ({"q": 1.5}, ValueError, r"`q` .* received 1\.5"),
    ({"q": True}, ValueError, r"`q` .* received True"),
    ({"q": 31}, ValueError, r"`q` .* is 31, but the 30 designs"),
    ({"seed": -1}, ValueError, r"`seed` .* received -1"),
    ({"margin": -0.1}, ValueError, r"`margin` .* received -0\.1"),
    ({"margin": NAN}, ValueError, r"`margin` .* received nan"),
    ({"maximize": True, "minimize": True}, ValueError, "contradict each other, received True and"),
    ({"maximize": False, "minimize": False}, ValueError, "contradict each other, received False"),
    ({"preset": "quick"}, ValueError, r"`preset` must be one of .*received 'quick'"),
    ({"bounds": BOX.flip(0)}, ValueError, r"`bounds` .*column 0 has lower=1\.0 and upper=0\.0"),
    ({"bounds": BOX * NAN}, ValueError, r"`bounds` must be finite .*lower=nan"),
    ({"bounds": BOX[:, :2]}, ValueError, r"`bounds` must be a 2 x 3 tensor, .*\(2, 2\)"),
    ({"bounds": {"x3": (0, 1)}}, InputDataError, r"`bounds` names the column 'x3', .*'x2'\]"),
    ({"bounds": {"x0": (1, 0)}}, ValueError, r"`bounds` .*lower=1\.0 and upper=0\.0"),
    ({"bounds": {"x0": (0, NAN)}}, ValueError, r"`bounds\['x0'\]` .*finite.* received nan"),
    ({"bounds": {"x0": (0, 1, 2)}}, ValueError, r"`bounds\['x0'\]` .*received \(0, 1, 2\)"),
    ({"bounds": {"x0": 3.0}}, ValueError, r"`bounds\['x0'\]` must be \(lower, upper\).*3\.0"),
    ({"bounds": [[0.0] * 3, [1.0] * 3]}, ValueError, r"`bounds` must be .*received list"),
    ({"fixed_features": {"z": 0.0}}, InputDataError, "`fixed_features` names the column 'z'"),
    ({"fixed_features": {3: 0.0}}, ValueError, r"`fixed_features` has the index 3"),
    ({"fixed_features": {-4: 0.0}}, ValueError, r"`fixed_features` has the index -4"),
    ({"fixed_features": {0: NAN}}, ValueError, r"`fixed_features\[0\]` .* received nan"),
    ({"fixed_features": {0: "a"}}, ValueError, r"`fixed_features\[0\]` .* received 'a'"),
    (
        {"fixed_features": {0: 7.0}, "bounds": BOX},
        ValueError,
        r"`fixed_features\[0\]` must lie within its bounds \[0, 1\], received 7",
    ),
    ({"timeout_sec": 0.0}, ValueError, r"`timeout_sec` .* above 0 seconds, received 0\.0"),
    ({"timeout_sec": -4.0}, ValueError, r"`timeout_sec` .* received -4\.0"),
    ({"timeout_sec": "1"}, ValueError, r"`timeout_sec` .* received '1'"),
    ({"device": "abacus"}, ValueError, r"`device` must be a device .* received 'abacus'"),
    ({"ignore": ["x0"]}, InputDataError, r"`ignore` needs a data frame"),
    ({"optimize_options": {"radius": -1.0}}, ValueError, r"`radius` .* received -1"),
    ({"optimize_options": {"sequential": True}}, UnsupportedError, "`sequential` is not supp"),
    ({"optimize_options": {"rdius": 1.0}}, UnsupportedError, r"Unknown arguments \['rdius'\]"),
    ({"fit_options": {"lr": 0.0}}, ValueError, r"`lr` .* received 0\.0"),
    ({"fit_options": {"epoch": 1}}, TypeError, "unexpected keyword argument 'epoch'"),
    ({"model_options": {"width": 1}}, TypeError, "unexpected keyword argument 'width'"),
    (
        {
            "optimize_options": {
                "equality_constraints": [
                    (torch.tensor([0]), torch.ones(1, dtype=torch.double), 9.0)
                ]
            }
        },
        InfeasibilityError,
        "contradict each other",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "error", "message"), BAD_INPUT, ids=["-".join(a) for a, _, _ in BAD_INPUT]
)
def test_bad_input(
    X: Tensor, Y: Tensor, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as info:
        make(X, Y, **arguments)
    assert type(info.value) is error


def test_duplicate_rows(X: Tensor, Y: Tensor) -> None:
    twice = torch.cat([X, X]), torch.cat([Y, Y])
    assert len(torch.unique(make(*twice, q=30).candidates, dim=0)) == 30
    with pytest.raises(ValueError, match=r"31, but the 60 designs .* only 30 distinct"):
        make(*twice, q=31)


def test_fields_are_documented() -> None:
    for field in dataclasses.fields(Proposal):
        assert f"{field.name}:" in (Proposal.__doc__ or "")


def test_fixed_features_have_one_place() -> None:
    X = torch.rand(20, 2, generator=torch.Generator().manual_seed(0)).double()
    with pytest.raises(
        ValueError, match=r"`optimize_options` must not hold `fixed_features`.*0: 1"
    ):
        propose(X, X[:, :1], q=2, optimize_options={"fixed_features": {0: 1.0}})

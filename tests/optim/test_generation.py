from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from botorch.acquisition import (
    AcquisitionFunction,
    PosteriorMean,
    qLogExpectedImprovement,
    qSimpleRegret,
    qUpperConfidenceBound,
)
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.exceptions import InputDataError, OptimizationWarning
from botorch.exceptions.errors import (
    CandidateGenerationError,
    InfeasibilityError,
    ModelFittingError,
    UnsupportedError,
)
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.optim.parameter_constraints import evaluate_feasibility
from torch import Tensor

from botorch_roma import (
    RoMAModel,
    RoMAOptions,
    Trajectory,
    fit_roma_model,
    gen_candidates_roma,
    gen_top_designs,
    optimize_acqf_roma,
)
from botorch_roma.network import StackedWeights
from botorch_roma.optim import generation
from botorch_roma.optim.constraints import FeasibleSet
from botorch_roma.optim.generation import UpdateResult, run_updates
from botorch_roma.reference import reference_adapt, reference_forward

FAST = {"num_updates": 4, "num_adaptation_steps": 3, "lr": 0.05}
WIDE = torch.tensor([[-1e9] * 3, [1e9] * 3], dtype=torch.double)


class PlainRoMA:
    """The loop of RoMA for one outcome: no stacks, every gradient by autograd, Adam by hand."""

    def __init__(self, model: RoMAModel, options: RoMAOptions, X: Tensor) -> None:
        self.options, self.activation = options, model.network.activation
        self.members = [
            model.network.weights.map(lambda t, e=e: t[e].detach())  # type: ignore[misc]
            for e in range(model.num_members)
        ]
        self.Z = (X - model.x_mean) / model.x_std
        fitted = [[member] * len(X) for member in self.members]
        self.start_mean = self.members_at(fitted, self.Z).mean(dim=0)
        self.labels = self.members_at(fitted, self.Z)
        if options.initial_pseudo_label == "measured":
            rows = [(model.train_X == x).all(dim=-1).nonzero()[0, 0] for x in X]
            measured = (model.train_Y[rows, 0] - model.y_mean) / model.y_std
            self.labels = measured.expand(len(self.members), -1)
        self.first_moment = torch.zeros_like(X)
        self.second_moment = torch.zeros_like(X)
        self.t = 0

    def members_at(self, weights: list[list[StackedWeights]], Z: Tensor) -> Tensor:
        """Predictions of every member at its candidates, ``E x B``."""
        rows = [
            torch.stack(
                [reference_forward(w, z, self.activation)[0] for w, z in zip(own, Z, strict=True)]
            )
            for own in weights
        ]
        return torch.stack(rows)

    def adapt(self) -> list[list[StackedWeights]]:
        settings = {
            "radius": self.options.radius,
            "num_steps": self.options.num_adaptation_steps,
            "alpha": self.options.alpha,
            "loss": self.options.pseudo_label_loss,
            "activation": self.activation,
        }
        adapted = []
        for member, label in zip(self.members, self.labels, strict=True):
            if self.options.mode == "shared":
                adapted.append([reference_adapt(member, self.Z, label, **settings)] * len(self.Z))
            else:
                pairs = zip(self.Z.split(1), label.split(1), strict=True)
                adapted.append([reference_adapt(member, z, y, **settings) for z, y in pairs])
        return adapted

    def update(self) -> dict[str, Tensor]:
        adapted = self.adapt()
        Z = self.Z.clone().requires_grad_(True)
        members = self.members_at(adapted, Z)
        f = members.mean(dim=0)
        objective = f
        if self.options.region is not None:
            objective = f - (f - self.start_mean).square() / (2.0 * self.options.region)
        (gradient,) = torch.autograd.grad(objective.sum(), Z, retain_graph=True)
        norms = [torch.autograd.grad(m.sum(), Z, retain_graph=True)[0].norm(dim=1) for m in members]
        record = {
            "predicted": f.detach(),
            "pseudo_label": self.labels.mean(dim=0),
            "gradient_norm": torch.stack(norms).mean(dim=0),
        }
        self.Z = self.Z + self.options.step_size(self.Z.shape[-1]) * self.direction(gradient)
        self.labels = self.members_at(adapted, self.Z)
        return record

    def direction(self, gradient: Tensor) -> Tensor:
        if self.options.step_rule == "gradient":
            return gradient
        self.t += 1
        self.first_moment = 0.9 * self.first_moment + 0.1 * gradient
        self.second_moment = 0.999 * self.second_moment + 0.001 * gradient.square()
        first = self.first_moment / (1.0 - 0.9**self.t)
        second = self.second_moment / (1.0 - 0.999**self.t)
        return first / (second.sqrt() + 1e-8)


def run(
    model: RoMAModel, X: Tensor, options: RoMAOptions, **arguments: Any
) -> tuple[UpdateResult, Trajectory]:
    trajectory = Trajectory()
    result = run_updates(
        X, PosteriorMean(model), FeasibleSet(WIDE), options, trajectory=trajectory, **arguments
    )
    return result, trajectory


VARIANTS = {
    "gradient, no cap": {"step_rule": "gradient", "region": None},
    "gradient, its own step": {"step_rule": "gradient", "lr": None},
    "gradient, cap": {"step_rule": "gradient", "region": 0.5},
    "adam, cap": {"region": 0.5},
    "adam, no cap": {"region": None},
    "shared": {"mode": "shared", "region": 0.5},
    "shared, gradient": {"mode": "shared", "step_rule": "gradient", "region": None},
    "measured": {"initial_pseudo_label": "measured", "alpha": 3.0},
    "nll": {"pseudo_label_loss": "nll"},
    "authors' code": {
        "mode": "shared",
        "initial_pseudo_label": "measured",
        "pseudo_label_loss": "nll",
        "region": 4.0,
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("members", [1, 2])
def test_update_rule(model: RoMAModel, ensemble: RoMAModel, members: int, variant: str) -> None:
    proxy = {1: model, 2: ensemble}[members]
    X = proxy.train_X[:2]
    common = {"radius": 0.3, "num_adaptation_steps": 3, "num_updates": 4, "lr": 0.1}
    options = RoMAOptions(**{**common, **VARIANTS[variant]})
    result, trajectory = run(proxy, X, options)
    plain = PlainRoMA(proxy, options, X)
    for t in range(options.num_updates):
        Z = (trajectory.x[t] - proxy.x_mean) / proxy.x_std
        torch.testing.assert_close(Z, plain.Z, rtol=1e-7, atol=1e-9)
        for name, expected in plain.update().items():
            actual = getattr(trajectory, name)[t]
            torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9, msg=f"{name}, {t}")
    torch.testing.assert_close((result.X - proxy.x_mean) / proxy.x_std, plain.Z, rtol=1e-7, atol=0)
    assert result.num_updates == options.num_updates


def test_the_variants_differ(model: RoMAModel) -> None:
    """Otherwise the test above would show nothing."""
    ends = []
    for variant in VARIANTS.values():
        common = {"radius": 0.3, "num_adaptation_steps": 3, "num_updates": 4, "lr": 0.1}
        options = RoMAOptions(**{**common, **variant})
        ends.append(run(model, model.train_X[:2], options)[0].X)
    distance = torch.cdist(torch.stack(ends).flatten(1), torch.stack(ends).flatten(1))
    assert (distance + torch.eye(len(ends))).min() > 1e-6


def test_cap_stops_at_the_region(model: RoMAModel) -> None:
    options = RoMAOptions(radius=0.0, step_rule="gradient", lr=0.05, num_updates=300, region=0.25)
    _, trajectory = run(model, model.train_X[model.train_Y.flatten().argsort()[:2]], options)
    gain = trajectory.predicted[-1] - trajectory.fitted_prediction[0]
    torch.testing.assert_close(gain, torch.full_like(gain, 0.25), rtol=1e-3, atol=0.0)


def test_cap_of_a_minimisation(model: RoMAModel) -> None:
    """The gain is counted downwards."""
    transform = ScalarizedPosteriorTransform(torch.tensor([-1.0], dtype=torch.double))
    options = RoMAOptions(radius=0.0, step_rule="gradient", lr=0.05, num_updates=300, region=0.25)
    acq_function = PosteriorMean(model, posterior_transform=transform)
    trajectory = Trajectory()
    run_updates(model.train_X[:2], acq_function, FeasibleSet(WIDE), options, trajectory=trajectory)
    gain = trajectory.fitted_prediction[0] - trajectory.predicted[-1]
    torch.testing.assert_close(gain, torch.full_like(gain, 0.25), rtol=1e-3, atol=0.0)


def test_cap_of_several_outputs(two_outputs: RoMAModel) -> None:
    """The gain is that of the acquisition value, in deviations of its values at the data."""
    weights = torch.tensor([1.0, 3.0], dtype=torch.double)
    acq_function = PosteriorMean(
        two_outputs, posterior_transform=ScalarizedPosteriorTransform(weights)
    )
    options = RoMAOptions(radius=0.0, step_rule="gradient", lr=0.05, num_updates=300, region=0.25)
    result = run_updates(two_outputs.train_X[:2], acq_function, FeasibleSet(WIDE), options)
    with torch.no_grad():
        ends = acq_function(torch.stack([two_outputs.train_X[:2], result.X]).unsqueeze(2))
        unit = acq_function(two_outputs.train_X.unsqueeze(1)).std(correction=0)
    gain = (ends[1] - ends[0]) / unit
    torch.testing.assert_close(gain, torch.full_like(gain, 0.25), rtol=1e-3, atol=0.0)


def test_cap_refers_to_the_prediction_where_the_label_is_measured(model: RoMAModel) -> None:
    options = RoMAOptions(
        radius=0.0,
        step_rule="gradient",
        lr=0.05,
        num_updates=300,
        region=0.25,
        initial_pseudo_label="measured",
    )
    _, trajectory = run(model, model.train_X[model.train_Y.flatten().argsort()[:2]], options)
    assert not torch.allclose(trajectory.pseudo_label[0], trajectory.fitted_prediction[0])
    gain = trajectory.predicted[-1] - trajectory.fitted_prediction[0]
    torch.testing.assert_close(gain, torch.full_like(gain, 0.25), rtol=1e-3, atol=0.0)


def test_radius_zero_is_gradient_ascent_on_the_fitted_model(model: RoMAModel) -> None:
    options = RoMAOptions(radius=0.0, step_rule="gradient", lr=0.1, num_updates=5, region=None)
    X = model.train_X[:3]
    result, _ = run(model, X, options)
    for _ in range(5):
        leaf = X.clone().requires_grad_(True)
        mean = model.posterior(leaf.unsqueeze(1)).mean.sum()
        (gradient,) = torch.autograd.grad(mean, leaf)
        X = X + 0.1 * model.x_std.square() / model.y_std * gradient
    torch.testing.assert_close(result.X, X, rtol=1e-10, atol=1e-10)


def test_snapshots_and_number_of_updates(model: RoMAModel) -> None:
    X = model.train_X[:2]
    result, trajectory = run(model, X, RoMAOptions(num_updates=3, num_adaptation_steps=1))
    assert len(result.snapshots) == 4
    for snapshot, x in zip(result.snapshots, trajectory.x, strict=True):
        assert torch.equal(snapshot, x)
    result, _ = run(model, X, RoMAOptions(num_updates=100, radius=0.0))
    assert 32 <= len(result.snapshots) <= 64
    assert torch.equal(result.snapshots[0], X)
    none, trajectory = run(model, X, RoMAOptions(num_updates=0))
    assert torch.equal(none.X, X)
    assert len(trajectory.x) == 1


@pytest.mark.usefixtures("fake_clock")
def test_time_budget(model: RoMAModel) -> None:
    X = model.train_X[:2]
    options = RoMAOptions(num_updates=100_000, num_adaptation_steps=1)
    result, trajectory = run(model, X, options, timeout_sec=20.0)
    # of two looks at the clock each; one more, as long as the one before, would not fit
    assert result.num_updates == 9
    assert len(trajectory.predicted) == 9
    expected, _ = run(model, X, dataclasses.replace(options, num_updates=9))
    assert torch.equal(result.X, expected.X)


@pytest.mark.usefixtures("fake_clock")
def test_a_first_update_that_does_not_fit_leaves_no_trace(model: RoMAModel) -> None:
    """It ends with the time budget, of three seconds, not with its hundred steps."""
    X, options = model.train_X[:2], RoMAOptions(num_updates=9, num_adaptation_steps=100)
    with pytest.warns(OptimizationWarning, match=r"left 3 s for stage 2, in which no update could"):
        result, trajectory = run(model, X, options, timeout_sec=3.0)
    assert generation.time.monotonic() < 9
    assert result.num_updates == len(trajectory.predicted) == 0
    assert torch.equal(result.X, X)
    result, _ = run(model, X, RoMAOptions(num_updates=0), timeout_sec=3.0)  # none was asked for
    assert torch.equal(result.X, X)


def test_measured_labels_need_known_designs(model: RoMAModel) -> None:
    X = model.train_X[:2].clone()
    X[1] += 1e-3
    options = RoMAOptions(initial_pseudo_label="measured", num_updates=1)
    with pytest.raises(ValueError, match=r"row of `train_X`; start design 1 is not"):
        run(model, X, options)


def test_measured_labels_of_repeated_designs() -> None:
    """The highest value, by which the start designs are ranked."""
    X = torch.tensor([[0.0], [1.0], [1.0], [2.0]], dtype=torch.double)
    Y = torch.tensor([[0.0], [1.0], [3.0], [2.0]], dtype=torch.double)
    model = RoMAModel(X, Y, hidden_sizes=(2,))
    fit_roma_model(model, epochs=1, num_validation=0, seed=0)
    options = RoMAOptions(initial_pseudo_label="measured", num_updates=1)
    trajectory, line = Trajectory(), torch.tensor([[-9.0], [9.0]], dtype=torch.double)
    run_updates(X[1:2], PosteriorMean(model), FeasibleSet(line), options, trajectory=trajectory)
    assert trajectory.pseudo_label[0].item() == pytest.approx(1.5 / Y.std(correction=0).item())


# gen_candidates_roma


def start_of(model: RoMAModel, b: int, q: int) -> Tensor:
    order = model.train_Y.flatten().argsort(descending=True)
    return model.train_X[order[: b * q]].reshape(b, q, -1)


def test_gen_candidates_moves_as_optimize_acqf_roma_does(model: RoMAModel, bounds: Tensor) -> None:
    start = start_of(model, 4, 1)
    candidates, values = gen_candidates_roma(
        start, PosteriorMean(model), bounds[0], bounds[1], options={**FAST, "maxiter": 7}
    )
    expected, expected_values = optimize_acqf_roma(PosteriorMean(model), bounds, q=4, **FAST)
    assert torch.equal(candidates.squeeze(1), expected)
    assert torch.equal(values, expected_values)


def test_gen_candidates_without_bounds_or_with_numbers(model: RoMAModel) -> None:
    start = start_of(model, 2, 1)
    free, _ = gen_candidates_roma(start, PosteriorMean(model), options=FAST)
    assert torch.isfinite(free).all()
    assert not torch.equal(free, start)
    low, _ = gen_candidates_roma(start, PosteriorMean(model), upper_bounds=0.5, options=FAST)
    assert low.max() <= 0.5


def test_gen_candidates_unbounded_with_a_constraint(model: RoMAModel) -> None:
    start = start_of(model, 2, 1)
    line = (torch.tensor([0]), torch.ones(1, dtype=torch.double), 2.0)
    X, _ = gen_candidates_roma(
        start, PosteriorMean(model), inequality_constraints=[line], options=FAST
    )
    assert X[..., 0].min() >= 2.0 - 1e-8


@pytest.mark.parametrize("acquisition", [qSimpleRegret, qUpperConfidenceBound])
def test_joint_candidates(model: RoMAModel, bounds: Tensor, acquisition: type) -> None:
    extra = {"beta": 0.5} if acquisition is qUpperConfidenceBound else {}
    acq_function = acquisition(model, **extra)
    start = start_of(model, 2, 3)
    candidates, values = gen_candidates_roma(
        start, acq_function, bounds[0], bounds[1], options=FAST
    )
    assert candidates.shape == (2, 3, 3)
    assert values.shape == (2,)
    assert not candidates.requires_grad
    assert not values.requires_grad
    assert not torch.equal(candidates, start)
    torch.testing.assert_close(values, acq_function(candidates))
    assert bool((values > acq_function(start)).all())


def test_joint_candidates_with_pending_points(model: RoMAModel, bounds: Tensor) -> None:
    acq_function = qLogExpectedImprovement(
        model, best_f=model.train_Y.mean(), X_pending=model.train_X[-2:]
    )
    candidates, values = gen_candidates_roma(
        start_of(model, 2, 3), acq_function, bounds[0], bounds[1], options=FAST
    )
    assert candidates.shape == (2, 3, 3)
    assert torch.isfinite(values).all()
    assert torch.equal(acq_function.X_pending, model.train_X[-2:])


def test_gen_candidates_inside_optimize_acqf(model: RoMAModel, bounds: Tensor) -> None:
    start = start_of(model, 4, 1)
    acq_function = PosteriorMean(model)
    arguments = {
        "num_restarts": 4,
        "batch_initial_conditions": start,
        "gen_candidates": gen_candidates_roma,
        "options": {**FAST, "batch_limit": 4, "unheard_of": 1},
    }
    candidates, values = optimize_acqf(acq_function, bounds, 1, return_best_only=False, **arguments)
    expected, _ = gen_candidates_roma(start, acq_function, bounds[0], bounds[1], options=FAST)
    assert torch.equal(candidates, expected)
    best, best_value = optimize_acqf(acq_function, bounds, 1, **arguments)
    assert best.shape == (1, 3)
    assert best_value == values.max()
    rounded, value = optimize_acqf(
        acq_function, bounds, 1, post_processing_func=lambda X: X.round(), **arguments
    )
    assert torch.equal(rounded, rounded.round())
    torch.testing.assert_close(value, acq_function(rounded.unsqueeze(0)).squeeze(0))


def test_joint_candidates_inside_optimize_acqf(model: RoMAModel, bounds: Tensor) -> None:
    constraint = (torch.tensor([0, 1]), torch.tensor([1.0, 0.1], dtype=torch.double), 0.9)
    acq_function = qSimpleRegret(model)
    candidates, value = optimize_acqf(
        acq_function,
        bounds,
        q=3,
        num_restarts=2,
        batch_initial_conditions=start_of(model, 2, 3),
        gen_candidates=gen_candidates_roma,
        fixed_features={2: 222.0},
        inequality_constraints=[constraint],
        post_processing_func=lambda X: X,
        options=FAST,
    )
    assert candidates.shape == (3, 3)
    assert candidates[:, 2].eq(222.0).all()
    assert evaluate_feasibility(candidates.unsqueeze(1), inequality_constraints=[constraint]).all()
    torch.testing.assert_close(value, acq_function(candidates).squeeze())


def test_with_start_designs_and_generator_of_this_package(model: RoMAModel, bounds: Tensor) -> None:
    candidates, _ = optimize_acqf(
        PosteriorMean(model),
        bounds,
        q=1,
        num_restarts=5,
        raw_samples=8,
        ic_generator=gen_top_designs,
        gen_candidates=gen_candidates_roma,
        options={**FAST, "seed": 0},
        return_best_only=False,
    )
    assert candidates.shape == (5, 1, 3)
    assert bool(((candidates >= bounds[0]) & (candidates <= bounds[1])).all())


def test_nonlinear_constraint_inside_optimize_acqf(model: RoMAModel, bounds: Tensor) -> None:
    def wall(x: Tensor) -> Tensor:
        return 0.5 - (x[..., 0] - 0.3).square() * 4.0

    feasible = model.train_X[[bool(wall(x) > 0.0) for x in model.train_X]]
    candidates, _ = optimize_acqf(
        PosteriorMean(model),
        bounds,
        q=1,
        num_restarts=3,
        batch_initial_conditions=feasible[:3].unsqueeze(1),
        nonlinear_inequality_constraints=[(wall, True)],
        gen_candidates=gen_candidates_roma,
        options={**FAST, "num_updates": 40, "batch_limit": 1},
        return_best_only=False,
    )
    assert bool((wall(candidates) >= 0.0).all())


class NotANumber(AcquisitionFunction):
    """Returns NaN everywhere."""

    def forward(self, X: Tensor) -> Tensor:
        return self.model.posterior(X).mean[..., 0, 0] * float("nan")


@pytest.mark.parametrize("num_updates", [0, 2])
def test_nan_is_no_success(model: RoMAModel, bounds: Tensor, num_updates: int) -> None:
    with pytest.raises(CandidateGenerationError, match=r"NotANumber returned NaN .* 2 of 2"):
        gen_candidates_roma(
            start_of(model, 2, 1),
            NotANumber(model),
            bounds[0],
            bounds[1],
            options={**FAST, "num_updates": num_updates},
        )


def test_gen_candidates_bad_input(model: RoMAModel, gp: SingleTaskGP, bounds: Tensor) -> None:
    acq_function, start = PosteriorMean(model), start_of(model, 2, 1)
    with pytest.raises(ValueError, match=r"`initial_conditions` .* b x q x d, received \(2, 3\)"):
        gen_candidates_roma(start[:, 0], acq_function)
    with pytest.raises(InputDataError, match=r"`initial_conditions` .*float32 .*float64"):
        gen_candidates_roma(start.float(), acq_function)
    with pytest.raises(InputDataError, match="`initial_conditions` holds 6 NaN"):
        gen_candidates_roma(start * torch.nan, acq_function)
    with pytest.raises(ValueError, match=r"`timeout_sec` .* received -1\.0"):
        gen_candidates_roma(start, acq_function, timeout_sec=-1.0)
    with pytest.raises(ValueError, match=r"column 1 has lower=nan"):
        gen_candidates_roma(start, acq_function, torch.tensor([0.0, torch.nan, 0.0]), 1.0)
    with pytest.raises(ValueError, match=r"lower=2\.0 and upper=1\.0"):
        gen_candidates_roma(start, acq_function, 2.0, 1.0)
    with pytest.raises(ValueError, match=r"`radius` .* received -1"):
        gen_candidates_roma(start, acq_function, options={"radius": -1})
    with pytest.raises(UnsupportedError, match=r"`min_distance` is 0\.5, .* returns all"):
        gen_candidates_roma(start, acq_function, options={"min_distance": 0.5})
    with pytest.raises(UnsupportedError, match="must use a RoMAModel"):
        gen_candidates_roma(start, PosteriorMean(gp))
    unfitted = RoMAModel(model.train_X, model.train_Y)
    with pytest.raises(ModelFittingError, match="call `fit_roma_model"):
        gen_candidates_roma(start, PosteriorMean(unfitted), bounds[0], bounds[1])
    impossible = [(torch.tensor([0]), torch.ones(1, dtype=torch.double), 2.0)]
    with pytest.raises(InfeasibilityError, match="contradict"):
        gen_candidates_roma(
            start, acq_function, bounds[0], bounds[1], equality_constraints=impossible
        )

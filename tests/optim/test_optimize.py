from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from botorch.acquisition import (
    AcquisitionFunction,
    LogExpectedImprovement,
    PosteriorMean,
    UpperConfidenceBound,
    qKnowledgeGradient,
    qLogExpectedImprovement,
    qSimpleRegret,
    qUpperConfidenceBound,
)
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.objective import LinearMCObjective, ScalarizedPosteriorTransform
from botorch.exceptions import (
    BotorchTensorDimensionError,
    InputDataError,
    InputDataWarning,
    OptimizationWarning,
)
from botorch.exceptions.errors import (
    CandidateGenerationError,
    InfeasibilityError,
    ModelFittingError,
    UnsupportedError,
)
from botorch.models import ModelList, SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.optim.initializers import gen_batch_initial_conditions
from botorch.optim.parameter_constraints import evaluate_feasibility
from botorch.sampling import SobolQMCNormalSampler
from torch import Tensor

from botorch_roma import (
    RoMAModel,
    RoMAOptions,
    Trajectory,
    adapt_roma_model,
    fit_roma_model,
    gen_candidates_roma,
    optimize_acqf_roma,
)
from botorch_roma.optim import optimize_acqfs_roma
from botorch_roma.optim.initializers import distinct_keys, input_scale

FAST = {"num_updates": 8, "num_adaptation_steps": 2, "lr": 0.05}


def optimize(acq_function: AcquisitionFunction, bounds: Tensor, q: int = 4, **kw: Any) -> Tensor:
    """Candidates after a few updates."""
    return optimize_acqf_roma(acq_function, bounds, q, **{**FAST, **kw})[0]


def top(model: RoMAModel, q: int) -> Tensor:
    return model.train_X[model.train_Y[:, 0].argsort(descending=True)[:q]]


def num_distinct(X: Tensor) -> int:
    return len(set(distinct_keys(X, torch.ones(X.shape[-1]))))


# The interface


#: Intended differences from ``optimize_acqf``: the default there, the default here, the reason.
OTHER_DEFAULTS = {
    "num_restarts": (inspect.Parameter.empty, 1),  # the start designs are given by the data
    "retry_on_optimization_warning": (True, False),  # not supported
}
#: Supported by ``optimize_acqf`` only; anything but the default is refused.
REFUSED = {
    "gen_candidates": gen_candidates_roma,
    "sequential": True,
    "acq_function_sequence": [],
    "return_full_tree": True,
    "retry_on_optimization_warning": True,
}
#: RoMA's own, all keyword-only.
OWN = {
    *RoMAOptions.names(),
    "X_avoid",
    "trajectory",
    "progress",
    "checkpoint",
    "checkpoint_interval",
}


def test_signature_is_that_of_optimize_acqf() -> None:
    theirs = inspect.signature(optimize_acqf).parameters
    ours = inspect.signature(optimize_acqf_roma).parameters
    assert [name for name in ours if name not in OWN] == list(theirs)
    for name, parameter in theirs.items():
        assert ours[name].kind == parameter.kind, name
        expected = OTHER_DEFAULTS.get(name, (parameter.default, parameter.default))
        assert (parameter.default, ours[name].default) == expected, name
    for name in OWN:
        assert ours[name].kind == inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_apply_is_refused(model: RoMAModel, bounds: Tensor, name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"`{name}` is not supported"):
        optimize(PosteriorMean(model), bounds, **{name: REFUSED[name]})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"batch_initial_conditions": torch.tensor([[0.5, 0.0, 200.0]] * 4)},
    ],
)
def test_unknown_arguments_are_refused(
    model: RoMAModel, bounds: Tensor, arguments: dict[str, Any]
) -> None:
    hint = r"Unknown arguments \['radiuss'\].* Did you mean `radius` for `radiuss`\?"
    with pytest.raises(UnsupportedError, match=hint):
        optimize(PosteriorMean(model), bounds, radiuss=0.1, **arguments)


def test_returns_detached_candidates_and_their_values(model: RoMAModel, bounds: Tensor) -> None:
    acq_function = PosteriorMean(model)
    X, values = optimize_acqf_roma(acq_function, bounds, q=5, **FAST)
    assert X.shape == (5, 3)
    assert values is not None
    assert not X.requires_grad
    assert not values.requires_grad
    torch.testing.assert_close(values, acq_function(X.unsqueeze(1)))
    assert num_distinct(X) == 5
    assert values.mean() > acq_function(top(model, 5).unsqueeze(1)).mean()


def test_return_acq_values_and_return_best_only(model: RoMAModel, bounds: Tensor) -> None:
    acq_function = PosteriorMean(model)
    arguments = {"q": 3, "num_restarts": 4, **FAST}
    X, values = optimize_acqf_roma(acq_function, bounds, return_best_only=False, **arguments)
    assert X.shape == (4, 3, 3)
    assert values is not None
    assert values.shape == (4, 3)
    torch.testing.assert_close(values, acq_function(X.reshape(12, 1, 3)).reshape(4, 3))
    same, none = optimize_acqf_roma(
        acq_function, bounds, return_best_only=False, return_acq_values=False, **arguments
    )
    assert none is None
    assert torch.equal(same, X)
    best, best_values = optimize_acqf_roma(acq_function, bounds, **arguments)
    assert best_values is not None
    assert torch.equal(best_values, values.flatten().topk(3).values)
    assert torch.equal(best, X.reshape(12, 3)[values.flatten().topk(3).indices])
    only, none = optimize_acqf_roma(acq_function, bounds, return_acq_values=False, **arguments)
    assert none is None
    assert torch.equal(only, best)


# Start designs


def test_starts_from_the_best_rows(model: RoMAModel, bounds: Tensor) -> None:
    X = optimize(PosteriorMean(model), bounds, q=5, num_updates=0)
    assert torch.equal(X, top(model, 5))


def test_minimisation_goes_down(model: RoMAModel, bounds: Tensor) -> None:
    transform = ScalarizedPosteriorTransform(torch.tensor([-1.0], dtype=torch.double))
    acq_function = PosteriorMean(model, posterior_transform=transform)
    start = optimize(acq_function, bounds, num_updates=0)
    assert torch.equal(start, model.train_X[model.train_Y.flatten().argsort()[:4]])
    wide = bounds + torch.tensor([[-1.0], [1.0]]) * (bounds[1] - bounds[0])
    end = optimize(acq_function, wide)
    predicted = model.posterior(torch.stack([start, end])).mean.squeeze(-1)
    assert bool((predicted[1] < predicted[0]).all())


@pytest.mark.parametrize("dim", [2, 3])
def test_batch_initial_conditions(model: RoMAModel, bounds: Tensor, dim: int) -> None:
    start = model.train_X[5:9] if dim == 2 else model.train_X[4:12].reshape(2, 4, 3)
    X = optimize(
        PosteriorMean(model),
        bounds,
        batch_initial_conditions=start,
        num_updates=0,
        return_best_only=False,
    )
    assert torch.equal(X, start.reshape(-1, 4, 3))


def test_batch_initial_conditions_are_moved_into_the_constraints(
    model: RoMAModel, bounds: Tensor
) -> None:
    X = optimize(
        PosteriorMean(model),
        bounds,
        batch_initial_conditions=model.train_X[:4],
        fixed_features={0: 0.5},
        num_updates=0,
    )
    assert X[:, 0].eq(0.5).all()
    assert torch.equal(X[:, 1:], model.train_X[:4, 1:])


def test_ic_generator(model: RoMAModel, bounds: Tensor) -> None:
    seen: dict[str, Any] = {}

    def generator(**kwargs: Any) -> Tensor:
        seen.update(kwargs)
        return model.train_X[: kwargs["q"] * kwargs["num_restarts"]].reshape(2, 3, 3)

    X = optimize(
        PosteriorMean(model),
        bounds,
        q=3,
        num_restarts=2,
        ic_generator=generator,
        extra=1,
        num_updates=0,
        return_best_only=False,
    )
    assert torch.equal(X.reshape(6, 3), model.train_X[:6])
    assert seen["extra"] == 1
    assert torch.equal(seen["bounds"], bounds)
    X = optimize(
        qSimpleRegret(model),  # BoTorch's generator evaluates q points jointly
        bounds,
        q=3,
        num_restarts=2,
        raw_samples=8,
        ic_generator=gen_batch_initial_conditions,
        options={"seed": 0},
    )
    assert X.shape == (3, 3)
    with pytest.raises(ValueError, match=r"`ic_generator` must have shape .* received \(2, 3, 3\)"):
        optimize(PosteriorMean(model), bounds, q=2, ic_generator=generator, num_restarts=3)


def test_raw_samples_are_seeded(model: RoMAModel, bounds: Tensor) -> None:
    runs = [
        optimize(PosteriorMean(model), bounds, 30, raw_samples=64, options={"seed": s})
        for s in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


# Bounds and constraints


ONE = torch.ones(1, dtype=torch.double)
PAIR = torch.tensor([0, 1])
#: ``x_0 + x_1 / 10 >= 0.9``, tight at some of the best designs, and ``x_0 = x_1 / 10 + 0.5``.
HALF_SPACE = (PAIR, torch.tensor([1.0, 0.1], dtype=torch.double), 0.9)
OTHER_HALF = (PAIR, torch.tensor([-1.0, -0.1], dtype=torch.double), -1.0)
LINE = (PAIR, torch.tensor([1.0, -0.1], dtype=torch.double), 0.5)


def wall(x: Tensor) -> Tensor:
    """Nonnegative below ``x_2 = 220``."""
    return 220.0 - x[..., 2]


CONSTRAINTS = {
    "bounds": {},
    "fixed": {"fixed_features": {0: 0.4}},
    "fixed, negative index": {"fixed_features": {-1: 222.0, -3: torch.tensor(0.25)}},
    "inequality": {"inequality_constraints": [HALF_SPACE]},
    "two inequalities": {"inequality_constraints": [HALF_SPACE, OTHER_HALF]},
    "equality": {"equality_constraints": [LINE]},
    "both": {"inequality_constraints": [HALF_SPACE], "equality_constraints": [LINE]},
    "nonlinear": {"nonlinear_inequality_constraints": [(wall, True)]},
    "all": {
        "inequality_constraints": [OTHER_HALF],
        "fixed_features": {1: 3.0},
        "nonlinear_inequality_constraints": [(wall, True)],
    },
}


@pytest.mark.parametrize("kind", CONSTRAINTS)
@pytest.mark.parametrize("step_rule", ["adam", "gradient"])
def test_constraints_hold_at_every_step(
    model: RoMAModel, bounds: Tensor, kind: str, step_rule: str
) -> None:
    constraints, trajectory = CONSTRAINTS[kind], Trajectory()
    X = optimize(
        PosteriorMean(model),
        bounds,
        num_updates=15,
        lr=0.3,
        step_rule=step_rule,
        trajectory=trajectory,
        region=None,
        **constraints,
    )
    path = torch.cat([trajectory.stack("x"), X.unsqueeze(0)])
    assert path.shape == (17, 4, 3)
    assert bool((path >= bounds[0]).all())
    assert bool((path <= bounds[1]).all())
    for i, value in constraints.get("fixed_features", {}).items():
        assert path[..., i].eq(float(value)).all()
    rest = {k: v for k, v in constraints.items() if k != "fixed_features"}
    assert evaluate_feasibility(path.reshape(-1, 1, 3), **rest).all()
    assert (path[0] - path[-1]).abs().amax() > 0.1
    if kind == "bounds":
        assert bool((path == bounds[1]).any())  # else the bounds would not have been tested


def test_nonlinear_constraint_would_be_violated_without_it(
    model: RoMAModel, bounds: Tensor
) -> None:
    start = model.train_X[wall(model.train_X) >= 0.0][:4]
    arguments = {"batch_initial_conditions": start, "num_updates": 40}
    free = optimize(PosteriorMean(model), bounds, **arguments)
    assert wall(free).min() < 0.0
    held = optimize(
        PosteriorMean(model), bounds, nonlinear_inequality_constraints=[(wall, True)], **arguments
    )
    assert wall(held).min() >= 0.0
    assert wall(held).min() < 20.0


def test_start_that_violates_a_nonlinear_constraint(model: RoMAModel, bounds: Tensor) -> None:
    start = model.train_X[wall(model.train_X) < 0.0][:4]
    with pytest.raises(InfeasibilityError, match="`nonlinear_inequality_constraints`"):
        optimize(
            PosteriorMean(model),
            bounds,
            batch_initial_conditions=start,
            nonlinear_inequality_constraints=[(wall, True)],
        )


def test_columns_that_never_vary_never_move(bounds: Tensor) -> None:
    X = torch.rand(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    X[:, 1] = 0.3
    with pytest.warns(InputDataWarning, match=r"constant in columns \[1\]"):
        model = RoMAModel(X, X.sum(dim=-1, keepdim=True), hidden_sizes=(4,))
    fit_roma_model(model, epochs=3, num_ascent_steps=1, seed=0)
    unit = torch.tensor([[-2.0] * 3, [2.0] * 3], dtype=torch.double)
    constraint = (torch.arange(3), torch.ones(3, dtype=torch.double), 2.5)
    for constraints in ({}, {"inequality_constraints": [constraint]}):
        moved = optimize(PosteriorMean(model), unit, **constraints)
        assert moved[:, 1].eq(0.3).all()
        assert not torch.equal(moved, top(model, 4))


# Distinct candidates


def grid(step: float) -> Callable[[Tensor], Tensor]:
    scale = torch.tensor([1.0, 10.0, 200.0], dtype=torch.double)
    return lambda X: (X / scale / step).round() * step * scale


def one_hot(X: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(X.argmax(dim=-1), X.shape[-1]).to(X)


@pytest.mark.parametrize("num_restarts", [1, 2])
def test_distinct_after_rounding(model: RoMAModel, bounds: Tensor, num_restarts: int) -> None:
    process = grid(0.25)
    X = optimize(
        PosteriorMean(model),
        bounds,
        q=8,
        num_restarts=num_restarts,
        num_updates=60,
        lr=0.05,
        region=None,
        post_processing_func=process,
    )
    assert torch.equal(X, process(X))
    assert num_distinct(X) == X.shape[0] == 8


def test_duplicates_go_back_along_their_own_path(model: RoMAModel, bounds: Tensor) -> None:
    """Two candidates in one cell at the end: the second one takes its last other cell."""
    process, trajectory = grid(0.125), Trajectory()
    arguments = {"num_updates": 30, "lr": 0.05, "region": None}
    X = optimize(
        PosteriorMean(model),
        bounds,
        q=6,
        post_processing_func=process,
        trajectory=trajectory,
        **arguments,
    )
    path = process(trajectory.stack("x"))
    ends = path[-1]
    assert num_distinct(ends) < 6
    assert num_distinct(X) == 6
    taken: list[list[float]] = []
    for i in range(6):
        if ends[i].tolist() not in taken:
            assert torch.equal(X[i], ends[i])
            taken.append(ends[i].tolist())
    for i in range(6):
        if torch.equal(X[i], ends[i]):
            continue
        own = [x.tolist() for x in path[:, i].flip(0)]
        assert X[i].tolist() == next(x for x in own if x not in taken)
        taken.append(X[i].tolist())
    assert len(taken) == 6


def test_one_hot_designs_stay_distinct() -> None:
    X = torch.eye(5, dtype=torch.double)
    model = RoMAModel(X, torch.arange(5.0, dtype=torch.double).unsqueeze(-1), hidden_sizes=(4,))
    fit_roma_model(model, epochs=20, num_ascent_steps=1, num_validation=0, seed=0, lr=0.05)
    box = torch.stack([torch.full((5,), -1.0), torch.full((5,), 2.0)]).double()
    arguments = {"num_updates": 100, "lr": 0.1, "region": None, "post_processing_func": one_hot}
    candidates = optimize(PosteriorMean(model), box, q=4, **arguments)
    assert num_distinct(candidates) == 4
    assert torch.equal(one_hot(candidates), candidates)
    arguments["post_processing_func"] = None
    assert num_distinct(one_hot(optimize(PosteriorMean(model), box, q=4, **arguments))) < 4


def test_warns_where_only_start_designs_are_left(model: RoMAModel, bounds: Tensor) -> None:
    def known_or_nothing(X: Tensor) -> Tensor:
        known = (X.unsqueeze(1) == model.train_X).all(dim=-1).any(dim=-1, keepdim=True)
        return torch.where(known, X, bounds[0])

    with pytest.warns(OptimizationWarning, match="3 of 4 candidates .* as start designs"):
        X = optimize(PosteriorMean(model), bounds, post_processing_func=known_or_nothing)
    assert torch.equal(X[1:], top(model, 4)[1:])
    assert torch.equal(X[0], bounds[0])


def test_warns_where_post_processing_leaves_the_allowed_designs(
    model: RoMAModel, bounds: Tensor
) -> None:
    with pytest.warns(OptimizationWarning, match="moved 4 of 4 candidates out of `bounds`"):
        optimize(PosteriorMean(model), bounds, post_processing_func=lambda X: X + 1_000.0)


def test_refuses_what_has_no_meaning_with_one_proxy_per_candidate(
    model: RoMAModel, bounds: Tensor
) -> None:
    noisy = qLogNoisyExpectedImprovement(model, X_baseline=model.train_X[:3], cache_root=False)
    with pytest.raises(UnsupportedError, match="evaluates its `X_baseline` together"):
        optimize_acqf_roma(noisy, bounds, q=2)
    ahead = qKnowledgeGradient(model, num_fantasies=2)
    with pytest.raises(UnsupportedError, match="qKnowledgeGradient looks ahead to measurements"):
        optimize_acqf_roma(ahead, bounds, q=2)
    adapted = adapt_roma_model(model, model.train_X[:2])
    with pytest.raises(UnsupportedError, match="uses an AdaptedRoMAModel"):
        optimize_acqf_roma(PosteriorMean(adapted), bounds, q=2)


def test_too_few_designs_within_reach(model: RoMAModel, bounds: Tensor) -> None:
    with pytest.raises(
        CandidateGenerationError, match="Only 1 of 3 candidates are distinct, and no"
    ):
        optimize(PosteriorMean(model), bounds, q=3, post_processing_func=torch.zeros_like)


def test_equal_starts_end_in_distinct_designs(model: RoMAModel, bounds: Tensor) -> None:
    start = model.train_X[:1].expand(3, 3)
    X = optimize(PosteriorMean(model), bounds, q=3, batch_initial_conditions=start)
    assert num_distinct(X) == 3


# Acquisition functions


def acquisition_functions(model: RoMAModel) -> dict[str, AcquisitionFunction]:
    best = model.train_Y.max()
    pending = model.train_X[:2]
    return {
        "PosteriorMean": PosteriorMean(model),
        "UCB": UpperConfidenceBound(model, beta=2.0),
        "LogEI": LogExpectedImprovement(model, best_f=best),
        "qLogEI": qLogExpectedImprovement(model, best_f=best),
        "qUCB": qUpperConfidenceBound(model, beta=0.5),
        "qSR": qSimpleRegret(model),
        "qLogEI, pending": qLogExpectedImprovement(model, best_f=best, X_pending=pending),
        "qUCB, pending": qUpperConfidenceBound(model, beta=0.5, X_pending=pending),
    }


@pytest.mark.parametrize(
    "name",
    ["PosteriorMean", "UCB", "LogEI", "qLogEI", "qUCB", "qSR", "qLogEI, pending", "qUCB, pending"],
)
def test_acquisition_functions(model: RoMAModel, bounds: Tensor, name: str) -> None:
    acq_function = acquisition_functions(model)[name]
    X, values = optimize_acqf_roma(acq_function, bounds, q=4, **FAST)
    assert num_distinct(X) == 4
    assert values is not None
    assert torch.isfinite(values).all()
    with torch.no_grad():
        start = acq_function(top(model, 4).unsqueeze(1))
        torch.testing.assert_close(values, acq_function(X.unsqueeze(1)))
    assert values.mean() > start.mean()


def test_lower_confidence_bound(model: RoMAModel, bounds: Tensor) -> None:
    """``maximize=False`` turns the direction, of the start designs and of the steps."""
    acq_function = UpperConfidenceBound(model, beta=2.0, maximize=False)
    wide = bounds + torch.tensor([[-1.0], [1.0]]) * (bounds[1] - bounds[0])
    X = optimize(acq_function, wide)
    start = model.train_X[model.train_Y.flatten().argsort()[:4]]
    with torch.no_grad():
        assert acq_function(X.unsqueeze(1)).mean() > acq_function(start.unsqueeze(1)).mean()
        assert PosteriorMean(model)(X.unsqueeze(1)).mean() < model.train_Y.min()


def test_model_list_with_a_process(model: RoMAModel, gp: SingleTaskGP, bounds: Tensor) -> None:
    objective = LinearMCObjective(torch.tensor([1.0, -0.5], dtype=torch.double))
    acq_function = qSimpleRegret(ModelList(model, gp), objective=objective)
    X, values = optimize_acqf_roma(acq_function, bounds, q=4, **FAST)
    assert num_distinct(X) == 4
    with torch.no_grad():
        assert values is not None
        assert values.mean() > acq_function(top(model, 4).unsqueeze(1)).mean()


def test_scalarised_outputs(two_outputs: RoMAModel, bounds: Tensor) -> None:
    weights = torch.tensor([1.0, 3.0], dtype=torch.double)
    analytic = PosteriorMean(two_outputs, posterior_transform=ScalarizedPosteriorTransform(weights))
    sampled = qSimpleRegret(two_outputs, objective=LinearMCObjective(weights))
    for acq_function in (analytic, sampled):
        X, values = optimize_acqf_roma(acq_function, bounds, q=4, **FAST)
        start = two_outputs.train_X[(two_outputs.train_Y @ weights).argsort(descending=True)[:4]]
        with torch.no_grad():
            assert values is not None
            assert values.mean() > acq_function(start.unsqueeze(1)).mean()
        assert num_distinct(X) == 4


def test_model_list_of_one(model: RoMAModel, bounds: Tensor) -> None:
    X = optimize(qSimpleRegret(ModelList(model)), bounds)
    expected = optimize(qSimpleRegret(model), bounds)
    torch.testing.assert_close(X, expected, rtol=1e-3, atol=0.0)


def test_two_roma_models_in_a_list(model: RoMAModel, ensemble: RoMAModel, bounds: Tensor) -> None:
    objective = LinearMCObjective(torch.tensor([1.0, 1.0], dtype=torch.double))
    acq_function = qSimpleRegret(ModelList(model, ensemble), objective=objective)
    X = optimize(acq_function, bounds)
    assert num_distinct(X) == 4


@pytest.mark.parametrize("name", ["PosteriorMean", "qLogEI", "qLogEI, pending", "ModelList"])
def test_nothing_is_changed(model: RoMAModel, gp: SingleTaskGP, bounds: Tensor, name: str) -> None:
    acq_function = (
        qSimpleRegret(
            ModelList(model, gp), objective=LinearMCObjective(torch.ones(2, dtype=torch.double))
        )
        if name == "ModelList"
        else acquisition_functions(model)[name]
    )
    acq_function(bounds.mean(dim=0).expand(1, 1, 3))  # the first call makes a sampler, if need be
    modules = dict(acq_function.named_modules())
    state = copy.deepcopy(acq_function.state_dict())
    parameters = dict(acq_function.named_parameters())
    fitted = copy.deepcopy(model.state_dict())
    optimize(acq_function, bounds)
    assert dict(acq_function.named_modules()).keys() == modules.keys()
    for key, module in acq_function.named_modules():
        assert module is modules[key]
    assert acq_function.state_dict().keys() == state.keys()
    for key, tensor in acq_function.state_dict().items():
        assert torch.equal(tensor, state[key])
    for key, parameter in acq_function.named_parameters():
        assert parameter is parameters[key]
        assert parameter.grad is None
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, fitted[key])
    assert all(p.requires_grad for p in model.network.parameters())


def test_without_a_roma_model(gp: SingleTaskGP, bounds: Tensor) -> None:
    with pytest.raises(UnsupportedError, match=r"`acq_function` must use a RoMAModel .* over Sing"):
        optimize(PosteriorMean(gp), bounds)


class Broken(AcquisitionFunction):
    """NaN in the value, in the gradient, or infinite."""

    def __init__(self, model: RoMAModel, kind: str) -> None:
        super().__init__(model)
        self.kind = kind

    def forward(self, X: Tensor) -> Tensor:
        mean = self.model.posterior(X).mean[..., 0, 0]
        if self.kind == "gradient":
            return mean + 0.0 * (mean - mean.detach()).sqrt()
        return mean * float(self.kind)


@pytest.mark.parametrize(
    ("kind", "num_updates", "message"),
    [
        ("nan", 1, "Broken returned NaN or infinite values or gradients at 4 of 4"),
        ("nan", 0, "Broken returned NaN at 4 of 4"),
        ("inf", 1, "Broken returned NaN or infinite values or gradients at 4 of 4"),
        ("gradient", 1, "Broken returned NaN or infinite values or gradients at 4 of 4"),
    ],
)
def test_nan_is_no_success(
    model: RoMAModel, bounds: Tensor, kind: str, num_updates: int, message: str
) -> None:
    with pytest.raises(CandidateGenerationError, match=message):
        optimize(Broken(model, kind), bounds, num_updates=num_updates)


# Reproducibility, precision, time


def test_independent_of_the_global_generator(model: RoMAModel, bounds: Tensor) -> None:
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        runs.append(optimize(PosteriorMean(model), bounds))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(runs[0], runs[1])


def test_sampler_is_made_once(model: RoMAModel, bounds: Tensor) -> None:
    """An acquisition function without one draws a seed at its first call, as in BoTorch."""
    states = []
    for optimized in (False, True):
        acq_function = qLogExpectedImprovement(model, best_f=model.train_Y.mean())
        torch.manual_seed(0)
        if optimized:
            optimize(acq_function, bounds)
        else:
            acq_function(bounds[:1].unsqueeze(0))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_sampler_with_a_seed(model: RoMAModel, bounds: Tensor) -> None:
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        sampler = SobolQMCNormalSampler(torch.Size([16]), seed=7)
        acq_function = qLogExpectedImprovement(model, model.train_Y.mean(), sampler=sampler)
        runs.append(optimize(acq_function, bounds))
        assert acq_function.sampler is sampler
    assert torch.equal(runs[0], runs[1])


def test_float32(model_float32: RoMAModel, bounds: Tensor) -> None:
    """Also with bounds in another precision; nothing is cast behind the user's back."""
    X, values = optimize_acqf_roma(PosteriorMean(model_float32), bounds, q=4, **FAST)
    assert X.dtype == torch.float32
    assert values is not None
    assert values.dtype == torch.float32
    assert model_float32.train_X.dtype == torch.float32
    assert {p.dtype for p in model_float32.parameters()} == {torch.float32}
    constraint = (PAIR, HALF_SPACE[1].float(), 0.9)
    X = optimize(PosteriorMean(model_float32), bounds, inequality_constraints=[constraint])
    assert evaluate_feasibility(X.unsqueeze(1), [constraint], tolerance=1e-5).all()


@pytest.mark.usefixtures("fake_clock")
def test_time_budget_returns_valid_candidates(model: RoMAModel, bounds: Tensor) -> None:
    trajectory = Trajectory()
    X = optimize(
        PosteriorMean(model),
        bounds,
        num_updates=10**6,
        timeout_sec=50.0,
        trajectory=trajectory,
        inequality_constraints=[HALF_SPACE],
    )
    assert len(trajectory.predicted) == 16  # three looks at the clock each; preparing takes two
    assert num_distinct(X) == 4
    assert evaluate_feasibility(X.unsqueeze(1), [HALF_SPACE]).all()


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize("name", ["PosteriorMean", "UCB", "LogEI"])
def test_units_of_the_outcome_do_not_matter(bounds: Tensor, factor: float, name: str) -> None:
    X = torch.rand(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    Y = -(X - 0.7).square().sum(dim=-1, keepdim=True)
    ends = []
    for Y_scaled in (Y, factor * Y):
        model = RoMAModel(X, Y_scaled, hidden_sizes=(8,))
        fit_roma_model(model, epochs=5, num_ascent_steps=1, seed=0)
        acq_function = acquisition_functions(model)[name]
        unit = torch.tensor([[-1.0] * 3, [2.0] * 3], dtype=torch.double)
        ends.append(optimize(acq_function, unit))
    assert (ends[0] - top(model, 4)).abs().max() > 0.01
    torch.testing.assert_close(ends[0], ends[1], rtol=0.0, atol=1e-3)


@pytest.mark.parametrize(
    "form", [{"first_layer": "dense"}, {"first_layer": "reduced"}, {"weight_form": "factored"}]
)
def test_the_form_of_the_weights_makes_no_difference(
    model: RoMAModel, bounds: Tensor, form: dict[str, str]
) -> None:
    arguments = {"step_rule": "gradient", "mode": "per_candidate"}
    expected = optimize(PosteriorMean(model), bounds, **arguments)
    actual = optimize(PosteriorMean(model), bounds, **form, **arguments)
    assert not torch.equal(actual, top(model, 4))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("options", [{"early_stop": True, "radius": 3.0}, {"reuse_steps": 2}])
def test_fewer_steps_reach_the_adaptation(
    model: RoMAModel, bounds: Tensor, options: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"mode": "per_candidate", "num_adaptation_steps": 4, **options}
    off = {"early_stop": False, "reuse_steps": 0}
    first, again = (optimize(PosteriorMean(model), bounds, **arguments) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, optimize(PosteriorMean(model), bounds, **arguments | off))
    start = top(model, 4).unsqueeze(1)
    generated, _ = gen_candidates_roma(start, PosteriorMean(model), options={**FAST, **arguments})
    without, _ = gen_candidates_roma(
        start, PosteriorMean(model), options={**FAST, **arguments, **off}
    )
    assert not torch.equal(generated, without)


def test_candidates_keep_a_distance(model: RoMAModel, bounds: Tensor) -> None:
    arguments: dict[str, Any] = {"num_updates": 60, "lr": 0.1, "region": None}

    def closest(X: Tensor) -> float:
        Z = X / input_scale(model)
        distance = torch.cdist(Z, Z) / Z.shape[1] ** 0.5
        return distance.fill_diagonal_(torch.inf).min().item()

    near, values = optimize_acqf_roma(PosteriorMean(model), bounds, 4, **{**FAST, **arguments})
    arguments["min_distance"] = 0.2
    apart, others = optimize_acqf_roma(PosteriorMean(model), bounds, 4, **{**FAST, **arguments})
    assert closest(near) < 0.2 <= closest(apart)
    assert values is not None
    assert others is not None
    best = values.argmax()
    assert torch.equal(near[best], apart[best])  # the best stays
    torch.testing.assert_close(others, PosteriorMean(model)(apart.unsqueeze(1)))
    all_of_them = optimize_acqf_roma(
        PosteriorMean(model), bounds, 2, 2, return_best_only=False, **{**FAST, **arguments}
    )[0]
    assert closest(all_of_them.flatten(end_dim=1)) >= 0.2


def test_progress_goes_to_standard_error(
    model: RoMAModel, bounds: Tensor, capfd: pytest.CaptureFixture[str]
) -> None:
    optimize(PosteriorMean(model), bounds, progress=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    optimize(PosteriorMean(model), bounds)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# Bad input


NAN = float("nan")


def changed(row: int, column: int, value: float) -> Tensor:
    bounds = torch.tensor([[0.0, -5.0, 100.0], [1.0, 5.0, 300.0]], dtype=torch.double)
    bounds[row, column] = value
    return bounds


BAD_INPUT: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"bounds": changed(0, 1, NAN)}, ValueError, r"`bounds` .*column 1 has lower=nan"),
    ({"bounds": changed(1, 2, 50.0)}, ValueError, r"`bounds` .*column 2 .*100\.0 and upper=50"),
    ({"bounds": changed(1, 0, torch.inf)}, ValueError, r"`bounds` must be finite.*upper=inf"),
    ({"bounds": changed(0, 0, 0.0)[:, :2]}, ValueError, r"`bounds` .* 2 x 3 .* \(2, 2\)"),
    ({"bounds": changed(0, 0, 0.0).T}, ValueError, r"`bounds` .* 2 x 3 .* \(3, 2\)"),
    ({"bounds": [[0, 1]] * 3}, ValueError, r"`bounds` must be a 2 x d tensor, received list"),
    ({"q": 0}, ValueError, r"`q` must be an integer of at least 1, received 0"),
    ({"q": -1}, ValueError, r"`q` .* received -1"),
    ({"q": 1.5}, ValueError, r"`q` .* received 1\.5"),
    ({"q": True}, ValueError, r"`q` .* received True"),
    ({"q": 41}, ValueError, r"`q` times `num_restarts` is 41, but there are only 40 designs"),
    ({"num_restarts": 0}, ValueError, r"`num_restarts` .* at least 1, received 0"),
    ({"raw_samples": 0}, ValueError, r"`raw_samples` .* received 0"),
    ({"timeout_sec": 0.0}, ValueError, r"`timeout_sec` .* above 0 seconds, received 0\.0"),
    ({"timeout_sec": NAN}, ValueError, r"`timeout_sec` .* received nan"),
    ({"fixed_features": {3: 0.0}}, ValueError, r"`fixed_features` has the index 3"),
    ({"fixed_features": {0: 1.5}}, ValueError, r"`fixed_features\[0\]` .* received 1\.5"),
    (
        {"fixed_features": {0: 0.5}, "equality_constraints": [(PAIR[:1], ONE, 0.7)]},
        InfeasibilityError,
        "`equality_constraints`, .* contradict each other",
    ),
    (
        {"inequality_constraints": [(torch.tensor([[0, 0], [1, 0]]), HALF_SPACE[1], 0.0)]},
        UnsupportedError,
        r"`inequality_constraints\[0\]` links several candidates",
    ),
    (
        {"nonlinear_inequality_constraints": [(wall, False)]},
        UnsupportedError,
        r"`nonlinear_inequality_constraints\[0\]` links several candidates",
    ),
    (
        {"nonlinear_inequality_constraints": [(lambda x: -1.0 - x[0], True)]},
        InfeasibilityError,
        "Only 0 of 2 start designs satisfy `nonlinear_inequality_constraints`",
    ),
    (
        {"batch_initial_conditions": torch.full((2, 3), 2.0, dtype=torch.double)},
        ValueError,
        r"`batch_initial_conditions` .*design 0 of batch 0 has 2 in column 0, .*\[0, 1\]",
    ),
    (
        {"batch_initial_conditions": torch.rand(3, 3)},
        ValueError,
        r"`batch_initial_conditions` .* num_restarts x 2 x 3 .* received \(1, 3, 3\)",
    ),
    (
        {"batch_initial_conditions": torch.rand(1, 2, 2)},
        ValueError,
        r"`batch_initial_conditions` .* received \(1, 2, 2\)",
    ),
    (
        {"batch_initial_conditions": torch.rand(3)},
        BotorchTensorDimensionError,
        r"`batch_initial_conditions` .* received shape \(3,\)",
    ),
    (
        {"batch_initial_conditions": torch.full((2, 3), NAN)},
        InputDataError,
        "`batch_initial_conditions` holds 6 NaN",
    ),
    ({"options": {"maxiter": 5}}, UnsupportedError, r"`options` has .* \['maxiter'\]"),
    ({"options": {"radius": 5}}, UnsupportedError, r"\['radius'\]; .* are keyword arguments"),
    ({"radius": -0.1}, ValueError, r"`radius` .* received -0\.1"),
    ({"num_adaptation_steps": -1}, ValueError, r"`num_adaptation_steps` .* received -1"),
    ({"num_updates": -1}, ValueError, r"`num_updates` .* received -1"),
    ({"lr": 0.0}, ValueError, r"`lr` .* above 0, received 0\.0"),
    ({"lr": -1.0}, ValueError, r"`lr` .* received -1\.0"),
    ({"alpha": NAN}, ValueError, r"`alpha` .* received nan"),
    ({"region": NAN}, ValueError, r"`region` .* received nan"),
    ({"step_rule": "newton"}, ValueError, r"`step_rule` .* received 'newton'"),
    ({"mode": "all"}, ValueError, r"`mode` .* received 'all'"),
]


@pytest.mark.parametrize(
    ("arguments", "error", "message"), BAD_INPUT, ids=["-".join(a) for a, _, _ in BAD_INPUT]
)
def test_bad_input(
    model: RoMAModel,
    bounds: Tensor,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as info:
        optimize_acqf_roma(PosteriorMean(model), **{"bounds": bounds, "q": 2, **FAST, **arguments})
    assert type(info.value) is error


def test_unfitted_model(model: RoMAModel, bounds: Tensor) -> None:
    unfitted = RoMAModel(model.train_X, model.train_Y)
    with pytest.raises(ModelFittingError, match=r"`model` has not been fitted.*`fit_roma_model"):
        optimize(PosteriorMean(unfitted), bounds)


def test_scale_of_the_steps(model: RoMAModel, bounds: Tensor) -> None:
    """``lr`` is a step in standard deviations of the data: Adam's first step shows it."""
    wide = bounds + torch.tensor([[-1.0], [1.0]]) * (bounds[1] - bounds[0])
    X = optimize(PosteriorMean(model), wide, num_updates=1, lr=0.02)
    step = (X - top(model, 4)).abs() / input_scale(model)
    torch.testing.assert_close(step, torch.full_like(step, 0.02), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize(
    "arguments", [{"raw_samples": 8}, {"ic_generator": gen_batch_initial_conditions}]
)
def test_given_start_designs_leave_nothing_to_generate(
    model: RoMAModel, bounds: Tensor, arguments: dict[str, Any]
) -> None:
    start = top(model, 2)
    with pytest.raises(UnsupportedError, match=f"`{next(iter(arguments))}` is not supported"):
        optimize(PosteriorMean(model), bounds, q=2, batch_initial_conditions=start, **arguments)


# Several optimisations side by side


def other_weights(model: RoMAModel, seed: int) -> RoMAModel:
    new = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in new.network.tensors:
            noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor += 0.05 * noise
    return new


@pytest.mark.parametrize("mode", ["per_candidate", "shared"])
@pytest.mark.parametrize("maximize", [True, False])
def test_side_by_side_is_as_one_after_the_other(
    ensemble: RoMAModel, bounds: Tensor, maximize: bool, mode: str
) -> None:
    models = [other_weights(ensemble, seed) for seed in range(3)]
    functions = [PosteriorMean(m, maximize=maximize) for m in models]
    options: dict[str, Any] = {
        **FAST,
        "mode": mode,
        "num_restarts": 2,
        "fixed_features": {1: 0.5},
        "inequality_constraints": [(torch.tensor([0]), torch.tensor([-1.0]).double(), -0.8)],
        "X_avoid": top(ensemble, 2),
    }
    together = optimize_acqfs_roma(functions, bounds, 3, **options)
    assert len(together) == 3
    for function, (X, values) in zip(functions, together, strict=True):
        expected = optimize_acqf_roma(function, bounds, 3, **options)
        torch.testing.assert_close(X, expected[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(values, expected[1])
    assert not torch.equal(together[0][0], together[1][0])


def test_side_by_side_returns_what_is_asked_for(model: RoMAModel, bounds: Tensor) -> None:
    functions = [PosteriorMean(other_weights(model, seed)) for seed in range(2)]
    options: dict[str, Any] = {**FAST, "num_restarts": 2, "return_best_only": False}
    for X, values in optimize_acqfs_roma(functions, bounds, 3, **options):
        assert X.shape == (2, 3, 3)
        assert values is not None
        assert values.shape == (2, 3)
    ((_, nothing),) = optimize_acqfs_roma(functions[:1], bounds, 3, return_acq_values=False, **FAST)
    assert nothing is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectory": Trajectory()}, "`trajectory` is not supported"),
        ({"timeout_sec": 3.0}, "`timeout_sec` is not supported"),
        ({"sequential": True}, "`sequential` is not supported"),
        ({"q": 0}, "`q` must be"),
    ],
)
def test_side_by_side_refuses(
    model: RoMAModel, bounds: Tensor, change: dict[str, Any], message: str
) -> None:
    with pytest.raises((UnsupportedError, ValueError), match=message):
        optimize_acqfs_roma([PosteriorMean(model)], bounds, **{"q": 3, **FAST, **change})


def test_side_by_side_is_for_posterior_means(model: RoMAModel, bounds: Tensor) -> None:
    with pytest.raises(
        UnsupportedError, match=r"of type PosteriorMean .* received UpperConfidence"
    ):
        optimize_acqfs_roma([UpperConfidenceBound(model, beta=1.0)], bounds, 3)
    with pytest.raises(ValueError, match="`acq_functions` is empty"):
        optimize_acqfs_roma([], bounds, 3)
    with pytest.raises(UnsupportedError, match="lerning_rate"):
        optimize_acqfs_roma([PosteriorMean(model)], bounds, 3, lerning_rate=0.1)


class TestWithoutCopy:
    """Stage 2 over a table that is not copied."""

    @pytest.mark.usefixtures("small_chunks")
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"raw_samples": 32, "options": {"seed": 0}},
            {"initial_pseudo_label": "measured"},
        ],
    )
    def test_same_as_the_default(
        self, model: RoMAModel, bounds: Tensor, options: dict[str, Any]
    ) -> None:
        kept = RoMAModel(model.train_X, model.train_Y, hidden_sizes=(8, 8), copy=False)
        kept.load_state_dict(model.state_dict())
        X = optimize(PosteriorMean(kept), bounds, num_updates=5, **options)
        expected = optimize(PosteriorMean(model), bounds, num_updates=5, **options)
        torch.testing.assert_close(X, expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"raw_samples": 32, "options": {"seed": 0}},
            {"initial_pseudo_label": "measured"},
        ],
    )
    def test_the_table_is_never_made(self, small_chunks: Any, options: dict[str, Any]) -> None:
        generator = torch.Generator().manual_seed(0)
        X = torch.rand(16_000, 40, generator=generator, dtype=torch.double)
        model = RoMAModel(X, X[:, :1], hidden_sizes=(4,), copy=False)
        model.fitted.fill_(True)
        bounds = torch.stack([X.amin(dim=0), X.amax(dim=0)])
        with small_chunks(X) as record:
            optimize(copy.deepcopy(PosteriorMean(model)), bounds, num_updates=2, **options)
        assert 0 < record.numbers <= X.numel() / 10

"""Every error says which argument is wrong, what came, and what to do: 160 that are provoked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from botorch.acquisition import PosteriorMean, qLogNoisyExpectedImprovement
from botorch.exceptions import BotorchError
from botorch.exceptions.errors import ModelFittingError
from botorch.models import SingleTaskGP

from botorch_roma import (
    RoMAModel,
    adapt_roma_model,
    fit_roma_model,
    gen_candidates_roma,
    get_preset,
    load_task,
    optimize_acqf_roma,
    propose,
)
from botorch_roma.latent import LatentSpace, OneHotEncoding, Vocabulary, make_sequence_encoding
from botorch_roma.saved import load_weights, save_weights
from botorch_roma.selection import select_options

pytestmark = pytest.mark.filterwarnings("ignore")

X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
Y = X.sum(dim=-1, keepdim=True)
BOUNDS = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.double)
HOLES, HUGE = X.clone(), Y.clone()
HOLES[3, 1], HUGE[2] = torch.nan, torch.inf
INDEX, ONE = torch.tensor([0]), torch.tensor([1.0], dtype=torch.double)
FRAME = pd.DataFrame(X.numpy(), columns=["a", "b", "c"]).assign(
    y=Y.numpy(), s=["acg", "act"] * 10, k=["u", "v"] * 10, i=range(20)
)

#: What tells a reader what to do: what it must be, or something after the fault.
REMEDY = re.compile(
    r" must |; \w+|, name one|, correct or|needs indices|known are|keyword arguments"
)


def make(**options: Any) -> RoMAModel:
    return RoMAModel(X, Y, **{"hidden_sizes": (4,), **options})


@pytest.fixture(scope="module")
def model() -> RoMAModel:
    model = make()
    fit_roma_model(model, epochs=1, seed=0)
    return model


def check(call: Callable[[], Any], *parts: str) -> None:
    """A deliberate error that holds these texts, the argument and the value, and a remedy."""
    with pytest.raises((BotorchError, ModelFittingError, ValueError, OSError)) as info:
        call()
    message = str(info.value)
    for part in parts:
        assert part in message
    assert REMEDY.search(message), message
    assert "\n" not in message


MODEL: list[tuple[dict[str, Any], str]] = [
    ({"hidden_sizes": 64}, "received 64"),
    ({"hidden_sizes": None}, "received None"),
    ({"hidden_sizes": "64"}, "received '64'"),
    ({"hidden_sizes": (8, 0)}, "received (8, 0)"),
    ({"hidden_sizes": (float("inf"),)}, "received (inf,)"),
    ({"activation": "relu"}, "received 'relu'"),
    ({"num_members": 0}, "received 0"),
    ({"seed": "1"}, "received '1'"),
    ({"copy": "no"}, "received 'no'"),
    ({"input_transform": "log"}, "received 'log'"),
    ({"outcome_transform": 3}, "received 3"),
    ({"train_Yvar": -Y}, "received -"),
    ({"train_Yvar": Y[:3]}, "received (3, 1)"),
]


@pytest.mark.parametrize(("options", "value"), MODEL)
def test_model(options: dict[str, Any], value: str) -> None:
    check(lambda: make(**options), f"`{next(iter(options))}` ", value)


DATA: list[tuple[Any, Any, str, str]] = [
    ([[1.0]], Y, "train_X", "list"),
    (X[:, 0], Y, "train_X", "(20,)"),
    (X.long(), Y, "train_X", "int64"),
    (X.half(), Y, "train_X", "float16"),
    (X.bfloat16(), Y, "train_X", "bfloat16"),
    (HOLES, Y, "train_X", "[3, 1]"),
    (X, Y[:5], "train_Y", "(5, 1)"),
    (X, HUGE, "train_Y", "[2, 0]"),
    (X, torch.ones_like(Y), "train_Y", "value 1"),
    (X.float(), Y, "train_X", "float32"),
    (X[:1], Y[:1], "train_X", "(1, 3)"),
]


@pytest.mark.parametrize(("train_X", "train_Y", "name", "value"), DATA)
def test_data(train_X: Any, train_Y: Any, name: str, value: str) -> None:
    check(lambda: RoMAModel(train_X, train_Y), f"`{name}`", value)


FIT: list[tuple[str, Any]] = [
    ("loss", "mse"),
    ("noise_std", -1),
    ("radius", float("nan")),
    ("num_ascent_steps", -1),
    ("epochs", 0),
    ("batch_size", 1.5),
    ("lr", "fast"),
    ("max_grad_norm", 0),
    ("num_validation", 20),
    ("seed", -2),
    ("keep", "all"),
    ("first_layer", "thin"),
    ("conservatism", -1),
    ("timeout_sec", 0),
    ("checkpoint", 3),
    ("checkpoint_interval", -1),
    ("progress", "yes"),
    ("warm_start", 1),
]


@pytest.mark.parametrize(("name", "value"), FIT)
def test_fit(name: str, value: Any) -> None:
    options = {"epochs": 1, "seed": 0, name: value}
    check(lambda: fit_roma_model(make(), **options), f"`{name}` ", repr(value))


@pytest.mark.parametrize("call", [fit_roma_model, save_weights, load_weights, select_options])
def test_no_model(call: Callable[..., Any]) -> None:
    rest: dict[Any, tuple[Any, ...]] = {
        fit_roma_model: (),
        select_options: (BOUNDS, 2),
    }
    for value in ("m", SingleTaskGP(X, Y)):
        given = type(value).__name__
        check(lambda v=value: call(v, *rest.get(call, ("w",))), "`model` ", f"received {given}")
    check(lambda: adapt_roma_model(3, X), "`model` must be a RoMAModel", "received int")


STAGE_2: list[tuple[dict[str, Any], str]] = [
    ({"q": 0}, "received 0"),
    ({"q": 30}, "is 30"),
    ({"num_restarts": "a"}, "received 'a'"),
    ({"raw_samples": -1}, "received -1"),
    ({"bounds": [[0.0] * 3, [1.0] * 3]}, "received list"),
    ({"bounds": BOUNDS.flip(0)}, "lower=1.0"),
    ({"acq_function": None}, "received NoneType"),
    ({"acq_function": PosteriorMean(SingleTaskGP(X, Y))}, "SingleTaskGP"),
    ({"radius": -1}, "received -1"),
    ({"num_adaptation_steps": -1}, "received -1"),
    ({"alpha": "a"}, "received 'a'"),
    ({"mode": "all"}, "received 'all'"),
    ({"pseudo_label_loss": "l1"}, "received 'l1'"),
    ({"initial_pseudo_label": "none"}, "received 'none'"),
    ({"weight_form": "thin"}, "received 'thin'"),
    ({"early_stop": 1}, "received 1"),
    ({"reuse_steps": 50}, "received 50"),
    ({"step_rule": "sgd"}, "received 'sgd'"),
    ({"lr": -1}, "received -1"),
    ({"num_updates": -1}, "received -1"),
    ({"region": 0}, "received 0"),
    ({"max_spread": 1.0}, "is 1"),
    ({"reencode_every": 2}, "received 2"),
    ({"min_distance": -1}, "received -1"),
    ({"local_search_rounds": -1}, "received -1"),
    ({"timeout_sec": -1}, "received -1"),
    ({"checkpoint": 5}, "received 5"),
    ({"checkpoint_interval": -1}, "received -1"),
    ({"sequential": True}, "received True"),
    ({"gen_candidates": 1}, "received 1"),
    ({"ic_generator": 3}, "received 3"),
    ({"post_processing_func": 3}, "received 3"),
    ({"options": 3}, "received 3"),
    ({"options": {"maxiter": 5}}, "['maxiter']"),
    ({"trajectory": 3}, "received 3"),
    ({"progress": 3}, "received 3"),
    ({"return_best_only": 3}, "received 3"),
    ({"X_avoid": X[:, :2]}, "received (20, 2)"),
    ({"batch_initial_conditions": X[None, :2] + 5}, "in column 0"),
    ({"fixed_features": {5: 1.0}}, "index 5"),
    ({"fixed_features": {0: 7.0}}, "received 7"),
    ({"fixed_features": {0: "a"}}, "received 'a'"),
    ({"fixed_features": [0]}, "received [0]"),
    ({"inequality_constraints": [3]}, "received 3"),
    ({"equality_constraints": [([0], [1.0], 0.0)]}, "received ([0], [1.0], 0.0)"),
    ({"inequality_constraints": [(INDEX, ONE, "a")]}, "'a'"),
    ({"inequality_constraints": [(INDEX + 7, ONE, 0.0)]}, "received indices [7]"),
    ({"nonlinear_inequality_constraints": [3]}, "received 3"),
    ({"nonlinear_inequality_constraints": [("f", True)]}, "received ('f', True)"),
]


@pytest.mark.parametrize(("options", "value"), STAGE_2)
def test_stage_2(model: RoMAModel, options: dict[str, Any], value: str) -> None:
    call = {"acq_function": PosteriorMean(model), "bounds": BOUNDS, "q": 2, **options}
    check(lambda: optimize_acqf_roma(**call), f"`{next(iter(options))}", value)


def test_stage_2_by_other_ways(model: RoMAModel) -> None:
    mean = PosteriorMean(model)
    noisy = qLogNoisyExpectedImprovement(model, X)
    check(lambda: optimize_acqf_roma(noisy, BOUNDS, 2), "`X_baseline`", "qLogNoisy")
    check(lambda: gen_candidates_roma([1], mean), "`initial_conditions`", "received list")
    check(lambda: gen_candidates_roma(X, mean), "`initial_conditions`", "received (20, 3)")
    starts = X.unsqueeze(1)
    check(lambda: gen_candidates_roma(starts, mean, "a"), "`lower_bounds`", "received 'a'")
    check(lambda: gen_candidates_roma(starts, mean, 0.0, [1]), "`upper_bounds`", "received [1]")
    check(lambda: adapt_roma_model(model, X[0]), "`X`", "received shape (3,)")
    check(lambda: adapt_roma_model(model, X.float()), "`X`", "float32")
    check(lambda: adapt_roma_model(model, X, Y[:3]), "`pseudo_label`", "(3, 1)")
    check(lambda: adapt_roma_model(model, X, mode="z"), "`mode`", "'z'")
    check(lambda: adapt_roma_model(make(), X), "`model`", "not been fitted")
    check(lambda: model.posterior([1]), "`X`", "received list")
    check(lambda: model.posterior(HOLES), "`X`", "[3, 1]")
    check(lambda: model.subset_output([4]), "`idcs`", "received [4]")
    check(lambda: save_weights(make(), "w"), "`model`", "not been fitted")
    check(lambda: load_weights(model, "none"), "'none'")


def run(*data: Any, **options: Any) -> Any:
    return propose(*(data or (FRAME, "y")), **{"q": 2, "ignore": ["s"], **options})


PROPOSE: list[tuple[dict[str, Any], str]] = [
    ({"q": 21}, "is 21"),
    ({"ignore": "a"}, "received 'a'"),
    ({"sequences": "s", "ignore": []}, "received 's'"),
    ({"categories": "i"}, "received 'i'"),
    ({"encoding": "latent"}, "received 'latent'"),
    ({"encoding_options": {"beta": 1}}, "['beta']"),
    ({"encoding_options": 3}, "received 3"),
    ({"maximize": True, "minimize": True}, "received True and True"),
    ({"preset": "slow"}, "received 'slow'"),
    ({"margin": -1}, "received -1"),
    ({"bounds": {"z": (0, 1)}}, "'z'"),
    ({"bounds": {"a": 3}}, "received 3"),
    ({"bounds": {"a": (1, 0)}}, "received (1, 0)"),
    ({"bounds": {"i": (2.1, 2.9)}}, "[2.1, 2.9]"),
    ({"bounds": "a"}, "received str"),
    ({"fixed_features": {"z": 1}}, "'z'"),
    ({"fixed_features": {"k": "w"}}, "received 'w'"),
    ({"fixed_features": {"a": "w"}}, "received 'w'"),
    ({"device": "abacus"}, "received 'abacus'"),
    ({"dtype": torch.int64}, "received torch.int64"),
    ({"dtype": "float"}, "received 'float'"),
    ({"timeout_sec": 0}, "received 0"),
    ({"seed": -1}, "received -1"),
    ({"fit_options": {"epoch": 1}}, "['epoch']"),
    ({"fit_options": [1]}, "received [1]"),
    ({"model_options": {"widths": 1}}, "['widths']"),
    ({"optimize_options": 3}, "received 3"),
    ({"record_trajectory": 3}, "received 3"),
    ({"keep_on_interrupt": 3}, "received 3"),
    ({"progress": "on"}, "received 'on'"),
    ({"checkpoint": 3}, "received 3"),
]


@pytest.mark.parametrize(("options", "value"), PROPOSE)
def test_propose(options: dict[str, Any], value: str) -> None:
    check(lambda: run(**options), f"`{next(iter(options))}", value)


def test_propose_of_tables() -> None:
    check(lambda: run([1], "y"), "`train_X`", "received list")
    check(lambda: run(FRAME, Y), "`train_Y`", "received Tensor")
    check(lambda: run(FRAME, "z"), "no column 'z'")
    check(lambda: run(FRAME.iloc[:0], "y"), "received 0 rows")
    check(lambda: run(FRAME[["y", "s"]], "y"), "the inputs []")
    check(lambda: run(X, Y), "`ignore`", "received a tensor and ['s']")
    check(lambda: run(FRAME.assign(a=torch.nan), "y"), "'a'", "20 missing values")


def test_tokens_tasks_and_presets(tmp_path: Path) -> None:
    letters = Vocabulary("ac")
    tokens = letters.tokenize(["ac", "ca"])
    check(lambda: Vocabulary("aa"), "`symbols`", "['a', 'a']")
    check(lambda: letters.tokenize(["ag"]), "'g'")
    check(lambda: OneHotEncoding(letters, 0), "`length`", "received 0")
    check(lambda: LatentSpace.fit(tokens, letters, latent_dim=0), "`latent_dim`", "received 0")
    check(lambda: make_sequence_encoding("z", tokens, letters), "`encoding`", "received 'z'")
    check(lambda: load_task("z"), "`name`", "received 'z'")
    check(lambda: load_task("tfbind8", data_dir=tmp_path), "`data_dir`", str(tmp_path))
    check(lambda: get_preset("z"), "`preset`", "received 'z'")
    check(lambda: load_task("ackley6").evaluate(X), "`X`", "received (20, 3)")

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ax")

from ax.api.client import Client
from ax.core.data import Data
from ax.core.experiment import Experiment
from botorch.exceptions.errors import CandidateGenerationError, UnsupportedError
from botorch.models import SingleTaskGP
from hypothesis import given, settings
from hypothesis import strategies as st

import botorch_roma.ax.acquisition as acquisition_module
import botorch_roma.ax.surrogate as surrogate_module
from botorch_roma.ax import (
    OfflineNode,
    RoMAAcquisition,
    RoMASurrogate,
    gp_generation_strategy,
    offline_experiment,
    roma_generation_strategy,
    roma_surrogate_spec,
)


@pytest.fixture
def experiment(table: pd.DataFrame) -> Experiment:
    return offline_experiment(table[["x", "k", "kind", "y"]], objective="y")


def client_of(experiment: Experiment, *args: Any, **options: Any) -> Client:
    client = Client()
    client.set_experiment(experiment)
    client.set_generation_strategy(roma_generation_strategy(*args, **options))
    return client


def node_of(client: Client) -> str:
    return client._generation_strategy.current_node_name


def test_batch_and_single_trials_are_the_same_designs(
    experiment: Experiment, quick: dict[str, Any]
) -> None:
    (run,) = roma_generation_strategy(**quick).gen(experiment, n=5)[0]
    trials = client_of(experiment, **quick).get_next_trials(max_trials=5)
    batch = pd.DataFrame([arm.parameters for arm in run.arms])
    pd.testing.assert_frame_equal(pd.DataFrame(list(trials.values()))[batch.columns], batch)


def test_seed(experiment: Experiment, quick: dict[str, Any]) -> None:
    arms = [
        [
            a.signature
            for a in roma_generation_strategy(seed=s, **quick).gen(experiment, n=4)[0][0].arms
        ]
        for s in (0, 0, 1)
    ]
    assert arms[0] == arms[1]
    assert arms[0] != arms[2]


def test_options_reach_both_stages(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    fit, optimize = surrogate_module.fit_roma_model, acquisition_module.optimize_acqf_roma

    def spy_fit(model: Any, **options: Any) -> Any:
        seen.update(model=model, fit=options)
        return fit(model, **options)

    def spy_optimize(*args: Any, **options: Any) -> Any:
        seen["optimize"] = options
        return optimize(*args, **options)

    monkeypatch.setattr(surrogate_module, "fit_roma_model", spy_fit)
    monkeypatch.setattr(acquisition_module, "optimize_acqf_roma", spy_optimize)
    strategy = roma_generation_strategy(
        model_options={"hidden_sizes": (16, 8), "num_members": 2},
        fit_options={"epochs": 3, "radius": 0.01},
        optimizer_options={"num_updates": 7, "region": None},
        seed=5,
    )
    strategy.gen(experiment, n=2)
    assert tuple(seen["model"].network.hidden_sizes) == (16, 8)
    assert (seen["model"].num_members, seen["model"].seed) == (2, 5)
    expected = {"seed": 5, "epochs": 3, "radius": 0.01, "noise_std": None}  # and the preset's
    assert seen["fit"] == expected
    assert (seen["optimize"]["num_updates"], seen["optimize"]["region"]) == (7, None)


def test_preset(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = roma_generation_strategy(preset="paper", fit_options={"epochs": 2})
    kwargs = strategy._nodes[0].generator_specs[0].generator_kwargs
    (config,) = kwargs["surrogate"].surrogate_spec.model_configs
    assert config.mll_options["num_ascent_steps"] == 20
    assert config.mll_options["epochs"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "gp"}, "`variant` .* 'gp'"),
        ({"preset": "best"}, "`preset` .* 'best'"),
        ({"min_results": 0}, "`min_results` .* 0"),
        ({"max_gp_rows": 1}, "`max_gp_rows` .* 1"),
        ({"seed": -1}, "`seed` .* -1"),
        ({"model_options": {"width": 3}}, r"`model_options` has unknown keys \['width'\]"),
        ({"fit_options": {"model": 3}}, r"`fit_options` has unknown keys \['model'\]"),
        ({"optimizer_options": {"q": 3}}, r"`optimizer_options` has unknown keys \['q'\]"),
        (
            {"fit_options": {"lr": pd.Series([1.0])}},
            r"`fit_options\['lr'\]` must be a number, .* received Series",
        ),
        ({"fit_options": {"radius": -1.0}}, r"`radius` must be a finite number at least 0, .* -1"),
        ({"optimizer_options": {"lr": -1.0}}, "`lr` must be a finite number above 0, received -1"),
        ({"fit_options": 3}, "`fit_options` must map names of options to values, received 3"),
        ({"model_options": [("seed", 1)]}, "`model_options` must map names"),
        ({"botorch_acqf_options": 3}, "`botorch_acqf_options` must map names"),
        (
            {"botorch_acqf_options": {"objective": object()}},
            r"`botorch_acqf_options\['objective'\]` must be a number, .* received object",
        ),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roma_generation_strategy(**arguments)


def test_presets_that_select_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="call `select_options` on the table"):
        roma_generation_strategy(preset="selected")


def test_numbers_of_numpy() -> None:
    strategy = roma_generation_strategy(
        fit_options={"epochs": np.int64(5)}, optimizer_options={"radius": np.float32(0.5)}
    )
    spec = strategy._nodes[0].generator_specs[0]
    (config,) = spec.generator_kwargs["surrogate"].surrogate_spec.model_configs
    assert type(config.mll_options["epochs"]) is int
    assert spec.generator_gen_kwargs["model_gen_options"]["optimizer_kwargs"]["radius"] == 0.5


def test_errors_are_raised(
    experiment: Experiment, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise CandidateGenerationError("no way")

    monkeypatch.setattr(acquisition_module, "optimize_acqf_roma", fail)
    with pytest.raises(CandidateGenerationError, match="no way"):
        roma_generation_strategy(**quick).gen(experiment, n=2)


# Next to a GP

# so few rows, so similar designs
with_gp = pytest.mark.filterwarnings(
    "ignore:A not p.d.", "ignore:Optimization failed in `gen_candidates_scipy`"
)


@with_gp
def test_gp_takes_over_after_results_of_single_trials(
    experiment: Experiment, quick: dict[str, Any]
) -> None:
    client = client_of(experiment, "roma_then_gp", min_results=2, max_gp_rows=20, **quick)
    first = list(client.get_next_trials(max_trials=3))
    client.complete_trial(first[0], {"y": 1.0})
    client.get_next_trials(max_trials=1)
    assert node_of(client) == "RoMA"
    client.complete_trial(first[1], {"y": 1.1})
    (index,) = client.get_next_trials(max_trials=1)
    assert node_of(client) == "GP"
    model = client._generation_strategy.adapter.generator.surrogate.model
    assert isinstance(model, SingleTaskGP)
    assert len(model.train_targets) == 20
    assert experiment.trials[index].generator_runs[0]._generation_node_name == "GP"


@with_gp
def test_gp_takes_over_after_results_of_a_batch(
    experiment: Experiment, quick: dict[str, Any]
) -> None:
    strategy = roma_generation_strategy("roma_then_gp", min_results=4, max_gp_rows=20, **quick)
    batch = experiment.new_batch_trial(strategy.gen(experiment, n=4)[0][0])
    batch.mark_running(no_runner_required=True)
    strategy.gen(experiment, n=1)
    assert strategy.current_node_name == "RoMA"
    measured = {
        "trial_index": batch.index,
        "arm_name": [arm.name for arm in batch.arms],
        "metric_name": "y",
        "metric_signature": "y",
        "mean": [1.0, 1.1, 1.2, 1.3],
        "sem": np.nan,
    }
    experiment.attach_data(Data(df=pd.DataFrame(measured)))
    batch.mark_completed()
    strategy.gen(experiment, n=1)
    assert strategy.current_node_name == "GP"
    targets = strategy.adapter.generator.surrogate.Xs[0]
    assert len(targets) == 20


@with_gp
def test_roma_and_gp_in_turn(experiment: Experiment, quick: dict[str, Any]) -> None:
    client = client_of(experiment, "roma_and_gp", max_gp_rows=15, **quick)
    trials = client.get_next_trials(max_trials=4)
    names = [experiment.trials[i].generator_runs[0]._generation_node_name for i in trials]
    assert names == ["RoMA", "GP", "RoMA", "GP"]


@with_gp
def test_gp_alone(experiment: Experiment) -> None:
    strategy = gp_generation_strategy(max_gp_rows=15)
    (run,) = strategy.gen(experiment, n=2)[0]
    assert len(run.arms) == 2
    assert len(strategy.adapter.generator.surrogate.Xs[0]) == 15


# Predictions and analyses


def test_predict(experiment: Experiment, quick: dict[str, Any]) -> None:
    client = client_of(experiment, **quick)
    client.get_next_trials(max_trials=1)
    low, high = client.predict(
        [{"x": 0.7, "k": k, "kind": kind} for k, kind in ((1, "a"), (8, "b"))]
    )
    assert low["y"][0] < high["y"][0]
    assert low["y"][1] > 0


def test_analyses(experiment: Experiment, quick: dict[str, Any]) -> None:
    from ax.analysis.plotly.arm_effects import ArmEffectsPlot
    from ax.analysis.plotly.cross_validation import CrossValidationPlot
    from ax.analysis.plotly.parallel_coordinates import ParallelCoordinatesPlot
    from ax.analysis.plotly.sensitivity import SensitivityAnalysisPlot

    client = client_of(experiment, **quick)
    client.get_next_trials(max_trials=2)
    cards = client.compute_analyses(
        [
            ParallelCoordinatesPlot(),
            SensitivityAnalysisPlot(),
            ArmEffectsPlot("y"),
            CrossValidationPlot(folds=3),
        ],
        display=False,
    )
    flat = [leaf for card in cards for leaf in card.flatten()]
    assert len(flat) >= 4
    assert not [c for c in flat if "Error" in type(c).__name__ or "Error" in c.name]


VALUES = {
    "k": st.integers(1, 4),
    "on": st.booleans(),
    "kind": st.sampled_from(["oak", "fir", "elm"]),
    "level": st.sampled_from([0.125, 0.5, 4.0]),
}


@st.composite
def experiments(draw: st.DrawFn, objectives: tuple[str, ...] = ("y", "-y")) -> Experiment:
    """Of a table of any kinds of columns; one of numbers keeps all rows distinct."""
    n, names = draw(st.integers(6, 12)), draw(st.lists(st.sampled_from([*VALUES]), unique=True))
    columns = {k: draw(st.lists(VALUES[k], min_size=n, max_size=n)) for k in names}
    columns = {k: v for k, v in columns.items() if len(set(v)) > 1}
    x = np.arange(n) / 8
    df = pd.DataFrame({"x": x, **columns, "y": -((x - 0.3) ** 2)})  # best between two rows
    return offline_experiment(df, objective=draw(st.sampled_from(objectives)))


def check_arms(experiment: Experiment, run: Any, n: int) -> list[dict[str, Any]]:
    """They are new, distinct and allowed; their parameters."""
    assert len({arm.signature for arm in run.arms}) == len(run.arms) == n
    for arm in run.arms:
        assert experiment.search_space.check_membership(arm.parameters, raise_error=True)
        assert arm.signature not in experiment.arms_by_signature
        assert np.isfinite(arm.parameters["x"])
    return [arm.parameters for arm in run.arms]


@pytest.mark.filterwarnings("ignore:.* candidates found no design of their own")
@settings(max_examples=4)
@given(experiment=experiments(), n=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_any_experiment(experiment: Experiment, n: int, seed: int) -> None:
    """And the same arms for the same seed, as many as were asked for."""
    options: dict[str, Any] = {
        "model_options": {"hidden_sizes": (4,), "num_members": 1},
        "fit_options": {"epochs": 1, "num_ascent_steps": 1},
        "optimizer_options": {"num_updates": 2, "num_adaptation_steps": 1},
    }
    found = []
    for _ in range(2):
        strategy = roma_generation_strategy(seed=seed, **options)
        ((run,),) = strategy.gen(experiment, n=n)
        found.append(check_arms(experiment, run, n))
    assert found[0] == found[1]
    (node,) = strategy._nodes
    assert isinstance(node, OfflineNode)
    kwargs = node.generator_specs[0].generator_kwargs
    assert kwargs["acquisition_class"] is RoMAAcquisition
    assert isinstance(kwargs["surrogate"], RoMASurrogate)
    (config,) = kwargs["surrogate"].surrogate_spec.model_configs
    (alone,) = roma_surrogate_spec(config.model_options, config.mll_options).model_configs
    assert alone == config
    assert config.model_options["seed"] == seed


@pytest.mark.filterwarnings("ignore:A not p.d., added jitter")
@settings(max_examples=2)
@given(experiment=experiments(("y",)), max_gp_rows=st.integers(4, 12), seed=st.integers(0, 2**31))
def test_gp_of_any_experiment(experiment: Experiment, max_gp_rows: int, seed: int) -> None:
    strategy = gp_generation_strategy(max_gp_rows=max_gp_rows, seed=seed)
    assert all(isinstance(node, OfflineNode) for node in strategy._nodes)
    ((run,),) = strategy.gen(experiment, n=1)
    check_arms(experiment, run, 1)
    model = strategy.adapter.generator.surrogate.model
    assert isinstance(model, SingleTaskGP)
    assert len(model.train_targets) == min(max_gp_rows, len(experiment.arms_by_name))

"""Runs that are killed again and again give what an undisturbed one gives."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pytest
import torch
from botorch.acquisition import PosteriorMean, UpperConfidenceBound, qSimpleRegret
from botorch.exceptions import OptimizationWarning
from botorch.exceptions.errors import UnsupportedError
from botorch.models.transforms import Normalize, Standardize
from botorch.sampling import IIDNormalSampler

from botorch_roma import RoMAModel, checkpoint, fit_roma_model, optimize_acqf_roma, propose
from botorch_roma.checkpoint import Checkpoint, CheckpointFolder, open_checkpoint
from botorch_roma.fit import fit_roma_models
from botorch_roma.interrupt import finish_on_interrupt
from botorch_roma.latent import LatentSpace, OneHotEncoding, Vocabulary
from botorch_roma.optim import generation, local_search
from botorch_roma.optim.optimize import optimize_acqfs_roma
from botorch_roma.optim.trajectory import Trajectory
from botorch_roma.presets import Preset
from botorch_roma.sealed import seal, unseal
from botorch_roma.selection import Selection, select_options
from botorch_roma.training import Training

T = TypeVar("T")
CPU = torch.device("cpu")

X = torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
Y = X.sum(dim=-1, keepdim=True)
BOUNDS = torch.tensor([[0.0, 0.0], [1.5, 1.5]], dtype=torch.double)
FIT: dict[str, Any] = {"seed": 3, "epochs": 4, "batch_size": 8, "num_ascent_steps": 1}
OPTIMIZE: dict[str, Any] = {"q": 3, "num_updates": 66, "num_adaptation_steps": 1}


class Killed(Exception):
    """Stands for SIGKILL."""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, int]]:
    """Call something again and again; each run is killed after so many saves. How often it was."""

    def call(function: Callable[[], T], *, saves: int) -> tuple[T, int]:
        kills, count, real = 0, 0, Checkpoint._write

        def write(self: Checkpoint) -> None:
            nonlocal count
            real(self)
            count += 1
            if count % saves == 0:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "_write", write)
            while True:
                try:
                    return function(), kills
                except Killed:
                    kills += 1

    return call


def make(**options: Any) -> RoMAModel:
    return RoMAModel(X, Y, **{"hidden_sizes": (8,), "num_members": 2, **options})


def same_state(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def curves(history: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(history).items() if name != "seconds"}


@pytest.fixture(scope="module")
def fitted() -> RoMAModel:
    model = make()
    fit_roma_model(model, **FIT)
    return model


# Stage 1


class TestFit:
    @pytest.mark.parametrize(
        ("options", "saves"),
        [
            ({}, 2),
            ({"keep": "best", "noise_std": 0.0}, 3),
            ({"loss": "listnet", "first_layer": "reduced"}, 7),
            ({"conservatism": 0.5}, 5),
        ],
    )
    def test_killed_or_not(
        self, tmp_path: Path, killed: Any, saves: int, options: dict[str, Any]
    ) -> None:
        whole, other = make(), make()
        history = fit_roma_model(whole, **FIT, **options)
        file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
        again, kills = killed(lambda: fit_roma_model(other, **FIT, **options, **file), saves=saves)
        assert kills >= 2
        assert curves(again) == curves(history)
        assert same_state(whole, other)
        seconds = again.seconds
        assert seconds == sorted(seconds)

    def test_a_finished_one_is_not_computed_again(
        self, tmp_path: Path, fitted: RoMAModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        history = fit_roma_model(make(), **FIT, checkpoint=tmp_path / "c")
        monkeypatch.setattr(Training, "_step", None)
        again = make(seed=5)
        assert fit_roma_model(again, **FIT, checkpoint=str(tmp_path / "c")) == history
        assert same_state(again, fitted)

    def test_several_models(self, tmp_path: Path, killed: Any) -> None:
        options = {**FIT, "seeds": [3, 4]}
        del options["seed"]
        models, others = [make(), make()], [make(), make()]
        histories = fit_roma_models(models, **options)
        file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
        again, kills = killed(lambda: fit_roma_models(others, **options, **file), saves=5)
        assert kills >= 2
        assert [*map(curves, again)] == [*map(curves, histories)]
        assert all(same_state(a, b) for a, b in zip(models, others, strict=True))
        with pytest.raises(ValueError, match=r"`models\[1\]\.seed` is 5 and was 4"):
            fit_roma_models([make(), make()], **{**options, "seeds": [3, 5]}, **file)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"lr": 2e-3}, r"`lr` is 0\.002 and was 0\.001"),
            ({"seed": 4}, "`seed` is 4 and was 3"),
            ({"epochs": None}, "`epochs` is None and was 4"),
            ({"keep": "best"}, "`keep` is 'best' and was 'last'"),
            ({"conservatism": 0.5}, r"`conservatism` is 0\.5 and was 0\.0"),
        ],
    )
    def test_other_settings(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        fit_roma_model(make(), **FIT, checkpoint=tmp_path / "c")
        model = make()
        with pytest.raises(ValueError, match=message):
            fit_roma_model(model, **{**FIT, **changes}, checkpoint=tmp_path / "c")
        assert not model.is_fitted

    def test_other_data_and_models(self, tmp_path: Path) -> None:
        fit_roma_model(make(), **FIT, checkpoint=tmp_path / "c")
        nudged = X.clone()
        nudged[7, 1] += 1e-15
        for model, message in (
            (RoMAModel(nudged, Y, hidden_sizes=(8,), num_members=2), "`train_X` is 'float64, 40"),
            (RoMAModel(X, -Y, hidden_sizes=(8,), num_members=2), "`train_Y` is 'float64, 40 x 1"),
            (make(train_Yvar=torch.ones_like(Y)), "`train_Yvar` is 'float64.* and was 'None'"),
            (make(num_members=1), "`num_members` is 1 and was 2"),
            (make(hidden_sizes=(9,)), r"`hidden_sizes\[0\]` is 9 and was 8"),
            (make(activation="tanh"), "`activation` is 'tanh' and was 'softplus'"),
            (make(input_transform=Normalize(d=2)), "`input_transform` is botorch.*and was None"),
            (make(outcome_transform=Standardize(m=1)), "`outcome_transform` is botorch"),
        ):
            with pytest.raises(ValueError, match=message):
                fit_roma_model(model, **FIT, checkpoint=tmp_path / "c")

    def test_needs_a_seed(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="`seed` must be given with `checkpoint`"):
            fit_roma_model(make(), checkpoint=tmp_path / "c")

    def test_warm_starts_are_told_apart(self, tmp_path: Path, fitted: RoMAModel) -> None:
        file = {"checkpoint": tmp_path / "c"}
        fit_roma_model(make(), **FIT, **file, warm_start=True)
        other = make()
        other.load_state_dict(fitted.state_dict())
        with pytest.raises(ValueError, match=r"`network\.tensors\..*` is \(float64"):
            fit_roma_model(other, **FIT, **file, warm_start=True)

    def test_a_time_budget_is_that_of_all_runs(self, tmp_path: Path) -> None:
        file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
        die_after(tmp_path / "c", 9, lambda: fit_roma_model(make(), **FIT, **file))
        age(tmp_path / "c", 1000.0)
        model, again = make(), make()
        history = fit_roma_model(model, **FIT, **file, timeout_sec=900.0)
        assert history.timed_out
        assert len(history.loss) == 2  # after one minibatch more
        assert history.seconds[-1] > 1000.0
        with pytest.warns(OptimizationWarning, match="ended the training .* after 1000 s; remove"):
            assert fit_roma_model(again, **FIT, **file, timeout_sec=900.0) == history
        assert same_state(model, again)


def die_after(path: Path, saves: int, function: Callable[[], Any]) -> None:
    """Run something up to so many saves."""
    count, real = 0, Checkpoint._write

    def write(self: Checkpoint) -> None:
        nonlocal count
        real(self)
        count += self.path == path
        if count == saves:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "_write", write)
        with pytest.raises(Killed):
            function()


def age(path: Path, seconds: float) -> None:
    """Have earlier runs spent so many seconds."""
    content = unseal(checkpoint.CHECKPOINT, path, "cpu")
    path.write_bytes(seal(checkpoint.CHECKPOINT, {**content, "seconds": seconds}))


# Stage 2


def tokens_model() -> RoMAModel:
    tokens = torch.randint(3, (40, 6), generator=torch.Generator().manual_seed(0)).double()
    model = RoMAModel(tokens, Y, OneHotEncoding(Vocabulary("abc"), 6), hidden_sizes=(8,))
    fit_roma_model(model, **FIT)
    return model


class TestOptimize:
    @pytest.mark.parametrize("options", [{"max_spread": 0.5}, {"reencode_every": 2}])
    def test_nothing_is_saved_of_what_is_refused(
        self, tmp_path: Path, options: dict[str, Any]
    ) -> None:
        """It would be in the way of the call that is in order."""
        model = make(num_members=1)
        fit_roma_model(model, **FIT)
        arguments = {**OPTIMIZE, "num_updates": 2, "checkpoint": tmp_path / "c"}
        with pytest.raises(UnsupportedError, match=f"`{next(iter(options))}`"):
            optimize_acqf_roma(PosteriorMean(model), BOUNDS, **arguments, **options)
        assert not (tmp_path / "c").exists()
        optimize_acqf_roma(PosteriorMean(model), BOUNDS, **arguments)

    @pytest.mark.parametrize(
        ("options", "saves"),
        [
            ({}, 17),
            ({"step_rule": "gradient", "mode": "shared", "num_updates": 9}, 2),
            ({"num_updates": 9, "region": None, "return_best_only": False}, 3),
            ({"num_updates": 9, "num_adaptation_steps": 3, "reuse_steps": 2}, 2),
            (
                {
                    "num_updates": 9,
                    "num_adaptation_steps": 3,
                    "reuse_steps": 1,
                    "first_layer": "reduced",
                    "weight_form": "factored",
                },
                3,
            ),
        ],
    )
    def test_killed_or_not(
        self, tmp_path: Path, killed: Any, fitted: RoMAModel, saves: int, options: dict[str, Any]
    ) -> None:
        paths = list[Trajectory]()

        def run(**file: Any) -> Any:
            paths.append(Trajectory())
            arguments = {**OPTIMIZE, "num_restarts": 2, **options, **file}
            function = UpperConfidenceBound(fitted, beta=0.1)
            return optimize_acqf_roma(function, BOUNDS, trajectory=paths[-1], **arguments)

        X_new, values = run()
        file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
        (again, those), kills = killed(lambda: run(**file), saves=saves)
        assert kills >= 3
        assert torch.equal(again, X_new)
        assert torch.equal(those, values)
        for name in paths[0].lists():
            assert torch.equal(paths[-1].stack(name), paths[0].stack(name))

    @pytest.mark.parametrize("saves", [2, 3])
    def test_local_search(
        self, tmp_path: Path, killed: Any, saves: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed in the middle of a round as well: a chunk holds two designs."""
        monkeypatch.setattr(local_search, "CHUNK_SIZE", 24)
        model = tokens_model()
        box = model.input_transform.design_bounds
        options = {"q": 5, "num_updates": 2, "num_adaptation_steps": 1, "local_search_rounds": 3}
        X_new, values = optimize_acqf_roma(PosteriorMean(model), box, **options)
        file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
        (again, those), kills = killed(
            lambda: optimize_acqf_roma(PosteriorMean(model), box, **options, **file), saves=saves
        )
        assert kills >= 3
        assert torch.equal(again, X_new)
        assert torch.equal(those, values)
        monkeypatch.setattr(local_search, "make_adaptations", lambda *_: None)
        again, _ = optimize_acqf_roma(PosteriorMean(model), box, **options, **file)
        assert torch.equal(again, X_new)

    def test_random_numbers_of_an_acquisition_function(
        self, tmp_path: Path, killed: Any, fitted: RoMAModel
    ) -> None:
        class Noisy(PosteriorMean):
            def forward(self, X: torch.Tensor) -> torch.Tensor:
                value: torch.Tensor = super().forward(X)
                return value + torch.randn_like(value) * X.sum(dim=(1, 2))

        def run(**file: Any) -> Any:
            torch.manual_seed(0)
            options = {**OPTIMIZE, "num_updates": 9, **file}
            return optimize_acqf_roma(Noisy(fitted), BOUNDS, **options)[0], torch.rand(3)

        expected, after = run()
        file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
        (again, later), kills = killed(lambda: run(**file), saves=4)
        assert kills >= 2
        assert torch.equal(again, expected)
        assert torch.equal(later, after)

    def test_a_finished_one_is_not_computed_again(
        self, tmp_path: Path, fitted: RoMAModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        function, file = PosteriorMean(fitted), {"checkpoint": tmp_path / "c"}
        X_new, values = optimize_acqf_roma(function, BOUNDS, **OPTIMIZE, **file)
        monkeypatch.setattr(generation, "Ascent", None)
        again, those = optimize_acqf_roma(function, BOUNDS, **OPTIMIZE, **file)
        assert torch.equal(again, X_new)
        assert torch.equal(those, values)

    def test_other_settings(self, tmp_path: Path, fitted: RoMAModel) -> None:
        limit, file = 0.25, {"checkpoint": tmp_path / "c"}

        def constraint(x: torch.Tensor) -> torch.Tensor:
            return x[..., 0] - limit

        def other(x: torch.Tensor) -> torch.Tensor:
            return x[..., 0] + limit

        options: dict[str, Any] = {
            **OPTIMIZE,
            "num_updates": 2,
            "nonlinear_inequality_constraints": [(constraint, True)],
        }
        function = PosteriorMean(fitted)
        optimize_acqf_roma(function, BOUNDS, **options, **file)
        warmer = make()
        fit_roma_model(warmer, **{**FIT, "seed": 4})
        for changes, message in (
            ({"q": 4}, "`q` is 4 and was 3"),
            ({"lr": 0.1}, r"`lr` is 0\.1 and was None"),
            ({"bounds": BOUNDS + 0.1}, r"`bounds` is \(float64, 2 x 2, "),
            ({"fixed_features": {0: 0.5}}, r"`fixed_features\[0\]` is 0\.5 and was not there"),
            ({"trajectory": Trajectory()}, "`trajectory` is 'positions=True' and was None"),
            ({"nonlinear_inequality_constraints": [(other, True)]}, "`nonlinear_inequality_const"),
            ({"post_processing_func": torch.abs}, "`post_processing_func` is"),
            ({"X_avoid": X[:1]}, r"`X_avoid` is \(float64, 1 x 2"),
            ({"acq_function": PosteriorMean(warmer)}, r"`acq_function\.model\."),
            ({"acq_function": PosteriorMean(fitted, maximize=False)}, r"`acq_function\.maximize`"),
            ({"batch_initial_conditions": X[:3] + 0.2}, r"`batch_initial_conditions` is \("),
        ):
            arguments = {"acq_function": function, "bounds": BOUNDS, **options, **changes}
            with pytest.raises(ValueError, match=message):
                optimize_acqf_roma(**arguments, **file)
        limit = 0.3  # which `constraint` has caught
        with pytest.raises(ValueError, match=r"\.limit` is 0\.3 and was 0\.25"):
            optimize_acqf_roma(function, BOUNDS, **options, **file)

    def test_what_is_not_seeded(self, tmp_path: Path, fitted: RoMAModel) -> None:
        file = {"checkpoint": tmp_path / "c"}
        with pytest.raises(ValueError, match="`options` must hold a seed with `raw_samples`"):
            optimize_acqf_roma(PosteriorMean(fitted), BOUNDS, raw_samples=8, **OPTIMIZE, **file)
        options = {**OPTIMIZE, "num_updates": 1, "raw_samples": 8, "options": {"seed": 1}}
        optimize_acqf_roma(PosteriorMean(fitted), BOUNDS, **options, **file)
        (tmp_path / "c").unlink()

        def monte_carlo() -> qSimpleRegret:
            return qSimpleRegret(fitted, sampler=IIDNormalSampler(torch.Size([8])))

        options = {**OPTIMIZE, "num_updates": 1}
        optimize_acqf_roma(monte_carlo(), BOUNDS, **options, **file)
        with pytest.raises(ValueError, match=r"`acq_function\.sampler\..* and was"):
            optimize_acqf_roma(monte_carlo(), BOUNDS, **options, **file)

    def test_side_by_side(self, fitted: RoMAModel) -> None:
        with pytest.raises(UnsupportedError, match="`checkpoint` is not supported"):
            optimize_acqfs_roma([PosteriorMean(fitted)], BOUNDS, q=2, checkpoint="c")

    def test_a_time_budget_is_that_of_all_runs(self, tmp_path: Path, fitted: RoMAModel) -> None:
        def run(**more: Any) -> torch.Tensor:
            file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
            return optimize_acqf_roma(PosteriorMean(fitted), BOUNDS, **OPTIMIZE, **file, **more)[0]

        die_after(tmp_path / "c", 9, run)
        age(tmp_path / "c", 1000.0)
        reached = run(timeout_sec=900.0)
        with pytest.warns(OptimizationWarning, match="has ended the updates in the checkpoint"):
            assert torch.equal(run(timeout_sec=900.0), reached)
        seven = {**OPTIMIZE, "num_updates": 7}
        expected, _ = optimize_acqf_roma(PosteriorMean(fitted), BOUNDS, **seven)
        assert torch.equal(reached, expected)


def test_on_each_device(tmp_path: Path, killed: Any, device: torch.device) -> None:
    """On a GPU the same but for rounding."""

    def run(name: str | None = None) -> tuple[Any, ...]:
        files = [tmp_path / f"{name}-{stage}" for stage in ("fit", "climb")]
        both = [{"checkpoint": name and file, "checkpoint_interval": 0.0} for file in files]
        model = RoMAModel(X.to(device), Y.to(device), hidden_sizes=(8,), num_members=2)
        history = fit_roma_model(model, **FIT, **both[0])
        options, record = {**OPTIMIZE, "num_updates": 9}, Trajectory()
        X_new, values = optimize_acqf_roma(
            PosteriorMean(model), BOUNDS.to(device), **options, trajectory=record, **both[1]
        )
        return history.loss, X_new, values, record.stack("predicted")

    again, kills = killed(lambda: run("c"), saves=5)
    assert kills >= 3
    torch.testing.assert_close(again, run())


# Latent spaces, and all in one call


def test_latent_space(tmp_path: Path, killed: Any) -> None:
    tokens = torch.randint(3, (40, 6), generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "hidden_sizes": (8,), "latent_dim": 4}

    def fit(**file: Any) -> LatentSpace:
        return LatentSpace.fit(tokens, Vocabulary("abc"), **{**options, **file})

    file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
    whole = fit()
    again, kills = killed(lambda: fit(**file), saves=4)
    assert kills >= 3
    assert same_state(again, whole)
    assert curves(again.history) == curves(whole.history)
    assert fit(**file).history == again.history
    with pytest.raises(ValueError, match=r"`beta` is 0\.2 and was 0\.1"):
        fit(**file, beta=0.2)
    tokens = tokens[:39]
    with pytest.raises(ValueError, match=r"`tokens` is int64, 39 x 6"):
        fit(**file)


def mixed_frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.random(40), "kind": rng.choice(["oak", "fir"], 40)})
    frame["site"] = ["".join(letters) for letters in rng.choice(list("acgt"), (40, 4))]
    return frame.assign(y=frame["a"] + (frame["kind"] == "oak") + frame["site"].str.count("a"))


PRESET = Preset(
    "quick",
    {"hidden_sizes": (8,), "num_members": 2},
    {"epochs": 2, "batch_size": 16, "num_ascent_steps": 1},
    {"num_updates": 4, "num_adaptation_steps": 1, "local_search_rounds": 2},
    latent={"epochs": 2, "hidden_sizes": (8,), "latent_dim": 4, "min_reconstruction": 0.0},
    select={"settings": [{"radius": 0.02}, {"radius": 0.05}]},
)


@pytest.mark.filterwarnings("ignore:This latent space loses")
@pytest.mark.filterwarnings("ignore:.* candidates found no design of their own")
def test_propose(tmp_path: Path, killed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {
        "q": 3,
        "sequences": ["site"],
        "encoding": "latent",
        "preset": PRESET,
        "record_trajectory": True,
        "seed": 1,
    }
    whole = propose(mixed_frame(), "y", **options)
    file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
    again, kills = killed(lambda: propose(mixed_frame(), "y", **options, **file), saves=9)
    assert kills >= 4
    pd.testing.assert_frame_equal(again.to_frame(), whole.to_frame(), check_exact=True)
    assert again.trajectory is not None
    assert whole.trajectory is not None
    assert torch.equal(again.trajectory.stack("x"), whole.trajectory.stack("x"))
    assert again.selection is not None
    assert whole.selection is not None
    assert again.selection.judgements == whole.selection.judgements
    selection = ["selection-0-0", "selection-0-1", "selection-fit-0"]
    stages = ["latent-2", *selection, "stage-1", "stage-2"]
    assert sorted(p.stem for p in (tmp_path / "c").glob("*.checkpoint")) == stages
    with pytest.raises(ValueError, match=r"stage-1\.checkpoint' is of another run: `lr` is 0\.1"):
        propose(mixed_frame(), "y", **options, **file, fit_options={"lr": 0.1})
    for name in ("fit_options", "optimize_options"):
        with pytest.raises(ValueError, match=f"`{name}` must not hold `checkpoint`, received 'c'"):
            propose(mixed_frame(), "y", **options, **{name: {"checkpoint": "c"}})
    monkeypatch.setattr(Training, "_step", None)
    monkeypatch.setattr(generation, "Ascent", None)
    monkeypatch.setattr(local_search, "make_adaptations", lambda *_: None)
    again = propose(mixed_frame(), "y", **options, checkpoint=tmp_path / "c")
    pd.testing.assert_frame_equal(again.to_frame(), whole.to_frame(), check_exact=True)


def test_selection_of_both_stages(tmp_path: Path, killed: Any) -> None:
    model = make()
    fit_roma_model(model, **FIT)
    arguments = model, BOUNDS, 3, [{"radius": 0.0}, {"radius": 0.02}]
    options: dict[str, Any] = {
        "fit_settings": [{"epochs": 1}, {"epochs": 3}],
        "fit_options": FIT,
        "optimize_options": {"num_updates": 4, "num_adaptation_steps": 1},
    }
    whole = select_options(*arguments, **options)
    file: dict[str, Any] = {"checkpoint": tmp_path / "c", "checkpoint_interval": 0.0}
    again, kills = killed(lambda: select_options(*arguments, **options, **file), saves=6)
    assert kills >= 3
    assert again.judgements == whole.judgements
    assert (again.options, again.fit_options) == (whole.options, whole.fit_options)
    ways = [f"selection-{way}" for way in ("0-0", "0-1", "1-0", "1-1", "fit-0", "fit-1")]
    assert sorted(p.stem for p in (tmp_path / "c").glob("*.checkpoint")) == ways


@pytest.mark.filterwarnings("ignore:The time budget")
@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5), (None, 1e-3)])
def test_a_selection_that_ran_out_of_time_gives_its_result_again(
    tmp_path: Path, first: float | None, second: float
) -> None:
    model = make()
    fit_roma_model(model, **FIT)

    def select(timeout_sec: float | None) -> Selection:
        return select_options(
            model,
            BOUNDS,
            3,
            [{"radius": 0.0}, {"radius": 0.02}],
            fit_settings=[{"epochs": n} for n in range(1, 6)],
            fit_options=FIT,
            optimize_options={"num_updates": 40, "num_adaptation_steps": 1},
            timeout_sec=timeout_sec,
            checkpoint=tmp_path / "c",
            checkpoint_interval=0.0,
        )

    result, again = select(first), select(second)
    assert again.judgements == result.judgements
    assert (again.options, again.fit_options) == (result.options, result.fit_options)


def test_seconds_of_a_stage_are_its_own_and_those_of_its_parts(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, 0.0)
    for i, name in enumerate(("fit-1", "fit-1-2", "fit-10")):
        with open_checkpoint(folder.file(name), 0.0, CPU, dict):
            pass
        age(tmp_path / f"{name}.checkpoint", 10.0**i)
    assert folder.seconds("fit-1") == pytest.approx(11.0, abs=0.5)
    assert folder.seconds("fit") == pytest.approx(111.0, abs=0.5)
    assert folder.holds("fit-10")
    assert not folder.holds("fit-2")
    assert not CheckpointFolder(None, 0.0).holds("fit-1")


def test_time_budget_of_propose(tmp_path: Path) -> None:
    """What earlier runs have spent on stage 1 is missing in stage 2."""
    options: dict[str, Any] = {
        "q": 3,
        "fit_options": {"epochs": 1},
        "optimize_options": {"num_updates": 5, "num_adaptation_steps": 1},
        "model_options": {"hidden_sizes": (8,)},
        "checkpoint": tmp_path / "c",
    }
    die_after(tmp_path / "c" / "stage-2.checkpoint", 1, lambda: propose(X, Y, **options))
    age(tmp_path / "c" / "stage-1.checkpoint", 1000.0)
    record = Trajectory()
    (tmp_path / "c" / "stage-2.checkpoint").unlink()
    with pytest.warns(OptimizationWarning, match="for stage 2, in which no update could be"):
        propose(X, Y, **options, timeout_sec=1000.0, record_trajectory=record)
    assert len(record.predicted) == 0
    (tmp_path / "c" / "stage-2.checkpoint").unlink()
    record = Trajectory()
    propose(X, Y, **options, timeout_sec=2000.0, record_trajectory=record)
    assert len(record.predicted) == 5


# Ctrl-C


@pytest.mark.usefixtures("hears_interrupts")
class TestInterrupt:
    @pytest.fixture
    def at(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
        """Ctrl-C in one call of a method; the calls are counted."""

        def install(owner: Any, name: str, when: int, times: int = 1) -> list[int]:
            calls, real = list[int](), getattr(owner, name)

            def call(*args: Any) -> Any:
                calls.append(1)
                for _ in range(times if len(calls) == when else 0):
                    signal.raise_signal(signal.SIGINT)
                return real(*args)

            monkeypatch.setattr(owner, name, call)
            return calls

        return install

    def test_stage_1_saves_and_ends(self, tmp_path: Path, at: Any, fitted: RoMAModel) -> None:
        calls = at(Training, "_step", 7)
        model = make()
        with pytest.raises(KeyboardInterrupt):
            fit_roma_model(model, **FIT, checkpoint=tmp_path / "c")
        assert len(calls) == 7
        assert not model.is_fitted
        fit_roma_model(model, **FIT, checkpoint=tmp_path / "c")
        assert len(calls) == 20  # 5 a pass: none was taken twice
        assert same_state(model, fitted)

    def test_twice_is_at_once(self, tmp_path: Path, at: Any) -> None:
        calls = at(Training, "_step", 7, times=2)
        with pytest.raises(KeyboardInterrupt):
            fit_roma_model(make(), **FIT, checkpoint=tmp_path / "c")
        assert len(calls) == 7
        with open_checkpoint(tmp_path / "d", 1.0, CPU, dict):
            pass  # the handler is back

    def test_stage_2_saves_and_ends(self, tmp_path: Path, at: Any, fitted: RoMAModel) -> None:
        calls, function = at(generation.Ascent, "step", 7), PosteriorMean(fitted)
        with pytest.raises(KeyboardInterrupt):
            optimize_acqf_roma(function, BOUNDS, **OPTIMIZE, checkpoint=tmp_path / "c")
        assert len(calls) == 7
        X_new, _ = optimize_acqf_roma(function, BOUNDS, **OPTIMIZE, checkpoint=tmp_path / "c")
        assert len(calls) == 66
        assert torch.equal(X_new, optimize_acqf_roma(function, BOUNDS, **OPTIMIZE)[0])

    def test_in_the_last_step(self, tmp_path: Path, at: Any, fitted: RoMAModel) -> None:
        """Nothing is left to save, and it is heard all the same."""
        at(Training, "_variance_scale", 1)
        with pytest.raises(KeyboardInterrupt):
            fit_roma_model(make(), **FIT, checkpoint=tmp_path / "c")
        model = make()
        fit_roma_model(model, **FIT, checkpoint=tmp_path / "c")
        assert same_state(model, fitted)

    def test_what_has_been_reached_is_returned_and_gone_on_with(
        self, tmp_path: Path, at: Any, fitted: RoMAModel
    ) -> None:
        calls, function = at(generation.Ascent, "step", 7), PosteriorMean(fitted)
        file: dict[str, Any] = {"checkpoint": tmp_path / "c", "trajectory": Trajectory()}
        with (
            finish_on_interrupt(),
            pytest.warns(OptimizationWarning, match="Interrupted after 7 of 66 .* goes on from"),
        ):
            X_7, _ = optimize_acqf_roma(function, BOUNDS, **OPTIMIZE, **file)
        assert len(calls) == 7
        file["trajectory"] = Trajectory()
        X_66, _ = optimize_acqf_roma(function, BOUNDS, **OPTIMIZE, **file)
        assert len(calls) == 66
        assert len(file["trajectory"].x) == 67
        seven = {**OPTIMIZE, "num_updates": 7}
        assert torch.equal(X_7, optimize_acqf_roma(function, BOUNDS, **seven)[0])
        assert torch.equal(X_66, optimize_acqf_roma(function, BOUNDS, **OPTIMIZE)[0])

    def test_an_outer_block_saves_once(self, tmp_path: Path, at: Any, fitted: RoMAModel) -> None:
        """Stage 1 has no result so far: it goes on, and does not save after every step."""
        at(Training, "_step", 7)
        saves, real = list[int](), Checkpoint._write
        model = make()
        with pytest.MonkeyPatch.context() as patch, finish_on_interrupt():
            patch.setattr(Checkpoint, "_write", lambda self: (saves.append(1), real(self)))
            fit_roma_model(model, **FIT, checkpoint=tmp_path / "c")
        assert len(saves) == 3  # at the beginning, when asked to, at the end
        assert same_state(model, fitted)

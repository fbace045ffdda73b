"""How far to go is chosen from the table alone, and well where that can be known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from botorch.acquisition import PosteriorMean
from botorch.exceptions import InputDataError
from botorch.exceptions.errors import ModelFittingError, UnsupportedError
from botorch.models.transforms import Normalize, Standardize
from torch import Tensor

from botorch_roma import RoMAModel, fit_roma_model, optimize_acqf_roma
from botorch_roma.latent import OneHotEncoding, Vocabulary
from botorch_roma.selection import Judgement, Selection, _choose, _Judge, select_options
from botorch_roma.tasks import OfflineTask, load_task

FIT = {"epochs": 15, "batch_size": 32, "num_ascent_steps": 1, "lr": 5e-3}
BOUNDS = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)


def hill(X: Tensor) -> Tensor:
    """A hill whose top lies within the data."""
    return -(X - 0.5).square().sum(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def model() -> RoMAModel:
    X = torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    model = RoMAModel(X, hill(X), hidden_sizes=(16, 16), num_members=2)
    fit_roma_model(model, seed=0, **FIT)
    return model


class TestSelect:
    def test_options_are_those_of_the_best_judgement(self, model: RoMAModel) -> None:
        settings = [{"lr": 1e-4}, {"lr": 0.05, "radius": 0.01}]
        result = select_options(
            model, BOUNDS, 16, settings, fit_options=FIT, optimize_options={"num_updates": 40}
        )
        assert result.options.items() >= settings[1].items()  # the first does not move
        assert {j.setting for j in result.judgements} == {0, 1}
        chosen = _choose(result.judgements)
        assert result.options["num_updates"] == chosen.num_updates > 0
        assert result.score == chosen.score
        assert result.seconds > 0
        assert len(result.to_frame()) == len(result.judgements)
        candidates, _ = optimize_acqf_roma(PosteriorMean(model), BOUNDS, 16, **result.options)
        assert candidates.shape == (16, 2)

    def test_settings_of_stage_one(self, model: RoMAModel) -> None:
        fit_settings = [{"epochs": 60}, {"lr": 1e-9, "epochs": 1}]  # the second learns nothing
        settings = [{"lr": 1e-4}, {"lr": 0.05, "radius": 0.01}]
        options: dict[str, Any] = {"optimize_options": {"num_updates": 40}}
        result = select_options(
            model, BOUNDS, 16, settings, fit_settings=fit_settings, fit_options=FIT, **options
        )
        assert result.fit_options == fit_settings[0]
        assert result.options.items() >= settings[1].items()
        ways = [(j.fit_setting, j.setting) for j in result.judgements]
        assert list(dict.fromkeys(ways)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        alone = select_options(
            model, BOUNDS, 16, settings, fit_options=FIT | fit_settings[0], **options
        )
        assert alone.options == result.options
        assert (alone.score, alone.start_score) == (result.score, result.start_score)
        assert alone.fit_options == {}
        assert len(result.to_frame()) == 2 * len(alone.to_frame())

    def test_start_score_is_that_of_the_setting_chosen(self, model: RoMAModel) -> None:
        corner = torch.arange(1, 17, dtype=torch.double).view(1, 8, 2) / 100.0
        settings: list[dict[str, Any]] = [{}, {"ic_generator": lambda **_: corner}]

        def select(settings: list[dict[str, Any]]) -> Selection:
            options = {"num_updates": 1}
            return select_options(
                model, BOUNDS, 8, settings, fit_options=FIT, optimize_options=options
            )

        alone = [select([changes]) for changes in settings]
        assert alone[0].start_score != alone[1].start_score
        best = max(alone, key=lambda result: result.score)
        for order in (settings, settings[::-1]):
            together = select(order)
            assert (together.score, together.start_score) == (best.score, best.start_score)

    @pytest.mark.parametrize("fit_settings", [None, [{}, {"radius": 0.02}]])
    def test_budget_and_seed_of_the_fits(
        self, model: RoMAModel, monkeypatch: pytest.MonkeyPatch, fit_settings: Any
    ) -> None:
        calls: list[dict[str, Any]] = []

        def fit(rest: RoMAModel, **options: Any) -> None:
            calls.append(options)
            fit_roma_model(rest, **options)

        monkeypatch.setattr("botorch_roma.selection.fit_roma_model", fit)
        options: dict[str, Any] = {
            "fit_settings": fit_settings,
            "fit_options": FIT | {"seed": model.seed},
            "optimize_options": {"num_updates": 1},
        }
        select_options(model, BOUNDS, 8, timeout_sec=1000.0, **options)
        assert sum(call["timeout_sec"] for call in calls) == 500.0
        assert all(call["seed"] != model.seed for call in calls)
        calls.clear()
        select_options(model, BOUNDS, 8, seed=7, **options)
        assert {(call["timeout_sec"], call["seed"]) for call in calls} == {(None, 7)}

    def test_same_again(self, model: RoMAModel) -> None:
        first, second = (
            select_options(
                model, BOUNDS, 8, fit_options=FIT, optimize_options={"num_updates": 10}, seed=3
            )
            for _ in range(2)
        )
        assert first.judgements == second.judgements
        assert first.options == second.options

    def test_hidden_designs_are_not_in_the_fit(
        self, model: RoMAModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from botorch_roma import selection

        seen: list[RoMAModel] = []

        def fit(rest: RoMAModel, **options: object) -> None:
            seen.append(rest)
            fit_roma_model(rest, **FIT, seed=0)

        monkeypatch.setattr(selection, "fit_roma_model", fit)
        result = select_options(
            model, BOUNDS, 8, hidden_fraction=0.3, optimize_options={"num_updates": 2}
        )
        (rest,) = seen
        assert rest.train_X.shape[0] == 140
        hidden = model.train_Y.sort(dim=0).values[140:]
        assert rest.train_Y.max() <= hidden.min()
        top = rest.train_X[rest.train_Y[:, 0].topk(8).indices]
        nothing = torch.empty(0, dtype=torch.long)
        assert result.start_score == pytest.approx(_Judge(model, nothing)(top))

    def test_the_judge_is_left_as_it_was(self, model: RoMAModel) -> None:
        X, Y = model.train_X, model.train_Y
        judge = RoMAModel(X, Y, Normalize(2), Standardize(1), hidden_sizes=(8,))
        fit_roma_model(judge, seed=0, **FIT)
        before = {name: t.clone() for name, t in judge.state_dict().items()}
        select_options(judge, BOUNDS, 8, fit_options=FIT, optimize_options={"num_updates": 2})
        assert all(torch.equal(t, before[name]) for name, t in judge.state_dict().items())

    def test_stops_where_the_way_leads_down(self, model: RoMAModel) -> None:
        """A proxy fitted to a slope climbs over the top; the judge has seen the other side."""
        X = torch.rand(300, 2, generator=torch.Generator().manual_seed(1), dtype=torch.double)
        Y = torch.where(X[:, :1] < 0.8, X[:, :1], -5.0 * X[:, :1] + 4.8)
        judge = RoMAModel(X, Y, hidden_sizes=(32, 32), num_members=2)
        fit_roma_model(judge, seed=0, epochs=200, batch_size=32, lr=5e-3, num_ascent_steps=1)
        result = select_options(
            judge,
            BOUNDS,
            16,
            fit_options={**FIT, "epochs": 60},
            optimize_options={"num_updates": 200, "lr": 0.02, "region": None, "radius": 0.0},
        )
        scores = [j.score for j in result.judgements]
        assert result.score > scores[-1]

    def test_rounds_of_local_search(self) -> None:
        encoding = OneHotEncoding(Vocabulary("abc"), 4)
        X = torch.randint(3, (70, 4), generator=torch.Generator().manual_seed(0)).double()
        model = RoMAModel(X, X.sum(dim=1, keepdim=True), encoding, hidden_sizes=(16,))
        fit_roma_model(model, seed=0, **FIT)
        result = select_options(
            model,
            encoding.design_bounds.double(),
            8,
            fit_options=FIT,
            optimize_options={"num_updates": 1, "local_search_rounds": 10},
        )
        assert [j.local_search_rounds for j in result.judgements][:3] == [0, 1, 2]
        assert result.options["local_search_rounds"] > 0

    def test_no_oracle_is_called(self) -> None:
        task = load_task("hartmann6", num_rows=300)
        blind = task.without_oracle()
        with pytest.raises(Exception, match="oracle"):
            blind.evaluate(blind.X[:1])
        model = RoMAModel(blind.X, blind.Y, hidden_sizes=(8,))
        fit_roma_model(model, seed=0, **FIT)
        options = {"num_updates": 2}
        select_options(model, blind.bounds, 8, fit_options=FIT, optimize_options=options)
        assert isinstance(task, OfflineTask)
        assert task.num_oracle_calls == 0

    @pytest.mark.filterwarnings("ignore:The time budget left .* no update could be finished")
    def test_time_budget(self, model: RoMAModel) -> None:
        result = select_options(
            model,
            BOUNDS,
            8,
            [{}, {"lr": 0.1}],
            fit_settings=[{}, {"radius": 0.02}],
            timeout_sec=1e-3,
            fit_options={**FIT, "epochs": 10_000},
            optimize_options={"num_updates": 100_000},
        )
        assert result.options["num_updates"] < 100_000
        assert {(j.fit_setting, j.setting) for j in result.judgements} == {(0, 0)}


class TestJudge:
    def test_hidden_designs_are_as_measured(self, model: RoMAModel) -> None:
        X = model.train_X[:5]
        expected = model.standardize_outcomes(model.train_Y[:5]).median().item()
        assert _Judge(model, torch.arange(5))(X) == pytest.approx(expected)
        others = _Judge(model, torch.arange(5, 200))(X)
        assert others != pytest.approx(expected)
        assert others == _Judge(model, torch.arange(6, 7))(X)  # no row of the rest is special

    def test_the_spread_is_taken_off(self, model: RoMAModel) -> None:
        X = torch.full((1, 2), 3.0, dtype=torch.double)  # far from all data
        with torch.no_grad():
            mean, std = (
                f(model.network(model.standardize_inputs(X))[0][:, 0])
                for f in (torch.mean, lambda t: torch.std(t, correction=0))
            )
        assert std > 0.01
        assert _Judge(model, torch.arange(5))(X) == pytest.approx((mean - 2.0 * std).item())


class TestChoose:
    def test_most_of_the_gain_is_enough(self) -> None:
        scores = [1.0, 1.5, 1.96, 1.9, 2.0, 0.0]
        judgements = [Judgement(0, i + 1, 0, s) for i, s in enumerate(scores)]
        assert _choose(judgements).num_updates == 3

    def test_only_of_the_best_setting(self) -> None:
        judgements = [
            Judgement(0, 1, 0, 1.0),
            Judgement(0, 2, 0, 1.99),
            Judgement(1, 1, 0, 0.5),
            Judgement(1, 2, 0, 2.0),
        ]
        assert _choose(judgements) == judgements[3]

    def test_the_gain_is_that_of_the_setting(self) -> None:
        judgements = [Judgement(0, 1, 0, -100.0), *(Judgement(1, k, 0, float(k)) for k in range(3))]
        assert _choose(judgements) == judgements[-1]

    def test_only_of_the_best_setting_of_stage_one(self) -> None:
        judgements = [
            Judgement(0, 1, 0, 1.0),
            Judgement(0, 2, 0, 1.99),
            Judgement(0, 1, 0, 0.5, fit_setting=1),
            Judgement(0, 2, 0, 2.0, fit_setting=1),
        ]
        assert _choose(judgements) == judgements[3]

    def test_no_gain_at_all(self) -> None:
        judgements = [Judgement(0, 1, 0, 1.0), Judgement(0, 2, 0, 0.5)]
        assert _choose(judgements) == judgements[0]


class TestErrors:
    def test_settings(self, model: RoMAModel) -> None:
        with pytest.raises(ValueError, match="`settings` is empty"):
            select_options(model, BOUNDS, 8, [])
        with pytest.raises(
            UnsupportedError, match=r"`settings\[0\]` holds `checkpoint` = 'c', .*; "
        ):
            select_options(model, BOUNDS, 8, [{"checkpoint": "c"}])
        for name in ("settings", "fit_settings"):
            wrong: Any
            for wrong in ({"radius": 0.02}, "radius", 3):
                with pytest.raises(ValueError, match=f"`{name}` must be a list of mappings .* rec"):
                    select_options(model, BOUNDS, 8, **{name: wrong})
            with pytest.raises(ValueError, match=rf"`{name}\[1\]` must map .* received None"):
                select_options(model, BOUNDS, 8, **{name: iter([{}, None])})
        with pytest.raises(ValueError, match=r"`hidden_fraction` must be at most 0.9, received 1"):
            select_options(model, BOUNDS, 8, hidden_fraction=1)
        refused = [{"no_such": 1}, {"reencode_every": 2}, {"min_distance": 0.5}]
        for changes in refused:  # before there is a fit
            with pytest.raises(UnsupportedError, match=next(iter(changes))):
                select_options(model, BOUNDS, 8, [{}, changes], fit_options={"no": "fit"})
        with pytest.raises(UnsupportedError, match=r"`settings\[1\]` holds `min_distance` = 0\.5"):
            select_options(model, BOUNDS, 8, [{}, {"min_distance": 0.5}])

    def test_settings_of_stage_one(self, model: RoMAModel, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("botorch_roma.selection.fit_roma_model", None)  # before there is a fit
        with pytest.raises(ValueError, match="`fit_settings` is empty"):
            select_options(model, BOUNDS, 8, fit_settings=[])
        with pytest.raises(TypeError, match="no_such"):
            select_options(model, BOUNDS, 8, fit_settings=[{}, {"no_such": 1}])
        for name, value in {
            "checkpoint": "c",
            "timeout_sec": 7,
            "progress": True,
            "seed": 0,
            "warm_start": True,
        }.items():
            with pytest.raises(UnsupportedError, match=rf"`fit_settings\[1\]` holds `{name}` = "):
                select_options(model, BOUNDS, 8, fit_settings=[{}, {name: value}])
        with pytest.raises(ValueError, match=r"`seed` must be .* received -1"):
            select_options(model, BOUNDS, 8, seed=-1)
        with pytest.raises(ValueError, match=r"`epochs` must be .* received 0"):
            select_options(model, BOUNDS, 8, fit_settings=[{}, {"epochs": 0}])

    def test_too_few_rows(self, model: RoMAModel) -> None:
        with pytest.raises(InputDataError, match=r"leaves 160 of 200 rows .* reduce `q`"):
            select_options(model, BOUNDS, 161)

    def test_nothing_to_learn_from(self) -> None:
        X = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
        Y = (torch.arange(20) % 5 == 0).double().unsqueeze(1)  # four of them, all hidden
        model = RoMAModel(X, Y, hidden_sizes=(8,))
        fit_roma_model(model, seed=0, epochs=1)
        with pytest.raises(InputDataError, match=r"` = 0\.2 hides all rows but .* outcome, 0, and"):
            select_options(model, BOUNDS, 4)

    def test_models(self, model: RoMAModel) -> None:
        X, Y = model.train_X, model.train_Y
        with pytest.raises(ModelFittingError, match="has not been fitted"):
            select_options(RoMAModel(X, Y), BOUNDS, 8)
        two = RoMAModel(X, torch.cat([Y, -Y], dim=1))
        with pytest.raises(UnsupportedError, match=r"one output .* one of 2"):
            select_options(two, BOUNDS, 8)

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from botorch.exceptions import (
    BotorchTensorDimensionError,
    BotorchWarning,
    InputDataError,
    InputDataWarning,
)
from botorch.exceptions.errors import InfeasibilityError, ModelFittingError, UnsupportedError
from botorch.optim.parameter_constraints import evaluate_feasibility
from torch import Tensor

from botorch_roma import Preset, Proposal, Trajectory, propose
from botorch_roma.latent import (
    ColumnEncoding,
    LatentSpace,
    LogitsEncoding,
    NumericEncoding,
    OneHotEncoding,
    Vocabulary,
)
from botorch_roma.propose import nearest_distance, nearest_other

Make = Callable[..., Proposal]
Options = dict[str, Any]


@pytest.fixture(scope="module")
def mixed(frame: pd.DataFrame) -> pd.DataFrame:
    """An integer, a boolean, a constant and a text column beside the others."""
    return frame.assign(
        n=frame["b"].round().astype(int), on=frame["a"] > 0.5, k=7.0, name="sample"
    )[["a", "n", "on", "k", "y", "name"]]


# What comes back


def test_proposal(X: Tensor, Y: Tensor, make: Make) -> None:
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


def test_tensors_and_frames_give_the_same(
    X: Tensor, Y: Tensor, frame: pd.DataFrame, make: Make
) -> None:
    of_tensors, of_vector, of_frame = make(X, Y), make(X, Y.flatten()), make(frame, "y")
    for other in (of_vector, of_frame):
        for name in ("candidates", "mean", "std", "distance"):
            torch.testing.assert_close(getattr(other, name), getattr(of_tensors, name))
    assert of_frame.columns == ["a", "b", "c"]


def test_trajectory_on_request(X: Tensor, Y: Tensor, make: Make) -> None:
    trajectory = make(X, Y, record_trajectory=True).trajectory
    assert trajectory is not None
    assert len(trajectory.predicted) == 5


def test_a_record_of_ones_own_changes_nothing(X: Tensor, Y: Tensor, make: Make) -> None:
    trajectory = Trajectory(positions=False)
    proposal = make(X, Y, record_trajectory=trajectory)
    assert proposal.trajectory is trajectory
    assert len(trajectory.predicted) == 5
    assert trajectory.x == []
    assert torch.equal(proposal.candidates, make(X, Y).candidates)


def test_float32(X: Tensor, Y: Tensor, make: Make) -> None:
    for proposal in (make(X.float(), Y.float()), make(X, Y, dtype=torch.float32)):
        assert proposal.candidates.dtype == torch.float32
        assert proposal.mean.dtype == torch.float32


# Direction


def test_minimising_y_is_maximising_minus_y(X: Tensor, Y: Tensor, make: Make) -> None:
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
def test_direction(
    X: Tensor, Y: Tensor, arguments: dict[str, Any], same: dict[str, Any], make: Make
) -> None:
    assert torch.equal(make(X, Y, **arguments).candidates, make(X, Y, **same).candidates)


# Columns


def test_integers_booleans_constants_and_text(mixed: pd.DataFrame, make: Make) -> None:
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


def test_types_of_the_columns_are_kept(mixed: pd.DataFrame, make: Make) -> None:
    with pytest.warns(InputDataWarning, match="never vary"):
        table = make(mixed, "y", ignore=["name"]).to_frame()
    assert table["n"].dtype == "int64"
    assert table["a"].dtype == "float64"


def test_integers_stay_inside_bounds_that_are_none(mixed: pd.DataFrame, make: Make) -> None:
    data = mixed.drop(columns=["name", "k"])
    table = make(data, "y", {"n": (-1.5, 2.5)}, q=3).to_frame()
    assert table["n"].between(-1, 2).all()
    with pytest.raises(InputDataError, match=r"`bounds` of .* 'n' hold no integer: \[0\.2, 0\.8\]"):
        make(data, "y", {"n": (0.2, 0.8)})


def test_fixed_integer_column_keeps_its_value(mixed: pd.DataFrame, make: Make) -> None:
    data = mixed.drop(columns=["name", "k"])
    assert make(data, "y", fixed_features={"n": 2}).to_frame()["n"].eq(2).all()
    with pytest.raises(ValueError, match=r"`fixed_features\['n'\]` .*integer.* received 1\.5"):
        make(data, "y", fixed_features={"n": 1.5})


def test_constant_columns_of_a_tensor(X: Tensor, Y: Tensor, make: Make, fast: Options) -> None:
    with_constant = torch.cat([X, torch.full_like(Y, 3.0)], dim=1)
    with pytest.warns(InputDataWarning, match=r"Columns \['x3'\] never vary") as record:
        proposal = propose(with_constant, Y, q=4, **fast)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert proposal.candidates[:, 3].eq(3.0).all()
    asked_for = make(with_constant, Y, fixed_features={3: 4.0})
    assert asked_for.candidates[:, 3].eq(4.0).all()


def test_all_columns_constant(make: Make) -> None:
    X = torch.ones(4, 2, dtype=torch.double)
    with pytest.warns(InputDataWarning, match=r"Columns \['x0', 'x1'\] never vary"):
        proposal = make(X, torch.arange(4.0, dtype=torch.double), q=1)
    assert proposal.candidates.tolist() == [[1.0, 1.0]]
    assert proposal.distance.tolist() == [0.0]


# Bounds and fixed features


def test_margin_widens_the_bounds_from_the_data(X: Tensor, Y: Tensor, make: Make) -> None:
    low, high = X.min(dim=0).values, X.max(dim=0).values
    proposal = make(X, Y, margin=0.5)
    torch.testing.assert_close(
        proposal.bounds, torch.stack([low - 0.5 * (high - low), high + 0.5 * (high - low)])
    )


def test_bounds(X: Tensor, Y: Tensor, frame: pd.DataFrame, make: Make) -> None:
    proposal = make(frame, "y", {"b": (-0.1, 3.7)}, margin=0.1)
    assert proposal.bounds[:, 1].tolist() == [-0.1, 3.7]
    assert torch.equal(proposal.bounds[:, [0, 2]], make(X, Y, margin=0.1).bounds[:, [0, 2]])
    box = torch.tensor([[0.2, -5.0, 0.0], [0.4, 5.0, 200.0]])
    candidates = make(X, Y, box, q=2).candidates
    assert candidates.dtype == torch.double
    assert candidates[:, 0].min() >= 0.2
    assert candidates[:, 0].max() <= 0.4 + 1e-7  # the bounds above are in single precision


def test_fixed_features(X: Tensor, Y: Tensor, frame: pd.DataFrame, make: Make) -> None:
    by_name = make(frame, "y", fixed_features={"b": 1.25})
    by_index = make(X, Y, fixed_features={1: 1.25})
    from_the_end = make(X, Y, fixed_features={-2: 1.25})
    assert by_name.candidates[:, 1].eq(1.25).all()
    assert torch.equal(by_name.candidates, by_index.candidates)
    assert torch.equal(by_name.candidates, from_the_end.candidates)
    assert by_name.fixed_features == {1: 1.25}


def test_fixed_feature_outside_of_the_data_widens_the_bounds(
    X: Tensor, Y: Tensor, make: Make
) -> None:
    proposal = make(X, Y, fixed_features={0: 3.0})
    assert proposal.candidates[:, 0].eq(3.0).all()
    assert proposal.bounds[1, 0] == 3.0


def test_constraints_are_passed_on(X: Tensor, Y: Tensor, make: Make, fast: Options) -> None:
    constraint = (torch.tensor([0, 1]), torch.tensor([1.0, 0.1], dtype=torch.double), 0.3)
    options = {**fast["optimize_options"], "equality_constraints": [constraint]}
    candidates = make(X, Y, optimize_options=options).candidates
    assert evaluate_feasibility(candidates.unsqueeze(1), None, [constraint]).all()


def test_post_processing_of_ones_own(X: Tensor, Y: Tensor, make: Make, fast: Options) -> None:
    def halves(designs: Tensor) -> Tensor:
        return (2.0 * designs).round() / 2.0

    options = {**fast["optimize_options"], "post_processing_func": halves}
    candidates = make(X, Y, margin=1.0, optimize_options=options).candidates
    assert torch.equal(candidates, halves(candidates))


# Categories and sequences


@pytest.fixture(scope="module")
def words() -> pd.DataFrame:
    """Two sequence columns (one of unequal lengths), a category, and one column of each type."""
    rng = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame(
        {
            "site": ["".join(rng.choice(list("acgt"), 4)) for _ in range(n)],
            "a": rng.random(n),
            "kind": rng.choice(["oak", "fir", "ash"], n),
            "n": rng.integers(0, 9, n),
            "code": rng.choice(["0", "01", "101", "NA", "11"], n),
            "on": rng.random(n) > 0.5,
        }
    )
    count = frame["site"].str.count("g") + frame["code"].str.count("1")
    return frame.assign(y=count + frame["a"] + 0.1 * frame["n"] + (frame["kind"] == "fir"))


SEQUENCES = ["site", "code"]
LATENT: dict[str, Any] = {"epochs": 2, "latent_dim": 3, "hidden_sizes": (6,)}


@pytest.fixture(scope="module")
def of_words(words: pd.DataFrame, make: Make) -> Proposal:
    return make(words, "y", sequences=SEQUENCES, q=12)


def test_mixed_table(of_words: Proposal, words: pd.DataFrame) -> None:
    """Texts, categories, integers and booleans come back as they were given, each row once."""
    table = of_words.to_frame()
    inputs = table.drop(columns=["predicted_mean", "predicted_std", "distance"])
    assert list(inputs) == of_words.columns == ["site", "a", "kind", "n", "code", "on"]
    assert len(inputs.drop_duplicates()) == 12
    assert inputs["site"].str.fullmatch("[acgt]{4}").all()
    assert inputs["code"].str.fullmatch("[01AN]{1,3}").all()
    assert set(inputs["kind"]) <= {"oak", "fir", "ash"}
    assert inputs["a"].between(words["a"].min(), words["a"].max()).all()
    assert inputs["n"].between(words["n"].min(), words["n"].max()).all()
    assert inputs["n"].dtype == "int64"
    assert inputs["on"].dtype == "bool"
    known = words.drop(columns="y")
    assert len(inputs.merge(known, how="left", indicator=True).query("_merge == 'left_only'")) > 6
    assert of_words.candidates.shape == (12, 4 + 1 + 1 + 1 + 3 + 1)
    assert of_words.table.restore(of_words.candidates) == inputs.to_dict("list")
    assert of_words.mean.mean() > words["y"].mean()
    assert isinstance(of_words.encoding, ColumnEncoding)
    assert [type(b).__name__ for b in of_words.encoding.blocks] == [
        "OneHotEncoding",
        "NumericEncoding",
        "OneHotEncoding",
        "NumericEncoding",
        "OneHotEncoding",
        "NumericEncoding",
    ]
    assert of_words.reconstruction == {}


def test_start_designs_are_the_best_rows(words: pd.DataFrame, make: Make) -> None:
    options = {"num_updates": 0}
    table = make(words, "y", sequences=SEQUENCES, q=3, optimize_options=options).to_frame()
    best = words.nlargest(3, "y")
    found = table.merge(best, on=of_columns(words), how="inner")
    assert len(found) == 3
    assert table["distance"].tolist() == [0.0] * 3


def of_columns(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame.columns if c != "y"]


def test_distance_is_that_of_the_encoded_designs(of_words: Proposal) -> None:
    encoding = of_words.encoding
    assert encoding is not None
    known, new = encoding.encode(of_words.table.X), encoding.encode(of_words.candidates)
    varies = known.std(dim=0, correction=0) > 0
    known, new = (
        Z[:, varies] / encoding.encode(of_words.table.X).std(dim=0, correction=0)[varies]
        for Z in (known, new)
    )
    nearest = (new.unsqueeze(1) - known).square().mean(dim=-1).sqrt().min(dim=1).values
    torch.testing.assert_close(of_words.distance, nearest)
    assert bool((of_words.distance > 0).any())


def test_seeds_of_mixed_tables(words: pd.DataFrame, of_words: Proposal, make: Make) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    again = make(words, "y", sequences=SEQUENCES, q=12)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again.candidates, of_words.candidates)
    assert torch.equal(again.mean, of_words.mean)


def test_minimising_mixed_tables(words: pd.DataFrame, make: Make) -> None:
    down = make(words, "y", sequences=SEQUENCES, minimize=True)
    up = make(words.assign(y=-words["y"]), "y", sequences=SEQUENCES)
    assert torch.equal(down.candidates, up.candidates)
    assert torch.equal(down.mean, -up.mean)


def test_single_precision_of_mixed_tables(words: pd.DataFrame, make: Make) -> None:
    proposal = make(words, "y", sequences=SEQUENCES, dtype=torch.float32)
    assert proposal.candidates.dtype == proposal.mean.dtype == torch.float32
    assert proposal.to_frame()["site"].str.fullmatch("[acgt]{4}").all()


def test_fixed_category(words: pd.DataFrame, make: Make) -> None:
    """By its name, or by the number of its token; booleans and integers too."""
    by_name = make(words, "y", sequences=SEQUENCES, fixed_features={"kind": "ash", "n": 2})
    assert by_name.to_frame()["kind"].tolist() == ["ash"] * 4
    assert by_name.to_frame()["n"].tolist() == [2] * 4
    assert by_name.fixed_features == {5: 0.0, 6: 2.0}
    by_index = make(words, "y", sequences=SEQUENCES, fixed_features={5: 0.0, 6: 2.0})
    assert torch.equal(by_name.candidates, by_index.candidates)


def test_bounds_of_numbers_in_mixed_tables(words: pd.DataFrame, make: Make) -> None:
    proposal = make(words, "y", {"a": (0.2, 1.5), "n": (1, 20)}, sequences=SEQUENCES, q=3)
    table = proposal.to_frame()
    assert table["a"].between(0.2, 1.5).all()
    assert table["n"].between(1, 20).all()
    assert proposal.bounds[:, 4].tolist() == [0.2, 1.5]
    assert proposal.bounds[:, 0].tolist() == [0.0, 3.0]
    wide = make(words, "y", sequences=SEQUENCES, q=3, margin=0.5).bounds
    assert wide[:, 0].tolist() == [0.0, 3.0]
    assert wide[:, 6].tolist() == [-4.0, 12.0]


def test_linear_constraints_on_numbers_of_mixed_tables(
    words: pd.DataFrame, make: Make, fast: Options
) -> None:
    """Columns of the designs: the fourth is the number ``a``, the sixth the integer ``n``."""
    below = (torch.tensor([4]), torch.tensor([-1.0], dtype=torch.double), -0.3)
    options = {**fast["optimize_options"], "inequality_constraints": [below]}
    table = make(words, "y", sequences=SEQUENCES, optimize_options=options).to_frame()
    assert (table["a"] <= 0.3 + 1e-6).all()
    on_tokens = (torch.tensor([4, 5]), torch.ones(2, dtype=torch.double), 0.3)
    options = {**options, "inequality_constraints": [on_tokens]}
    with pytest.raises(UnsupportedError, match="Column 5: OneHotEncoding holds tokens"):
        make(words, "y", sequences=SEQUENCES, optimize_options=options)


def test_nonlinear_constraints_on_sequences(words: pd.DataFrame, make: Make, fast: Options) -> None:
    """No g (token 2) at the first position of ``site``."""
    options = {
        **fast["optimize_options"],
        "nonlinear_inequality_constraints": [(lambda x: (x[0] - 2.0).abs() - 0.5, True)],
    }
    table = make(words, "y", sequences=SEQUENCES, q=8, optimize_options=options).to_frame()
    assert not table["site"].str.startswith("g").any()


@pytest.mark.parametrize("encoding", ["logits", "latent"])
def test_other_encodings(words: pd.DataFrame, encoding: str, make: Make) -> None:
    """Of sequences alone: categories stay one-hot."""
    options = {**LATENT, "min_reconstruction": 0.0} if encoding == "latent" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BotorchWarning)  # a space of two epochs
        proposal = make(
            words, "y", sequences=SEQUENCES, encoding=encoding, encoding_options=options
        )
    assert isinstance(proposal.encoding, ColumnEncoding)
    kind = {"logits": "LogitsEncoding", "latent": "LatentSpace"}[encoding]
    names = [type(b).__name__ for b in proposal.encoding.blocks]
    assert names[0] == names[4] == kind
    assert names[2] == "OneHotEncoding"
    table = proposal.to_frame()
    assert table["site"].str.fullmatch("[acgt]{4}").all()
    assert table["code"].str.fullmatch("[01AN]{1,3}").all()
    assert len(table.drop_duplicates()) == 4


def test_reconstruction(
    words: pd.DataFrame, lossless_space: Any, monkeypatch: Any, make: Make
) -> None:
    """Of every column that has a latent space; each gets its part of the time."""
    budgets: list[float] = []

    def fit(tokens: Tensor, vocabulary: Vocabulary, **options: Any) -> LatentSpace:
        budgets.append(options["timeout_sec"])
        assert options["seed"] == 5
        assert options["beta"] == 0.25
        return lossless_space(vocabulary, tokens)

    monkeypatch.setattr(LatentSpace, "fit", fit)
    proposal = make(
        words,
        "y",
        sequences=SEQUENCES,
        encoding="latent",
        encoding_options={"beta": 0.25},
        timeout_sec=40.0,
        seed=5,
    )
    assert proposal.reconstruction == {"site": 0.75, "code": 0.75}
    assert budgets == [5.0, 5.0]


def test_a_space_that_loses_the_start_designs(words: pd.DataFrame, make: Make) -> None:
    with pytest.raises(ModelFittingError, match=r"loses the start designs: .*`beta`"):
        make(words, "y", sequences=SEQUENCES, encoding="latent", encoding_options=LATENT)


@pytest.mark.parametrize("name", ["paper", "author_code"])
def test_published_presets_use_a_latent_space(words: pd.DataFrame, name: str, make: Make) -> None:
    """It warns instead of refusing; the measured labels are found behind the latents."""
    arguments = {"encoding_options": LATENT, "preset": name, "sequences": ["site"]}
    frame = words[["site", "a", "y"]]
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        proposal = make(frame, "y", record_trajectory=True, **arguments)
    assert any("This latent space loses the start designs" in str(w.message) for w in record)
    assert list(proposal.reconstruction) == ["site"]
    assert proposal.trajectory is not None
    best = words["y"].nlargest(4).to_numpy()
    expected = torch.tensor((best - words["y"].mean()) / words["y"].std(ddof=0))
    labels = proposal.trajectory.pseudo_label[0]
    assert torch.allclose(labels, expected) == (name == "author_code")


@pytest.mark.parametrize(("sequences", "discrete"), [(["site", "code"], True), ([], False)])
def test_preset_of_what_the_table_holds(
    words: pd.DataFrame,
    sequences: list[str],
    discrete: bool,
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
) -> None:
    """Sequences make a task discrete, categories do not."""
    seen: dict[str, Any] = {}

    def preset(name: str, **options: Any) -> Preset:
        seen.update(options, name=name)
        return Preset(name)

    monkeypatch.setattr(sys.modules["botorch_roma.propose"], "get_preset", preset)
    frame = words if sequences else words.drop(columns=["site", "code"])
    make(frame, "y", sequences=sequences, preset="paper")
    assert seen == {"name": "paper", "discrete": discrete, "num_rows": 60}


def test_categories_alone_need_no_sequences(frame: pd.DataFrame, make: Make) -> None:
    kinds = frame.assign(kind=["x", "y", "z"] * 10, c=7.0)
    with pytest.warns(InputDataWarning, match=r"Columns \['c'\] never vary"):
        proposal = make(kinds, "y")
    assert set(proposal.to_frame()["kind"]) <= {"x", "y", "z"}
    assert proposal.to_frame()["c"].tolist() == [7.0] * 4


def test_a_category_that_never_varies(frame: pd.DataFrame, make: Make) -> None:
    with pytest.warns(InputDataWarning, match=r"Columns \['kind'\] never vary") as record:
        proposal = make(frame.assign(kind="x"), "y")
    assert len(record) == 1
    assert proposal.to_frame()["kind"].tolist() == ["x"] * 4
    assert proposal.fixed_features == {3: 0.0}


def test_a_sequence_that_never_varies(frame: pd.DataFrame, make: Make) -> None:
    same = frame.assign(s="abc")
    proposal = make(same, "y", sequences=["s"])
    assert proposal.to_frame()["s"].tolist() == ["abc"] * 4
    with pytest.raises(InputDataError, match="at least two distinct sequences, received 1 in 30"):
        make(same, "y", sequences=["s"], encoding="latent")


def test_local_search_leaves_alone_what_never_varies(
    frame: pd.DataFrame, make: Make, fast: Options
) -> None:
    """Of a letter that no design has in its place the proxy knows nothing."""
    words = frame.assign(s=[f"c{a}{b}" for a in "ab" for b in "abc" for _ in range(5)])
    options = {**fast["optimize_options"], "local_search_rounds": 3}
    proposal = make(words, "y", sequences=["s"], q=8, optimize_options=options)
    assert proposal.to_frame()["s"].str.fullmatch("c[ab][abc]").all()


DNA = Vocabulary("acgt")


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    """30 sequences whose last position never varies."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randint(4, (30, 4), generator=generator).double()
    X[:, -1] = 1.0
    return X


@pytest.fixture(scope="module")
def values(tokens: Tensor) -> Tensor:
    return (tokens == 2.0).double().sum(dim=-1) + 0.01 * tokens[:, 0]


class TestTensorsOfTokens:
    @pytest.mark.parametrize("kind", [OneHotEncoding, LogitsEncoding])
    def test_encoding(self, tokens: Tensor, values: Tensor, kind: Any, make: Make) -> None:
        encoding = kind(DNA, 4)
        proposal = make(tokens, values, encoding=encoding)
        assert proposal.encoding is encoding
        assert torch.equal(proposal.bounds, encoding.design_bounds.double())
        assert torch.equal(proposal.candidates, proposal.candidates.round())
        assert len(torch.unique(proposal.candidates, dim=0)) == 4
        assert proposal.fixed_features == {}
        assert proposal.columns == ["x0", "x1", "x2", "x3"]
        fixed = make(tokens, values, encoding=encoding, fixed_features={1: 3.0})
        assert fixed.candidates[:, 1].eq(3.0).all()

    def test_latent_space(
        self, tokens: Tensor, values: Tensor, lossless_space: Callable[..., LatentSpace], make: Make
    ) -> None:
        """Though a position never varies, which is no reason to hold it fixed."""
        space = lossless_space(DNA, tokens)
        proposal = make(tokens, values, encoding=space)
        assert space.reconstruction(proposal.candidates) == 1.0
        assert proposal.reconstruction == {"tokens": space.history.sequence_accuracy[-1]}
        with pytest.raises(UnsupportedError, match="LatentSpace mixes the columns"):
            make(tokens, values, encoding=space, fixed_features={0: 1.0})

    def test_numbers_beside_tokens(self, tokens: Tensor, values: Tensor, make: Make) -> None:
        """Their bounds can be given, and a number that never varies is held fixed."""
        box = torch.tensor([[0.0, 2.0], [1.0, 9.0]], dtype=torch.double)
        encoding = ColumnEncoding([OneHotEncoding(DNA, 4), NumericEncoding(box)])
        numbers = torch.stack([values / values.max(), torch.full_like(values, 5.0)], dim=1)
        X = torch.cat([tokens, numbers], dim=1)
        with pytest.warns(InputDataWarning, match=r"Columns \['x5'\] never vary"):
            proposal = make(X, values, encoding=encoding)
        assert proposal.fixed_features == {5: 5.0}
        assert proposal.bounds[:, 4:].tolist() == box.tolist()
        with pytest.warns(InputDataWarning, match="never vary"):
            proposal = make(X, values, {"x4": (0.25, 0.5)}, q=2, encoding=encoding)
        assert proposal.bounds[:, 4].tolist() == [0.25, 0.5]
        assert bool(((proposal.candidates[:, 4] - 0.375).abs() <= 0.125).all())

    def test_bounds_of_the_encoding_stay(self, X: Tensor, Y: Tensor, make: Make) -> None:
        low, high = X.min(dim=0).values, X.max(dim=0).values
        encoding = NumericEncoding(torch.stack([low, high]))
        proposal = make(X, Y, {"x0": (0.25, 0.5)}, encoding=encoding, q=2)
        assert proposal.bounds[:, 0].tolist() == [0.25, 0.5]
        assert torch.equal(encoding.bounds, torch.stack([low, high]))

    def test_refused(self, tokens: Tensor, values: Tensor, make: Make) -> None:
        encoding = OneHotEncoding(DNA, 4)
        with pytest.raises(ValueError, match=r"`encoding` must be one of 4 columns, .* one of 5"):
            make(tokens, values, encoding=OneHotEncoding(DNA, 5))
        with pytest.raises(UnsupportedError, match="knows no other bounds"):
            make(tokens, values, {"x0": (0.0, 2.0)}, encoding=encoding)
        with pytest.raises(ValueError, match=r"`margin` widens .*; received 0\.5, pass `bounds`"):
            make(tokens, values, encoding=encoding, margin=0.5)
        with pytest.raises(ValueError, match=r"`encoding` .*'one_hot' .* tokens pass an Encoding"):
            make(tokens, values, encoding="one_hot")
        with pytest.raises(ValueError, match="integers from 0 to 3, received"):
            make(tokens + 1.0, values, encoding=encoding)


BAD_TEXTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"sequences": ["seq"]}, InputDataError, "no column 'seq'"),
    ({"bounds": {"kind": (0, 1)}}, InputDataError, r"`bounds\['kind'\]` names a column of texts"),
    ({"bounds": {"site": (0, 3)}}, InputDataError, r"`bounds\['site'\]` names .*\(0, 3\); only"),
    (
        {"fixed_features": {"kind": "elm"}},
        InputDataError,
        r"`fixed_features\['kind'\]` must be one of the categories of 'kind', \['ash', 'fir',",
    ),
    ({"fixed_features": {"site": "acgt"}}, InputDataError, "names the sequences 'site'; only num"),
    ({"fixed_features": {7: 1.0}}, UnsupportedError, "Column 7: A position of padded sequences"),
    ({"fixed_features": {0: 0.5}}, ValueError, "`fixed_features` cannot be encoded: .*0.5"),
    ({"encoding": "ordinal"}, ValueError, r"`encoding` must be one of \['one_hot', .*'ordinal'"),
    ({"encoding_options": {"beta": 1.0}}, ValueError, r"`encoding_options` .*\['beta'\] and none"),
    (
        {"encoding": "latent", "encoding_options": {"beta": -1.0}},
        ValueError,
        r"`beta` .* received -1\.0",
    ),
    (
        {"encoding": "latent", "encoding_options": {"depth": 1}},
        TypeError,
        "unexpected keyword argument 'depth'",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_TEXTS)
def test_bad_input_with_texts(
    words: pd.DataFrame, arguments: dict[str, Any], error: type[Exception], message: str, make: Make
) -> None:
    with pytest.raises(error, match=message):
        make(words, "y", **{"sequences": SEQUENCES, **arguments})


def test_encoding_without_sequences(frame: pd.DataFrame, make: Make) -> None:
    for arguments in ({"encoding": "latent"}, {"encoding": "one_hot"}):
        with pytest.raises(ValueError, match="`encoding` is for the columns named in `sequences`"):
            make(frame, "y", **arguments)
    with pytest.raises(ValueError, match=r"`encoding_options` are for latent spaces, .*'epochs'"):
        make(frame, "y", preset="paper", encoding_options={"epochs": 3})


# Distance


def test_distance_is_zero_at_known_designs_only(X: Tensor, Y: Tensor, make: Make) -> None:
    start = make(X, Y, optimize_options={"num_updates": 0})
    assert start.distance.tolist() == [0.0] * 4
    assert bool((make(X, Y).distance > 0.0).all())


def test_distance_by_brute_force(X: Tensor, Y: Tensor, make: Make) -> None:
    constant = torch.full_like(Y, 3.0)
    with pytest.warns(InputDataWarning, match="never vary"):
        proposal = make(torch.cat([X, constant], dim=1), Y, margin=0.2)
    scale = X.std(dim=0, correction=0)
    for x, distance in zip(proposal.candidates[:, :3], proposal.distance, strict=True):
        nearest = min((((x - row) / scale) ** 2).mean().sqrt().item() for row in X)
        assert distance.item() == pytest.approx(nearest, rel=1e-9)


def test_spacing_by_brute_force(X: Tensor, Y: Tensor, make: Make, of_words: Proposal) -> None:
    constant = torch.full_like(Y, 3.0)
    with pytest.warns(InputDataWarning, match="never vary"):
        proposal = make(torch.cat([X, constant], dim=1), Y)
    Z = proposal.candidates[:, :3] / X.std(dim=0, correction=0)
    for i, spacing in enumerate(proposal.spacing):
        others = torch.cat([Z[:i], Z[i + 1 :]])
        assert spacing.item() == pytest.approx((others - Z[i]).square().mean(1).sqrt().min().item())
    assert bool((of_words.spacing > 0).all())
    alone = make(X, Y, q=1)
    assert alone.spacing.tolist() == [float("inf")]
    assert alone.summary()["median_spacing"] is None


def test_distance_of_many(X: Tensor, Y: Tensor, make: Make) -> None:
    model = make(X, Y).model
    many = X.repeat(5, 1) + 1e-3 * X.std(dim=0, correction=0)
    distance = nearest_distance(many, model)
    torch.testing.assert_close(distance, torch.full_like(distance, 1e-3))


def test_distance_far_from_the_origin(X: Tensor, Y: Tensor, make: Make) -> None:
    """What products of matrices would lose, among more rows than are measured exactly."""
    model = make(X + 1e7, Y).model
    scale = X.std(dim=0, correction=0)
    near = X + 1e7 + 1e-6 * scale
    expected = torch.full_like(X[:, 0], 1e-6)
    torch.testing.assert_close(nearest_distance(near, model), expected, rtol=0.0, atol=1e-8)
    assert float(nearest_distance(model.train_X, model).max()) == 0.0
    X_far = 20.0 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).double()
    exact = torch.cdist(X_far / scale, X / scale).amin(dim=1) / 3**0.5
    torch.testing.assert_close(nearest_distance(X_far, make(X, Y).model), exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distance_of_what_is_very_far(X: Tensor, Y: Tensor, make: Make, dtype: torch.dtype) -> None:
    """Squares would overflow."""
    model, far = make(X.to(dtype), Y.to(dtype)).model, torch.finfo(dtype).max ** 0.75
    scale = model.train_X[:, 0].std(correction=0)
    designs = model.train_X[:3].clone()
    designs[:, 0] = far * torch.tensor([1.0, 3.0, 4.0], dtype=dtype)
    units = torch.tensor([1.0, 3.0, 4.0], dtype=dtype) * far / scale / 3**0.5
    torch.testing.assert_close(nearest_distance(designs, model), units)
    spacing = torch.tensor([2.0, 1.0, 1.0], dtype=dtype) * far / scale / 3**0.5
    torch.testing.assert_close(nearest_other(designs, model), spacing)


# Seeds, presets, time


def test_seeds(X: Tensor, Y: Tensor, make: Make) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = make(X, Y, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(make(X, Y, seed=3).candidates, first.candidates)
    assert not torch.equal(make(X, Y, seed=4).candidates, first.candidates)


def test_presets(X: Tensor, Y: Tensor, make: Make, fast: Options) -> None:
    preset = Preset("mine", fast["model_options"], fast["fit_options"], fast["optimize_options"])
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


def test_a_preset_that_selects(X: Tensor, Y: Tensor, make: Make, fast: Options) -> None:
    stages = (fast["model_options"], fast["fit_options"], fast["optimize_options"])
    settings = [{"radius": 0.0}, {"radius": 0.01}]
    preset = Preset("mine", *stages, select={"settings": settings, "hidden_fraction": 0.3})
    proposal = propose(X, Y, q=4, preset=preset, record_trajectory=True)
    assert proposal.selection is not None
    assert proposal.trajectory is not None
    assert len(proposal.trajectory.predicted) == proposal.selection.options["num_updates"]
    forced = propose(
        X, Y, q=4, preset=preset, optimize_options={"num_updates": 0}, record_trajectory=True
    )
    assert forced.trajectory is not None
    assert forced.trajectory.predicted == []
    assert make(X, Y).selection is None


def test_too_few_rows_to_select_are_refused_before_any_work(
    X: Tensor, Y: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["botorch_roma.propose"], "fit_roma_model", None)
    with pytest.raises(InputDataError, match=rf"leaves .* of {len(X)} rows to start {len(X)}"):
        propose(X, Y, q=len(X), preset="selected")
    best = torch.zeros_like(Y)
    best[:4] = 1.0 + Y[:4].abs()
    for outcome, minimize in ((best, False), (-best, True)):
        with pytest.raises(InputDataError, match="hides all rows but those of the lowest outcome"):
            propose(X, outcome, q=4, preset="selected", minimize=minimize)


def test_options_of_stage_2_are_checked_before_any_work(
    X: Tensor, Y: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["botorch_roma.propose"], "fit_roma_model", None)
    with pytest.raises(ValueError, match=r"`num_updates` .* received -1"):
        propose(X, Y, q=4, optimize_options={"num_updates": -1})
    with pytest.raises(UnsupportedError, match=r"Unknown arguments \['num_update'\]"):
        propose(X, Y, q=4, optimize_options={"num_update": 1})
    with pytest.raises(UnsupportedError, match=r"`sequential` is not supported .* received True"):
        propose(X, Y, q=4, optimize_options={"sequential": True})
    with pytest.raises(UnsupportedError, match=r"`reencode_every` needs .* received 5 and none"):
        propose(X, Y, q=4, optimize_options={"reencode_every": 5})
    spread = {"optimize_options": {"max_spread": 0.5}, "model_options": {"num_members": 1}}
    with pytest.raises(UnsupportedError, match=r"`max_spread` is 0\.5, .* one network only"):
        propose(X, Y, q=4, **spread)
    spread["model_options"]["num_members"] = 2
    with pytest.raises(TypeError, match="not callable"):
        propose(X, Y, q=4, **spread)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"bounds": {"x0": (5.0, 5.0), "x1": (7.0, 7.0), "x2": (0.0, -0.0)}}, 1),
        ({"fixed_features": {0: 0.0, "x1": 1.0, "x2": -0.0}}, 1),
    ],
)
def test_too_few_distinct_designs_are_refused_before_any_work(
    X: Tensor, Y: Tensor, monkeypatch: pytest.MonkeyPatch, arguments: Options, found: int
) -> None:
    monkeypatch.setattr(sys.modules["botorch_roma.propose"], "fit_roma_model", None)
    with pytest.raises(ValueError, match=rf"`q` is 2, .* only {found} differ within the bounds"):
        propose(X, Y, q=2, **arguments)
    for name in ("raw_samples", "inequality_constraints"):  # more, or moved by stage 2
        with pytest.raises(TypeError, match="not callable"):
            propose(X, Y, q=2, optimize_options={name: []}, **arguments)


def test_a_damaged_checkpoint_of_stage_2_is_refused_before_any_work(
    X: Tensor, Y: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["botorch_roma.propose"], "fit_roma_model", None)
    (tmp_path / "stage-2.checkpoint").write_bytes(b"damaged")
    with pytest.raises(InputDataError, match=r"'.*stage-2\.checkpoint' cannot be read"):
        propose(X, Y, q=2, checkpoint=tmp_path)


def test_time_budget(X: Tensor, Y: Tensor, make: Make) -> None:
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
    X: Tensor, Y: Tensor, capfd: pytest.CaptureFixture[str], make: Make
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
    X: Tensor,
    Y: Tensor,
    spoil: Callable[..., Data],
    error: type[Exception],
    message: str,
    make: Make,
) -> None:
    with pytest.raises(error, match=message) as info:
        make(*spoil(X, Y))
    assert type(info.value) is error


BAD_INPUT: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"q": 0}, ValueError, r"`q` .* at least 1, received 0"),
    ({"q": -1}, ValueError, r"`q` .* received -1"),
    ({"q": 1.5}, ValueError, r"`q` .* received 1\.5"),
    ({"q": True}, ValueError, r"`q` .* received True"),
    ({"q": 31}, ValueError, r"`q` is 31, but there are only the 30 designs"),
    ({"seed": -1}, ValueError, r"`seed` .* received -1"),
    ({"margin": -0.1}, ValueError, r"`margin` .* received -0\.1"),
    ({"margin": NAN}, ValueError, r"`margin` .* received nan"),
    ({"margin": 1e308}, ValueError, r"`margin` must leave the bounds finite, received 1e\+308"),
    ({"maximize": True, "minimize": True}, ValueError, "contradict each other, received True and"),
    ({"maximize": False, "minimize": False}, ValueError, "contradict each other, received False"),
    ({"preset": "quick"}, ValueError, r"`preset` must be one of .*received 'quick'"),
    ({"bounds": BOX.flip(0)}, ValueError, r"`bounds` .*column 0 has lower=1\.0 and upper=0\.0"),
    ({"bounds": BOX * NAN}, ValueError, r"`bounds` must be finite .*lower=nan"),
    ({"bounds": BOX[:, :2]}, ValueError, r"`bounds` must be a 2 x 3 tensor, .*\(2, 2\)"),
    ({"bounds": {"x3": (0, 1)}}, InputDataError, r"`bounds` names the column 'x3', .*'x2'\]"),
    ({"bounds": {"x0": (1, 0)}}, ValueError, r"`bounds\['x0'\]` .*lower <= upper, .*\(1, 0\)"),
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
        r"`fixed_features\['x0'\]` must lie within its bounds \[0, 1\], received 7; change either",
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
    ({"fit_options": {"epoch": 1}}, ValueError, r"`fit_options` has unknown keys \['epoch'\]"),
    ({"model_options": {"width": 1}}, ValueError, r"`model_options` has unknown .*'width'"),
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
    X: Tensor,
    Y: Tensor,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
    make: Make,
) -> None:
    with pytest.raises(error, match=message) as info:
        make(X, Y, **arguments)
    assert type(info.value) is error


def test_duplicate_rows(X: Tensor, Y: Tensor, make: Make) -> None:
    twice = torch.cat([X, X]), torch.cat([Y, Y])
    assert len(torch.unique(make(*twice, q=30).candidates, dim=0)) == 30
    with pytest.raises(ValueError, match=r"31, but of the 60 designs .* only 30 differ"):
        make(*twice, q=31)
    with pytest.raises(ValueError, match=r"`num_restarts` is 40, but of the 60 .* only 30 differ"):
        make(*twice, q=20, optimize_options={"num_restarts": 2})
    with pytest.raises(ValueError, match=r"`num_restarts` is 80, but there are only the 60 des"):
        make(*twice, q=20, optimize_options={"num_restarts": 4})


def test_a_preset_can_make_start_designs(X: Tensor, Y: Tensor, make: Make) -> None:
    generated = {"raw_samples": 64, "options": {"seed": 0}, "num_updates": 1}
    preset = Preset("mine", {"hidden_sizes": (4,)}, {"epochs": 1}, generated)
    assert len(make(X, Y, q=40, preset=preset).candidates) == 40


def test_fixed_features_have_one_place() -> None:
    X = torch.rand(20, 2, generator=torch.Generator().manual_seed(0)).double()
    with pytest.raises(
        ValueError, match=r"`optimize_options` must not hold `fixed_features`.*0: 1"
    ):
        propose(X, X[:, :1], q=2, optimize_options={"fixed_features": {0: 1.0}})

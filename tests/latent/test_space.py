from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from botorch.exceptions import InputDataError, InputDataWarning
from botorch.exceptions.errors import ModelFittingError, UnsupportedError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from botorch_roma.latent import LatentSpace, OneHotEncoding, Vocabulary, space
from botorch_roma.latent.training import VAEHistory
from botorch_roma.latent.vae import SequenceVAE

DNA = Vocabulary("acgt")
PADDED = Vocabulary("abc", padded=True)
MakeSpace = Callable[..., LatentSpace]

#: All sequences of two letters.
PAIRS = torch.cartesian_prod(torch.arange(4), torch.arange(4))

FAST: dict[str, Any] = {"latent_dim": 3, "hidden_sizes": (6,), "epochs": 2, "lr": 1e-2}


def fit(tokens: Tensor = PAIRS, vocabulary: Vocabulary = DNA, **options: Any) -> LatentSpace:
    return LatentSpace.fit(tokens, vocabulary, **{**FAST, **options})


def constant_space(
    *tokens: int, vocabulary: Vocabulary = DNA, held_out: float = 0.125, **options: Any
) -> LatentSpace:
    """Every latent stands for one sequence."""
    vae = SequenceVAE(vocabulary.num_classes, len(tokens), latent_dim=2, hidden_sizes=())
    with torch.no_grad():
        vae.decoder[0].weight.zero_()
        logits = torch.nn.functional.one_hot(torch.tensor(tokens), vocabulary.num_classes)
        vae.decoder[0].bias.copy_(logits.flatten())
    history = VAEHistory([1.0], [0.5], [held_out], [0.0], 8)
    data = torch.tensor([[0] * len(tokens), [1] * len(tokens)])
    return LatentSpace(vae, vocabulary, data, history, **options)


class TestEncodeAndDecode:
    @given(rows=st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), min_size=1))
    def test_round_trip(self, lossless_space: MakeSpace, rows: list[list[int]]) -> None:
        made, X = lossless_space(DNA, PAIRS), torch.tensor(rows, dtype=torch.double)
        Z = made.encode(X)
        assert Z.shape == (len(rows), 4)
        assert torch.equal(made.decode(Z), X)
        assert torch.equal(made.snap_designs(X), X)
        assert made.reconstruction(X) == 1.0
        assert bool(((made.bounds[0] - 1e-6 <= Z) & (made.bounds[1] + 1e-6 >= Z)).all())

    @given(
        rows=st.lists(st.lists(st.floats(-3, 3), min_size=6, max_size=6), min_size=1, max_size=5)
    )
    def test_any_latent_stands_for_a_valid_sequence(
        self, lossless_space: MakeSpace, rows: list[list[float]]
    ) -> None:
        made = lossless_space(PADDED, torch.tensor([[0, 1, 2], [2, 3, 3]]))
        X = made.decode(torch.tensor(rows, dtype=torch.double))
        assert torch.equal(PADDED.canonical(X), X)
        assert bool((PADDED.lengths(X) >= 1).all())
        assert made.reconstruction(X) == 1.0

    @settings(max_examples=8)
    @given(
        rows=st.lists(st.text("abc", min_size=1, max_size=4), min_size=2, max_size=9, unique=True),
        seed=st.integers(0, 2**31),
        latent_dim=st.integers(1, 4),
        dtype=st.sampled_from([torch.float32, torch.float64]),
    )
    def test_a_space_of_any_sequences(
        self, rows: list[str], seed: int, latent_dim: int, dtype: torch.dtype
    ) -> None:
        vocabulary = Vocabulary.from_strings(rows)
        tokens = vocabulary.tokenize(rows)
        options: dict[str, Any] = {"latent_dim": latent_dim, "seed": seed}
        made, twin = (fit(tokens, vocabulary, **options) for _ in range(2))
        designs = tokens.to(dtype)
        Z = made.to(dtype).encode(designs)
        assert Z.shape == (len(rows), latent_dim)
        assert Z.dtype == dtype
        assert torch.isfinite(Z).all()
        assert torch.equal(twin.to(dtype).encode(designs), Z)
        decoded = made.decode(Z)
        assert decoded.shape == designs.shape
        assert decoded.dtype == dtype
        assert torch.equal(vocabulary.canonical(decoded), decoded)
        assert 0.0 <= made.reconstruction(designs) <= 1.0
        torch.testing.assert_close(
            torch.stack([Z.amin(dim=0), Z.amax(dim=0)]), made.bounds.to(dtype), rtol=0.0, atol=1e-4
        )

    def test_no_empty_sequence_comes_out(self) -> None:
        """Though the padding is the likeliest everywhere."""
        made = constant_space(3, 3, vocabulary=PADDED)
        assert made.decode(torch.zeros(1, 2)).tolist() == [[0.0, 3.0]]

    def test_the_mean_is_taken(self) -> None:
        made = fit()
        mean, log_var = made.vae.encode(PAIRS)
        assert bool((log_var > -5).all())
        torch.testing.assert_close(made.encode(PAIRS), mean)

    def test_bounds_are_the_box_of_the_data(self) -> None:
        made = fit()
        Z = made.encode(PAIRS)
        assert torch.equal(made.bounds, torch.stack([Z.amin(dim=0), Z.amax(dim=0)]))
        assert (made.dim, made.encoded_dim, made.length) == (2, 3, 2)
        assert made.design_bounds.tolist() == [[0.0, 0.0], [3.0, 3.0]]
        assert torch.equal(made.encode_bounds(made.design_bounds), made.bounds)

    def test_batches_dtypes_and_chunks(
        self, lossless_space: MakeSpace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = lossless_space(DNA, PAIRS)
        monkeypatch.setattr(space, "CHUNK_SIZE", 3)
        for dtype in (torch.float32, torch.float64):
            X = PAIRS.to(dtype).reshape(2, 8, 2)
            Z = made.encode(X)
            assert Z.shape == (2, 8, 4)
            assert Z.dtype == dtype
            assert torch.equal(made.decode(Z), X)
        assert made.encode(PAIRS).dtype == torch.float32
        assert torch.equal(made.decode(made.encode(PAIRS[3])), PAIRS[3].float())

    def test_double_precision(self, lossless_space: MakeSpace) -> None:
        made = lossless_space(DNA, PAIRS).double()
        assert made.bounds.dtype == made.encode(PAIRS.double()).dtype == torch.double
        torch.testing.assert_close(
            made.encode(PAIRS.double())[0], torch.tensor([1.0, 0, 1, 0]).double()
        )

    def test_nothing_needs_a_gradient(self) -> None:
        made = fit()
        assert not any(p.requires_grad for p in made.parameters())
        Z = made.bounds[:1].clone().requires_grad_()
        assert not made.decode(Z).requires_grad
        assert not made.encode(PAIRS).requires_grad


class TestFit:
    def test_options_arrive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: dict[str, Any] = {}

        def watched(vae: SequenceVAE, tokens: Tensor, **options: Any) -> VAEHistory:
            seen.update(options, vae=vae)
            return VAEHistory([0.0], [0.0], [0.0], [0.0], 1)

        monkeypatch.setattr(space, "fit_sequence_vae", watched)
        options = {"beta": 0.3, "epochs": 7, "batch_size": 5, "lr": 0.1, "num_validation": 3}
        options |= {"seed": 9, "timeout_sec": 4.0, "progress": True}
        made = fit(min_reconstruction=0.25, hidden_sizes=(6, 5), **options)
        vae = seen.pop("vae")
        assert seen == {**options, "checkpoint": None, "checkpoint_interval": 60.0}
        assert made.min_reconstruction == 0.25
        assert (vae.latent_dim, vae.num_classes, vae.length) == (3, 4, 2)
        assert vae.encoder[2].out_features == 5

    def test_seed_of_the_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        history = VAEHistory([0.0], [0.0], [0.0], [0.0], 1)
        monkeypatch.setattr(space, "fit_sequence_vae", lambda *_, **__: history)
        first, again, other = (fit(seed=s).encode(PAIRS) for s in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.allclose(first, other)

    def test_history(self) -> None:
        made = fit(epochs=3, num_validation=4)
        assert len(made.history.loss) == 3
        assert made.history.num_validation == 4

    def test_seeds(self) -> None:
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first, again, other = fit(seed=2), fit(seed=2), fit(seed=3)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(first.encode(PAIRS), again.encode(PAIRS))
        assert not torch.allclose(first.encode(PAIRS), other.encode(PAIRS))
        assert torch.equal(first.sample(5), again.sample(5))

    @pytest.mark.parametrize(
        ("length", "architecture", "is_conv"),
        [(100, None, False), (101, None, True), (100, "conv", True), (101, "mlp", False)],
    )
    def test_architecture(self, length: int, architecture: Any, is_conv: bool) -> None:
        tokens = torch.tensor([[0], [3]]).repeat(1, length)
        made = fit(tokens, architecture=architecture, epochs=1)
        has_conv = any(isinstance(m, torch.nn.Conv1d) for m in made.vae.modules())
        assert has_conv == is_conv

    @pytest.mark.parametrize(
        ("length", "latent_dim"), [(1, 32), (12, 32), (13, 64), (51, 128), (200, 256)]
    )
    def test_number_of_latents(self, length: int, latent_dim: int) -> None:
        """Two and a half a position in steps of 32, and no more than 256."""
        tokens = torch.tensor([[0], [3]]).repeat(1, length)
        made = fit(tokens, latent_dim=None, architecture="mlp", epochs=1)
        assert made.encoded_dim == latent_dim

    def test_time_budget(self) -> None:
        assert len(fit(epochs=10**6, timeout_sec=0.01).history.loss) < 10**6

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"beta": -1.0}, ValueError, r"`beta` .* received -1\.0"),
            ({"latent_dim": 0}, ValueError, "`latent_dim` .* received 0"),
            ({"architecture": "rnn"}, ValueError, "`architecture` must be one of .* 'rnn'"),
            ({"min_reconstruction": -0.1}, ValueError, r"`min_reconstruction` .* received -0\.1"),
            ({"min_reconstruction": 1.1}, ValueError, r"`min_reconstruction` .* received 1\.1"),
            ({"tokens": PAIRS + 1}, ValueError, "integers from 0 to 3, received .* with 4;"),
            ({"tokens": PAIRS[:1].repeat(9, 1)}, InputDataError, "at least two distinct .* 1 in 9"),
        ],
    )
    def test_bad_input(
        self,
        arguments: dict[str, Any],
        error: type[Exception],
        message: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Refused before an epoch is spent."""
        monkeypatch.setattr(SequenceVAE, "loss", lambda *_: pytest.fail("too late"))
        with pytest.raises(error, match=message):
            fit(**arguments)


class TestSample:
    def test_tokens_of_the_prior(self, lossless_space: MakeSpace) -> None:
        made = lossless_space(DNA, PAIRS)
        X = made.sample(200, seed=1)
        assert X.shape == (200, 2)
        assert len(torch.unique(X, dim=0)) == 16  # a circle around the origin: all alike
        assert torch.equal(X, made.sample(200, seed=1))
        assert not torch.equal(X, made.sample(200, seed=2))

    def test_global_random_state_is_left_alone(self) -> None:
        state, made = torch.get_rng_state(), constant_space(1, 2)
        assert made.sample(3).tolist() == [[1.0, 2.0]] * 3
        assert torch.equal(torch.get_rng_state(), state)

    def test_bad_number(self) -> None:
        with pytest.raises(ValueError, match="`n` must be an integer of at least 1, received 0"):
            constant_space(1, 2).sample(0)


class TestCheckDesigns:
    START = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 3.0], [3.0, 2.0]])

    def test_refuses_to_lose_the_start_designs(self) -> None:
        made = constant_space(1, 2, held_out=0.125)
        assert made.reconstruction(self.START) == 0.25
        with pytest.raises(ModelFittingError) as info:
            made.check_designs(self.START)
        assert str(info.value) == (
            "This latent space loses the start designs: 25.0% of 4 come back from encoding and "
            "decoding (held-out sequences: 12.5%), `min_reconstruction` asks for 50.0%. Train it "
            "with a smaller `beta`, more `epochs` or a larger `latent_dim`, or use the one-hot "
            "encoding."
        )

    @pytest.mark.parametrize("minimum", [0.0, 0.25])
    def test_warns_where_that_is_asked_for(self, minimum: float) -> None:
        made = constant_space(1, 2, min_reconstruction=minimum)
        message = r"loses the start designs: 25\.0% of 4 .* \(held-out sequences: 12\.5%\)\.$"
        with pytest.warns(InputDataWarning, match=message):
            made.check_designs(self.START)

    @pytest.mark.parametrize("minimum", [0.0, 0.5])
    def test_is_silent_where_half_come_back(self, minimum: float) -> None:
        made = constant_space(1, 2, min_reconstruction=minimum)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made.check_designs(self.START[:2])

    def test_more_can_be_asked_for(self) -> None:
        made = constant_space(1, 2, min_reconstruction=0.75)
        with pytest.raises(ModelFittingError, match=r"50\.0% of 2 .* asks for 75\.0%"):
            made.check_designs(self.START[:2])

    def test_padding_before_the_end(self, lossless_space: MakeSpace) -> None:
        made = lossless_space(PADDED, torch.tensor([[0, 1], [2, 3]]))
        made.check_designs(torch.tensor([[2.0, 3.0]]))
        with pytest.raises(ValueError, match=r"padding \(token 3\) at the end only; row 0"):
            made.check_designs(torch.tensor([[3.0, 1.0]]))


class TestRefusals:
    def test_what_mixes_the_columns(self) -> None:
        made = constant_space(1, 2)
        with pytest.raises(UnsupportedError, match=r"LatentSpace mixes the columns .* one-hot"):
            made.columns_of(0)
        with pytest.raises(UnsupportedError, match="LatentSpace holds tokens"):
            made.numeric_column(0)
        with pytest.raises(UnsupportedError, match="LatentSpace knows no other bounds"):
            made.encode_bounds(torch.tensor([[0.0, 0.0], [3.0, 2.0]]))

    def test_malformed_designs_and_vectors(self) -> None:
        made = constant_space(1, 2)
        with pytest.raises(ValueError, match="integers from 0 to 3"):
            made.encode(torch.tensor([[0.0, 4.0]]))
        with pytest.raises(ValueError, match=r"`X` must have 2 tokens a row, .*\(1, 3\)"):
            made.encode(torch.zeros(1, 3))
        with pytest.raises(ValueError, match=r"`Z` must have 2 columns, received shape \(2, 3\)"):
            made.decode(torch.zeros(2, 3))


class TestEquals:
    def test_by_weights_and_vocabulary(self) -> None:
        made = fit()
        assert made.equals(made)
        assert made.equals(fit())
        assert made.equals(pickle.loads(pickle.dumps(made)).double())
        for other in (
            fit(seed=1),
            fit(hidden_sizes=(5,)),
            fit(hidden_sizes=()),
            fit(hidden_sizes=(6, 6)),
            fit(vocabulary=Vocabulary("tgca")),
            fit(latent_dim=4),
            OneHotEncoding(DNA, 2),
        ):
            assert not made.equals(other)
            assert not other.equals(made)

    def test_other_architectures(self) -> None:
        tokens = torch.arange(20).reshape(2, 10) % 4
        mlp, conv = (fit(tokens, architecture=a, epochs=1) for a in ("mlp", "conv"))
        assert not mlp.equals(conv)
        assert not conv.equals(mlp)

    def test_pickles(self) -> None:
        made = fit()
        again = pickle.loads(pickle.dumps(made))
        assert torch.equal(again.encode(PAIRS), made.encode(PAIRS))
        assert torch.equal(again.bounds, made.bounds)
        assert again.history == made.history

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from botorch.exceptions import InputDataError
from botorch.exceptions.errors import ModelFittingError
from torch import Tensor

from botorch_roma.latent import training
from botorch_roma.latent.training import VAEHistory, fit_sequence_vae, reconstruct
from botorch_roma.latent.vae import SequenceVAE

#: Ten sequences of two letters, four positions.
TOKENS = torch.tensor([[(i >> k) & 1 for k in range(4)] for i in range(10)])


def make(num_classes: int = 2, length: int = 4) -> SequenceVAE:
    return SequenceVAE(num_classes, length, latent_dim=4, hidden_sizes=(16,))


def fit(vae: SequenceVAE, tokens: Tensor = TOKENS, **options: Any) -> VAEHistory:
    defaults = {"epochs": 3, "batch_size": 4, "lr": 1e-2, "num_validation": 2}
    return fit_sequence_vae(vae, tokens, **{**defaults, **options})


def weights(vae: SequenceVAE) -> Tensor:
    return torch.cat([p.detach().flatten() for p in vae.parameters()])


Batch = tuple[Tensor, float, Tensor]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The sequences, ``beta`` and the noise of every minibatch."""
    seen: list[Batch] = []
    loss = SequenceVAE.loss

    def watched(self: SequenceVAE, tokens: Tensor, beta: float, noise: Tensor) -> Tensor:
        seen.append((tokens, beta, noise))
        return loss(self, tokens, beta, noise)

    monkeypatch.setattr(SequenceVAE, "loss", watched)
    return seen


class TestTraining:
    def test_learns_to_reconstruct(self) -> None:
        """What was not held out comes back; the loss falls."""
        vae = make()
        history = fit(vae, epochs=60, batch_size=16, lr=5e-2, beta=1e-3, num_validation=1)
        assert history.loss[-1] < 0.2 * history.loss[0]
        assert reconstruct(vae, TOKENS).eq(TOKENS).all(dim=1).sum() >= 9
        assert history.token_accuracy[-1] >= 0.5

    def test_history(self) -> None:
        history = fit(make(), epochs=5)
        assert history.num_validation == 2
        for name in ("loss", "token_accuracy", "sequence_accuracy", "seconds"):
            assert len(getattr(history, name)) == 5, name
        assert history.seconds == sorted(history.seconds)
        for token, sequence in zip(history.token_accuracy, history.sequence_accuracy, strict=True):
            assert token * 8 == round(token * 8)
            assert sequence in (0.0, 0.5, 1.0)
            assert sequence <= token
        frame = history.to_frame()
        assert list(frame.columns) == ["loss", "token_accuracy", "sequence_accuracy", "seconds"]
        assert frame["loss"].tolist() == history.loss

    def test_loss_is_the_mean_per_sequence(self, batches: list[Batch]) -> None:
        vae = make()
        with torch.no_grad():  # such that nothing can be learned: log 2 nats a position
            for p in vae.parameters():
                p.zero_()
        history = fit(vae, epochs=1, lr=1e-12, beta=0.0)
        assert history.loss == [pytest.approx(4.0 * math.log(2.0), rel=1e-6)]
        assert [len(tokens) for tokens, _, _ in batches] == [4, 4]

    def test_every_epoch_takes_all_rows_in_another_order(self, batches: list[Batch]) -> None:
        fit(make(), epochs=3, batch_size=8)
        epochs = [tokens.tolist() for tokens, _, _ in batches]
        assert epochs[0] != epochs[1] != epochs[2]
        assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])

    def test_accuracy_is_that_of_the_held_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half of the tokens of one sequence of two are wrong."""

        def broken(vae: SequenceVAE, tokens: Tensor) -> Tensor:
            assert len(tokens) == 2
            wrong = tokens.clone()
            wrong[1, :2] = 1 - wrong[1, :2]
            return wrong

        monkeypatch.setattr(training, "reconstruct", broken)
        history = fit(make(), epochs=1)
        assert history.token_accuracy == [0.75]
        assert history.sequence_accuracy == [0.5]

    def test_beta_rises_to_its_value(self, batches: list[Batch]) -> None:
        fit(make(), epochs=20, batch_size=4, beta=0.5)  # 40 minibatches: 4 of them rising
        expected = [0.0, 0.125, 0.25, 0.375, *[0.5] * 36]
        assert [beta for _, beta, _ in batches] == pytest.approx(expected)

    def test_noise_is_standard_normal_and_drawn_anew(self, batches: list[Batch]) -> None:
        fit(make(), epochs=25, batch_size=8)
        noise = torch.cat([noise for _, _, noise in batches])
        assert noise.shape == (200, 4)
        assert len(torch.unique(noise)) == 800
        assert abs(noise.mean().item()) < 0.15
        assert noise.std().item() == pytest.approx(1.0, abs=0.1)

    def test_learning_rate_rises_and_falls(self) -> None:
        factors = [training._schedule(share / 100) for share in range(101)]
        assert 0.0 < factors[0] < 0.02
        assert factors[5] == pytest.approx(0.051 / 0.101)
        assert factors[10] == 1.0
        assert factors[55] == pytest.approx(0.5)
        assert factors[100] == pytest.approx(0.0)
        assert factors[:11] == sorted(factors[:11])
        assert factors[10:] == sorted(factors[10:], reverse=True)

    def test_learning_rate_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vae = make()
        before = weights(vae)
        monkeypatch.setattr(training, "_schedule", lambda share: 0.0)
        fit(vae)
        assert torch.equal(weights(vae), before)

    def test_default_number_of_epochs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training, "DEFAULT_NUM_BATCHES", 24)
        assert len(fit(make(), epochs=None).loss) == 12  # two minibatches an epoch
        assert len(fit(make(), epochs=None, batch_size=3).loss) == 10  # no fewer

    def test_time_budget(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SimpleNamespace(monotonic=itertools.count().__next__)
        monkeypatch.setattr(training, "time", clock)
        vae = make()
        history = fit(vae, epochs=100, timeout_sec=24.0)
        assert len(history.loss) == 3  # of eight looks at the clock each, the last a half
        assert history.seconds[-1] <= 24.0
        assert not torch.equal(weights(vae), weights(make()))
        history = fit(make(), epochs=100, timeout_sec=1e-3)
        assert len(history.loss) == 1  # of one minibatch
        assert math.isfinite(history.loss[0])


class TestSplit:
    def test_held_out_sequences_are_distinct_and_in_no_minibatch(
        self, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where sequences stand in several rows."""
        held: list[Tensor] = []
        monkeypatch.setattr(training, "reconstruct", lambda vae, t: held.append(t) or t)
        fit(make(), TOKENS.repeat(3, 1), epochs=1, num_validation=4)
        out = {tuple(t) for t in held[0].tolist()}
        trained = [tuple(t) for tokens, _, _ in batches for t in tokens.tolist()]
        assert len(out) == len(held[0]) == 4
        assert not out & set(trained)
        assert out | set(trained) == {tuple(t) for t in TOKENS.tolist()}
        assert len(trained) == 18

    def test_at_least_one_by_default(self) -> None:
        assert fit(make(), TOKENS[:2], num_validation=None, epochs=1).num_validation == 1

    def test_rows_that_repeat_count_once(self) -> None:
        tokens = TOKENS.repeat(5, 1)
        assert fit(make(), tokens, num_validation=None, epochs=1).num_validation == 1

    def test_at_most_a_thousand_by_default(self) -> None:
        tokens = torch.arange(12_000).unsqueeze(-1)
        generator = torch.Generator().manual_seed(0)
        train, held_out = training._split(tokens, None, generator, torch.device("cpu"))
        assert (len(train), len(held_out)) == (11_000, 1_000)
        train, held_out = training._split(tokens[:500], None, generator, torch.device("cpu"))
        assert (len(train), len(held_out)) == (450, 50)


class TestSeeds:
    def test_determinism(self) -> None:
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first, again, other = make(), make(), make()
        histories = [fit(vae, seed=s) for vae, s in ((first, 3), (again, 3), (other, 4))]
        assert torch.equal(torch.get_rng_state(), state)
        assert histories[0].loss == histories[1].loss
        assert torch.equal(weights(first), weights(again))
        assert not torch.equal(weights(first), weights(other))

    def test_float_tokens_are_the_same(self) -> None:
        first, again = make(), make()
        assert fit(first).loss == fit(again, TOKENS.double()).loss
        assert torch.equal(weights(first), weights(again))

    def test_double_precision(self) -> None:
        vae = make().double()
        fit(vae)
        assert weights(vae).dtype == torch.double


class TestReconstruct:
    def test_in_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vae = make()
        whole = reconstruct(vae, TOKENS)
        monkeypatch.setattr(training, "CHUNK_SIZE", 3)
        assert torch.equal(reconstruct(vae, TOKENS), whole)
        assert whole.shape == TOKENS.shape
        assert not whole.requires_grad

    def test_progress_bar_is_off_by_default(self, capfd: pytest.CaptureFixture[str]) -> None:
        fit(make(), epochs=1)
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"beta": -0.1}, r"`beta` must be a finite number at least 0, received -0\.1"),
            ({"beta": math.nan}, "`beta` .* received nan"),
            ({"lr": 0.0}, r"`lr` must be a finite number above 0, received 0\.0"),
            ({"batch_size": 0}, "`batch_size` must be an integer of at least 1, received 0"),
            ({"epochs": 0}, "`epochs` must be an integer of at least 1, received 0"),
            ({"epochs": 1.5}, r"`epochs` .* received 1\.5"),
            ({"num_validation": 0}, "`num_validation` must be an integer of at least 1, received"),
            ({"timeout_sec": 0.0}, r"`timeout_sec` .* above 0 seconds, received 0\.0"),
            ({"tokens": TOKENS + 1}, "`tokens` must be integers from 0 to 1, received .* with 2;"),
            ({"tokens": TOKENS[:, :3]}, r"`tokens` must have shape n x 4, received \(10, 3\)"),
            ({"tokens": TOKENS[0]}, r"`tokens` must have shape n x 4, received \(4,\)"),
            ({"tokens": TOKENS[:0]}, r"`tokens` must not be empty, received shape \(0, 4\)"),
        ],
    )
    def test_options(self, options: dict[str, Any], message: str) -> None:
        vae = make()
        before = weights(vae)
        with pytest.raises(ValueError, match=message):
            fit(vae, **options)
        assert torch.equal(weights(vae), before)

    def test_a_single_distinct_sequence(self) -> None:
        message = r"at least two distinct sequences, received 1 in 5 rows; there is no space"
        with pytest.raises(InputDataError, match=message):
            fit(make(), TOKENS[:1].repeat(5, 1), num_validation=None)

    def test_nothing_left_to_train_on(self) -> None:
        message = "must leave a sequence to train on, received 10 for 10 distinct sequences"
        with pytest.raises(InputDataError, match=f"`num_validation` {message}"):
            fit(make(), TOKENS.repeat(2, 1), num_validation=10)
        assert fit(make(), num_validation=9, epochs=1).num_validation == 9

    def test_loss_that_is_not_finite(self) -> None:
        vae = make()
        with torch.no_grad():
            vae.decoder[0].weight.fill_(torch.inf)
        message = r"The loss of the VAE became nan in epoch 0; lower `lr`, received 0\.01"
        with pytest.raises(ModelFittingError, match=message):
            fit(vae)


def test_default_dtype_changed_after_the_vae_was_made() -> None:
    vae = make(3, 4)
    tokens = torch.randint(3, (20, 4), generator=torch.Generator().manual_seed(0))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        fit_sequence_vae(vae, tokens, epochs=1)
    finally:
        torch.set_default_dtype(before)
    assert {p.dtype for p in vae.parameters()} == {torch.float32}

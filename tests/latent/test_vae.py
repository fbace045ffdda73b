from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import log_softmax

from botorch_roma.latent.vae import CONV_CHANNELS, LOG_VAR_BOUNDS, SequenceVAE


def make(num_classes: int = 3, length: int = 6, **options: Any) -> SequenceVAE:
    return SequenceVAE(
        num_classes, length, **{"latent_dim": 2, "hidden_sizes": (5, 4), **options}
    ).double()


TOKENS = torch.tensor([[0, 1, 2, 0, 1, 2], [2, 2, 2, 1, 1, 0], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
class TestShapes:
    @given(length=st.integers(5, 23), num_classes=st.integers(1, 4))
    def test_of_any_length(self, architecture: Any, length: int, num_classes: int) -> None:
        vae = make(num_classes, length, architecture=architecture)
        tokens = torch.arange(3 * length).reshape(3, length) % num_classes
        mean, log_var = vae.encode(tokens)
        assert mean.shape == log_var.shape == (3, 2)
        logits = vae.decode(mean)
        assert logits.shape == (3, length, num_classes)
        assert logits.dtype == torch.double

    def test_rows_are_independent(self, architecture: Any) -> None:
        vae = make(architecture=architecture)
        Z = vae.encode(TOKENS)[0]
        torch.testing.assert_close(vae.encode(TOKENS[1:2])[0], Z[1:2])
        torch.testing.assert_close(vae.decode(Z[1:2]), vae.decode(Z)[1:2])
        assert not torch.allclose(Z[0], Z[1])

    def test_every_token_matters_and_every_logit_depends_on_the_latents(
        self, architecture: Any
    ) -> None:
        vae = make(architecture=architecture, hidden_sizes=(32,))
        mean = vae.encode(TOKENS[:1])[0]
        for i in range(6):
            other = TOKENS[:1].clone()
            other[0, i] = (other[0, i] + 1) % 3
            assert not torch.allclose(vae.encode(other)[0], mean)
        moved = vae.decode(mean + 1.0) - vae.decode(mean)
        assert bool((moved.abs() > 1e-9).all())

    def test_neither_half_is_linear(self, architecture: Any) -> None:
        vae = make(architecture=architecture)
        corners = torch.zeros(4, 6, dtype=torch.long)
        corners[1:, 0], corners[2:, 5] = torch.tensor([1, 0, 1]), torch.tensor([1, 1])
        a, b, c, d = vae.encode(corners)[0]
        assert bool(((a + d - b - c).abs() > 1e-6).all())
        z = torch.tensor([[1.0, -2.0]], dtype=torch.double)
        middle = vae.decode(torch.zeros_like(z))
        assert bool(((vae.decode(z) + vae.decode(-z) - 2.0 * middle).abs() > 1e-6).all())

    def test_seeds(self, architecture: Any) -> None:
        state = torch.get_rng_state()
        first, again, other = (make(architecture=architecture, seed=s) for s in (1, 1, 2))
        assert torch.equal(torch.get_rng_state(), state)
        for a, b in zip(first.parameters(), again.parameters(), strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(first.encode(TOKENS)[0], other.encode(TOKENS)[0])


class TestArchitecture:
    def test_widths_of_the_layers(self) -> None:
        vae = make(hidden_sizes=(5, 4))
        widths = [
            [(m.in_features, m.out_features) for m in part if isinstance(m, torch.nn.Linear)]
            for part in (vae.encoder, vae.decoder)
        ]
        assert widths == [[(18, 5), (5, 4), (4, 4)], [(2, 4), (4, 5), (5, 18)]]

    def test_no_hidden_layers(self) -> None:
        vae = make(hidden_sizes=())
        assert [len(vae.encoder), len(vae.decoder)] == [1, 1]

    def test_convolutions_save_weights_where_sequences_are_long(self) -> None:
        mlp, conv = (make(20, 237, architecture=a) for a in ("mlp", "conv"))
        short = 60  # 237 positions after two convolutions with stride 2
        assert mlp.encoder[0].in_features == 20 * 237
        assert conv.encoder[0].in_features == CONV_CHANNELS * short

    def test_positions_are_cut_off_at_the_end(self) -> None:
        """Five to eight positions are two after the convolutions: the same weights."""
        short, long = (make(3, length, architecture="conv") for length in (5, 8))
        z = torch.tensor([[0.3, -1.0]], dtype=torch.double)
        torch.testing.assert_close(short.decode(z), long.decode(z)[:, :5])

    def test_one_token_shifts_one_position(self) -> None:
        """Positions and tokens are not mixed up: only what the weights of a position say."""
        vae = make(hidden_sizes=())
        with torch.no_grad():
            vae.encoder[0].weight.zero_()
            vae.encoder[0].bias.zero_()
            vae.encoder[0].weight[0, 3 * 4 + 2] = 1.0  # token 2 at position 4
            vae.decoder[0].weight.zero_()
            vae.decoder[0].weight[3 * 1 + 0, 1] = 1.0  # token 0 at position 1
            vae.decoder[0].bias.zero_()
        tokens = torch.zeros(2, 6, dtype=torch.long)
        tokens[1, 4] = 2
        assert vae.encode(tokens)[0].tolist() == [[0.0, 0.0], [1.0, 0.0]]
        logits = vae.decode(torch.tensor([[5.0, 3.0]], dtype=torch.double))
        assert logits[0, 1, 0] == 3.0
        assert logits.sum() == 3.0


class TestLoss:
    def test_is_the_evidence_lower_bound(self) -> None:
        vae, beta = make(), 0.7
        noise = torch.linspace(-1.0, 1.0, 6, dtype=torch.double).reshape(3, 2)
        mean, log_var = vae.encode(TOKENS)
        prior = torch.distributions.Normal(0.0, 1.0)
        posterior = torch.distributions.Normal(mean, (0.5 * log_var).exp())
        kl = torch.distributions.kl_divergence(posterior, prior).sum(dim=-1)
        assert bool((kl > 0).all())
        logits = log_softmax(vae.decode(mean + posterior.stddev * noise), dim=-1)
        nats = -logits.gather(-1, TOKENS.unsqueeze(-1)).sum(dim=(-1, -2))
        expected = (nats + beta * kl).mean()
        torch.testing.assert_close(vae.loss(TOKENS, beta, noise), expected)

    def test_per_sequence_however_many_there_are(self) -> None:
        vae, noise = make(), torch.zeros(3, 2, dtype=torch.double)
        twice = vae.loss(TOKENS.repeat(2, 1), 0.3, noise.repeat(2, 1))
        torch.testing.assert_close(vae.loss(TOKENS, 0.3, noise), twice)

    def test_log_variance_stays_finite(self) -> None:
        vae = make(hidden_sizes=())
        with torch.no_grad():
            vae.encoder[0].bias.copy_(torch.tensor([0.0, 0.0, 1e6, -1e6]))
        _, log_var = vae.encode(TOKENS)
        low, high = LOG_VAR_BOUNDS
        assert log_var.tolist() == [[high, low]] * 3
        assert torch.isfinite(vae.loss(TOKENS, 1.0, torch.ones(3, 2, dtype=torch.double)))

    def test_gradient_reaches_all_weights(self) -> None:
        for architecture in ("mlp", "conv"):
            vae = make(architecture=architecture)
            vae.loss(TOKENS, 1.0, torch.ones(3, 2, dtype=torch.double)).backward()
            assert all(p.grad is not None and bool(p.grad.any()) for p in vae.parameters())


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_classes": 0}, "`num_classes` must be an integer of at least 1, received 0"),
            ({"length": 0}, "`length` .* received 0"),
            ({"latent_dim": 0}, "`latent_dim` .* received 0"),
            ({"latent_dim": 1.5}, r"`latent_dim` .* received 1\.5"),
            ({"hidden_sizes": (4, 0)}, r"`hidden_sizes\[1\]` .* received 0"),
            ({"architecture": "rnn"}, r"`architecture` must be one of \['mlp', 'conv'\], .*'rnn'"),
            (
                {"architecture": "conv", "length": 4},
                "`architecture='conv'` needs at least 5 positions, received 4; use 'mlp'",
            ),
        ],
    )
    def test_options(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make(**options)

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from botorch_roma import OfflineTask
from botorch_roma.baselines import vae as module
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.baselines.vae import (
    LOG_STD_BOUNDS,
    DesignVAE,
    TokenVAE,
    VAEOptions,
    VectorVAE,
    fit_vae,
    make_vae,
)
from botorch_roma.latent.vae import LOG_VAR_BOUNDS

VAE = VAEOptions(latent_dim=3, hidden_sizes=(16,), epochs=3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(n: int, d: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=generator(seed), dtype=torch.double)


def parameters(vae: DesignVAE) -> Tensor:
    return torch.cat([p.detach().flatten() for p in vae.parameters()])


@pytest.fixture
def vector_vae() -> VectorVAE:
    """Its columns have different standard deviations, two of them beyond the bounds."""
    vae = VectorVAE(4, VAE, seed=0).double()
    with torch.no_grad():
        vae.log_std.copy_(torch.tensor([-1.0, -2.0, -9.0, 2.0]))
    return vae


@pytest.fixture
def token_vae() -> TokenVAE:
    return TokenVAE(3, 5, VAE, seed=0).double()


TOKENS = torch.tensor([[0, 1, 2, 0, 1], [2, 2, 2, 1, 1], [0, 0, 0, 0, 0]])
STD = torch.tensor([-1.0, -2.0, *LOG_STD_BOUNDS], dtype=torch.double).exp()


def test_likelihood_of_vectors(vector_vae: VectorVAE) -> None:
    points, z = noise(6, 4), noise(6, seed=1)
    expected = Normal(vector_vae.decoder(z), STD).log_prob(points).sum(dim=-1)
    torch.testing.assert_close(vector_vae.log_likelihood(points, z), expected)


def test_likelihood_of_tokens(token_vae: TokenVAE) -> None:
    z = noise(3)
    expected = Categorical(logits=token_vae.vae.decode(z)).log_prob(TOKENS).sum(dim=-1)
    torch.testing.assert_close(token_vae.log_likelihood(TOKENS, z), expected)


@pytest.mark.parametrize("kind", ["vector", "token"])
def test_evidence_lower_bound(vector_vae: VectorVAE, token_vae: TokenVAE, kind: str) -> None:
    vae: DesignVAE = vector_vae if kind == "vector" else token_vae
    points = noise(3, 4) if kind == "vector" else TOKENS
    mean, log_var = vae.encode(points)
    posterior = Normal(mean, (0.5 * log_var).exp())
    kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=-1)
    assert bool((kl > 1e-3).all())
    eps = noise(3, seed=2)
    expected = vae.log_likelihood(points, mean + posterior.stddev * eps) - kl
    torch.testing.assert_close(vae.elbo(points, eps), expected)


def test_encoder(vector_vae: VectorVAE, token_vae: TokenVAE) -> None:
    """Halves of one output; the log-variance stays within bounds."""
    points = noise(5, 4)
    mean, log_var = vector_vae.encode(points)
    torch.testing.assert_close(torch.cat([mean, log_var], dim=1), vector_vae.encoder(points))
    with torch.no_grad():
        vector_vae.encoder[-1].bias[3:] = torch.tensor([1e6, -1e6, 0.0])
    low, high = LOG_VAR_BOUNDS
    assert vector_vae.encode(points)[1][:, :2].tolist() == [[high, low]] * 5
    torch.testing.assert_close(token_vae.encode(TOKENS), token_vae.vae.encode(TOKENS))


def test_widths_of_the_layers() -> None:
    options = VAEOptions(latent_dim=3, hidden_sizes=(7, 5))
    vae = VectorVAE(4, options, seed=0)
    shapes = [
        [tuple(p.shape) for p in part.parameters() if p.dim() == 2]
        for part in (vae.encoder, vae.decoder)
    ]
    assert shapes == [[(7, 4), (5, 7), (6, 5)], [(5, 3), (7, 5), (4, 7)]]
    tokens = TokenVAE(3, 5, options, seed=0).vae
    assert [m.in_features for m in tokens.decoder if isinstance(m, torch.nn.Linear)] == [3, 5, 7]


@torch.no_grad()
def test_samples_of_vectors(vector_vae: VectorVAE) -> None:
    z = noise(2).repeat_interleave(20_000, dim=0)
    first, second = vector_vae.sample(z, generator()).chunk(2)
    for sample, mean in ((first, vector_vae.decoder(z[:1])), (second, vector_vae.decoder(z[-1:]))):
        torch.testing.assert_close(sample.mean(dim=0), mean[0], atol=0.03, rtol=0.0)
        torch.testing.assert_close(sample.std(dim=0), STD, atol=0.0, rtol=0.03)
    assert abs(torch.corrcoef(first.T)[0, 1].item()) < 0.03


@torch.no_grad()
def test_samples_of_tokens(token_vae: TokenVAE) -> None:
    token_vae.vae.decoder[-1].weight.mul_(8.0)  # distributions that differ
    z = 3.0 * noise(2)
    share = token_vae.vae.decode(z).softmax(dim=-1)
    assert (share[0] - share[1]).abs().max() > 0.2
    sample = token_vae.sample(z.repeat_interleave(20_000, dim=0), generator())
    for tokens, expected in zip(sample.chunk(2), share, strict=True):
        found = torch.stack([(tokens == k).double().mean(dim=0) for k in range(3)], dim=-1)
        torch.testing.assert_close(found, expected, atol=0.015, rtol=0.0)


def test_samples_come_from_the_generator(vector_vae: VectorVAE, token_vae: TokenVAE) -> None:
    state = torch.get_rng_state()
    z = noise(50)
    for vae in (vector_vae, token_vae):
        first, again, other = (vae.sample(z, generator(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_made_for_a_space(task: OfflineTask, dtype: torch.dtype) -> None:
    space = DesignSpace(task.to(dtype=dtype))
    state = torch.get_rng_state()
    (vae, points), (again, _), (other, _) = (make_vae(space, VAE, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(parameters(vae), parameters(again))
    assert not torch.equal(parameters(vae), parameters(other))
    assert parameters(vae).dtype == dtype
    expected = space.Z if task.vocabulary is None else task.X.long()
    assert torch.equal(points, expected)
    assert isinstance(vae, VectorVAE if task.vocabulary is None else TokenVAE)
    sample = vae.sample(noise(400).to(dtype), generator())
    assert sample.shape == (400, points.shape[1])
    assert sample.dtype == points.dtype
    if task.vocabulary is not None:  # padding is one of the tokens
        assert set(sample.unique().tolist()) == set(range(task.vocabulary.num_classes))


def test_fit_raises_the_bound(task: OfflineTask) -> None:
    vae, points = make_vae(DesignSpace(task), VAE, 0)
    eps = noise(len(points), seed=3)
    before = vae.elbo(points, eps).mean().item()
    options = VAEOptions(lr=1e-2)
    fit_vae(vae, points, options, epochs=30, generator=generator())
    assert vae.elbo(points, eps).mean().item() > before + 0.3


def test_fit_moves_towards_the_weighted_points() -> None:
    """Two clusters, of which one has the weight."""
    points = torch.cat([noise(40, 4) * 0.1 - 1.0, noise(40, 4, seed=1) * 0.1 + 1.0])
    means = []
    for weights in ([2.0, 0.0], [0.0, 2.0]):
        vae = VectorVAE(4, VAE, seed=0).double()
        weight = torch.tensor(weights).double().repeat_interleave(40)
        fit_vae(vae, points, VAEOptions(lr=1e-2), epochs=60, generator=generator(), weights=weight)
        means.append(vae.sample(noise(500), generator()).mean().item())
    assert means[0] < -0.8
    assert means[1] > 0.8


def test_points_of_weight_zero_have_no_influence() -> None:
    weights = torch.ones(60, dtype=torch.double)
    weights[::2] = 0.0

    def fit(change: float, weights: Tensor | None) -> Tensor:
        vae, points = VectorVAE(4, VAE, seed=0).double(), noise(60, 4)
        points[::2] += change
        fit_vae(vae, points, VAE, epochs=2, generator=generator(), weights=weights)
        return parameters(vae)

    assert torch.equal(fit(0.0, weights), fit(3.0, weights))
    assert not torch.equal(fit(0.0, None), fit(3.0, None))


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_minibatches(
    vector_vae: VectorVAE, monkeypatch: pytest.MonkeyPatch, weighted: bool
) -> None:
    """Each pass takes all points, once, and its order and noise are the generator's."""
    points, losses, weights = noise(50, 4), [], torch.linspace(0.0, 3.0, 50).double()

    def watched(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        losses.append(loss.item())
        assert optimizer.param_groups[0]["lr"] == 0.01
        assert len(optimizer.param_groups[0]["params"]) == len([*vector_vae.parameters()])

    monkeypatch.setattr(module, "take_step", watched)
    options = VAEOptions(batch_size=20, lr=0.01)
    given = weights if weighted else None
    fit_vae(vector_vae, points, options, epochs=2, generator=generator(), weights=given)
    draw, expected = generator(), []
    for _ in range(2):
        for rows in torch.randperm(50, generator=draw).split(20):
            eps = torch.randn(len(rows), 3, generator=draw, dtype=torch.double)
            bound = vector_vae.elbo(points[rows], eps)
            expected.append(-(bound * (weights[rows] if weighted else 1.0)).mean().item())
    assert len(losses) == 6
    assert losses == pytest.approx(expected)


def test_passes() -> None:
    options = VAEOptions(epochs=9, batch_size=30)
    assert options.num_epochs(100) == 9
    assert VAEOptions(epochs=9, batch_size=30, max_batches=11).num_epochs(100) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latent_dim", 0),
        ("epochs", 0),
        ("batch_size", 1.5),
        ("hidden_sizes", (8, 0)),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("max_batches", 0),
    ],
)
def test_bad_options(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}(\[1\])?` must be "):
        VAEOptions(**{name: value})

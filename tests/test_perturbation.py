from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from botorch_roma.network import ProxyNetwork, StackedWeights
from botorch_roma.perturbation import (
    relative_distances,
    stacked_norm,
    stacked_norms,
    step_coefficients,
    step_lengths,
)


def make_weights(num_networks: int = 2, seed: int = 0) -> StackedWeights:
    """Random weights, biases and log-std heads included."""
    generator = torch.Generator().manual_seed(seed)
    weights = ProxyNetwork(3, (4, 2), num_networks=num_networks).weights
    return weights.map(lambda t: torch.randn(t.shape, generator=generator, dtype=torch.float64))


def fresh_weights() -> StackedWeights:
    """As after the start of a training: all biases and the log-std head are zero."""
    return ProxyNetwork(3, (4, 2), num_networks=2).double().weights.map(torch.Tensor.detach)


def test_norms_are_slice_by_slice() -> None:
    weights = make_weights()
    norms = stacked_norms(weights.tensors())
    assert norms.shape == (8, 2)
    for row, tensor in zip(norms, weights.tensors(), strict=True):
        assert torch.equal(row, stacked_norm(tensor))
        torch.testing.assert_close(row, torch.stack([t.square().sum().sqrt() for t in tensor]))


class TestStepLengths:
    def test_steps_use_up_the_radius(self) -> None:
        weights = make_weights()
        lengths = step_lengths(weights, radius=0.3, num_steps=6)
        torch.testing.assert_close(6 * lengths, 0.3 * stacked_norms(weights.tensors()))

    def test_zero_tensors_do_not_move(self) -> None:
        lengths = step_lengths(fresh_weights(), radius=0.3, num_steps=6)
        assert (lengths[[0, 2, 4]] > 0).all()
        assert (lengths[[1, 3, 5, 6, 7]] == 0).all()

    def test_no_steps(self) -> None:
        assert torch.isfinite(step_lengths(make_weights(), radius=0.3, num_steps=0)).all()


class TestStepCoefficients:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("length", [0.0, 1e-3, 10.0, 1e6])
    def test_a_step_has_its_length(self, length: float, dtype: torch.dtype) -> None:
        norms = torch.tensor([1e-10, 1e-3, 1.0, 1e10], dtype=dtype)
        lengths = torch.full_like(norms, length)
        torch.testing.assert_close(step_coefficients(lengths, norms) * norms, lengths)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("length", [0.0, 1e-3, 10.0, 1e6])
    def test_vanishing_gradients_do_not_move(self, length: float, dtype: torch.dtype) -> None:
        tiny = torch.finfo(dtype).tiny
        norms = torch.tensor([0.0, tiny / 8, tiny, 2 * tiny, tiny**0.5], dtype=dtype)
        coefficients = step_coefficients(torch.full_like(norms, length), norms)
        assert torch.equal(coefficients, torch.zeros_like(norms))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_steps_along_small_gradients_are_not_too_long(self, dtype: torch.dtype) -> None:
        # squares of single entries underflow here; the norm must not be believed then
        pattern = torch.linspace(0.1, 1.0, 500, dtype=dtype)
        exponent = {torch.float32: -28, torch.float64: -170}[dtype]
        for k in range(20):
            gradient = (pattern * 10.0 ** (exponent + k)).unsqueeze(0)
            length = torch.ones(1, dtype=dtype)
            step = step_coefficients(length, stacked_norm(gradient)) * gradient.squeeze(0)
            assert stacked_norm(step.unsqueeze(0)).item() <= 1.0 + 1e-5

    def test_not_a_number_is_not_hidden(self) -> None:
        gradient = torch.tensor([[1.0, float("nan")]])
        coefficient = step_coefficients(torch.ones(1), stacked_norm(gradient))
        assert (coefficient * gradient).isnan().any()


class TestRelativeDistances:
    def test_values(self) -> None:
        center = make_weights()
        moved = center.map(lambda t: t * torch.tensor([1.1, 0.7]).view(-1, *[1] * (t.dim() - 1)))
        expected = torch.tensor([0.1, 0.3], dtype=torch.float64).expand(8, 2)
        torch.testing.assert_close(relative_distances(moved, center), expected, rtol=1e-6, atol=0)

    def test_one_centre_for_a_stack(self) -> None:
        center = make_weights(num_networks=1)
        moved = center.map(lambda t: torch.cat([t, 1.5 * t, 2.0 * t]))
        expected = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).expand(8, 3)
        torch.testing.assert_close(relative_distances(moved, center), expected)

    def test_zero_tensors(self) -> None:
        center = fresh_weights()
        assert torch.equal(relative_distances(center, center), torch.zeros(8, 2).double())
        moved = center._replace(mean=center.mean._replace(bias=center.mean.bias + 1.0))
        distances = relative_distances(moved, center)
        assert torch.isinf(distances[5]).all()
        assert not distances[[0, 1, 2, 3, 4, 6, 7]].any()


@given(
    radius=st.just(0.0) | st.floats(1e-8, 2.0),  # below, the weights themselves are rounded
    num_steps=st.integers(1, 12),
    straight=st.booleans(),
    seed=st.integers(0, 1_000),
)
def test_steps_of_that_length_stay_in_the_ball(
    radius: float, num_steps: int, straight: bool, seed: int
) -> None:
    center = make_weights(seed=seed)
    lengths, moved = step_lengths(center, radius, num_steps), center
    for k in range(num_steps):
        gradient = make_weights(seed=seed + 1 + (0 if straight else k))
        coefficients = step_coefficients(lengths, stacked_norms(gradient.tensors()))
        rows = zip(moved.tensors(), gradient.tensors(), coefficients, strict=True)
        moved = StackedWeights.from_tensors(
            [t + g * c.view(-1, *[1] * (g.dim() - 1)) for t, g, c in rows]
        )
        assert relative_distances(moved, center).max() <= radius * (1 + 1e-6)
    if straight:
        torch.testing.assert_close(
            relative_distances(moved, center), torch.full((8, 2), radius, dtype=torch.float64)
        )

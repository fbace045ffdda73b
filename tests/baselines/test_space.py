from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from botorch_roma import OfflineTask
from botorch_roma.baselines.space import DesignSpace
from botorch_roma.latent import Vocabulary
from botorch_roma.latent.encoding import LogitsEncoding, OneHotEncoding

ENCODINGS = {"logits": LogitsEncoding, "one_hot": OneHotEncoding}


def zscore(X: Tensor) -> Tensor:
    V = X.numpy()
    constant = (V[0] == V).all(axis=0)
    Z = (V - V.mean(axis=0)) / np.where(constant, 1.0, V.std(axis=0))
    return torch.from_numpy(np.where(constant, 0.0, Z))


def test_vectors_are_z_scored(vector_task: OfflineTask) -> None:
    space = DesignSpace(vector_task)
    torch.testing.assert_close(space.Z, zscore(vector_task.X))
    torch.testing.assert_close(space.T, zscore(vector_task.Y))
    assert space.dim == 3
    assert space.varies.tolist() == [True] * 3


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tokens_are_encoded_and_z_scored(token_task: OfflineTask, encoding: str) -> None:
    space = DesignSpace(token_task, encoding)
    assert token_task.vocabulary is not None
    own = ENCODINGS[encoding](token_task.vocabulary, 5)
    V = own.encode(token_task.X)
    constant = V.std(dim=0) == 0
    assert torch.equal(space.varies, ~constant)
    assert constant.nonzero().flatten().tolist() == list(own.columns_of(1))
    assert space.dim == V.shape[1] - len(own.columns_of(1))
    torch.testing.assert_close(space.Z, zscore(V)[:, ~constant])


def test_encode_and_decode_are_inverse(task: OfflineTask) -> None:
    for encoding in ENCODINGS:
        space = DesignSpace(task, encoding)
        X = space.decode(space.Z)
        assert X.dtype == task.X.dtype
        torch.testing.assert_close(X, task.X)
        if task.vocabulary is not None:
            assert torch.equal(X, task.X)
        torch.testing.assert_close(space.encode(task.X[:9]), space.Z[:9])


def test_decoding_leaves_its_argument_alone(task: OfflineTask) -> None:
    space = DesignSpace(task)
    Z = 1.0 + 5.0 * space.Z
    before = Z.clone()
    space.decode(Z)
    assert torch.equal(Z, before)


def test_columns_that_do_not_vary(grid_task: OfflineTask) -> None:
    """No method sees them, and they come back as they were."""
    space = DesignSpace(grid_task)
    assert space.varies.tolist() == [True, False, True]
    assert space.Z.shape == (80, 2)
    assert space.bounds.shape == (2, 2)
    assert space.decode(space.Z + 1.0)[:, 1].tolist() == [grid_task.X[0, 1].item()] * 80
    elsewhere = grid_task.X.clone()
    elsewhere[:, 1] = 0.8
    assert torch.equal(space.encode(elsewhere), space.Z)


def test_a_constant_column_is_exact(vector_task: OfflineTask) -> None:
    """Not the mean of 99 times 0.1, which rounding makes another number."""
    X = vector_task.X.float()[:99] % 1.0
    X[:, 0] = 0.1
    assert X[:, 0].sum() / 99 != X[0, 0]
    bounds = torch.tensor([[0.0] * 3, [1.0] * 3])
    task = OfflineTask(
        name="", X=X, Y=vector_task.Y.float()[:99], bounds=bounds, oracle=lambda X: X[:, 0]
    )
    space = DesignSpace(task)
    assert space.varies.tolist() == [False, True, True]
    assert bool((space.decode(space.Z)[:, 0] == X[0, 0]).all())


def test_designs_stay_within_the_bounds(vector_task: OfflineTask) -> None:
    space = DesignSpace(vector_task)
    for sign, row in ((-1.0, 0), (1.0, 1)):
        X = space.decode(torch.full_like(space.Z[:2], 50.0 * sign))
        assert torch.equal(X, vector_task.bounds[[row, row]])
    V = vector_task.X.numpy()
    expected = (vector_task.bounds.numpy() - V.mean(axis=0)) / V.std(axis=0)
    torch.testing.assert_close(space.bounds, torch.from_numpy(expected))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bounds_of_tokens_are_those_of_their_encoding(
    padded_task: OfflineTask, encoding: str
) -> None:
    space = DesignSpace(padded_task, encoding)
    assert padded_task.vocabulary is not None
    own = ENCODINGS[encoding](padded_task.vocabulary, 5)
    V = own.encode(padded_task.X).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (own.bounds.double().numpy() - V.mean(axis=0)) / V.std(axis=0)
    torch.testing.assert_close(space.bounds, torch.from_numpy(expected)[:, space.varies])


def test_designs_are_post_processed(grid_task: OfflineTask) -> None:
    space = DesignSpace(grid_task)
    X = space.decode(space.Z + 0.25)
    tenths = 10.0 * X
    torch.testing.assert_close(tenths, tenths.round())
    assert not torch.allclose(X, grid_task.X)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_vector_is_a_valid_sequence(padded_task: OfflineTask, encoding: str) -> None:
    space = DesignSpace(padded_task, encoding)
    noise = torch.randn(500, space.dim, generator=torch.Generator().manual_seed(0))
    X = space.decode(3.0 * noise.double())
    assert padded_task.vocabulary is not None
    assert set(X.unique().tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(padded_task.vocabulary.canonical(X), X)
    assert set(padded_task.vocabulary.lengths(X).tolist()) == {1, 2, 3, 4, 5}


def test_points(vector_task: OfflineTask, padded_task: OfflineTask) -> None:
    """Vectors stay what they are; what follows the first padding is no part of a sequence."""
    space = DesignSpace(vector_task)
    assert space.encode_points(space.Z) is space.Z
    space = DesignSpace(padded_task)
    points = torch.tensor([[0, 1, 2, 1, 0], [1, 1, 1, 1, 1]])
    canonical = torch.tensor([[0, 1, 2, 2, 2], [1, 1, 1, 1, 1]]).double()
    assert torch.equal(space.encode_points(points), space.encode(canonical))


def test_start(task: OfflineTask) -> None:
    space = DesignSpace(task)
    assert torch.equal(space.start(7), space.encode(task.start_designs(7)[0]))


def test_equal_outcomes(vector_task: OfflineTask) -> None:
    task = vector_task.to()
    task.Y = torch.full_like(task.Y, 2.5)
    with pytest.raises(
        ValueError, match=r"`task` must hold .* that differ, .* 100 rows of 2\.5 in 'vectors'"
    ):
        DesignSpace(task)


def test_the_oracle_is_out_of_reach(task: OfflineTask) -> None:
    """Whatever a method was handed."""
    space = DesignSpace(task)
    with pytest.raises(RuntimeError, match="this copy of the task has none"):
        space.task.evaluate(task.X[:2])
    assert task.num_oracle_calls == 0


def test_equal_designs(vector_task: OfflineTask) -> None:
    task = vector_task.to()
    task.X = task.X[:1].expand_as(task.X).clone()
    with pytest.raises(ValueError, match=r"`task` must hold designs that differ; in 'vectors'"):
        DesignSpace(task)


def test_unknown_encoding(token_task: OfflineTask) -> None:
    with pytest.raises(ValueError, match=r"`encoding` must be one of .* received 'ordinal'"):
        DesignSpace(token_task, "ordinal")


def test_single_precision(task: OfflineTask) -> None:
    space = DesignSpace(task.to(dtype=torch.float32))
    double = DesignSpace(task)
    for name in ("Z", "T", "bounds"):
        value = getattr(space, name)
        assert value.dtype == torch.float32
        torch.testing.assert_close(
            value, getattr(double, name).float(), rtol=1e-4, atol=1e-4, msg=name
        )
    assert space.decode(space.Z).dtype == torch.float32


def test_a_column_that_varies_too_little(vector_task: OfflineTask) -> None:
    """Its standard deviation is 0 in floating point numbers, and no outcome is divided by that."""
    X = vector_task.X.clone()
    X[:, 0] = 0.0
    X[3, 0] = 5e-324
    bounds = vector_task.bounds
    task = OfflineTask(name="", X=X, Y=vector_task.Y, bounds=bounds, oracle=lambda X: X[:, 0])
    assert task.fixed_features == {}
    space = DesignSpace(task)
    assert space.varies.tolist() == [False, True, True]
    assert bool(space.Z.isfinite().all())


def test_vocabulary_of_a_sequence_that_is_never_long() -> None:
    """Positions that hold padding alone stay padding."""
    vocabulary = Vocabulary("ab", padded=True)
    X = torch.tensor([[0.0, 1.0, 2.0], [1.0, 2.0, 2.0], [1.0, 1.0, 2.0]])
    task = OfflineTask(
        name="", X=X, Y=torch.arange(3.0)[:, None], vocabulary=vocabulary, oracle=lambda X: X[:, 0]
    )
    space = DesignSpace(task)
    assert bool((space.decode(torch.randn(50, space.dim))[:, 2] == 2.0).all())

from __future__ import annotations

import pickle
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from botorch_roma.tasks import activity_forest
from botorch_roma.tasks.activity_forest import (
    ActivityScore,
    Forest,
    fit_forest,
    forest_scores,
    forest_votes,
)

NUM_TREES = 30


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity_forest, "NUM_TREES", NUM_TREES)


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    bits = (rng.random((600, 16)) < 0.3).astype(np.uint8)
    noise = rng.random(600) < 0.1
    return bits, ((bits[:, 3] & ~bits[:, 5] & 1) ^ noise).astype(np.int64)


@pytest.fixture
def forest(table: tuple[np.ndarray, np.ndarray]) -> Forest:
    return fit_forest(*table)


@pytest.fixture(scope="module")
def model(table: tuple[np.ndarray, np.ndarray]) -> RandomForestClassifier:
    """What the forest must be, by scikit-learn itself."""
    bits, labels = table
    return RandomForestClassifier(n_estimators=NUM_TREES, min_samples_leaf=10, random_state=0).fit(
        csr_matrix(bits, dtype=np.float32), labels
    )


def test_is_the_forest_of_scikit_learn(
    forest: Forest, table: tuple[np.ndarray, np.ndarray], model: RandomForestClassifier
) -> None:
    bits, _ = table
    votes = np.stack([tree.predict_proba(bits)[:, 1] for tree in model.estimators_], axis=1)
    assert np.array_equal(forest_votes(forest, bits), votes)
    new = np.full(len(bits), -1)
    expected = model.predict_proba(bits)[:, 1]
    np.testing.assert_allclose(forest_scores(forest, bits, new), expected, rtol=1e-12)


def test_rows_of_the_table_are_scored_out_of_bag(
    forest: Forest, table: tuple[np.ndarray, np.ndarray], model: RandomForestClassifier
) -> None:
    bits, labels = table
    scores = forest_scores(forest, bits, np.arange(len(bits)))
    votes = forest_votes(forest, bits)
    for row in range(0, len(bits), 50):
        trees = [t for t, rows in enumerate(model.estimators_samples_) if row not in rows]
        assert 2 < len(trees) < NUM_TREES
        assert scores[row] == pytest.approx(votes[row, trees].mean(), rel=1e-12)
    inside = forest_scores(forest, bits, np.full(len(bits), -1))
    assert roc_auc_score(labels, inside) > roc_auc_score(labels, scores) > 0.7


def test_where_every_tree_has_seen_a_row(
    forest: Forest, table: tuple[np.ndarray, np.ndarray]
) -> None:
    bits = table[0][:4]
    seen = forest._replace(in_bag=np.full_like(forest.in_bag, 255))
    everything = forest_scores(forest, bits, np.full(4, -1))
    assert np.array_equal(forest_scores(seen, bits, np.arange(4)), everything)


def test_scores_do_not_depend_on_the_batch(
    forest: Forest,
    table: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bits, rows = table[0], np.arange(600)
    together = forest_scores(forest, bits, rows)
    monkeypatch.setattr(activity_forest, "_CHUNK_ROWS", 7)
    assert np.array_equal(forest_scores(forest, bits, rows), together)
    for row in (0, 123, 599):
        one = forest_scores(forest, bits[[row]], np.array([row]))
        assert np.array_equal(one, together[[row]])
    assert forest_scores(forest, bits[:0], rows[:0]).shape == (0,)


def test_seed_and_jobs(forest: Forest, table: tuple[np.ndarray, np.ndarray]) -> None:
    again = fit_forest(*table, n_jobs=2)
    other = fit_forest(*table, seed=1)
    for name, array in forest._asdict().items():
        assert np.array_equal(getattr(again, name), array)
    assert not np.array_equal(other.in_bag, forest.in_bag)


def test_arrays_are_small_and_hold_no_objects(forest: Forest) -> None:
    assert {array.dtype.kind for array in forest} <= set("iuf")
    assert forest.in_bag.shape == (600, 4)
    assert len(forest.roots) == NUM_TREES


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_only(table: tuple[np.ndarray, np.ndarray], label: int) -> None:
    with pytest.raises(ValueError, match=rf"`labels` must hold .*received only \[{label}\]"):
        fit_forest(table[0], np.full(600, label))


@pytest.mark.skipif(not find_spec("rdkit"), reason='needs RDKit: pip install "botorch-roma[chem]"')
def test_activity_score_knows_the_molecules_of_the_table() -> None:
    from botorch_roma.tasks.chemistry import fingerprints

    smiles = ["C" * i + end for i in range(1, 25) for end in ("O", "N")]
    bits = fingerprints(smiles)
    forest = fit_forest(bits, np.arange(48) % 2)
    score = ActivityScore(forest, smiles)
    table = forest_scores(forest, bits, np.arange(48))
    assert np.array_equal(score([*reversed(smiles)]), table[::-1])
    unseen = ActivityScore(forest, [])(smiles)
    assert np.array_equal(unseen, forest_scores(forest, bits, np.full(48, -1)))
    assert not np.array_equal(unseen, table)
    assert np.array_equal(pickle.loads(pickle.dumps(score))(smiles), table)

r"""
A random forest on fingerprints whose trees keep silent about what they were fitted on.

The score of a molecule is the mean over the trees that have not seen it: the out-of-bag trees for
one of the table, all of them for a new one. So the table holds the scores of the same function
that scores a new design, without the 0 or 1 that a tree recalls for its own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from botorch_roma.tasks.arrays import Array
from botorch_roma.tasks.chemistry import fingerprints

NUM_TREES = 200
FOREST_SEED = 0

#: Leaves of one molecule would give most of the table the same few scores near 0: of two forests
#: with other seeds, the second would not rank the visible molecules as the first does.
MIN_SAMPLES_LEAF = 10

_CHUNK_ROWS = 1_000


class Forest(NamedTuple):
    r"""Trees as arrays, one after another; a leaf is its own child.

    Attributes:
        roots: Node at which each of the ``T`` trees begins.
        bit: Fingerprint bit that each node asks about.
        absent: Next node where it is 0.
        present: Next node where it is 1.
        active: Fraction of active molecules at each node.
        in_bag: Trees that have seen each of the ``n`` training rows, ``n x ceil(T / 8)`` bytes
            of eight trees each.
    """

    roots: Array
    bit: Array
    absent: Array
    present: Array
    active: Array
    in_bag: Array


def fit_forest(bits: Array, labels: Array, *, seed: int = FOREST_SEED, n_jobs: int = 1) -> Forest:
    r"""Fit the forest: 200 seeded trees, leaves of at least 10 molecules.

    Args:
        bits: Fingerprints, ``n x d`` of 0 and 1.
        labels: Measured activity, ``n`` of 0 and 1.
        seed: Seed of rows and splits. Default: 0.
        n_jobs: Number of threads; does not change the result. Default: 1.

    Returns:
        The forest.

    Raises:
        ValueError: If only one of the two labels occurs.
    """
    if len(np.unique(labels)) != 2:
        raise ValueError(
            f"`labels` must hold active (1) and inactive (0) molecules, received only "
            f"{np.unique(labels).tolist()}; the table is damaged."
        )
    from scipy.sparse import csr_matrix
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        n_estimators=NUM_TREES,
        min_samples_leaf=MIN_SAMPLES_LEAF,
        random_state=seed,
        n_jobs=n_jobs,
    )
    model.fit(csr_matrix(bits, dtype=np.float32), labels)
    seen = np.zeros((len(bits), NUM_TREES), dtype=np.uint8)
    for tree, rows in enumerate(model.estimators_samples_):
        seen[rows, tree] = 1
    nodes = _nodes([tree.tree_ for tree in model.estimators_])
    return Forest(**nodes, in_bag=np.packbits(seen, axis=1))


def _nodes(trees: Sequence[Any]) -> dict[str, Array]:
    """The nodes of scikit-learn's trees, one tree after another."""
    roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])]).astype(np.int32)
    first = np.repeat(roots, [tree.node_count for tree in trees])
    bit, left, right = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("feature", "children_left", "children_right")
    )
    leaf, own = left < 0, np.arange(len(left))
    return {
        "roots": roots,
        "bit": np.where(leaf, 0, bit).astype(np.int16),
        "absent": np.where(leaf, own, first + left).astype(np.int32),
        "present": np.where(leaf, own, first + right).astype(np.int32),
        "active": np.concatenate([tree.value[:, 0, 1] for tree in trees]),
    }


def forest_votes(forest: Forest, bits: Array) -> Array:
    r"""What every tree says, the active fraction of a leaf, ``n x T``, of ``n x d`` bits."""
    rows = np.arange(len(bits))[:, None]
    node = np.broadcast_to(forest.roots, (len(bits), len(forest.roots)))
    while True:
        here = bits[rows, forest.bit[node]] != 0
        following = np.where(here, forest.present[node], forest.absent[node])
        if np.array_equal(following, node):
            return forest.active[node]
        node = following


def forest_scores(forest: Forest, bits: Array, rows: Array) -> Array:
    r"""Mean over the trees that have not seen a molecule.

    Args:
        forest: The forest.
        bits: Fingerprints, ``n x d`` of 0 and 1.
        rows: Training row of each molecule, ``n``; -1 for one that was not trained on.

    Returns:
        Scores in 0..1, ``n``. Where every tree has seen a molecule (with 200 trees: never), the
        mean over all.
    """
    scores = np.empty(len(bits))
    for start in range(0, len(bits), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        seen = np.unpackbits(forest.in_bag[rows[chunk]], axis=1, count=len(forest.roots))
        seen[(rows[chunk] < 0) | seen.all(axis=1)] = 0
        votes = forest_votes(forest, bits[chunk])
        scores[chunk] = (votes * (seen == 0)).sum(axis=1) / (seen == 0).sum(axis=1)
    return scores


class ActivityScore:
    r"""Predicted activity of canonical SMILES.

    Args:
        forest: The forest.
        smiles: Canonical SMILES of the molecules that it was trained on, in the order of its
            rows.
    """

    def __init__(self, forest: Forest, smiles: Sequence[str]) -> None:
        self._forest, self._smiles = forest, smiles

    @cached_property
    def _row(self) -> dict[str, int]:
        return {text: i for i, text in enumerate(self._smiles)}

    def __call__(self, smiles: Sequence[str]) -> Array:
        """Score of each of the ``n`` canonical SMILES, 0..1."""
        rows = np.array([self._row.get(text, -1) for text in smiles], dtype=np.int64)
        return forest_scores(self._forest, fingerprints(smiles), rows)
